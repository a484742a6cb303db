"""What is left out of a run, and what brings it back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import long_tests
import nbformat
import pytest

HERE = Path(__file__).parent
ALL = set(long_tests.LONG)
NOTEBOOKS = {name for name in ALL if not name.startswith("tests/")}
PLAYBOOKS = {"tests/labs/ansible", "tests/labs/paperspace", "tests/labs/test_classroom.py"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A file in each place that a long test stands on, all as old as the epoch."""
    for name in {*long_tests.LONG, *sum(long_tests.LONG.values(), ()), *long_tests.ALWAYS}:
        path = tmp_path / name
        file = (
            path if path.suffix or path.name in ("Makefile", ".built") else path / "within" / "a.py"
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.utime(path, (0, 0))
    return tmp_path


@pytest.fixture
def ask(repository: Path) -> Callable[..., list[str]]:
    def run(*arguments: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, long_tests.__file__, *arguments],
            cwd=repository,
            capture_output=True,
            text=True,
            check=True,
        )
        return [option.removeprefix("--ignore=") for option in done.stdout.split()]

    return run


def all_passed(repository: Path, ask: Callable[..., list[str]], at: int = 100) -> None:
    began = repository / "_build" / "began"
    began.touch()
    os.utime(began, (at, at))
    ask("passed", "_build/began")


def test_every_place_is_there() -> None:
    """A name that matches nothing would never change."""
    for test, needs in long_tests.LONG.items():
        for name in (test, *needs, *long_tests.ALWAYS):
            assert name.startswith("_build/") or (HERE.parent / name).exists(), name


def test_all_run_that_never_passed(ask: Callable[..., list[str]]) -> None:
    assert ask("left-out") == []


def test_what_passed_is_left_out(repository: Path, ask: Callable[..., list[str]]) -> None:
    all_passed(repository, ask)
    assert ask("left-out") == list(long_tests.LONG)


@pytest.mark.parametrize(
    ("changed", "run"),
    [
        ("src/mlk8s/bench/within/a.py", ALL - PLAYBOOKS),
        ("src/mlk8s/sim/within/a.py", ALL),
        ("labs/ansible/within/a.py", NOTEBOOKS | {"tests/labs/exercises"} | PLAYBOOKS),
        ("tests/site/within/a.py", {"tests/site"}),
        ("notebooks/01-gpu-basics.ipynb", {"notebooks/01-gpu-basics.ipynb", "tests/site"}),
        ("_build/html/.built", {"tests/site"}),
        ("tests/conftest.py", ALL),
        ("docs/within/a.py", set()),
    ],
)
def test_an_edit_brings_back_what_stands_on_it(
    repository: Path, ask: Callable[..., list[str]], changed: str, run: set[str]
) -> None:
    all_passed(repository, ask)
    file = repository / changed
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("edited")
    assert ALL - set(ask("left-out")) == run


def test_an_edit_during_the_run_counts(repository: Path, ask: Callable[..., list[str]]) -> None:
    """The mark is set at the end of a run, with the time of its beginning."""
    os.utime(repository / "tests/site/within/a.py", (101, 101))
    all_passed(repository, ask, at=100)
    assert "tests/site" not in ask("left-out")


def test_a_file_that_is_gone_counts(repository: Path, ask: Callable[..., list[str]]) -> None:
    all_passed(repository, ask)
    (repository / "tests/site/within/a.py").unlink()
    assert "tests/site" not in ask("left-out")


def test_a_folder_of_bytecode_changes_nothing(
    repository: Path, ask: Callable[..., list[str]]
) -> None:
    cache = repository / "tests/site/within/__pycache__"
    cache.mkdir()
    os.utime(cache.parent, (0, 0))
    all_passed(repository, ask)
    (cache / "a.pyc").touch()
    assert "tests/site" in ask("left-out")


def test_what_failed_is_listed_and_a_notebook_whole(tmp_path: Path) -> None:
    """By a real run of a notebook with a cell that fails, beside a test that fails."""
    shutil.copy(HERE / "conftest.py", tmp_path)
    (tmp_path / "test_two.py").write_text(
        """
import pytest

@pytest.mark.parametrize("word", ["two words", "three"])
def test_it(word):
    assert word == "three"
"""
    )
    cells = [nbformat.v4.new_code_cell(source) for source in ("a = 1", "assert a == 2", "a")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "one.ipynb")
    run = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"]
    done = subprocess.run(
        [*run, "--nbval-lax", "--nbval-current-env", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(long_tests.__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    listed = (tmp_path / ".pytest_cache/d/again/failed.txt").read_text()
    assert sorted(listed.splitlines()) == ["one.ipynb", "test_two.py::test_it[two words]"]
