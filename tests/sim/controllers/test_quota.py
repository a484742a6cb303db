"""ResourceQuotas; the first two stories are the recorded scenarios quota and quota-release."""

from __future__ import annotations

from typing import Any

import pytest

from mlk8s.sim.status import StatusError

from .cluster import CONTAINER, Cluster, condition, play

GPU = "requests.nvidia.com/gpu"


def quota(cluster: Cluster, **hard: str) -> None:
    cluster.create("resourcequotas", "gpu", spec={"hard": hard})


def pod(cluster: Cluster, name: str, **limits: str) -> None:
    cluster.create(
        "pods", name, spec={"containers": [{**CONTAINER, "resources": {"limits": limits}}]}
    )


def used(cluster: Cluster) -> Any:
    return cluster.get("resourcequotas", "gpu")["status"]["used"]


def test_what_is_over_is_refused() -> None:
    async def story(cluster: Cluster) -> None:
        quota(cluster, **{GPU: "2"})
        await cluster.settle()
        assert used(cluster) == {GPU: "0"}
        pod(cluster, "a", **{"nvidia.com/gpu": "1"})
        pod(cluster, "b", **{"nvidia.com/gpu": "1"})
        with pytest.raises(StatusError, match="exceeded quota: gpu"):
            pod(cluster, "c", **{"nvidia.com/gpu": "1"})
        await cluster.settle()
        assert used(cluster) == {GPU: "2"}

    play(story)


def test_a_pod_that_ends_or_goes_frees_its_quota() -> None:
    async def story(cluster: Cluster) -> None:
        quota(cluster, **{GPU: "2", "pods": "5", "count/pods": "5"})
        await cluster.settle()
        pod(cluster, "a", **{"nvidia.com/gpu": "1"})
        pod(cluster, "b", **{"nvidia.com/gpu": "1"})
        cluster.run_pod("a", "Succeeded")
        await cluster.settle()
        assert used(cluster) == {GPU: "1", "pods": "1", "count/pods": "2"}
        cluster.delete("pods", "b")
        await cluster.settle()
        assert used(cluster) == {GPU: "0", "pods": "0", "count/pods": "1"}

    play(story)


def test_a_quota_made_later_counts_what_is_there() -> None:
    async def story(cluster: Cluster) -> None:
        pod(cluster, "a", cpu="500m", memory="1Gi")
        cluster.create("secrets", "s")
        quota(cluster, **{"requests.cpu": "4", "limits.memory": "8Gi", "secrets": "3"})
        await cluster.settle()
        assert used(cluster) == {"requests.cpu": "500m", "limits.memory": "1Gi", "secrets": "1"}
        hard = {"requests.cpu": "1"}
        cluster.change("resourcequotas", "gpu", lambda q: q["spec"].update(hard=hard))
        await cluster.settle()
        assert used(cluster) == {"requests.cpu": "500m"}

    play(story)


def test_a_deployment_says_what_the_quota_refused() -> None:
    async def story(cluster: Cluster) -> None:
        quota(cluster, pods="2")
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [CONTAINER]}}
        spec = {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": template}
        await cluster.settle()
        cluster.create("deployments.apps", "serve", spec=spec)
        await cluster.settle()
        found = condition(cluster.get("deployments.apps", "serve"), "ReplicaFailure")
        assert found is not None and found[:2] == ("True", "FailedCreate")
        why = "is forbidden: exceeded quota: gpu, requested: pods=1, used: pods=2, limited: pods=2"
        assert found[2].startswith('pods "serve-') and found[2].endswith(why)
        told = ("FailedCreate", f"Error creating: {found[2]}")
        assert told in cluster.events("ReplicaSet")
        cluster.change("resourcequotas", "gpu", lambda q: q["spec"]["hard"].update(pods="3"))
        await cluster.settle(60)
        assert len(cluster.pods()) == 3
        assert condition(cluster.get("deployments.apps", "serve"), "ReplicaFailure") is None

    play(story)
