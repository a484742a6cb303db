"""The exercises as they lie in ``labs/exercises``: found, read and held to their form.

``labs/exercises/README.md`` describes the form for who writes one. Nothing here touches a cluster
or the reader's files.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from mlk8s.errors import Mlk8sError, UsageError

_NAMED = re.compile(r"(\d\d)-(\d\d)-([a-z0-9]+(?:-[a-z0-9]+)*)")
_REQUIRED = ("title", "chapter", "trains", "minutes", "needs")
_OPTIONAL = ("nodes", "faults", "addons")
#: The most hints that an exercise may have.
MOST_HINTS = 3
#: In a folder of ``solution`` or ``wrong``: what is not copied to the reader's folder.
REPAIR, MESSAGE = "repair.py", "message.txt"
NODES = "course"


class ExerciseError(Mlk8sError):
    """An exercise is not as ``labs/exercises/README.md`` says, or its own code failed."""


class Needs(StrEnum):
    """What must be there to work on an exercise."""

    NONE = "none"  # a file is the answer, nothing runs
    CLUSTER = "cluster"  # any cluster: the embedded one, or a live one
    EMBEDDED = "embedded"  # the embedded cluster alone: it is broken or rebuilt on purpose
    GPU = "gpu"  # a GPU answers, live or recorded (MLK8S_GPU)

    @property
    def cluster(self) -> bool:
        """Whether a cluster takes part."""
        return self in (Needs.CLUSTER, Needs.EMBEDDED)


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        folder: where it lies.
        number: ``5.3``.
        slug: ``the-taint``.
        trains: what one learns by it, a few words.
        minutes: what it takes a reader.
        nodes: presets or the YAML file of the embedded cluster that it is made for.
        faults: (name, node or ``None``) of the embedded cluster, on while it is worked on.
        addons: of the embedded cluster.
        task, hints, explanation: Markdown.
    """

    folder: Path
    number: str
    slug: str
    title: str
    trains: str
    minutes: int
    needs: Needs
    nodes: str
    faults: tuple[tuple[str, str | None], ...]
    addons: tuple[str, ...]
    task: str
    hints: tuple[str, ...]
    explanation: str

    @property
    def chapter(self) -> int:
        """The chapter's number."""
        return int(self.number.partition(".")[0])

    @property
    def name(self) -> str:
        """``5.3-the-taint``: the name of the reader's folder."""
        return f"{self.number}-{self.slug}"

    @property
    def starter(self) -> Path:
        """The files that the reader begins with."""
        return self.folder / "starter"

    @property
    def solution(self) -> Path:
        """The files of an answer that passes."""
        return self.folder / "solution"

    @property
    def wrong(self) -> list[Path]:
        """The folders of answers that must not pass."""
        return folders(self.folder / "wrong")


def find_folder(start: Path | None = None) -> Path:
    """``labs/exercises`` of the course that the working folder is in, or that this code is of.

    Raises:
        UsageError: there is none.
    """
    here = start or Path.cwd()
    for folder in (here, *here.parents, *Path(__file__).resolve().parents):
        found = folder / "labs" / "exercises"
        if found.is_dir():
            return found
    raise UsageError(
        f"No labs/exercises lies above {here}.", "change into the folder of the course."
    )


def folders(where: Path) -> list[Path]:
    """The folders in a folder, by name; none when it is missing."""
    if not where.is_dir():
        return []
    return sorted(each for each in where.iterdir() if each.is_dir() and each.name[0] not in "._")


def files(where: Path) -> list[Path]:
    """The files below a folder, relative to it, without what only the proof reads."""
    if not where.is_dir():
        return []
    found = (path for path in sorted(where.rglob("*")) if path.is_file())
    kept = [path.relative_to(where) for path in found if "__pycache__" not in path.parts]
    return [path for path in kept if str(path) not in (REPAIR, MESSAGE, ".gitkeep")]


def load_all(where: Path) -> list[Exercise]:
    """All exercises, in the order of the book.

    Raises:
        ExerciseError: one of them is not in form.
    """
    found = [load(folder) for folder in folders(where)]
    for key in ("number", "slug"):
        seen: dict[str, Exercise] = {}
        for each in found:
            other = seen.setdefault(getattr(each, key), each)
            if other is not each:
                raise ExerciseError(
                    f"{other.folder.name} and {each.folder.name} have the same {key}.",
                    "rename one of the folders.",
                )
    return found


def find(name: str, where: Path) -> Exercise:
    """The exercise that is meant: ``5.3``, ``the-taint``, ``5.3-the-taint``, ``05-03-the-taint``.

    Raises:
        UsageError: there is none of that name; the message suggests one.
        ExerciseError: it is not in form.
    """
    known: dict[str, Path] = {}
    for folder in folders(where):
        if named := _NAMED.fullmatch(folder.name):
            number = f"{int(named[1])}.{int(named[2])}"
            for alias in (folder.name, number, named[3], f"{number}-{named[3]}"):
                known[alias] = folder
    wanted = name.strip().rstrip("/").lower()
    if wanted in known:
        return load(known[wanted])
    raise UsageError(
        f"There is no exercise {name!r}.", f"{_near(wanted, known)}see all: mlk8s exercise list."
    )


def _near(wanted: str, known: Mapping[str, Path]) -> str:
    """What may have been meant: the chapter's exercises for a number, else a similar name."""
    if number := re.match(r"(\d+)(?:\.\d+)?$", wanted):
        there = [
            alias for alias in known if alias.partition(".")[0] == number[1] and alias[-1].isdigit()
        ]
        return f"chapter {number[1]} has {', '.join(there)}; " if there else ""
    close = difflib.get_close_matches(wanted, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}? Else " if close else ""


def load(folder: Path) -> Exercise:
    """Read one exercise.

    Raises:
        ExerciseError: it is not in form; the message names every place.
    """
    problems: list[str] = []
    named = _NAMED.fullmatch(folder.name)
    if named is None:
        problems.append("the folder's name is not NN-MM-slug")
    number = f"{int(named[1])}.{int(named[2])}" if named else ""
    header, task = _front_matter(_text(folder / "task.md", problems), problems)
    problems += _header_problems(header, int(named[1]) if named else None)
    hints = _sections(_text(folder / "hints.md", problems))
    if not 1 <= len(hints) <= MOST_HINTS:
        problems.append(
            f'hints.md: {len(hints)} sections that begin with "## "; 1 to {MOST_HINTS} are needed'
        )
    if any(not hint for hint in hints):
        problems.append("hints.md: a section is empty")
    explanation = _text(folder / "explanation.md", problems)
    problems += _folder_problems(folder)
    if problems:
        raise ExerciseError(
            f"The exercise {folder.name} is not in form: {'; '.join(problems)}.",
            "labs/exercises/README.md describes the form.",
        )
    nodes = str(header.get("nodes", NODES))
    return Exercise(
        folder=folder,
        number=number,
        slug=named[3] if named else "",
        title=header["title"],
        trains=header["trains"],
        minutes=header["minutes"],
        needs=Needs(header["needs"]),
        nodes=str(folder / nodes) if nodes.endswith((".yaml", ".yml")) else nodes,
        faults=tuple(_fault(each) for each in header.get("faults") or ()),
        addons=tuple(header.get("addons") or ()),
        task=task,
        hints=hints,
        explanation=explanation,
    )


def _text(path: Path, problems: list[str]) -> str:
    try:
        text = path.read_text("utf-8").strip()
    except OSError as error:
        problems.append(f"{path.name}: {error.strerror}")
        return ""
    except UnicodeDecodeError:
        problems.append(f"{path.name}: not UTF-8")
        return ""
    if not text:
        problems.append(f"{path.name}: empty")
    return text


def _front_matter(text: str, problems: list[str]) -> tuple[dict[str, Any], str]:
    parts = re.match(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL)
    if parts is None:
        if text:
            problems.append("task.md: no front matter between two lines '---'")
        return {}, text
    try:
        header = yaml.safe_load(parts[1])
    except yaml.YAMLError as error:
        problems.append(f"task.md: the front matter is not YAML ({error})")
        return {}, parts[2].strip()
    if not isinstance(header, dict):
        problems.append("task.md: the front matter is no mapping")
        return {}, parts[2].strip()
    if not parts[2].strip():
        problems.append("task.md: no task below the front matter")
    return header, parts[2].strip()


def _header_problems(header: Mapping[str, Any], chapter: int | None) -> Iterator[str]:
    if not header:
        return
    known = (*_REQUIRED, *_OPTIONAL)
    for key in _REQUIRED:
        if key not in header:
            yield f"task.md: {key} is missing"
    for key in header:
        if key not in known:
            yield f"task.md: {key} is no key; known: {', '.join(known)}"
    for key in ("title", "trains"):
        text = header.get(key, "?")
        if not isinstance(text, str) or not text:
            yield f"task.md: {key} {text!r} is no text"
    minutes = header.get("minutes", 1)
    if not isinstance(minutes, int) or isinstance(minutes, bool) or minutes < 1:
        yield f"task.md: minutes {minutes!r} is no whole number above 0"
    if chapter is not None and header.get("chapter", chapter) != chapter:
        yield f"task.md: chapter {header['chapter']!r} is not the folder's, {chapter}"
    needs = header.get("needs", Needs.EMBEDDED)
    if needs not in list(Needs):
        yield f"task.md: needs {needs!r} is not one of {', '.join(Needs)}"
        return
    if "nodes" in header and not Needs(needs).cluster:
        yield f"task.md: nodes make no sense with needs: {needs}"
    for key in ("faults", "addons"):
        value = header.get(key) or []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            yield f"task.md: {key} {value!r} is no list of names"
        elif value and needs != Needs.EMBEDDED:
            yield f"task.md: {key} need the embedded cluster (needs: embedded)"


def _folder_problems(folder: Path) -> Iterator[str]:
    if not (folder / "check.py").is_file():
        yield "check.py is missing"
    if not (folder / "starter").is_dir():
        yield "starter/ is missing (with a .gitkeep where the reader begins without files)"
    answers = [folder / "solution", *folders(folder / "wrong")]
    for answer in answers:
        if not files(answer) and not (answer / REPAIR).is_file():
            yield f"{answer.relative_to(folder)}/ holds neither files nor {REPAIR}"
    for answer in answers[1:]:
        if not words(answer):
            yield f"{answer.relative_to(folder)}/{MESSAGE} is missing or empty"
    if len(answers) < 3:
        yield f"wrong/ holds {len(answers) - 1} answers; two at least are needed"


def words(answer: Path) -> list[str]:
    """What the message for a wrong answer must contain, line by line."""
    path = answer / MESSAGE
    if not path.is_file():
        return []
    return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]


def _sections(text: str) -> tuple[str, ...]:
    """The texts below the headings of second level."""
    parts = re.split(r"^## .*$", text, flags=re.MULTILINE)
    return tuple(part.strip() for part in parts[1:])


def _fault(text: str) -> tuple[str, str | None]:
    name, _, node = text.partition("@")
    return name, node or None
