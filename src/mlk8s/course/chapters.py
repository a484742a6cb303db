"""What each chapter takes, the paths through the course, and what its labs cost.

``chapters.yaml`` beside this file is the one place of these figures. The tables are Markdown, which
:mod:`mlk8s.course.chapter_pages` puts into the book.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from mlk8s.errors import Mlk8sError

#: The part whose list price the tables of cost use, as chapters 5 and 6 do.
PRICED = "H100"
PRICES = Path("labs/ansible/paperspace/vars/prices.yml")


class CourseError(Mlk8sError):
    """``chapters.yaml`` contradicts itself."""


@dataclass(frozen=True)
class Chapter:
    """What a chapter takes.

    Attributes:
        file: the notebook's name without ``.ipynb``.
        minutes: to read and run it without a GPU.
        exercises: minutes for all of its exercises.
        needs: numbers of the chapters that come first.
        live_gpus: GPUs that a live run holds at once.
        live_minutes: how long it holds them.
        makes: what a live run makes outside of its kernel, as Markdown.
    """

    number: int
    file: str
    minutes: int
    exercises: int
    needs: tuple[int, ...]
    live_gpus: int
    live_minutes: int
    makes: str

    @property
    def gpu_hours(self) -> float:
        """GPU hours of a live run."""
        return self.live_gpus * self.live_minutes / 60


@dataclass(frozen=True)
class Step:
    """A chapter of a path.

    Attributes:
        exercises: numbers of exercises; ``None`` for all of them.
        exercise_minutes: for these.
        live: a second time, on a rented GPU.
    """

    chapter: Chapter
    exercises: tuple[int, ...] | None
    exercise_minutes: int
    live: bool

    @property
    def minutes(self) -> int:
        """Of the whole step."""
        reading = self.chapter.live_minutes if self.live else self.chapter.minutes
        return reading + self.exercise_minutes


@dataclass(frozen=True)
class CoursePath:
    """A way through the course that fits a time.

    Attributes:
        hours: the time that it has to fit.
        after: what the reader has then, as Markdown.
    """

    name: str
    title: str
    hours: int
    steps: tuple[Step, ...]
    after: str

    @property
    def minutes(self) -> int:
        """Of all steps."""
        return sum(step.minutes for step in self.steps)

    @property
    def gpu_hours(self) -> float:
        """GPU hours to rent."""
        return sum(step.chapter.gpu_hours for step in self.steps if step.live)


@dataclass(frozen=True)
class Price:
    """The list price of an hour of one GPU, USD."""

    usd_per_hour: float
    source: str
    date: str


@cache
def course() -> tuple[dict[int, Chapter], dict[str, CoursePath]]:
    """The chapters by number and the paths by name. See :func:`parse`."""
    return parse(resources.files("mlk8s.course").joinpath("chapters.yaml").read_text("utf-8"))


def parse(text: str) -> tuple[dict[int, Chapter], dict[str, CoursePath]]:
    """Read ``chapters.yaml``.

    Raises:
        CourseError: a chapter needs one that is not before it, or a path lists a chapter before
            what it needs, or takes longer than it says.
    """
    document = yaml.safe_load(text)
    chapters = {number: _chapter(number, row) for number, row in document["chapters"].items()}
    for chapter in chapters.values():
        if wrong := [n for n in chapter.needs if n not in chapters or n >= chapter.number]:
            raise CourseError(
                f"Chapter {chapter.number} needs {wrong[0]}, which does not come before it.",
                "repair needs in chapters.yaml.",
            )
    paths = {name: _path(name, row, chapters) for name, row in document["paths"].items()}
    return chapters, paths


def _chapter(number: int, row: dict[str, Any]) -> Chapter:
    live = row["live"]
    return Chapter(
        number,
        row["file"],
        row["minutes"],
        row["exercises"],
        tuple(row["needs"]),
        live["gpus"],
        live["minutes"],
        row["makes"],
    )


def _path(name: str, row: dict[str, Any], chapters: Mapping[int, Chapter]) -> CoursePath:
    steps = tuple(_step(name, step, chapters) for step in row["steps"])
    path = CoursePath(name, row["title"], row["hours"], steps, row["after"])
    done: set[int] = set()
    for step in steps:
        missing = [n for n in step.chapter.needs if n not in done]
        if missing:
            raise CourseError(
                f"The path {name} has chapter {step.chapter.number} before chapter {missing[0]}, "
                "which it needs.",
                "put that one in front of it in chapters.yaml.",
            )
        done.add(step.chapter.number)
    if path.minutes > path.hours * 60:
        raise CourseError(
            f"The path {name} takes {duration(path.minutes)} and has {path.hours} hours.",
            "leave something out of it in chapters.yaml.",
        )
    return path


def _step(name: str, row: dict[str, Any], chapters: Mapping[int, Chapter]) -> Step:
    chapter = chapters.get(row["chapter"])
    if chapter is None:
        raise CourseError(
            f"The path {name} has chapter {row['chapter']}, which there is not.",
            "repair it in chapters.yaml.",
        )
    chosen, live = row["exercises"], row.get("live", False)
    if chosen == "all":
        return Step(chapter, None, chapter.exercises, live)
    if chosen == "none":
        return Step(chapter, (), 0, live)
    return Step(chapter, tuple(chosen), row["exercise_minutes"], live)


def price(root: Path) -> Price:
    """The list price that the playbook shows before it rents.

    Args:
        root: the repository.
    """
    listed = yaml.safe_load((root / PRICES).read_text("utf-8"))["machine_prices"]
    return Price(listed["usd_per_hour"][PRICED], listed["source"], listed["date"])


def duration(minutes: int) -> str:
    """``90`` as ``1 h 30 min``."""
    hours, rest = divmod(minutes, 60)
    return " ".join(
        part for part in (f"{hours} h" * bool(hours), f"{rest} min" * bool(rest)) if part
    )


def path_table(name: str, titles: Mapping[int, str], cost: Price) -> str:
    """A path as Markdown: what to do in which order, and what it takes.

    Args:
        name: of the path.
        titles: of the chapters, by number.
        cost: of a GPU hour.
    """
    path = course()[1][name]
    lines = ["| | chapter | what | needs | time |", "|---|---|---|---|---|"]
    for place, step in enumerate(path.steps, 1):
        link = f"[{step.chapter.number} · {titles[step.chapter.number]}](../notebooks/"
        link += f"{step.chapter.file}.ipynb)"
        needs = ", ".join(map(str, step.chapter.needs)) or "–"
        lines.append(f"| {place} | {link} | {_what(step)} | {needs} | {duration(step.minutes)} |")
    lines += ["", f"Together {duration(path.minutes)}, in {path.hours} hours. {_rent(path, cost)}"]
    return "\n".join([*lines, "", path.after])


def _what(step: Step) -> str:
    if step.live:
        return "again with `MLK8S_GPU=live`, on a rented GPU"
    if step.exercises is None:
        return "read, run, quiz, all exercises"
    if not step.exercises:
        return "read, run, quiz"
    *most, last = map(str, step.exercises)
    return f"read, run, quiz, exercises {', '.join(most)} and {last}"


def _rent(path: CoursePath, cost: Price) -> str:
    if not path.gpu_hours:
        return "It costs nothing: no GPU is needed."
    return (
        f"It rents {path.gpu_hours:g} GPU hours: {path.gpu_hours * cost.usd_per_hour:.2f} USD at "
        f"{_at(cost)}. The rest costs nothing."
    )


def _at(cost: Price) -> str:
    return (
        f"{cost.usd_per_hour} USD an hour, the list price of an {PRICED} (spec: {cost.source}, "
        f"{cost.date})"
    )


def paths_table() -> str:
    """All paths as Markdown, with links to their pages."""
    lines = ["| path | time | chapters | GPU hours to rent |", "|---|---|---|---|"]
    for path in course()[1].values():
        numbers = dict.fromkeys(step.chapter.number for step in path.steps)
        lines.append(
            f"| [{path.title}](path-{path.name}.md) | {duration(path.minutes)} | "
            f"{', '.join(map(str, numbers))} | {path.gpu_hours:g} |"
        )
    return "\n".join(lines)


def cost_table(titles: Mapping[int, str], cost: Price) -> str:
    """What each chapter costs when it is run live, as Markdown."""
    chapters = course()[0].values()
    lines = ["| chapter | GPUs × time | USD | makes outside of its kernel |", "|---|---|---|---|"]
    lines += _cost_rows(chapters, titles, cost)
    hours = sum(chapter.gpu_hours for chapter in chapters)
    lines.append(f"| all | {hours:g} GPU hours | {hours * cost.usd_per_hour:.2f} | |")
    derived = f"Derived: GPUs × time × {_at(cost)}. Times are those under *Cost* in the chapters."
    return "\n".join([*lines, "", derived])


def _cost_rows(
    chapters: Iterable[Chapter], titles: Mapping[int, str], cost: Price
) -> Iterator[str]:
    for chapter in chapters:
        link = f"[{chapter.number} · {titles[chapter.number]}](../notebooks/{chapter.file}.ipynb)"
        usd = chapter.gpu_hours * cost.usd_per_hour
        yield (
            f"| {link} | {chapter.live_gpus} × {duration(chapter.live_minutes)} | {usd:.2f} | "
            f"{chapter.makes or 'nothing'} |"
        )
