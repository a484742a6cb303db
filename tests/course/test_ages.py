"""How old the book's facts are: read from its own data, judged on a day that the test chooses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from typer.testing import CliRunner

from mlk8s import cli, recordings
from mlk8s.course import ages
from mlk8s.course.ages import LIMITS, Fact, Kind
from mlk8s.errors import NotebookError, UsageError
from mlk8s.gpu import catalogue
from mlk8s.provenance import Device, Finding, Provenance, Table
from mlk8s.provenance import Kind as Origin

ROOT = Path(__file__).parents[2]
DAY = date(2027, 6, 1)


def page(root: Path, *shown: Finding | Table, name: str = "01-page") -> Path:
    """A notebook whose stored outputs are those objects, as a kernel writes them."""
    cells = [
        new_code_cell("", outputs=[new_output("execute_result", {"text/plain": repr(each)})])
        for each in shown
    ]
    path = root / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells), path)
    return path


def said(origin: Origin, day: str | None = None, **fields: Any) -> Finding:
    return Finding("A sentence.", Provenance(origin, "by hand", day, **fields))


def facts(found: Iterable[Fact]) -> list[tuple[Kind, str, str]]:
    return [(fact.kind, fact.what, fact.date.isoformat()) for fact in found]


# --- what a page shows --------------------------------------------------------------------------


def test_a_page_has_the_facts_of_its_badges(tmp_path: Path) -> None:
    device = Device("NVIDIA Z1", "z1")
    notebook = page(
        tmp_path,
        said(Origin.RECORDED, "2027-05-02", device=device),
        said(Origin.LIVE, "2027-05-03", device=Device("CPU · 2 threads", "cpu")),
        said(Origin.SPEC, "2027-05-04", source="a data sheet"),
        said(Origin.SPEC, source="a cloud's list price, read 2027-02-01"),
        said(Origin.SPEC, source="a table of a registry, read 2027-03"),
        said(Origin.SIMULATED),
        said(Origin.SPEC, source="a paper of 2019-05, section 3"),
    )
    assert sorted(facts(ages.on_page(notebook, tmp_path))) == [
        (Kind.FIGURE, "a data sheet", "2027-05-04"),
        (Kind.FIGURE, "a table of a registry, read 2027-03", "2027-03-01"),
        (Kind.MEASUREMENT, "CPU · 2 threads", "2027-05-03"),
        (Kind.MEASUREMENT, "NVIDIA Z1", "2027-05-02"),
        (Kind.PRICE, "a cloud's list price, read 2027-02-01", "2027-02-01"),
    ]


def test_a_table_has_the_facts_of_all_its_origins(tmp_path: Path) -> None:
    origins = [
        Provenance(Origin.SPEC, "read", day, source="sheet") for day in ("2027-01-01", "2027-01-02")
    ]
    notebook = page(
        tmp_path, Table([{"a": 1}], *origins), said(Origin.SPEC, "2027-01-01", source="sheet")
    )
    assert facts(ages.on_page(notebook, tmp_path)) == [
        (Kind.FIGURE, "sheet", "2027-01-01"),
        (Kind.FIGURE, "sheet", "2027-01-02"),
    ]


def test_a_badge_of_the_catalogue_is_the_catalogue(tmp_path: Path) -> None:
    gpu = catalogue.entries()[0]
    (fact,) = ages.on_page(page(tmp_path, Finding("It is fast.", gpu.provenance())), tmp_path)
    assert (fact.what, fact.date.isoformat()) == ("catalogue of GPUs", gpu.read)


def test_an_output_that_shows_an_older_edition_of_a_list_keeps_its_own_date(tmp_path: Path) -> None:
    name = catalogue.entries()[0].name
    notebook = page(tmp_path, said(Origin.SPEC, "2020-01-01", source=name))
    assert facts(ages.on_page(notebook, tmp_path)) == [(Kind.FIGURE, name, "2020-01-01")]


def test_what_a_page_measured_itself_is_no_stored_run_of_that_day(tmp_path: Path) -> None:
    place = {"date": "2027-05-02", "cpu": "CPU, 2 cores", "software": {}}
    for name in ("one", "two"):
        stored = tmp_path / "benchmarks" / f"{name}.json"
        stored.parent.mkdir(exist_ok=True)
        stored.write_text(json.dumps({"origin": place}), encoding="utf-8")
    device = Device("CPU, 2 cores", "cpu")
    shown = [said(origin, "2027-05-02", device=device) for origin in (Origin.LIVE, Origin.RECORDED)]
    assert sorted(facts(ages.on_page(page(tmp_path, *shown), tmp_path))) == [
        (Kind.MEASUREMENT, "CPU, 2 cores", "2027-05-02"),
        (Kind.MEASUREMENT, "benchmarks/one.json", "2027-05-02"),
        (Kind.MEASUREMENT, "benchmarks/two.json", "2027-05-02"),
    ]


def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    notebook = page(tmp_path)
    notebook.write_text("{", encoding="utf-8")
    with pytest.raises(NotebookError, match="01-page"):
        ages.on_page(notebook, tmp_path)


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(Kind))
def test_a_fact_is_over_on_the_day_after_its_limit(kind: Kind) -> None:
    fact = Fact(kind, "it", DAY, ("place",))
    last = DAY + timedelta(days=LIMITS[kind])
    assert (fact.due, fact.age(last), fact.is_over(last)) == (last, LIMITS[kind], False)
    assert fact.is_over(last + timedelta(days=1))


def test_every_kind_has_a_limit_and_a_repair() -> None:
    assert set(LIMITS) == set(ages.REPAIRS) == set(Kind)


# --- the whole book -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def book() -> ages.Survey:
    return ages.survey(ROOT)


def test_the_survey_has_all_that_carries_a_date(book: ages.Survey) -> None:
    places = {place for fact in book.facts for place in fact.places}
    assert places >= {
        "labs/ansible/versions.yml",
        "labs/ansible/paperspace/vars/prices.yml",
        "benchmarks/conformance.json",
        "benchmarks/embedded_cluster.json",
        "src/mlk8s/gpu/catalogue.json",
        "src/mlk8s/gpu/compatibility.json",
        "src/mlk8s/gpu/mig/profiles.json",
        *(f"src/mlk8s/recordings/{name}" for name in recordings.names()),
        *(path.relative_to(ROOT).as_posix() for path in ROOT.glob("notebooks/*.ipynb")),
    }
    days = {run.date for name in recordings.names() for run in recordings.load(name).origins}
    assert days == {
        fact.date.isoformat()
        for fact in book.facts
        if any(place.startswith("src/mlk8s/recordings/") for place in fact.places)
    }


def test_the_first_to_pass_its_limit_stands_first(book: ages.Survey) -> None:
    days = [fact.due for fact in book.facts]
    assert days == sorted(days)
    assert len(set(facts(book.facts))) == len(book.facts), "a fact is listed twice"


def test_versions_without_a_date_are_refused(tmp_path: Path) -> None:
    page(tmp_path)
    path = tmp_path / ages.VERSIONS
    path.parent.mkdir(parents=True)
    shutil.copy(ROOT / ages.VERSIONS, path)
    ages.survey(tmp_path)
    path.write_text(path.read_text().replace("Checked", "Written"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"versions\.yml .* Next: write `Checked"):
        ages.survey(tmp_path)


# --- the command --------------------------------------------------------------------------------


def fresh(*arguments: str) -> tuple[int, str]:
    # The console reads the environment's width when its module is imported.
    with patch.object(cli.console, "_width", 160):
        done = CliRunner().invoke(cli.app, ["fresh", *arguments])
    return done.exit_code, done.output


def at(day: date, root: Path) -> list[str]:
    return ["--today", day.isoformat(), "--root", str(root)]


@pytest.fixture
def old_and_new(tmp_path: Path) -> Path:
    """A repository with a price that is over its limit on the day, and a figure that is not."""
    page(
        tmp_path,
        said(Origin.SPEC, (DAY - timedelta(days=190)).isoformat(), source="list price [eu]"),
        said(Origin.SPEC, (DAY - timedelta(days=190)).isoformat(), source="data sheet"),
    )
    return tmp_path


def test_strict_fails_where_something_is_over_its_limit(old_and_new: Path) -> None:
    assert fresh(*at(DAY - timedelta(days=10), old_and_new), "--strict")[0] == 0
    assert fresh(*at(DAY, old_and_new))[0] == 0
    status, text = fresh(*at(DAY, old_and_new), "--strict")
    assert status == 1
    assert "older than their limit" in text
    assert ages.REPAIRS[Kind.PRICE].split(",")[0] in text


def test_the_table_names_the_fact_its_age_and_its_page(old_and_new: Path) -> None:
    _, text = fresh(*at(DAY, old_and_new))
    (row,) = [line for line in text.splitlines() if "list price [eu]" in line]
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    assert cells == ["-7", "183", "price", "list price [eu]", "2026-11-23", "01-page"]


def test_json_says_the_same(old_and_new: Path) -> None:
    status, text = fresh(*at(DAY, old_and_new), "--json")
    assert status == 0
    answer = json.loads(text)
    assert answer["today"] == DAY.isoformat()
    (price,) = [each for each in answer["facts"] if each["kind"] == "price"]
    assert price == {
        "kind": "price",
        "what": "list price [eu]",
        "date": "2026-11-23",
        "age_days": 190,
        "limit_days": 183,
        "due": "2027-05-25",
        "over": True,
        "places": ["notebooks/01-page.ipynb"],
    }


def test_a_folder_without_chapters_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no chapters .* Next: .*--root"):
        ages.survey(tmp_path)


# --- the note on a page -------------------------------------------------------------------------


def test_the_note_is_hidden_and_carries_the_last_day_of_each_fact() -> None:
    text = ages.note([Fact(Kind.PRICE, "a <price>", date(2026, 1, 1), ("x",))])
    assert 'role="note" hidden' in text
    assert '<li data-due="2026-07-03" hidden>a &lt;price&gt;: price of 2026-01-01' in text


def test_a_page_without_dates_has_no_note() -> None:
    assert ages.note([]) == ""
