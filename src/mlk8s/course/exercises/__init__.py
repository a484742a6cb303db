"""Exercises that check themselves, in a notebook; in a terminal it is ``mlk8s exercise``.

>>> from mlk8s.course import exercises
>>> exercises.start("5.3")     # the task, and the cluster in the state that it describes
>>> exercises.hint("5.3")      # the next of up to three
>>> exercises.check("5.3")     # what is wrong and where to look, or what was proven

Answers are files in ``work/exercises`` beside the course (``MLK8S_WORK`` moves ``work``), or what
was changed in the cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlk8s.course.exercises.catalogue import Exercise, ExerciseError, find_folder
from mlk8s.course.exercises.engine import Engine, home
from mlk8s.course.exercises.show import Overview, Page
from mlk8s.course.exercises.work import Work, Wrong

if TYPE_CHECKING:
    from mlk8s.cluster import Connection
    from mlk8s.provenance import Table

__all__ = [
    "ExerciseError",
    "Work",
    "Wrong",
    "check",
    "connection",
    "hint",
    "progress",
    "reset",
    "solution",
    "start",
    "table",
]

# By the nodes: kept, so that the cluster lives from the start of an exercise to its check.
_kept: dict[str, Connection] = {}


def start(name: str, *, force: bool = False) -> Page:
    """Begin an exercise, or show its task again: files that are there are never overwritten.

    Args:
        name: ``5.3``, ``the-taint`` or both.
        force: begin anew: the cluster as the task describes it, and the starter's files; yours
            move to ``before-reset``.

    Raises:
        UsageError: there is no such exercise, or the folder of answers cannot be written.
        ClusterUnavailable: it needs another cluster than the one that answers.
    """
    return _engine().start(name, force=force)


def check(name: str, *, clean: bool = False) -> Page:
    """Judge your answer.

    Args:
        name: of the exercise.
        clean: when it is solved, remove from the cluster what the exercise made.

    Raises:
        UsageError: it was not started.
        ClusterUnavailable: the cluster is gone; this does not count as a try.
    """
    return _engine().check(name, clean=clean)


def hint(name: str) -> Page:
    """The next hint, below those that were seen."""
    return _engine().hint(name)


def solution(name: str) -> Page:
    """A solution, with its explanation."""
    return _engine().solution(name)


def reset(name: str) -> Page:
    """Take the exercise out of the cluster and put the starter's files back."""
    return _engine().reset(name)


def progress(chapter: int | None = None) -> Overview:
    """All exercises, or those of a chapter, and how far you are."""
    return _engine().overview(chapter)


def table(chapter: int) -> Table:
    """The exercises of a chapter, as its last section shows them."""
    from mlk8s.course.exercises.catalogue import load_all
    from mlk8s.provenance import Kind, Provenance, Table

    rows = [
        {
            "exercise": each.number,
            "title": each.title,
            "trains": each.trains,
            "minutes": each.minutes,
            "broken on purpose": "yes" if each.faults else "",
            "nodes": each.nodes.rpartition("/")[2] if each.needs.cluster else "",
        }
        for each in load_all(find_folder())
        if each.chapter == chapter
    ]
    for column in ("broken on purpose", "nodes"):
        if not any(row[column] for row in rows):
            rows = [{k: v for k, v in row.items() if k != column} for row in rows]
    origin = Provenance(Kind.SPEC, "read from the exercises", source="labs/exercises")
    return Table(rows, origin)


def connection(name: str) -> Connection:
    """The cluster of an exercise, in its namespace, to look at and to repair.

    Raises:
        UsageError: the exercise needs no cluster.
    """
    from mlk8s.errors import UsageError

    stage = _engine().stage(name)
    if stage.k is None:
        raise UsageError(f"Exercise {stage.exercise.number} needs no cluster.", "edit its files.")
    return stage.k


def _engine() -> Engine:
    where = find_folder()
    return Engine(
        exercises=where,
        home=home(where),
        connect=_connect,
        command=lambda verb, number: f'exercises.{verb}("{number}")',
        say=lambda text: print(f"Waiting for {text}."),
    )


def _connect(exercise: Exercise) -> Connection:
    from mlk8s.cluster import connect
    from mlk8s.errors import ClusterUnavailable

    kept = _kept.get(exercise.nodes)
    if kept is not None and kept.embedded is not None:
        try:
            kept.request("GET", "/version")
        except ClusterUnavailable:
            # Somebody ended it; connect() starts another one.
            _kept.pop(exercise.nodes).close()
    fresh = connect(nodes=exercise.nodes)
    if fresh.embedded is None:
        return fresh
    if exercise.nodes in _kept:
        fresh.close()
    else:
        _kept[exercise.nodes] = fresh
    return _kept[exercise.nodes]
