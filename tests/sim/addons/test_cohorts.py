"""ClusterQueues of a cohort lend each other what they do not use.

The rules are those of Kueue 0.19.2, ``pkg/cache/scheduler/resource_node.go``.
"""

from __future__ import annotations

from typing import Any

import pytest

from .lab import GPU, JOBS, KUEUE, Lab


def two(lab: Lab, a: object = 4, b: object = 4) -> None:
    """Queues ``a`` and ``b`` of a cohort, behind LocalQueues of the same names."""
    lab.queue("a", a, local="a", cohortName="lab")
    lab.queue("b", b, local="b", cohortName="lab")


def used(lab: Lab, queue: str) -> tuple[str, str]:
    """Total and borrowed GPUs of a ClusterQueue with one flavor."""
    status = lab.get(f"{KUEUE}/clusterqueues/{queue}")["status"]
    [row] = status["flavorsReservation"][0]["resources"]
    return row["total"], row["borrowed"]


def test_a_queue_borrows_what_others_leave(lab: Lab) -> None:
    two(lab)
    lab.job("big", pods=6, queue="a")
    lab.job("rest", pods=2, queue="b")
    lab.job("more", queue="b")
    lab.wait()
    assert lab.admitted("big", "rest", "more") == [True, True, False]
    assert (used(lab, "a"), used(lab, "b")) == (("6", "2"), ("2", "0"))
    [event] = [m for _, r, m in lab.workload_events("big") if r == "QuotaReserved"]
    assert event.endswith("; Flavors considered: main: any(Fit;borrow=1)")


def test_without_a_cohort_nothing_is_borrowed(lab: Lab) -> None:
    lab.queue("a", 4, local="a")
    lab.queue("b", 4, local="b")
    lab.job("big", pods=6, queue="a")
    lab.wait()
    assert lab.admitted("big") == [False]


def test_a_queue_borrows_up_to_its_limit(lab: Lab) -> None:
    two(lab, a={"nominalQuota": 4, "borrowingLimit": 1})
    lab.job("six", pods=6, queue="a")
    lab.job("five", pods=5, queue="a")
    lab.wait()
    assert lab.admitted("six", "five") == [False, True]
    _, _, message = lab.condition("six", "QuotaReserved") or ("", "", "")
    assert message.endswith("current podset request (6) > maximum capacity (5)")
    # Three of the cohort are free.
    lab.job("one", queue="a")
    lab.wait()
    _, _, message = lab.condition("one", "QuotaReserved") or ("", "", "")
    assert message.endswith("in flavor any, 1 more needed")


def test_a_queue_lends_up_to_its_limit(lab: Lab) -> None:
    two(lab, b={"nominalQuota": 4, "lendingLimit": 1})
    lab.job("six", pods=6, queue="a")
    lab.job("five", pods=5, queue="a")
    lab.wait()
    assert lab.admitted("six", "five") == [False, True]
    lab.job("own", pods=3, queue="b")
    lab.wait()
    assert lab.admitted("own") == [True]


def test_who_stays_within_its_quota_goes_first(lab: Lab) -> None:
    two(lab)
    lab.job("fill", pods=8, queue="a")
    lab.wait()
    lab.priority("high", 10)
    lab.job("borrows", pods=5, queue="a", labels={"kueue.x-k8s.io/priority-class": "high"})
    lab.job("owns", pods=4, queue="b")
    lab.wait()
    lab.client("DELETE", f"{JOBS}/fill?propagationPolicy=Background")
    lab.wait()
    assert lab.admitted("borrows", "owns") == [False, True]


def test_what_is_given_back_serves_the_whole_cohort(lab: Lab) -> None:
    two(lab)
    lab.job("fill", pods=8, queue="a")
    lab.wait()
    lab.job("waits", pods=2, queue="b")
    lab.wait()
    assert lab.admitted("fill", "waits") == [True, False]
    lab.client("DELETE", f"{JOBS}/fill?propagationPolicy=Background")
    lab.wait()
    assert lab.admitted("waits") == [True]


def test_a_queue_that_joins_brings_its_quota(lab: Lab) -> None:
    lab.queue("a", 4, local="a", cohortName="lab")
    lab.queue("b", 4, local="b")
    lab.job("big", pods=6, queue="a")
    lab.wait()
    assert lab.admitted("big") == [False]
    answer = lab.patch(f"{KUEUE}/clusterqueues/b", {"spec": {"cohortName": "lab"}})
    assert answer.status == 200, answer.message
    lab.wait()
    assert lab.admitted("big") == [True]
    assert lab.read_job("big")["spec"]["template"]["spec"]["containers"][0]["resources"] == {
        "limits": {GPU: "1"}
    }


def held_back(lab: Lab, limits: dict[str, int], owned: int, wanted: int, **spec: Any) -> bool:
    """Whether a job that waits at the head of ``owner`` keeps two free GPUs from ``guest``.

    Args:
        lab: the cluster.
        limits: of ``owner``; there are four GPUs in all.
        owned: GPUs that ``owner`` uses.
        wanted: GPUs that the job waits for.
        spec: the rest of ``owner``.
    """
    lab.priority("high", 10)
    high = {"kueue.x-k8s.io/priority-class": "high"}
    lab.queue("owner", limits, local="owner", cohortName="lab", **spec)
    lab.queue("guest", 4 - limits["nominalQuota"], local="guest", cohortName="lab")
    if owned:
        lab.job("owned", pods=owned, queue="owner", labels=high)
    if owned < 2:
        lab.job("lent", pods=2 - owned, queue="guest", labels=high)
    lab.wait(2)
    lab.job("waits", pods=wanted, queue="owner")
    lab.wait(2)
    assert lab.admitted("waits") == [False]
    lab.job("next", pods=2, queue="guest")
    lab.wait(2)
    if lab.admitted("next") == [True]:
        return False
    assert lab.condition("next", "QuotaReserved") == (
        "False",
        "Pending",
        "Workload no longer fits after processing another workload",
    )
    lab.client("DELETE", f"{JOBS}/waits?propagationPolicy=Background")
    lab.wait(2)
    assert lab.admitted("next") == [True]
    return True


@pytest.mark.parametrize(
    ("strategy", "policy", "held"),
    [
        ("StrictFIFO", "LowerPriority", True),
        # It will have its quota when it needs it.
        ("StrictFIFO", "Any", False),
        # It is aside in the next cycle.
        ("BestEffortFIFO", "LowerPriority", False),
    ],
)
def test_who_cannot_reclaim_holds_its_own_quota_back(
    lab: Lab, strategy: str, policy: str, held: bool
) -> None:
    preemption = {"reclaimWithinCohort": policy}
    limits = {"nominalQuota": 4}
    assert held_back(lab, limits, 2, 3, queueingStrategy=strategy, preemption=preemption) is held


@pytest.mark.parametrize("limits", [{}, {"borrowingLimit": 1}], ids=["no limit", "a limit"])
def test_who_would_borrow_holds_as_much_back_as_it_may(lab: Lab, limits: dict[str, int]) -> None:
    preemption = {
        "reclaimWithinCohort": "LowerPriority",
        "borrowWithinCohort": {"policy": "LowerPriority"},
    }
    limits = {"nominalQuota": 2, **limits}
    assert held_back(lab, limits, 0, 3, queueingStrategy="StrictFIFO", preemption=preemption)
