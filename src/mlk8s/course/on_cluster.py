"""Execute chapters in a cluster: ``mlk8s run --on kubernetes``.

Each chapter becomes a Job with one pod that asks for a GPU. The notebook of this checkout goes
there in a ConfigMap, without its outputs; what came out comes back in the pod's log
(:mod:`mlk8s.course.in_pod`), so a cluster needs no volume for it. The Job itself is in
:mod:`mlk8s.course.submission`. The Jobs are in a namespace of
the run, which is deleted at its end, however it ends; a deadline ends them where even that fails.
The library in the pod is the image's. What is said of a run is in :mod:`mlk8s.course.run_report`.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlk8s.cluster import Connection, owners, placed, workloads
from mlk8s.cluster.follow import Follower
from mlk8s.cluster.why import Verdict, of_pod
from mlk8s.cluster.wire import path
from mlk8s.course import canonical, changes, in_pod, run_report, submission
from mlk8s.course.run import find, terminations_raised
from mlk8s.course.run_report import ChapterResult
from mlk8s.course.submission import Options, Task
from mlk8s.errors import ClusterError, Mlk8sError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

Object = dict[str, Any]

_POLL_S = 0.25
_LOOK_EVERY_S, _READ_EVERY_S = 2.0, 1.0
_GONE_WITHIN_S = 60.0


class Stopped(Exception):
    """The run was interrupted; raised inside the threads that follow the Jobs."""


def run(
    chapters: Sequence[str],
    connection: Connection,
    options: Options,
    *,
    out: Path = Path("_build/runs/kubernetes"),
    notebooks: Path = Path("notebooks"),
    console: Console | None = None,
) -> list[ChapterResult]:
    """Execute chapters as Jobs and write a report, in the order of the book.

    Args:
        chapters: as :func:`mlk8s.course.run.find` takes them.
        connection: the cluster.
        options: how they run there.
        out: folder of the executed notebooks, ``report.html`` and ``report.json``.
        notebooks: folder of the chapters.
        console: where progress and the report go.

    Raises:
        UsageError: an option cannot be used, or a chapter does not have a parameter.
        NotebookError: no chapter matches, or a notebook cannot be read.
        ClusterError: no node has the device, or the cluster refused the namespace.
        ClusterUnavailable: the cluster does not answer (any more).
        KeyboardInterrupt: Ctrl-C; the Jobs and what else the run made are deleted.
        SystemExit: SIGTERM or SIGHUP, likewise.
    """
    from rich.console import Console

    console = console or Console()
    if options.jobs < 1 or options.deadline_s < 1 or options.cell_timeout_s <= 0:
        raise UsageError(
            f"{options.jobs} jobs with {options.deadline_s} s each and "
            f"{options.cell_timeout_s:g} s for a cell cannot run.",
            "give numbers above zero.",
        )
    tasks = [submission.prepared(each, options) for each in find(chapters, notebooks)]
    submission.check_devices(connection, options)
    out.mkdir(parents=True, exist_ok=True)
    began = time.time()
    with terminations_raised(), _place(connection, options, console) as here:
        results = _run_all(tasks, here, options, out, console)
    run_report.write(results, connection, options.image, began, out)
    run_report.show(results, out, console)
    return results


@contextmanager
def _place(connection: Connection, options: Options, console: Console) -> Iterator[Connection]:
    """The cluster with the namespace that the run works in; one of its own is deleted after it."""
    if options.namespace:
        if connection.find(path("namespaces", options.namespace)) is None:
            raise ClusterError(
                f"There is no namespace {options.namespace!r}.",
                f"create it: kubectl create namespace {options.namespace}; or leave --namespace "
                "out, and the run has one of its own.",
            )
        yield replace(connection, namespace=options.namespace, on_close=None)
        return
    own = f"mlk8s-run-{secrets.token_hex(3)}"
    here = replace(connection, namespace=own, on_close=None)
    try:
        here.ensure_namespace()
        yield here
    finally:
        try:
            here.remove_namespace()
            here.wait("namespaces", own, "Gone", timeout_s=_GONE_WITHIN_S)
        except (Mlk8sError, KeyboardInterrupt, SystemExit) as error:
            reason = error.problem if isinstance(error, Mlk8sError) else "interrupted"
            text = (
                f"The namespace {own} may still be there ({reason}). Next: "
                f"kubectl delete namespace {own}"
            )
            console.print(text, soft_wrap=True, markup=False, highlight=False)
            if not isinstance(error, Mlk8sError):
                raise


def _run_all(
    tasks: Sequence[Task], here: Connection, options: Options, out: Path, console: Console
) -> list[ChapterResult]:
    """Follow the Jobs in threads until all have ended; an interrupt deletes them."""
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    stop = threading.Event()
    progress = Progress(
        TextColumn("{task.description}"),
        TextColumn("cell"),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}", markup=False),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # a log gets a line for each change instead
    )
    lines = [progress.add_task(t.chapter, start=False, total=t.cells, state="") for t in tasks]
    shown = [""] * len(tasks)

    def display() -> None:
        for index, (line, task) in enumerate(zip(lines, tasks, strict=True)):
            state = task.state  # read once: the thread that follows the Job changes it
            if state == shown[index]:
                progress.update(line, completed=task.cell)
                continue
            shown[index] = state
            if console.is_terminal:
                progress.start_task(line)
                progress.update(line, completed=task.cell, state=state)
                if state in (run_report.PASSED, run_report.FAILED):
                    progress.stop_task(line)
            elif state != "waiting":
                text = f"{task.chapter}: {state}"
                console.print(text, soft_wrap=True, markup=False, highlight=False)

    pool = ThreadPoolExecutor(max_workers=options.jobs, thread_name_prefix="job")
    results: dict[Path, ChapterResult] = {}
    with progress:
        try:
            pending: dict[Future[ChapterResult], Task] = {
                pool.submit(_run_one, task, here, options, out, stop): task for task in tasks
            }
            while pending:
                ended, _ = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                for future in ended:
                    results[pending.pop(future).notebook] = future.result()
                display()
        finally:
            if len(results) < len(tasks):
                console.print("stopping: the Jobs are deleted")
            stop.set()
            pool.shutdown(cancel_futures=True)
    return [results[task.notebook] for task in tasks]


def _run_one(
    task: Task, here: Connection, options: Options, out: Path, stop: threading.Event
) -> ChapterResult:
    """Submit one chapter, follow it, take what came out, and delete what was made for it."""
    name = f"{submission.name_of(task.chapter)}-{secrets.token_hex(3)}"
    began = time.monotonic()
    result: workloads.Result | None = None
    error = ""
    try:
        if stop.is_set():
            raise Stopped
        task.state = "submitting"
        here.apply(submission.config_map(name, task))
        result = workloads.run(
            submission.job(name, here, task, options),
            here,
            timeout_s=options.deadline_s + _GONE_WITHIN_S,  # the cluster's own deadline is first
            show=None,
            keep=True,
            watch=lambda seen: _watch(task, seen, here, options, began, stop),
        )
        _collect(task, name, result, here)
    except ClusterError as refused:
        error = str(refused)
    finally:
        _delete(name, here)
    found = _result(task, result, error, time.monotonic() - began, options, out)
    task.state = run_report.PASSED if found.passed else run_report.FAILED
    return found


def _watch(
    task: Task,
    seen: Follower,
    here: Connection,
    options: Options,
    began: float,
    stop: threading.Event,
) -> None:
    """Say how far a Job is; end it where it waits for something that does not come.

    Raises:
        Stopped: the run was interrupted.
        ClusterError: its pod cannot be made, placed or started.
    """
    if stop.is_set():
        raise Stopped
    pods = seen.pods()
    pod = pods[-1] if pods else None
    phase = pod["status"].get("phase") if pod else None
    if pod and phase not in (None, "Pending"):
        if task.waited_s is None:
            task.waited_s = time.monotonic() - began
        task.state = f"running on {pod['spec']['nodeName']}"
        if time.monotonic() - task.looked < _READ_EVERY_S:
            return
        task.looked = time.monotonic()
        lines = seen.log().splitlines()
        # The last line may be the beginning of one that is still written.
        for line in lines[task.read : -1]:
            task.said.read(line)
        task.read = max(task.read, len(lines) - 1)
        task.cell = task.said.cell
        return
    if time.monotonic() - task.looked < _LOOK_EVERY_S:
        return
    task.looked = time.monotonic()
    if pod is None:
        _check_refused(seen, here)
        return
    answer = of_pod(pod, here)
    verdict = answer.verdict
    if verdict is Verdict.FAILS or (verdict is Verdict.NEVER and not options.wait_for_nodes):
        step = answer.next_step
        if "cannot be pulled" in answer.because:
            step += (
                " The image is built with labs/containers/jupyter/Dockerfile; --image names "
                "another one."
            )
        raise ClusterError(f"The pod of {task.chapter} {verdict}: {answer.because}", step)
    if pod["spec"].get("nodeName"):
        task.state = f"{_starting(pod, here)} on {pod['spec']['nodeName']}"
    else:
        task.state = f"queued ({answer.because.rstrip('.')})"


def _check_refused(seen: Follower, here: Connection) -> None:
    """Where the Job could not make its pod, say why: a quota, a policy."""
    wanted = owners.Reference(seen.namespace, "job", seen.name)
    job = here.find(path(owners.RESOURCES["job"], seen.name, seen.namespace))
    if job is not None and (said := owners.refused(wanted, job, here)):
        raise ClusterError(f"The Job {wanted} gets no pod, because {said.because}", said.next_step)


def _starting(pod: Object, here: Connection) -> str:
    """What a pod does that has a node and does not run yet."""
    if any((c.get("state") or {}).get("running") for c in placed.containers(pod)):
        return "starting"
    name = pod["metadata"]["name"]
    listed = here.items(
        path("events", namespace=here.namespace), fieldSelector=f"involvedObject.name={name}"
    )
    reasons = {event.get("reason") for event in listed}
    return "pulling the image" if "Pulling" in reasons and "Pulled" not in reasons else "starting"


def _collect(task: Task, name: str, result: workloads.Result, here: Connection) -> None:
    """Read what the pod said; where the followed log has a gap, ask for the whole log again."""
    task.said = in_pod.read(result.log)
    if task.said.result or task.said.problem:
        return
    selector = f"batch.kubernetes.io/job-name={name}"
    for pod in here.items(path("pods", namespace=here.namespace), labelSelector=selector):
        if pod["status"].get("phase") == "Failed":
            task.ended = of_pod(pod, here).because
        try:
            again = in_pod.read(here.logs(pod["metadata"]["name"]).text)
        except ClusterError:
            continue  # its container never started
        if again.result or again.problem:
            task.said = again


def _delete(name: str, here: Connection) -> None:
    """Delete the Job with its pod, and the ConfigMap; both may be gone.

    Raises:
        ClusterUnavailable: nothing answers. The Job's deadline ends it all the same.
    """
    here.delete("jobs", name, timeout_s=_GONE_WITHIN_S)
    here.delete("configmaps", name)


def _result(
    task: Task,
    result: workloads.Result | None,
    error: str,
    seconds: float,
    options: Options,
    out: Path,
) -> ChapterResult:
    """Put together what is known, and store the executed notebook."""
    said, ran = task.said, (task.said.result or {}).get("result") or {}
    executed: Path | None = None
    compared: changes.NotebookChanges | None = None
    failed_cell = (ran.get("failure") or {}).get("cell")
    if said.result:
        executed = out / task.notebook.name
        nb = canonical.parse(json.dumps(said.result["notebook"]), str(executed))
        canonical.write(nb, executed)
        if failed_cell or not ran.get("error"):  # else the kernel did not start
            old = canonical.read(task.notebook)
            nb.cells = [cell for cell in nb.cells if not canonical.is_injected(cell)]
            if failed_cell:  # what comes after it has no outputs to compare
                nb.cells, old.cells = nb.cells[: failed_cell - 1], old.cells[: failed_cell - 1]
            compared = changes.compare(old, nb, task.notebook.name)
    if not error and ran.get("error"):
        problem = str(ran["error"]).partition(" Next: ")[0]
        error = f"{problem} Next: see the cell in {executed}."
    elif not error and not said.result:
        error = _no_result(task, result, options)
    return ChapterResult(
        chapter=task.chapter,
        notebook=task.notebook,
        error=error,
        seconds=seconds,
        waited_s=task.waited_s,
        kernel_s=ran.get("seconds"),
        peak_mib=ran.get("peak_mib"),
        failed_cell=failed_cell,
        node=", ".join(result.nodes) if result else "",
        gpu=said.started.get("gpu") or {},
        software={key: said.started[key] for key in ("mlk8s", "python") if key in said.started},
        executed=executed,
        changes=compared,
    )


def _no_result(task: Task, result: workloads.Result | None, options: Options) -> str:
    """Why a Job that ended brought no notebook back."""
    said = task.said
    if said.problem:
        return said.problem
    where = f"in cell {said.cell + 1} of {task.cells}" if said.started else "before its first cell"
    reason = result.reason if result else ""
    # The condition's message of a Job that its controller ended for activeDeadlineSeconds.
    if "longer than specified deadline" in reason:
        return (
            f"{task.chapter} was ended after {options.deadline_s} s, {where}. Next: raise "
            "--deadline, or see what keeps it."
        )
    tail = "\n".join(said.other[-10:])
    if "No module named" in tail and "in_pod" in tail:
        return (
            f"The image {options.image} has a version of mlk8s without mlk8s.course.in_pod. "
            "Next: build it from this checkout: labs/containers/jupyter/Dockerfile."
        )
    because = (task.ended or reason).rstrip(".")
    text = f"The pod of {task.chapter} ended {where} without a result: {because}".rstrip(": ")
    return f"{text}.{f' It wrote: {tail}' if tail else ''} Next: run the chapter again."
