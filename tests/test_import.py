"""Importing the library costs next to nothing: a notebook's first cell and every command pay it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "pandas", "plotly", "numba", "cupy", "pynvml", "jsonschema", "rich", "IPython")


@pytest.mark.parametrize("module", ["mlk8s", "mlk8s.gpu", "mlk8s.bench", "mlk8s.plots"])
def test_import_brings_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_names_that_chapters_import() -> None:
    code = "from mlk8s import *; print(bench.matmul, errors, gpu.gpus, measured, plots.lines)"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
