"""The way of a reader through an exercise: start, check, hint, solution, reset, and the list.

The same for a notebook and a terminal; they differ in how the cluster is found, in how a command
is written, and in where a wait is shown.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlk8s.cluster import Connection
from mlk8s.cluster.connect import VARIABLE, wants_live
from mlk8s.course.exercises import catalogue
from mlk8s.course.exercises.catalogue import REPAIR, Exercise, Needs
from mlk8s.course.exercises.progress import Progress, Record, writable
from mlk8s.course.exercises.show import Form, Overview, Page, Part
from mlk8s.course.exercises.stage import Stage, inside, remove
from mlk8s.course.exercises.work import Wrong
from mlk8s.errors import ClusterError, ClusterUnavailable, UsageError

WORK = "MLK8S_WORK"
#: In the reader's folder: what ``reset`` took away last.
BEFORE = "before-reset"
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".sh": "bash"}


@dataclass(frozen=True)
class Engine:
    """One reader, in one place.

    Args:
        exercises: ``labs/exercises``.
        home: the folder of the reader's answers.
        connect: the cluster for an exercise; called for those that need one.
        command: how to write a command here, from a verb and a number.
        say: shows what is waited for.
    """

    exercises: Path
    home: Path
    connect: Callable[[Exercise], Connection]
    command: Callable[[str, str], str]
    say: Callable[[str], None]

    @property
    def progress(self) -> Progress:
        """What was done so far."""
        return Progress(self.home / "progress.json")

    def find(self, name: str) -> Exercise:
        """The exercise that is meant."""
        return catalogue.find(name, self.exercises)

    def folder(self, exercise: Exercise) -> Path:
        """The reader's files of an exercise."""
        return self.home / exercise.name

    # -- the verbs ---------------------------------------------------------------------------------

    def overview(self, chapter: int | None = None) -> Overview:
        """All exercises, or those of a chapter, with what was done."""
        records = self.progress.read()
        found = catalogue.load_all(self.exercises)
        if chapter is not None and not any(each.chapter == chapter for each in found):
            known = ", ".join(str(number) for number in sorted({each.chapter for each in found}))
            raise UsageError(f"Chapter {chapter} has no exercises.", f"choose one of: {known}.")
        return Overview(
            [
                _row(each, records.get(each.name, Record()))
                for each in found
                if chapter in (None, each.chapter)
            ]
        )

    def start(self, name: str, *, force: bool = False) -> Page:
        """Put the starter's files in place, prepare the cluster, and show the task."""
        exercise = self.find(name)
        self.progress.read()
        stage = self._stage(exercise)
        notes = self._put_away(stage)
        saved = self._discard(exercise) if force else []
        self._copy(exercise)
        again = stage.ready and not force and bool(self.progress.of(exercise.name).started)
        if again and stage.k is not None:
            notes.append("The cluster is as you left it.")
        else:
            stage.prepare()
        self.progress.started(exercise.name)
        notes += saved
        return self._task(exercise, stage, notes)

    def check(self, name: str, *, clean: bool = False) -> Page:
        """Judge the answer; the first success is kept with its date."""
        exercise = self.find(name)
        folder = self.folder(exercise)
        if not self.progress.of(exercise.name).started or not folder.is_dir():
            raise UsageError(
                f"Exercise {exercise.number} has not been started.",
                f"begin with: {self.command('start', exercise.number)}.",
            )
        stage = self._stage(exercise)
        self._put_away(stage)
        if not stage.ready:
            if not catalogue.files(exercise.starter):
                raise ClusterError(
                    f"Exercise {exercise.number} is not under way in this cluster: it was started "
                    "in another one, or put away for another exercise.",
                    f"begin again with: {self.command('start', exercise.number)}.",
                )
            stage.prepare()
        try:
            said, solved = stage.check(), True
        except Wrong as wrong:
            said, solved = str(wrong), False
        self.progress.tried(exercise.name, solved)
        parts = [Part(Form.PLAIN, said)]
        if solved:
            parts.append(Part(Form.MARKDOWN, exercise.explanation))
            if stage.k is not None:
                parts.append(Part(Form.PLAIN, self._leave(stage, clean)))
        else:
            step = f"Then: {self.command('check', exercise.number)}"
            hint = f"   A hint: {self.command('hint', exercise.number)}"
            parts.append(Part(Form.PLAIN, step + hint))
        heading = "solved" if solved else "not yet"
        return Page(
            f"{exercise.number} {exercise.title}: {heading}",
            tuple(parts),
            {"exercise": exercise.number, "solved": solved, "message": said},
            good=solved,
        )

    def hint(self, name: str) -> Page:
        """The next hint, below those that were seen."""
        exercise = self.find(name)
        total = len(exercise.hints)
        seen = min(self.progress.of(exercise.name).hints + 1, total)
        self.progress.hinted(exercise.name, seen)
        parts = [
            Part(Form.MARKDOWN, text, f"Hint {number} of {total}")
            for number, text in enumerate(exercise.hints[:seen], 1)
        ]
        if seen == total:
            step = f"There are no more. A solution: {self.command('solution', exercise.number)}"
            parts.append(Part(Form.PLAIN, step))
        return Page(
            f"{exercise.number} {exercise.title}",
            tuple(parts),
            {"exercise": exercise.number, "of": total, "hints": list(exercise.hints[:seen])},
        )

    def solution(self, name: str) -> Page:
        """A solution with its explanation; the reader's own files stay as they are."""
        exercise = self.find(name)
        self.progress.shown(exercise.name)
        names = [*catalogue.files(exercise.solution)]
        if (exercise.solution / REPAIR).is_file():
            names.append(Path(REPAIR))
        texts = {str(each): (exercise.solution / each).read_text("utf-8") for each in names}
        parts = [
            Part(Form.CODE, text.rstrip(), title, _LANGUAGES.get(Path(title).suffix, ""))
            for title, text in texts.items()
        ]
        return Page(
            f"{exercise.number} {exercise.title}: a solution",
            (*parts, Part(Form.MARKDOWN, exercise.explanation)),
            {"exercise": exercise.number, "files": texts, "explanation": exercise.explanation},
        )

    def reset(self, name: str) -> Page:
        """Take the exercise out of the cluster and put the starter's files back."""
        exercise = self.find(name)
        self.progress.read()
        notes = []
        if exercise.needs.cluster:
            try:
                stage = self._stage(exercise, strict=False)
            except ClusterUnavailable as error:
                if wants_live():
                    raise
                notes.append(f"{error.problem} So nothing is to be removed there.")
            else:
                assert stage.k is not None
                gone = stage.clean()
                where = f"the namespace {stage.k.namespace}"
                notes.append(f"Removed {where}." if gone else f"There was no {where[4:]}.")
        notes += self._discard(exercise)
        if self.folder(exercise).is_dir():
            self._copy(exercise)
            notes.append(f"The files in {_short(self.folder(exercise))} are the starter's again.")
        notes.append(f"Begin again with: {self.command('start', exercise.number)}")
        return Page(
            f"{exercise.number} {exercise.title}: as new",
            (Part(Form.PLAIN, "\n".join(notes)),),
            {"exercise": exercise.number, "did": notes},
        )

    # -- what they share ---------------------------------------------------------------------------

    def stage(self, name: str) -> Stage:
        """The cluster's side of an exercise."""
        return self._stage(self.find(name))

    def _stage(self, exercise: Exercise, *, strict: bool = True) -> Stage:
        """The cluster's side; ``strict``: the cluster must be one that the exercise is made for."""
        if exercise.needs is Needs.GPU:
            from mlk8s.gpu import source

            # A driver that does not answer is said now, not in the middle of a check.
            source.device()
        if not exercise.needs.cluster:
            return Stage(exercise, self.folder(exercise), None, self.say)
        if exercise.needs is Needs.EMBEDDED and wants_live():
            raise ClusterUnavailable(
                f"Exercise {exercise.number} breaks or rebuilds parts of the cluster, so it runs "
                f"on the embedded one alone, and {VARIABLE}={os.environ[VARIABLE]}. Nothing was "
                "touched.",
                f"unset {VARIABLE}, and give the command again.",
            )
        stage = Stage(exercise, self.folder(exercise), self.connect(exercise), self.say)
        if strict and exercise.needs is Needs.EMBEDDED:
            assert stage.k is not None
            if stage.k.embedded is None:
                raise ClusterUnavailable(
                    f"Exercise {exercise.number} runs on the embedded cluster alone, and "
                    f"{stage.k.context} is a real one. Nothing was touched.",
                    "leave the connection out.",
                )
        return stage

    def _put_away(self, stage: Stage) -> list[str]:
        """Take other exercises of this reader out of the cluster, so that none disturbs."""
        notes = []
        for number in list(stage.others()):
            assert stage.connection is not None
            try:
                other = self.find(number)
            except UsageError:
                # It is of another version of the course: only its namespace is known.
                remove(inside(stage.connection, number))
            else:
                Stage(other, self.folder(other), stage.connection, self.say).clean()
            notes.append(f"Exercise {number} was put away: its namespace is gone, your files stay.")
        if strange := stage.strange_faults():
            raise ClusterError(
                f"In the embedded cluster {', '.join(strange)} is on, which is no part of exercise "
                f"{stage.exercise.number}.",
                f"switch it off: mlk8s cluster fault off {strange[0]}.",
            )
        return notes

    def _leave(self, stage: Stage, clean: bool) -> str:
        assert stage.k is not None
        if clean:
            stage.clean()
            return f"Removed from the cluster: the namespace {stage.k.namespace}."
        number = stage.exercise.number
        return (
            f"The namespace {stage.k.namespace} stays for you to look at; the next exercise "
            f"removes it, or: {self.command('reset', number)}"
        )

    def _copy(self, exercise: Exercise) -> None:
        """Put the starter's files where none of that name is."""
        target = self.folder(exercise)
        with writable(target):
            target.mkdir(parents=True, exist_ok=True)
            for name in catalogue.files(exercise.starter):
                if not (target / name).exists():
                    (target / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(exercise.starter / name, target / name)

    def _discard(self, exercise: Exercise) -> list[str]:
        """Move the reader's files that differ from the starter's out of the way."""
        target = self.folder(exercise)
        mine = [name for name in catalogue.files(target) if name.parts[0] != BEFORE]
        changed = [name for name in mine if not _same(target / name, exercise.starter / name)]
        if not changed:
            return []
        with writable(target):
            shutil.rmtree(target / BEFORE, ignore_errors=True)
            for name in changed:
                (target / BEFORE / name).parent.mkdir(parents=True, exist_ok=True)
                (target / name).replace(target / BEFORE / name)
        return [f"Your {', '.join(map(str, changed))} went to {_short(target / BEFORE)}."]

    def _task(self, exercise: Exercise, stage: Stage, notes: list[str]) -> Page:
        number, target = exercise.number, self.folder(exercise)
        names = [str(name) for name in catalogue.files(exercise.starter)]
        lines = [*notes]
        if names:
            lines.append("Your files: " + ", ".join(str(_short(target / name)) for name in names))
        if stage.k is not None:
            lines.append(stage.k.text)
        lines.append(f"Check it: {self.command('check', number)}")
        lines.append(f"A hint: {self.command('hint', number)}")
        return Page(
            f"{number} {exercise.title} ({exercise.minutes} minutes)",
            (Part(Form.MARKDOWN, exercise.task), Part(Form.PLAIN, "\n".join(lines))),
            {
                "exercise": number,
                "task": exercise.task,
                "folder": str(target),
                "files": names,
                "namespace": stage.k.namespace if stage.k is not None else None,
                "notes": notes,
            },
        )


def home(exercises: Path) -> Path:
    """Where the reader's answers are: ``work/exercises`` beside ``labs``, or in MLK8S_WORK."""
    moved = os.environ.get(WORK)
    base = Path(moved).expanduser() if moved else exercises.parent.parent / "work"
    return base.absolute() / "exercises"


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()


def _short(path: Path) -> Path:
    """The path from here where that is shorter to read."""
    here = Path.cwd()
    for start, prefix in ((here, Path()), (here.parent, Path(".."))):
        if path.is_relative_to(start):
            return prefix / path.relative_to(start)
    return path


def _row(exercise: Exercise, record: Record) -> dict[str, Any]:
    if record.solved:
        state = f"solved {record.solved[:10]}"
    elif record.started:
        state = "begun"
    else:
        state = "–"
    return {
        "exercise": exercise.number,
        "name": exercise.name,
        "title": exercise.title,
        "trains": exercise.trains,
        "minutes": exercise.minutes,
        "needs": str(exercise.needs),
        "nodes": exercise.nodes if exercise.needs.cluster else None,
        "tries": record.tries,
        "hints": record.hints,
        "solution": record.solution,
        "solved": record.solved or None,
        "state": state,
    }
