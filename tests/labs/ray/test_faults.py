"""labs/ray/faults.py: what is lost with a worker, an actor, a node, an owner, the head."""

from __future__ import annotations

from mlk8s import raylocal
from tests.labs.ray.conftest import lab


def test_a_task_runs_again_in_another_process(local: raylocal.Local) -> None:
    found = lab("faults")["worker"](local)
    first, second = found["attempts"]
    assert first != second
    assert found["answer"] == 2
    assert found["without retries"] == "WorkerCrashedError"


def test_an_actor_comes_back_without_its_state(local: raylocal.Local) -> None:
    found = lab("faults")["actor"](local)
    assert (found["counted"], found["counted after"]) == (3, 1)
    first, second = found["processes"]
    assert first != second
    # The call during which it died is not repeated.
    assert found["the call under way"] in ("ActorUnavailableError", "ActorDiedError")
    assert found["without restarts"] == "ActorDiedError"


def test_a_node_takes_with_it_what_has_no_lineage(local: raylocal.Local) -> None:
    before = list(local.nodes)
    found = lab("faults")["node"](local)
    assert found["made by a task"] == "made again"
    assert found["runs of the task"] == 2
    assert found["made by a task without retries"] == "ObjectReconstructionFailedError"
    assert found["put by an actor there"] == "OwnerDiedError"
    assert local.nodes == before


def test_an_object_goes_with_its_owner(local: raylocal.Local) -> None:
    found = lab("faults")["owner"](local)
    assert found == {"while the owner lives": 2 * 2**20, "when it is dead": "OwnerDiedError"}


def test_without_the_head_only_what_runs_goes_on() -> None:
    found = lab("faults")["head"]()
    for runs in ("read an object", "call an actor that ran", "run a task that ran before"):
        assert found[f"no control store: {runs}"] == "answers"
    assert found["no control store: make an actor"] == "no answer in 4 s"
    # Ray ends a driver that has lost its node.
    assert found["no head: the driver ends with status"] == 1
    assert not [what for what, said in found.items() if what.startswith("no head") and said == 0]
