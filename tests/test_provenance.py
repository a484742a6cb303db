"""Where a number comes from, and the table that shows it: on screen, in a notebook, as text."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser

import pytest
from rich.console import Console

from mlk8s.errors import UsageError
from mlk8s.provenance import Device, Finding, Kind, Provenance, Scalar, Table, show

H100 = Device("NVIDIA H100 80GB HBM3", "h100-sxm", "580.95.05", "13.0", 1980, 700.0, "disabled")
LIVE = Provenance(Kind.LIVE, "timed", "2026-05-01", H100, {"torch": "2.13.0", "numpy": "2.5.2"})
SPEC = Provenance(Kind.SPEC, "read", "2026-04-30", source="data sheet, page 3")
ROWS: list[dict[str, Scalar]] = [
    {"dtype": "fp32", "time [ms]": 21.489280, "calls": 1194, "steady": True, "error": None},
    {"dtype": "bf16", "time [ms]": 1.638943, "calls": 93, "steady": False, "error": 0.0},
]


class Cells(HTMLParser):
    """The text of a page's cells and captions, entities resolved."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.found: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        tag = self._open[-1] if self._open else ""
        self.found.setdefault(tag, []).append(data)
        if tag in ("th", "td"):
            self.rows[-1][-1] += data


def terminal(thing: object, width: int = 120) -> str:
    screen = io.StringIO()
    Console(file=screen, width=width, color_system=None).print(thing)
    return screen.getvalue()


# --- provenance ---------------------------------------------------------------------------------


def test_label_is_kind_device_and_date() -> None:
    assert LIVE.label == "live · NVIDIA H100 80GB HBM3 · 2026-05-01"
    assert str(LIVE) == f"[{LIVE.label}]"


def test_label_of_a_vendor_figure_names_the_source() -> None:
    assert SPEC.label == "spec · data sheet, page 3 · 2026-04-30"
    assert Provenance(Kind.SIMULATED, "computed").label == "simulated"


def test_details_hold_all_that_is_known_with_units() -> None:
    assert LIVE.details() == {
        "method": "timed",
        "name": "NVIDIA H100 80GB HBM3",
        "part": "h100-sxm",
        "driver": "580.95.05",
        "cuda": "13.0",
        "max sm clock": "1980 MHz",
        "power limit": "700.0 W",
        "mig mode": "disabled",
        "numpy": "2.5.2",
        "torch": "2.13.0",
    }


def test_details_leave_out_what_is_unknown() -> None:
    cpu = Provenance(Kind.LIVE, "timed", device=Device("x86_64 CPU", "cpu"))
    assert cpu.details() == {"method": "timed", "name": "x86_64 CPU", "part": "cpu"}
    assert SPEC.details() == {"method": "read", "source": "data sheet, page 3"}


def test_the_order_in_which_software_is_given_does_not_matter() -> None:
    software = {"numpy": "2.5.2", "torch": "2.13.0"}
    other = Provenance(Kind.LIVE, "timed", "2026-05-01", H100, software)
    assert other == LIVE
    assert len({LIVE, other, SPEC}) == 2


def test_provenance_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        LIVE.kind = Kind.RECORDED  # type: ignore[misc]


def test_badge_shows_the_label_and_opens_to_the_details() -> None:
    page = Cells(LIVE._repr_html_())
    assert page.found["summary"] == [LIVE.label]
    assert dict(zip(page.found["dt"], page.found["dd"], strict=True)) == LIVE.details()
    assert "mlk8s-live" in LIVE._repr_html_()


def test_badge_escapes_what_a_device_or_a_method_says() -> None:
    hostile = Provenance(
        Kind.LIVE, "a<b & c>d", device=Device("<script>alert(1)</script>", "x"), source='"><b>'
    )
    page = hostile._repr_html_()
    assert "<script" not in page and "<b>" not in page
    found = Cells(page).found
    assert found["summary"] == ["live · <script>alert(1)</script>"]
    assert found["dd"] == list(hostile.details().values())


def test_as_json_is_json() -> None:
    value = json.loads(json.dumps(LIVE.as_json()))
    assert value["kind"] == "live"
    assert value["software"] == {"numpy": "2.5.2", "torch": "2.13.0"}
    assert value["device"]["power_limit_w"] == 700.0


# --- tables -------------------------------------------------------------------------------------


def test_a_table_needs_a_provenance() -> None:
    with pytest.raises(UsageError, match=r"\['a'\].*says nothing about where"):
        Table([{"a": 1}])
    with pytest.raises(UsageError, match="'Rates' says nothing"):
        Table([], title="Rates")


@pytest.mark.parametrize("second", [{"a": 1}, {"a": 1, "c": 2}, {"b": 2, "a": 1}, {}])
def test_rows_have_the_same_columns_in_the_same_order(second: dict[str, Scalar]) -> None:
    with pytest.raises(UsageError, match=r"the first row has \['a', 'b'\]") as caught:
        Table([{"a": 1, "b": 2}, second], LIVE)
    assert str(list(second)) in caught.value.problem


def test_a_table_is_a_sequence_of_rows() -> None:
    table = Table(ROWS, LIVE)
    assert len(table) == 2
    assert [dict(row) for row in table] == ROWS
    assert dict(table[1]) == ROWS[1]
    assert table.columns == list(ROWS[0])
    assert table.column("dtype") == ["fp32", "bf16"]


def test_one_mapping_is_a_table_of_one_row() -> None:
    assert Table(ROWS[0], LIVE) == Table(ROWS[:1], LIVE)


def test_an_empty_table_is_no_error() -> None:
    table = Table([], LIVE, title="Nothing")
    assert (len(table), table.columns) == (0, [])
    assert repr(table).splitlines()[0] == "Nothing"
    assert Cells(table._repr_html_()).found["caption"] == ["Nothing"]


def test_what_is_done_to_the_rows_does_not_reach_the_table() -> None:
    rows = [dict(row) for row in ROWS]
    table = Table(rows, LIVE)
    rows[0]["dtype"] = "changed"
    rows.append(ROWS[0])
    table.column("dtype")[0] = "changed"
    table.columns.append("more")
    assert table == Table(ROWS, LIVE)
    with pytest.raises(TypeError):
        table[0]["dtype"] = "changed"
    with pytest.raises(TypeError):
        next(iter(table))["dtype"] = "changed"  # type: ignore[index]
    with pytest.raises(TypeError):
        table[0] = ROWS[1]  # type: ignore[index]


def test_equality_is_by_rows_and_agrees_with_the_hash() -> None:
    table = Table(ROWS, LIVE, title="one")
    same = Table(ROWS, SPEC, title="two")
    assert table == same
    assert hash(table) == hash(same)
    assert table != Table(ROWS[:1], LIVE)
    assert table != ROWS
    turned = Table([dict(reversed(row.items())) for row in ROWS], LIVE)
    assert (turned == table) <= (hash(turned) == hash(table))


def test_where_and_select_keep_the_provenance() -> None:
    table = Table(ROWS, LIVE, title="Rates")
    kept = table.where(dtype="bf16")
    assert [dict(row) for row in kept] == ROWS[1:]
    assert (kept.provenance, kept.title) == ((LIVE,), "Rates")
    chosen = table.select("calls", "dtype", title="Calls")
    assert chosen.columns == ["calls", "dtype"]
    assert (chosen.provenance, chosen.title) == ((LIVE,), "Calls")


def test_the_same_provenance_is_shown_once() -> None:
    again = Provenance(LIVE.kind, LIVE.method, LIVE.date, LIVE.device, LIVE.software)
    table = Table(ROWS, LIVE, again, SPEC)
    assert table.provenance == (LIVE, SPEC)
    assert repr(table).count(LIVE.label) == 1


def test_frame_has_the_same_values() -> None:
    frame = Table(ROWS, LIVE).frame()
    assert list(frame.columns) == list(ROWS[0])
    assert frame["time [ms]"].tolist() == [21.489280, 1.638943]


def test_text_html_and_terminal_say_the_same() -> None:
    table = Table(ROWS, LIVE, SPEC, title="Rates")
    page = Cells(table._repr_html_())
    assert page.rows[0] == list(ROWS[0])
    assert page.rows[1] == ["fp32", "21.49", "1,194", "yes", "–"]
    assert page.rows[2] == ["bf16", "1.639", "93", "no", "0"]
    assert page.found["caption"] == ["Rates"]
    assert page.found["summary"] == [LIVE.label, SPEC.label]
    text = repr(table).splitlines()
    assert text[0] == "Rates"
    assert [line.split() for line in text[2:4]] == page.rows[1:]
    assert text[4:] == [str(LIVE), str(SPEC)]
    screen = terminal(table)
    for word in [*page.rows[0], *page.rows[1], *page.rows[2], "Rates", str(LIVE), str(SPEC)]:
        assert word in screen


def test_figures_are_set_flush_right() -> None:
    lines = repr(Table(ROWS, LIVE).select("dtype", "calls")).splitlines()
    assert lines[:3] == ["dtype  calls", "fp32   1,194", "bf16      93"]
    page = Table(ROWS, LIVE)._repr_html_()
    assert "<td class=num>1,194</td>" in page
    assert "<td>fp32</td>" in page
    # A sentence that starts with a figure is no figure; one with its unit is.
    said = Table({"said": "0/4 nodes are available: 4 Insufficient cpu.", "rate": "3.1 TB/s"}, LIVE)
    assert "<td>0/4 nodes" in said._repr_html_()
    assert "<td class=num>3.1 TB/s</td>" in said._repr_html_()


def test_markup_in_values_stays_text() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    table = Table({hostile: "a & b", "[bold]c": "[red]d[/red]"}, LIVE, title=f"[i]{hostile}")
    page = table._repr_html_()
    assert "<img" not in page
    assert Cells(page).rows == [[hostile, "[bold]c"], ["a & b", "[red]d[/red]"]]
    assert Cells(page).found["caption"] == [f"[i]{hostile}"]
    screen = terminal(table)
    for word in ("[bold]c", "[red]d[/red]", f"[i]{hostile}"):
        assert word in screen


def test_one_wide_row_is_turned_on_its_side() -> None:
    row: dict[str, Scalar] = {f"column {i}": i * 1000 for i in range(7)}
    table = Table(row, LIVE)
    expected = [["field", "value"], *([name, f"{value:,}"] for name, value in row.items())]
    assert Cells(table._repr_html_()).rows == expected
    assert repr(table).splitlines()[7] == "column 6  6,000"
    assert "column 6" in terminal(table, width=40)
    # Two rows, or a narrow one, stay as they are.
    assert len(Cells(Table([row, row], LIVE)._repr_html_()).rows[0]) == 7
    row.pop("column 6")
    assert len(Cells(Table(row, LIVE)._repr_html_()).rows[0]) == 6


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (1234567, "1,234,567"),
        (0.0, "0"),
        (-1.23456, "-1.235"),
        (0.000123456, "0.0001235"),
        (989.4321, "989.4"),
        (12345.6, "12,346"),
        ("not supported", "not supported"),
    ],
)
def test_values_as_a_reader_wants_them(value: Scalar, text: str) -> None:
    assert show(value) == text


# --- findings -----------------------------------------------------------------------------------


def test_a_finding_is_a_sentence_with_its_source() -> None:
    finding = Finding("Rates of < 3 & more.", LIVE, LIVE)
    assert repr(finding) == f"Rates of < 3 & more.\n{LIVE}"
    page = Cells(finding._repr_html_())
    assert page.found["p"] == ["Rates of < 3 & more."]
    assert page.found["summary"] == [LIVE.label]


def test_a_finding_without_a_source_is_refused() -> None:
    with pytest.raises(UsageError, match="'It is fast'… has no source"):
        Finding("It is fast")
