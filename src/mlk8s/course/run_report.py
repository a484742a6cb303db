"""What ``mlk8s run --on kubernetes`` says at its end: a page, the same as JSON, and a table."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlk8s
from mlk8s.course import canonical
from mlk8s.course.changes import NotebookChanges, page

if TYPE_CHECKING:
    from rich.console import Console

    from mlk8s.cluster import Connection

PASSED, FAILED = "passed", "failed"


@dataclass(frozen=True)
class ChapterResult:
    """One chapter of a run in a cluster.

    Attributes:
        chapter: file name without ``.ipynb``.
        notebook: the source.
        error: why it failed, with the next step; empty where it passed.
        seconds: from the submission to the Job's end.
        waited_s: until its pod ran: queue, image, start; None where it never did.
        kernel_s: what the chapter itself took.
        peak_mib: largest memory of the kernel and its children, MiB.
        failed_cell: the cell that failed (all kinds count, from 1).
        node: where its pod ran.
        gpu: name, memory and driver, as ``nvidia-smi`` in the pod says; empty without one.
        software: versions of mlk8s and Python in the image.
        executed: the notebook that came back.
        changes: its outputs against those that are stored; up to the cell that failed.
    """

    chapter: str
    notebook: Path
    error: str
    seconds: float
    waited_s: float | None = None
    kernel_s: float | None = None
    peak_mib: float | None = None
    failed_cell: int | None = None
    node: str = ""
    gpu: dict[str, str] = field(default_factory=dict)
    software: dict[str, str] = field(default_factory=dict)
    executed: Path | None = None
    changes: NotebookChanges | None = None

    @property
    def passed(self) -> bool:
        """Whether all cells ended well and the notebook came back."""
        return not self.error

    @property
    def status(self) -> str:
        """``passed`` or ``failed``."""
        return PASSED if self.passed else FAILED

    def as_json(self) -> dict[str, Any]:
        """The result as it stands in ``report.json``."""
        return {
            "chapter": self.chapter,
            "notebook": self.notebook.as_posix(),
            "status": self.status,
            "error": self.error or None,
            "seconds": round(self.seconds, 2),
            "waited_s": None if self.waited_s is None else round(self.waited_s, 2),
            "kernel_s": self.kernel_s,
            "peak_mib": self.peak_mib,
            "failed_cell": self.failed_cell,
            "node": self.node or None,
            "gpu": self.gpu or None,
            "software": self.software,
            "executed": self.executed.as_posix() if self.executed else None,
            "changes": self.changes.as_json() if self.changes else None,
        }


def exit_code(results: Sequence[ChapterResult]) -> int:
    """1 where a chapter failed, else 0."""
    return int(not all(result.passed for result in results))


def write(
    results: Sequence[ChapterResult], connection: Connection, image: str, began: float, out: Path
) -> None:
    """Write ``report.html`` and ``report.json``.

    Args:
        results: of the chapters, in the order of the page.
        connection: the cluster.
        image: that the pods were asked to have.
        began: when the run did, seconds since the epoch.
        out: the folder.
    """
    run = {
        "cluster": connection.context,
        "kind": str(connection.kind),
        "kubernetes": connection.version,
        "image": image,
        "date": datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds"),
        "mlk8s": mlk8s.__version__,
    }
    report = {**run, "chapters": [result.as_json() for result in results]}
    canonical.write_text(out / "report.json", json.dumps(report, indent=1) + "\n")
    canonical.write_text(out / "report.html", _page(results, run, out))


def _page(results: Sequence[ChapterResult], run: dict[str, str], out: Path) -> str:
    simulated = " (simulated: its GPUs and their names are a model)" * (run["kind"] == "simulated")
    facts = [
        ("cluster", f"{run['cluster']}, Kubernetes {run['kubernetes']}{simulated}"),
        ("image", run["image"]),
        ("begun", run["date"]),
    ]
    parts = [page.table(("run", ""), [(k, html.escape(v)) for k, v in facts])]
    rows = [_row(result, out) for result in results]
    header = ("chapter", "result", "time [s]", "waited [s]", "node", "GPU", "against the stored")
    parts.append(page.table(header, rows, (2, 3)))
    for result in results:
        if not result.error and not (result.changes and result.changes.cells):
            continue
        name = html.escape(result.chapter)
        parts.append(f'<h2 id="{name}">{name}</h2>')
        if result.error:
            parts.append(f'<pre class="bad">{html.escape(result.error)}</pre>')
        if result.changes:
            parts.append(page.fragment(result.changes))
    return page.page("Chapters in a cluster", "\n".join(parts))


def _row(result: ChapterResult, out: Path) -> tuple[str, ...]:
    name = html.escape(result.chapter)
    if result.executed:
        name = f'<a href="{html.escape(result.executed.relative_to(out).as_posix())}">{name}</a>'
    color = "good" if result.passed else "bad"
    compared = html.escape(result.changes.text()) if result.changes else "–"
    if result.error or (result.changes and result.changes.cells):
        compared = f'<a href="#{html.escape(result.chapter)}">{compared}</a>'
    return (
        name,
        f'<span class="{color}">{result.status}</span>',
        f"{result.seconds:.1f}",
        _seconds(result.waited_s),
        html.escape(result.node or "–"),
        html.escape(result.gpu.get("name", "–")),
        compared,
    )


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def show(results: Sequence[ChapterResult], out: Path, console: Console) -> None:
    """Print errors, the table of the run, and where the page is."""
    from rich.table import Table
    from rich.text import Text

    for result in results:
        if result.error:
            console.print(Text(result.error, style="red"), soft_wrap=True)
    table = Table()
    for name in ("chapter", "result"):
        table.add_column(name, overflow="fold")
    for name in ("time [s]", "waited [s]"):
        table.add_column(Text(name), justify="right")  # as markup, [s] would be a style
    for name in ("node", "GPU", "against the stored outputs"):
        table.add_column(name, overflow="fold")
    for result in results:
        table.add_row(
            Text(result.chapter),
            result.status,
            f"{result.seconds:.1f}",
            _seconds(result.waited_s),
            Text(result.node or "–"),
            Text(result.gpu.get("name", "–")),
            Text(result.changes.text() if result.changes else "–"),
        )
    console.print(table)
    console.print(f"report: {out / 'report.html'}", soft_wrap=True)
