"""A call of a stand-in: written down, failed on demand, and the state that it may change."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HOME = Path("/var/lib/standins")
State = dict[str, Any]
Program = Callable[[list[str]], int]


class Failed(Exception):
    """The program ends with a status and words on standard error."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


@contextmanager
def _locked() -> Iterator[None]:
    descriptor = os.open(HOME / "lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def state() -> State:
    """What the machine is like; to be read."""
    with _locked():
        found: State = json.loads((HOME / "state.json").read_text())
        return found


@contextmanager
def changed() -> Iterator[State]:
    """What the machine is like; what the block changes is kept."""
    with _locked():
        found: State = json.loads((HOME / "state.json").read_text())
        yield found
        # The tests read it from outside, without the lock: it is whole at any moment.
        new = HOME / "state.json.new"
        new.write_text(json.dumps(found))
        new.replace(HOME / "state.json")


def run(program: Program, argv: list[str], inner: bool = False) -> int:
    """Run a program as this process, or as a step of the one that runs (``inner``)."""
    identity = f"{os.getpid()}-{time.monotonic_ns()}"
    user = pwd.getpwuid(os.getuid()).pw_name
    _write({"id": identity, "argv": argv, "user": user, "inner": inner})
    try:
        code = _fault(argv)
        if code is None:
            code = program(argv[1:])
    except Failed as error:
        print(error, file=sys.stderr)
        code = error.code
    sys.stdout.flush()
    _write({"id": identity, "code": code})
    return code


def _write(entry: dict[str, Any]) -> None:
    # One write of less than a page to a file opened for appending is never torn.
    with (HOME / "calls.jsonl").open("a") as log:
        log.write(json.dumps(entry) + "\n")


def _fault(argv: list[str]) -> int | None:
    """The status to end with, if a fault is set on this call."""
    line = " ".join(argv)
    with _locked():
        faults = json.loads((HOME / "faults.json").read_text())
        fault = next((f for f in faults if f["times"] and re.search(f["match"], line)), None)
        if fault is None:
            return None
        if fault["skip"]:
            fault["skip"] -= 1
        else:
            fault["times"] -= 1
            fault["hit"] += 1
        hit = fault["hit"]
        (HOME / "faults.json").write_text(json.dumps(faults))
    if not hit:
        return None
    time.sleep(fault["hang"])
    if fault["code"] is None:
        return None
    sys.stdout.write(fault["stdout"])
    print(fault["stderr"].replace("{call}", line), file=sys.stderr)
    code: int = fault["code"]
    return code
