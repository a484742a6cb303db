"""PodDisruptionBudgets."""

from __future__ import annotations

from typing import Any

import pytest

from mlk8s.sim.controllers.disruption import may_evict
from mlk8s.sim.status import StatusError

from .cluster import CONTAINER, Cluster, condition, play


async def serve(cluster: Cluster, **budget: Any) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [CONTAINER]}}
    selector = {"matchLabels": {"a": "b"}}
    spec = {"replicas": 3, "selector": selector, "template": template}
    cluster.create("deployments.apps", "serve", spec=spec)
    cluster.create("poddisruptionbudgets.policy", "pdb", spec={"selector": selector, **budget})
    await cluster.settle()
    cluster.run_all()
    await cluster.settle()


def numbers(cluster: Cluster) -> tuple[int, int, int, int]:
    status = cluster.get("poddisruptionbudgets.policy", "pdb")["status"]
    return (
        status["expectedPods"],
        status["currentHealthy"],
        status["desiredHealthy"],
        status["disruptionsAllowed"],
    )


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"minAvailable": 2}, (3, 3, 2, 1)),
        ({"minAvailable": "50%"}, (3, 3, 2, 1)),
        ({"maxUnavailable": 1}, (3, 3, 2, 1)),
        ({"maxUnavailable": "34%"}, (3, 3, 1, 2)),
        ({"maxUnavailable": 0}, (3, 3, 3, 0)),
    ],
)
def test_status(budget: dict[str, Any], expected: tuple[int, int, int, int]) -> None:
    async def story(cluster: Cluster) -> None:
        await serve(cluster, **budget)
        assert numbers(cluster) == expected
        reason = "SufficientPods" if expected[3] else "InsufficientPods"
        found = condition(cluster.get("poddisruptionbudgets.policy", "pdb"), "DisruptionAllowed")
        assert found is not None and found[1] == reason

    play(story)


def test_an_eviction_beyond_the_budget_is_refused() -> None:
    async def story(cluster: Cluster) -> None:
        await serve(cluster, minAvailable=2)
        first, second, _ = cluster.pods()
        may_evict(cluster.api, first)
        with pytest.raises(StatusError) as refusal:
            may_evict(cluster.api, second)
        assert refusal.value.code == 429
        assert refusal.value.as_status()["message"] == (
            "Cannot evict pod as it would violate the pod's disruption budget."
        )
        assert refusal.value.details["causes"] == [
            {
                "reason": "DisruptionBudget",
                "message": "The disruption budget pdb needs 2 healthy pods and has 3 currently",
            }
        ]
        await cluster.settle()
        assert numbers(cluster) == (3, 2, 2, 0)
        # An eviction that deletes nothing is forgotten after two minutes.
        await cluster.settle(120)
        assert numbers(cluster) == (3, 3, 2, 1)

    play(story)


def test_pods_that_do_not_run_and_pods_without_a_budget_may_go() -> None:
    async def story(cluster: Cluster) -> None:
        await serve(cluster, minAvailable=3)
        cluster.create("pods", "free", spec={"containers": [CONTAINER]})
        may_evict(cluster.api, cluster.get("pods", "free"))
        may_evict(cluster.api, {**cluster.pods()[0], "status": {"phase": "Pending"}})
        may_evict(cluster.api, {**cluster.pods()[0], "status": {"phase": "Failed"}})

    play(story)
