"""The book on paper: a small book of the real pages, built by Sphinx and printed by Chromium."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "print_book.py"
JUPYTER_BOOK = str(Path(sys.executable).with_name("jupyter-book"))
CONTENTS = """format: jb-book
root: book/welcome
parts:
  - caption: Chapters
    numbered: 1
    chapters:
      - file: notebooks/01-gpu-basics
      - file: book/glossary
      - file: book/references
"""


def tool(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, TOOL, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | environment,
    )


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> PdfReader:
    """A chapter, the first page and the glossary as a PDF."""
    book = tmp_path_factory.mktemp("book")
    for name in ("book", "notebooks", "labs", "src", "_config.yml"):
        (book / name).symlink_to(ROOT / name)
    (book / "_build").mkdir()
    (book / "_build" / "pyodide").symlink_to(ROOT / "_build" / "pyodide")
    (book / "_toc.yml").write_text(CONTENTS, encoding="utf-8")
    build = [JUPYTER_BOOK, "build", str(book), "--builder", "singlehtml"]
    done = subprocess.run(build, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    target = book / "book.pdf"
    done = tool(book / "_build" / "singlehtml", "--out", target)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"The book is in {target}: [\d.]+ MB, [1-9]\d* figures\.\n", done.stdout)
    # Nothing is left of the way there.
    assert not (book / "_build" / "singlehtml" / "print.html").exists()
    assert not target.with_suffix(".part").exists()
    return PdfReader(target)


def test_it_is_a_book_on_a4_with_its_pages_numbered(printed: PdfReader) -> None:
    assert printed.metadata is not None
    assert printed.metadata.title == "Machine Learning for Kubernetes Engineers"
    count = len(printed.pages)
    assert 20 < count < 80
    for number in (1, count // 2, count):
        page = printed.pages[number - 1]
        # 210 mm by 297 mm, in points of 1/72 inch.
        assert (page.mediabox.width, page.mediabox.height) == pytest.approx((595, 842), abs=1)
        assert f"{number} / {count}" in page.extract_text()


def test_figures_are_drawn_and_what_is_folded_is_open(printed: PdfReader) -> None:
    text = " ".join(" ".join(page.extract_text() for page in printed.pages).split())
    chapter = json.loads((ROOT / "notebooks" / "01-gpu-basics.ipynb").read_text(encoding="utf-8"))
    figures = [
        output["data"]["application/vnd.plotly.v1+json"]
        for cell in chapter["cells"]
        for output in cell.get("outputs", [])
        if "application/vnd.plotly.v1+json" in output.get("data", {})
    ]
    axes = {figure["layout"]["xaxis"]["title"]["text"] for figure in figures}
    assert len(axes) > 3
    assert [axis for axis in sorted(axes) if axis not in text] == []
    prose = "\n".join("".join(cell["source"]) for cell in chapter["cells"])
    answers = re.findall(r"```{dropdown} Answer\n(?:1\. )?`?(\w+(?: \w+){0,4})", prose)
    assert len(answers) > 2
    assert [answer for answer in answers if answer not in text] == []
    # The code that only draws stays folded, and has no line that invites to open it.
    assert "code cell source" not in text


def test_the_outline_and_the_links_lead_into_the_book(printed: PdfReader) -> None:
    titles: dict[str, int | None] = {}

    def collect(entries: list[Any]) -> None:
        for entry in entries:
            if isinstance(entry, list):
                collect(entry)
            else:
                titles[entry.title] = printed.get_destination_page_number(entry)

    collect(printed.outline)
    chapter, glossary = titles["1. Basics of GPU"], titles["2. Glossary"]
    assert chapter is not None and glossary is not None and chapter < glossary
    assert "Basics of GPU" in printed.pages[chapter].extract_text()
    inner = outer = 0
    for page in printed.pages:
        for note in page.get("/Annots") or []:
            action = note.get_object().get("/A", {}).get("/URI")
            inner += action is None
            outer += action is not None
            # The server that Chromium asked is gone.
            assert action is None or "127.0.0.1" not in action
    assert inner > 20
    assert outer > 0


def test_a_folder_without_the_book_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>nothing</p>", encoding="utf-8")
    done = tool(tmp_path, "--out", tmp_path / "book.pdf")
    assert done.returncode == 1
    assert done.stderr == (
        f"{tmp_path} is not the book as one page: it has 0 pages in its folders. "
        "Next: run `make pdf`, which builds it.\n"
    )
    assert not (tmp_path / "book.pdf").exists()


def test_without_a_browser_it_says_where_one_comes_from(tmp_path: Path) -> None:
    done = tool(tmp_path, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "There is no chromium-headless-shell on PATH. Next: run `make tools`" in done.stderr
