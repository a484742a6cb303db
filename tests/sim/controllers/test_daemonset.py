"""DaemonSets."""

from __future__ import annotations

from typing import Any

from .cluster import CONTAINER, Cluster, play


def agent(cluster: Cluster, pod: dict[str, Any] | None = None, **spec: Any) -> None:
    template = {
        "metadata": {"labels": {"app": "agent"}},
        "spec": {"containers": [CONTAINER], **(pod or {})},
    }
    selector = {"matchLabels": {"app": "agent"}}
    cluster.create(
        "daemonsets.apps", "agent", spec={"selector": selector, "template": template, **spec}
    )


def node(cluster: Cluster, name: str, labels: Any = None, taints: Any = None) -> None:
    cluster.create("nodes", name, metadata={"labels": labels or {}}, spec={"taints": taints or []})
    # A new node is not ready, and tainted so, until somebody says otherwise.
    cluster.change("nodes", name, lambda n: n["spec"].update(taints=taints or []))


def places(cluster: Cluster) -> list[str]:
    return sorted(
        pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
            "nodeSelectorTerms"
        ][0]["matchFields"][0]["values"][0]
        for pod in cluster.pods()
        if "deletionTimestamp" not in pod["metadata"]
    )


def run(cluster: Cluster) -> None:
    for pod in cluster.pods():
        if pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]:
            term = pod["spec"]["affinity"]["nodeAffinity"]
            (only,) = term["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
            cluster.run_pod(pod["metadata"]["name"], node=only["matchFields"][0]["values"][0])


def status(cluster: Cluster) -> Any:
    return cluster.get("daemonsets.apps", "agent")["status"]


def test_one_pod_on_each_node_that_fits() -> None:
    async def story(cluster: Cluster) -> None:
        cluster.delete("nodes", "n1")
        node(cluster, "a", {"gpu": "true"})
        node(cluster, "b")
        node(cluster, "c", {"gpu": "true"}, [{"key": "x", "effect": "NoSchedule"}])
        agent(cluster, {"nodeSelector": {"gpu": "true"}})
        await cluster.settle()
        assert places(cluster) == ["a"]
        node(cluster, "d", {"gpu": "true"})
        await cluster.settle()
        assert places(cluster) == ["a", "d"]
        assert status(cluster) == {
            "currentNumberScheduled": 2,
            "numberMisscheduled": 0,
            "desiredNumberScheduled": 2,
            "numberReady": 0,
            "updatedNumberScheduled": 2,
            "numberUnavailable": 2,
            "observedGeneration": 1,
        }
        run(cluster)
        await cluster.settle()
        assert (status(cluster)["numberReady"], status(cluster)["numberAvailable"]) == (2, 2)
        assert "numberUnavailable" not in status(cluster)

    play(story)


def test_daemon_pods_tolerate_what_a_sick_node_is_tainted_with() -> None:
    async def story(cluster: Cluster) -> None:
        node(cluster, "a")
        agent(cluster)
        await cluster.settle()
        tolerations = cluster.pods()[0]["spec"]["tolerations"]
        assert {
            (t["key"].removeprefix("node.kubernetes.io/"), t["effect"]) for t in tolerations
        } == {
            ("not-ready", "NoExecute"),
            ("unreachable", "NoExecute"),
            ("disk-pressure", "NoSchedule"),
            ("memory-pressure", "NoSchedule"),
            ("pid-pressure", "NoSchedule"),
            ("unschedulable", "NoSchedule"),
        }

    play(story)


def test_a_node_that_no_longer_fits_loses_its_pod() -> None:
    async def story(cluster: Cluster) -> None:
        node(cluster, "a", {"gpu": "true"})
        agent(cluster, {"nodeSelector": {"gpu": "true"}})
        await cluster.settle()
        run(cluster)
        cluster.change("nodes", "a", lambda n: n["metadata"].update(labels={}))
        await cluster.settle()
        assert places(cluster) == []

    play(story)


def test_an_update_takes_one_node_at_a_time() -> None:
    async def story(cluster: Cluster) -> None:
        cluster.delete("nodes", "n1")
        for name in "abc":
            node(cluster, name)
        agent(cluster)
        await cluster.settle()
        run(cluster)
        await cluster.settle()

        def tag(obj: Any) -> None:
            obj["spec"]["template"]["spec"]["containers"][0]["image"] = "v2"

        cluster.change("daemonsets.apps", "agent", tag)
        for _ in range(4):
            await cluster.settle()
            going = [p for p in cluster.pods() if "deletionTimestamp" in p["metadata"]]
            assert len(going) <= 1
            cluster.end_deleted()
            await cluster.settle()
            run(cluster)
        await cluster.settle()
        assert {p["spec"]["containers"][0]["image"] for p in cluster.pods()} == {"v2"}
        assert status(cluster)["updatedNumberScheduled"] == 3
        assert len(cluster.names("controllerrevisions.apps")) == 2

    play(story)


def test_a_failed_pod_is_replaced() -> None:
    async def story(cluster: Cluster) -> None:
        cluster.delete("nodes", "n1")
        node(cluster, "a")
        agent(cluster)
        await cluster.settle()
        (name,) = cluster.names("pods")
        cluster.run_pod(name, "Failed", node="a")
        await cluster.settle(1)
        assert len(cluster.pods()) == 1 and cluster.names("pods") != [name]
        message = f"Found failed daemon pod team/{name} on node a, will try to kill it"
        assert ("FailedDaemonPod", message) in cluster.events("DaemonSet")

    play(story)


def test_a_template_may_name_its_node() -> None:
    async def story(cluster: Cluster) -> None:
        node(cluster, "n2")
        node(cluster, "n3")
        agent(cluster, {"nodeName": "n2"})
        await cluster.settle()
        assert places(cluster) == ["n2"]

    play(story)
