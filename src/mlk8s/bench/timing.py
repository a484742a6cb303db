"""How long an operation takes on a device, measured the way that its asynchrony demands.

On a GPU a call returns before the work is done, so wall-clock time around it measures the launch.
Here CUDA events bracket blocks of calls; on a CPU the same function uses the process clock.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from mlk8s.errors import GpuUnavailable, UsageError
from mlk8s.gpu import nvml
from mlk8s.gpu.watch import summary, watch

#: A block is long against the resolution of a CUDA event (0.5 µs, CUDA Runtime API manual).
BLOCK_S = 0.005
#: Warm until throughput drifts by less than this share in a second, or for this long.
STEADY_SLOPE = 0.005
MAX_WARMUP_S = 10.0


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


def time_calls(call: Callable[[], Any], device: str = "cuda", min_time_s: float = 1.0) -> Timing:
    """Time an operation at steady state.

    Args:
        call: enqueues the operation once; it must not synchronize.
        device: ``cuda`` or ``cpu``.
        min_time_s: least time to measure for, after the warm-up, s. At least 10 blocks are taken.

    Raises:
        GpuUnavailable: ``cuda`` without a CUDA device that PyTorch can use.
        UsageError: another device.
    """
    require(device)
    block = _cuda_block if device == "cuda" else _cpu_block
    block(call, 1)  # compiles, allocates, loads libraries
    once = block(call, 3)
    per_block = max(1, round(BLOCK_S / once))
    warmup_s, steady = _warm(lambda: block(call, per_block), min(MAX_WARMUP_S, 10 * min_time_s))
    watcher = watch(index=None, interval_s=0.05) if device == "cuda" else None
    times: list[float] = []
    with watcher or nullcontext():
        begin = time.perf_counter()
        while len(times) < 10 or time.perf_counter() - begin < min_time_s:
            times.append(block(call, per_block))
        end = time.perf_counter()
    seen: dict[str, Any] = summary(watcher.between(begin, end)) if watcher else {}
    seen.pop("samples", None)
    percentiles = statistics.quantiles(times, n=20, method="inclusive")
    return Timing(
        median_ms=statistics.median(times) * 1e3,
        p5_ms=percentiles[0] * 1e3,
        p95_ms=percentiles[-1] * 1e3,
        calls=len(times) * per_block,
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


def _cuda_block(call: Callable[[], Any], count: int) -> float:
    """Seconds for one of ``count`` calls, between two CUDA events."""
    import torch

    event: Any = torch.cuda.Event
    start, stop = event(enable_timing=True), event(enable_timing=True)
    start.record()
    for _ in range(count):
        call()
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop)) * 1e-3 / count


def _cpu_block(call: Callable[[], Any], count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - begin) / count


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
