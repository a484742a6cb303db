"""Flavors: kinds of nodes with a quota each, and how a job is led to them.

The rules and texts are those of Kueue 0.19.2, ``pkg/scheduler/flavorassigner``.
"""

from __future__ import annotations

from typing import Any

from .lab import GPU, HOME, JOBS, KUEUE, Lab

SPOT = {"key": "spot", "value": "true", "effect": "NoSchedule"}
PRODUCT = "nvidia.com/gpu.product"


def flavor(lab: Lab, name: str, **spec: Any) -> None:
    lab.create("ResourceFlavor", name, spec)


def assigned(lab: Lab, job: str) -> str:
    [assignment] = lab.workload(job)["status"]["admission"]["podSetAssignments"]
    return str(assignment["flavors"][GPU])


def test_the_labels_of_a_flavor_become_the_pods_node_selector(lab: Lab) -> None:
    flavor(lab, "old", nodeLabels={PRODUCT: "Tesla-T4"})
    lab.queue(flavors={"old": 2})
    lab.job("a", pod={"nodeSelector": {"kubernetes.io/os": "linux"}})
    lab.wait()
    selector = lab.read_job("a")["spec"]["template"]["spec"]["nodeSelector"]
    assert selector == {"kubernetes.io/os": "linux", PRODUCT: "Tesla-T4"}
    # Kueue counts; whether there is such a node is found out by the scheduler.
    [pod] = lab.pods("a")
    assert pod["status"]["phase"] == "Pending"
    [condition] = pod["status"]["conditions"]
    assert "1 node(s) didn't match Pod's node affinity/selector" in condition["message"]


def test_what_an_admission_has_added_goes_with_it(lab: Lab) -> None:
    added = {"key": "batch", "operator": "Exists", "effect": "NoSchedule"}
    flavor(lab, "old", nodeLabels={PRODUCT: "Tesla-T4"}, tolerations=[added])
    lab.queue(flavors={"old": 2})
    before = lab.job("a")["spec"]["template"]["spec"]
    lab.wait()
    template = lab.read_job("a")["spec"]["template"]
    assert template["spec"]["tolerations"] == [added]
    lab.patch(f"{KUEUE}/clusterqueues/gpu", {"spec": {"stopPolicy": "HoldAndDrain"}})
    lab.wait(60)
    template = lab.read_job("a")["spec"]["template"]
    assert template["spec"] == before
    assert "kueue.x-k8s.io/podset" not in template["metadata"]["labels"]
    assert template["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "a"


def test_the_first_flavor_that_has_room_is_taken(lab: Lab) -> None:
    lab.queue(flavors={"reserved": 2, "spot": 4})
    for name in ("a", "b", "c"):
        lab.job(name, gpus=2)
    lab.wait()
    assert [assigned(lab, name) for name in ("a", "b", "c")] == ["reserved", "spot", "spot"]
    [event] = [m for _, r, m in lab.workload_events("b") if r == "QuotaReserved"]
    assert event == (
        "Quota reserved in ClusterQueue gpu, wait time since queued was 0s; Flavors considered: "
        "main: reserved(preemptionMode=NoCandidates;insufficient unused quota for nvidia.com/gpu "
        "in flavor reserved, 2 more needed)"
    )


def test_a_node_selector_picks_the_flavor(lab: Lab) -> None:
    flavor(lab, "a100", nodeLabels={PRODUCT: "A100"})
    flavor(lab, "h100", nodeLabels={PRODUCT: "H100"})
    lab.queue(flavors={"a100": 4, "h100": 4})
    lab.job("a", pod={"nodeSelector": {PRODUCT: "H100"}})
    lab.job("b", pod={"nodeSelector": {PRODUCT: "V100"}})
    lab.wait()
    assert assigned(lab, "a") == "h100"
    assert lab.condition("b", "QuotaReserved") == (
        "False",
        "Pending",
        "couldn't assign flavors to pod set main: flavor a100 doesn't match node affinity, flavor "
        "h100 doesn't match node affinity",
    )


def test_required_node_affinity_picks_the_flavor(lab: Lab) -> None:
    flavor(lab, "a100", nodeLabels={PRODUCT: "A100"})
    flavor(lab, "h100", nodeLabels={PRODUCT: "H100"})
    lab.queue(flavors={"a100": 4, "h100": 4})
    expression = {"key": PRODUCT, "operator": "NotIn", "values": ["A100"]}
    # What does not speak of a flavor's labels is left to the scheduler.
    other = {"key": "zone", "operator": "In", "values": ["z"]}
    term = {"matchExpressions": [expression, other]}
    required = {"nodeSelectorTerms": [term]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    lab.job("a", pod={"affinity": affinity})
    lab.wait()
    assert assigned(lab, "a") == "h100"


def test_a_taint_keeps_pods_from_a_flavor_unless_they_tolerate_it(lab: Lab) -> None:
    flavor(lab, "spot", nodeTaints=[SPOT])
    lab.queue(flavors={"spot": 4})
    lab.job("a")
    lab.job("b", pod={"tolerations": [{"key": "spot", "operator": "Exists"}]})
    lab.wait()
    assert lab.condition("a", "QuotaReserved") == (
        "False",
        "Pending",
        "couldn't assign flavors to pod set main: untolerated taint {spot true NoSchedule <nil>} "
        "in flavor spot",
    )
    assert assigned(lab, "b") == "spot"


def test_a_flavor_may_bring_its_own_toleration(lab: Lab) -> None:
    toleration = {"key": "spot", "operator": "Exists", "effect": "NoSchedule"}
    flavor(lab, "spot", nodeTaints=[SPOT], tolerations=[toleration])
    lab.queue(flavors={"spot": 4})
    lab.job("a")
    lab.wait()
    assert lab.pods("a")[0]["spec"]["tolerations"][0] == toleration


def test_a_flavor_that_does_not_exist_makes_the_queue_inactive(lab: Lab) -> None:
    lab.queue(flavors={"there": 4})
    quota = {"name": GPU, "nominalQuota": 4}
    group = {
        "coveredResources": [GPU],
        "flavors": [{"name": "missing", "resources": [quota]}],
    }
    lab.create("ClusterQueue", "late", {"namespaceSelector": {}, "resourceGroups": [group]})
    lab.create("LocalQueue", "late", {"clusterQueue": "late"}, namespaced=True)
    lab.job("a", queue="late")
    lab.wait()
    assert lab.active("clusterqueues/late") == (
        "False",
        "FlavorNotFound",
        "Can't admit new workloads: references missing ResourceFlavor(s): missing.",
    )
    assert lab.condition("a", "QuotaReserved") == (
        "False",
        "Inadmissible",
        "ClusterQueue late is inactive",
    )
    flavor(lab, "missing")
    lab.wait()
    assert lab.active("clusterqueues/late") == ("True", "Ready", "Can admit new workloads")
    assert assigned(lab, "a") == "missing"


def test_borrowing_or_the_next_flavor_as_the_queue_prefers(lab: Lab) -> None:
    lab.queue("lender", flavors={"one": 4, "two": 4}, local="lender", cohortName="lab")
    for name, when in (("borrows", "MayStopSearch"), ("moves", "TryNextFlavor")):
        lab.queue(
            name,
            flavors={"one": 1, "two": 2},
            local=name,
            cohortName="lab",
            flavorFungibility={"whenCanBorrow": when},
        )
        lab.job(name, gpus=2, queue=name)
        lab.wait()
    assert (assigned(lab, "borrows"), assigned(lab, "moves")) == ("one", "two")


def test_preemption_or_the_next_flavor_as_the_queue_prefers(lab: Lab) -> None:
    lab.priority("high", 10)
    high = {"kueue.x-k8s.io/priority-class": "high"}
    for name, when in (("preempts", "MayStopSearch"), ("moves", "TryNextFlavor")):
        lab.queue(
            name,
            flavors={"one": 1, "two": 1},
            local=name,
            preemption={"withinClusterQueue": "LowerPriority"},
            flavorFungibility={"whenCanPreempt": when},
        )
        lab.job(f"{name}-low", queue=name)
        lab.wait(2)
        lab.job(name, queue=name, labels=high)
        lab.wait(60)
    assert (assigned(lab, "preempts"), assigned(lab, "moves")) == ("one", "two")
    assert assigned(lab, "preempts-low") == "two"
    assert assigned(lab, "moves-low") == "one"


def test_a_flavor_in_use_stays_until_no_queue_names_it(lab: Lab) -> None:
    lab.queue(flavors={"any": 1})
    lab.client("DELETE", f"{KUEUE}/resourceflavors/any")
    lab.wait()
    held = lab.get(f"{KUEUE}/resourceflavors/any")["metadata"]
    assert held["finalizers"] == ["kueue.x-k8s.io/resource-in-use"]
    assert "deletionTimestamp" in held
    lab.client("DELETE", f"{KUEUE}{HOME}/localqueues/team")
    lab.client("DELETE", f"{KUEUE}/clusterqueues/gpu")
    lab.wait()
    assert lab.client("GET", f"{KUEUE}/clusterqueues/gpu").status == 404
    assert lab.client("GET", f"{KUEUE}/resourceflavors/any").status == 404


def test_a_queue_in_use_stays_until_nobody_holds_its_quota(lab: Lab) -> None:
    lab.queue(quota=1)
    lab.job("a")
    lab.wait()
    lab.client("DELETE", f"{KUEUE}/clusterqueues/gpu")
    lab.job("b")
    lab.wait()
    assert lab.active("clusterqueues/gpu") == (
        "False",
        "Terminating",
        "Can't admit new workloads; clusterQueue is terminating",
    )
    lab.client("DELETE", f"{JOBS}/a?propagationPolicy=Background")
    lab.wait()
    assert lab.client("GET", f"{KUEUE}/clusterqueues/gpu").status == 404
    assert lab.condition("b", "QuotaReserved") == (
        "False",
        "Inadmissible",
        "ClusterQueue gpu doesn't exist",
    )


def test_borrowing_before_preemption_unless_the_queue_prefers_it(lab: Lab) -> None:
    lab.priority("high", 10)
    high = {"kueue.x-k8s.io/priority-class": "high"}
    lab.queue("lender", flavors={"one": 0, "two": 4}, local="lender", cohortName="lab")
    search = {"whenCanBorrow": "TryNextFlavor", "whenCanPreempt": "TryNextFlavor"}
    for name, preference in (
        ("borrows", "BorrowingOverPreemption"),
        ("preempts", "PreemptionOverBorrowing"),
    ):
        lab.queue(
            name,
            flavors={"one": 1, "two": 0},
            local=name,
            cohortName="lab",
            preemption={"withinClusterQueue": "LowerPriority"},
            flavorFungibility={**search, "preference": preference},
        )
        lab.job(f"{name}-low", queue=name)
        lab.wait(2)
        lab.job(name, queue=name, labels=high)
        lab.wait(60)
    assert (assigned(lab, "borrows"), assigned(lab, "preempts")) == ("two", "one")


def covering(lab: Lab, **quotas: int) -> None:
    """A queue ``both`` over some resources of one flavor."""
    flavor(lab, "any")
    names = [{"gpu": GPU}.get(name, name) for name in quotas]
    rows = [{"name": n, "nominalQuota": q} for n, q in zip(names, quotas.values(), strict=True)]
    group = {"coveredResources": names, "flavors": [{"name": "any", "resources": rows}]}
    lab.create("ClusterQueue", "both", {"namespaceSelector": {}, "resourceGroups": [group]})
    lab.create("LocalQueue", "both", {"clusterQueue": "both"}, namespaced=True)


def test_a_group_gives_one_flavor_for_all_of_its_resources(lab: Lab) -> None:
    covering(lab, cpu=4, gpu=4)
    lab.job("a", queue="both", resources={"requests": {"cpu": "1500m"}}, pods=2)
    lab.job("b", queue="both", resources={"requests": {"cpu": "2"}})
    lab.wait()
    [assignment] = lab.workload("a")["status"]["admission"]["podSetAssignments"]
    assert assignment["flavors"] == {"cpu": "any", GPU: "any"}
    assert assignment["resourceUsage"] == {"cpu": "3", GPU: "2"}
    _, _, message = lab.condition("b", "QuotaReserved") or ("", "", "")
    assert message.endswith("insufficient unused quota for cpu in flavor any, 1 more needed")


def test_pods_themselves_may_have_a_quota(lab: Lab) -> None:
    covering(lab, pods=3, gpu=8)
    lab.job("a", queue="both", pods=2)
    lab.job("b", queue="both", pods=2)
    lab.wait()
    [assignment] = lab.workload("a")["status"]["admission"]["podSetAssignments"]
    assert assignment["resourceUsage"] == {"pods": "2", GPU: "2"}
    _, _, message = lab.condition("b", "QuotaReserved") or ("", "", "")
    assert message.endswith("insufficient unused quota for pods in flavor any, 1 more needed")


def test_a_request_of_nothing_needs_no_quota(lab: Lab) -> None:
    lab.queue()
    lab.job("a", resources={"requests": {"cpu": "0"}})
    lab.wait()
    assert lab.admitted("a") == [True]


def test_a_term_about_other_labels_is_met_by_every_flavor(lab: Lab) -> None:
    flavor(lab, "a100", nodeLabels={PRODUCT: "A100"})
    lab.queue(flavors={"a100": 4})
    terms = [
        {"matchExpressions": [{"key": PRODUCT, "operator": "In", "values": ["H100"]}]},
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z"]}]},
    ]
    required = {"nodeSelectorTerms": terms}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    lab.job("a", pod={"affinity": affinity})
    lab.wait()
    assert assigned(lab, "a") == "a100"


def test_tolerations_of_a_flavor_follow_the_rules_of_tolerations(lab: Lab) -> None:
    body = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ResourceFlavor",
        "metadata": {"name": "wrong"},
        "spec": {"tolerations": [{"key": "spot", "operator": "Exists", "value": "true"}]},
    }
    answer = lab.post(f"{KUEUE}/resourceflavors", body)
    assert answer.status == 422
    assert "a value must be empty when 'operator' is 'Exists'" in answer.message
