"""The built site behind a real server, and a real browser to open it in."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from mlk8s.course.site import open_server

BUILD = Path(__file__).parents[2] / "_build" / "html"

# Headless, and silent: a browser that looks for updates would count as a request of the page.
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The address of the built site, with a slash at its end."""
    if not (BUILD / "index.html").is_file():
        pytest.fail(f"There is no built site in {BUILD}. Next: run `make book`.", pytrace=False)
    with open_server(BUILD, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


# Of a module, not of the session: while it is open, Playwright keeps an event loop running, and
# other modules of the same worker run their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without the windows of a browser, which nobody would see: Debian's package."""
    path = shutil.which("chromium-headless-shell")
    if path is None:
        pytest.fail(
            "There is no chromium-headless-shell on PATH. Next: install it, or run `make test`."
        )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()
