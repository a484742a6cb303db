"""The device that a benchmark runs on: its free memory, its cache, who else uses it, its name."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from mlk8s.errors import UsageError
from mlk8s.gpu import nvml
from mlk8s.gpu.source import software
from mlk8s.provenance import Device, Kind, Provenance

#: Part of the free memory that may be asked for; allocators round up.
MAX_SHARE = 0.9


def free_bytes(device: str) -> int:
    """Memory that is free on ``cuda`` or ``cpu`` now, bytes."""
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()  # what PyTorch keeps for its own next tensors is free
        return int(torch.cuda.mem_get_info()[0])
    import psutil

    return int(psutil.virtual_memory().available)


def require_free(needed: int, device: str, what: str) -> None:
    """Refuse what does not fit, before anything is allocated.

    Args:
        needed: bytes.
        device: ``cuda`` or ``cpu``.
        what: names it in the error, such as ``A 1 GiB copy``.

    Raises:
        UsageError: it is more than :data:`MAX_SHARE` of what is free.
    """
    free = free_bytes(device)
    if needed > MAX_SHARE * free:
        where = "the GPU's memory" if device == "cuda" else "this machine's memory"
        raise UsageError(
            f"{what} needs {needed / 2**30:,.1f} GiB, and {free / 2**30:,.1f} GiB of {where} are "
            f"free, of which at most {MAX_SHARE:.0%} are used.",
            "use a smaller size, or end what else holds memory there.",
        )


def cache_bytes(device: str) -> int | None:
    """The L2 cache of the GPU, or the last cache of the first core, if Linux shows it."""
    if device == "cuda":
        import torch

        size: int = torch.cuda.get_device_properties(0).L2_cache_size
        return size
    found = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    sizes = {int((p.parent / "level").read_text()): p.read_text().strip() for p in found}
    return int(sizes[max(sizes)].removesuffix("K")) * 1024 if sizes else None


def other_processes() -> int:
    """Compute processes on the GPU besides this one, as far as NVML shows them."""
    pynvml = nvml.open_nvml()
    found = nvml.read(pynvml.nvmlDeviceGetComputeRunningProcesses, nvml.cuda_handle())
    if isinstance(found, str):  # not supported
        return 0
    pids = {process.pid for process in found}
    # In a container the numbers are the host's, so this process is one of those listed.
    return len(pids) - 1 if pids else 0


def cpu_provenance(method: str, processes: int | None = None) -> Provenance:
    """The provenance of something measured now on this machine's processor.

    Args:
        method: how, one sentence.
        processes: where several took part; else the threads of PyTorch are named.
    """
    import platform

    import torch

    who = f"{torch.get_num_threads()} threads" if processes is None else f"{processes} processes"
    device = Device(f"{platform.machine()} CPU, {who}", "cpu")
    return Provenance(Kind.LIVE, method, date.today().isoformat(), device, software("torch"))
