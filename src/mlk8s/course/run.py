"""Execute chapters: each in a fresh kernel, several side by side, with time and memory for each.

:func:`run` is what ``mlk8s run`` calls. Results go to ``_build/runs``; the sources change only with
``update``, and only after every chapter has ended. A chapter whose sources, library and settings
are those of its last good run is not executed again (:mod:`mlk8s.course.freshness`). Nothing here
looks at a GPU: the caller says whether the chapters will touch one. What happens to one chapter is
in :mod:`mlk8s.course.kernels`.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import mlk8s
from mlk8s.course import canonical, freshness
from mlk8s.course.freshness import Failure, RunResult, Status
from mlk8s.course.kernels import Task, execute, load
from mlk8s.errors import NotebookError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["RunResult", "Status", "exit_code", "find", "run"]

_SAMPLE_S = 0.25


def run(
    chapters: Sequence[str] = (),
    *,
    gpu: str | None = None,
    update: bool = False,
    jobs: int | None = None,
    timeout_s: float = 600,
    out: Path = Path("_build/runs"),
    parameters: Mapping[str, object] | None = None,
    touches_gpu: bool = False,
    force: bool = False,
    notebooks: Path = Path("notebooks"),
    inputs: Iterable[Path] | None = None,
    console: Console | None = None,
) -> list[RunResult]:
    """Execute chapters and say how each went, in the order of the book.

    Args:
        chapters: numbers, slugs, file names or paths; all of ``notebooks`` where empty.
        gpu: value of ``MLK8S_GPU`` in the kernels; the environment's where None.
        update: write the outputs of chapters that ended well back into their sources.
        jobs: chapters to run side by side; where None, one for every two CPUs, since chapters 7 and
            8 train with two processes each.
        timeout_s: seconds that one cell may take before its kernel is killed.
        out: folder of the executed notebooks and ``summary.json``.
        parameters: values for the parameters cell of every chapter.
        touches_gpu: the kernels will use a GPU, so the chapters run one at a time.
        force: execute chapters that did not change, too.
        notebooks: folder of the chapters.
        inputs: files that a result depends on besides its notebook; the package (recordings
            included), ``labs`` and the lock file where None.
        console: where progress and the report go.

    Returns:
        One result for each chapter; :func:`exit_code` turns them into a status.

    Raises:
        UsageError: an argument cannot be used, or a chapter does not have a parameter.
        NotebookError: no chapter matches, or a notebook cannot be read.
        KeyboardInterrupt: Ctrl-C; no kernel is left, no source was touched.
        SystemExit: SIGTERM or SIGHUP, likewise.
    """
    from rich.console import Console

    console = console or Console()
    parameters = dict(parameters or {})
    jobs = max(1, (os.cpu_count() or 1) // 2) if jobs is None else jobs
    if jobs < 1 or timeout_s <= 0:
        raise UsageError(
            f"{jobs} jobs with {timeout_s:g} s for a cell cannot run.", "give numbers above zero."
        )
    if update and parameters:
        raise UsageError(
            "The stored outputs are those of the default parameters, so an update takes none.",
            "leave out the parameters, or change them in the notebook's parameters cell.",
        )
    paths = find(chapters, notebooks)
    inputs = list(freshness.package_files(notebooks) if inputs is None else inputs)
    tasks, ran = [], {}
    for path in paths:
        nb = load(path, parameters)
        digest = freshness.digest_of(path, inputs, gpu, parameters, touches_gpu)
        if not force and (last := freshness.last(path, out, digest)):
            ran[path] = last
        else:
            tasks.append(Task(path, nb, out, gpu, digest))
    out.mkdir(parents=True, exist_ok=True)
    ran |= _execute_all(tasks, 1 if touches_gpu else jobs, timeout_s, console)
    results = [ran[path] for path in paths]
    if update:
        results = [_write_back(result, out) for result in results]
    summary = {
        "python": platform.python_version(),
        "mlk8s": mlk8s.__version__,
        "chapters": [result.as_json() for result in results],
    }
    canonical.write_text(out / "summary.json", json.dumps(summary, indent=1) + "\n")
    _report(results, out, console)
    return results


def exit_code(results: Iterable[RunResult]) -> int:
    """1 where a chapter failed, else 0."""
    return int(any(result.status is Status.FAILED for result in results))


def find(chapters: Sequence[str], notebooks: Path = Path("notebooks")) -> list[Path]:
    """The notebooks that are meant, in the order of the book.

    Args:
        chapters: each a number (``1``, ``01``), a slug (``gpu-basics``), a file name with or
            without ``.ipynb``, or a path; all chapters where empty.
        notebooks: folder of the chapters.

    Raises:
        NotebookError: a name matches no chapter, or there is none at all.
    """
    known = sorted(notebooks.glob("*.ipynb"))
    found: dict[Path, None] = {} if chapters else dict.fromkeys(known)
    for name in chapters:
        matches = [path for path in known if _is_called(path, name)]
        if not matches and name.endswith(".ipynb") and Path(name).is_file():
            matches = [Path(name)]
        if not matches:
            listed = ", ".join(path.stem for path in known) or "none"
            raise NotebookError(
                f"No chapter is called {name!r}; in {notebooks} there are: {listed}.",
                "name a chapter by its number, its name or its path.",
            )
        found |= dict.fromkeys(matches)
    if not found:
        raise NotebookError(
            f"There is no notebook in {notebooks}.", "run the command in the root of the course."
        )
    if len({path.stem for path in found}) < len(found):
        raise NotebookError(
            "Two of the notebooks have the same file name, and so would their results.",
            "run them one after the other.",
        )
    return sorted(found, key=lambda path: path.name)


def _is_called(path: Path, name: str) -> bool:
    number, _, slug = path.stem.partition("-")
    if name.isdecimal() and number.isdecimal():
        return int(name) == int(number)
    named = Path(name)
    return name in {path.stem, path.name, slug} or (
        named.suffix == ".ipynb" and named.resolve() == path.resolve()
    )


def _write_back(result: RunResult, out: Path) -> RunResult:
    """Store the outputs of a good run in the source of the chapter."""
    if result.status is Status.FAILED:
        return result
    nb = canonical.read(freshness.result_file(result.notebook, out))
    if freshness.sources(nb) != freshness.sources(canonical.read(result.notebook)):
        error = NotebookError(
            f"{result.notebook} was edited while it ran, so its outputs were not stored.",
            f"run `mlk8s run {result.chapter} --update` again.",
        )
        return replace(result, status=Status.FAILED, error=error)
    return replace(result, updated=canonical.write(nb, result.notebook))


def _execute_all(
    tasks: Sequence[Task], jobs: int, timeout_s: float, console: Console
) -> dict[Path, RunResult]:
    """Execute chapters in threads and watch their kernels until all have ended."""
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    results: dict[Path, RunResult] = {}
    progress = Progress(
        TextColumn("{task.description}"),
        TextColumn("{task.fields[state]:<8}"),
        TextColumn("cell"),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[peak]:,.0f} MiB"),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # a log gets one line for each chapter instead
    )
    lines = [
        progress.add_task(t.notebook.stem, start=False, total=len(t.nb.cells), state="", peak=0)
        for t in tasks
    ]
    pool = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="chapter")
    with terminations_raised(), progress:
        try:
            pending: dict[Future[RunResult], Task] = {
                pool.submit(execute, task, timeout_s): task for task in tasks
            }
            while pending:
                ended, _ = wait(pending, timeout=_SAMPLE_S, return_when=FIRST_COMPLETED)
                for future in ended:
                    task = pending.pop(future)
                    results[task.notebook] = result = future.result()
                    if not console.is_terminal:
                        console.print(f"{result.chapter}: {result.status}, {result.seconds:.1f} s")
                for task in pending.values():
                    task.watch(timeout_s)
                for line, task in zip(lines, tasks, strict=True):
                    if task.state == "running":
                        progress.start_task(line)
                    elif task.state != "waiting":
                        progress.stop_task(line)
                    progress.update(
                        line, completed=task.done(), state=task.state, peak=task.peak_mib
                    )
        finally:
            for task in tasks:
                task.stop()
            pool.shutdown(cancel_futures=True)
    return results


@contextmanager
def terminations_raised() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exception, so that they stop the kernels as Ctrl-C does."""

    def stop(signum: int, _: object) -> None:
        raise SystemExit(128 + signum)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers; its own then decide
        return
    before = {
        number: signal.signal(number, stop)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # under nohup a hang-up is none
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(results: Sequence[RunResult], out: Path, console: Console) -> None:
    """Show each failing cell in full, the table of the run, and which sources changed."""
    from rich.table import Table
    from rich.text import Text

    for result in results:
        if result.failure:
            console.rule(f"{result.chapter}, cell {result.failure.cell}", style="red")
            _show_failure(result.failure, console)
        if result.error:
            console.print(Text(str(result.error), style="red"), soft_wrap=True)
    table = Table(title=f"Run with Python {platform.python_version()}, results in {out}")
    for name in ("chapter", "result"):
        table.add_column(name)
    for name in ("time [s]", "peak memory [MiB]", "code cells"):
        table.add_column(Text(name), justify="right")  # as markup, [s] would be a style
    table.add_column("slowest cell")
    for result in results:
        slow = result.slowest[0] if result.slowest else None
        table.add_row(
            result.chapter,
            str(result.status),
            f"{result.seconds:.1f}",
            f"{result.peak_mib:,.0f}",
            str(result.cells),
            Text(f"{slow.seconds:.1f} s, cell {slow.cell}: {slow.first_line}") if slow else "",
        )
    console.print(table)
    for result in results:
        if result.updated:
            console.print(f"updated {result.notebook}", soft_wrap=True)


def _show_failure(failure: Failure, console: Console) -> None:
    from rich.text import Text

    for i, line in enumerate(failure.source.splitlines(), 1):
        console.print(Text(f"{i:>4} │ {line}"), soft_wrap=True)
    if failure.printed:
        console.print(Text("standard output so far", style="bold"))
        console.print(Text(failure.printed.rstrip("\n")), soft_wrap=True)
    if failure.traceback:
        console.print(Text("traceback", style="bold"))
        console.print(Text.from_ansi(failure.traceback), soft_wrap=True)
