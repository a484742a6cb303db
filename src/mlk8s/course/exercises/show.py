"""What the exercises show: a page of a few parts, as HTML, for a terminal, as text and as JSON."""

from __future__ import annotations

import html
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

_BAR = 20
_COLUMNS = ("exercise", "title", "minutes", "needs", "tries", "hints", "state")


class Form(StrEnum):
    """How a part is meant."""

    MARKDOWN = "markdown"  # the exercise's own text
    PLAIN = "plain"  # what the engine or the cluster says: never read as markup
    CODE = "code"  # a file


@dataclass(frozen=True)
class Part:
    """A piece of a page.

    Attributes:
        title: above it; empty for none.
        language: of a file, for its colors.
    """

    form: Form
    text: str
    title: str = ""
    language: str = ""


@dataclass(frozen=True)
class Page:
    """What a command or a call answers.

    Attributes:
        heading: the first line.
        parts: what follows.
        facts: the same for a program.
        good: green heading, red heading, or neither.
    """

    heading: str
    parts: tuple[Part, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    good: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """The facts as JSON values."""
        return self.facts

    def __repr__(self) -> str:
        lines = [self.heading]
        for part in self.parts:
            text = textwrap.indent(part.text, "    ") if part.form is Form.CODE else part.text
            lines += ["", *([part.title] if part.title else []), text]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        mark = {True: "solved", False: "wrong", None: "open"}[self.good]
        out = [f"<p><strong>{html.escape(self.heading)}</strong></p>"]
        for part in self.parts:
            if part.title:
                out.append(f"<p><em>{html.escape(part.title)}</em></p>")
            out.append(_html(part))
        return f'<div class="mlk8s-exercise mlk8s-{mark}">{"".join(out)}</div>'

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        style = {True: "bold green", False: "bold red", None: "bold"}[self.good]
        out: list[RenderableType] = [Text(self.heading, style=style)]
        for part in self.parts:
            out += [Text(""), *([Text(part.title, style="bold")] if part.title else [])]
            out.append(_rich(part))
        return Group(*out)


def _html(part: Part) -> str:
    if part.form is Form.MARKDOWN:
        from markdown_it import MarkdownIt

        return str(MarkdownIt("commonmark", {"html": False}).enable("table").render(part.text))
    if part.form is Form.CODE:
        return f"<pre><code>{html.escape(part.text)}</code></pre>"
    return "".join(f"<p>{html.escape(line)}</p>" for line in part.text.splitlines() if line)


def _rich(part: Part) -> RenderableType:
    from rich.markdown import Markdown
    from rich.syntax import Syntax
    from rich.text import Text

    if part.form is Form.MARKDOWN:
        return Markdown(part.text)
    if part.form is Form.CODE:
        return Syntax(part.text, part.language or "text", background_color="default")
    return Text(part.text)


@dataclass(frozen=True)
class Overview:
    """All exercises, and how far the reader is.

    Attributes:
        rows: for each exercise the columns of the list.
    """

    rows: Sequence[dict[str, Any]]

    @property
    def solved(self) -> int:
        """How many are solved."""
        return sum(bool(row["solved"]) for row in self.rows)

    @property
    def text(self) -> str:
        """The progress in a line."""
        total = len(self.rows)
        full = _BAR * self.solved // total if total else 0
        bar = "█" * full + "░" * (_BAR - full)
        return f"{bar} {self.solved} of {total} solved"

    def as_json(self) -> list[dict[str, Any]]:
        """The rows as JSON values."""
        return [dict(row) for row in self.rows]

    def _cells(self) -> list[list[str]]:
        return [
            [str(row[name]) if row[name] not in (0, None) else "–" for name in _COLUMNS]
            for row in self.rows
        ]

    def __repr__(self) -> str:
        lines = [list(_COLUMNS), *self._cells()]
        widths = [max(len(line[i]) for line in lines) for i in range(len(_COLUMNS))]
        table = (
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )
        return "\n".join([*table, self.text])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>"
            for line in self._cells()
        )
        total = len(self.rows)
        return (
            f'<div class="mlk8s-table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
            f'</table><p><progress value="{self.solved}" max="{total or 1}"></progress> '
            f"{self.solved} of {total} solved</p></div>"
        )

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        # Where the terminal is narrow, what helps to choose stays.
        narrow = shutil.get_terminal_size().columns < 80
        shown = [
            i for i, name in enumerate(_COLUMNS) if not narrow or name not in ("tries", "hints")
        ]
        table = Table()
        for i in shown:
            table.add_column(_COLUMNS[i], overflow="fold")
        for line, row in zip(self._cells(), self.rows, strict=True):
            style = "green" if row["solved"] else ""
            table.add_row(*(Text(line[i], style=style) for i in shown))
        return Group(table, Text(self.text))
