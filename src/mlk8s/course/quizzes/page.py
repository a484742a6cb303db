"""How questions look: HTML for the book and for JupyterLab, plain text, a dialog in a terminal.

The HTML needs no script, since JupyterLab runs none in a notebook that it does not trust: each
choice is a ``<details>`` that opens on its feedback. In the book ``quiz.js`` makes a form of it.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mlk8s.course.quizzes import Choice, Question, Quiz

if TYPE_CHECKING:
    from rich.console import Console

_LETTERS = "abcdefgh"
_WIDTH = 88


def to_html(quiz: Quiz) -> str:
    """A chapter's questions as HTML that needs no script."""
    from markdown_it import MarkdownIt

    render = MarkdownIt("commonmark", {"html": False}).renderInline
    parts = [f'<div class="mlk8s-quiz" data-chapter="{quiz.chapter}">']
    for number, question in enumerate(quiz.questions, 1):
        parts.append(
            f'<fieldset class="mlk8s-question" id="quiz-{quiz.chapter}-{number}" '
            f'data-choose="{question.choose}">'
            f"<legend><b>{number}.</b> {render(question.ask)}</legend>"
        )
        for choice in question.choices:
            right = ' data-right=""' if choice.right else ""
            parts.append(
                f"<details{right}><summary>{render(choice.text)}</summary>"
                f"<p><b>{choice.verdict}</b> {render(choice.why)}{_link(choice, render)}</p>"
                "</details>"
            )
        parts.append("</fieldset>")
    return "\n".join([*parts, "</div>"])


def _link(choice: Choice, render: Callable[[str], str]) -> str:
    if not choice.section:
        return ""
    heading = render(choice.section).replace("<code>", "").replace("</code>", "")
    return f' See <a href="#{html.escape(slug(choice.section))}">{heading}</a>.'


def slug(heading: str) -> str:
    """The name that Sphinx gives to a section of the chapter's page."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def plain(quiz: Quiz, *, answers: bool = False) -> str:
    """A chapter's questions as text, without the answers unless they are asked for."""
    lines = []
    for number, question in enumerate(quiz.questions, 1):
        lines += [*_wrapped(f"{number}. ", question.ask), *_choices(question)]
        if answers:
            lines.append("")
            for letter, choice in zip(_LETTERS, question.choices, strict=False):
                lines += _wrapped(f"   {letter}: ", _feedback(choice))
        lines.append("")
    if not answers:
        lines.append(f"The answers: mlk8s quiz {quiz.chapter} in a terminal, or with --answers.")
    return "\n".join(lines).rstrip()


def _choices(question: Question) -> Iterator[str]:
    for letter, choice in zip(_LETTERS, question.choices, strict=False):
        yield from _wrapped(f"   {letter}) ", choice.text)


def _wrapped(lead: str, text: str) -> list[str]:
    return textwrap.wrap(
        text.replace("*", ""),
        _WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_on_hyphens=False,
    )


def _feedback(choice: Choice) -> str:
    where = f" See “{choice.section}”." if choice.section else ""
    return f"{choice.verdict} {choice.why}{where}"


def ask(quiz: Quiz, console: Console) -> None:
    """Put the questions one by one, and say to each answer why it is right or wrong.

    A wrong answer may be tried again, and an empty line shows the right one. ``q`` and the end of
    the input stop.

    Args:
        quiz: the chapter's questions.
        console: a terminal.
    """
    at_once = 0
    for number, question in enumerate(quiz.questions, 1):
        head = f"Question {number} of {len(quiz.questions)}"
        console.rule(head, align="left", style="dim")
        _print(console, [*_wrapped("", question.ask), "", *_choices(question), ""])
        tries = 0
        while True:
            chosen = _read(question, console)
            if chosen is None:
                _print(console, ["", f"Stopped. {_score(at_once, number - 1)}"])
                return
            tries += 1
            right = chosen == question.right
            for place in sorted(chosen or question.right):
                letter, choice = _LETTERS[place], question.choices[place]
                style = "green" if choice.right else "yellow"
                _print(console, _wrapped(f"{letter}: ", _feedback(choice)), style)
            if right or not chosen:
                at_once += right and tries == 1
                _print(console, [""])
                break
            _print(console, ["Try again, or press Enter for the answer."])
    _print(console, [_score(at_once, len(quiz.questions))])


def _score(at_once: int, asked: int) -> str:
    return f"{at_once} of {asked} right at the first try."


def _read(question: Question, console: Console) -> frozenset[int] | None:
    """The chosen places, none of them for an empty line, ``None`` to stop."""
    last = _LETTERS[len(question.choices) - 1]
    many = f"{question.choose} letters" if question.choose > 1 else "a letter"
    while True:
        try:
            line = console.input(f"Answer ({many}, a to {last}; q ends): ")
        except EOFError:
            return None
        letters = re.sub(r"[\s,]", "", line.lower())
        if letters == "q":
            return None
        chosen = frozenset(map(_LETTERS.find, letters))
        known = all(0 <= place < len(question.choices) for place in chosen)
        if not letters or (known and len(chosen) == len(letters) == question.choose):
            return chosen
        _print(console, [f"{line.strip()!r} is not {many} from a to {last}."], "yellow")


def _print(console: Console, lines: list[str], style: str | None = None) -> None:
    for line in lines:
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
