"""Which node is best: numbers by hand, from the formulas of the plugins upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.sim.scheduler.conftest import Lab

GPU = "nvidia.com/gpu"
APP = {"app": "x"}


def test_least_allocated_and_balanced(lab: Lab) -> None:
    # upstream's TestLeastAllocated and TestNodeResourcesBalancedAllocation,
    # "nothing scheduled, resources requested, differently sized nodes".
    lab.nodes(
        lab.a_node("node1", allocatable={"cpu": "4", "memory": "10000"}),
        lab.a_node("node2", allocatable={"cpu": "6", "memory": "10000"}),
    )
    pod = lab.a_pod("p", {"cpu": "3", "memory": "5000"})
    assert lab.scores(pod, "NodeResourcesFit") == {"node1": 37, "node2": 50}
    assert lab.scores(pod, "NodeResourcesBalancedAllocation") == {"node1": 87, "node2": 100}


def test_gpus_do_not_count(lab: Lab) -> None:
    lab.nodes(lab.a_node("a", allocatable={GPU: "8"}), lab.a_node("b", allocatable={GPU: "1"}))
    scores = lab.scores(lab.a_pod("p", {GPU: "1"}), "NodeResourcesFit")
    # What asks for nothing counts as 100m of 16 CPUs and 200Mi of 128Gi: (99 + 99) / 2.
    assert scores == {"a": 99, "b": 99}


def test_a_pod_without_requests_is_not_balanced(lab: Lab) -> None:
    lab.nodes(lab.a_node("a"), lab.a_node("b"))
    assert lab.scores(lab.a_pod("p"), "NodeResourcesBalancedAllocation") is None


def test_soft_taints(lab: Lab) -> None:
    def taints(*keys: str) -> list[dict[str, str]]:
        return [{"key": key, "effect": "PreferNoSchedule"} for key in keys]

    lab.nodes(
        lab.a_node("clean"),
        lab.a_node("one", taints=taints("a")),
        lab.a_node("two", taints=taints("a", "b")),
    )
    assert lab.scores(lab.a_pod("p"), "TaintToleration") == {"clean": 100, "one": 50, "two": 0}
    tolerant = lab.a_pod("p", tolerations=[{"key": "b", "operator": "Exists"}])
    assert lab.scores(tolerant, "TaintToleration") == {"clean": 100, "one": 0, "two": 0}


def test_preferred_node_affinity(lab: Lab) -> None:
    lab.nodes(
        lab.a_node("both", labels={"x": "1", "y": "1"}),
        lab.a_node("x", labels={"x": "1"}),
        lab.a_node("none"),
    )
    preferred = [
        {
            "weight": weight,
            "preference": {"matchExpressions": [{"key": key, "operator": "Exists"}]},
        }
        for key, weight in (("x", 2), ("y", 6))
    ]
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    scores = lab.scores(lab.a_pod("p", affinity=affinity), "NodeAffinity")
    assert scores == {"both": 100, "x": 25, "none": 0}


def test_images(lab: Lab) -> None:
    # upstream's TestImageLocalityPriority: 100 * (250M/2 - 23M) / (1000M * 2 - 23M) = 5.
    mib = 1024 * 1024
    lab.nodes(
        lab.a_node("node1", images=[{"names": ["gcr.io/40:latest"], "sizeBytes": 40 * mib}]),
        lab.a_node("node2", images=[{"names": ["gcr.io/250:latest"], "sizeBytes": 250 * mib}]),
    )
    pod = lab.a_pod("p")
    pod["spec"]["containers"] = [{"name": "a", "image": "gcr.io/40"}]
    pod["spec"]["containers"] += [{"name": "b", "image": "gcr.io/250"}]
    assert lab.scores(pod, "ImageLocality") == {"node1": 0, "node2": 5}


def _preferring(kind: str, weight: int) -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": APP}, "topologyKey": "zone"}
    preferred = [{"weight": weight, "podAffinityTerm": term}]
    return {kind: {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


def test_preferred_pod_affinity_adds_up_over_a_zone(lab: Lab) -> None:
    lab.nodes(
        lab.a_node("a1", labels={"zone": "a"}),
        lab.a_node("a2", labels={"zone": "a"}),
        lab.a_node("b", labels={"zone": "b"}),
        lab.a_node("c", labels={"zone": "c"}),
    )
    for name, node in (("1", "a1"), ("2", "a2"), ("3", "b")):
        lab.run(lab.a_pod(name, labels=APP), node)
    near = lab.a_pod("p", affinity=_preferring("podAffinity", 10))
    assert lab.scores(near, "InterPodAffinity") == {"a1": 100, "a2": 100, "b": 50, "c": 0}
    apart = lab.a_pod("p", affinity=_preferring("podAntiAffinity", 10))
    assert lab.scores(apart, "InterPodAffinity") == {"a1": 0, "a2": 0, "b": 50, "c": 100}


def test_pods_already_there_have_their_wishes(lab: Lab) -> None:
    lab.nodes(lab.a_node("a", labels={"zone": "a"}), lab.a_node("b", labels={"zone": "b"}))
    lab.run(lab.a_pod("old", affinity=_preferring("podAntiAffinity", 3)), "a")
    assert lab.scores(lab.a_pod("p", labels=APP), "InterPodAffinity") == {"a": 0, "b": 100}
    assert lab.scores(lab.a_pod("p"), "InterPodAffinity") is None


def test_soft_spread_over_hosts(lab: Lab) -> None:
    # 4 nodes with 2, 1, 0, 3 pods, weight ln 6: raw 4, 2, 0, 5; 100 * (5 + 0 - raw) / 5.
    lab.nodes(*(lab.a_node(name) for name in "abcd"))
    for number, node in enumerate("aabddd"):
        lab.run(lab.a_pod(str(number), labels=APP), node)
    constraint = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": APP},
    }
    pod = lab.a_pod("p", labels=APP, topologySpreadConstraints=[constraint])
    assert lab.scores(pod, "PodTopologySpread") == {"a": 20, "b": 60, "c": 100, "d": 0}


def test_replicas_spread_without_being_told(lab: Lab) -> None:
    lab.nodes(lab.a_node("a"), lab.a_node("b"))
    lab.objects["replicasets.apps", "default", "rs"] = {"spec": {"selector": {"matchLabels": APP}}}
    lab.run(lab.a_pod("1", labels=APP), "a")
    pod = lab.a_pod("p", labels=APP)
    assert lab.scores(pod, "PodTopologySpread") is None
    owner = {"kind": "ReplicaSet", "name": "rs", "uid": "u", "controller": True}
    pod["metadata"]["ownerReferences"] = [owner]
    scores = lab.scores(pod, "PodTopologySpread")
    assert scores is not None and scores["b"] == 100 > scores["a"]
    del pod["metadata"]["ownerReferences"]
    lab.cache.services = {"default": {"svc": APP}}
    assert lab.scores(pod, "PodTopologySpread") == scores


def test_the_best_node_is_picked_and_equal_ones_in_turn(lab: Lab) -> None:
    lab.nodes(lab.a_node("a"), lab.a_node("b"), lab.a_node("busy"))
    lab.run(lab.a_pod("old", {"cpu": "8", "memory": "64Gi"}), "busy")
    picked = set()
    for _ in range(50):
        pod = lab.a_pod("p", {"cpu": "1", "memory": "1Gi"})
        state = lab.cycle.begin(pod)
        fitting, _ = lab.cycle.feasible(state, pod)
        picked.add(lab.cycle.pick(state, pod, fitting).name)
    assert picked == {"a", "b"}
