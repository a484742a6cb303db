"""The stored outputs of a cell, compared by what they say: tables, figures, lines, numbers.

Pure functions on the JSON of nbformat, in the forms of :mod:`mlk8s.course.changes.documents`.
"""

from __future__ import annotations

import base64
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mlk8s.course.changes.documents import Document, Grid
from mlk8s.provenance import show

# Dates and versions are compared as words: their parts are no amounts.
_TOKEN = re.compile(
    r"(?P<word>\d{4}-\d\d-\d\d(?:[T ][\d:.]+Z?)?|\d+(?:\.\d+){2,})"
    r"|(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?"
)
_GAP = "\0"
_UNSEEN = {"template", "uirevision", "uid"}


@dataclass(frozen=True)
class Number:
    """A number that differs.

    Attributes:
        group: the part of the output: ``table 1``, ``figure 1, series 'read', y``, ``text``.
        where: the place in it: row and column, the x of a point, the line.
        old: the value before.
        new: the value after.
    """

    group: str
    where: str
    old: float
    new: float

    @property
    def absolute(self) -> float:
        """New minus old."""
        return self.new - self.old

    @property
    def relative(self) -> float | None:
        """The change over the old value, as a fraction; None where that was zero."""
        return self.absolute / abs(self.old) if self.old else None

    def counts(self, at_least: float) -> bool:
        """Whether it changed by this fraction or more; a change from zero always counts."""
        return self.relative is None or abs(self.relative) >= at_least

    def as_json(self) -> dict[str, Any]:
        """The same with absolute and relative change."""
        return asdict(self) | {"absolute": self.absolute, "relative": self.relative}


@dataclass(frozen=True)
class Words:
    """A text that differs; ``old`` or ``new`` is empty where it was added or removed."""

    group: str
    where: str
    old: str
    new: str


@dataclass
class Found:
    """What a comparison found.

    Attributes:
        compared: pairs of numbers, equal ones included.
    """

    numbers: list[Number] = field(default_factory=list)
    words: list[Words] = field(default_factory=list)
    compared: int = 0

    def number(self, group: str, where: str, old: float, new: float) -> None:
        """Compare two numbers."""
        self.compared += 1
        if old != new and not (old != old and new != new):  # a NaN is like a NaN
            self.numbers.append(Number(group, where, old, new))

    def word(self, group: str, where: str, old: str, new: str) -> None:
        """Compare two texts as they stand."""
        if old != new:
            self.words.append(Words(group, where, old, new))


def percent(relative: float | None) -> str:
    """A relative change for a reader: ``+3.2 %``; a multiple where it is large."""
    if relative is None:
        return "from 0"
    if abs(relative) >= 10:
        return f"{relative + 1:+,.0f} times"
    return f"{relative * 100:+.3g} %"


def compare(old: Sequence[Any], new: Sequence[Any], found: Found) -> None:
    """Compare the outputs of two versions of a cell.

    Args:
        old: outputs as nbformat has them.
        new: likewise.
        found: takes what differs.
    """
    before, after = Document(old), Document(new)
    _text("text", before.lines, after.lines, found)
    for number in range(max(len(before.tables), len(after.tables))):
        group = f"table {number + 1}"
        if number >= len(before.tables) or number >= len(after.tables):
            _one_sided(group, "table", number < len(before.tables), found)
        else:
            _table(group, before.tables[number], after.tables[number], found)
    for number in range(max(len(before.figures), len(after.figures))):
        group = f"figure {number + 1}"
        if number >= len(before.figures) or number >= len(after.figures):
            _one_sided(group, "figure", number < len(before.figures), found)
        else:
            _figure(group, before.figures[number], after.figures[number], found)
    for number in range(max(len(before.images), len(after.images))):
        group = f"image {number + 1}"
        if number >= len(before.images) or number >= len(after.images):
            _one_sided(group, "image", number < len(before.images), found)
        else:
            found.word(group, "pixels", before.images[number], after.images[number])


def _one_sided(group: str, what: str, was: bool, found: Found) -> None:
    found.word(group, what, "there" if was else "", "" if was else "there")


def _text(group: str, old: Sequence[str], new: Sequence[str], found: Found) -> None:
    """Compare lines: those that differ in numbers alone number by number, others as words."""
    matcher = difflib.SequenceMatcher(
        None, [_template(line) for line in old], [_template(line) for line in new], autojunk=False
    )
    for what, a, b, c, d in matcher.get_opcodes():
        pairs = max(b - a, d - c)
        for i in range(pairs):
            before = old[a + i] if a + i < b else ""
            after = new[c + i] if c + i < d else ""
            if what == "equal":
                _tokens(group, _shortened(after), before, after, found)
            else:
                found.word(group, "line", before, after)


def _template(line: str) -> str:
    return " ".join(_TOKEN.sub(_GAP, line).split())


def _tokens(group: str, where: str, old: str, new: str, found: Found) -> None:
    """Compare two texts that differ in numbers, dates and versions alone."""
    for before, after in zip(_TOKEN.finditer(old), _TOKEN.finditer(new), strict=True):
        if before["word"] or after["word"]:
            found.word(group, where, before[0], after[0])
        else:
            found.number(group, where, _value(before[0]), _value(after[0]))


def _value(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


def _shortened(text: str, width: int = 100) -> str:
    text = text.strip()
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _table(group: str, old: Grid, new: Grid, found: Found) -> None:
    """Compare two tables: columns by name, rows by their first cell where that names them."""
    caption = new.caption.strip()
    group = f"{group} ({_shortened(caption, 60)})" if caption else group
    found.word(group, "caption", old.caption.strip(), caption)
    columns = _columns(old), _columns(new)
    shared = [name for name in columns[1] if name in columns[0]]
    for name in [*columns[0], *columns[1]]:
        if name not in shared:
            was = name in columns[0]
            found.word(group, "column", name if was else "", "" if was else name)
    before, after = old.rows[old.headers :], new.rows[new.headers :]
    for label, first, second in _rows(before, after):
        if first is None or second is None:
            row = " · ".join(first or second or [])
            found.word(group, "row", row if second is None else "", "" if second is None else row)
            continue
        for name in shared:
            a, b = columns[0][name], columns[1][name]
            left, right = (row[i] if i < len(row) else "" for row, i in ((first, a), (second, b)))
            where = " · ".join(filter(None, [label, name.strip()]))
            if _template(left) == _template(right):
                _tokens(group, where, left, right, found)
            else:
                found.word(group, where, left, right)


def _columns(grid: Grid) -> dict[str, int]:
    """Column name → place; a table without a head, or with a name twice, numbers them."""
    head = grid.rows[grid.headers - 1] if grid.headers else []
    width = max((len(row) for row in grid.rows), default=0)
    names = [head[i] if i < len(head) else "" for i in range(width)]
    return {
        name if names.count(name) == 1 and name else f"{name} column {i + 1}": i
        for i, name in enumerate(names)
    }


def _rows(
    old: Sequence[list[str]], new: Sequence[list[str]]
) -> list[tuple[str, list[str] | None, list[str] | None]]:
    """Rows that belong together, with what to call them."""
    keys = [[row[0] if row else "" for row in rows] for rows in (old, new)]
    unique = all(len(set(each)) == len(each) for each in keys)
    shared = set(keys[0]) & set(keys[1])
    if unique and 2 * len(shared) >= max(len(old), len(new)):
        before = dict(zip(keys[0], old, strict=True))
        found = [(key, before.get(key), row) for key, row in zip(keys[1], new, strict=True)]
        return [*found, *((key, row, None) for key, row in before.items() if key not in shared)]
    return [
        (
            f"row {i + 1}",
            old[i] if i < len(old) else None,
            new[i] if i < len(new) else None,
        )
        for i in range(max(len(old), len(new)))
    ]


def _figure(group: str, old: Mapping[str, Any], new: Mapping[str, Any], found: Found) -> None:
    """Compare two Plotly figures: series by their names, arrays value by value, then the layout."""
    traces = [_traces(figure.get("data") or []) for figure in (old, new)]
    for name in dict.fromkeys([*traces[0], *traces[1]]):
        title = f"{group}, series {name}"
        before, after = traces[0].get(name), traces[1].get(name)
        if before is None or after is None:
            found.word(title, "series", "there" if after is None else "", "there" if after else "")
            continue
        labels = _labels(before.get("x")), _labels(after.get("x"))
        for key in dict.fromkeys([*before, *after]):
            if key not in _UNSEEN:
                values = _array(before.get(key)), _array(after.get(key))
                _walk(f"{title}, {key}", "", *values, labels, found)
    layouts = _layout(old), _layout(new)
    _walk(f"{group}, layout", "", *layouts, ([], []), found)


def _layout(figure: Mapping[str, Any]) -> dict[str, Any]:
    layout = figure.get("layout") or {}
    return {key: value for key, value in layout.items() if key not in _UNSEEN}


def _traces(data: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    names = [str(trace.get("name") or "") for trace in data]
    return {
        repr(name) if name and names.count(name) == 1 else f"{i + 1}": trace
        for i, (name, trace) in enumerate(zip(names, data, strict=True))
    }


def _labels(x: Any) -> list[str]:
    x = _array(x)
    return [show(value) for value in x] if isinstance(x, list) else []


def _array(value: Any) -> Any:
    """A value of a figure; an array that is stored as bytes as a list."""
    if isinstance(value, Mapping) and "bdata" in value:
        import numpy as np

        found = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
        if shape := value.get("shape"):
            sizes = [int(n) for n in (shape.split(",") if isinstance(shape, str) else [shape])]
            found = found.reshape(sizes)
        return found.tolist()
    return value


def _walk(
    group: str,
    where: str,
    old: Any,
    new: Any,
    labels: tuple[Sequence[str], Sequence[str]],
    found: Found,
) -> None:
    """Compare two JSON values; the items of an array by their labels where it has some."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            values = _array(old.get(key)), _array(new.get(key))
            _walk(group, f"{where}.{key}".lstrip("."), *values, labels, found)
    elif isinstance(old, list) and isinstance(new, list):
        for label, before, after in _items(old, new, labels):
            _walk(group, f"{where} {label}".strip(), before, after, ([], []), found)
    elif _is_number(old) and _is_number(new):
        found.number(group, where, float(old), float(new))
    elif isinstance(old, str) and isinstance(new, str) and _template(old) == _template(new):
        _tokens(group, where or _shortened(new), old, new, found)
    else:
        found.word(group, where, *("" if v is None else _shown(v) for v in (old, new)))


def _items(
    old: list[Any], new: list[Any], labels: tuple[Sequence[str], Sequence[str]]
) -> list[tuple[str, Any, Any]]:
    named = len(labels[0]) == len(old) and len(labels[1]) == len(new)
    if len(old) == len(new):
        names = labels[1] if named else [f"item {i + 1}" for i in range(len(new))]
        prefix = "x = " if named else ""
        return [(prefix + n, a, b) for n, a, b in zip(names, old, new, strict=True)]
    if named and all(len(set(each)) == len(each) for each in labels):
        values = [
            dict(zip(names, v, strict=True)) for names, v in zip(labels, (old, new), strict=True)
        ]
        both = dict.fromkeys([*labels[0], *labels[1]])
        return [(f"x = {name}", values[0].get(name), values[1].get(name)) for name in both]
    longest = max(len(old), len(new))
    padded = [each + [None] * (longest - len(each)) for each in (old, new)]
    return [(f"item {i + 1}", a, b) for i, (a, b) in enumerate(zip(*padded, strict=True))]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else _shortened(json.dumps(value), 200)
