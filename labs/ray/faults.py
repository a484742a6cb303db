#!/usr/bin/env python3
"""What is lost when a part of Ray dies: a worker, an actor, a node, the head.

Each experiment starts something, kills what runs it with SIGKILL, and says what Ray brought back
by itself and what is gone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlk8s import raylocal
from mlk8s.errors import Mlk8sError
from mlk8s.provenance import Table

HOW = """\
Experiments:
  worker  the process of a task dies in the middle of it; the task runs again in another process
  actor   the process of an actor dies; it is made anew, and its state is not
  node    a node dies with the only copies of two objects: one that a task made, which is made
          again from its lineage, and one that ray.put stored there, which nothing can make again
  owner   an actor dies that has put an object and handed out its reference: its owner is gone, and
          the object with it, although its bytes are on a node that lives
  head    the node dies that holds the cluster's state: calls fail, and so does the driver

  ./faults.py                 # all of them, each with a Ray of its own where it needs one
  ./faults.py node owner
"""


def options() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(
        description="Kill parts of Ray, and see what is lost.",
        epilog=HOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(EXPERIMENTS)
    parser.add_argument("which", nargs="*", metavar="WHICH", help=f"of: {names} (default: all)")
    return parser


def worker(local: raylocal.Local) -> dict[str, Any]:
    """Kill the process of a task once; Ray runs the task again.

    Returns:
        ``attempts``: process ids in which the task ran; ``answer``: what it returned at last;
        ``without retries``: the error of the same task with ``max_retries=0``.
    """
    import ray

    def dies_once(note: str) -> int:
        with open(note, "a+") as file:
            file.write(f"{os.getpid()}\n")
            file.flush()
            file.seek(0)
            attempts = len(file.readlines())
        if attempts == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return attempts

    note = local.folder / f"attempts-{time.monotonic_ns()}"
    answer = ray.get(ray.remote(max_retries=1)(dies_once).remote(str(note)))
    once = local.folder / f"attempts-{time.monotonic_ns()}"
    try:
        ray.get(ray.remote(max_retries=0)(dies_once).remote(str(once)))
        error = "none"
    except ray.exceptions.WorkerCrashedError as crash:
        error = type(crash).__name__
    return {
        "attempts": [int(line) for line in note.read_text().split()],
        "answer": answer,
        "without retries": error,
    }


def actor(local: raylocal.Local) -> dict[str, Any]:
    """Kill the process of an actor that counts; Ray makes it anew, and it counts from 0.

    Returns:
        ``counted``: before; ``counted after``: the first answer of the new process; ``processes``:
        the ids of both; ``the call under way``: the error of the call during which it died;
        ``without restarts``: the error of an actor with ``max_restarts=0``.
    """
    import ray

    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def add(self) -> tuple[int, int]:
            self.count += 1
            return self.count, os.getpid()

        def die(self) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

    def error_of(counter: Any) -> str:
        try:
            ray.get(counter.die.remote())
        except ray.exceptions.RayActorError as error:
            return type(error).__name__
        return "none"

    counter = ray.remote(num_cpus=0.1, max_restarts=1)(Counter).remote()
    before = [ray.get(counter.add.remote()) for _ in range(3)][-1]
    under_way = error_of(counter)
    deadline = time.monotonic() + 60
    while True:
        try:
            after = ray.get(counter.add.remote())
            break
        except ray.exceptions.ActorUnavailableError:
            # It is being made anew.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    ray.kill(counter)
    last = ray.remote(num_cpus=0.1)(Counter).remote()
    ray.get(last.add.remote())
    error_of(last)
    try:
        ray.get(last.add.remote())
        dead = "none"
    except ray.exceptions.ActorDiedError as error:
        dead = type(error).__name__
    return {
        "counted": before[0],
        "counted after": after[0],
        "processes": [before[1], after[1]],
        "the call under way": under_way,
        "without restarts": dead,
    }


def node(local: raylocal.Local) -> dict[str, Any]:
    """Kill a node that holds the only copies of two objects.

    Returns:
        ``made by a task``: ``made again`` or the error; ``runs of the task``: how often it ran;
        ``put by an actor there``: the error of an object of ``ray.put``; ``seconds``: until Ray
        knew that the node was dead.
    """
    import ray

    there = {"resources": {"victim": 0.01}, "num_cpus": 0.1}
    size = 2 * raylocal.MIB  # an object under 100 KiB travels in the answer, not in the store
    victim = local.add(raylocal.Machine(cpus=1, resources={"victim": 1}))
    note = local.folder / f"made-{time.monotonic_ns()}"

    def make(note: str) -> bytes:
        with open(note, "a") as file:
            file.write("made\n")
        return bytes(size)

    def bytes_of(size: int) -> bytes:
        return bytes(size)

    class Putter:
        def put(self) -> list[Any]:
            return [ray.put(bytes(size))]

    made = ray.remote(**there, max_retries=2)(make).remote(str(note))
    putter = ray.remote(**there)(Putter).remote()
    [put] = ray.get(putter.put.remote())
    bare = ray.remote(**there, max_retries=0)(bytes_of).remote(size)
    ray.wait([made, bare], num_returns=2, fetch_local=False)
    begun = time.perf_counter()
    local.kill(victim)
    seconds = time.perf_counter() - begun
    # A node like it, or the task would wait for one.
    another = local.add(raylocal.Machine(cpus=1, resources={"victim": 1}))
    found = {
        "made by a task": "made again" if len(ray.get(made)) == size else "wrong",
        "runs of the task": len(note.read_text().split()),
        "made by a task without retries": _error_of(bare),
        "put by an actor there": _error_of(put),
        "seconds": round(seconds, 1),
    }
    local.kill(another)
    return found


def owner(local: raylocal.Local) -> dict[str, Any]:
    """Kill an actor that owns an object; the node with its bytes lives on.

    Returns:
        ``while the owner lives``: bytes that were read; ``when it is dead``: the error.
    """
    import ray

    class Putter:
        def put(self) -> list[Any]:
            return [ray.put(bytes(2 * raylocal.MIB))]

    putter = ray.remote(num_cpus=0.1)(Putter).remote()
    [first] = ray.get(putter.put.remote())
    read = len(ray.get(first))
    ray.kill(putter)
    deadline = time.monotonic() + 60
    # The store may hold the bytes for a moment longer.
    while (error := _error_of(first)) == "none" and time.monotonic() < deadline:
        time.sleep(0.2)
    return {"while the owner lives": read, "when it is dead": error}


def _error_of(reference: Any) -> str:
    import ray

    try:
        ray.get(reference, timeout=60)
    except (ray.exceptions.ObjectLostError, ray.exceptions.GetTimeoutError) as error:
        return type(error).__name__
    return "none"


def head() -> dict[str, Any]:
    """Kill the head's control store, and in another Ray all of the head.

    Each happens in a process of its own, which Ray may end.

    Returns:
        without the control store what each call gave: ``answers``, an error's name, or that it
        hangs; and with which status Ray ended the driver when the whole head was gone.

    Raises:
        Mlk8sError: a driver ended before it had killed anything, or did not end.
    """
    found = {}
    for part in ("control store", "head"):
        try:
            done = subprocess.run(
                [sys.executable, str(Path(__file__).resolve()), "--driver", part],
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Mlk8sError(
                f"The driver of the experiment did not end within {error.timeout:g} s.",
                "run it again on a machine with less load.",
            ) from error
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if not lines:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise Mlk8sError(
                f"The driver of the experiment ended before anything was killed: {said}",
                "run it again; is the machine out of memory?",
            )
        for line in lines[1:]:
            found.update(line)
        if part == "head":
            found["no head: the driver ends with status"] = done.returncode
    return found


def _driver(part: str) -> None:
    """The process of :func:`head`; each finding is printed at once, for it may be the last."""
    import ray

    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def add(self) -> int:
            self.count += 1
            return self.count

    # Ray's default for how long to wait for a control store that does not answer is 60 s.
    waits = {"gcs_rpc_server_reconnect_timeout_s": 60 if part == "control store" else 8}
    with raylocal.running(cpus=1, system=waits) as local:
        counters = ray.remote(num_cpus=0.1)(Counter)
        counter = counters.remote()
        ray.get(counter.add.remote())
        stored = ray.put(bytes(2 * raylocal.MIB))
        task = ray.remote(num_cpus=0.1)(lambda: 1)
        ray.get(task.remote())
        print(json.dumps({"before": "all answer"}), flush=True)
        calls: dict[str, Callable[[], Any]] = {
            "read an object": lambda: ray.get(stored),
            "call an actor that ran": lambda: ray.get(counter.add.remote()),
            "run a task that ran before": lambda: ray.get(task.remote()),
            "make an actor": lambda: ray.get(counters.remote().add.remote()),
        }
        if part == "head":
            del calls["make an actor"]
            local.kill_head()
        else:
            local.kill_gcs()
        for name, call in calls.items():
            print(json.dumps({f"no {part}: {name}": _within(call, 4)}), flush=True)
        if part == "head":
            time.sleep(60)  # Ray ends this process meanwhile
        # To disconnect properly would need the control store; the guard cleans up.
        os._exit(0)


def _within(call: Callable[[], Any], seconds: float) -> str:
    """What a call gave: ``answers``, an error's name, or that it hangs."""
    import ray

    said = [f"no answer in {seconds:g} s"]

    def run() -> None:
        try:
            call()
            said.append("answers")
        except ray.exceptions.RayError as error:
            said.append(type(error).__name__)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return said[-1]


EXPERIMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "worker": worker,
    "actor": actor,
    "node": node,
    "owner": owner,
    "head": head,
}


def run(which: list[str]) -> dict[str, dict[str, Any]]:
    """The experiments by name, with a Ray for those that can share one.

    Raises:
        Mlk8sError: Ray does not start.
    """
    found = {}
    shared = [name for name in which if name != "head"]
    if shared:
        with raylocal.running(cpus=1) as local:
            for name in shared:
                found[name] = EXPERIMENTS[name](local)
    if "head" in which:
        found["head"] = head()
    return found


def table(found: dict[str, dict[str, Any]]) -> Table:
    """A row for each finding."""
    rows = [
        {"killed": name, "what": what, "found": str(value)}
        for name, each in found.items()
        for what, value in each.items()
    ]
    method = "SIGKILL to the processes of the part, then the calls that are named"
    return Table(rows, raylocal.provenance(method), title="What is lost")


def main() -> int:
    """The command."""
    if sys.argv[1:2] == ["--driver"]:
        _driver(sys.argv[2])
        return 0
    parser = options()
    chosen = parser.parse_args().which or list(EXPERIMENTS)
    for name in chosen:
        if name not in EXPERIMENTS:
            parser.error(f"{name} is no experiment; choose one of {', '.join(EXPERIMENTS)}")
    try:
        print(table(run(chosen)))
    except Mlk8sError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; Ray has been stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
