"""What GPUs say to each other: the time and bandwidth of collective operations.

Sizes and bandwidths follow nccl-tests (doc/PERFORMANCE.md), so that figures can be laid beside
its own: *algbw* is the size over the time, *busbw* is algbw times a factor that turns it into what
each link carried. Elements are float32, nccl-tests' default.

NCCL runs one rank on each GPU. gloo runs the same operations between processes on a CPU, over the
loopback interface: the arithmetic is the same, the rates say something about this machine's memory
and kernel, and nothing about NVLink.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from mlk8s.bench import exchange, ranks, timing
from mlk8s.bench.device import cpu_provenance
from mlk8s.bench.exchange import ELEMENT_BYTES, MAX_RANKS, Exchange
from mlk8s.errors import GpuUnavailable, UsageError
from mlk8s.gpu.source import measured
from mlk8s.provenance import Table

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "send_recv")
BACKENDS = ("nccl", "gloo")
#: Powers of two from 1 KiB to 8 GiB between GPUs, to 64 MiB between processes.
SIZES = {"nccl": tuple(2**i for i in range(10, 34)), "gloo": tuple(2**i for i in range(10, 27))}
#: A block is long against the skew with which ranks leave a barrier (tens of µs on a busy CPU).
BLOCK_S = 0.02
MIN_BLOCKS = 10
#: Longest wait for one row, s. A dead rank is noticed at once; this ends a hang.
TIMEOUT_S = 300.0

METHOD = (
    "after a barrier, float32 calls back to back for some 20 ms by the wall clock until the device "
    "is idle; the time is the mean of such a block on its slowest rank, median of blocks after a "
    "warm-up; results verified before and after"
)


def busbw_factor(operation: str, ranks: int) -> float:
    """What each link carries, as a multiple of the size of the operation.

    In a ring of n ranks the buffer of S bytes is cut into n parts. A reduce-scatter takes n−1
    steps, in each of which every rank sends one part, S/n, to its neighbor; an all-gather takes
    n−1 more; an all-reduce is the one after the other, so each link carries 2(n−1)/n · S. Any
    algorithm of sends and receives has to move as much, so busbw compares with the line rate of a
    link for every n. In a broadcast all of S leaves the root; one link carries S.

    NVLS (NVLink SHARP) breaks this reading: the switch adds and multicasts, so that a link carries
    (n+1)/n · S for an all-reduce (NCCL's maintainers, nccl-tests pull request 239), and busbw,
    still computed with 2(n−1)/n, may reach 2(n−1)/(n+1) times the line rate, 1.56 times for n = 8.
    So some 480 GB/s over links of 450 GB/s is right: it is the link that a ring would have needed.

    Args:
        operation: one of :data:`OPERATIONS`.
        ranks: how many take part, n.

    Returns:
        The factor of nccl-tests, doc/PERFORMANCE.md.

    Raises:
        UsageError: an unknown operation, or fewer than two ranks.
    """
    if operation not in OPERATIONS:
        raise UsageError(
            f"There is no operation {operation!r}.", f"use one of {', '.join(OPERATIONS)}."
        )
    if ranks < 2:
        raise UsageError(
            f"There is no bus bandwidth for {ranks} rank{'' if ranks == 1 else 's'}: nothing "
            "crosses a link, and the factor is 0.",
            "use 2 ranks or more: GPUs, or processes on the CPU with backend='gloo'.",
        )
    if operation == "all_reduce":
        return 2 * (ranks - 1) / ranks
    if operation in ("all_gather", "reduce_scatter"):
        return (ranks - 1) / ranks
    return 1.0


def algorithm_bandwidth(size: int, time_s: float) -> float:
    """Size over time, GB/s (10⁹ bytes a second).

    Args:
        size: bytes of the operation as nccl-tests counts them: the whole gathered buffer of an
            all-gather, the whole unreduced one of a reduce-scatter, else what one rank passes in.
        time_s: time of one call, s.
    """
    return size / time_s * 1e-9


def bus_bandwidth(operation: str, ranks: int, size: int, time_s: float) -> float:
    """The algorithm bandwidth times :func:`busbw_factor`, GB/s.

    Args:
        operation: one of :data:`OPERATIONS`.
        ranks: how many take part.
        size: bytes, as in :func:`algorithm_bandwidth`.
        time_s: time of one call, s.

    Raises:
        UsageError: an unknown operation, or fewer than two ranks.
    """
    return algorithm_bandwidth(size, time_s) * busbw_factor(operation, ranks)


def measure(
    operation: str = "all_reduce",
    *,
    backend: str = "nccl",
    processes: int | None = None,
    sizes: Sequence[int] | None = None,
    min_time_s: float = 0.2,
) -> Table:
    """Measure an operation over a range of sizes, and verify what it computes.

    Calls follow each other without waiting, as in nccl-tests: for small sizes the time of a
    broadcast or of send_recv is the interval between messages, not the time that one is under way.
    gloo's reduce-scatter is an all-reduce of which each rank keeps its part (PyTorch pull request
    118911), so its links carry twice what busbw says.

    Args:
        operation: one of :data:`OPERATIONS`; ``send_recv`` is one way, from rank 0 to rank 1.
        backend: ``nccl`` measures this machine's GPUs or reads the recording, as ``MLK8S_GPU``
            says; ``gloo`` measures processes on this machine's processor, always.
        processes: ranks; where not given, all GPUs, or 2 processes for gloo.
        sizes: bytes, multiples of the ranks' number of float32 elements; where not given, powers
            of two (:data:`SIZES`), rounded down to such multiples.
        min_time_s: least measured time of each size after the warm-up, s.

    Returns:
        Rows ``operation``, ``ranks``, ``size [B]``, ``time [µs]``, ``algbw [GB/s]`` and
        ``busbw [GB/s]``.

    Raises:
        UsageError: an argument that cannot be used, one rank, or more ranks than GPUs.
        GpuUnavailable: live, and PyTorch has no CUDA device or no NCCL.
        RecordingError: recorded, and the recording does not hold this measurement.
        Mlk8sError: a rank failed, or the operation gave a wrong result.
        Interrupted: on Ctrl-C, with the rows so far.
    """
    if backend not in BACKENDS:
        raise UsageError(f"There is no backend {backend!r}.", f"use one of {', '.join(BACKENDS)}.")
    if not min_time_s > 0:
        raise UsageError(f"min_time_s = {min_time_s} is no time.", "use seconds above 0.")
    if backend == "gloo" and processes is None:
        processes = 2
    # Where all GPUs are meant, a live run finds how many they are, and checks again.
    busbw_factor(operation, 2 if processes is None else processes)
    _check(1 if processes is None else processes, sizes)
    if backend == "nccl":
        listed = None if sizes is None else list(sizes)
        return _on_gpus(operation, processes, listed, min_time_s)
    assert processes is not None
    chosen = _sizes(backend, processes, sizes)
    rows = timing.collected(_rows(operation, backend, processes, chosen, min_time_s))
    return Table(rows, cpu_provenance(f"gloo over the loopback interface: {METHOD}", processes))


@measured("bench/collective", METHOD)
def _on_gpus(
    operation: str, processes: int | None, sizes: list[int] | None, min_time_s: float
) -> list[dict[str, Any]]:
    import torch

    timing.require("cuda")
    if not torch.distributed.is_nccl_available():
        raise GpuUnavailable(
            f"PyTorch {torch.__version__} was built without NCCL.",
            "install PyTorch's CUDA build for Linux, or use backend='gloo'.",
        )
    gpus = torch.cuda.device_count()
    count = gpus if processes is None else processes
    if count > gpus:
        fewer = f"use processes={gpus} or fewer, or " if gpus > 1 else ""
        raise UsageError(
            f"{count} ranks need a GPU each, and this machine shows {gpus}.",
            f"{fewer}measure processes on the CPU with backend='gloo'.",
        )
    busbw_factor(operation, count)
    _check(count, sizes)
    chosen = _sizes("nccl", count, sizes)
    return timing.collected(_rows(operation, "nccl", count, chosen, min_time_s))


def _check(count: int, sizes: Sequence[int] | None) -> None:
    """Refuse sizes that the ranks cannot share, and more ranks than can be verified.

    Raises:
        UsageError: with what is wrong.
    """
    if count > MAX_RANKS:
        raise UsageError(
            f"{count} ranks are too many to verify their sums exactly in float32.",
            f"use {MAX_RANKS} or fewer.",
        )
    if sizes is None:
        return
    if not sizes:
        raise UsageError("There is no size to measure.", "name sizes in bytes, or leave them out.")
    unit = ELEMENT_BYTES * count
    for size in sizes:
        if size < unit or size % unit:
            raise UsageError(
                f"The size {size} is not a positive multiple of {unit} B, one element of "
                f"{ELEMENT_BYTES} B for each rank.",
                f"use {max(unit, size // unit * unit)} B.",
            )


def _sizes(backend: str, count: int, sizes: Sequence[int] | None) -> list[int]:
    """The sizes that were asked for, or the usual ones, rounded down as nccl-tests does."""
    unit = ELEMENT_BYTES * count
    return list(sizes) if sizes is not None else [size // unit * unit for size in SIZES[backend]]


def _rows(
    operation: str, backend: str, count: int, sizes: list[int], min_time_s: float
) -> Iterator[dict[str, Any]]:
    """Rows as they are measured."""
    arguments = {"operation": operation, "sizes": sizes, "min_time_s": min_time_s}
    found = ranks.run(_sweep, arguments, processes=count, backend=backend, timeout_s=TIMEOUT_S)
    with closing(found):
        for done, size in enumerate(sizes):
            timing.step(f"{operation}, {count} ranks, {size:,} B", done, len(sizes))
            seconds = next(found)
            yield {
                "operation": operation,
                "ranks": count,
                "size [B]": size,
                "time [µs]": _digits(seconds * 1e6),
                "algbw [GB/s]": _digits(algorithm_bandwidth(size, seconds)),
                "busbw [GB/s]": _digits(bus_bandwidth(operation, count, size, seconds)),
            }
        next(found, None)  # lets the ranks end, where leaving would kill them


def _digits(value: float) -> float:
    """Five significant digits: more than repeat, few enough to read."""
    return float(f"{value:.5g}")


# --- on each rank -------------------------------------------------------------------------------


def _sweep(device: str, operation: str, sizes: list[int], min_time_s: float) -> Iterator[float]:
    """Seconds of a call for each size, the same figure on every rank."""
    for size in sizes:
        op = exchange.make(operation, size // ELEMENT_BYTES, device)
        what = f"{operation} of {size} B"
        op.verify(what)
        _block(op, 1, device)  # connects, allocates
        calls = max(1, round(BLOCK_S / _block(op, 3, device)))
        _blocks(op, calls, device, 2, min_time_s / 2)
        times = _blocks(op, calls, device, MIN_BLOCKS, min_time_s)
        op.verify(what)
        yield statistics.median(times)


def _blocks(op: Exchange, calls: int, device: str, least: int, min_time_s: float) -> list[float]:
    """Blocks, until there are enough; all ranks see the same times and so agree when to stop."""
    times: list[float] = []
    while len(times) < least or sum(times) * calls < min_time_s:
        times.append(_block(op, calls, device))
    return times


def _block(op: Exchange, calls: int, device: str) -> float:
    """Seconds of one of a number of calls, on the slowest rank."""
    import torch
    import torch.distributed as dist

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize(device)

    op.prepare()  # sums in place grow from call to call, and would end at infinity
    wait()
    dist.barrier()
    wait()
    begin = time.perf_counter()
    for _ in range(calls):
        op.call()
    wait()
    mean = (time.perf_counter() - begin) / calls
    slowest = torch.tensor([mean], dtype=torch.float64, device=device)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    return slowest.item()
