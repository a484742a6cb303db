"""How old what the book shows is, against one limit for each kind of fact.

Nothing here has a list of its own to keep. The dates are those that the data carry: the recordings,
the catalogue of GPUs, the matrix of drivers and toolkits, the playbook's versions and prices, and
the badges in the stored outputs of the chapters. Whether a stored *run* still holds is another
question: :mod:`mlk8s.course.freshness`.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mlk8s.course import canonical, chapters
from mlk8s.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType


class Kind(StrEnum):
    """What ages at one pace."""

    MEASUREMENT = "measurement"  # recorded or live, on a machine that is named
    FIGURE = "figure"  # read in a data sheet, a document or a listing
    VERSION = "version"  # what runs on what, and what the playbook installs
    PRICE = "price"


#: Days after which a fact of each kind has to be looked at again. They are decisions of the
#: editors. Every limit is here and nowhere else.
LIMITS: Mapping[Kind, int] = MappingProxyType(
    {Kind.MEASUREMENT: 365, Kind.FIGURE: 365, Kind.VERSION: 183, Kind.PRICE: 183}
)

#: What to do about an old fact of each kind.
REPAIRS: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.MEASUREMENT: "run `make record` on such a machine, or the script of benchmarks/ with "
        "--record; then `make update`.",
        Kind.FIGURE: "read the source again, and set the date where the figure stands.",
        Kind.VERSION: "read the sources again, and set `read` or `Checked` in the file.",
        Kind.PRICE: "look the price up again, and set its date in the file and in the chapter.",
    }
)

VERSIONS = "labs/ansible/versions.yml"

_LABEL = re.compile(r"^\[(live|recorded|spec) · (.+)\]$", re.MULTILINE)
_DAY = r"(\d{4}-\d{2}(?:-\d{2})?)"
_LAST = re.compile(rf"(?:(.*) · )?{_DAY}")  # what Provenance.label ends in
_READ = re.compile(rf"\bread {_DAY}\b")  # what a source says of itself


#: A day; a field named ``date`` hides the class of that name.
Day = date


@dataclass(frozen=True)
class Fact:
    """Something that was true on a day.

    Attributes:
        kind: which limit holds for it.
        what: the machine, the source, or the list that it stands in.
        date: the day of the measurement or of the look-up; the first of a month that is named
            without a day.
        places: the data file, and the pages that show it; paths from the root of the repository.
    """

    kind: Kind
    what: str
    date: Day
    places: tuple[str, ...]

    @property
    def due(self) -> Day:
        """The last day on which it is within its limit."""
        return self.date + timedelta(days=LIMITS[self.kind])

    def age(self, today: Day) -> int:
        """Days since its date."""
        return (today - self.date).days

    def is_over(self, today: Day) -> bool:
        """Whether it is older than its limit."""
        return today > self.due

    def as_json(self, today: Day) -> dict[str, Any]:
        """The fact as JSON values, for ``--json``."""
        return {
            "kind": self.kind,
            "what": self.what,
            "date": self.date.isoformat(),
            "age_days": self.age(today),
            "limit_days": LIMITS[self.kind],
            "due": self.due.isoformat(),
            "over": self.is_over(today),
            "places": list(self.places),
        }


@dataclass(frozen=True)
class Survey:
    """All dated facts, the first to pass its limit first, and the sources that name no date."""

    facts: tuple[Fact, ...]
    undated: tuple[str, ...]

    def over(self, today: date) -> list[Fact]:
        """The facts that are older than their limit."""
        return [fact for fact in self.facts if fact.is_over(today)]


@dataclass(frozen=True)
class _List:
    """A dated list of facts, and the names under which a badge shows one of them."""

    fact: Fact
    names: frozenset[str]


def survey(root: Path) -> Survey:
    """Read the dates of everything that the book shows.

    Args:
        root: the repository, with its folders ``notebooks`` and ``book``.

    Raises:
        UsageError: there is no folder ``notebooks`` in it, or a file has no date where it should.
        NotebookError: a notebook cannot be read.
        RecordingError: a recording is damaged.
    """
    notebooks = sorted((*root.glob("notebooks/*.ipynb"), *root.glob("book/*.ipynb")))
    if not notebooks:
        raise UsageError(
            f"There are no chapters in {root}: it has no notebooks/*.ipynb.",
            "run the command in the root of the repository, or name it with --root.",
        )
    known = lists(root)
    found = [each.fact for each in known]
    undated: dict[str, None] = {}
    for notebook in notebooks:
        facts, without = _read_page(notebook, root, known)
        found += facts
        undated |= dict.fromkeys(without)
    return Survey(tuple(_merged(found)), tuple(undated))


def on_page(notebook: Path, root: Path) -> list[Fact]:
    """The dated facts that the stored outputs of one page show, the first to pass its limit first.

    Args:
        notebook: the page's source.
        root: the repository.

    Raises:
        UsageError: a file of the repository has no date where it should.
        NotebookError: the notebook cannot be read.
        RecordingError: a recording is damaged.
    """
    facts, _ = _read_page(notebook, root, lists(root))
    return _merged(facts)


def note(facts: Iterable[Fact]) -> str:
    """What a page says once its facts are older than their limits, as HTML.

    It is hidden, and ``mlk8s.js`` shows what is due on the day of reading: a page that was
    published long ago is the one that needs it, and the build does not depend on the day.
    """
    items = "".join(
        f'<li data-due="{fact.due}" hidden>{html.escape(fact.what)}: {fact.kind} of {fact.date}; '
        f"the limit is {LIMITS[fact.kind]} days</li>"
        for fact in facts
    )
    if not items:
        return ""
    return (
        '<div class="admonition warning mlk8s-age" role="note" hidden>'
        '<p class="admonition-title">Older than its limit</p>'
        "<p>Hardware, drivers and prices have moved on since. Look these up, or measure them, "
        f"before you rely on them:</p><ul>{items}</ul></div>"
    )


def render(found: Survey, today: date) -> RenderableType:
    """The survey as a table for a terminal, with what to do about what is over its limit."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in ("days left", "of"):
        table.add_column(name, justify="right")
    for name in ("kind", "what", "date", "where"):
        table.add_column(name, overflow="fold", no_wrap=name == "date")
    for fact in found.facts:
        left, limit = LIMITS[fact.kind] - fact.age(today), LIMITS[fact.kind]
        # A page goes by its name, a data file by its path.
        where = ", ".join(
            place.split("/")[-1].removesuffix(".ipynb") if place.endswith(".ipynb") else place
            for place in fact.places
        )
        cells = (f"{left}", f"{limit}", fact.kind, fact.what, f"{fact.date}", where)
        style = "bold red" if fact.is_over(today) else ""
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return Group(table, *(Text(line) for line in _summary(found, today)))


def _summary(found: Survey, today: date) -> Iterator[str]:
    over = found.over(today)
    if over:
        yield f"{len(over)} of {len(found.facts)} facts are older than their limit."
        for kind in dict.fromkeys(fact.kind for fact in over):
            yield f"Next, for each {kind}: {REPAIRS[kind]}"
    elif found.facts:
        first = found.facts[0]
        yield (
            f"All {len(found.facts)} facts are within their limits. {first.due} is the last day of "
            f"the first: {first.what}."
        )
    if found.undated:
        yield (
            f"{len(found.undated)} sources name no day on which they were read; --json lists them."
        )


def _merged(facts: Iterable[Fact]) -> list[Fact]:
    """Each fact once, with all its places, ordered by the day on which it passes its limit."""
    places: dict[tuple[Kind, str, date], dict[str, None]] = {}
    for fact in facts:
        known = places.setdefault((fact.kind, fact.what, fact.date), {})
        known.update(dict.fromkeys(fact.places))
    merged = [Fact(*key, tuple(where)) for key, where in places.items()]
    return sorted(merged, key=lambda fact: (fact.due, fact.kind, fact.what))


def _read_page(notebook: Path, root: Path, lists: Sequence[_List]) -> tuple[list[Fact], list[str]]:
    """The facts that a page's badges show, and the sources among them without a date."""
    absolute, base = notebook.absolute(), root.absolute()
    page = (absolute.relative_to(base) if absolute.is_relative_to(base) else absolute).as_posix()
    facts, undated = [], []
    for origin, text in _labels(notebook):
        last = _LAST.fullmatch(text)
        read = None if last else _READ.search(text)
        name = (last[1] or "") if last else text
        day = _day(last[2]) if last else _day(read[1]) if read else None
        listed = [
            each.fact
            for each in lists
            # What was measured when the page ran is in no list. A badge that names the list itself
            # has the list's date.
            if origin != "live" and name in each.names and day in {each.fact.date, None}
        ]
        if listed:
            facts += [Fact(each.kind, each.what, each.date, (page,)) for each in listed]
        elif day:
            facts.append(Fact(_kind(origin, name), name or "no machine named", day, (page,)))
        else:
            undated.append(text)
    return facts, undated


def _labels(notebook: Path) -> Iterator[tuple[str, str]]:
    """Kind and rest of each badge in the stored outputs; a simulation has no age."""
    for cell in canonical.read(notebook).cells:
        for output in cell.get("outputs", []):
            for label in _LABEL.finditer(output.get("data", {}).get("text/plain", "")):
                yield label[1], label[2]


def _kind(origin: str, name: str) -> Kind:
    if origin != "spec":
        return Kind.MEASUREMENT
    return Kind.PRICE if re.search(r"\bprices?\b", name) else Kind.FIGURE


def _day(text: str) -> date:
    return date.fromisoformat(text if len(text) > len("2026-11") else f"{text}-01")


def lists(root: Path) -> list[_List]:
    """What the library and the repository carry a date of, with the names that badges give it."""
    return [*_package_lists(), *_repository_lists(root)]


def _list(kind: Kind, what: str, day: str, place: str, names: Iterable[str]) -> _List:
    return _List(Fact(kind, what, _day(day), (place,)), frozenset(names))


def _package_lists() -> Iterator[_List]:
    """What the library itself carries."""
    from mlk8s import recordings
    from mlk8s.gpu import catalogue, compatibility
    from mlk8s.gpu.mig import profiles

    for machine in recordings.names():
        place = f"src/mlk8s/recordings/{machine}"
        for run in recordings.load(machine).origins:
            if run.device and run.date:
                what = f"{run.device.name}, recording {machine}"
                yield _list(Kind.MEASUREMENT, what, run.date, place, [run.device.name])
    gpus = catalogue.entries()
    names = [gpu.name for gpu in gpus]
    place = "src/mlk8s/gpu/catalogue.json"
    yield _list(Kind.FIGURE, "catalogue of GPUs", gpus[0].read, place, names)
    tables = [geometry.provenance for geometry in profiles.known()]
    names = [table.source or "" for table in tables]
    place = "src/mlk8s/gpu/mig/profiles.json"
    yield _list(Kind.FIGURE, "tables of MIG profiles", tables[0].date or "", place, names)
    parts = [
        compatibility.provenance(part) for part in ("families", "toolkits", "ptx", "nvcc", "clang")
    ]
    names = [part.source or "" for part in parts]
    place = "src/mlk8s/gpu/compatibility.json"
    yield _list(Kind.VERSION, "drivers and toolkits", parts[0].date or "", place, names)


def _repository_lists(root: Path) -> Iterator[_List]:
    """What lies beside the library, where it does."""
    import yaml

    path = root / VERSIONS
    if path.is_file():
        checked = re.search(rf"Checked {_DAY}", path.read_text(encoding="utf-8"))
        if not checked:
            raise UsageError(
                f"{VERSIONS} does not say when its versions were checked.",
                "write `Checked YYYY-MM-DD` into the comment at its top.",
            )
        yield _list(Kind.VERSION, "what the playbook installs", checked[1], VERSIONS, [VERSIONS])
    path = root / chapters.PRICES
    if path.is_file():
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))["machine_prices"]
        place = chapters.PRICES.as_posix()
        yield _list(Kind.PRICE, "price of a GPU hour", listed["date"], place, [place])
    for path in sorted(root.glob("benchmarks/*.json")):
        origin = json.loads(path.read_text(encoding="utf-8"))["origin"]
        place = path.relative_to(root).as_posix()
        names = [origin.get("cpu", "")]
        yield _list(Kind.MEASUREMENT, place, origin["date"], place, names)
