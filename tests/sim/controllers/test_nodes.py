"""Nodes: annotation, taints from conditions, eviction by taints, pods without a node."""

from __future__ import annotations

from typing import Any

from .cluster import CONTAINER, Cluster, condition, play


def pod(cluster: Cluster, name: str = "p", node: str = "n1", **spec: Any) -> None:
    cluster.create("pods", name, spec={"containers": [CONTAINER], **spec})
    cluster.run_pod(name, node=node)


def taint(cluster: Cluster, *taints: dict[str, str]) -> None:
    cluster.change("nodes", "n1", lambda n: n["spec"].update(taints=list(taints)))


def ready(cluster: Cluster, node: str, value: str) -> None:
    def mutate(obj: Any) -> None:
        told = {"type": "Ready", "status": value, "reason": "x", "message": ""}
        moment = cluster.api.timestamp()
        told |= {"lastHeartbeatTime": moment, "lastTransitionTime": moment}
        obj["status"]["conditions"] = [told]

    cluster.api.change("nodes", "", node, mutate, subresource="status")


def taints(cluster: Cluster, node: str) -> set[tuple[str, str]]:
    found = cluster.get("nodes", node)["spec"].get("taints", [])
    return {(t["key"].removeprefix("node.kubernetes.io/"), t["effect"]) for t in found}


def deleted(cluster: Cluster, name: str = "p") -> bool:
    return "deletionTimestamp" in cluster.get("pods", name)["metadata"]


def test_every_node_is_annotated_and_a_users_node_keeps_its_taints() -> None:
    async def story(cluster: Cluster) -> None:
        annotations = cluster.get("nodes", "n1")["metadata"]["annotations"]
        assert annotations["node.alpha.kubernetes.io/ttl"] == "0"
        before = taints(cluster, "n1")
        ready(cluster, "n1", "False")
        await cluster.settle()
        assert taints(cluster, "n1") == before

    play(story)


def test_the_clusters_own_nodes_are_tainted_after_their_conditions() -> None:
    async def story(cluster: Cluster) -> None:
        cluster.create("nodes", "own", metadata={"labels": {"mlk8s.dev/simulated": "true"}})
        ready(cluster, "own", "True")
        await cluster.settle()
        assert taints(cluster, "own") == set()
        pod(cluster, node="own")
        ready(cluster, "own", "False")
        await cluster.settle()
        assert taints(cluster, "own") == {("not-ready", "NoSchedule"), ("not-ready", "NoExecute")}
        assert ("NodeNotReady", "Node own status is now: NodeNotReady") in cluster.events("Node")
        assert ("NodeNotReady", "Node is not ready") in cluster.events("Pod")
        found = condition(cluster.get("pods", "p"), "Ready")
        assert found is not None and found[0] == "False"
        ready(cluster, "own", "Unknown")
        await cluster.settle()
        assert taints(cluster, "own") == {
            ("unreachable", "NoSchedule"),
            ("unreachable", "NoExecute"),
        }
        ready(cluster, "own", "True")
        cluster.change("nodes", "own", lambda n: n["spec"].update(unschedulable=True))
        await cluster.settle()
        assert taints(cluster, "own") == {("unschedulable", "NoSchedule")}

    play(story)


def test_a_taint_evicts_pods_that_do_not_bear_it() -> None:
    gone = {"key": "maintenance", "value": "now", "effect": "NoExecute"}

    async def story(cluster: Cluster) -> None:
        pod(cluster, "bears", tolerations=[{"key": "maintenance", "operator": "Exists"}])
        pod(cluster, "p")
        taint(cluster, {**gone, "effect": "NoSchedule"})
        await cluster.settle()
        assert not deleted(cluster)
        taint(cluster, gone)
        await cluster.settle()
        assert deleted(cluster) and not deleted(cluster, "bears")
        assert cluster.events("Pod") == [
            ("TaintManagerEviction", "Marking for deletion Pod team/p")
        ]
        assert condition(cluster.get("pods", "p"), "DisruptionTarget") == (
            "True",
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
        )

    play(story)


def test_a_toleration_may_last_for_a_time() -> None:
    taints_ = {"key": "maintenance", "value": "now", "effect": "NoExecute"}
    bears = {**taints_, "operator": "Equal", "tolerationSeconds": 60}

    async def story(cluster: Cluster) -> None:
        pod(cluster, tolerations=[bears])
        taint(cluster, taints_)
        await cluster.settle(59)
        assert not deleted(cluster)
        taint(cluster)
        await cluster.settle(60)
        assert not deleted(cluster)
        taint(cluster, taints_)
        await cluster.settle(60)
        assert deleted(cluster)

    play(story)


def test_pods_of_a_node_that_is_gone_go_after_forty_seconds() -> None:
    async def story(cluster: Cluster) -> None:
        pod(cluster)
        cluster.delete("nodes", "n1")
        await cluster.settle(39)
        assert cluster.names("pods") == ["p"]
        await cluster.settle(1)
        assert cluster.names("pods") == []

    play(story)
