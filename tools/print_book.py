"""The whole book as one PDF: every figure drawn, links that work, an outline. `make pdf` runs it.

Sphinx writes the book as one page, and Chromium prints it. So the PDF has the look of the site, its
links lead to pages of the PDF, and its text can be searched and copied.
"""

from __future__ import annotations

import argparse
import html
import shutil
import sys
import threading
from pathlib import Path

from playwright.sync_api import Error, Page, sync_playwright

from mlk8s import __version__
from mlk8s.course.site import open_server
from mlk8s.errors import Mlk8sError, UsageError

ROOT = Path(__file__).parents[1]
TITLE = "Machine Learning for Kubernetes Engineers"
#: Of the size on a screen. A line of 79 characters of code then fits on A4.
SCALE = 0.76
#: A figure is drawn in half a second; all of them one after another on a slow machine.
LIMIT_MS = 300_000

_LINE = "width:100%;margin:0 15mm;font:7pt sans-serif;color:#565e6c;display:flex"
_FOOTER = (
    f'<div style="{_LINE};justify-content:space-between"><span>{html.escape(TITLE)}, '
    f"mlk8s {__version__}</span><span><span class=pageNumber></span> / "
    "<span class=totalPages></span></span></div>"
)


def one_page(folder: Path) -> Path:
    """The page that has the whole book, where the addresses in it lead somewhere.

    Sphinx names it after the first page of the book, in that page's folder. The addresses that it
    writes into it count from the folder above, and some name the page itself.

    Raises:
        UsageError: the folder has no such page.
    """
    pages = [path for path in folder.rglob("*.html") if path.parent != folder]
    pages = [path for path in pages if "_static" not in path.parts]
    if len(pages) != 1:
        raise UsageError(
            f"{folder} is not the book as one page: it has {len(pages)} pages in its folders.",
            "run `make pdf`, which builds it.",
        )
    itself = pages[0].relative_to(folder).as_posix()
    text = pages[0].read_text(encoding="utf-8").replace(f'href="{itself}#', 'href="#')
    copy = folder / "print.html"
    copy.write_text(text, encoding="utf-8")
    return copy


def draw(page: Page) -> int:
    """Make a loaded page ready for paper.

    Returns:
        How many figures were drawn.
    """
    page.emulate_media(media="print", color_scheme="light")
    # What is folded on a screen has to be open on paper. A badge says enough when it is closed.
    page.evaluate(
        "document.querySelectorAll('details:not(.mlk8s-badge):not(.hide)')"
        ".forEach((details) => { details.open = true; })"
    )
    page.evaluate("mlk8sDrawAll()")
    page.wait_for_function(
        "[...document.querySelectorAll('.mlk8s-plot')].every((box) => box.dataset.drawn === 'true')"
    )
    return page.locator(".mlk8s-plot").count()


def print_book(folder: Path, target: Path) -> int:
    """Print the book.

    Args:
        folder: the book as Sphinx's ``singlehtml`` writes it.
        target: the PDF; it appears when it is whole.

    Returns:
        How many figures are in it.

    Raises:
        UsageError: the folder has no book, or there is no Chromium.
        Mlk8sError: Chromium could not print it.
    """
    chromium = shutil.which("chromium-headless-shell")
    if chromium is None:
        raise UsageError(
            "There is no chromium-headless-shell on PATH.", "run `make tools`, which installs it."
        )
    source = one_page(folder)
    unfinished = target.with_suffix(".part")
    with open_server(folder, 0) as server, sync_playwright() as playwright:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
            )
            # As wide as the paper at this scale, so that figures are drawn for it.
            page = browser.new_page(viewport={"width": round(680 / SCALE), "height": 1000})
            page.set_default_timeout(LIMIT_MS)
            page.goto(f"http://127.0.0.1:{server.server_port}/{source.name}")
            figures = draw(page)
            page.pdf(
                path=unfinished,
                format="A4",
                scale=SCALE,
                outline=True,
                tagged=True,
                print_background=True,
                display_header_footer=True,
                header_template="<span></span>",
                footer_template=_FOOTER,
                margin={"top": "15mm", "bottom": "18mm", "left": "15mm", "right": "15mm"},
            )
            browser.close()
        except Error as error:
            raise Mlk8sError(
                f"Chromium could not print the book: {error.message}",
                f"look at the page itself: mlk8s serve --site {folder}.",
            ) from error
        finally:
            server.shutdown()
            thread.join()
            source.unlink()
    unfinished.replace(target)
    return figures


def main() -> int:
    """Print the book, say where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=ROOT / "_build" / "singlehtml", help="%(default)s"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "mlk8s.pdf", help="the PDF")
    arguments = parser.parse_args()
    try:
        figures = print_book(arguments.folder, arguments.out)
    except Mlk8sError as error:
        print(error, file=sys.stderr)
        return 1
    size = arguments.out.stat().st_size / 1e6
    print(f"The book is in {arguments.out}: {size:.1f} MB, {figures} figures.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
