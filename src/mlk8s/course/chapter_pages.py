"""Directives that write the pages on paths and cost from ``chapters.yaml``.

``{course-path} NAME`` is one path, ``{course-paths}`` the list of all, ``{course-cost}`` what live
runs cost. A chapter's title is that of its notebook.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from mlk8s.course import chapters
from mlk8s.errors import Mlk8sError

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class _Directive(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        """Parse what :meth:`write` says as part of the page."""
        for path in (Path(chapters.__file__).with_name("chapters.yaml"), Path(chapters.__file__)):
            self.env.note_dependency(str(path))
        try:
            text = self.write(Path(self.env.srcdir))
        except Mlk8sError as error:
            raise self.error(str(error)) from error
        return self.parse_text_to_nodes(text)

    def write(self, root: Path) -> str:
        """The page's part as Markdown."""
        raise NotImplementedError

    def titles(self, root: Path) -> dict[int, str]:
        """The chapters' titles, by number."""
        found = {}
        for chapter in chapters.course()[0].values():
            path = root / "notebooks" / f"{chapter.file}.ipynb"
            self.env.note_dependency(str(path))
            # The first heading of its first cell; no need to parse all of its outputs.
            heading = re.search(r'^\s*"# (.+?)(?:\\n)?",?$', path.read_text("utf-8"), re.MULTILINE)
            found[chapter.number] = heading[1] if heading else chapter.file
        return found

    def price(self, root: Path) -> chapters.Price:
        """Of a GPU hour."""
        self.env.note_dependency(str(root / chapters.PRICES))
        return chapters.price(root)


class CoursePathDirective(_Directive):
    """``{course-path} NAME``: the steps of a path, and what they take together."""

    required_arguments = 1

    def write(self, root: Path) -> str:
        """The table of one path."""
        (name,) = self.arguments
        paths = chapters.course()[1]
        if name not in paths:
            raise self.error(f"There is no path {name!r}. Next: take one of {', '.join(paths)}.")
        return chapters.path_table(name, self.titles(root), self.price(root))


class CoursePaths(_Directive):
    """``{course-paths}``: all paths, with links to their pages."""

    def write(self, root: Path) -> str:
        """The table of paths."""
        return chapters.paths_table()


class CourseCost(_Directive):
    """``{course-cost}``: each chapter's live run, its price, and what it makes."""

    def write(self, root: Path) -> str:
        """The table of cost."""
        return chapters.cost_table(self.titles(root), self.price(root))


def setup(app: Sphinx) -> None:
    """Register the directives with Sphinx."""
    app.add_directive("course-path", CoursePathDirective)
    app.add_directive("course-paths", CoursePaths)
    app.add_directive("course-cost", CourseCost)
