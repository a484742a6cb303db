"""A background sampler: what a GPU draws, clocks, holds and is limited by while something runs.

    with watch(interval_s=0.1) as telemetry:
        ...
    telemetry.table()

One thread reads NVML and sleeps; nothing is launched on the device. The energy counter is read
twice only, at the start and at the end: on an H100 it costs twenty times all other fields together
(``mlk8s.bench.sampler``). It works on a live GPU only: a chapter records the rows that it yields.
"""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mlk8s.errors import GpuUnavailable, UsageError
from mlk8s.gpu import nvml
from mlk8s.gpu.probe import event_reasons
from mlk8s.gpu.source import live_provenance
from mlk8s.provenance import Table

if TYPE_CHECKING:
    from mlk8s.plots import Figure


@dataclass(frozen=True)
class Sample:
    """One reading. ``None`` stands for a field that the device does not support.

    Attributes:
        time_s: seconds since the start.
        power_w: board draw, W (NVML averages it over one second on Hopper).
        sm_mhz: clock of the streaming multiprocessors, MHz.
        memory_mhz: memory clock, MHz.
        temperature_c: GPU temperature, °C.
        gpu_util: share of the last sample period in which any kernel ran, %.
        memory_util: share of it in which memory was read or written, %.
        used_gib: memory in use, the driver's reserve included, GiB (the probe lists that apart).
        reasons: bit mask of the clocks event reasons.
        cost_ms: what taking this sample cost, ms of wall clock.
    """

    time_s: float
    power_w: float | None
    sm_mhz: int | None
    memory_mhz: int | None
    temperature_c: int | None
    gpu_util: int | None
    memory_util: int | None
    used_gib: float | None
    reasons: int | None
    cost_ms: float


class watch:
    """Sample a GPU in the background until the block ends.

    Args:
        index: NVML index; ``None`` takes the device that CUDA calls 0.
        interval_s: time between two samples, seconds. Utilization changes every 1/6 s to 1 s and
            power is a one-second average, so intervals under 0.02 s show nothing new.

    Raises:
        GpuUnavailable: there is no live GPU, or sampling failed (raised when the block ends).
        UsageError: the interval is not between 0.01 s and 60 s.
    """

    def __init__(self, index: int | None = 0, interval_s: float = 0.1) -> None:
        if not 0.01 <= interval_s <= 60:
            raise UsageError(
                f"A sampling interval of {interval_s} s is outside 0.01 s to 60 s.",
                "use 0.1 s; the sensors average over longer times than 0.01 s.",
            )
        self._n = nvml.open_nvml()
        self._handle = nvml.cuda_handle() if index is None else nvml.handle(index)
        self._interval = interval_s
        self._stop = threading.Event()
        self._failure: GpuUnavailable | None = None
        self._thread = threading.Thread(target=self._run, name="mlk8s-watch", daemon=True)
        self._start = 0.0
        self._energy_at_start: float | None = None
        #: Energy drawn in the block by the device's counter, J; ``None`` if it has none.
        self.energy_j: float | None = None
        self.samples: list[Sample] = []

    def __enter__(self) -> watch:
        self._energy_at_start = self._energy()
        self._start = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        try:
            after = self._energy()
        except GpuUnavailable as failure:
            # Kept, not raised here: the block's own error is the one to see.
            self._failure = self._failure or failure
            after = None
        if after is not None and self._energy_at_start is not None:
            self.energy_j = after - self._energy_at_start
        if self._failure and error is None:
            raise self._failure

    def _energy(self) -> float | None:
        value = nvml.read(self._n.nvmlDeviceGetTotalEnergyConsumption, self._handle)
        return None if isinstance(value, str) else value * 1e-3

    def _run(self) -> None:
        due = time.perf_counter()
        while not self._stop.is_set():
            try:
                self.samples.append(self._sample())
            except GpuUnavailable as error:
                self._failure = error
                return
            # Against a fixed grid, so that the cost of a sample does not stretch the interval.
            due = max(due + self._interval, time.perf_counter())
            self._stop.wait(due - time.perf_counter())

    def _sample(self) -> Sample:
        n, h = self._n, self._handle
        begin = time.perf_counter()
        use = nvml.read(n.nvmlDeviceGetUtilizationRates, h)
        memory = nvml.read(n.nvmlDeviceGetMemoryInfo, h)

        def number(value: Any, factor: float = 1) -> Any:
            return None if isinstance(value, str) else value * factor

        return Sample(
            time_s=begin - self._start,
            power_w=number(nvml.read(n.nvmlDeviceGetPowerUsage, h), 1e-3),
            sm_mhz=number(nvml.read(n.nvmlDeviceGetClockInfo, h, n.NVML_CLOCK_SM)),
            memory_mhz=number(nvml.read(n.nvmlDeviceGetClockInfo, h, n.NVML_CLOCK_MEM)),
            temperature_c=number(nvml.read(n.nvmlDeviceGetTemperature, h, n.NVML_TEMPERATURE_GPU)),
            gpu_util=None if isinstance(use, str) else use.gpu,
            memory_util=None if isinstance(use, str) else use.memory,
            used_gib=None if isinstance(memory, str) else memory.used / 2**30,
            reasons=number(nvml.read(n.nvmlDeviceGetCurrentClocksEventReasons, h)),
            cost_ms=(time.perf_counter() - begin) * 1e3,
        )

    def between(self, start: float, end: float) -> list[Sample]:
        """The samples taken between two readings of ``time.perf_counter()``."""
        return [s for s in self.samples if start <= self._start + s.time_s <= end]

    def rows(self) -> list[dict[str, Any]]:
        """The samples as JSON rows with units in the names, rounded to what the sensors give."""

        def rounded(value: float | None, digits: int) -> float | None:
            return None if value is None else round(value, digits)

        return [
            {
                "time [s]": round(s.time_s, 3),
                "power [W]": rounded(s.power_w, 1),
                "SM clock [MHz]": s.sm_mhz,
                "memory clock [MHz]": s.memory_mhz,
                "temperature [°C]": s.temperature_c,
                "GPU-Util [%]": s.gpu_util,
                "memory-Util [%]": s.memory_util,
                "memory used [GiB]": rounded(s.used_gib, 3),
                "clocks limited by": None
                if s.reasons is None
                else ", ".join(event_reasons(s.reasons)),
                "sample cost [ms]": round(s.cost_ms, 3),
            }
            for s in self.samples
        ]

    def table(self) -> Table:
        """The samples with their provenance."""
        return Table(
            self.rows(),
            live_provenance(f"NVML sampled every {self._interval} s"),
            title="Telemetry",
        )

    def plot(self) -> Figure:
        """The samples as curves over time (imports plotly)."""
        from mlk8s.plots import telemetry

        return telemetry(self.table())


def summary(samples: list[Sample]) -> dict[str, float | int | str | None]:
    """Mean clock and power, share of time under the power cap, and the reasons seen.

    Args:
        samples: those of the timed window.

    Returns:
        ``sm_clock_mhz`` and ``power_w`` (means), ``power_capped`` (share of samples, 0 to 1),
        ``reasons`` (names, joined) and ``samples``; a mean is ``None`` without readings.
    """

    def mean(values: list[float | int | None]) -> float | None:
        known = [v for v in values if v is not None]
        return statistics.fmean(known) if known else None

    masks = [s.reasons for s in samples if s.reasons is not None]
    seen = sorted({name for mask in masks for name in event_reasons(mask)})
    return {
        "sm_clock_mhz": mean([s.sm_mhz for s in samples]),
        "power_w": mean([s.power_w for s in samples]),
        "power_capped": sum(m & 0x4 > 0 for m in masks) / len(masks) if masks else None,
        "reasons": ", ".join(seen) or "no sample",
        "samples": len(samples),
    }
