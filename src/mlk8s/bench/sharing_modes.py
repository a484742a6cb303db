"""The ways in which processes share a GPU here, and what each needs in their environment."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from mlk8s.bench import sharing_mps, timing
from mlk8s.bench.device import require_free
from mlk8s.errors import Mlk8sError, UsageError
from mlk8s.gpu import nvml, source

#: ``mps-quarter``: each client may use a quarter of the threads and of the memory, as the device
#: plugin sets it for ``replicas: 4``.
MODES = ("time-sliced", "mps", "mps-quarter")
QUARTER = 4
MAX_PROCESSES = 16
#: What a process may need at most, bytes: the largest task and a CUDA context.
NEEDED = 5 * 2**29


def require(mode: str, processes: int, device: str) -> None:
    """Refuse what cannot be measured, before anything starts.

    Args:
        mode: one of :data:`MODES`.
        processes: how many share the device.
        device: ``cuda`` or ``cpu``.

    Raises:
        UsageError: an argument that cannot be used, or too little free memory.
        GpuUnavailable: live on a machine where PyTorch has no CUDA device.
    """
    if mode not in MODES:
        raise UsageError(f"There is no mode {mode!r}.", f"use one of: {', '.join(MODES)}.")
    most = QUARTER if mode == "mps-quarter" else MAX_PROCESSES
    if not 1 <= processes <= most:
        raise UsageError(
            f"{processes} processes cannot be measured in mode {mode}.", f"use 1 to {most}."
        )
    if device != "cuda":
        timing.require(device)
        if mode != "time-sliced":
            raise UsageError("There is no MPS for a processor.", "use mode 'time-sliced'.")
    elif source.is_live():
        timing.require(device)
        require_free(processes * NEEDED, device, f"A task in {processes} processes")


def require_clients(mode: str, processes: int, clients: int | None) -> None:
    """Refuse figures under the name of MPS from processes that it did not serve.

    Args:
        mode: one of :data:`MODES`.
        processes: how many shared the device.
        clients: how many of them the MPS servers listed; ``None`` without MPS.

    Raises:
        Mlk8sError: the two differ.
    """
    if mode != "time-sliced" and clients != processes:
        raise Mlk8sError(
            f"The MPS server lists {clients} of the {processes} processes as its clients, so the "
            "figures are not those of MPS.",
            "look for CUDA_VISIBLE_DEVICES or MIG in the way of MPS, then run again.",
        )


@contextmanager
def sharing(mode: str) -> Iterator[tuple[dict[str, str], sharing_mps.Service | None]]:
    """What the processes need in their environment, and the MPS service that is behind it.

    Args:
        mode: one of :data:`MODES`.

    Raises:
        Mlk8sError: MPS is missing, runs here already, or does not start.
    """
    if mode == "time-sliced":
        # A directory without a daemon: a service of MPS that runs here would take them as clients.
        with tempfile.TemporaryDirectory(prefix="mlk8s-sharing-") as folder:
            yield {sharing_mps.PIPES: folder}, None
        return
    limits = {}
    if mode == "mps-quarter":
        pynvml = nvml.open_nvml()
        total = nvml.read(pynvml.nvmlDeviceGetMemoryInfo, nvml.cuda_handle()).total
        limits = {
            "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": str(100 // QUARTER),
            "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"0={total // QUARTER // 2**20}M",
        }
    with sharing_mps.service() as service:
        yield {**service.environment, **limits}, service
