"""Kills train() at every line that it executes, and lets it go on. Run it: python kill.py."""

import contextlib
import importlib.util
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

# In all; and how many of them may be done twice.
STEPS, MOST = 10, 4
#: Of the standard library: what opens a file, and then writes it.
WRITERS = ("write_text", "write_bytes")


def first_failure(file: str = "train.py") -> dict[str, object] | None:
    """The first kill after which training does not end as it would have; None where all is well."""
    source = str(Path(file).resolve())
    with tempfile.TemporaryDirectory() as folder:
        whole = _run(source, folder, 0)
    assert "weights" in whole, f"train() fails without any kill: {whole['error']}"
    for line in range(1, int(str(whole["lines"])) + 1):
        with tempfile.TemporaryDirectory() as folder:
            killed = _run(source, folder, line)
            if "weights" in killed:
                continue
            again = _run(source, folder, 0)
        repeated = int(str(killed["steps"])) + int(str(again["steps"])) - STEPS
        if "error" in again or again["weights"] != whole["weights"] or repeated > MOST:
            return {"after_steps": killed["steps"], "repeated": repeated, "whole": whole, **again}
    return None


def _run(source: str, folder: str, kill_at: int) -> dict[str, object]:
    """Call train() in a process of its own that is killed at its Nth line; 0 for never."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        _child(source, folder, kill_at, writes)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return dict(json.loads(told))


def _child(source: str, folder: str, kill_at: int, pipe: int) -> NoReturn:
    printed, lines = io.StringIO(), 0

    def end(**said: object) -> NoReturn:
        said |= {"steps": printed.getvalue().count("step="), "lines": lines}
        os.write(pipe, json.dumps(said).encode())
        # As after kill -9: nothing is flushed, nothing is closed.
        os._exit(0)

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        code = frame.f_code
        if code.co_filename != source and code.co_name not in WRITERS:
            return None
        if event == "line":
            lines += 1
            if lines == kill_at:
                end()
        return trace

    spec = importlib.util.spec_from_file_location("train", source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        with contextlib.redirect_stdout(printed):
            sys.settrace(trace)
            weights = module.train(folder, STEPS)
            sys.settrace(None)
        end(weights=weights)
    finally:
        # Only on the way out of train(): end() does not come back.
        sys.settrace(None)
        kind, error, _ = sys.exc_info()
        end(error=f"{kind.__name__ if kind else ''}: {error}")


if __name__ == "__main__":
    print(first_failure() or "no kill changes what comes out")
