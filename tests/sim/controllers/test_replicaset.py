"""ReplicaSets and ReplicationControllers."""

from __future__ import annotations

from typing import Any

import pytest

from mlk8s.sim.status import StatusError, refused

from .cluster import CONTAINER, Cluster, condition, play

TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [CONTAINER]}}


def web(cluster: Cluster, replicas: int, **spec: Any) -> None:
    selector = {"matchLabels": {"a": "b"}}
    told = {"replicas": replicas, "selector": selector, "template": TEMPLATE, **spec}
    cluster.create("replicasets.apps", "web", spec=told)


def scale(cluster: Cluster, replicas: int) -> None:
    cluster.change("replicasets.apps", "web", lambda r: r["spec"].update(replicas=replicas))


def test_status_counts_pods() -> None:
    async def story(cluster: Cluster) -> None:
        web(cluster, 3)
        await cluster.settle()
        cluster.run_pod(cluster.names("pods")[0])
        await cluster.settle()
        assert cluster.get("replicasets.apps", "web")["status"] == {
            "replicas": 3,
            "fullyLabeledReplicas": 3,
            "readyReplicas": 1,
            "availableReplicas": 1,
            "terminatingReplicas": 0,
            "observedGeneration": 1,
        }

    play(story)


def test_pods_that_wait_go_before_those_that_run_and_cheap_ones_before_dear_ones() -> None:
    async def story(cluster: Cluster) -> None:
        web(cluster, 4)
        await cluster.settle()
        a, b, c, _ = cluster.names("pods")
        for name in (a, b, c):
            cluster.run_pod(name)
        cost = {"controller.kubernetes.io/pod-deletion-cost": "-1"}
        cluster.change("pods", b, lambda pod: pod["metadata"].update(annotations=cost))
        scale(cluster, 3)
        await cluster.settle()
        assert cluster.names("pods") == [a, b, c]
        scale(cluster, 2)
        await cluster.settle()
        going = [
            p["metadata"]["name"] for p in cluster.pods() if "deletionTimestamp" in p["metadata"]
        ]
        assert going == [b]

    play(story)


def test_a_deleted_pod_is_replaced_at_once() -> None:
    async def story(cluster: Cluster) -> None:
        web(cluster, 1)
        await cluster.settle()
        cluster.run_all()
        cluster.delete("pods", cluster.names("pods")[0])
        await cluster.settle()
        assert len(cluster.pods()) == 2
        assert cluster.get("replicasets.apps", "web")["status"]["terminatingReplicas"] == 1

    play(story)


def test_pods_are_adopted_and_released_by_their_labels() -> None:
    async def story(cluster: Cluster) -> None:
        cluster.create(
            "pods", "stray", metadata={"labels": {"a": "b"}}, spec={"containers": [CONTAINER]}
        )
        web(cluster, 1)
        await cluster.settle()
        assert cluster.names("pods") == ["stray"]
        assert cluster.get("pods", "stray")["metadata"]["ownerReferences"][0]["name"] == "web"
        cluster.change("pods", "stray", lambda pod: pod["metadata"].update(labels={"a": "c"}))
        await cluster.settle()
        assert "ownerReferences" not in cluster.get("pods", "stray")["metadata"]
        assert len(cluster.names("pods")) == 2

    play(story)


def test_a_quota_that_is_used_up_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    why = "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"

    async def story(cluster: Cluster) -> None:
        create, room = cluster.api.create, [2]

        def limited(key: Any, obj: Any, *more: Any) -> Any:
            if key == "pods" and len(cluster.pods()) >= room[0]:
                raise refused("pods", "", "web-x", why)
            return create(key, obj, *more)

        monkeypatch.setattr(cluster.api, "create", limited)
        web(cluster, 3)
        await cluster.settle()
        found = cluster.get("replicasets.apps", "web")
        message = f'pods "web-x" is forbidden: {why}'
        assert condition(found, "ReplicaFailure") == ("True", "FailedCreate", message)
        assert ("FailedCreate", f"Error creating: {message}") in cluster.events("ReplicaSet")
        assert found["status"]["replicas"] == 2
        room[0] = 3
        await cluster.settle(60)
        found = cluster.get("replicasets.apps", "web")
        assert found["status"]["replicas"] == 3
        assert condition(found, "ReplicaFailure") is None

    play(story)


def test_min_ready_seconds_pass_by_the_clock() -> None:
    async def story(cluster: Cluster) -> None:
        web(cluster, 1, minReadySeconds=30)
        await cluster.settle()
        cluster.run_all()
        await cluster.settle(29)
        assert "availableReplicas" not in cluster.get("replicasets.apps", "web")["status"]
        await cluster.settle(1)
        assert cluster.get("replicasets.apps", "web")["status"]["availableReplicas"] == 1

    play(story)


def test_a_replication_controller_does_the_same() -> None:
    async def story(cluster: Cluster) -> None:
        spec = {"replicas": 2, "selector": {"a": "b"}, "template": TEMPLATE}
        cluster.create("replicationcontrollers", "rc", spec=spec)
        await cluster.settle()
        assert len(cluster.pods()) == 2
        status = cluster.get("replicationcontrollers", "rc")["status"]
        assert (status["replicas"], status["fullyLabeledReplicas"]) == (2, 2)

    play(story)


def test_a_thousand_replicas_cost_a_thousand_pods_not_a_million(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(cluster: Cluster) -> None:
        reads = [0]
        raw = cluster.api.store.get

        def counted(key: str, namespace: str, name: str) -> Any:
            reads[0] += 1
            return raw(key, namespace, name)

        monkeypatch.setattr(cluster.api.store, "get", counted)
        web(cluster, 1000)
        await cluster.settle(5)
        assert len(cluster.pods()) == 1000
        assert cluster.get("replicasets.apps", "web")["status"]["replicas"] == 1000
        assert reads[0] < 10_000

    play(story)


def test_errors_other_than_quota_are_not_swallowed() -> None:
    async def story(cluster: Cluster) -> None:
        with pytest.raises(StatusError):
            web(cluster, -1)

    play(story)


def test_a_pod_that_has_ended_is_not_adopted() -> None:
    async def story(cluster: Cluster) -> None:
        cluster.create(
            "pods", "stray", metadata={"labels": {"a": "b"}}, spec={"containers": [CONTAINER]}
        )
        cluster.run_pod("stray", "Failed")
        web(cluster, 1)
        await cluster.settle()
        assert "ownerReferences" not in cluster.get("pods", "stray")["metadata"]
        assert len(cluster.names("pods")) == 2

    play(story)
