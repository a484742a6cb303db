"""One GPU for several processes, by turns (time-slicing) or side by side (MPS): who gets what.

Each process has a CUDA context of its own and repeats a task of :mod:`mlk8s.bench.sharing_tasks`;
all of them count over the same stretch of time. What MIG does is not measured here: it would
change the mode of the GPU.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import cycle, islice
from typing import Any

from mlk8s.bench import timing
from mlk8s.bench.device import cpu_provenance
from mlk8s.bench.sharing_modes import require, require_clients, sharing
from mlk8s.bench.sharing_processes import Answer, Worker, ask_all, failed, workers
from mlk8s.bench.sharing_tasks import SIZES, perform
from mlk8s.errors import UsageError
from mlk8s.gpu import nvml
from mlk8s.gpu.source import measured
from mlk8s.gpu.watch import watch
from mlk8s.provenance import Provenance, Table

#: Workload → the tasks that its processes take in turn.
WORKLOADS = {
    "kernel": ("kernel",),
    "kernels": ("kernels",),
    "inference": ("inference",),
    "matmul": ("matmul",),
    "memory": ("memory",),
    "mix": ("inference", "matmul"),
}
#: A measured stretch is cut into this many slices, whose rates give the spread.
SLICES = 5
#: All processes repeat their task for this long before it counts, s.
WARMUP_S = 0.3
START_S = 90.0
ANSWER_S = 15.0
METHOD = (
    "each process repeats its task and waits for the device after each call, for a warm-up of "
    "0.3 s and then a stretch that is the same for all; rates and latencies of that stretch, GPU-"
    "Util by NVML in its second half"
)


def measure(
    mode: str = "time-sliced", processes: int = 4, *, device: str = "cuda", seconds: float = 1.0
) -> Table:
    """Measure every workload in some processes that share the device.

    Args:
        mode: one of :data:`~mlk8s.bench.sharing_modes.MODES`. One process alone is
            ``time-sliced`` with ``processes=1``.
        processes: how many, 1 to 16, all with the same task, but for ``mix``, where every second
            one multiplies large matrices and the others serve requests.
        device: ``cuda``, or ``cpu``, where the operating system slices the time.
        seconds: the measured stretch of each workload, s.

    Returns:
        A row for each task of each workload: "rate [1/s]" is that of all processes with that task
        together, the median of five slices of the stretch, and "spread [%]" the distance between
        the slowest and the fastest slice. "fairness" is Jain's index of the processes' rates: 1
        where all got the same, 1/n where one got everything. Latencies are those of a call, of
        all processes. "context [MiB]" is the GPU memory of a process beside its tensors.

    Raises:
        UsageError: an argument that cannot be used, or too little free memory.
        Mlk8sError: MPS is missing or runs already; a process failed.
        GpuUnavailable: live on a machine where PyTorch has no CUDA device.
        RecordingError: recorded, and the recording does not hold this call.
    """
    return sweep([mode], [processes], device=device, seconds=seconds)


def sweep(
    modes: Sequence[str] = ("time-sliced", "mps"),
    processes: Sequence[int] = (1, 2, 4, 8),
    *,
    device: str = "cuda",
    seconds: float = 1.0,
) -> Table:
    """Measure every workload in each mode with each number of processes.

    Args:
        modes: some of :data:`~mlk8s.bench.sharing_modes.MODES`.
        processes: numbers of processes.
        device: see :func:`measure`.
        seconds: see :func:`measure`.

    Raises:
        UsageError, Mlk8sError, GpuUnavailable, RecordingError: see :func:`measure`.
        Interrupted: on Ctrl-C, with the rows so far.
    """
    calls = [(mode, count) for mode in modes for count in processes]
    if not calls:
        raise UsageError("There is nothing to measure.", "name a mode and a number of processes.")
    for mode, count in calls:
        require(mode, count, device)
    origins: list[Provenance] = []

    def rows() -> Iterator[dict[str, Any]]:
        for done, (mode, count) in enumerate(calls):
            timing.step(f"{count} processes, {mode}", done, len(calls))
            if device == "cuda":
                table = _on_gpu(mode=mode, processes=count, seconds=seconds)
            else:
                found = _stretches(device, mode, count, seconds)
                table = Table(found, cpu_provenance(METHOD, count))
            origins.append(table.provenance[0])
            for row in table:
                yield _row(mode, count, row)

    return Table(timing.collected(rows()), *origins, title="Processes that share a device")


def fairness(rates: Sequence[float]) -> float:
    """Jain's index: 1 where all have the same, 1/n where one has everything.

    Args:
        rates: what each got; at least one is over 0.
    """
    return sum(rates) ** 2 / (len(rates) * sum(rate**2 for rate in rates))


def _row(mode: str, processes: int, row: Mapping[str, Any]) -> dict[str, Any]:
    require_clients(mode, processes, row["clients"])
    slices = row["slices"]
    rate = statistics.median(slices)
    return {
        "sharing": mode,
        "processes": processes,
        "workload": row["workload"],
        "task": row["task"],
        "rate [1/s]": round(rate, 1),
        "spread [%]": round(100 * (max(slices) - min(slices)) / rate, 1) if rate else None,
        "fairness": round(fairness(row["rates"]), 3) if any(row["rates"]) else None,
        "p50 [µs]": row["p50_us"],
        "p99 [µs]": row["p99_us"],
        "longest [µs]": row["max_us"],
        "GPU-Util [%]": row["gpu_util"],
        "SM clock [MHz]": row["sm_mhz"],
        "power [W]": row["power_w"],
        "context [MiB]": row["context_mib"],
    }


@measured("bench/sharing", METHOD)
def _on_gpu(mode: str, processes: int, seconds: float) -> list[dict[str, Any]]:
    return _stretches("cuda", mode, processes, seconds)


def _stretches(device: str, mode: str, processes: int, seconds: float) -> list[dict[str, Any]]:
    """All workloads, one after the other, in the same processes."""
    rows = []
    empty = _used_mib(device)
    with (
        sharing(mode) as (environment, service),
        workers(perform, device, [environment] * processes) as group,
    ):
        ask_all(group, "open", START_S)
        clients = service and len(service.clients() & {worker.pid for worker in group})
        for workload, tasks in WORKLOADS.items():
            given = list(islice(cycle(tasks), processes))
            held = [
                answer.value
                for answer in ask_all(group, "prepare", START_S, [{"task": task} for task in given])
            ]
            used = _used_mib(device)
            context = None
            if used is not None and empty is not None:
                context = round((used - empty - sum(held)) / processes)
            answers, telemetry = _stretch(group, device, seconds)
            for task in dict.fromkeys(given):
                values = [a.value for a, t in zip(answers, given, strict=True) if t == task]
                row = {"workload": workload, "task": task, "clients": clients}
                row |= _figures(values, seconds, SIZES[task][2])
                rows.append({**row, **telemetry, "context_mib": context})
    return rows


def _stretch(
    group: Sequence[Worker], device: str, seconds: float
) -> tuple[list[Answer], dict[str, Any]]:
    """Run what is prepared in all processes over one stretch, watched on a GPU."""
    watcher = watch(index=None, interval_s=0.05) if device == "cuda" else None
    with watcher or nullcontext():
        start = time.perf_counter()
        begin = time.monotonic() + WARMUP_S
        window = {"begin": begin, "end": begin + seconds}
        answers = ask_all(group, "run", seconds + ANSWER_S, [window] * len(group))
    for answer in answers:
        if answer.value["error"]:
            raise failed(answer.value["error"])
    half = start + WARMUP_S + seconds / 2
    samples = watcher.between(half, half + seconds / 2) if watcher else []
    seen: dict[str, list[float]] = {
        "gpu_util": [s.gpu_util for s in samples if s.gpu_util is not None],
        "sm_mhz": [s.sm_mhz for s in samples if s.sm_mhz is not None],
        "power_w": [s.power_w for s in samples if s.power_w is not None],
    }
    return answers, {k: round(statistics.median(v)) if v else None for k, v in seen.items()}


def _figures(values: Sequence[Mapping[str, Any]], seconds: float, per_call: int) -> dict[str, Any]:
    """Rates and latencies from what processes with one task counted."""
    width = seconds * 1e6 / SLICES
    ends = [end for value in values for end in value["ends"]]
    counts = [sum(i * width <= end < (i + 1) * width for end in ends) for i in range(SLICES)]
    return {
        "rates": [round(len(value["ends"]) * per_call / seconds, 1) for value in values],
        "slices": [round(count * per_call * SLICES / seconds, 1) for count in counts],
        **latencies([took for value in values for took in value["took"]]),
    }


def latencies(took: Sequence[int]) -> dict[str, int | None]:
    """Percentiles of the times of calls.

    Args:
        took: the times, µs.

    Returns:
        ``p50_us``, ``p95_us``, ``p99_us`` and ``max_us``; ``None`` where there was no call.
    """
    ordered = sorted(took)

    def at(share: float) -> int | None:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None

    return {"p50_us": at(0.5), "p95_us": at(0.95), "p99_us": at(0.99), "max_us": at(1.0)}


def _used_mib(device: str) -> float | None:
    """Memory of the GPU that is in use, MiB."""
    if device != "cuda":
        return None
    pynvml = nvml.open_nvml()
    return float(nvml.read(pynvml.nvmlDeviceGetMemoryInfo, nvml.cuda_handle()).used / 2**20)
