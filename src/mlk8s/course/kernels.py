"""One chapter in a kernel of its own: started, watched, killed, and what is said of how it ended.

papermill executes the cells; the kernel is always ``sys.executable``, whatever kernelspecs are
installed, so that a chapter meets the packages that the command itself was installed with. Which
chapters run, and how many side by side, is the business of :mod:`mlk8s.course.run`.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from mlk8s.course import canonical, freshness
from mlk8s.course.freshness import CellTime, Failure, RunResult, Status
from mlk8s.errors import NotebookError, UsageError

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager
    from nbformat import NotebookNode

# One that dies is noticed at once; a cold or loaded machine reads the environment from disk first.
_KERNEL_START_S = 180
_OUTPUT_S = 60  # a loaded machine may take this long to deliver what a finished cell printed


def load(notebook: Path, parameters: Mapping[str, object]) -> NotebookNode:
    """A notebook ready for papermill, with the parameters set.

    Raises:
        UsageError: the parameters cell does not have one of the parameters.
        NotebookError: the file is not a notebook.
    """
    from papermill import inspect_notebook
    from papermill.parameterize import parameterize_notebook

    nb = canonical.normalized(canonical.read(notebook))
    nb.cells = [cell for cell in nb.cells if not canonical.is_injected(cell)]
    if parameters:
        has = list(inspect_notebook(nb))
        if unknown := [name for name in parameters if name not in has]:
            raise UsageError(
                f"{notebook.stem} has no parameter {', '.join(unknown)}; "
                f"it has: {', '.join(has) or 'none'}.",
                "use one of those, or add it to the cell tagged `parameters`.",
            )
    # papermill fills these in while it runs; canonical() removes them again.
    nb.metadata.papermill = {}
    for cell in nb.cells:
        cell.metadata.setdefault("tags", [])
    return parameterize_notebook(nb, dict(parameters)) if parameters else nb


@dataclass
class Task:
    """One chapter being executed; its kernel is watched, and killed, from another thread."""

    notebook: Path
    nb: NotebookNode
    out: Path
    gpu: str | None
    digest: str  # of what the result will depend on
    state: str = "waiting"
    index: int = -1  # of the cell that is running
    cell_since: float | None = None
    peak_mib: float = 0.0
    timed_out: bool = False
    stopped: bool = False
    tree: set[psutil.Process] = field(default_factory=set)  # the kernel and all it ever started
    lock: threading.Lock = field(default_factory=threading.Lock)

    def kernel_started(self, pid: int) -> None:
        """Begin to watch; a kernel that came up after the run was stopped is killed at once."""
        with self.lock:
            self.tree = {psutil.Process(pid)}
        if self.stopped:
            self.kill()

    def cell_started(self, cell: NotebookNode, cell_index: int) -> None:
        """Hook of nbclient: a cell, of any kind, is next."""
        self.index = cell_index
        executes = cell.cell_type == "code" and cell.source.strip()
        self.cell_since = time.monotonic() if executes else None

    def cell_ended(self, **_: object) -> None:
        """Hook of nbclient: a code cell has ended; a short one is measured here or never."""
        self.cell_since = None
        self.sample()

    def sample(self) -> None:
        """Take the memory of the kernel and its children now, and remember who they are."""
        with self.lock:
            total = 0
            for process in list(self.tree):
                try:
                    self.tree.update(process.children(recursive=True))
                except psutil.Error:
                    continue  # it has ended
            for process in self.tree:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.peak_mib = max(self.peak_mib, total / 2**20)

    def watch(self, timeout_s: float) -> None:
        """Take the memory now, and kill the kernel where its cell has run too long."""
        self.sample()
        since = self.cell_since
        if since is not None and time.monotonic() - since > timeout_s:
            self.timed_out = True
            self.kill()

    def stop(self) -> None:
        """End the chapter for good, whether its kernel has come up yet or not."""
        self.stopped = True
        self.kill()

    def kill(self) -> None:
        """Kill the kernel and whatever it started; psutil never hits a pid that was reused."""
        self.sample()
        with self.lock:
            for process in self.tree:
                try:
                    process.kill()
                except psutil.Error:
                    continue

    def done(self) -> int:
        """How many cells have ended; the one that is running has not."""
        return len(self.nb.cells) if self.state == Status.PASSED else max(self.index, 0)

    def number(self, index: int) -> int:
        """The number of a cell as in the source: all kinds count, papermill's own does not."""
        return sum(not canonical.is_injected(cell) for cell in self.nb.cells[: index + 1])

    def failure(self, index: int, error: str, traceback: str) -> Failure:
        """What there is to show about the cell at an index of the executed notebook."""
        cell = self.nb.cells[index]
        printed = [o.text for o in cell.get("outputs", []) if o.get("name") == "stdout"]
        return Failure(self.number(index), cell.source, error, traceback, "".join(printed))

    def raised(self) -> Failure | None:
        """The first cell with an error output, as papermill judges."""
        for i, cell in enumerate(self.nb.cells):
            for output in cell.get("outputs", []):
                if output.output_type == "error":
                    error = f"{output.ename}: {output.evalue}"
                    return self.failure(i, error, "\n".join(output.traceback))
        return None

    def slowest(self) -> tuple[CellTime, ...]:
        """The three code cells that took longest, by papermill's clock."""
        times = [
            CellTime(
                self.number(i),
                round(cell.metadata.papermill.get("duration") or 0.0, 2),
                cell.source.strip().partition("\n")[0],
            )
            for i, cell in enumerate(self.nb.cells)
            if cell.cell_type == "code" and not canonical.is_injected(cell)
        ]
        return tuple(sorted(times, key=lambda cell: -cell.seconds)[:3])


def execute(task: Task, timeout_s: float) -> RunResult:
    """Execute one chapter in a kernel of its own, and store what came out, good or bad.

    Nothing is stored where the run was stopped meanwhile.

    Args:
        task: the chapter; another thread watches it meanwhile.
        timeout_s: seconds that one cell may take, for what is said of a kernel that was killed.
    """
    chapter = task.notebook.stem
    result_file = freshness.result_file(task.notebook, task.out)
    log = task.out / f"{chapter}.log"
    started = time.monotonic()
    task.state = "running"
    problem = ""
    try:
        _execute_cells(task, log)
        if failure := task.raised():
            problem = f"Cell {failure.cell} of {chapter} raised {failure.error.splitlines()[0]}."
    except (RuntimeError, TimeoutError) as gone:  # how nbclient says that a kernel is gone
        failure = task.failure(task.index, str(gone), _tail(log)) if task.index >= 0 else None
        if not failure:
            problem = f"The kernel of {chapter} did not start: {_tail(log) or gone}"
        elif task.timed_out:
            problem = (
                f"Cell {failure.cell} of {chapter} ran longer than {timeout_s:g} s, "
                "and its kernel was killed."
            )
        else:
            problem = (
                f"The kernel of {chapter} died in cell {failure.cell}, at a peak of "
                f"{task.peak_mib:,.0f} MiB."
            )
    finally:
        task.kill()  # what the kernel left behind
    error = None
    if problem:
        advice = f"see the cell in {result_file}, repair {task.notebook}, and run "
        error = NotebookError(problem, f"{advice}`mlk8s run {chapter}` again.")
    result = RunResult(
        chapter=chapter,
        notebook=task.notebook,
        status=Status.FAILED if error else Status.PASSED,
        seconds=time.monotonic() - started,
        cells=sum(c.cell_type == "code" and not canonical.is_injected(c) for c in task.nb.cells),
        peak_mib=task.peak_mib,
        slowest=task.slowest(),
        error=error,
        failure=failure,
    )
    if not task.stopped:
        canonical.write(task.nb, result_file)
        if not error:
            freshness.stamp(result, task.out, task.digest)
            log.unlink(missing_ok=True)
    task.state = str(result.status)
    return result


def _execute_cells(task: Task, log: Path) -> None:
    """Execute the cells in place, until one raises.

    Raises:
        RuntimeError: the kernel did not start, or died.
        TimeoutError: the kernel did not answer.
    """
    from papermill.engines import papermill_engines

    # What papermill logs as an error comes back as one; on stderr it would tear the display.
    logging.getLogger("papermill").addHandler(logging.NullHandler())
    papermill_engines.execute_notebook_with_engine(
        None,
        task.nb,
        kernel_name="python3",
        progress_bar=False,
        autosave_cell_every=0,
        start_timeout=_KERNEL_START_S,
        iopub_timeout=_OUTPUT_S,
        shell_timeout_interval=1,  # how soon it is noticed that a kernel was killed
        kernel_manager_class=_manager(task, log),
        resources={"metadata": {"path": str(task.notebook.absolute().parent)}},
        on_cell_start=task.cell_started,
        on_cell_executed=task.cell_ended,
    )


def _manager(task: Task, log: Path) -> type[AsyncKernelManager]:
    """A kernel manager class for one chapter: this interpreter, its own log, and watched."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    # `!mlk8s ...` in a cell means the command that was installed beside this interpreter.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        display_name="Python 3",
        language="python",
        env={"PATH": path} | ({"MLK8S_GPU": task.gpu} if task.gpu else {}),
    )

    class Manager(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            # What the process itself writes (notices at the start, a crash of native code) goes
            # to a file: on the terminal it would tear the display.
            with log.open("wb") as stream:
                await super().start_kernel(stdout=stream, stderr=stream, **options)
            if self.provisioner and (pid := getattr(self.provisioner, "pid", None)):
                task.kernel_started(pid)

    return Manager


def _tail(log: Path) -> str:
    """The end of what a kernel's process wrote, without ipykernel's notice about its sockets."""
    if not log.exists():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([line for line in lines if "without encryption" not in line][-20:])
