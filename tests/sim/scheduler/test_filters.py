"""Which nodes a pod can run on, and the sentence for each that it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mlk8s.sim.scheduler.framework import Code
from mlk8s.sim.scheduler.podinfo import pod_requests

if TYPE_CHECKING:
    from tests.sim.scheduler.conftest import Lab

GPU = "nvidia.com/gpu"
APP = {"app": "x"}


def _containers(*requests: dict[str, str], **more: Any) -> list[dict[str, Any]]:
    return [{"resources": {"requests": each}, **more} for each in requests]


def test_init_containers_count_as_their_largest() -> None:
    spec = {
        "containers": _containers({"cpu": "1"}, {"cpu": "500m"}),
        "initContainers": _containers({"cpu": "2", GPU: "1"}, {"cpu": "1"}),
        "overhead": {"cpu": "250m", "memory": "10Mi"},
    }
    assert pod_requests(spec) == {"cpu": 2250, GPU: 1, "memory": 10 * 2**20}


def test_a_sidecar_runs_beside_later_init_containers_and_the_pod() -> None:
    # resourcehelper.PodRequests: max(1 + 2, 3 (init) + 2 (sidecar before it), 4) = 5.
    spec = {
        "containers": _containers({"cpu": "1"}),
        "initContainers": [
            *_containers({"cpu": "4"}),
            *_containers({"cpu": "2"}, restartPolicy="Always"),
            *_containers({"cpu": "3"}),
        ],
    }
    assert pod_requests(spec) == {"cpu": 5000}


def test_pod_level_requests_replace_those_of_containers() -> None:
    spec = {
        "containers": _containers({"cpu": "1", GPU: "2"}),
        "resources": {"requests": {"cpu": "3"}},
    }
    assert pod_requests(spec) == {"cpu": 3000, GPU: 2}


def test_all_that_is_missing_is_named(lab: Lab) -> None:
    lab.nodes(lab.a_node("n", allocatable={"cpu": "2", "memory": "1Gi", "pods": "1", GPU: "1"}))
    lab.run(lab.a_pod("old", {GPU: "1"}), "n")
    pod = lab.a_pod("new", {"cpu": "3", "memory": "2Gi", "ephemeral-storage": "1Gi", GPU: "1"})
    assert lab.reasons(pod)["n"] == (
        "Too many pods",
        "Insufficient cpu",
        "Insufficient memory",
        "Insufficient ephemeral-storage",
        f"Insufficient {GPU}",
    )


def test_preemption_cannot_help_where_the_empty_node_has_too_little(lab: Lab) -> None:
    lab.nodes(
        lab.a_node("small", allocatable={GPU: "1"}), lab.a_node("full", allocatable={GPU: "2"})
    )
    lab.run(lab.a_pod("old", {GPU: "1"}), "full")
    assert lab.codes(lab.a_pod("new", {GPU: "2"})) == {
        "small": Code.UNRESOLVABLE,
        "full": Code.UNSCHEDULABLE,
    }


def test_fractions_of_a_thousandth_round_up(lab: Lab) -> None:
    lab.nodes(lab.a_node("n", allocatable={"cpu": "1"}))
    lab.run(lab.a_pod("old", {"cpu": "999500u"}), "n")
    assert lab.reasons(lab.a_pod("new", {"cpu": "1m"})) == {"n": ("Insufficient cpu",)}


def test_reasons_are_sorted_as_text(lab: Lab) -> None:
    lab.nodes(
        *(lab.a_node(f"small-{number}") for number in range(10)),
        lab.a_node("cordoned", unschedulable=True),
        lab.a_node("cordoned-too", unschedulable=True),
    )
    message = lab.diagnose(lab.a_pod("new", {GPU: "1"})).message(12)
    # "10 …" comes before "2 …", as sort.Strings has it.
    assert message == (
        f"0/12 nodes are available: 10 Insufficient {GPU}, 2 node(s) were unschedulable."
    )


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "value": "h100"}, True),
        ({"key": "gpu", "value": "l4"}, False),
        ({"key": "gpu", "value": "h100", "effect": "NoExecute"}, False),
        ({"operator": "Exists"}, True),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations(lab: Lab, toleration: dict[str, str], fits: bool) -> None:
    taint = {"key": "gpu", "value": "h100", "effect": "NoSchedule"}
    lab.nodes(lab.a_node("n", taints=[taint]))
    pod = lab.a_pod("p", tolerations=[toleration])
    assert lab.feasible(pod) == (["n"] if fits else [])
    if not fits:
        assert lab.reasons(pod) == {"n": ("node(s) had untolerated taint(s)",)}


def test_a_cordoned_node_takes_who_tolerates_it(lab: Lab) -> None:
    lab.nodes(lab.a_node("n", unschedulable=True))
    assert lab.reasons(lab.a_pod("p")) == {"n": ("node(s) were unschedulable",)}
    key = "node.kubernetes.io/unschedulable"
    assert lab.feasible(lab.a_pod("p", tolerations=[{"key": key, "operator": "Exists"}])) == ["n"]


def _required(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": list(terms)}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


@pytest.mark.parametrize(
    ("operator", "values", "nodes"),
    [
        ("In", ["80"], ["big"]),
        ("NotIn", ["80"], ["none", "small", "words"]),
        ("Exists", [], ["big", "small", "words"]),
        ("DoesNotExist", [], ["none"]),
        ("Gt", ["24"], ["big"]),
        ("Lt", ["80"], ["small"]),
    ],
)
def test_node_affinity_operators(
    lab: Lab, operator: str, values: list[str], nodes: list[str]
) -> None:
    lab.nodes(
        lab.a_node("big", labels={"gib": "80"}),
        lab.a_node("small", labels={"gib": "24"}),
        lab.a_node("words", labels={"gib": "many"}),
        lab.a_node("none"),
    )
    term = {"matchExpressions": [{"key": "gib", "operator": operator, "values": values}]}
    assert lab.feasible(lab.a_pod("p", affinity=_required(term))) == nodes


def test_terms_are_alternatives_and_an_empty_one_is_none(lab: Lab) -> None:
    lab.nodes(
        lab.a_node("a", labels={"x": "1"}), lab.a_node("b", labels={"y": "1"}), lab.a_node("c")
    )
    x, y = (
        {"matchExpressions": [{"key": key, "operator": "Exists", "values": []}]} for key in "xy"
    )
    assert lab.feasible(lab.a_pod("p", affinity=_required(x, y))) == ["a", "b"]
    pod = lab.a_pod("p", affinity=_required({}))
    assert set(lab.reasons(pod).values()) == {
        ("node(s) didn't match Pod's node affinity/selector",)
    }


def test_a_daemon_pod_looks_at_its_node_alone(lab: Lab) -> None:
    lab.nodes(lab.a_node("a", unschedulable=True), lab.a_node("b"), lab.a_node("c"))
    field = {"key": "metadata.name", "operator": "In", "values": ["a"]}
    diagnosis = lab.diagnose(lab.a_pod("p", affinity=_required({"matchFields": [field]})))
    assert diagnosis.message(3) == (
        "0/3 nodes are available: 1 node(s) were unschedulable, "
        "2 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    )


def test_host_ports(lab: Lab) -> None:
    def pod(name: str, address: str, protocol: str = "TCP") -> dict[str, Any]:
        made = lab.a_pod(name)
        port = {"hostPort": 80, "containerPort": 80, "hostIP": address, "protocol": protocol}
        made["spec"]["containers"][0]["ports"] = [port]
        return made

    lab.nodes(lab.a_node("n"))
    lab.run(pod("old", "127.0.0.1"), "n")
    assert lab.feasible(pod("other address", "10.0.0.1")) == ["n"]
    assert lab.feasible(pod("other protocol", "127.0.0.1", "UDP")) == ["n"]
    assert lab.reasons(pod("any", "0.0.0.0")) == {
        "n": ("node(s) didn't have free ports for the requested pod ports",)
    }


def _pod_affinity(kind: str, **term: Any) -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": APP}, "topologyKey": "zone", **term}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def _zones(lab: Lab) -> None:
    lab.nodes(
        lab.a_node("a1", labels={"zone": "a"}),
        lab.a_node("a2", labels={"zone": "a"}),
        lab.a_node("b1", labels={"zone": "b"}),
        lab.a_node("nowhere"),
    )


def test_affinity_wants_the_same_zone(lab: Lab) -> None:
    _zones(lab)
    lab.run(lab.a_pod("old", labels=APP), "a1")
    pod = lab.a_pod("new", affinity=_pod_affinity("podAffinity"))
    assert lab.feasible(pod) == ["a1", "a2"]
    elsewhere = lab.a_pod("new", namespace="team", affinity=_pod_affinity("podAffinity"))
    assert set(lab.reasons(elsewhere).values()) == {("node(s) didn't match pod affinity rules",)}
    assert set(lab.codes(elsewhere).values()) == {Code.UNRESOLVABLE}


def test_the_first_of_a_set_may_start_anywhere_with_the_label(lab: Lab) -> None:
    _zones(lab)
    pod = lab.a_pod("new", labels=APP, affinity=_pod_affinity("podAffinity"))
    assert lab.feasible(pod) == ["a1", "a2", "b1"]


def test_anti_affinity_and_its_mirror(lab: Lab) -> None:
    _zones(lab)
    shy = lab.a_pod("shy", labels=APP, affinity=_pod_affinity("podAntiAffinity"))
    lab.run(shy, "a1")
    assert lab.feasible(lab.a_pod("new", affinity=_pod_affinity("podAntiAffinity"))) == [
        "b1",
        "nowhere",
    ]
    new = lab.a_pod("new", labels=APP)
    assert lab.feasible(new) == ["b1", "nowhere"]
    lab.cache.remove_node("b1")
    lab.cache.remove_node("nowhere")
    assert set(lab.reasons(new).values()) == {
        ("node(s) didn't satisfy existing pods anti-affinity rules",)
    }
    pod = lab.a_pod("new", affinity=_pod_affinity("podAntiAffinity"))
    assert set(lab.reasons(pod).values()) == {("node(s) didn't match pod anti-affinity rules",)}
    assert set(lab.codes(pod).values()) == {Code.UNSCHEDULABLE}


def test_affinity_to_other_namespaces(lab: Lab) -> None:
    _zones(lab)
    lab.cache.namespaces = {"default": {}, "team": {"kind": "ml"}}
    lab.run(lab.a_pod("old", labels=APP, namespace="team"), "b1")
    by_name = _pod_affinity("podAffinity", namespaces=["team"])
    by_label = _pod_affinity("podAffinity", namespaceSelector={"matchLabels": {"kind": "ml"}})
    everywhere = _pod_affinity("podAffinity", namespaceSelector={})
    for affinity in (by_name, by_label, everywhere):
        assert lab.feasible(lab.a_pod("new", affinity=affinity)) == ["b1"]


def test_match_label_keys_compare_with_the_pod_itself(lab: Lab) -> None:
    _zones(lab)
    lab.run(lab.a_pod("old", labels={**APP, "rev": "1"}), "a1")
    affinity = _pod_affinity("podAntiAffinity", matchLabelKeys=["rev"])
    assert lab.feasible(lab.a_pod("same", labels={"rev": "1"}, affinity=affinity)) == [
        "b1",
        "nowhere",
    ]
    assert len(lab.feasible(lab.a_pod("next", labels={"rev": "2"}, affinity=affinity))) == 4


def _spread(**more: Any) -> list[dict[str, Any]]:
    constraint: dict[str, Any] = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": APP},
    }
    return [constraint | more]


def test_spread_allows_no_more_skew(lab: Lab) -> None:
    _zones(lab)
    lab.run(lab.a_pod("one", labels=APP), "a1")
    pod = lab.a_pod("two", labels=APP, topologySpreadConstraints=_spread())
    assert lab.feasible(pod) == ["b1"]
    assert lab.reasons(pod) == {
        "a1": ("node(s) didn't match pod topology spread constraints",),
        "a2": ("node(s) didn't match pod topology spread constraints",),
        "nowhere": (
            "node(s) didn't match pod topology spread constraints (missing required label)",
        ),
    }
    assert lab.codes(pod)["nowhere"] is Code.UNRESOLVABLE


def test_spread_counts_zones_that_the_pod_may_use(lab: Lab) -> None:
    _zones(lab)
    lab.run(lab.a_pod("one", labels=APP), "a1")
    only_a: dict[str, Any] = {"nodeSelector": {"zone": "a"}}
    spread = lab.a_pod("two", labels=APP, topologySpreadConstraints=_spread(), **only_a)
    assert lab.feasible(spread) == ["a1", "a2"]
    ignoring = _spread(nodeAffinityPolicy="Ignore")
    assert (
        lab.feasible(lab.a_pod("two", labels=APP, topologySpreadConstraints=ignoring, **only_a))
        == []
    )


def test_too_few_domains_count_as_an_empty_one(lab: Lab) -> None:
    _zones(lab)
    lab.run(lab.a_pod("one", labels=APP), "a1")
    lab.run(lab.a_pod("two", labels=APP), "b1")
    pod = lab.a_pod("three", labels=APP, topologySpreadConstraints=_spread())
    assert lab.feasible(pod) == ["a1", "a2", "b1"]
    pod = lab.a_pod("three", labels=APP, topologySpreadConstraints=_spread(minDomains=3))
    assert lab.feasible(pod) == []


def test_pods_being_deleted_do_not_count_for_spread(lab: Lab) -> None:
    _zones(lab)
    leaving = lab.a_pod("one", labels=APP)
    leaving["metadata"]["deletionTimestamp"] = "2026-11-24T02:40:01Z"
    lab.run(leaving, "a1")
    pod = lab.a_pod("two", labels=APP, topologySpreadConstraints=_spread())
    assert lab.feasible(pod) == ["a1", "a2", "b1"]


def test_enough_nodes_are_enough(lab: Lab) -> None:
    # numFeasibleNodesToFind: 1,000 nodes, 50 - 1000/125 = 42 percent.
    lab.nodes(*(lab.a_node(f"n{number}") for number in range(1000)))
    first, second = lab.feasible(lab.a_pod("p")), lab.feasible(lab.a_pod("q"))
    assert len(first) == len(second) == 420
    assert not set(first) & set(second)


def test_pods_nominated_for_a_node_are_reckoned_with(lab: Lab) -> None:
    from mlk8s.sim.scheduler.podinfo import PodInfo

    lab.nodes(lab.a_node("n", allocatable={GPU: "1"}))
    lab.nominations.set(PodInfo(lab.a_pod("waiting", {GPU: "1"}, priority=5)), "n")
    assert lab.feasible(lab.a_pod("lower", {GPU: "1"}, priority=4)) == []
    assert lab.feasible(lab.a_pod("equal", {GPU: "1"}, priority=5)) == []
    assert lab.feasible(lab.a_pod("higher", {GPU: "1"}, priority=6)) == ["n"]
