"""What a run left behind, and whether it still holds.

A result is fresh while all that it depends on has the hash that was stored beside it when the run
ended well: then :mod:`mlk8s.course.run` does not execute the chapter again. Nothing here executes
anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlk8s
from mlk8s.course import canonical
from mlk8s.errors import NotebookError, UsageError

if TYPE_CHECKING:
    from nbformat import NotebookNode


class Status(StrEnum):
    """How a chapter ended."""

    PASSED = "passed"
    FAILED = "failed"
    UNCHANGED = "unchanged"  # not executed: its last good run still holds


@dataclass(frozen=True)
class CellTime:
    """What one cell took: its number (all cells, from 1), seconds, and its first line."""

    cell: int
    seconds: float
    first_line: str


@dataclass(frozen=True)
class Failure:
    """The cell that stopped a chapter: number, source, error, traceback, standard output so far."""

    cell: int
    source: str
    error: str
    traceback: str = ""
    printed: str = ""


@dataclass(frozen=True)
class RunResult:
    """One chapter of a run.

    Attributes:
        chapter: file name without ``.ipynb``.
        notebook: the source.
        status: how it ended.
        seconds: wall time, kernel start included; of the last good run where it is unchanged.
        cells: code cells in the notebook.
        peak_mib: largest sum of the resident memory of the kernel and its children, MiB, sampled
            four times a second and after each cell. Shared pages count once for each process.
        slowest: the three cells that took longest.
        error: why it failed, with the next step.
        failure: the cell that failed, where one did.
        updated: whether the outputs were written back and changed the source file.
    """

    chapter: str
    notebook: Path
    status: Status
    seconds: float
    cells: int
    peak_mib: float
    slowest: tuple[CellTime, ...] = ()
    error: NotebookError | None = None
    failure: Failure | None = None
    updated: bool = False

    def as_json(self) -> dict[str, Any]:
        """The result as it stands in ``summary.json``, and in the stamp of a good run."""
        return asdict(self) | {
            "notebook": self.notebook.as_posix(),
            "seconds": round(self.seconds, 2),
            "peak_mib": round(self.peak_mib, 1),
            "error": str(self.error) if self.error else None,
        }


def package_files(notebooks: Path) -> Iterator[Path]:
    """What every chapter's result depends on besides its notebook, in a stable order.

    That is all of this package, recordings and other JSON included, and where they exist beside
    the folder of notebooks: the lock file, what the chapters build and run in ``labs``, and
    the scripts of ``benchmarks``, which a page of the book reads.

    Args:
        notebooks: folder of the chapters.
    """
    root = notebooks.absolute().parent
    for folder in (Path(mlk8s.__file__).parent, root / "labs", root / "benchmarks"):
        for path in sorted(folder.rglob("*")):
            folders = path.relative_to(folder).parts[:-1]
            # Caches and environments: tools write there while the sources stay the same.
            cached = any(name == "__pycache__" or name.startswith(".") for name in folders)
            if path.is_file() and not cached:
                yield path
    lock = root / "requirements.lock"
    if lock.is_file():
        yield lock


def digest_of(
    notebook: Path,
    inputs: Iterable[Path],
    gpu: str | None,
    parameters: Mapping[str, object],
    touches_gpu: bool,
) -> str:
    """Hash of all that a result depends on and that can be known without executing anything.

    Raises:
        NotebookError: the notebook cannot be read.
        UsageError: one of ``inputs`` cannot be read.
    """
    parts = [
        sources(canonical.read(notebook)),
        platform.python_version(),
        gpu or os.environ.get("MLK8S_GPU", ""),
        os.environ.get("MLK8S_CLUSTER", ""),
        repr(sorted(parameters.items())),
        str(touches_gpu),
    ]
    for path in inputs:
        try:
            parts.append(f"{path}:{_file_hash(path)}")
        except OSError as error:
            raise UsageError(
                f"{path}, on which the chapters depend, cannot be read: {error.strerror}.",
                "make it readable, or move it elsewhere.",
            ) from error
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def sources(nb: NotebookNode) -> str:
    """What a notebook says and does, without its outputs, as text to compare."""
    return json.dumps(
        [
            (cell.cell_type, cell.source, sorted(cell.metadata.get("tags", [])))
            for cell in nb.cells
            if not canonical.is_injected(cell)
        ]
    )


def result_file(notebook: Path, out: Path) -> Path:
    """Where the executed notebook of a chapter is stored."""
    return out / notebook.name


def stamp(result: RunResult, out: Path, digest: str) -> None:
    """Store beside a good result what it depended on, and the figures of the run."""
    stored = {
        "digest": digest,
        "result": _file_hash(result_file(result.notebook, out)),
        "run": result.as_json(),
    }
    canonical.write_text(_stamp_file(result.notebook, out), json.dumps(stored, indent=1) + "\n")


def last(notebook: Path, out: Path, digest: str) -> RunResult | None:
    """The last good run, if it had this digest and its result is still there unaltered."""
    try:
        stored = json.loads(_stamp_file(notebook, out).read_text(encoding="utf-8"))
        result_hash = _file_hash(result_file(notebook, out))
        if (stored["digest"], stored["result"]) != (digest, result_hash):
            return None
        ran = stored["run"]
        return RunResult(
            chapter=notebook.stem,
            notebook=notebook,
            status=Status.UNCHANGED,
            seconds=ran["seconds"],
            cells=ran["cells"],
            peak_mib=ran["peak_mib"],
            slowest=tuple(CellTime(**cell) for cell in ran["slowest"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none yet, or one that was damaged: executing again is always right


def _stamp_file(notebook: Path, out: Path) -> Path:
    return out / f"{notebook.stem}.json"


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:  # in pieces: a lab may have left a model there
        return hashlib.file_digest(file, "sha256").hexdigest()
