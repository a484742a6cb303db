"""Notebooks and long tests: they begin first, and are left out while nothing they need changed.

    long_tests.py left-out      options of pytest that leave out what need not run
    long_tests.py passed MARK   all have passed, in a run that began when MARK was made

A test's mark has the time at which its run began, so that an edit meanwhile counts. Folders are
looked at too: a file that is gone changes the folder that it was in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

CLUSTER = ("src/mlk8s/sim", "src/mlk8s/cluster")
RAY = ("src/mlk8s", "labs/ray", "labs/manifests", "tests/sim", "tests/lm")
#: What executes code of the whole library.
LIBRARY = ("src/mlk8s", "labs", "benchmarks")
#: In the order in which they begin, the longest first, since one of them would be alone at the end;
#: and beside itself what each stands on, from the root of the repository.
LONG = {
    "notebooks/08-ray.ipynb": LIBRARY,
    "notebooks/07-kubeflow.ipynb": LIBRARY,
    "tests/labs/exercises": LIBRARY,
    "tests/sim/addons/kuberay/test_ray.py": RAY,
    "tests/labs/ansible": ("labs/ansible", *CLUSTER),
    "tests/labs/ray": RAY,
    "tests/test_raylocal.py": RAY,
    "tests/site": ("_build/html/.built", "src/mlk8s", "book", "notebooks", "tools"),
    "tests/labs/paperspace": ("labs/ansible", *CLUSTER),
    "tests/labs/test_classroom.py": ("labs/ansible", *CLUSTER),
    "notebooks/06-multi-instance-gpu.ipynb": LIBRARY,
    "notebooks/05-gpu-kubernetes.ipynb": LIBRARY,
    "notebooks/04-gpu-containers.ipynb": LIBRARY,
    "notebooks/03-gpu-application-stack.ipynb": LIBRARY,
    "notebooks/02-gpu-performance.ipynb": LIBRARY,
    "notebooks/01-gpu-basics.ipynb": LIBRARY,
    "book": LIBRARY,
}
#: What every test stands on.
ALWAYS = (
    "tests/conftest.py",
    "tools/long_tests.py",
    "Makefile",
    "pyproject.toml",
    "requirements.lock",
)
MARKS = Path("_build/passed")


def left_out() -> list[str]:
    """The long tests that passed, and of which nothing has changed since."""
    return [
        test
        for test, needs in LONG.items()
        if (mark := MARKS / test).exists() and not _changed((test, *needs, *ALWAYS), mark)
    ]


def passed(began: Path) -> None:
    """Note that all have passed, as of a file's time."""
    at = began.stat().st_mtime_ns
    for test in LONG:
        mark = MARKS / test
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        os.utime(mark, ns=(at, at))


def _changed(paths: tuple[str, ...], mark: Path) -> bool:
    """Whether any file or folder of these is newer than a mark, or is not there."""
    at = mark.stat().st_mtime_ns
    return any(
        not path.exists() or path.stat().st_mtime_ns > at
        for name in paths
        for path in _below(Path(name))
    )


def _below(path: Path) -> Iterator[Path]:
    yield path
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (Path(folder, name) for name in (*folders, *files))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["left-out"]:
            print(*(f"--ignore={test}" for test in left_out()))
        case ["passed", mark]:
            passed(Path(mark))
        case _:
            sys.exit(__doc__)
