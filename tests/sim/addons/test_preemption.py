"""Which workloads have to go for another one, and what they say then.

The rules and texts are those of Kueue 0.19.2, ``pkg/scheduler/preemption``.
"""

from __future__ import annotations

from typing import Any

from .lab import JOBS, KUEUE, Lab

LOWER = {"withinClusterQueue": "LowerPriority"}
HIGH = {"kueue.x-k8s.io/priority-class": "high"}
LOW = {"kueue.x-k8s.io/priority-class": "low"}


def classes(lab: Lab) -> None:
    lab.priority("low", -10)
    lab.priority("high", 10)


def uid(lab: Lab, job: str) -> str:
    return str(lab.workload(job)["metadata"]["uid"])


def test_a_job_of_higher_priority_takes_the_place(lab: Lab) -> None:
    classes(lab)
    lab.queue(quota=2, preemption=LOWER)
    lab.job("low", pods=2, labels=LOW)
    lab.wait(5)
    assert len(lab.pods("low")) == 2
    lab.job("high", pods=2, labels=HIGH)
    lab.wait(60)
    assert lab.admitted("low", "high") == [False, True]
    assert lab.suspended("low")
    # Their grace period is over.
    assert lab.pods("low") == []
    high, job_uid = lab.workload("high"), lab.read_job("high")["metadata"]["uid"]
    message = (
        f"Preempted to accommodate a workload (UID: {high['metadata']['uid']}, JobUID: {job_uid}) "
        "due to prioritization in the ClusterQueue; preemptor path: /gpu; preemptee path: /gpu"
    )
    assert lab.condition("low", "Evicted") == ("True", "Preempted", message)
    assert lab.condition("low", "Preempted") == ("True", "InClusterQueue", message)
    assert lab.condition("low", "Requeued") == ("True", "Preempted", message)
    assert lab.condition("low", "Admitted") == (
        "False",
        "NoReservation",
        "The workload has no reservation",
    )
    ranks = (
        "preemptor effective priority: 10 (base: 10, boost: 0); preemptee effective priority: -10 "
        "(base: -10, boost: 0)"
    )
    low_events = {(reason, text) for _, reason, text in lab.workload_events("low")}
    assert {
        ("EvictedDueToPreempted", message),
        ("Preempted", f"{message}; {ranks}"),
    } <= low_events
    low = lab.workload("low")["metadata"]
    high_events = [(reason, text) for _, reason, text in lab.workload_events("high")]
    assert (
        "PreemptedWorkload",
        f"Preempted workload default/{low['name']} (UID: {low['uid']}) in ClusterQueue gpu; "
        f"{ranks}",
    ) in high_events
    assert (
        "Pending",
        "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in "
        "flavor any, 2 more needed. Pending the preemption of 1 workload(s)",
    ) in high_events
    assert ("Stopped", message) in [(reason, text) for _, reason, text in lab.events("low")]
    assert lab.workload("low")["status"]["schedulingStats"]["evictions"] == [
        {"reason": "Preempted", "underlyingCause": "", "count": 1}
    ]


def test_quota_is_free_at_once_and_the_devices_when_the_pods_have_ended(lab: Lab) -> None:
    classes(lab)
    lab.queue(quota=8, preemption=LOWER)
    stubborn = "trap '' TERM; while :; do sleep 0.1; done"
    lab.job("low", gpus=8, labels=LOW, image="busybox:1.37", command=["sh", "-c", stubborn])
    lab.wait(5)
    lab.until(lambda: lab.read_job("low").get("status", {}).get("ready") == 1)
    lab.job("high", gpus=8, labels=HIGH)
    lab.wait(1)
    assert lab.admitted("low", "high") == [False, True]
    assert [pod["status"]["phase"] for pod in lab.pods("low")] == ["Running"]
    assert [pod["status"]["phase"] for pod in lab.pods("high")] == ["Pending"]
    # A pod's grace period is thirty seconds.
    lab.wait(40)
    lab.until(lambda: lab.pods("high")[0]["status"]["phase"] == "Running")
    assert lab.pods("low") == []


def test_who_was_sent_away_comes_back(lab: Lab) -> None:
    classes(lab)
    lab.queue(quota=1, preemption=LOWER)
    lab.job("low", labels=LOW)
    lab.wait(5)
    lab.job("high", labels=HIGH)
    lab.wait(60)
    lab.client("DELETE", f"{JOBS}/high?propagationPolicy=Background")
    lab.wait(60)
    assert lab.admitted("low") == [True]
    status, reason, message = lab.condition("low", "Evicted") or ("", "", "")
    assert (status, reason) == ("False", "QuotaReserved")
    assert message.startswith("Previously: Preempted to accommodate a workload (UID: ")
    assert len(lab.pods("low")) == 1


def test_by_default_nobody_is_sent_away(lab: Lab) -> None:
    classes(lab)
    lab.queue(quota=1)
    lab.job("low", labels=LOW)
    lab.wait()
    lab.job("high", labels=HIGH)
    lab.wait(60)
    assert lab.admitted("low", "high") == [True, False]
    assert lab.condition("low", "Evicted") is None


def test_no_more_go_than_have_to(lab: Lab) -> None:
    classes(lab)
    lab.queue(quota=4, preemption=LOWER)
    for name, gpus in (("one", 1), ("two", 2), ("third", 1)):
        lab.job(name, gpus=gpus, labels=LOW)
        lab.wait(2)
    lab.job("high", gpus=1, labels=HIGH)
    lab.wait(60)
    # The one that was admitted last.
    assert lab.admitted("one", "two", "third", "high") == [True, True, False, True]


def test_equal_priority_yields_only_to_an_older_job(lab: Lab) -> None:
    lab.queue(quota=4, preemption={"withinClusterQueue": "LowerOrNewerEqualPriority"})
    lab.job("first", pods=3)
    lab.wait(2)
    lab.job("older", pods=4)
    lab.wait(2)
    lab.job("newer")
    lab.wait(2)
    assert lab.admitted("first", "older", "newer") == [True, False, True]
    lab.client("DELETE", f"{JOBS}/first?propagationPolicy=Background")
    lab.wait(60)
    assert lab.admitted("older", "newer") == [True, False]
    lab.job("last", pods=4)
    lab.wait(60)
    assert lab.admitted("older", "last") == [True, False]


def reclaiming(lab: Lab, policy: str, **rules: Any) -> None:
    """A queue that wants its quota back, and one that has borrowed it."""
    preemption = {"reclaimWithinCohort": policy, **rules}
    lab.queue("owner", 4, local="owner", cohortName="lab", preemption=preemption)
    lab.queue("guest", 4, local="guest", cohortName="lab")
    lab.job("own", pods=4, queue="guest")
    lab.wait(2)
    lab.job("borrowed", pods=4, queue="guest")
    lab.wait(2)
    assert lab.admitted("own", "borrowed") == [True, True]


def test_a_queue_reclaims_what_it_has_lent(lab: Lab) -> None:
    reclaiming(lab, "Any")
    lab.job("mine", pods=4, queue="owner")
    lab.wait(60)
    assert lab.admitted("own", "borrowed", "mine") == [True, False, True]
    status, reason, message = lab.condition("borrowed", "Preempted") or ("", "", "")
    assert (status, reason) == ("True", "InCohortReclamation")
    assert message.endswith(
        "due to reclamation within the cohort; preemptor path: /lab/owner; preemptee path: "
        "/lab/guest"
    )


def test_it_reclaims_from_lower_priorities_alone(lab: Lab) -> None:
    classes(lab)
    reclaiming(lab, "LowerPriority")
    lab.job("equal", pods=4, queue="owner")
    lab.wait(60)
    assert lab.admitted("borrowed", "equal") == [True, False]
    lab.job("higher", pods=4, queue="owner", labels=HIGH)
    lab.wait(60)
    assert lab.admitted("borrowed", "equal", "higher") == [False, False, True]


def test_without_reclaiming_the_owner_waits(lab: Lab) -> None:
    reclaiming(lab, "Never")
    lab.job("mine", pods=4, queue="owner")
    lab.wait(60)
    assert lab.admitted("own", "borrowed", "mine") == [True, True, False]


def test_who_borrows_within_its_quota_is_not_reclaimed(lab: Lab) -> None:
    reclaiming(lab, "Any")
    lab.job("more", pods=5, queue="owner")
    lab.wait(60)
    # Five are more than the owner's four, and the guest keeps its own four.
    assert lab.admitted("own", "borrowed", "more") == [True, True, False]


def test_a_queue_may_reclaim_while_it_borrows(lab: Lab) -> None:
    classes(lab)
    borrow = {"policy": "LowerPriority", "maxPriorityThreshold": 0}
    preemption = {"reclaimWithinCohort": "LowerPriority", "borrowWithinCohort": borrow}
    lab.queue("owner", 2, local="owner", cohortName="lab", preemption=preemption)
    lab.queue("guest", 2, local="guest", cohortName="lab")
    lab.queue("idle", 2, local="idle", cohortName="lab")
    lab.job("borrowed", pods=6, queue="guest", labels=LOW)
    lab.wait(2)
    lab.job("mine", pods=3, queue="owner", labels=HIGH)
    lab.wait(60)
    assert lab.admitted("borrowed", "mine") == [False, True]
    _, reason, message = lab.condition("borrowed", "Preempted") or ("", "", "")
    assert reason == "InCohortReclaimWhileBorrowing"
    assert "due to reclamation within the cohort while borrowing;" in message


def test_a_deleted_workload_stops_its_job_and_is_made_again(lab: Lab) -> None:
    lab.queue(quota=1)
    lab.job("a")
    lab.wait()
    before = lab.workload("a")["metadata"]
    path = f"{KUEUE}/namespaces/default/workloads/{before['name']}"
    assert lab.client("DELETE", path).status == 200
    lab.wait(60)
    assert uid(lab, "a") != before["uid"]
    assert lab.admitted("a") == [True]
    assert ("Normal", "Stopped", "Workload is deleted") in lab.events("a")


def test_who_need_not_have_gone_is_spared(lab: Lab) -> None:
    classes(lab)
    lab.queue(quota=4, preemption=LOWER)
    for name, gpus in (("large", 3), ("small", 1)):
        lab.job(name, gpus=gpus, labels=LOW)
        lab.wait(2)
    lab.job("high", gpus=3, labels=HIGH)
    lab.wait(60)
    # The small one comes first as the newest; without the large one it does not help.
    assert lab.admitted("large", "small", "high") == [False, True, True]
    assert lab.condition("small", "Evicted") is None


def test_several_go_for_one(lab: Lab) -> None:
    classes(lab)
    lab.queue(quota=4, preemption=LOWER)
    for name in ("a", "b", "c", "d"):
        lab.job(name, labels=LOW)
        lab.wait(2)
    lab.job("high", gpus=3, labels=HIGH)
    lab.wait(60)
    assert lab.admitted("a", "b", "c", "d", "high") == [True, False, False, False, True]
    pending = [text for _, reason, text in lab.workload_events("high") if reason == "Pending"]
    assert any(text.endswith(". Pending the preemption of 3 workload(s)") for text in pending)


def test_no_queue_is_pushed_below_its_quota(lab: Lab) -> None:
    preemption = {"reclaimWithinCohort": "Any"}
    lab.queue("owner", 2, local="owner", cohortName="lab", preemption=preemption)
    for name in ("one", "two"):
        lab.queue(name, 2, local=name, cohortName="lab")
        lab.job(f"{name}-own", pods=2, queue=name)
        lab.wait(2)
        lab.job(f"{name}-more", queue=name)
        lab.wait(2)
    lab.job("mine", pods=2, queue="owner")
    lab.wait(60)
    names = ("one-own", "one-more", "two-own", "two-more", "mine")
    assert lab.admitted(*names) == [True, False, True, False, True]


def test_reclaiming_and_its_own_jobs_together(lab: Lab) -> None:
    classes(lab)
    preemption = {"reclaimWithinCohort": "Any", **LOWER}
    lab.queue("owner", 4, local="owner", cohortName="lab", preemption=preemption)
    lab.queue("guest", 4, local="guest", cohortName="lab")
    lab.job("low", pods=2, queue="owner", labels=LOW)
    lab.job("own", pods=4, queue="guest")
    lab.wait(2)
    lab.job("borrowed", pods=2, queue="guest")
    lab.wait(2)
    lab.job("high", pods=3, queue="owner", labels=HIGH)
    lab.wait(60)
    assert lab.admitted("low", "own", "borrowed", "high") == [False, True, False, True]
    reasons = [(lab.condition(name, "Preempted") or ("", ""))[1] for name in ("low", "borrowed")]
    assert reasons == ["InClusterQueue", "InCohortReclamation"]


def test_nothing_is_reclaimed_for_a_job_that_would_borrow(lab: Lab) -> None:
    classes(lab)
    reclaiming(lab, "Any", **LOWER)
    lab.client("DELETE", f"{JOBS}/borrowed?propagationPolicy=Background")
    lab.wait()
    lab.job("mine", pods=2, queue="owner", labels=HIGH)
    lab.job("borrowed", pods=2, queue="guest")
    lab.wait(2)
    lab.job("more", pods=3, queue="owner", labels=HIGH)
    lab.wait(60)
    assert lab.admitted("mine", "own", "borrowed", "more") == [True, True, True, False]


def test_a_threshold_protects_higher_priorities_from_who_borrows(lab: Lab) -> None:
    classes(lab)
    borrow = {"policy": "LowerPriority", "maxPriorityThreshold": -20}
    preemption = {"reclaimWithinCohort": "LowerPriority", "borrowWithinCohort": borrow}
    lab.queue("owner", 2, local="owner", cohortName="lab", preemption=preemption)
    lab.queue("guest", 2, local="guest", cohortName="lab")
    lab.queue("idle", 2, local="idle", cohortName="lab")
    lab.job("borrowed", pods=6, queue="guest", labels=LOW)
    lab.wait(2)
    lab.job("mine", pods=3, queue="owner", labels=HIGH)
    lab.wait(60)
    assert lab.admitted("borrowed", "mine") == [True, False]


def test_two_that_want_the_same_place(lab: Lab) -> None:
    preemption = {"reclaimWithinCohort": "Any"}
    selector = {"matchLabels": {"team": "ml"}}
    lab.queue("guest", 0, local="guest", cohortName="lab")
    for name in ("one", "two"):
        lab.queue(
            name, 2, local=name, cohortName="lab", preemption=preemption, namespaceSelector=selector
        )
    lab.job("borrowed", pods=4, queue="guest")
    lab.wait(2)
    for name in ("one", "two"):
        lab.job(name, pods=2, queue=name)
    lab.wait(2)
    # Both are looked at in one cycle when their namespace is let in.
    lab.patch("/api/v1/namespaces/default", {"metadata": {"labels": {"team": "ml"}}})
    lab.wait(60)
    lab.patch("/api/v1/namespaces/default", {"metadata": {"labels": {"team": None}}})
    assert lab.admitted("borrowed", "one", "two") == [False, True, True]
    overlap = "Workload has overlapping preemption targets with another workload"
    assert ("Warning", "Pending", overlap) in lab.workload_events("two")
    assert lab.workload("borrowed")["status"]["schedulingStats"]["evictions"][0]["count"] == 1


def test_evictions_are_counted(lab: Lab) -> None:
    classes(lab)
    lab.queue(quota=1, preemption=LOWER)
    lab.job("low", labels=LOW)
    lab.wait(2)
    for name in ("first", "second"):
        lab.job(name, labels=HIGH)
        lab.wait(60)
        lab.client("DELETE", f"{JOBS}/{name}?propagationPolicy=Background")
        lab.wait(60)
    assert lab.workload("low")["status"]["schedulingStats"]["evictions"] == [
        {"reason": "Preempted", "underlyingCause": "", "count": 2}
    ]
