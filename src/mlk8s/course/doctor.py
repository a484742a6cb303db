"""Is this machine ready for the course: what is here, what it means, and how to repair it.

``mlk8s doctor`` shows it. The checks look and change nothing; a cluster is contacted only with
``MLK8S_CLUSTER=live``. A machine without a GPU is healthy: chapters then read a recording.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlk8s.course.checks import Check, Machine, Status, gpu, host

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Check", "Status", "examine", "exit_status", "render", "to_json"]

_HEADINGS = {
    Status.OK: ("green", "In order"),
    Status.ABSENT: ("dim", "Not here, and not needed"),
    Status.WARN: ("yellow", "Works, with limits"),
    Status.FAIL: ("red", "To repair"),
}


def examine(
    root: Path = Path("/"), env: Mapping[str, str] | None = None, repo: Path | None = None
) -> list[Check]:
    """Look at the machine, from the GPU up to the cluster. Takes seconds: it imports PyTorch.

    Args:
        root: the folder in which ``proc``, ``sys`` and ``dev`` are looked up.
        env: environment variables; this process's by default. NVML and PyTorch read the process's
            own in any case.
        repo: the course's folder; by default the nearest one above that has requirements.lock.

    Returns:
        One finding for each check, in the order in which the layers build on each other.
    """
    machine = Machine(root, os.environ if env is None else env, repo or _repository())
    return [*gpu.checks(machine), *host.checks(machine)]


def _repository() -> Path | None:
    """The nearest folder with a lock file, above the working folder or this source file."""
    starts = (Path.cwd(), Path(__file__).resolve().parent)
    folders = (folder for start in starts for folder in (start, *start.parents))
    return next((f for f in folders if (f / "requirements.lock").is_file()), None)


def exit_status(checks: Sequence[Check]) -> int:
    """1 if anything has to be repaired before the course works as it is set up, else 0."""
    return int(any(check.status is Status.FAIL for check in checks))


def to_json(checks: Sequence[Check]) -> str:
    """The findings as JSON text: ``schema``, ``checks``, ``summary``, ``exit_status``."""
    counts = Counter(check.status for check in checks)
    document: dict[str, Any] = {
        "schema": 1,
        "checks": [asdict(check) for check in checks],
        "summary": {str(status): counts[status] for status in Status},
        "exit_status": exit_status(checks),
    }
    return json.dumps(document, indent=1, ensure_ascii=False)


def render(checks: Sequence[Check]) -> RenderableType:
    """The findings for a terminal, grouped by outcome; what needs repair comes last, in view."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    parts: list[RenderableType] = []
    for status, (style, heading) in _HEADINGS.items():
        group = [check for check in checks if check.status is status]
        if group:
            parts.append(Text(f"{heading} ({len(group)})", style=f"bold {style}"))
        for check in group:
            parts.append(Padding(_line(check, style), (0, 0, 0, 2)))
            if status is not Status.OK:
                parts.append(Padding(Text(_meaning(check)), (0, 0, 0, 6)))
            if check.fix:
                parts.append(Padding(Text(f"→ {check.fix}", style="bold"), (0, 0, 0, 6)))
    counts = Counter(check.status for check in checks)
    parts.append(Text(", ".join(f"{counts[s]} {s}" for s in Status if counts[s])))
    return Group(*parts)


def _line(check: Check, style: str) -> RenderableType:
    from rich.text import Text

    return Text.assemble((check.status.ljust(7), style), (check.name, "bold"), ": ", check.found)


def _meaning(check: Check) -> str:
    if not check.chapters:
        return check.means
    if len(check.chapters) == 1:
        return f"{check.means} (chapter {check.chapters[0]})"
    first, last = check.chapters[0], check.chapters[-1]
    run = check.chapters == tuple(range(first, last + 1))
    listed = f"{first} to {last}" if run else ", ".join(map(str, check.chapters))
    return f"{check.means} (chapters {listed})"
