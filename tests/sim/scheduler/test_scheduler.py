"""Pods on their way through the queue to a node, as a client of the API sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mlk8s.sim.scheduler.explain import explain

if TYPE_CHECKING:
    from tests.sim.scheduler.conftest import Cluster, Play

GPU = "nvidia.com/gpu"
NOT_HELPFUL = "Preemption is not helpful for scheduling"


def test_a_pod_is_bound(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.node("n", allocatable={GPU: "1"})
        cluster.pod("a", {GPU: "1"})
        await cluster.pass_time()
        assert cluster.where("a") == "n"
        condition = cluster.condition("a")
        assert condition["status"] == "True" and "reason" not in condition
        assert cluster.events("a") == [("Scheduled", "Successfully assigned default/a to n")]
        event = next(cluster.api.store.items("events"))
        assert event["reportingComponent"] == "default-scheduler"
        assert event["action"] == "Binding"

    play(test)


def test_no_nodes_at_all(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.pod("a")
        await cluster.pass_time()
        message = "no nodes available to schedule pods"
        assert cluster.condition("a")["message"] == message
        assert cluster.condition("a")["reason"] == "Unschedulable"
        assert cluster.events("a") == [("FailedScheduling", message)]
        cluster.node("n")
        await cluster.pass_time()
        assert cluster.where("a") == "n"

    play(test)


def test_other_schedulers_have_their_own_pods(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.node("n")
        cluster.pod("a", schedulerName="volcano")
        await cluster.pass_time(600)
        assert cluster.where("a") is None and cluster.events("a") == []

    play(test)


def test_gates_hold_a_pod_back(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.node("n")
        cluster.pod("a", schedulingGates=[{"name": "example.com/quota"}])
        await cluster.pass_time(600)
        condition = cluster.condition("a")
        assert (condition["status"], condition["reason"]) == ("False", "SchedulingGated")
        assert condition["message"] == "Scheduling is blocked due to non-empty scheduling gates"
        assert cluster.events("a") == [] and cluster.where("a") is None
        cluster.api.change(
            "pods", "default", "a", lambda obj: obj["spec"].pop("schedulingGates", None)
        )
        await cluster.pass_time()
        assert cluster.where("a") == "n"

    play(test)


def test_the_important_first_then_the_old(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.priority("high", 1000, preemptionPolicy="Never")
        for name in ("first", "second"):
            cluster.pod(name, {GPU: "1"})
        cluster.pod("important", {GPU: "1"}, priorityClassName="high")
        cluster.node("n", allocatable={GPU: "2"})
        await cluster.pass_time()
        assert cluster.where("important") == "n"
        assert (cluster.where("first"), cluster.where("second")) == ("n", None)

    play(test)


def _free_a_gpu(cluster: Cluster) -> None:
    cluster.finish("old")


def _delete_the_pod(cluster: Cluster) -> None:
    cluster.finish("old")
    cluster.api.delete("pods", "default", "old")


def _add_a_node(cluster: Cluster) -> None:
    cluster.node("new", allocatable={GPU: "1"})


def _add_a_device(cluster: Cluster) -> None:
    def mutate(obj: dict[str, Any]) -> None:
        obj["status"]["allocatable"][GPU] = "2"

    cluster.api.change("nodes", "", "n", mutate, "status")


def test_the_important_one_is_first_when_both_have_rested(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.priority("high", 1000, preemptionPolicy="Never")
        cluster.node("n", allocatable={GPU: "1"})
        cluster.pod("holder", {GPU: "1"})
        cluster.pod("old", {GPU: "1"})
        await cluster.pass_time(1)
        cluster.pod("important", {GPU: "1"}, priorityClassName="high")
        await cluster.pass_time(5)
        cluster.finish("holder")
        await cluster.pass_time()
        assert cluster.where("important") == "n" and cluster.where("old") is None

    play(test)


def test_what_helps_is_noticed_at_once(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        for helps in (_free_a_gpu, _delete_the_pod, _add_a_node, _add_a_device):
            cluster.node("n", allocatable={GPU: "1"})
            cluster.pod("old", {GPU: "1"})
            cluster.pod("waiting", {GPU: "1"})
            await cluster.pass_time()
            assert (cluster.where("old"), cluster.where("waiting")) == ("n", None)
            helps(cluster)
            await cluster.pass_time()
            assert cluster.where("waiting"), helps.__name__
            for name in ("old", "waiting"):
                if cluster.api.find("pods", "default", name):
                    cluster.finish(name)
                    cluster.api.delete("pods", "default", name)
            for _, name in cluster.api.store.keys("nodes"):
                cluster.api.delete("nodes", "", name)
            await cluster.pass_time()

    play(test)


def test_labels_taints_and_cordons_are_noticed(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        taint = {"key": "k", "effect": "NoSchedule"}
        cluster.node("labeled")
        cluster.node("tainted", taints=[taint], labels={"for": "b"})
        cluster.node("cordoned", unschedulable=True, labels={"for": "c"})
        cluster.pod("a", nodeSelector={"for": "a"})
        cluster.pod("b", nodeSelector={"for": "b"})
        cluster.pod("c", nodeSelector={"for": "c"})
        await cluster.pass_time()
        assert [cluster.where(name) for name in "abc"] == [None, None, None]
        change = cluster.api.change
        change("nodes", "", "labeled", lambda obj: obj["metadata"]["labels"].update({"for": "a"}))
        await cluster.pass_time()
        change("nodes", "", "tainted", lambda obj: obj["spec"].update(taints=[]))
        await cluster.pass_time()
        change("nodes", "", "cordoned", lambda obj: obj["spec"].pop("unschedulable"))
        await cluster.pass_time()
        assert [cluster.where(name) for name in "abc"] == ["labeled", "tainted", "cordoned"]

    play(test)


def test_the_message_follows_the_cluster_and_is_not_repeated(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.node("n")
        cluster.pod("a", {GPU: "1"})
        await cluster.pass_time()
        before = cluster.get("a")["metadata"]["resourceVersion"]
        await cluster.pass_time(290)
        assert cluster.get("a")["metadata"]["resourceVersion"] == before
        cluster.node("m", unschedulable=True)
        await cluster.pass_time()
        assert cluster.condition("a")["message"] == (
            f"0/2 nodes are available: 1 Insufficient {GPU}, 1 node(s) were unschedulable. "
            "no new claims to deallocate, preemption: 0/2 nodes are available: "
            f"2 {NOT_HELPFUL}."
        )

    play(test)


def test_deleted_while_it_waits(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.node("n")
        cluster.pod("a", {GPU: "1"})
        await cluster.pass_time()
        cluster.api.delete("pods", "default", "a")
        await cluster.pass_time()
        assert not cluster.scheduler.queue.entries

    play(test)


def test_claims_that_are_missing_or_unbound(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        def volumes(claim: str) -> list[dict[str, Any]]:
            return [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]

        def claim(name: str, storage_class: str) -> dict[str, Any]:
            return {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": storage_class,
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }

        cluster.node("n")
        cluster.pod("missing", volumes=volumes("none"))
        cluster.api.create("persistentvolumeclaims", claim("now", "fast"), "default")
        cluster.pod("unbound", volumes=volumes("now"))
        for name, provisioner in (
            ("local", "kubernetes.io/no-provisioner"),
            ("later", "microk8s.io/hostpath"),
        ):
            cls = {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": name},
                "provisioner": provisioner,
                "volumeBindingMode": "WaitForFirstConsumer",
            }
            cluster.api.create("storageclasses.storage.k8s.io", cls)
            cluster.api.create("persistentvolumeclaims", claim(name, name), "default")
            cluster.pod(name, volumes=volumes(name))
        await cluster.pass_time(1)

        def message(name: str) -> str:
            text: str = cluster.condition(name)["message"]
            return text.partition(" no new claims")[0]

        first = "0/1 nodes are available:"
        assert message("missing") == f'{first} persistentvolumeclaim "none" not found.'
        assert message("unbound") == (f"{first} pod has unbound immediate PersistentVolumeClaims.")
        assert message("local") == (
            f"{first} 1 node(s) didn't find available persistent volumes to bind."
        )
        # The provisioner is told the node, and the pod waits until the claim is bound.
        found = cluster.api.get("persistentvolumeclaims", "default", "later")
        assert found["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == "n"
        assert cluster.where("later") is None
        cluster.api.change(
            "persistentvolumeclaims",
            "default",
            "later",
            lambda obj: obj.setdefault("status", {}).update(phase="Bound"),
            "status",
        )
        await cluster.pass_time(1)
        assert cluster.where("later") == "n"

    play(test)


def test_many_alike_wait_for_one_place(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.node("n", allocatable={GPU: "1"})
        for number in range(20):
            cluster.pod(f"p{number}", {GPU: "1"})
        await cluster.pass_time()
        for done in range(5):
            placed = [f"p{number}" for number in range(20) if cluster.where(f"p{number}")]
            assert len(placed) == done + 1
            for name in placed:
                cluster.finish(name)
            await cluster.pass_time(1)
        queue = cluster.scheduler.queue
        assert len(queue.parked()) == len(queue.entries) == 14

    play(test)


def test_explain_a_pending_pod(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        taint = {"key": "k", "effect": "NoSchedule"}
        cluster.node("a", taints=[taint])
        cluster.node("b", allocatable={GPU: "1"})
        cluster.pod("old", {GPU: "1"})
        await cluster.pass_time()
        cluster.pod("p", {GPU: "1"})
        await cluster.pass_time()
        found = json.loads(json.dumps(explain(cluster.scheduler, "default", "p")))
        assert found["condition"]["reason"] == "Unschedulable"
        assert found["message"].startswith(
            f"0/2 nodes are available: 1 Insufficient {GPU}, 1 node(s) had untolerated taint(s)."
        )
        verdicts = {
            node["name"]: {
                one["plugin"]: (one["code"], one["reasons"], one["decided"])
                for one in node["verdicts"]
            }
            for node in found["nodes"]
        }
        # Both plugins are heard about node a; the first decides.
        assert verdicts["a"]["TaintToleration"] == (
            "UnschedulableAndUnresolvable",
            ["node(s) had untolerated taint(s)"],
            True,
        )
        assert verdicts["a"]["NodeResourcesFit"] == (
            "UnschedulableAndUnresolvable",
            [f"Insufficient {GPU}"],
            False,
        )
        assert verdicts["b"]["NodeResourcesFit"] == (
            "Unschedulable",
            [f"Insufficient {GPU}"],
            True,
        )
        assert not any(node["fits"] or node["chosen"] for node in found["nodes"])

    play(test)


def test_explain_a_running_pod(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.node("busy", allocatable={GPU: "1"})
        cluster.pod("old", {"cpu": "8", "memory": "64Gi"})
        await cluster.pass_time()
        cluster.node("free", allocatable={GPU: "1"})
        cluster.pod("p", {"cpu": "1", "memory": "1Gi", GPU: "1"})
        await cluster.pass_time()
        before = cluster.api.store.revision
        found = json.loads(json.dumps(explain(cluster.scheduler, "default", "p")))
        assert cluster.api.store.revision == before
        assert cluster.scheduler.cache.nodes["free"].requested[GPU] == 1
        nodes = {node["name"]: node for node in found["nodes"]}
        assert nodes["free"]["chosen"] and nodes["free"]["best"] and nodes["free"]["fits"]
        assert nodes["busy"]["fits"] and not nodes["busy"]["best"]
        for node in nodes.values():
            assert node["total"] == sum(score["weighted"] for score in node["scores"])
        fit = {score["plugin"]: score for score in nodes["busy"]["scores"]}["NodeResourcesFit"]
        # Free after it: 7 of 16 CPUs, 63 of 128 GiB: (43 + 49) / 2.
        assert fit["raw"] == 46
        assert found["message"] == "" and found["preemption"] is None

    play(test)
