"""How long an operation takes on a device, measured the way that its asynchrony demands.

On a GPU a call returns before the work is done, so wall-clock time around it measures the launch.
Here CUDA events bracket blocks of calls; on a CPU the same function uses the wall clock
(``time.perf_counter``).

What a benchmark of several rows needs besides: :func:`step` says how far it is, and
:func:`collected` keeps what was measured when it is interrupted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any

from mlk8s.bench.device import other_processes
from mlk8s.errors import GpuUnavailable, UsageError
from mlk8s.gpu import nvml
from mlk8s.gpu.probe import FAULTS, event_reasons
from mlk8s.gpu.watch import Sample, summary, watch

#: A block is long against the resolution of a CUDA event (0.5 µs, CUDA Runtime API manual).
BLOCK_S = 0.005
#: Warm until throughput drifts by less than this share in a second, or for this long.
STEADY_SLOPE = 0.005
MAX_WARMUP_S = 10.0
#: A burst is too short for the power controller to react (0.1 s, seen on an H100): up to this many
#: calls, or as many as fit into this time, and at least three. Idle time follows.
BURST_CALLS = 12
BURST_S = 0.02
DUTY = 0.25
#: Blocks that differ by more than this share are flagged: something else ran. A GPU at its power
#: cap swings by up to 17 % from block to block (measured on an H100), which is its normal state.
MAX_SPREAD = 0.25

_on_step: ContextVar[Callable[[str, int, int], None] | None] = ContextVar("on_step", default=None)


@dataclass(frozen=True)
class Timing:
    """Times of one call, from blocks of calls.

    Attributes:
        median_ms: median over blocks of the mean time of a call, ms.
        p5_ms: 5th percentile over blocks, ms.
        p95_ms: 95th percentile over blocks, ms.
        calls: timed calls.
        blocks: timed blocks.
        warmup_s: time spent warming up, s.
        steady: whether the drift had fallen under :data:`STEADY_SLOPE` a second by then.
        sm_clock_mhz: mean SM clock in the timed window, MHz; ``None`` on a CPU.
        power_w: mean draw in it, W.
        power_capped: share of its samples in which the power cap held the clocks back, 0 to 1.
        reasons: the clocks event reasons seen in it.
        others: other processes that computed on the GPU, as far as NVML shows them.
    """

    median_ms: float
    p5_ms: float
    p95_ms: float
    calls: int
    blocks: int
    warmup_s: float
    steady: bool
    sm_clock_mhz: float | None = None
    power_w: float | None = None
    power_capped: float | None = None
    reasons: str = "not a GPU"
    others: int = 0

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Timing:
        """The timing in a row that holds more besides."""
        return cls(**{f.name: row[f.name] for f in fields(cls)})

    @property
    def flags(self) -> str:
        """What a reader has to know before trusting the figure; empty if there is nothing."""
        spread = (self.p95_ms - self.p5_ms) / self.median_ms
        faults = event_reasons(FAULTS)
        found = [f"throttled: {r}" for r in self.reasons.split(", ") if r in faults]
        if self.others:
            found.append(f"busy: other processes on the GPU: {self.others}")
        if not self.steady:
            found.append("not steady")
        if spread > MAX_SPREAD:
            found.append(f"spread {100 * spread:.0f} %")
        return ", ".join(found)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of a benchmark. ``rows`` is what had been measured by then."""

    def __init__(self, rows: list[Any]) -> None:
        super().__init__(f"interrupted after {len(rows)} measured rows")
        self.rows = rows


def collected(rows: Iterable[Any]) -> list[Any]:
    """All rows of a benchmark that yields them as it measures.

    Raises:
        Interrupted: on Ctrl-C, with the rows so far.
    """
    kept: list[Any] = []
    try:
        kept.extend(rows)
    except KeyboardInterrupt as stop:
        raise Interrupted(kept) from stop
    return kept


@contextmanager
def progress(show: Callable[[str, int, int], None]) -> Iterator[None]:
    """Have ``show(what, done, total)`` called before each step of the benchmarks in the block."""
    token = _on_step.set(show)
    try:
        yield
    finally:
        _on_step.reset(token)


def step(what: str, done: int, total: int) -> None:
    """Say what is measured next, how many steps are done, and of how many."""
    show = _on_step.get()
    if show:
        show(what, done, total)


def time_calls(call: Callable[[], Any], device: str = "cuda", min_time_s: float = 1.0) -> Timing:
    """Time an operation at steady state, calls back to back.

    Args:
        call: enqueues the operation once; it must not synchronize.
        device: ``cuda`` or ``cpu``.
        min_time_s: least time to measure for, after the warm-up, s. At least 10 blocks are taken.

    Raises:
        GpuUnavailable: ``cuda`` without a CUDA device that PyTorch can use.
        UsageError: another device.
    """
    require(device)
    measure = _cuda_block if device == "cuda" else _cpu_block
    measure(call, 1)  # compiles, allocates, loads libraries
    once = measure(call, 3)
    per_block = max(1, round(BLOCK_S / once))
    warmup_s, steady = _warm(lambda: measure(call, per_block), min(MAX_WARMUP_S, 10 * min_time_s))
    watcher = watch(index=None, interval_s=0.05) if device == "cuda" else None
    times: list[float] = []
    with watcher or nullcontext():
        begin = time.perf_counter()
        while len(times) < 10 or time.perf_counter() - begin < min_time_s:
            times.append(measure(call, per_block))
        end = time.perf_counter()
    samples = watcher.between(begin, end) if watcher else None
    return from_blocks(times, len(times) * per_block, samples, warmup_s, steady)


def time_rested(
    call: Callable[[], Any],
    device: str = "cuda",
    *,
    bursts: int = 20,
    between: Callable[[], Any] | None = None,
) -> Timing:
    """Time an operation on a device that rests: short bursts, idle three times as long after each.

    Power stays far under the cap, so the clock stays at its maximum and the figure repeats to a
    few tenths of a percent. It is what the arithmetic can reach, not what a long job gets.

    Args:
        call: enqueues the operation once.
        device: ``cuda`` or ``cpu``.
        bursts: how many.
        between: enqueued before every call and not timed, such as overwriting the L2 cache.

    Raises:
        GpuUnavailable: ``cuda`` without a CUDA device that PyTorch can use.
        UsageError: another device.
    """
    require(device)
    measure = _cuda_block if device == "cuda" else _cpu_block
    once = measure(call, 2, between)
    calls = max(3, min(BURST_CALLS, round(BURST_S / once)))
    watcher = watch(index=None, interval_s=0.01) if device == "cuda" else None
    times: list[float] = []
    samples: list[Sample] = []
    with watcher or nullcontext():
        for _ in range(bursts):
            begin = time.perf_counter()
            times.append(measure(call, calls, between))
            end = time.perf_counter()
            if watcher:
                samples += watcher.between(begin, end)
            time.sleep((end - begin) * (1 / DUTY - 1))
    return from_blocks(times, bursts * calls, samples if watcher else None)


def from_blocks(
    times: list[float],
    calls: int,
    samples: list[Sample] | None = None,
    warmup_s: float = 0.0,
    steady: bool = True,
) -> Timing:
    """The figures of some blocks.

    Args:
        times: mean time of a call in each block, s; at least one.
        calls: timed calls in all blocks.
        samples: telemetry meanwhile, on a GPU that was watched.
        warmup_s: see :class:`Timing`.
        steady: see :class:`Timing`.
    """
    seen: dict[str, Any] = {}
    if samples is not None:
        seen = {**summary(samples), "others": other_processes()}
        del seen["samples"]
    # One burst has no spread.
    several = times if len(times) > 1 else times * 2
    percentiles = statistics.quantiles(several, n=20, method="inclusive")
    return Timing(
        median_ms=statistics.median(times) * 1e3,
        p5_ms=percentiles[0] * 1e3,
        p95_ms=percentiles[-1] * 1e3,
        calls=calls,
        blocks=len(times),
        warmup_s=warmup_s,
        steady=steady,
        **seen,
    )


def require(device: str) -> None:
    """Refuse a device that PyTorch cannot use.

    Raises:
        GpuUnavailable: ``cuda`` without one, with what is in the way.
        UsageError: neither ``cuda`` nor ``cpu``.
    """
    if device == "cpu":
        return
    if device != "cuda":
        raise UsageError(f"There is no device {device!r}.", "use 'cuda' or 'cpu'.")
    import torch

    if not torch.cuda.is_available():
        nvml.open_nvml()  # its error is the better one, where the driver is what is missing
        built = torch.version.cuda
        why = f"was built for CUDA {built}" if built else "is the CPU build"
        raise GpuUnavailable(
            f"PyTorch {torch.__version__} {why} and sees no CUDA device, though the driver does.",
            "run `mlk8s doctor`, then `make setup` on this machine to install the CUDA build.",
        )


def _cuda_block(
    call: Callable[[], Any], count: int, between: Callable[[], Any] | None = None
) -> float:
    """Seconds for one of ``count`` calls, between CUDA events: of the block, or of each call."""
    import torch

    event: Any = torch.cuda.Event
    stretches = [(event(enable_timing=True), event(enable_timing=True)) for _ in range(count)]
    if between is None:
        stretches = stretches[:1]
    for start, stop in stretches:
        if between:
            between()
        start.record()
        for _ in range(count // len(stretches)):
            call()
        stop.record()
    torch.cuda.synchronize()
    total: float = sum(start.elapsed_time(stop) for start, stop in stretches)
    return total * 1e-3 / count


def _cpu_block(
    call: Callable[[], Any], count: int, between: Callable[[], Any] | None = None
) -> float:
    elapsed = 0.0
    for _ in range(count):
        if between:
            between()
        begin = time.perf_counter()
        call()
        elapsed += time.perf_counter() - begin
    return elapsed / count


def _warm(block: Callable[[], float], limit_s: float) -> tuple[float, bool]:
    """Run blocks until their time stops drifting. Returns the seconds spent and whether it did."""
    begin = time.perf_counter()
    stamps: list[float] = []
    times: list[float] = []
    while (now := time.perf_counter() - begin) < limit_s:
        times.append(block())
        stamps.append(now)
        # The last second decides: long enough for the power controller to have reacted.
        first = next(i for i, t in enumerate(stamps) if t >= now - 1.0)
        if now >= 1.0 and len(times) - first >= 8:
            slope, _ = statistics.linear_regression(stamps[first:], times[first:])
            if abs(slope) / statistics.fmean(times[first:]) < STEADY_SLOPE:
                return now, True
    return time.perf_counter() - begin, False
