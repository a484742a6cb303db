"""What several tests need: processes of their own, a fake GPU, a copy of the library to damage.

A process loads NVML once and keeps it, so whatever depends on the driver runs in another process.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import long_tests
import pytest

import mlk8s

HERE = Path(__file__).parent
Run = Callable[..., subprocess.CompletedProcess[str]]

# Other tests run beside: how long an example takes says nothing.
hypothesis.settings.register_profile("course", deadline=None)
hypothesis.settings.load_profile("course")

# A shell's background job ignores Ctrl-C, and one under nohup that its terminal has gone; so would
# all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long ones first; what is in one file keeps its order."""
    order = {HERE.parent / each: place for place, each in enumerate(long_tests.LONG)}

    def place(item: pytest.Item) -> int:
        return min(order.get(each, len(order)) for each in (item.path, *item.path.parents))

    items.sort(key=place)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """List what failed, for a run of it alone: a notebook whole, since cells need those before."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    cache = getattr(session.config, "cache", None)
    if reporter is None or cache is None:  # one of several processes, which report to the first
        return
    failed = [each.nodeid for how in ("failed", "error") for each in reporter.stats.get(how, ())]
    names = (re.sub(r"(?<=\.ipynb)::.*", "", name) for name in failed)
    list_of_them = cache.mkdir("again") / "failed.txt"
    list_of_them.write_text("".join(f"{name}\n" for name in dict.fromkeys(names)))


@pytest.fixture(scope="session")
def compile_library(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Make a folder that holds a C source's code as ``libnvidia-ml.so.1``."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "these tests compile a fake NVML: install a C compiler (package gcc)"

    def build(source: Path) -> Path:
        folder = tmp_path_factory.mktemp(source.stem)
        library = folder / "libnvidia-ml.so.1"
        subprocess.run([compiler, "-w", "-shared", "-fPIC", "-o", library, source], check=True)
        return folder

    return build


@pytest.fixture(scope="session")
def fake_nvml(compile_library: Callable[[Path], Path]) -> Path:
    """A folder for ``LD_LIBRARY_PATH``; ``tests/fake_nvml/nvml.c`` says how to steer it."""
    return compile_library(HERE / "fake_nvml" / "nvml.c")


@pytest.fixture(scope="session")
def clean_environment() -> dict[str, str]:
    """This process's environment without what steers the library, on a terminal of 200 columns."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLK8S_", "FAKE_"))}
    return {**kept, "COLUMNS": "200", "NO_COLOR": "1"}


@pytest.fixture
def process(tmp_path: Path, clean_environment: dict[str, str]) -> Run:
    """Run this interpreter with arguments, in an empty folder; variables as keywords."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            env={**clean_environment, **variables},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def on_gpu(process: Run, fake_nvml: Path) -> Run:
    """The same, on a machine with the fake GPU."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return process(*arguments, **{"LD_LIBRARY_PATH": str(fake_nvml), **variables})

    return run


@pytest.fixture
def without_gpu(on_gpu: Run) -> Run:
    """The same, where the kernel module is not loaded: whatever this machine really has."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return on_gpu(*arguments, **{"FAKE_INIT": "9", **variables})

    return run


@pytest.fixture
def library_copy(tmp_path: Path) -> Path:
    """The library's code in a folder for ``PYTHONPATH``, so that its recordings can be changed."""
    folder = tmp_path / "copy"
    package = Path(mlk8s.__file__).parent
    shutil.copytree(package, folder / "mlk8s", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def sentence() -> Callable[[subprocess.CompletedProcess[str]], Any]:
    """Check that a process ended with one line, what is wrong and what to do; return both."""

    def check(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
        assert done.returncode == 1, (done.stdout, done.stderr)
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("mlk8s: ")
        problem, found, step = line.removeprefix("mlk8s: ").partition(" Next: ")
        assert found, line
        assert problem.endswith((".", ")")) and step.endswith("."), line
        return problem, step

    return check
