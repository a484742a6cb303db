"""The side of ``mlk8s run --on kubernetes`` that is inside the pod, and how the two sides talk.

``python -m mlk8s.course.in_pod TASK WORK COURSE`` executes one chapter and tells how far it is and
what came out in lines of its log. A log needs no volume, no permission to exec and no network into
the cluster. What is submitted, followed and deleted is in :mod:`mlk8s.course.on_cluster`.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import gzip
import hashlib
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRuns
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlk8s
from mlk8s.errors import Mlk8sError

Object = dict[str, Any]

#: Of the form of the lines and the task; another one is another version of the library.
PROTOCOL = 1
#: The kubelet rotates a log at 10 MiB (containerLogMaxSize), and base64 makes four bytes of three.
LIMIT_BYTES = 7 * 1024**2
_MARK = "mlk8s-run "
_DATA = "mlk8s-data "
# containerd hands on lines of up to 16 KiB whole.
_LINE = 8 * 1024
_SAMPLE_S = 0.25
# A load balancer may cut a log in which nothing happens.
_ALIVE_S = 15.0
# What chapters read beside the folder of notebooks.
_BESIDE = ("labs", "book", "benchmarks", "requirements.lock")


def pack(value: object) -> bytes:
    """JSON values, compressed, the same bytes for the same values."""
    return gzip.compress(json.dumps(value, sort_keys=True).encode(), mtime=0)


@dataclass
class Said:
    """What a pod's log says, read piece by piece.

    Attributes:
        started: the first event: the pod's software and its GPU; empty until it comes.
        cell: how many cells have ended.
        result: result and notebook, once all of it has come.
        problem: why the pod could not give a result, in its words, with the next step.
        other: lines that are not of this protocol, such as a traceback of Python.
    """

    started: Object = field(default_factory=dict)
    cell: int = 0
    result: Object | None = None
    problem: str = ""
    other: list[str] = field(default_factory=list)
    _data: list[str] = field(default_factory=list)

    def read(self, line: str) -> None:
        """Take the next line of the log."""
        if line.startswith(_DATA):
            self._data.append(line[len(_DATA) :])
            return
        event: Object = {}
        if line.startswith(_MARK):
            try:
                event = json.loads(line[len(_MARK) :])
            except ValueError:
                event = {}  # cut off in its middle
        match event.get("event"):
            case "started":
                self.started = event
            case "cell":
                self.cell = event["cell"]
            case "problem":
                self.problem = event["problem"]
            case "result":
                self._complete(event)
            case _:
                self.other.append(line)

    def _complete(self, event: Object) -> None:
        """Put the pieces together; a log with a gap in it gives no result."""
        try:
            packed = base64.b64decode("".join(self._data), validate=True)
        except binascii.Error:
            return
        if hashlib.sha256(packed).hexdigest() == event["sha256"]:
            self.result = json.loads(gzip.decompress(packed))


def read(log: str) -> Said:
    """What a whole log says."""
    said = Said()
    for line in log.splitlines():
        said.read(line)
    return said


def framed(value: object) -> Iterator[str]:
    """The lines in which a result is written, for :meth:`Said.read`."""
    packed = pack(value)
    if len(packed) > LIMIT_BYTES:
        size = f"{len(packed) / 2**20:.1f} MiB"
        problem = (
            f"The executed notebook has {size} packed, and a log holds {LIMIT_BYTES >> 20} MiB. "
            "Next: have its cells show less, or execute it without --on kubernetes."
        )
        yield _line("problem", problem=problem)
        return
    text = base64.b64encode(packed).decode()
    for start in range(0, len(text), _LINE):
        yield _DATA + text[start : start + _LINE]
    yield _line("result", sha256=hashlib.sha256(packed).hexdigest())


def _line(event: str, **values: object) -> str:
    return _MARK + json.dumps({"event": event, **values})


def _say(line: str) -> None:
    print(line, flush=True)


def gpu_of_pod() -> dict[str, str]:
    """Name, memory and driver of the first GPU, as ``nvidia-smi`` in this pod says; else empty.

    The container runtime puts the command into each container that got a GPU.
    """
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    first = done.stdout.strip().partition("\n")[0]
    values = [part.strip() for part in first.split(",")]
    return dict(zip(("name", "memory", "driver"), values, strict=True)) if len(values) == 3 else {}


def execute(task: Mapping[str, Any], work: Path, course: Path) -> bool:
    """Execute the chapter of a task and write what came out into the log; whether it ended well.

    Args:
        task: what :mod:`mlk8s.course.on_cluster` sent.
        work: an empty folder that may be written.
        course: where the course's ``labs`` are.

    Raises:
        Mlk8sError: the chapter does not have a parameter of the task.
    """
    from mlk8s.course import freshness, kernels, run

    folder = work / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    for name in _BESIDE:
        place = work / name
        if (course / name).exists() and not place.exists():
            place.symlink_to(course / name)
    notebook = folder / f"{task['chapter']}.ipynb"
    notebook.write_text(json.dumps(task["notebook"]), encoding="utf-8")
    out = work / "out"
    out.mkdir(exist_ok=True)
    chapter = kernels.Task(notebook, kernels.load(notebook, task["parameters"]), out, None, "")
    pool = ThreadPoolExecutor(1)
    with run.terminations_raised():
        try:
            future = pool.submit(kernels.execute, chapter, task["timeout_s"])
            shown, told = -1, 0.0
            while True:
                try:
                    result = future.result(_SAMPLE_S)
                    break
                except StillRuns:
                    chapter.watch(task["timeout_s"])
                if chapter.done() != shown or time.monotonic() - told > _ALIVE_S:
                    shown, told = chapter.done(), time.monotonic()
                    _say(_line("cell", cell=shown))
        finally:
            chapter.stop()
            pool.shutdown(cancel_futures=True)
    found = json.loads(freshness.result_file(notebook, out).read_text(encoding="utf-8"))
    for line in framed({"result": result.as_json(), "notebook": found}):
        _say(line)
    return result.status is not freshness.Status.FAILED


def main(arguments: list[str] | None = None) -> int:
    """Execute the task in a file; the exit status of the pod."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m mlk8s.course.in_pod")
    parser.add_argument("task", type=Path, help="the packed task")
    parser.add_argument("work", type=Path, help="a folder that may be written")
    parser.add_argument("course", type=Path, help="where the course's labs are")
    given = parser.parse_args(arguments)
    task = json.loads(gzip.decompress(given.task.read_bytes()))
    _say(
        _line(
            "started",
            protocol=PROTOCOL,
            mlk8s=mlk8s.__version__,
            python=platform.python_version(),
            gpu=gpu_of_pod(),
        )
    )
    if task["protocol"] != PROTOCOL:
        problem = (
            f"The image has mlk8s {mlk8s.__version__}, which does not read this task. "
            "Next: build it from this checkout: labs/containers/jupyter/Dockerfile."
        )
        _say(_line("problem", problem=problem))
        return 2
    try:
        return 0 if execute(task, given.work, given.course) else 1
    except Mlk8sError as error:
        _say(_line("problem", problem=str(error)))
        return 2


if __name__ == "__main__":
    sys.exit(main())
