"""The labs' commands: their help, and what they say to arguments that cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.labs.ray.conftest import LABS

SCRIPTS = [path.stem for path in sorted(LABS.glob("*.py")) if path.stem != "gpu_common"]


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(LABS / f"{script}.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_help_shows_how_to_call_it(script: str) -> None:
    done = run(script, "--help")
    assert done.returncode == 0, done.stderr
    assert f"  ./{script}.py" in done.stdout and done.stderr == ""


def test_arguments_that_cannot_be_are_named(tmp_path: Path) -> None:
    done = run("faults", "power")
    assert done.returncode == 2 and "power is no experiment" in done.stderr
    done = run("serve", "--model", str(tmp_path))
    assert done.returncode == 1 and "has no name" in done.stderr
