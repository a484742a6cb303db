"""NVML, opened once for the process, with its errors in plain words.

This is the only module that imports ``pynvml`` (the package is ``nvidia-ml-py``). A field that a
device does not offer reads :data:`NOT_SUPPORTED`, never zero.
"""

from __future__ import annotations

import atexit
import re
import threading
from collections.abc import Callable
from typing import Any

from mlk8s.errors import GpuUnavailable

NOT_SUPPORTED = "not supported"
NO_PERMISSION = "no permission"

RECORDED = "or read a recorded GPU instead with MLK8S_GPU=recorded."
_lock = threading.Lock()
_open = False


class NoGpu(GpuUnavailable):
    """No NVIDIA GPU or no driver here: the one case in which ``auto`` reads a recording."""


def open_nvml() -> Any:
    """Initialize NVML once and return the ``pynvml`` module.

    Raises:
        NoGpu: no NVML library, no loaded driver, or no device.
        GpuUnavailable: a driver is there and broken: wrong version, no permission, lost device.
    """
    global _open
    import pynvml

    with _lock:
        if _open:
            return pynvml
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            raise _explain(pynvml, error) from error
        except AttributeError as error:
            # ctypes raises this when the library lacks a symbol: a stub, or not NVML at all.
            raise GpuUnavailable(
                f"The NVML library was loaded and is not usable: {error}.",
                "reinstall the driver's libraries (package libnvidia-compute-<branch>-server), "
                + RECORDED,
            ) from error
        if count == 0:
            pynvml.nvmlShutdown()
            raise NoGpu(
                "The NVIDIA driver is loaded and reports no device.",
                "look for the reason with `dmesg | grep -i nvrm`, " + RECORDED,
            )
        atexit.register(pynvml.nvmlShutdown)
        _open = True
    return pynvml


def _explain(pynvml: Any, error: Any) -> GpuUnavailable:
    """The library's error for an NVML return code."""
    missing = {
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
            "There is no NVML library (libnvidia-ml.so.1) on this machine.",
            "install the NVIDIA driver (chapter 1), ",
        ),
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (
            "The NVML library is installed and the kernel module `nvidia` is not loaded.",
            "run `sudo modprobe nvidia` and read `dmesg` if that fails, ",
        ),
    }
    broken = {
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
            "The NVML library and the loaded kernel module have different versions "
            "(Driver/library version mismatch).",
            "reboot, or reload the kernel module after stopping what uses the GPU, ",
        ),
        pynvml.NVML_ERROR_NO_PERMISSION: (
            "NVML was refused permission to talk to the driver.",
            "check the rights on /dev/nvidia* and the container's device list, ",
        ),
        pynvml.NVML_ERROR_GPU_IS_LOST: (
            "A GPU has fallen off the bus or is otherwise inaccessible.",
            "read `dmesg | grep Xid`, then reset or reboot the machine, ",
        ),
    }
    # pynvml says "not found" for every failure of the loader, a damaged library's included.
    loader = error.__context__
    if isinstance(loader, OSError) and not re.search(
        "no such file|not found|could not find", str(loader), re.IGNORECASE
    ):
        return GpuUnavailable(
            f"The NVML library cannot be loaded: {loader}.",
            "reinstall the driver's libraries (package libnvidia-compute-<branch>-server), "
            + RECORDED,
        )
    if error.value in missing:
        problem, step = missing[error.value]
        return NoGpu(problem, step + RECORDED)
    problem, step = broken.get(
        error.value, (f"NVML failed: {error}.", "run `nvidia-smi` and `dmesg | grep -i nvrm`, ")
    )
    return GpuUnavailable(problem, step + RECORDED)


def read(function: Callable[..., Any], *args: Any) -> Any:
    """Call an NVML function; what the device or the user's rights do not give becomes a word.

    Returns:
        The function's value, :data:`NOT_SUPPORTED` or :data:`NO_PERMISSION`.

    Raises:
        GpuUnavailable: NVML failed in any other way.
    """
    import pynvml

    try:
        value = function(*args)
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
        return NOT_SUPPORTED
    except pynvml.NVMLError_NoPermission:
        return NO_PERMISSION
    except pynvml.NVMLError as error:
        # Virtual machines answer some queries with "invalid argument" or "not found".
        if error.value in (pynvml.NVML_ERROR_INVALID_ARGUMENT, pynvml.NVML_ERROR_NOT_FOUND):
            return NOT_SUPPORTED
        raise _explain(pynvml, error) from error
    return value


def highest_cuda() -> str:
    """The highest CUDA version that the driver supports, ``13.0``, or the word in its place."""
    version = read(open_nvml().nvmlSystemGetCudaDriverVersion)
    return version if isinstance(version, str) else f"{version // 1000}.{version % 1000 // 10}"


def handle(index: int) -> Any:
    """The NVML handle of a device.

    Args:
        index: NVML's index, in PCI bus order; CUDA's own order may differ.

    Raises:
        GpuUnavailable: there is no such device, or it cannot be reached.
    """
    pynvml = open_nvml()
    count = pynvml.nvmlDeviceGetCount()
    if not 0 <= index < count:
        raise GpuUnavailable(
            f"There is no GPU {index}: NVML reports {count}.", f"use an index below {count}."
        )
    try:
        return pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        raise _explain(pynvml, error) from error


def cuda_handle(ordinal: int = 0) -> Any:
    """The NVML handle of a CUDA device, matched by UUID: the two count in different orders.

    Args:
        ordinal: CUDA's index, after ``CUDA_VISIBLE_DEVICES``.
    """
    import torch

    pynvml = open_nvml()
    uuid = torch.cuda.get_device_properties(ordinal).uuid
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except pynvml.NVMLError as error:
        raise _explain(pynvml, error) from error
