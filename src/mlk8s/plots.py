"""Figures that say what they show: a Plotly chart, its caption, its alternative text, its badge.

Colors, fonts and the dark theme belong to the page (``book/_static/mlk8s.js``) or to the reader's
JupyterLab. A figure sets none, so that it is readable in both; :func:`parallel` alone colors its
lines, with two ends that stand out on either.
"""

from __future__ import annotations

import hashlib
import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlk8s.errors import UsageError
from mlk8s.provenance import Provenance, Table, badges, labels, show

if TYPE_CHECKING:
    import plotly.graph_objects as go


class Figure:
    """A Plotly figure with what a reader needs who cannot see it, or sees nothing else.

    Args:
        figure: the chart; its axes carry their units.
        caption: a sentence or two that can be read alone.
        alt: what the chart shows, for a screen reader.
        provenance: where its figures come from.

    Raises:
        UsageError: caption, alternative text or provenance is missing.
    """

    def __init__(
        self, figure: go.Figure, caption: str, alt: str, provenance: Sequence[Provenance]
    ) -> None:
        if not (caption and alt and provenance):
            raise UsageError(
                "A figure lacks its caption, its alternative text or its provenance.",
                "pass all three.",
            )
        self.plotly = figure
        self.caption = caption
        self.alt = alt
        self.provenance = tuple(dict.fromkeys(provenance))
        # A stable id, so that a notebook executed twice stores the same output.
        digest = hashlib.sha256((caption + alt).encode()).hexdigest()[:12]
        figure.update_layout(meta={"alt": alt, "id": f"mlk8s-{digest}"}, template="none")

    def __repr__(self) -> str:
        return "\n".join([f"Figure: {self.caption}", *labels(self.provenance)])

    def caption_html(self) -> str:
        """The caption with its badges."""
        origins = badges(self.provenance)
        return f'<div class="mlk8s-caption"><p>{html.escape(self.caption)}</p>{origins}</div>'

    def _ipython_display_(self) -> None:
        """Show the chart and its caption as two outputs: any one front end draws both."""
        from IPython.display import publish_display_data

        publish_display_data(
            {
                "application/vnd.plotly.v1+json": self.plotly.to_plotly_json() | {"config": {}},
                "text/plain": f"Figure: {self.alt}",
            }
        )
        publish_display_data({"text/html": self.caption_html(), "text/plain": repr(self)})


def lines(
    table: Table,
    x: str,
    y: str | Sequence[str],
    *,
    caption: str,
    alt: str,
    by: str | None = None,
    log: str = "",
    y_title: str | None = None,
    reference: tuple[float | None, str] | None = None,
    step: bool = False,
    ticks: Sequence[float] | None = None,
) -> Figure:
    """Curves of one table.

    Args:
        table: the data.
        x: column of the horizontal axis; its name, with its unit, is the axis title.
        y: column or columns of the vertical axis.
        caption: see :class:`Figure`.
        alt: see :class:`Figure`.
        by: a column that splits the rows into curves (with a single ``y``).
        log: the axes that are logarithmic, of ``x``, ``y``, ``xy``.
        y_title: vertical axis title, where several columns share it.
        reference: a horizontal line, its height and its label; none is drawn at ``None``.
        step: hold each value until the next one.
        ticks: where the horizontal axis has its labels.
    """
    import plotly.graph_objects as go

    columns = [y] if isinstance(y, str) else list(y)
    figure = go.Figure()
    shape = "hv" if step else "linear"
    groups = list(dict.fromkeys(table.column(by))) if by else [None]
    for group in groups:
        rows = [row for row in table if by is None or row[by] == group]
        for column in columns:
            figure.add_scatter(
                x=[row[x] for row in rows],
                y=[row[column] for row in rows],
                mode="lines" if len(rows) > 24 else "lines+markers",
                name=str(group) if by else column,
                line_shape=shape,
            )
    figure.update_layout(showlegend=len(figure.data) > 1)
    height, label = reference or (None, "")
    if height is not None:
        figure.add_hline(y=height, line_dash="dash", line_width=1.5)
        figure.add_annotation(
            x=1,
            xref="paper",
            xanchor="right",
            # Plotly wants the exponent where the axis is logarithmic, for annotations only.
            y=math.log10(height) if "y" in log else height,
            yanchor="bottom",
            text=label,
            showarrow=False,
        )
    figure.update_xaxes(title_text=x, type="log" if "x" in log else "linear")
    figure.update_yaxes(
        title_text=y_title or columns[0],
        type="log" if "y" in log else "linear",
        rangemode="tozero",
    )
    if ticks:
        figure.update_xaxes(tickvals=list(ticks), ticktext=[f"{t:g}" for t in ticks])
    return Figure(figure, caption, alt, table.provenance)


def bars(
    table: Table,
    x: str,
    y: str,
    *,
    caption: str,
    alt: str,
    reference: str | None = None,
    log: bool = False,
) -> Figure:
    """One bar a row.

    Args:
        table: the data.
        x: column with the names of the bars.
        y: column with their heights; its name, with its unit, is the axis title.
        caption: see :class:`Figure`.
        alt: see :class:`Figure`.
        reference: a column drawn as a mark on each bar, such as a theoretical peak.
        log: logarithmic heights.
    """
    import plotly.graph_objects as go

    names = [str(v) for v in table.column(x)]
    values: list[Any] = table.column(y)
    figure = go.Figure()
    figure.add_bar(x=names, y=values, name=y)
    if reference:
        figure.add_scatter(
            x=names,
            y=table.column(reference),
            mode="markers",
            # An open symbol takes the theme's color for its line.
            marker={"symbol": "line-ew-open", "size": 34, "line": {"width": 3}},
            name=reference,
        )
    figure.update_layout(showlegend=bool(reference))
    figure.update_xaxes(title_text=x, type="category")
    figure.update_yaxes(title_text=y, type="log" if log else "linear")
    return Figure(figure, caption, alt, table.provenance)


def stacked(
    table: Table, y: str, parts: Sequence[str], *, caption: str, alt: str, x_title: str
) -> Figure:
    """What each row is made of: one horizontal bar a row, its parts side by side.

    Args:
        table: the data.
        y: column with the names of the bars, drawn from the top.
        parts: columns with the lengths of their parts, all of one unit.
        caption: see :class:`Figure`.
        alt: see :class:`Figure`.
        x_title: what a length is, with its unit.
    """
    import plotly.graph_objects as go

    names = [str(v) for v in table.column(y)]
    figure = go.Figure()
    for part in parts:
        figure.add_bar(y=names, x=table.column(part), name=part, orientation="h")
    figure.update_layout(barmode="stack", showlegend=True)
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(type="category", autorange="reversed")
    return Figure(figure, caption, alt, table.provenance)


def parallel(
    table: Table,
    axes: Sequence[str],
    color: str,
    *,
    caption: str,
    alt: str,
    log: Sequence[str] = (),
) -> Figure:
    """Parallel coordinates: one line a row, one upright axis a column, each from least to most.

    Lines are blue where the coloring column is least, and orange where it is most.

    Args:
        table: the data; at least two rows.
        axes: columns, from left to right.
        color: the column that colors the lines.
        caption: see :class:`Figure`.
        alt: see :class:`Figure`.
        log: the columns whose axis is logarithmic.
    """
    import plotly.graph_objects as go
    from plotly.colors import sample_colorscale

    scaled = {name: _scaled(table.column(name), name in log) for name in {*axes, color}}
    figure = go.Figure()
    for index, row in enumerate(table):
        [line] = sample_colorscale(_BLUE_TO_ORANGE, [scaled[color][index]])
        figure.add_scatter(
            x=list(axes),
            y=[scaled[name][index] for name in axes],
            text=[f"{name} {show(row[name])}" for name in axes],
            hoverinfo="text",
            mode="lines+markers",
            line={"color": line},
        )
    for name in axes:
        values = table.column(name)
        for y, value, side in ((0, min(values), "top"), (1, max(values), "bottom")):
            text = show(float(f"{value:.3g}"))
            figure.add_annotation(x=name, y=y, text=text, showarrow=False, yanchor=side)
    figure.update_layout(showlegend=False)
    figure.update_xaxes(type="category", showgrid=True)
    figure.update_yaxes(visible=False, range=[-0.12, 1.12])
    return Figure(figure, caption, alt, table.provenance)


#: Both ends stand out from a light and from a dark page.
_BLUE_TO_ORANGE = [[0.0, "rgb(59, 125, 216)"], [1.0, "rgb(224, 112, 45)"]]


def _scaled(values: Sequence[float], log: bool) -> list[float]:
    """Values from 0 for the least to 1 for the most; 0.5 where all are equal."""
    places = [math.log10(value) for value in values] if log else list(values)
    low, high = min(places), max(places)
    return [(place - low) / (high - low) if high > low else 0.5 for place in places]


#: What :func:`telemetry` draws, top to bottom.
TELEMETRY = ("power [W]", "SM clock [MHz]", "temperature [°C]", "GPU-Util [%]")


def telemetry(table: Table) -> Figure:
    """The samples of ``gpu.watch``: power, clock, temperature and utilization over one time axis.

    Args:
        table: what ``watch.table()`` gives.

    Raises:
        UsageError: there is no sample, or the table is another one.
    """
    from plotly.subplots import make_subplots

    if not {"time [s]", *TELEMETRY} <= set(table.columns):
        raise UsageError(
            f"These are no samples of a GPU: the columns are {', '.join(table.columns) or 'none'}.",
            "pass what `watch.table()` gave, from a block that took at least one sample.",
        )
    figure = make_subplots(rows=len(TELEMETRY), shared_xaxes=True, vertical_spacing=0.05)
    for i, column in enumerate(TELEMETRY, 1):
        figure.add_scatter(
            x=table.column("time [s]"),
            y=table.column(column),
            mode="lines",
            name=column,
            row=i,
            col=1,
        )
        figure.update_yaxes(title_text=column, rangemode="tozero", row=i, col=1)
    figure.update_xaxes(title_text="time [s]", row=len(TELEMETRY), col=1)
    figure.update_layout(showlegend=False, height=640)
    power = [v for v in table.column("power [W]") if v is not None]
    peak = f", power at most {max(power):.0f} W" if power else ""
    return Figure(
        figure,
        caption="Power, clock, temperature and utilization while the block ran.",
        alt=f"Four curves over {table[-1]['time [s]']:.1f} s{peak}.",
        provenance=table.provenance,
    )
