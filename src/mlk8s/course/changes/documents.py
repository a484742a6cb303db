"""The outputs of a cell by kind: lines of text, tables, figures, images.

An output with several forms is taken in the one that says most: a Plotly figure, else the tables
and texts of its HTML, else its plain text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from mlk8s.course import canonical

# Not text of the page, or said elsewhere: the details behind a provenance badge repeat versions.
_SKIPPED = {"script", "style", "dl"}
_BLOCKS = {"p", "div", "li", "br", "pre", "summary", "details", "caption", "h1", "h2", "h3", "h4"}


@dataclass
class Grid:
    """A table as text: rows of cells, the first ``headers`` of them its head."""

    caption: str = ""
    rows: list[list[str]] = field(default_factory=list)
    headers: int = 0


class Document:
    """All outputs of a cell, by kind."""

    def __init__(self, outputs: Sequence[Any]) -> None:
        self.lines: list[str] = []
        self.tables: list[Grid] = []
        self.figures: list[Mapping[str, Any]] = []
        self.images: list[str] = []
        for output in outputs:
            if output["output_type"] == "stream":
                self._add(output["text"])
            elif output["output_type"] == "error":
                self._add(f"{output['ename']}: {output['evalue']}")
            else:
                self._data(output.get("data", {}))

    def _add(self, text: Any) -> None:
        joined = "".join(text) if isinstance(text, list) else str(text)
        self.lines += [line.rstrip() for line in joined.splitlines() if line.strip()]

    def _data(self, data: Mapping[str, Any]) -> None:
        if canonical.PLOTLY in data:
            self.figures.append(data[canonical.PLOTLY])
            return
        for kind, value in data.items():
            if kind.startswith("image/"):
                text = "".join(value) if isinstance(value, list) else str(value)
                self.images.append(f"{kind} {hashlib.sha256(text.encode()).hexdigest()[:12]}")
        if "text/html" in data:
            html = data["text/html"]
            parser = _Html()
            parser.feed("".join(html) if isinstance(html, list) else html)
            parser.close()
            self.tables += parser.tables
            self._add(parser.text)
        elif not any(kind.startswith("image/") for kind in data):
            for kind in ("text/markdown", "text/latex", "text/plain"):
                if kind in data:
                    self._add(data[kind])
                    return
            if "application/json" in data:
                self._add(json.dumps(data["application/json"], indent=1))


class _Html(HTMLParser):
    """Tables as grids, and the rest as lines of text."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[Grid] = []
        self.text = ""
        self._grid: Grid | None = None
        self._cell: list[str] | None = None
        self._caption = False
        self._skip = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a table, a row, a cell, a line."""
        if tag in _SKIPPED:
            self._skip += 1
        elif tag == "table":
            self._grid = Grid()
            self.tables.append(self._grid)
        elif self._grid is not None and tag == "tr":
            self._grid.rows.append([])
        elif self._grid is not None and tag in ("td", "th"):
            self._cell = []
        elif tag == "caption":
            self._caption = True
        elif self._cell is None and tag in _BLOCKS:
            self.text += "\n"

    def handle_endtag(self, tag: str) -> None:
        """End what was begun."""
        if tag in _SKIPPED:
            self._skip = max(0, self._skip - 1)
        elif tag == "table":
            self._grid = None
        elif self._grid is not None and tag in ("td", "th") and self._cell is not None:
            if not self._grid.rows:
                self._grid.rows.append([])
            self._grid.rows[-1].append(" ".join("".join(self._cell).split()))
            self._cell = None
        elif self._grid is not None and tag == "thead":
            self._grid.headers = len(self._grid.rows)
        elif tag == "caption":
            self._caption = False
        elif self._cell is None and tag in _BLOCKS:
            self.text += "\n"

    def handle_data(self, data: str) -> None:
        """Take text where it belongs."""
        if self._skip:
            return
        if self._caption and self._grid is not None:
            self._grid.caption += data
        elif self._cell is not None:
            self._cell.append(data)
        elif self._grid is None:
            self.text += data
