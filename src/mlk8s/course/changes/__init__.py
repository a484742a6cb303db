"""What changed between two versions of a notebook, cell by cell and number by number.

Outputs are compared by what they say: a table by rows and columns, a Plotly figure by its series, a
text by its lines, in each the numbers one by one. nbdime, which compares the JSON, would show a
figure or an HTML table as one long line. :mod:`mlk8s.course.changes.page` shows the result,
:mod:`mlk8s.course.changes.versions` finds the two versions.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlk8s.course import canonical
from mlk8s.course.changes import outputs
from mlk8s.course.changes.outputs import Found, Number, Words

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["CellChange", "NotebookChanges", "Number", "Words", "compare", "whole"]

# How alike the sources of two cells with different ids have to be to count as one.
_ALIKE = 0.6


@dataclass(frozen=True)
class CellChange:
    """One cell that differs.

    Attributes:
        kind: ``changed``, ``added`` or ``removed``.
        old: its number in the old version (all kinds of cells count, from 1).
        new: its number in the new version.
        heading: the last heading above it.
        first_line: of its source.
        source: lines of the source that came (``+``) and went (``-``).
        numbers: of its outputs, that differ.
        words: what else of its outputs differs.
        varies: whether its output is expected to: it is tagged ``nbval-ignore-output``.
    """

    kind: str
    old: int | None
    new: int | None
    heading: str
    first_line: str
    source: tuple[str, ...] = ()
    numbers: tuple[Number, ...] = ()
    words: tuple[Words, ...] = ()
    varies: bool = False


@dataclass(frozen=True)
class NotebookChanges:
    """What differs in one notebook.

    Attributes:
        name: of the notebook.
        status: ``same``, ``changed``, ``added`` or ``removed``.
        cells: those that differ, in the order of the new version.
        compared: how many pairs of numbers were compared in outputs that both versions have.
    """

    name: str
    status: str
    cells: tuple[CellChange, ...] = ()
    compared: int = 0

    @property
    def numbers(self) -> list[Number]:
        """All numbers that differ."""
        return [number for cell in self.cells for number in cell.numbers]

    def text(self, at_least: float = 0.0) -> str:
        """The changes in one line.

        Args:
            at_least: relative change from which a number counts, as a fraction.
        """
        if self.status != "changed":
            return {"same": "no difference"}.get(self.status, f"the notebook was {self.status}")
        large = [number for number in self.numbers if number.counts(at_least)]
        parts = [f"{len(large):,} of {self.compared:,} numbers"]
        if known := [number for number in large if number.relative is not None]:
            largest = max(known, key=lambda number: abs(number.relative or 0.0))
            parts[0] += f" (at most {outputs.percent(largest.relative)})"
        parts += _counted(sum(len(cell.words) for cell in self.cells), "text", "texts")
        parts += _counted(sum(bool(cell.source) for cell in self.cells), "source", "sources")
        for kind in ("added", "removed"):
            several = sum(cell.kind == kind for cell in self.cells)
            parts += _counted(several, f"cell {kind}", f"cells {kind}")
        return ", ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, absolute and relative change with each number."""
        found = asdict(self)
        for cell, shown in zip(self.cells, found["cells"], strict=True):
            shown["numbers"] = [number.as_json() for number in cell.numbers]
        return found


def _counted(number: int, one: str, several: str) -> list[str]:
    return [f"{number:,} {one if number == 1 else several}"] if number else []


def whole(name: str, status: str) -> NotebookChanges:
    """A notebook that only one of the versions has; ``status`` is ``added`` or ``removed``."""
    return NotebookChanges(name, status)


def compare(old: NotebookNode, new: NotebookNode, name: str) -> NotebookChanges:
    """Compare two versions of a notebook with their stored outputs.

    Cells belong together by their ids, those that are left by their sources.

    Args:
        old: the version before.
        new: the version after.
        name: what the notebook is called in the report.
    """
    before, after = _cells(old), _cells(new)
    cells, compared = [], 0
    for first, second in _pairs(before, after):
        if first is None or second is None:
            if here := first or second:
                kind = "removed" if second is None else "added"
                sign = "-" if second is None else "+"
                lines = tuple(f"{sign} {line}" for line in here.source.splitlines())
                cells.append(_change(kind, first, second, source=lines))
            continue
        found = Found()
        outputs.compare(first.outputs, second.outputs, found)
        compared += found.compared
        source = _source(first.source, second.source)
        if source or found.numbers or found.words:
            numbers, words = tuple(found.numbers), tuple(found.words)
            cells.append(_change("changed", first, second, source, numbers, words))
    return NotebookChanges(name, "changed" if cells else "same", tuple(cells), compared)


@dataclass(frozen=True)
class _Cell:
    """A cell where it stands."""

    number: int
    id: str
    kind: str
    source: str
    heading: str
    outputs: Sequence[Any]
    varies: bool

    @property
    def first_line(self) -> str:
        return self.source.strip().partition("\n")[0]


def _cells(nb: NotebookNode) -> list[_Cell]:
    heading, fenced = "", False
    cells: list[_Cell] = []
    for cell in canonical.normalized(nb).cells:
        if canonical.is_injected(cell):
            continue
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                fenced ^= line.startswith("```")
                if line.startswith("#") and not fenced:
                    heading = line.lstrip("# ")
        number = len(cells) + 1
        found = cell.get("outputs", [])
        varies = "nbval-ignore-output" in cell.metadata.get("tags", [])
        cells.append(_Cell(number, cell.id, cell.cell_type, cell.source, heading, found, varies))
    return cells


def _pairs(
    before: Sequence[_Cell], after: Sequence[_Cell]
) -> Iterator[tuple[_Cell | None, _Cell | None]]:
    """Cells that belong together, in the new order; what was removed stands where it was."""
    ids = {cell.id: cell for cell in after}
    partner: dict[int, _Cell] = {}  # number in the old version → the new cell
    for cell in before:
        if (found := ids.get(cell.id)) and found.kind == cell.kind:
            partner[cell.number] = found
    taken = {cell.number for cell in partner.values()}
    free = [cell for cell in after if cell.number not in taken]
    for cell in before:
        if cell.number not in partner and (near := _nearest(cell, free)):
            partner[cell.number] = near
            free.remove(near)
    origin = {partner[c.number].number: c for c in before if c.number in partner}
    removed = [cell for cell in before if cell.number not in partner]
    for cell in after:
        old: _Cell | None = origin.get(cell.number)
        while old and removed and removed[0].number < old.number:
            yield removed.pop(0), None
        yield old, cell
    for cell in removed:
        yield cell, None


def _nearest(cell: _Cell, free: Sequence[_Cell]) -> _Cell | None:
    """The free cell with the same source, or else the one that is most like it."""
    best, found = _ALIKE, None
    for other in free:
        if other.kind != cell.kind:
            continue
        if other.source == cell.source:
            return other
        matcher = difflib.SequenceMatcher(None, cell.source, other.source, autojunk=False)
        if matcher.real_quick_ratio() > best and (ratio := matcher.ratio()) > best:
            best, found = ratio, other
    return found


def _source(old: str, new: str) -> tuple[str, ...]:
    """The lines that came and went."""
    if old == new:
        return ()
    lines = difflib.ndiff(old.splitlines(), new.splitlines())
    return tuple(line for line in lines if line[:2] in ("- ", "+ "))


def _change(
    kind: str,
    old: _Cell | None,
    new: _Cell | None,
    source: tuple[str, ...] = (),
    numbers: tuple[Number, ...] = (),
    words: tuple[Words, ...] = (),
) -> CellChange:
    shown = new or old
    assert shown is not None
    return CellChange(
        kind,
        old.number if old else None,
        new.number if new else None,
        shown.heading,
        shown.first_line,
        source,
        numbers,
        words,
        shown.varies,
    )
