"""From the PCI slot up to PyTorch: each layer that a GPU needs, in the order in which they fail."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mlk8s.course.checks import ALL, Check, Machine, Status
from mlk8s.errors import GpuUnavailable
from mlk8s.gpu import compatibility, nvml
from mlk8s.gpu.probe import FAULTS, event_reasons

INSTALL = "sudo ubuntu-drivers install --gpgpu && sudo reboot"
_PCI_FILES = ("vendor", "class", "device")


def checks(machine: Machine) -> Iterator[Check]:
    """All checks of the GPU and its software, bottom layer first."""
    devices = _pci(machine)
    loaded = _loaded(machine)
    yield _device(machine, devices, loaded)
    yield _module(machine, devices, loaded)
    yield _nodes(machine, loaded)
    cuda = ""
    try:
        pynvml = nvml.open_nvml()
        code = pynvml.nvmlSystemGetCudaDriverVersion()
        cuda = f"{code // 1000}.{code % 1000 // 10}"
        yield Check(
            "driver",
            Status.OK,
            f"driver {pynvml.nvmlSystemGetDriverVersion()}, CUDA up to {cuda}",
            "NVML answers; the CUDA version is the highest the driver supports, not a toolkit.",
            chapters=ALL,
        )
        for index in range(pynvml.nvmlDeviceGetCount()):
            yield from _state(pynvml, index)
    except nvml.NoGpu as error:
        here = bool(devices) or loaded is not None or machine.gpu_setting == "live"
        status = machine.unusable_gpu if here else Status.ABSENT
        yield Check("driver", status, error.problem, _without(machine), error.next_step, ALL)
    except GpuUnavailable as error:
        recorded = machine.gpu_setting not in ("auto", "live")
        yield Check(
            "driver",
            Status.WARN if recorded else Status.FAIL,
            error.problem,
            "A broken driver is not read as no GPU: every chapter stops until it is repaired or "
            "MLK8S_GPU names a recording.",
            error.next_step,
            ALL,
        )
    yield _toolkit(machine)
    yield _pytorch(cuda)
    yield _cupy(cuda)


def _without(machine: Machine) -> str:
    """What it means for the course that no GPU can be used."""
    if machine.gpu_setting == "live":
        return "MLK8S_GPU=live insists on a GPU: every cell that measures one stops."
    return "Every chapter runs: GPU numbers come from a recording and say so."


def _pci(machine: Machine) -> list[str]:
    """``vendor:device`` of each NVIDIA GPU on the bus; audio functions and switches are none."""
    found = []
    bus = machine.path("/sys/bus/pci/devices")
    for slot in sorted(bus.iterdir()) if bus.is_dir() else []:
        files = {n: machine.read(f"/sys/bus/pci/devices/{slot.name}/{n}") or "" for n in _PCI_FILES}
        # Class 0x0300 is a VGA controller, 0x0302 a 3D controller without display.
        if files["vendor"] == "0x10de" and files["class"][:6] in ("0x0300", "0x0302"):
            found.append(f"10de:{files['device'].removeprefix('0x')}")
    return found


def _loaded(machine: Machine) -> str | None:
    """Version of the loaded kernel module, empty if unreadable, ``None`` if none is loaded."""
    text = machine.read("/proc/driver/nvidia/version")
    if text:
        found = re.search(r"Module\b.*?\s(\d+\.\d+(?:\.\d+)?)\s", text)
        return (found[1] if found else "") + (", open" if "Open Kernel" in text else "")
    return "" if machine.path("/sys/module/nvidia").is_dir() else None


def _device(machine: Machine, devices: list[str], loaded: str | None) -> Check:
    name = "NVIDIA device"
    if devices:
        kinds = ", ".join(f"{devices.count(d)} × {d}" for d in dict.fromkeys(devices))
        return Check(name, Status.OK, f"{kinds} on the PCI bus", "There is a GPU.", chapters=ALL)
    if loaded is not None:
        means = "The bus is hidden, as in some containers; the driver below decides."
        return Check(name, Status.OK, "none on the PCI bus, driver loaded", means, chapters=ALL)
    status = Status.FAIL if machine.gpu_setting == "live" else Status.ABSENT
    fix = "unset MLK8S_GPU, or use a GPU machine." if status is Status.FAIL else ""
    return Check(name, status, "none on the PCI bus", _without(machine), fix, ALL)


def _module(machine: Machine, devices: list[str], loaded: str | None) -> Check:
    name = "kernel module"
    if loaded is not None:
        found = f"nvidia {loaded}".strip()
        return Check(name, Status.OK, found, "The kernel drives the GPU.", chapters=ALL)
    if machine.path("/sys/module/nouveau").is_dir() and devices:
        return Check(
            name,
            machine.unusable_gpu,
            "nouveau holds the GPU",
            "nouveau has no CUDA, and NVIDIA's module cannot load beside it. " + _without(machine),
            "echo 'blacklist nouveau' | sudo tee /etc/modprobe.d/blacklist-nouveau.conf && "
            f"sudo update-initramfs -u && {INSTALL}",
            ALL,
        )
    if devices:
        means = "There is a GPU and nothing drives it. " + _without(machine)
        return Check(name, machine.unusable_gpu, "nvidia is not loaded", means, INSTALL, ALL)
    return Check(name, Status.ABSENT, "nvidia is not loaded", "Not needed without a GPU.")


def _nodes(machine: Machine, loaded: str | None) -> Check:
    name = "device nodes"
    if loaded is None:
        return Check(name, Status.ABSENT, "no kernel module", "Not needed without a driver.")
    dev = machine.path("/dev")
    # A container may be given /dev/nvidia3 alone, so any number stands for the GPU.
    gpus = sorted(p.name for p in dev.glob("nvidia[0-9]*"))
    missing = [] if gpus else ["nvidia0"]
    missing += [n for n in ("nvidiactl", "nvidia-uvm") if not (dev / n).exists()]
    if missing:
        return Check(
            name,
            machine.unusable_gpu,
            "missing: " + ", ".join(f"/dev/{n}" for n in missing),
            "Without nvidia0 and nvidiactl nothing sees the GPU; without nvidia-uvm nvidia-smi "
            "works and CUDA does not.",
            "sudo nvidia-modprobe -u -c 0 (in a container: pass the devices in)",
            ALL,
        )
    shut = [
        n for n in (*gpus, "nvidiactl", "nvidia-uvm") if not os.access(dev / n, os.R_OK | os.W_OK)
    ]
    if shut:
        return Check(
            name,
            machine.unusable_gpu,
            "no read and write access: " + ", ".join(f"/dev/{n}" for n in shut),
            "This user cannot open the GPU.",
            "join the group that owns the files (`ls -l /dev/nvidia*`), then log in again.",
            ALL,
        )
    return Check(name, Status.OK, ", ".join(gpus), "This user can open the GPU.", chapters=ALL)


def _state(n: Any, index: int) -> Iterator[Check]:
    """One finding for each trouble of a device, or one that says there is none."""
    handle = nvml.handle(index)
    name = f"GPU {index}"

    def number(function: Any, *args: Any) -> int:
        """A reading that the device may lack; lacking it is no trouble."""
        value = nvml.read(function, handle, *args)
        return 0 if isinstance(value, str) else int(value)

    found = []
    errors = number(
        n.nvmlDeviceGetTotalEccErrors, n.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, n.NVML_VOLATILE_ECC
    )
    reset = f"stop what uses it, then `sudo nvidia-smi --gpu-reset -i {index}` or reboot."
    if errors:
        means = "Results since the last reset may be wrong. No measurement of it counts."
        text = f"{errors} uncorrectable memory errors since the driver loaded"
        found.append(Check(f"{name} memory", Status.FAIL, text, means, reset, ALL))
    rows = nvml.read(n.nvmlDeviceGetRemappedRows, handle)
    if not isinstance(rows, str) and rows[3]:
        means = "The spare rows are used up: the board is due for replacement."
        fix = "cordon the node, run the vendor's diagnostics, return the board."
        found.append(Check(f"{name} memory", Status.FAIL, "row remapping failed", means, fix, ALL))
    elif not isinstance(rows, str) and rows[2]:
        means = "A bad memory row is replaced at the next reset; it is in use until then."
        text = "row remapping pending"
        found.append(Check(f"{name} memory", Status.WARN, text, means, reset, ALL))
    bits = number(n.nvmlDeviceGetCurrentClocksEventReasons)
    faults = event_reasons(bits & FAULTS) if bits & FAULTS else []
    if faults:
        means = "The hardware holds the clock down: benchmarks read low."
        fix = "check cooling and power supply; watch it with `nvidia-smi -q -d PERFORMANCE`."
        text = ", ".join(faults)
        found.append(Check(f"{name} clocks", Status.WARN, text, means, fix, (1, 2)))
    if nvml.read(n.nvmlDeviceGetPersistenceMode, handle) == 0:
        means = "The driver unloads when idle: each first call waits, and settings are lost."
        fix = f"sudo nvidia-smi -pm 1 -i {index}"
        text = "persistence mode off"
        found.append(Check(f"{name} persistence", Status.WARN, text, means, fix, (1, 2, 5)))
    mig = nvml.read(n.nvmlDeviceGetMigMode, handle)
    if not isinstance(mig, str) and mig[0] != mig[1]:
        text = f"MIG {'on' if mig[0] else 'off'}, {'on' if mig[1] else 'off'} after a reset"
        means = "Chapter 6 needs the mode that is pending."
        found.append(Check(f"{name} MIG", Status.WARN, text, means, reset, (6,)))
    elif not isinstance(mig, str) and mig[0]:
        means = "A process sees one instance: chapters 1 and 2 measure a slice. Chapter 6 wants it."
        fix = f"sudo nvidia-smi -mig 0 -i {index} (before chapters 1 and 2)"
        found.append(Check(f"{name} MIG", Status.WARN, "MIG on", means, fix, (1, 2, 6)))
    healthy = "No memory errors, no pending repair, no clock fault, persistence on, MIG off."
    title = str(n.nvmlDeviceGetName(handle))
    yield from found or [Check(name, Status.OK, title, healthy, chapters=ALL)]


def _toolkit(machine: Machine) -> Check:
    name = "CUDA toolkit"
    usual = machine.path("/usr/local/cuda/bin/nvcc")
    nvcc = machine.which("nvcc") or (str(usual) if usual.exists() else None)
    if nvcc is None:
        means = "Optional: PyTorch, CuPy and Numba bring what they need. Chapter 3 explains it."
        return Check(name, Status.ABSENT, "no nvcc", means, chapters=(3,))
    try:
        out = subprocess.run(
            [nvcc, "--version"], check=False, capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        means = "Chapter 3 compiles with it."
        fix = "reinstall the toolkit, or take it off PATH."
        return Check(name, Status.WARN, f"nvcc does not run: {error}", means, fix, (3,))
    release = re.search(r"release ([\d.]+)", out.stdout)
    text = f"nvcc {release[1]}" if release else "nvcc of an unknown release"
    return Check(name, Status.OK, text, "Chapter 3 compiles with it.", chapters=(3,))


def _pytorch(driver_cuda: str) -> Check:
    chapters = (1, 2, 3, 7, 8)
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a CUDA library of the wheel does not load
        means = "Benchmarks and training need it."
        fix = "run `make book`: it installs the version in requirements.lock."
        return Check("PyTorch", Status.FAIL, f"cannot be imported: {error}", means, fix, chapters)
    ready = torch.cuda.is_available()
    capability = ".".join(map(str, torch.cuda.get_device_capability())) if ready else ""
    targets = torch.cuda.get_arch_list() if ready else []
    status, means, fix = agreement(torch.version.cuda, ready, driver_cuda, capability, targets)
    build = f"CUDA {torch.version.cuda} build" if torch.version.cuda else "CPU build"
    return Check("PyTorch", status, f"{torch.__version__}, {build}", means, fix, chapters)


def agreement(
    build: str | None,
    available: bool,
    driver: str,
    capability: str = "",
    targets: Sequence[str] = (),
) -> tuple[Status, str, str]:
    """Whether PyTorch's CUDA, the driver's and the device fit together.

    Args:
        build: the CUDA version PyTorch was built with, ``None`` for a CPU build.
        available: what ``torch.cuda.is_available()`` says.
        driver: the highest CUDA version of the driver, empty if there is no usable driver.
        capability: the compute capability of the device, empty if PyTorch sees none.
        targets: what PyTorch's own kernels were compiled for.

    Returns:
        Status, meaning, fix.
    """
    reinstall = "delete .venv and run `make book` again on this machine."
    if not driver:
        return Status.OK, "Without a usable driver it computes on the CPU.", ""
    if build is None:
        means = f"The driver offers CUDA {driver} and this build cannot use it: no live benchmark."
        return Status.WARN, means, reinstall
    fits = compatibility.fit(build, driver)
    if fits is compatibility.Fit.NONE:
        means = f"It needs CUDA {build} and the driver stops at {driver}: no live benchmark."
        least = [f.driver for f in compatibility.families() if build.startswith(f"{f.major}.")]
        newer = f"driver {least[0]} or later" if least else "a newer driver"
        return Status.FAIL, means, f"install {newer}, or {reinstall}"
    if not available:
        means = "Versions fit and CUDA still does not start: no live benchmark."
        fix = "see device nodes above, check CUDA_VISIBLE_DEVICES, read `dmesg | grep -i nvrm`."
        return Status.FAIL, means, fix
    if targets and not any(compatibility.runs(target, capability) for target in targets):
        means = f"It has no code for compute capability {capability}, only {', '.join(targets)}."
        return Status.FAIL, means, "install a build of PyTorch that lists this device."
    means = f"It runs on the GPU (driver offers CUDA {driver})."
    if fits is compatibility.Fit.MINOR:
        means += f" PTX from CUDA {build} does not load: the driver cannot compile it."
    return Status.OK, means, ""


def _cupy(driver_cuda: str) -> Check:
    for package in ("cupy-cuda12x", "cupy-cuda13x", "cupy"):
        try:
            found = f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
        means = "Kernels written in a notebook compile with it."
        return Check("CuPy", Status.OK, found, means, chapters=(1, 2, 3))
    if not driver_cuda:
        means = "Needed only with a GPU: recorded cells do not import it."
        return Check("CuPy", Status.ABSENT, "not installed", means, chapters=(1, 2, 3))
    means = "Live kernels of these chapters cannot be compiled."
    fix = "pip install -c requirements.lock '.[gpu]' in the course's folder"
    return Check("CuPy", Status.WARN, "not installed", means, fix, (1, 2, 3))
