"""The proof of an exercise, for its author and for CI.

The starter must fail; the solution must pass, leaving nothing behind; and each plausible wrong
answer must fail with the words that its author promised. Answers are played as a reader would give
them: files in the folder, then ``repair(k)`` on the cluster.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mlk8s.cluster import Connection, attach
from mlk8s.course.exercises import catalogue
from mlk8s.course.exercises.catalogue import REPAIR, Exercise
from mlk8s.course.exercises.stage import Stage, load_module
from mlk8s.course.exercises.work import Wrong
from mlk8s.errors import ClusterUnavailable

if TYPE_CHECKING:
    from rich.console import RenderableType

# Of GPU feature discovery: written anew each time it looks.
_TIMESTAMP = "nvidia.com/gfd.timestamp"
_NODES_WITHIN_S, _LOOK_EVERY_S = 5.0, 0.05


class Clusters:
    """Embedded clusters by their nodes; each starts once and is as new for every exercise."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._started: dict[str, Connection] = {}

    def fresh(self, nodes: str) -> Connection:
        """A connection to a cluster in which nothing has happened yet.

        Raises:
            ClusterUnavailable: it does not start.
        """
        from mlk8s.sim import Cluster
        from mlk8s.sim import ClusterError as Broken

        if nodes not in self._started:
            try:
                cluster = self._stack.enter_context(Cluster(nodes, seed=0))
            except Broken as error:
                raise ClusterUnavailable(
                    f"No embedded cluster starts with the nodes {nodes}: {str(error).rstrip('.')}.",
                    "correct nodes in task.md; presets: mlk8s cluster presets.",
                ) from error
            self._started[nodes] = self._stack.enter_context(attach(cluster))
        found = self._started[nodes]
        assert found.embedded is not None
        found.embedded.reset()
        return found

    def __enter__(self) -> Clusters:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


@dataclass(frozen=True)
class Line:
    """What one answer came to.

    Attributes:
        answer: ``starter``, ``solution``, ``wrong/…``.
        holds: whether it did what it must.
        said: the message that a reader gets, or what is wrong with the exercise.
    """

    answer: str
    holds: bool
    said: str


@dataclass(frozen=True)
class Proof:
    """All answers of an exercise."""

    exercise: Exercise
    lines: tuple[Line, ...]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether the exercise is proven."""
        return all(line.holds for line in self.lines)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        lines = [{"answer": x.answer, "holds": x.holds, "said": x.said} for x in self.lines]
        return {"exercise": self.exercise.number, "holds": self.holds, "answers": lines}

    def __str__(self) -> str:
        lines = [f"{self.exercise.number} {self.exercise.title} ({self.seconds:.1f} s)"]
        for line in self.lines:
            lines.append(f"  {'ok ' if line.holds else 'NOT'} {line.answer}: {line.said}")
        return "\n".join(lines)

    def __rich__(self) -> RenderableType:
        from rich.text import Text

        return Text(str(self), style="" if self.holds else "red")


def prove(exercise: Exercise, clusters: Clusters) -> Proof:
    """Play every answer of an exercise.

    Raises:
        ExerciseError: its ``check.py`` failed by itself.
        Mlk8sError: a cluster failed.
    """
    began = time.monotonic()
    connection = clusters.fresh(exercise.nodes) if exercise.needs.cluster else None
    before = _nodes(connection)
    answers = [
        (exercise.starter, _must_fail(())),
        (exercise.solution, _must_pass),
        *((answer, _must_fail(tuple(catalogue.words(answer)))) for answer in exercise.wrong),
    ]
    lines = []
    for answer, judge in answers:
        line = _played(exercise, connection, answer, judge)
        left = _left(connection, before)
        if left and line.holds and answer == exercise.solution:
            line = Line(line.answer, False, f"it leaves behind: {', '.join(left)}")
        if left:
            # What a wrong answer has done to a node is not the exercise's to put right.
            connection = clusters.fresh(exercise.nodes)
        lines.append(line)
    return Proof(exercise, tuple(lines), time.monotonic() - began)


def _played(
    exercise: Exercise,
    connection: Connection | None,
    answer: Path,
    judge: Callable[[Stage], tuple[bool, str]],
) -> Line:
    with tempfile.TemporaryDirectory(prefix="mlk8s-exercise-") as temporary:
        folder = Path(temporary) / exercise.name
        folder.mkdir()
        for source in (exercise.starter, answer):
            for name in catalogue.files(source):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, folder / name)
        stage = Stage(exercise, folder, connection)
        stage.prepare()
        if (answer / REPAIR).is_file():
            load_module(answer / REPAIR).repair(stage.k)
        holds, said = judge(stage)
        stage.clean()
    return Line(str(answer.relative_to(exercise.folder)), holds, said)


def _must_pass(stage: Stage) -> tuple[bool, str]:
    try:
        said = stage.check()
        # A reader checks more than once.
        return (True, said) if stage.check() == said else (False, "the second check says otherwise")
    except Wrong as wrong:
        return False, f"must pass, and fails: {wrong}"


def _must_fail(words: tuple[str, ...]) -> Callable[[Stage], tuple[bool, str]]:
    def judge(stage: Stage) -> tuple[bool, str]:
        try:
            said = stage.check()
        except Wrong as wrong:
            message = str(wrong)
            if missing := [each for each in words if each not in message]:
                return False, f"the message lacks {missing}: {message}"
            return True, message
        return False, f"must fail, and passes: {said}"

    return judge


def _nodes(connection: Connection | None) -> dict[str, Any]:
    """Labels, taints and amounts of each node: what an exercise must leave as it found it."""
    if connection is None:
        return {}
    return {
        node["metadata"]["name"]: (
            {k: v for k, v in (node["metadata"].get("labels") or {}).items() if k != _TIMESTAMP},
            node["spec"].get("taints"),
            node["spec"].get("unschedulable"),
            # The kubelet goes on to report what a plugin offered once, as 0.
            {k: v for k, v in node["status"]["allocatable"].items() if v != "0"},
        )
        for node in connection.items("/api/v1/nodes")
    }


def _left(connection: Connection | None, before: dict[str, Any]) -> list[str]:
    """What is otherwise than before, after the seconds that a node may take."""
    if connection is None:
        return []
    assert connection.embedded is not None
    left = [f"fault {name}" for name in connection.embedded.status()["faults"]]
    left += [
        f"namespace {home['metadata']['name']}"
        for home in connection.items("/api/v1/namespaces")
        if home["metadata"]["name"].startswith(connection.namespace)
    ]
    deadline = time.monotonic() + _NODES_WITHIN_S
    while (now := _nodes(connection)) != before and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    return left + [f"changes of node {name}" for name in now if now[name] != before.get(name)]
