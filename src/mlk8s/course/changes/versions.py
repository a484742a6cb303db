"""Two versions of the course's notebooks: of a commit, of a folder, of the working tree."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from mlk8s.course import canonical, changes
from mlk8s.course.changes import NotebookChanges
from mlk8s.errors import NotebookError, UsageError


def compare(paths: Sequence[Path], against: str) -> list[NotebookChanges]:
    """Compare notebooks with their version in a folder, a file or a commit.

    Args:
        paths: notebooks, or folders of notebooks; the new version.
        against: a folder with notebooks of the same names, a notebook, or a commit of the
            repository that the paths are in: a branch, a tag, ``HEAD~1``.

    Returns:
        One entry for each notebook that one of the versions has, by name.

    Raises:
        UsageError: a path is missing, ``against`` is nothing of that, or git does not run.
        NotebookError: a file is not a notebook.
    """
    for path in paths:
        if not path.exists():
            raise UsageError(f"There is no {path}.", "name notebooks or folders of notebooks.")
    other = Path(against)
    if other.exists():
        return _with_files(paths, other)
    found: list[NotebookChanges] = []
    for path in paths:
        found += _with_commit(path, against)
    return _checked(found, paths)


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("*.ipynb")) if path.is_dir() else [path]


def _with_files(paths: Sequence[Path], other: Path) -> list[NotebookChanges]:
    """Compare with the files of a folder, by their names, or with one file."""
    new = {path.name: path for each in paths for path in _files(each)}
    if other.is_dir():
        old = {path.name: path for path in _files(other)}
        # Where single notebooks are named, the others are not asked for.
        folders = all(path.is_dir() for path in paths)
        names = sorted({*old, *new} if folders else new)
    elif len(new) == 1:
        names = list(new)
        old = {names[0]: other}
    else:
        raise UsageError(
            f"{other} is one notebook, and {len(new)} are to be compared with it.",
            "name one notebook, or give a folder to --against.",
        )
    found = []
    for name in names:
        if name not in old or name not in new:
            found.append(changes.whole(name, "added" if name in new else "removed"))
        else:
            versions = canonical.read(old[name]), canonical.read(new[name])
            found.append(changes.compare(*versions, name))
    return _checked(found, paths)


def _checked(found: list[NotebookChanges], paths: Sequence[Path]) -> list[NotebookChanges]:
    if not found:
        listed = ", ".join(map(str, paths))
        raise NotebookError(f"There is no notebook in {listed}.", "name notebooks or folders.")
    return found


def _with_commit(path: Path, commit: str) -> list[NotebookChanges]:
    """Compare a notebook, or a folder of them, with what a commit has there."""
    folder = path if path.is_dir() else path.parent
    _git(folder, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", unknown=commit)
    # In a folder of the repository ls-tree and show count names from there.
    only = [] if path.is_dir() else ["--", path.name]
    listed = _git(folder, "ls-tree", "--name-only", "-z", commit, *only)
    old = {Path(name).name for name in listed.split("\0") if name.endswith(".ipynb")}
    new = {file.name: file for file in _files(path)}
    found = []
    for name in sorted({*old, *new}):
        shown = (path / name if path.is_dir() else path).as_posix()
        if name not in old or name not in new:
            found.append(changes.whole(shown, "added" if name in new else "removed"))
            continue
        text = _git(folder, "show", f"{commit}:./{name}")
        before = canonical.parse(text, f"{shown} in {commit}")
        found.append(changes.compare(before, canonical.read(new[name]), shown))
    return found


def _git(folder: Path, *arguments: str, unknown: str = "") -> str:
    """What git prints.

    Raises:
        UsageError: git is missing, the folder is in no repository, or there is no such commit.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, check=False
        )
    except OSError as error:
        raise UsageError(
            f"git does not run: {error.strerror}.", "install it, or compare with a folder."
        ) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rstrip(".")
        if unknown and not said:
            said = f"{unknown!r} is neither a file, a folder nor a commit"
        raise UsageError(
            f"{said[:1].upper()}{said[1:]}.",
            "give --against a folder, or a commit of this repository: HEAD, main, a tag.",
        )
    return done.stdout.decode("utf-8", errors="replace")
