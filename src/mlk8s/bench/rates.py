"""What measuring a matrix product gives: one product, and a search for the fastest.

Values and their tables; :mod:`mlk8s.bench.matmul` measures them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlk8s.bench import timing
from mlk8s.gpu import catalogue
from mlk8s.provenance import Provenance, Table


@dataclass(frozen=True)
class Matmul:
    """One measured product.

    Attributes:
        m, n, k: shape; A is (m, k), B is (k, n).
        dtype: one of :data:`mlk8s.bench.matmul.DTYPES`.
        data: ``random`` (normal) or ``zeros``.
        timing: how long a call took, and the clocks meanwhile.
        error: ‖C − C₆₄‖ / ‖C₆₄‖ over a corner of 64 × 64, C₆₄ computed in float64 from the same
            A and B.
        provenance: where it was measured.
    """

    m: int
    n: int
    k: int
    dtype: str
    data: str
    timing: timing.Timing
    error: float
    provenance: Provenance

    @property
    def flops(self) -> int:
        """Floating-point operations of one product: 2·m·n·k."""
        return 2 * self.m * self.n * self.k

    @property
    def tflops(self) -> float:
        """Rate, 10¹² operations a second, at the median time."""
        return self.flops / self.timing.median_ms * 1e-9

    def peak_tflops(self, at_observed_clock: bool = False) -> float | None:
        """The part's dense peak for this type, TFLOP/s; ``None`` for a CPU or an unknown part.

        Args:
            at_observed_clock: SM × FMA × 2 × the mean clock that was seen, in place of the
                vendor's figure.
        """
        device = self.provenance.device
        if device is None or device.part in ("cpu", "unknown"):
            return None
        entry = catalogue.get(device.part)
        dtype = self.dtype.removesuffix("-fast")
        if dtype not in entry.tflops:
            return None
        if at_observed_clock:
            clock = self.timing.sm_clock_mhz
            return None if clock is None else entry.peak_tflops(dtype, clock)
        return entry.dense_tflops(dtype)

    def row(self) -> dict[str, Any]:
        """The product as one row of a table."""
        peak = self.peak_tflops()
        t = self.timing
        return {
            "dtype": self.dtype,
            "shape": f"{self.m}×{self.n}×{self.k}",
            "data": self.data,
            "time [ms]": round(t.median_ms, 4),
            "TFLOP/s": round(self.tflops, 3),
            "of dense peak [%]": None if peak is None else round(100 * self.tflops / peak, 1),
            "SM clock [MHz]": None if t.sm_clock_mhz is None else round(t.sm_clock_mhz),
            "power [W]": None if t.power_w is None else round(t.power_w),
            "clocks limited by": t.reasons,
            "relative error": self.error,
            "flags": t.flags,
        }

    def figure_row(self, figure: str) -> dict[str, Any]:
        """The row under the name of a figure, with the share of time at the power cap.

        Args:
            figure: such as ``sustained``; figures of two names are not to be compared.
        """
        capped = self.timing.power_capped
        share = None if capped is None else round(100 * capped)
        return {"figure": figure, **self.row(), "power-capped [%]": share}

    def table(self) -> Table:
        """A one-row table with its provenance."""
        return Table(self.row(), self.provenance)

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


@dataclass(frozen=True)
class Search:
    """The fastest product that a search found, and the way to it.

    Attributes:
        best: the winner, measured again at the end, rested.
        trials: every shape tried, in order: ``m``, ``n``, ``k``, ``waves``, ``TFLOP/s``, ``at [s]``
            and ``stage`` (``candidate``, ``final`` or ``winner``).
        stopped: why it ended.
        seconds: how long it took, s.
    """

    best: Matmul
    trials: Table
    stopped: str
    seconds: float

    def table(self) -> Table:
        """The winner as one row, with the length of the search."""
        row = {
            **self.best.figure_row("peak-shape, rested"),
            "shapes tried": len(self.trials.where(stage="candidate")),
            "search [s]": round(self.seconds, 1),
            "stopped": self.stopped,
        }
        return Table(row, self.best.provenance)

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()
