"""The chapters' metadata say what the chapters say, and the paths keep to them."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import nbformat
import pytest
import yaml

from mlk8s.course import chapters
from mlk8s.course.exercises.catalogue import find_folder, load_all

ROOT = Path(__file__).parents[2]
CHAPTERS, PATHS = chapters.course()
TEXT = resources.files("mlk8s.course").joinpath("chapters.yaml").read_text("utf-8")
TITLES = {number: f"Chapter {number}" for number in CHAPTERS}
COST = chapters.Price(2.0, "a list", "2026-01-01")
NUMBERS = {"half an": 0.5, "an": 1, "two": 2, "three": 3, "four": 4, "five": 5, "ten": 10}
# "two hours to read and run, three more with the exercises": the second is in hours as well.
DURATION = rf"(\d+|{'|'.join(NUMBERS)}) (minute|hour|more)"


def beginning(chapter: chapters.Chapter) -> str:
    notebook = nbformat.read(ROOT / "notebooks" / f"{chapter.file}.ipynb", as_version=4)
    return str(notebook.cells[0].source)


def minutes(text: str) -> list[float]:
    """All durations in a text, in minutes."""
    return [
        (NUMBERS[count] if count in NUMBERS else int(count)) * (1 if unit == "minute" else 60)
        for count, unit in re.findall(DURATION, text)
    ]


def test_every_chapter_is_there() -> None:
    files = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert [chapter.file for chapter in CHAPTERS.values()] == files
    assert all(int(chapter.file[:2]) == number for number, chapter in CHAPTERS.items())


@pytest.mark.parametrize("chapter", CHAPTERS.values(), ids=lambda chapter: chapter.file)
def test_the_chapter_says_the_same(chapter: chapters.Chapter) -> None:
    text = beginning(chapter)
    time = re.search(r"\*\*Time:\*\* (.+?)\. \*\*Cost:\*\* (.+)", text)
    assert time is not None, text
    assert minutes(time[1]) == [chapter.minutes, chapter.exercises]
    # The last duration in a cost is that of rented GPUs.
    assert minutes(time[2])[-1] == chapter.live_minutes
    gpus = re.search(r"needs (two|three|four) GPUs", time[2])
    assert chapter.live_gpus == (NUMBERS[gpus[1]] if gpus else 1)


@pytest.mark.parametrize("chapter", CHAPTERS.values(), ids=lambda chapter: chapter.file)
def test_it_needs_the_chapters_that_it_names(chapter: chapters.Chapter) -> None:
    sentences = re.split(r"(?<=[.:?])\s", beginning(chapter))
    needing = " ".join(s for s in sentences if re.search(r"\b[Yy]ou need\b", s))
    named = re.findall(r"chapters? (\d)(?: and (\d))?", needing)
    assert sorted({int(n) for pair in named for n in pair if n}) == list(chapter.needs)


@pytest.mark.parametrize("chapter", CHAPTERS.values(), ids=lambda chapter: chapter.file)
def test_its_exercises_take_that_long(chapter: chapters.Chapter) -> None:
    """Where exercises have times of their own, the chapter's hours are these, rounded."""
    own = [each.minutes for each in load_all(find_folder(ROOT)) if each.chapter == chapter.number]
    notebook = nbformat.read(ROOT / "notebooks" / f"{chapter.file}.ipynb", as_version=4)
    # Questions with a folded answer have no times of their own, and come on top.
    more = any("folded under the question" in cell.source for cell in notebook.cells)
    assert not own or sum(own) <= chapter.exercises + 30, sum(own)
    assert not own or more or sum(own) >= chapter.exercises - 30, sum(own)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_chosen_exercises_take_that_long(path: chapters.CoursePath) -> None:
    own = {each.number: each.minutes for each in load_all(find_folder(ROOT))}
    for step in path.steps:
        names = [f"{step.chapter.number}.{number}" for number in step.exercises or ()]
        if any(name in own for name in names):
            assert sum(own[name] for name in names) == step.exercise_minutes, names


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_path_is_written_out(path: chapters.CoursePath) -> None:
    table = chapters.path_table(path.name, TITLES, COST)
    rows = [line for line in table.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == len(path.steps)
    for row, step in zip(rows, path.steps, strict=True):
        assert f"../notebooks/{step.chapter.file}.ipynb" in row
        assert f"| {chapters.duration(step.minutes)} |" in row
    assert f"Together {chapters.duration(path.minutes)}, in {path.hours} hours." in table
    if path.gpu_hours:
        assert f"{path.gpu_hours * 2:.2f} USD" in table
    else:
        assert "It costs nothing" in table
    assert f"[{path.title}](path-{path.name}.md)" in chapters.paths_table()
    page = (ROOT / "book" / f"path-{path.name}.md").read_text()
    assert page.startswith(f"# {path.title}\n") and f"{{course-path}} {path.name}\n" in page


def test_the_cost_is_gpus_times_time_times_price() -> None:
    table = chapters.cost_table(TITLES, COST)
    [row] = [line for line in table.splitlines() if line.startswith("| [7 ")]
    assert "| 2 × 10 min | 0.67 |" in row
    hours = sum(c.live_gpus * c.live_minutes for c in CHAPTERS.values()) / 60
    assert f"| {hours * 2:.2f} |" in table
    assert chapters.price(ROOT).usd_per_hour == 3.09


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "- {chapter: 2, exercises: none}",
            "- {chapter: 4, exercises: none}",
            "weekend has chapter 3 before chapter 2, which it needs",
        ),
        ("hours: 16", "hours: 4", "weekend takes 15 h and has 4 hours"),
        ("needs: [1, 2, 5]", "needs: [7]", "Chapter 6 needs 7, which does not come before it"),
        ("- {chapter: 4, exercises: all}", "- {chapter: 9, exercises: all}", "which there is not"),
    ],
)
def test_a_contradiction_is_named(old: str, new: str, said: str) -> None:
    assert old in TEXT
    with pytest.raises(chapters.CourseError, match=said):
        chapters.parse(TEXT.replace(old, new, 1))


@pytest.mark.parametrize(("count", "said"), [(5, "5 min"), (60, "1 h"), (135, "2 h 15 min")])
def test_a_duration_is_written(count: int, said: str) -> None:
    assert chapters.duration(count) == said


def test_the_file_has_no_row_that_nobody_reads() -> None:
    document = yaml.safe_load(TEXT)
    keys = {"file", "minutes", "exercises", "needs", "live", "makes"}
    assert all(set(row) == keys for row in document["chapters"].values())
