"""Figures: what a reader needs who cannot see them, and what the chart is told to draw."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from html import unescape
from typing import Any

import pytest

from mlk8s import plots
from mlk8s.errors import UsageError
from mlk8s.provenance import Kind, Provenance, Scalar, Table

SPEC = Provenance(Kind.SPEC, "computed", "2026-05-01", source="a < b")
RATES = Table(
    [
        {"size": n, "rate [TFLOP/s]": 0.1 * n, "peak [TFLOP/s]": 60.0, "kind": kind}
        for kind in ("fp32", "bf16")
        for n in (64, 128, 256)
    ],
    SPEC,
)
TEXT: dict[str, Any] = {"caption": "The rate & the size.", "alt": "The rate rises with the size."}


def chart(figure: plots.Figure) -> dict[str, Any]:
    """The chart as a front end receives it."""
    value: dict[str, Any] = json.loads(json.dumps(figure.plotly.to_plotly_json()))
    return value


def shown(figure_code: str) -> list[dict[str, Any]]:
    """What a notebook's cell stores of a figure."""
    code = f"""
import json
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.display_pub = CapturingDisplayPublisher()
from mlk8s import plots
from mlk8s.provenance import Kind, Provenance, Table
table = Table([{{"x": 1, "y": 2.5}}, {{"x": 2, "y": 5}}], Provenance(Kind.SPEC, "computed"))
({figure_code})._ipython_display_()
print(json.dumps([o["data"] for o in shell.display_pub.outputs]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outputs: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return outputs


@pytest.mark.parametrize("missing", ["caption", "alt"])
def test_a_figure_needs_its_texts(missing: str) -> None:
    with pytest.raises(UsageError, match="lacks its caption, its alternative text"):
        plots.lines(RATES, "size", "rate [TFLOP/s]", **{**TEXT, missing: ""})


def test_a_figure_needs_its_provenance() -> None:
    with pytest.raises(UsageError, match="provenance"):
        plots.Figure(plots.bars(RATES, "kind", "size", **TEXT).plotly, "caption", "alt", [])


def test_caption_carries_the_badge_and_is_escaped() -> None:
    figure = plots.lines(RATES, "size", "rate [TFLOP/s]", **TEXT)
    page = figure.caption_html()
    assert "The rate &amp; the size." in page
    assert SPEC._repr_html_() in page
    assert repr(figure) == f"Figure: The rate & the size.\n{SPEC}"


def test_the_same_figure_has_the_same_id_and_another_one_another() -> None:
    def identify(**changed: str) -> Any:
        return chart(plots.lines(RATES, "size", "rate [TFLOP/s]", **{**TEXT, **changed}))

    first = identify()
    assert first == identify()
    meta = first["layout"]["meta"]
    assert meta["alt"] == TEXT["alt"]
    assert meta["id"].startswith("mlk8s-")
    others = [identify(caption="other"), identify(alt="other")]
    assert len({meta["id"], *(o["layout"]["meta"]["id"] for o in others)}) == 3


def test_axes_are_titled_with_their_units() -> None:
    layout = chart(plots.lines(RATES, "size", "rate [TFLOP/s]", **TEXT))["layout"]
    assert layout["xaxis"]["title"]["text"] == "size"
    assert layout["yaxis"]["title"]["text"] == "rate [TFLOP/s]"
    assert (layout["xaxis"]["type"], layout["yaxis"]["type"]) == ("linear", "linear")


def test_no_colors_of_its_own() -> None:
    layout = chart(plots.lines(RATES, "size", "rate [TFLOP/s]", **TEXT))["layout"]
    assert not any(word in json.dumps(layout) for word in ("color", "font"))


@pytest.mark.parametrize("log", ["", "x", "y", "xy"])
def test_logarithmic_axes(log: str) -> None:
    layout = chart(plots.lines(RATES, "size", "rate [TFLOP/s]", log=log, **TEXT))["layout"]
    for axis in "xy":
        assert layout[f"{axis}axis"]["type"] == ("log" if axis in log else "linear")


def test_curves_by_a_column() -> None:
    figure = chart(plots.lines(RATES, "size", "rate [TFLOP/s]", by="kind", **TEXT))
    assert [curve["name"] for curve in figure["data"]] == ["fp32", "bf16"]
    for curve in figure["data"]:
        assert list(curve["x"]) == [64, 128, 256]
        assert list(curve["y"]) == pytest.approx([6.4, 12.8, 25.6])
    assert figure["layout"]["showlegend"] is True


def test_curves_of_several_columns() -> None:
    columns = ["rate [TFLOP/s]", "peak [TFLOP/s]"]
    table = RATES.where(kind="fp32")
    figure = chart(plots.lines(table, "size", columns, y_title="TFLOP/s", step=True, **TEXT))
    assert [curve["name"] for curve in figure["data"]] == columns
    assert figure["layout"]["yaxis"]["title"]["text"] == "TFLOP/s"
    assert {curve["line"]["shape"] for curve in figure["data"]} == {"hv"}


def test_one_curve_has_no_legend() -> None:
    figure = chart(plots.lines(RATES.where(kind="fp32"), "size", "rate [TFLOP/s]", **TEXT))
    assert figure["layout"]["showlegend"] is False


@pytest.mark.parametrize(("log", "height"), [("", 60.0), ("x", 60.0), ("xy", math.log10(60))])
def test_reference_line_and_its_label_stand_at_the_same_height(log: str, height: float) -> None:
    figure = plots.lines(RATES, "size", "rate [TFLOP/s]", log=log, reference=(60, "peak"), **TEXT)
    layout = chart(figure)["layout"]
    (line,) = layout["shapes"]
    assert (line["y0"], line["y1"]) == (60, 60)
    (label,) = layout["annotations"]
    # Plotly's annotations on a logarithmic axis are placed by exponent, its shapes by value.
    assert (label["text"], label["y"]) == ("peak", pytest.approx(height))


def test_ticks_are_those_that_were_asked_for() -> None:
    figure = plots.lines(RATES, "size", "rate [TFLOP/s]", log="x", ticks=[64, 256], **TEXT)
    axis = chart(figure)["layout"]["xaxis"]
    assert (list(axis["tickvals"]), list(axis["ticktext"])) == ([64, 256], ["64", "256"])


def test_bars_with_marks_at_their_peaks() -> None:
    table = RATES.where(size=256)
    drawn = plots.bars(
        table, "kind", "rate [TFLOP/s]", reference="peak [TFLOP/s]", log=True, **TEXT
    )
    figure = chart(drawn)
    bars, marks = figure["data"]
    assert (bars["type"], list(bars["x"])) == ("bar", ["fp32", "bf16"])
    assert list(bars["y"]) == pytest.approx([25.6, 25.6])
    assert (marks["mode"], list(marks["y"]), marks["name"]) == (
        "markers",
        [60.0, 60.0],
        "peak [TFLOP/s]",
    )
    layout = figure["layout"]
    assert (layout["xaxis"]["type"], layout["yaxis"]["type"]) == ("category", "log")
    assert layout["showlegend"] is True
    plain = chart(plots.bars(table, "kind", "rate [TFLOP/s]", **TEXT))
    assert len(plain["data"]) == 1
    assert plain["layout"]["showlegend"] is False


def test_stacked_bars_are_laid_end_to_end_from_the_top() -> None:
    used = Table([{"node": "a", "small": 4, "free": 4}, {"node": "b", "small": 8, "free": 0}], SPEC)
    value = chart(plots.stacked(used, "node", ["small", "free"], x_title="GPUs", **TEXT))
    assert [(t["name"], t["orientation"], t["x"], t["y"]) for t in value["data"]] == [
        ("small", "h", [4, 8], ["a", "b"]),
        ("free", "h", [4, 0], ["a", "b"]),
    ]
    assert value["layout"]["barmode"] == "stack"
    assert value["layout"]["yaxis"]["autorange"] == "reversed"
    assert value["layout"]["xaxis"]["title"]["text"] == "GPUs"


def test_a_column_that_the_table_lacks_is_an_error() -> None:
    with pytest.raises(KeyError, match="speed"):
        plots.lines(RATES, "size", "speed", **TEXT)


def test_missing_readings_leave_a_gap() -> None:
    rows: list[dict[str, Scalar]] = [{"x": 1, "y": None}, {"x": 2, "y": 3}]
    figure = chart(plots.lines(Table(rows, SPEC), "x", "y", **TEXT))
    assert list(figure["data"][0]["y"]) == [None, 3]


def test_a_notebook_stores_the_chart_and_its_caption() -> None:
    code = 'plots.lines(table, "x", "y", caption="A <caption>.", alt="It rises.")'
    figure, caption = shown(code)
    drawn = figure["application/vnd.plotly.v1+json"]
    assert drawn["layout"]["meta"]["alt"] == "It rises."
    assert list(drawn["data"][0]["y"]) == [2.5, 5]
    assert figure["text/plain"] == "Figure: It rises."
    assert "A &lt;caption&gt;." in caption["text/html"]
    assert "A <caption>." in unescape(caption["text/html"])
    assert caption["text/plain"].startswith("Figure: A <caption>.\n[spec")


SAMPLES = Table(
    [
        {
            "time [s]": 0.1 * i,
            "power [W]": 100.0 + 50 * i,
            "SM clock [MHz]": 1980 - i,
            "temperature [°C]": 40 + i,
            "GPU-Util [%]": 100,
            "clocks limited by": "none",
        }
        for i in range(5)
    ],
    SPEC,
)


def test_telemetry_draws_each_reading_over_one_time_axis() -> None:
    figure = plots.telemetry(SAMPLES)
    drawn = chart(figure)["data"]
    assert [trace["name"] for trace in drawn] == list(plots.TELEMETRY)
    assert all(list(trace["x"]) == SAMPLES.column("time [s]") for trace in drawn)
    assert list(drawn[0]["y"]) == [100, 150, 200, 250, 300]
    assert "0.4 s" in figure.alt and "300 W" in figure.alt
    titles = [chart(figure)["layout"][f"yaxis{i}"]["title"]["text"] for i in ("", 2, 3, 4)]
    assert titles == list(plots.TELEMETRY)


def test_telemetry_of_something_else_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no samples of a GPU: the columns are size, rate"):
        plots.telemetry(RATES)
    with pytest.raises(UsageError, match="the columns are none"):
        plots.telemetry(Table([], SPEC))


def test_no_reference_line_where_the_figure_is_not_known() -> None:
    known = plots.lines(RATES, "size", "rate [TFLOP/s]", reference=(60.0, "peak"), **TEXT)
    unknown = plots.lines(RATES, "size", "rate [TFLOP/s]", reference=(None, "peak"), **TEXT)
    assert len(chart(known)["layout"]["shapes"]) == 1
    assert "shapes" not in chart(unknown)["layout"]


def test_parallel_coordinates_run_from_least_to_most() -> None:
    trials = Table(
        [
            {"lr": 0.001, "rank": 4, "loss": 3.0},
            {"lr": 0.01, "rank": 16, "loss": 1.0},
            {"lr": 0.1, "rank": 16, "loss": 2.0},
        ],
        SPEC,
    )
    figure = plots.parallel(trials, ["lr", "rank", "loss"], "loss", log=["lr"], **TEXT)
    drawn = chart(figure)
    assert [line["y"] for line in drawn["data"]] == [
        pytest.approx([0, 0, 1]),
        pytest.approx([0.5, 1, 0]),
        pytest.approx([1, 1, 0.5]),
    ]
    assert drawn["data"][0]["text"] == ["lr 0.001", "rank 4", "loss 3"]
    ends = [(note["x"], note["y"], note["text"]) for note in drawn["layout"]["annotations"]]
    assert ("lr", 0, "0.001") in ends and ("lr", 1, "0.1") in ends
    assert len({line["line"]["color"] for line in drawn["data"]}) == 3
