"""Every exercise: the starter fails, the solution passes, each wrong answer is told why."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import BoundedSemaphore

import pytest

from mlk8s.course.exercises import catalogue
from mlk8s.course.exercises.prove import Clusters, Proof, prove

FOLDER = Path(__file__).parents[3] / "labs" / "exercises"
ALL = catalogue.load_all(FOLDER)
# Most of an exercise is waiting, so several fit on two cores.
AT_A_TIME = 3


@pytest.fixture(scope="module")
def proofs(request: pytest.FixtureRequest) -> Iterator[dict[Path, Future[Proof]]]:
    """Exercises of the same nodes in turn on one cluster, those of other nodes beside them."""
    chosen = [
        item.callspec.params["exercise"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]
    slots = BoundedSemaphore(AT_A_TIME)

    def one(exercise: catalogue.Exercise, clusters: Clusters) -> Proof:
        with slots:
            return prove(exercise, clusters)

    with ExitStack() as stack:
        turns = {}
        for nodes in dict.fromkeys(map(_turn, chosen)):
            clusters = stack.enter_context(Clusters())
            pool = stack.enter_context(ThreadPoolExecutor(max_workers=1))
            stack.callback(pool.shutdown, cancel_futures=True)
            turns[nodes] = (pool, clusters)
        yield {
            each.folder: turns[_turn(each)][0].submit(one, each, turns[_turn(each)][1])
            for each in chosen
        }


def _turn(exercise: catalogue.Exercise) -> str:
    return exercise.nodes if exercise.needs.cluster else ""


def test_every_folder_is_an_exercise() -> None:
    assert [each.folder for each in ALL] == catalogue.folders(FOLDER)
    assert ALL


@pytest.mark.parametrize("exercise", ALL, ids=lambda each: each.folder.name)
def test_it_is_proven(exercise: catalogue.Exercise, proofs: dict[Path, Future[Proof]]) -> None:
    proof = proofs[exercise.folder].result()
    assert proof.holds, str(proof)
    # A solution, a starter, and two plausible mistakes at least.
    assert len(proof.lines) >= 4
    assert 1 <= len(exercise.hints) <= 3
