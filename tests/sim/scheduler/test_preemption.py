"""Who has to give way, where, and what everybody is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlk8s.sim.api import DeleteOptions
from mlk8s.sim.scheduler.podinfo import PodInfo
from mlk8s.sim.scheduler.preemption import Candidate, choose

if TYPE_CHECKING:
    from tests.sim.scheduler.conftest import Cluster, Play

GPU = "nvidia.com/gpu"
NO_VICTIMS = "No preemption victims found for incoming pod"


def _running(cluster: Cluster, name: str, started: str) -> None:
    def mutate(obj: dict[str, Any]) -> None:
        obj["status"].update(phase="Running", startTime=started)

    cluster.api.change("pods", "default", name, mutate, "status")


def _victims(cluster: Cluster) -> list[str]:
    return [
        pod["metadata"]["name"]
        for pod in cluster.api.store.items("pods")
        if "deletionTimestamp" in pod["metadata"]
    ]


def test_a_higher_priority_takes_the_gpu(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.priority("low", 100)
        cluster.priority("high", 1000)
        cluster.node("gpu-0", allocatable={GPU: "1"})
        cluster.pod("a", {GPU: "1"}, priorityClassName="low", terminationGracePeriodSeconds=20)
        await cluster.pass_time()
        cluster.pod("b", {GPU: "1"}, priorityClassName="high")
        await cluster.pass_time()
        a, b = cluster.get("a"), cluster.get("b")
        assert a["metadata"]["deletionGracePeriodSeconds"] == 20
        target = next(one for one in a["status"]["conditions"] if one["type"] == "DisruptionTarget")
        assert (target["status"], target["reason"]) == ("True", "PreemptionByScheduler")
        assert target["message"] == (
            "default-scheduler: preempting to accommodate a higher priority pod"
        )
        assert ("Preempted", f"Preempted by pod {b['metadata']['uid']} on node gpu-0") in (
            cluster.events("a")
        )
        message = f"0/1 nodes are available: 1 Insufficient {GPU}."
        assert cluster.condition("b")["message"] == message
        assert ("FailedScheduling", message) in cluster.events("b")
        assert b["status"]["nominatedNodeName"] == "gpu-0"
        # The place is kept for it while the victim goes.
        cluster.pod("c", {GPU: "1"}, priorityClassName="low")
        await cluster.pass_time(1)
        cluster.api.delete("pods", "default", "a", DeleteOptions(grace_period=0))
        await cluster.pass_time()
        assert cluster.where("b") == "gpu-0"
        assert "nominatedNodeName" not in cluster.get("b")["status"]
        assert cluster.where("c") is None

    play(test)


def test_a_victim_that_goes_at_once(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.priority("high", 1000)
        cluster.node("n", allocatable={GPU: "1"})
        cluster.pod("a", {GPU: "1"}, terminationGracePeriodSeconds=0)
        await cluster.pass_time()
        cluster.pod("b", {GPU: "1"}, priorityClassName="high")
        await cluster.pass_time()
        assert cluster.api.find("pods", "default", "a") is None
        assert cluster.where("b") == "n"

    play(test)


def test_no_second_victim_while_the_first_is_going(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.priority("high", 1000)
        cluster.node("n", allocatable={GPU: "2"})
        cluster.pod("a", {GPU: "1"})
        cluster.pod("b", {GPU: "1"})
        await cluster.pass_time()
        cluster.pod("c", {GPU: "1"}, priorityClassName="high")
        await cluster.pass_time()
        assert len(_victims(cluster)) == 1
        cluster.node("small", allocatable={GPU: "0"})
        await cluster.pass_time()
        assert len(_victims(cluster)) == 1
        assert cluster.condition("c")["message"].endswith(
            "preemption: not eligible due to a terminating pod on the nominated node."
        )
        assert cluster.get("c")["status"]["nominatedNodeName"] == "n"

    play(test)


def test_who_may_not_and_who_cannot(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.priority("polite", 1000, preemptionPolicy="Never")
        cluster.node("n", allocatable={GPU: "1"})
        cluster.node("none")
        cluster.pod("a", {GPU: "1"})
        await cluster.pass_time()
        cluster.pod("polite", {GPU: "1"}, priorityClassName="polite")
        cluster.pod("equal", {GPU: "1"})
        await cluster.pass_time()
        first = f"0/2 nodes are available: 2 Insufficient {GPU}. no new claims to deallocate, "
        assert cluster.condition("polite")["message"] == (
            f"{first}preemption: not eligible due to preemptionPolicy=Never."
        )
        assert cluster.condition("equal")["message"] == (
            f"{first}preemption: 0/2 nodes are available: 1 {NO_VICTIMS}, "
            "1 Preemption is not helpful for scheduling."
        )

    play(test)


def test_the_important_are_reprieved(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        for name, value in (("low", 1), ("middle", 2), ("high", 3)):
            cluster.priority(name, value)
        cluster.node("n", allocatable={GPU: "4"})
        cluster.pod("middle", {GPU: "2"}, priorityClassName="middle")
        cluster.pod("young", {GPU: "1"}, priorityClassName="low")
        cluster.pod("old", {GPU: "1"}, priorityClassName="low")
        await cluster.pass_time()
        _running(cluster, "old", "2026-09-01T00:00:00Z")
        _running(cluster, "young", "2026-09-02T00:00:00Z")
        _running(cluster, "middle", "2026-09-03T00:00:00Z")
        cluster.pod("new", {GPU: "1"}, priorityClassName="high")
        await cluster.pass_time()
        assert _victims(cluster) == ["young"]

    play(test)


def test_a_disruption_budget_turns_it_to_others(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.priority("high", 1000)
        cluster.node("n1", allocatable={GPU: "1"})
        cluster.node("n2", allocatable={GPU: "1"})
        budget = {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "keep"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "kept"}}},
        }
        cluster.api.create("poddisruptionbudgets.policy", budget, "default")
        cluster.pod("kept", {GPU: "1"}, labels={"app": "kept"})
        cluster.pod("other", {GPU: "1"})
        await cluster.pass_time()
        # Without the budget it would be the younger.
        _running(cluster, "other", "2026-09-01T00:00:00Z")
        _running(cluster, "kept", "2026-09-02T00:00:00Z")
        cluster.pod("new", {GPU: "1"}, priorityClassName="high")
        await cluster.pass_time()
        assert _victims(cluster) == ["other"]
        # Where nobody else is left, the budget does not protect.
        cluster.pod("newer", {GPU: "1"}, priorityClassName="high")
        await cluster.pass_time()
        assert _victims(cluster) == ["kept", "other"]

    play(test)


def test_preemption_respects_anti_affinity_of_those_who_stay(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.priority("high", 1000)
        cluster.node("n", allocatable={GPU: "2"})
        term = {
            "labelSelector": {"matchLabels": {"app": "x"}},
            "topologyKey": "kubernetes.io/hostname",
        }
        shy = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
        cluster.pod("shy", labels={"app": "x"}, affinity=shy)
        cluster.pod("plain", {GPU: "1"})
        await cluster.pass_time()
        cluster.pod("new", {GPU: "1"}, labels={"app": "x"}, priorityClassName="high")
        await cluster.pass_time()
        assert _victims(cluster) == ["shy"]

    play(test)


def test_a_terminating_victim_is_no_reason_to_try_again(play: Play) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.priority("low", 10)
        cluster.priority("high", 1000)
        cluster.node("gpu-0")
        cluster.pod("a", labels={"app": "a"}, priorityClassName="low")
        await cluster.pass_time()
        term = {
            "labelSelector": {"matchLabels": {"app": "a"}},
            "topologyKey": "kubernetes.io/hostname",
        }
        anti = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
        cluster.pod("b", affinity={"podAntiAffinity": anti}, priorityClassName="high")
        await cluster.pass_time(5)
        assert cluster.get("b")["status"]["nominatedNodeName"] == "gpu-0"
        # InterPodAffinity hears of pods' labels and of their end, not of deletionTimestamp.
        message = "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules."
        assert cluster.events("b") == [("FailedScheduling", message)]
        cluster.api.delete("pods", "default", "a", DeleteOptions(grace_period=0))
        await cluster.pass_time(5)
        assert cluster.get("b")["spec"]["nodeName"] == "gpu-0"

    play(test)


def _candidate(node: str, *victims: tuple[int, str], violations: int = 0) -> Candidate:
    infos = []
    for number, (priority, started) in enumerate(victims):
        pod = {
            "metadata": {"uid": f"{node}{number}", "name": f"{node}{number}"},
            "spec": {"priority": priority},
            "status": {"startTime": started},
        }
        infos.append(PodInfo(pod))
    return Candidate(node, tuple(infos), violations)


def test_the_criteria_in_their_order() -> None:
    old, new = "2026-09-01T00:00:00Z", "2026-09-02T00:00:00Z"
    pairs = [
        # Fewest budget violations, whatever else.
        (_candidate("a", (900, old)), _candidate("b", (1, new), violations=1)),
        # The lowest highest priority.
        (_candidate("a", (5, old), (5, old)), _candidate("b", (6, new))),
        # The lowest sum of priorities; a second victim counts even at priority 0.
        (_candidate("a", (5, old), (1, old)), _candidate("b", (5, new), (2, new))),
        (_candidate("a", (0, old)), _candidate("b", (0, new), (-5, new))),
        # The latest start of the most important victims.
        (_candidate("a", (5, new)), _candidate("b", (5, old))),
    ]
    for better, worse in pairs:
        assert choose([worse, better]) is better
        assert choose([better, worse]) is better
