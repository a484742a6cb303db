"""The roofline of this device: measured ceilings, and operations placed under them.

The model says that an operation takes the longer of two times, its FLOPs at the rate of the best
matrix product and its bytes at the rate of the best copy (Williams, Waterman and Patterson,
*Roofline*, Communications of the ACM 52(4), 2009), and never less than a launch. Here all three
ceilings are measured, in one run with the operations of :mod:`mlk8s.bench.operations`, so that
the model can be seen to hold or to fail.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlk8s import plots
from mlk8s.bench import flops
from mlk8s.bench.flops import Work
from mlk8s.bench.operations import default_dtype, evidence, operations
from mlk8s.gpu import catalogue
from mlk8s.provenance import Provenance, Scalar, Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["Ceilings", "Roofline", "ceilings", "measure", "operations"]

Row = Mapping[str, Any]

INTENSITY = "intensity [FLOP/B]"
#: Sizes are those of a data-center GPU; a processor takes a share of the work.
SCALE = {"cuda": 1.0, "cpu": 1 / 64}
#: Marker by what bounds an operation.
SYMBOLS = {"memory": "circle", "compute": "square", "launch": "diamond"}


@dataclass(frozen=True)
class Ceilings:
    """What a device reached at best.

    Attributes:
        dtype: ``bf16``, ``fp16``, ``tf32`` or ``fp32``.
        tflops: compute ceiling, TFLOP/s: the best of some large matrix products.
        gbs: memory ceiling, GB/s (10⁹ bytes): a large copy, bytes read and written.
        launch_us: launch floor, µs: an operation on one element, called back to back.
        provenance: where they were measured.
    """

    dtype: str
    tflops: float
    gbs: float
    launch_us: float
    provenance: Provenance

    @property
    def ridge(self) -> float:
        """The intensity at which compute and memory bind alike, FLOP/B."""
        return flops.ridge(self.tflops, self.gbs)

    def predicted_us(self, work: Work) -> float:
        """Predicted time, µs: the longest of compute, memory and launch."""
        return max(work.time_s(self.tflops, self.gbs) * 1e6, self.launch_us)

    def bound(self, work: Work) -> str:
        """Which ceiling decides: ``compute``, ``memory`` or ``launch``."""
        if work.time_s(self.tflops, self.gbs) * 1e6 <= self.launch_us:
            return "launch"
        return work.bound(self.tflops, self.gbs)

    def datasheet(self) -> tuple[float, float, Provenance] | None:
        """The vendor's dense peak, TFLOP/s, and bandwidth, GB/s, with their source.

        ``None`` for a processor, a part or type that the catalogue does not hold, and a MIG
        instance, which is a share of the part that the figures are for.
        """
        device = self.provenance.device
        if device is None or device.part in ("cpu", "unknown") or device.mig_mode == "enabled":
            return None
        part = catalogue.get(device.part)
        if self.dtype not in part.tflops or "memory_bandwidth_gbs" not in part.figures:
            return None
        return part.dense_tflops(self.dtype), part.memory_bandwidth_gbs, part.provenance()

    def table(self) -> Table:
        """The ceilings beside the datasheet's."""
        tflops, gbs, *source = self.datasheet() or (None, None)
        figures = {
            "compute [TFLOP/s]": (self.tflops, tflops),
            "memory [GB/s]": (self.gbs, gbs),
            "ridge [FLOP/B]": (self.ridge, flops.ridge(tflops, gbs) if tflops and gbs else None),
            "launch [µs]": (self.launch_us, None),
        }
        rows = [
            {
                "ceiling": name,
                "measured": found,
                "datasheet": paper,
                "measured of datasheet [%]": 100 * found / paper if paper else None,
            }
            for name, (found, paper) in figures.items()
        ]
        return Table(rows, self.provenance, *source, title=f"Ceilings, {self.dtype}")

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


@dataclass(frozen=True)
class Roofline:
    """Ceilings, and operations under them, of one run.

    Attributes:
        ceilings: what the device reached at best.
        evidence: what was measured, one row for each; see :func:`mlk8s.bench.operations.evidence`.
    """

    ceilings: Ceilings
    evidence: Table

    def table(self) -> Table:
        """Predicted against measured time.

        ``error [%]`` is (measured − predicted) / measured: positive where the operation was
        slower than the model says, negative where it beat a ceiling.
        """
        rows = [self._row(row) for row in self.evidence.where(role="operation")]
        error = _median_error(rows)
        return Table(
            rows,
            *self.evidence.provenance,
            title=f"Predicted and measured time, {self.ceilings.dtype}: median |error| "
            f"{error:.1f} % over {len(rows)} operations",
        )

    def _row(self, row: Mapping[str, Any]) -> dict[str, Scalar]:
        work = Work(row["operation"], row["FLOPs"], row["bytes"])
        predicted, time_us = self.ceilings.predicted_us(work), row["time [µs]"]
        return {
            "operation": work.name,
            "shape": row["shape"],
            "FLOPs": work.flops,
            "bytes": work.bytes,
            INTENSITY: work.intensity,
            "bound": self.ceilings.bound(work),
            "predicted [µs]": predicted,
            "measured [µs]": time_us,
            "error [%]": round(100 * (time_us - predicted) / time_us, 1),
            "TFLOP/s": work.flops / time_us * 1e-6,
            "GB/s": work.bytes / time_us * 1e-3,
            "flags": row["flags"],
        }

    @property
    def median_error(self) -> float:
        """Median over all operations of the absolute error, %."""
        return _median_error(self.table())

    def plot(self) -> plots.Figure:
        """The roofline as an interactive figure. An operation without FLOPs has no place on it."""
        import plotly.graph_objects as go

        rows: list[Row] = list(self.table())
        placed = sorted((row for row in rows if row["FLOPs"]), key=lambda row: row[INTENSITY])
        ridge, gbs, tflops = self.ceilings.ridge, self.ceilings.gbs, self.ceilings.tflops
        paper = self.ceilings.datasheet()
        low = min(placed[0][INTENSITY], ridge) / 3
        high = max(placed[-1][INTENSITY], ridge) * 8
        bottom = min(low * gbs * 1e-3, *(row["TFLOP/s"] for row in placed)) / 2
        top = max(tflops, paper[0] if paper else 0.0) * 5

        figure = go.Figure()
        _roof(figure, "measured roof", tflops, gbs, low, high, "solid")
        if paper:
            _roof(figure, "datasheet roof", paper[0], paper[1], low, high, "dash")
        for bound, symbol in SYMBOLS.items():
            _markers(figure, [row for row in placed if row["bound"] == bound], symbol)
        figure.add_vline(x=ridge, line_dash="dot", line_width=1)
        notes = [
            ("memory-bound", "right", "top"),
            ("compute-bound", "left", "top"),
            (f"ridge {ridge:.3g} FLOP/B", "left", "bottom"),
        ]
        for text, side, edge in notes:
            figure.add_annotation(
                # Plotly wants the exponent where an axis is logarithmic, for annotations only.
                x=math.log10(ridge),
                xanchor=side,
                xshift=4 if side == "left" else -4,
                y=1 if edge == "top" else 0,
                yref="paper",
                yanchor=edge,
                text=text,
                showarrow=False,
            )
        for update, title, ends in (
            (figure.update_xaxes, "arithmetic intensity [FLOP/B]", (low, high)),
            (figure.update_yaxes, "rate [TFLOP/s]", (bottom, top)),
        ):
            update(title_text=title, type="log", range=[math.log10(end) for end in ends])
        figure.update_layout(height=520)
        origins = [*self.evidence.provenance, *(paper[2:] if paper else ())]
        return plots.Figure(figure, *self._texts(rows, paper is not None), origins)

    def _texts(self, rows: list[Row], paper: bool) -> tuple[str, str]:
        """Caption and alternative text of the figure."""
        device = self.ceilings.provenance.device
        dtype, gbs, tflops = self.ceilings.dtype, self.ceilings.gbs, self.ceilings.tflops
        nowhere = [row["operation"] for row in rows if not row["FLOPs"]]
        caption = (
            f"Roofline of {device.name if device else 'this device'}, {dtype}: the measured roof "
            f"rises with {gbs:,.0f} GB/s up to {tflops:.4g} TFLOP/s"
            + (", the datasheet's is dashed" if paper else "")
            + ". Operations stand at their analytic intensity and measured rate; hovering shows "
            "their times."
            + (f" Without FLOPs, and so not shown: {', '.join(nowhere)}." if nowhere else "")
        )
        near = sum(abs(row["error [%]"]) <= 15 for row in rows)
        worst = max(rows, key=lambda row: abs(row["error [%]"]))
        alt = (
            f"Log-log chart of rate against arithmetic intensity. The roof rises to {tflops:.4g} "
            f"TFLOP/s at the ridge, {self.ceilings.ridge:.3g} FLOP/B, and is flat from there. "
            f"{near} of {len(rows)} operations are within 15 % of the predicted time; farthest "
            f"off is {worst['operation']}, {worst['error [%]']:+.0f} %."
        )
        return caption, alt

    def __repr__(self) -> str:
        return f"{self.ceilings!r}\n\n{self.table()!r}"

    def _repr_html_(self) -> str:
        return self.ceilings._repr_html_() + self.table()._repr_html_()


def ceilings(
    dtype: str | None = None, *, device: str = "cuda", min_time_s: float = 0.5
) -> Ceilings:
    """Measure what the device reaches at best: arithmetic, memory traffic, launches.

    Args:
        dtype: ``bf16``, ``fp16``, ``tf32`` or ``fp32``; by default ``bf16`` on a GPU and ``fp32``
            on a processor.
        device: ``cuda`` measures this machine's GPU or reads the recording, as ``MLK8S_GPU``
            says; ``cpu`` measures this machine's processor, always.
        min_time_s: least measured time for each, s.

    Raises:
        Mlk8sError: as :func:`mlk8s.bench.operations.evidence`.
    """
    kind = default_dtype(device) if dtype is None else dtype
    found = evidence(kind, device, scale=1.0, min_time_s=min_time_s, ceilings_only=True)
    return _ceilings(kind, found)


def measure(
    dtype: str | None = None,
    *,
    device: str = "cuda",
    scale: float | None = None,
    min_time_s: float = 0.3,
) -> Roofline:
    """Measure the ceilings and, in the same run, every operation.

    Args:
        dtype: see :func:`ceilings`.
        device: see :func:`ceilings`.
        scale: see :func:`operations`; by default 1 on a GPU and 1/64 on a processor.
        min_time_s: least measured time for each, s; warming up takes a second more.

    Raises:
        Mlk8sError: as :func:`mlk8s.bench.operations.evidence`.
    """
    kind = default_dtype(device) if dtype is None else dtype
    size = SCALE.get(device, 1.0) if scale is None else scale
    found = evidence(kind, device, scale=size, min_time_s=min_time_s)
    return Roofline(_ceilings(kind, found), found)


def _ceilings(dtype: str, found: Table) -> Ceilings:
    """The best of the rows that ceilings are made of."""
    rows: list[Row] = list(found)

    def best(role: str, count: str) -> float:
        rates: list[float] = [row[count] / row["time [µs]"] for row in rows if row["role"] == role]
        return max(rates)

    return Ceilings(
        dtype,
        tflops=best("compute", "FLOPs") * 1e-6,
        gbs=best("memory", "bytes") * 1e-3,
        launch_us=next(row["time [µs]"] for row in rows if row["role"] == "launch"),
        provenance=found.provenance[0],
    )


def _median_error(rows: Iterable[Row]) -> float:
    errors: list[float] = [abs(row["error [%]"]) for row in rows]
    return statistics.median(errors)


def _roof(
    figure: go.Figure, name: str, tflops: float, gbs: float, low: float, high: float, dash: str
) -> None:
    """Draw bandwidth × intensity, up to the compute ceiling."""
    figure.add_scatter(
        x=[low, flops.ridge(tflops, gbs), high],
        y=[low * gbs * 1e-3, tflops, tflops],
        mode="lines",
        line_dash=dash,
        name=name,
        hoverinfo="skip",
    )


def _markers(figure: go.Figure, rows: list[Row], symbol: str) -> None:
    """Draw the operations with one bound, named where there is room; hovering names all."""
    if not rows:
        return
    labels = _labels(rows)
    bound = rows[0]["bound"]
    figure.add_scatter(
        x=[row[INTENSITY] for row in rows],
        y=[row["TFLOP/s"] for row in rows],
        mode="markers+text",
        marker={"symbol": symbol, "size": 10},
        name=f"{bound}-bound operation",
        text=[row["operation"] if row["operation"] in labels else "" for row in rows],
        # Below the roof: to the right of its slope, under its flat part.
        textposition="bottom right" if bound == "memory" else "bottom center",
        hovertext=[_hover(row) for row in rows],
        hoverinfo="text",
    )


def _labels(rows: list[Row]) -> set[str]:
    """Operations far enough along the axis from the last named one for a name to fit."""
    names: set[str] = set()
    last = 0.0
    for row in rows:
        if row[INTENSITY] > 3 * last:
            names.add(row["operation"])
            last = row[INTENSITY]
    return names


def _hover(row: Row) -> str:
    return (
        f"<b>{row['operation']}</b>, {row['shape']}<br>"
        f"{row['FLOPs']:.4g} FLOPs, {row['bytes']:.4g} bytes, {row[INTENSITY]:.3g} FLOP/B<br>"
        f"predicted {row['predicted [µs]']:.4g} µs, bound by {row['bound']}<br>"
        f"measured {row['measured [µs]']:.4g} µs, error {row['error [%]']:+.1f} %<br>"
        f"{row['TFLOP/s']:.4g} TFLOP/s, {row['GB/s']:,.0f} GB/s"
    )
