"""Questions at the end of each chapter, with an answer to every choice.

>>> from mlk8s.course import quizzes
>>> quizzes.show(3)

``NN.yaml`` beside this file holds chapter NN's. :mod:`mlk8s.course.quizzes.page` shows them in the
book, in JupyterLab and in a terminal (``mlk8s quiz``). A question asks for what somebody on call
has to decide. Its wrong choices are what people believe, and each says why it is wrong and which
section of the chapter shows that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from mlk8s.errors import Mlk8sError, UsageError

__all__ = ["Choice", "Question", "Quiz", "QuizError", "chapters", "load", "show"]

#: How many questions a chapter may have, and the least number of choices in each.
QUESTIONS = range(3, 6)
LEAST_CHOICES = 3
_LETTERS = "abcdefgh"


class QuizError(Mlk8sError):
    """A file of questions is not as this module describes it."""


@dataclass(frozen=True)
class Choice:
    """One answer that may be chosen.

    Attributes:
        text: Markdown of one line.
        why: why it is right or wrong.
        right: whether it belongs to the answer.
        section: the heading of the chapter that shows it; empty where none is named.
    """

    text: str
    why: str
    right: bool
    section: str

    @property
    def verdict(self) -> str:
        """``Right.`` or ``Not this one.``, to begin the feedback with."""
        return "Right." if self.right else "Not this one."


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        ask: Markdown of one line.
        choices: at least three, in the order in which they are shown.
        choose: how many of them are right.
    """

    ask: str
    choices: tuple[Choice, ...]
    choose: int

    @property
    def right(self) -> frozenset[int]:
        """The places of the right choices, from 0."""
        return frozenset(i for i, choice in enumerate(self.choices) if choice.right)


@dataclass(frozen=True)
class Quiz:
    """The questions of a chapter; in a notebook it shows itself."""

    chapter: int
    questions: tuple[Question, ...]

    def __repr__(self) -> str:
        from mlk8s.course.quizzes import page

        return page.plain(self)

    def _repr_html_(self) -> str:
        from mlk8s.course.quizzes import page

        return page.to_html(self)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values, the answers included."""
        return {
            "chapter": self.chapter,
            "questions": [
                {
                    "ask": question.ask,
                    "choose": question.choose,
                    "choices": [vars(choice) for choice in question.choices],
                }
                for question in self.questions
            ],
        }


def chapters() -> list[int]:
    """The chapters that have questions."""
    names = (entry.name for entry in _folder().iterdir())
    return sorted(int(found[1]) for name in names if (found := re.fullmatch(r"(\d\d)\.yaml", name)))


def load(chapter: int, folder: Traversable | Path | None = None) -> Quiz:
    """Read and check a chapter's questions.

    Args:
        chapter: its number.
        folder: where ``NN.yaml`` lies; by default the course's.

    Raises:
        UsageError: the chapter has none.
        QuizError: the file is not in its form.
    """
    path = (folder or _folder()).joinpath(f"{chapter:02}.yaml")
    if not path.is_file():
        known = ", ".join(map(str, chapters()))
        raise UsageError(f"Chapter {chapter} has no questions.", f"take one of: {known}.")
    try:
        rows = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise QuizError(f"{path.name} is not YAML: {error}", "repair the line it names.") from error
    if not isinstance(rows, list) or len(rows) not in QUESTIONS:
        raise QuizError(
            f"{path.name} is not a list of {QUESTIONS[0]} to {QUESTIONS[-1]} questions.",
            "add some, or leave the best.",
        )
    return Quiz(
        chapter, tuple(_question(row, f"{path.name}, {i}") for i, row in enumerate(rows, 1))
    )


def show(chapter: int) -> Quiz:
    """The questions of a chapter, for the last line of a cell. See :func:`load`."""
    return load(chapter)


def _folder() -> Traversable:
    return resources.files(__name__)


def _question(row: Any, where: str) -> Question:
    _keys(row, {"ask", "options"}, {"section", "choose"}, where)
    choose = row.get("choose", 1)
    options = row["options"]
    if not isinstance(options, list) or len(options) < LEAST_CHOICES:
        raise QuizError(
            f"{where}: there are not {LEAST_CHOICES} options.", "add what people believe."
        )
    if len(options) > len(_LETTERS):
        raise QuizError(
            f"{where}: {len(options)} options; {len(_LETTERS)} at the most.", "leave the best."
        )
    default = _text(row, "section", where) if "section" in row else ""
    choices = []
    for letter, option in zip(_LETTERS, options, strict=False):
        place = f"{where}{letter}"
        _keys(option, {"text", "why"}, {"right", "section"}, place)
        if option.get("right", True) is not True:
            raise QuizError(f"{place}: right is written for right options only.", "leave it out.")
        section = _text(option, "section", place) if "section" in option else default
        choices.append(
            Choice(
                _text(option, "text", place),
                _text(option, "why", place),
                "right" in option,
                section,
            )
        )
    question = Question(_text(row, "ask", where), tuple(choices), choose)
    if len(question.right) != choose or not 0 < choose < len(choices):
        raise QuizError(
            f"{where}: choose is {choose!r}, and {len(question.right)} of {len(choices)} options "
            "are right.",
            "mark as many, and not all.",
        )
    texts = [choice.text for choice in choices]
    if len(set(texts)) < len(texts) or len({choice.why for choice in choices}) < len(choices):
        raise QuizError(
            f"{where}: two options have one text.", "give each its own, and its own why."
        )
    return question


def _keys(row: Any, required: set[str], optional: set[str], where: str) -> None:
    keys = set(row) if isinstance(row, dict) else set()
    if not required <= keys <= required | optional:
        wrong = sorted(map(str, required - keys | keys - required - optional))
        raise QuizError(
            f"{where}: missing or not known: {', '.join(wrong)}.",
            f"it has {', '.join(sorted(required))}, and may have {', '.join(sorted(optional))}.",
        )


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row[key]
    if not isinstance(value, str) or not value.strip() or "\n" in value.strip():
        raise QuizError(
            f"{where}: {key} is not one paragraph of text.", "write it in quotes or as >-"
        )
    return value.strip()
