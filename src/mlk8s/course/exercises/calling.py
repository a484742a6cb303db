"""Calls a function of the reader's Python file in a process of its own, for a limited time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_HARNESS = """
import importlib.util, json, sys
path, name, arguments = json.load(sys.stdin)
spec = importlib.util.spec_from_file_location("answer", path)
module = importlib.util.module_from_spec(spec)
out, sys.stdout = sys.stdout, sys.stderr
spec.loader.exec_module(module)
if not hasattr(module, name):
    sys.exit("mlk8s: missing")
json.dump(getattr(module, name)(*arguments), out)
"""


class CallFailed(Exception):
    """The call gave no result; the message goes on after the function's name."""


def call(source: Path, function: str, arguments: Sequence[Any], within_s: float) -> Any:
    """Call a function.

    Args:
        source: the reader's file; its folder is the working folder.
        function: its name.
        arguments: JSON values.
        within_s: seconds that it may take, imports included.

    Raises:
        CallFailed: it is missing, raised, took too long or gave what JSON has no form for.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", _HARNESS],
            input=json.dumps([str(source), function, arguments]),
            cwd=source.parent,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CallFailed(f"has not returned after {within_s:g} s") from error
    if done.returncode == 0:
        return json.loads(done.stdout)
    lines = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
    if lines[-1] == "mlk8s: missing":
        raise CallFailed("is not there")
    place = [line.strip() for line in lines if str(source) in line]
    where = f" ({place[-1].replace(str(source), source.name)})" if place else ""
    raise CallFailed(f"failed: {lines[-1]}{where}")
