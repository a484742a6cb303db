"""Changes of notebooks as HTML that stands alone, and as lines for a terminal."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mlk8s.course.changes import CellChange, NotebookChanges
from mlk8s.course.changes.outputs import Number, percent
from mlk8s.provenance import show

if TYPE_CHECKING:
    from rich.console import Console

# A page that lists every point of a long curve is read by nobody; the JSON has all.
_ROWS = 60
_OPEN = 12
_TERMINAL_ROWS = 5

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --bad: #b3261e; --good: #1b6e3c; --dim: #777; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --good: #7bd8a0; --dim: #999; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; margin: 1.8rem 0 .3rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .4rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .7rem .2rem 0; text-align: left;
  vertical-align: top; }
.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bad { color: var(--bad); } .good { color: var(--good); } .dim { color: var(--dim); }
pre, code { font: .85rem/1.45 ui-monospace, monospace; } pre { white-space: pre-wrap; margin: 0; }
del { color: var(--bad); } ins { color: var(--good); text-decoration: none; }
summary { cursor: pointer; }
"""


def page(title: str, body: str) -> str:
    """A whole page that needs no other file."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numeric: Iterable[int] = ()) -> str:
    """A table; cells are HTML, those of the ``numeric`` columns are set flush right."""
    right = set(numeric)

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=num' if i in right else ''}>{cell}</{tag}>"
            for i, cell in enumerate(row)
        )

    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    head = cells("th", [html.escape(name) for name in header])
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def changes_page(found: Sequence[NotebookChanges], old: str, new: str, at_least: float) -> str:
    """The page of ``mlk8s notebooks diff``.

    Args:
        found: the notebooks.
        old: what the version before is called.
        new: what the version after is called.
        at_least: relative change from which a number is shown, as a fraction.
    """
    rows = [
        (
            f'<a href="#{_anchor(each)}">{html.escape(each.name)}</a>'
            if each.cells
            else html.escape(each.name),
            html.escape(each.text(at_least)),
        )
        for each in found
    ]
    least = f" Numbers that changed by less than {at_least * 100:g} % are left out." * bool(
        at_least
    )
    intro = (
        f"<p>From {html.escape(old)} to {html.escape(new)}: stored outputs and sources, cell by "
        f"cell.{least}</p>"
    )
    parts = [
        f'<h2 id="{_anchor(each)}">{html.escape(each.name)}</h2>\n{fragment(each, at_least)}'
        for each in found
        if each.cells
    ]
    overview = table(("notebook", "what changed"), rows)
    return page("What changed in the notebooks", "\n".join([intro, overview, *parts]))


def _anchor(changes: NotebookChanges) -> str:
    return html.escape(changes.name.replace(" ", "-"), quote=True)


def fragment(changes: NotebookChanges, at_least: float = 0.0) -> str:
    """The changes of one notebook, cell by cell, as HTML for a page of :func:`page`."""
    return "\n".join(filter(None, (_cell(cell, at_least) for cell in changes.cells)))


def _cell(cell: CellChange, at_least: float) -> str:
    numbers = [number for number in cell.numbers if number.counts(at_least)]
    parts = []
    for group in dict.fromkeys(number.group for number in numbers):
        parts.append(_numbers(group, [n for n in numbers if n.group == group]))
    if cell.words:
        rows = [
            (
                html.escape(each.group),
                html.escape(each.where),
                f"<del>{html.escape(each.old)}</del>",
                f"<ins>{html.escape(each.new)}</ins>",
            )
            for each in cell.words[:_ROWS]
        ]
        parts.append(table(("text", "where", "old", "new"), rows) + _more(len(cell.words)))
    if cell.source:
        lines = "\n".join(
            f"<{tag}>{html.escape(line)}</{tag}>"
            for line in cell.source
            for tag in ["del" if line.startswith("-") else "ins"]
        )
        parts.append(f"<details><summary>source</summary><pre>{lines}</pre></details>")
    if not parts:
        return ""
    return f"<h3>{html.escape(_title(cell))}</h3>\n" + "\n".join(parts)


def _title(cell: CellChange) -> str:
    number = cell.new if cell.new is not None else cell.old
    moved = f" (was {cell.old})" if cell.old not in (None, number) else ""
    kind = "" if cell.kind == "changed" else f", {cell.kind}"
    kind += " (its output varies from run to run)" * cell.varies
    line = cell.first_line.lstrip("# ")
    return f"Cell {number}{moved}{kind}: {' › '.join(dict.fromkeys([cell.heading, line]))}"


def _numbers(group: str, numbers: Sequence[Number]) -> str:
    largest = max(numbers, key=lambda n: abs(n.relative) if n.relative is not None else -1.0)
    rows = [
        (
            html.escape(each.where),
            show(each.old),
            show(each.new),
            ("+" if each.absolute > 0 else "") + show(each.absolute),
            percent(each.relative),
        )
        for each in numbers[:_ROWS]
    ]
    shown = table(("where", "old", "new", "change", "relative"), rows, range(1, 5))
    several = "number" if len(numbers) == 1 else "numbers"
    text = f"{html.escape(group)}: {len(numbers):,} {several}, at most {percent(largest.relative)}"
    opened = " open" if len(numbers) <= _OPEN else ""
    more = _more(len(numbers))
    return f"<details{opened}><summary>{text}</summary>{shown}{more}</details>"


def _more(number: int) -> str:
    left = number - _ROWS
    return f'<p class="dim">and {left:,} more; the JSON has all</p>' if left > 0 else ""


def print_changes(found: Sequence[NotebookChanges], at_least: float, console: Console) -> None:
    """A line for each notebook, and the largest changes below it."""
    for each in found:
        _line(console, f"{each.name}: {each.text(at_least)}")
        numbers = [
            (cell, number)
            for cell in each.cells
            for number in cell.numbers
            if number.counts(at_least) and number.relative is not None
        ]
        numbers.sort(key=lambda pair: -abs(pair[1].relative or 0.0))
        for cell, number in numbers[:_TERMINAL_ROWS]:
            values = f"{show(number.old)} → {show(number.new)} ({percent(number.relative)})"
            _line(console, f"  cell {cell.new}, {number.group}, {number.where}: {values}")


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)
