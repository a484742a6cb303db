"""Record a machine: what its GPU did, stored so that the book can show it anywhere.

The chapters themselves are the program: they are executed live, and every measured call of a
cell or of the library is written down on its way back (:mod:`mlk8s.gpu.source`). So a recording
holds what the book asks for, measured by the code that the book shows.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlk8s import recordings
from mlk8s.course import run as runner
from mlk8s.errors import NotebookError, UsageError
from mlk8s.gpu import host, nvml, probe, source

if TYPE_CHECKING:
    from rich.console import Console

#: What an operator types on a new GPU machine; chapters quote from these.
COMMANDS = (
    "cat /proc/driver/nvidia/version",
    "ls -l /dev/nvidia*",
    "nvidia-smi",
    "nvidia-smi -q",
    "nvidia-smi topo -m",
    "nvidia-smi mig -lgip",
    "nvidia-smi mig -lgipp",
    "nvidia-smi compute-policy -l",
    "nvidia-smi --query-gpu=clocks_event_reasons.active --format=csv",
    "nvcc --version",
)
STAGING = Path("_build/record")


def record(
    out: Path,
    *,
    chapters: Sequence[str] = (),
    only: Sequence[str] = (),
    console: Console | None = None,
) -> list[Path]:
    """Measure this machine and write its recording.

    Nothing is written under ``out`` unless every chapter ended well; what was measured until then
    stays in ``_build/record``.

    Args:
        out: the folder of recordings; the machine's own folder in it is named by the catalogue.
        chapters: chapters to execute; all where empty.
        only: names or groups of measurements to keep (``ch1``, ``bench/matmul``); all where empty.
        console: where progress goes.

    Returns:
        The files written.

    Raises:
        GpuUnavailable: there is no live GPU here.
        NotebookError: a chapter failed.
        UsageError: ``only`` names nothing that was measured.
    """
    nvml.open_nvml()
    device = source.device()
    part = device.part
    if part == "unknown":
        part = re.sub(r"[^a-z0-9]+", "-", device.name.lower()).strip("-")
    staged = STAGING / part
    shutil.rmtree(staged, ignore_errors=True)
    with _recording_to(staged.resolve()):
        probe.gpus()
        for command in COMMANDS:
            host.run(command)
        results = runner.run(
            chapters,
            gpu="live",
            touches_gpu=True,
            force=True,
            out=STAGING / "runs",
            console=console,
        )
    failed = [r.chapter for r in results if r.status is runner.Status.FAILED]
    if failed:
        raise NotebookError(
            f"Nothing was recorded: {', '.join(failed)} failed on {device.name}.",
            f"mend the cell and run again; what was measured until then is in {staged}.",
        )
    measured = recordings.load(part, STAGING).entries
    kept = [e for e in measured if not only or any(_selects(name, e.name) for name in only)]
    if not kept:
        names = sorted({e.name for e in measured})
        raise UsageError(
            f"Nothing that was measured is named {', '.join(only)}.",
            f"choose from: {', '.join(names)}.",
        )
    if only:
        return recordings.write(out / part, kept)
    # What no chapter measures, such as the comparison with other tools, is not replaced.
    groups = {e.name.split("/")[0] for e in kept}
    if part in recordings.names(out):
        old_entries = recordings.load(part, out.resolve()).entries
        kept = [*kept, *(e for e in old_entries if e.name.split("/")[0] not in groups)]
    # Written beside the old recording and put in its place, so that an interruption loses neither.
    fresh = STAGING / f"{part}.whole"
    shutil.rmtree(fresh, ignore_errors=True)
    written = recordings.write(fresh, kept)
    out.mkdir(parents=True, exist_ok=True)
    old = STAGING / f"{part}.old"
    shutil.rmtree(old, ignore_errors=True)
    if (out / part).exists():
        shutil.move(out / part, old)
    shutil.move(fresh, out / part)
    return [out / part / path.name for path in written]


def _selects(wanted: str, name: str) -> bool:
    return wanted in (name, name.split("/")[0])


@contextmanager
def _recording_to(folder: Path) -> Iterator[None]:
    """Have every measurement of this process and its kernels written down."""
    names = {"MLK8S_GPU": "live", source.RECORD_VARIABLE: str(folder)}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
