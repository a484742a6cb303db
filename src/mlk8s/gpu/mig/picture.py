"""Layouts as a figure: one row for each, memory slices from left to right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlk8s.errors import UsageError
from mlk8s.gpu.mig.layout import Layout

if TYPE_CHECKING:
    from mlk8s.plots import Figure


def draw(layouts: Mapping[str, Layout], *, caption: str) -> Figure:
    """Draw layouts of one kind of GPU (imports plotly).

    Args:
        layouts: name of the row → layout, drawn from the top.
        caption: see :class:`~mlk8s.plots.Figure`.

    Raises:
        UsageError: there is no layout, or they are of GPUs that differ.
    """
    import plotly.graph_objects as go

    from mlk8s.plots import Figure

    geometries = {layout.geometry.id: layout.geometry for layout in layouts.values()}
    if len(geometries) != 1:
        raise UsageError(
            f"A picture shows layouts of one kind of GPU, and these are of {len(geometries)}.",
            "draw each kind by itself.",
        )
    (geometry,) = geometries.values()
    figure = go.Figure()
    for profile in geometry.profiles:
        placed = [
            (name, instance)
            for name, layout in layouts.items()
            for instance in layout.instances
            if instance.profile == profile
        ]
        # Those without an instance, too: so each profile has its color in every picture.
        figure.add_bar(
            name=profile.name,
            orientation="h",
            y=[name for name, _ in placed],
            base=[instance.start for _, instance in placed],
            x=[profile.size] * len(placed),
            text=[profile.name] * len(placed),
            textposition="inside",
            insidetextanchor="middle",
            hovertemplate=f"{profile.name} at slice %{{base}}<br>{profile.sm} SMs, "
            f"{profile.memory_gib} GiB<extra></extra>",
            marker={"line": {"width": 1}},
        )
    # Margins of its own: Plotly's would leave nothing of a figure of one row.
    figure.update_layout(
        barmode="overlay",
        showlegend=False,
        height=80 + 46 * len(layouts),
        margin={"t": 16, "b": 56},
    )
    figure.update_xaxes(
        title_text="memory slices",
        range=[0, geometry.memory_slices],
        tickvals=list(range(geometry.memory_slices + 1)),
    )
    figure.update_yaxes(
        type="category",
        categoryorder="array",
        categoryarray=list(layouts),
        autorange="reversed",
    )
    rows = "; ".join(f"{name}: {layout}" for name, layout in layouts.items())
    return Figure(
        figure,
        caption,
        alt=f"{geometry.memory_slices} memory slices from left to right. {rows}.",
        provenance=[geometry.provenance],
    )
