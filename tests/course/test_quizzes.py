"""The questions of the chapters: their form, what they point to, and the dialog in a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
import yaml

from mlk8s.course import quizzes
from mlk8s.course.quizzes import page
from mlk8s.errors import UsageError

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
MAIN = "import sys; sys.argv[0] = 'mlk8s'; from mlk8s.cli import main; main()"
WITHIN_S = 60
GOOD: dict[str, Any] = {
    "ask": "Which?",
    "section": "Here",
    "options": [
        {"text": "This.", "right": True, "why": "It is."},
        {"text": "That.", "why": "It is not."},
        {"text": "None.", "why": "One is.", "section": "There"},
    ],
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_ends_with_questions_that_point_into_it(path: Path) -> None:
    chapter = int(path.name[:2])
    cells = nbformat.read(path, as_version=4).cells
    written = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    headings = re.findall(r"^#{2,4} (.+)$", written, re.MULTILINE)
    assert headings.index("Check yourself") == headings.index("Exercises") - 1
    [cell] = [cell for cell in cells if f"quizzes.show({chapter})" in cell.source]
    quiz = quizzes.load(chapter)
    # The stored output is what the page shows, so it has to be of these questions.
    assert cell.outputs[0].data["text/html"] == quiz._repr_html_()
    named = {choice.section for question in quiz.questions for choice in question.choices}
    assert named <= set(headings), named - set(headings)


@pytest.mark.parametrize("chapter", quizzes.chapters())
def test_each_choice_is_answered(chapter: int) -> None:
    quiz = quizzes.load(chapter)
    shown = page.plain(quiz, answers=True)
    asked = page.plain(quiz)
    for question in quiz.questions:
        for choice in question.choices:
            beginning = " ".join(choice.why.replace("*", "").split()[:4])
            assert beginning in " ".join(shown.split())
            assert beginning not in " ".join(asked.split())
            assert choice.why not in (other.text for other in question.choices)


def test_the_form_of_a_question_does_not_give_it_away() -> None:
    single = [q for n in quizzes.chapters() for q in quizzes.load(n).questions if q.choose == 1]
    places = [min(question.right) for question in single]
    assert {0, 1, 2, 3} == set(places)
    longest = [
        len(q.choices[place].text) == max(len(choice.text) for choice in q.choices)
        for q, place in zip(single, places, strict=True)
    ]
    # Who always takes the longest choice does no better than who guesses.
    assert sum(longest) / len(single) < 1 / quizzes.LEAST_CHOICES


def write(folder: Path, *rows: Any) -> Path:
    (folder / "09.yaml").write_text(yaml.safe_dump(list(rows), sort_keys=False))
    return folder


def test_a_question_is_read(tmp_path: Path) -> None:
    quiz = quizzes.load(9, write(tmp_path, GOOD, GOOD, GOOD))
    assert len(quiz.questions) == 3
    assert quiz.questions[0].right == {0}
    assert [choice.section for choice in quiz.questions[0].choices] == ["Here", "Here", "There"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"choose": 2}, "09.yaml, 1: choose is 2, and 1 of 3 options are right"),
        ({"choose": "one"}, "choose is 'one'"),
        ({"options": GOOD["options"][:2]}, "there are not 3 options"),
        ({"options": "a, b, c"}, "there are not 3 options"),
        ({"answer": "a"}, "09.yaml, 1: missing or not known: answer"),
        ({"ask": ""}, "ask is not one paragraph"),
        ({"options": [*GOOD["options"][:2], {"text": "None."}]}, "1c: missing or not known: why"),
        ({"options": [*GOOD["options"][:2], GOOD["options"][1]]}, "two options have one text"),
        ({"options": [{**GOOD["options"][0], "right": "yes"}, *GOOD["options"][1:]]}, "1a: right"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    folder = write(tmp_path, {**GOOD, **change}, GOOD, GOOD)
    with pytest.raises(quizzes.QuizError, match=re.escape(said)):
        quizzes.load(9, folder)


def test_too_few_questions_and_no_yaml_are_named(tmp_path: Path) -> None:
    with pytest.raises(quizzes.QuizError, match="3 to 5 questions"):
        quizzes.load(9, write(tmp_path, GOOD, GOOD))
    (tmp_path / "09.yaml").write_text("- ask: a: b\n")
    with pytest.raises(quizzes.QuizError, match="is not YAML"):
        quizzes.load(9, tmp_path)
    with pytest.raises(UsageError, match="Chapter 99 has no questions"):
        quizzes.load(99)


def mlk8s(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, "quiz", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


def test_without_a_terminal_the_questions_are_printed() -> None:
    quiz = quizzes.load(1)
    assert mlk8s("1").stdout.strip() == page.plain(quiz)
    assert mlk8s("1", "--answers").stdout.strip() == page.plain(quiz, answers=True)
    assert json.loads(mlk8s("1", "--json").stdout) == json.loads(json.dumps(quiz.as_json()))
    assert "mlk8s quiz 7: " in mlk8s().stdout
    unknown = mlk8s("99")
    assert unknown.returncode == 1 and "Next: take one of: 1, 2," in unknown.stderr


class Terminal:
    """``mlk8s quiz`` in a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self._own, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "quiz", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "dumb", "COLUMNS": "100"},
            start_new_session=True,
            # Its controlling terminal, so that Ctrl-C reaches it.
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        )
        os.close(theirs)
        self._read = ""

    def until(self, text: str) -> str:
        """What it wrote up to the next place where it says this."""
        deadline = time.monotonic() + WITHIN_S
        while text not in self._read:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self._own], [], [], left)[0], self._read
            self._read += os.read(self._own, 4096).decode()
        found, _, self._read = self._read.partition(text)
        return found

    def type(self, text: str) -> None:
        # A Ctrl-C between the prompt and the wait for an answer is seen with the next key only.
        deadline = time.monotonic() + WITHIN_S
        while psutil.Process(self._process.pid).status() != psutil.STATUS_SLEEPING:
            assert time.monotonic() < deadline, self._read
            time.sleep(0.01)
        os.write(self._own, text.encode())

    def end(self) -> int:
        status = self._process.wait(WITHIN_S)
        os.close(self._own)
        return status


def test_in_a_terminal_it_asks_and_says_why() -> None:
    quiz = quizzes.load(1)
    terminal = Terminal("1")
    letters = ["".join("abcd"[place] for place in sorted(q.right)) for q in quiz.questions]
    wrong = next(letter for letter in "abc" if letter not in letters[0])
    terminal.until("Answer (a letter, a to d; q ends): ")
    terminal.type("x\n")
    terminal.until("'x' is not a letter from a to d.")
    terminal.type(f"{wrong}\n")
    assert "Not this one." in terminal.until("Try again, or press Enter for the answer.")
    terminal.type("\n")
    assert quiz.questions[0].choices[min(quiz.questions[0].right)].why[:30] in terminal.until(
        "Question 2 of"
    )
    for letter in letters[1:]:
        terminal.until("q ends): ")
        terminal.type(f"{letter}\n")
        terminal.until("Right.")
    terminal.until(f"{len(letters) - 1} of {len(letters)} right at the first try.")
    assert terminal.end() == 0


@pytest.mark.parametrize(
    ("typed", "said", "status"),
    [("q\n", "Stopped. 0 of 0", 0), ("\x04", "Stopped. 0 of 0", 0), ("\x03", "", 130)],
    ids=["q", "end of input", "Ctrl-C"],
)
def test_it_can_be_left(typed: str, said: str, status: int) -> None:
    terminal = Terminal("2")
    terminal.until("q ends): ")
    terminal.type(typed)
    if said:
        terminal.until(said)
    assert terminal.end() == status
