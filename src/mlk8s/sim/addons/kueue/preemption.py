"""Which workloads have to go so that another one fits.

The rules are those of ``pkg/scheduler/preemption`` (classical, without fair sharing) for cohorts
without parents.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import NamedTuple

from mlk8s.sim.addons.kueue.model import FlavorResource, Info, Queue
from mlk8s.sim.addons.kueue.quota import Snapshot

IN_QUEUE = "InClusterQueue"
RECLAMATION = "InCohortReclamation"
WHILE_BORROWING = "InCohortReclaimWhileBorrowing"
#: As messages explain them.
REASONS = {
    IN_QUEUE: "prioritization in the ClusterQueue",
    RECLAMATION: "reclamation within the cohort",
    WHILE_BORROWING: "reclamation within the cohort while borrowing",
}


class Target(NamedTuple):
    """A workload that has to go, and why it may be sent away."""

    info: Info
    reason: str


class _Candidate(NamedTuple):
    info: Info
    reason: str
    # Whether it may go only if the incoming workload does not borrow.
    within_nominal: bool


def targets(
    incoming: Info,
    queue: Queue,
    snapshot: Snapshot,
    contested: Collection[FlavorResource],
    usage: Mapping[FlavorResource, Fraction],
) -> list[Target]:
    """A small set of workloads whose end makes room; nothing when there is none.

    Args:
        incoming: for which room is needed.
        queue: its ClusterQueue.
        snapshot: as it was when the function returns.
        contested: of which there is too little.
        usage: all that it will use.
    """
    own = _own(incoming, queue, snapshot, contested)
    others, advantage = _others(incoming, queue, snapshot, contested, usage)
    for each in (own, others):
        each.sort(key=_order)
    candidates = [c for c in others + own if c.info.evicted]
    candidates += [c for c in others + own if not c.info.evicted]
    forbidden = (queue.preemption.get("borrowWithinCohort") or {}).get("policy", "Never") == "Never"
    under = all(snapshot.used(queue, where) < snapshot.nominal(queue, where) for where in contested)
    if not others or (forbidden and not under):
        attempts = [True]
    elif forbidden and not advantage:
        attempts = [False, True]
    else:
        attempts = [True, False]
    for borrowing in attempts:
        if found := _attempt(queue, snapshot, contested, usage, candidates, borrowing):
            return found
    return []


def _attempt(
    queue: Queue,
    snapshot: Snapshot,
    contested: Collection[FlavorResource],
    usage: Mapping[FlavorResource, Fraction],
    candidates: list[_Candidate],
    borrowing: bool,
) -> list[Target]:
    """Remove candidates until it fits, then put back those that need not have gone."""

    def fits() -> bool:
        if not borrowing and any(snapshot.borrows(queue, w, n) for w, n in usage.items()):
            return False
        return snapshot.fits(queue, usage)

    gone: list[Target] = []
    enough = False
    for candidate in candidates:
        info = candidate.info
        if info.cluster_queue != queue.name:
            if borrowing and candidate.within_nominal:
                continue
            if snapshot.within_nominal(snapshot.queues[info.cluster_queue], contested):
                continue
        snapshot.remove_workload(info)
        gone.append(Target(info, candidate.reason))
        if enough := fits():
            break
    spared: list[Target] = []
    if enough:
        for target in reversed(gone[:-1]):
            snapshot.add_workload(target.info)
            if fits():
                spared.append(target)
            else:
                snapshot.remove_workload(target.info)
    found = [target for target in gone if target not in spared]
    for target in found:
        snapshot.add_workload(target.info)
    return found if enough else []


def _own(
    incoming: Info, queue: Queue, snapshot: Snapshot, contested: Collection[FlavorResource]
) -> list[_Candidate]:
    policy = queue.preemption.get("withinClusterQueue", "Never")
    return [
        _Candidate(info, IN_QUEUE, False)
        for info in snapshot.holding[queue.name].values()
        if _uses(info, contested) and _yields(incoming, info, policy)
    ]


def _others(
    incoming: Info,
    queue: Queue,
    snapshot: Snapshot,
    contested: Collection[FlavorResource],
    usage: Mapping[FlavorResource, Fraction],
) -> tuple[list[_Candidate], bool]:
    """Those of the cohort that borrow, and whether the incoming one stays within its quota."""
    policy = queue.preemption.get("reclaimWithinCohort", "Never")
    if not queue.cohort or policy == "Never":
        return [], False
    advantage = not any(snapshot.borrows(queue, where, more) for where, more in usage.items())
    found = []
    for other in snapshot.members(queue):
        if other.name == queue.name or snapshot.within_nominal(other, contested):
            continue
        for info in snapshot.holding[other.name].values():
            if not _uses(info, contested) or not _yields(incoming, info, policy):
                continue
            if advantage:
                found.append(_Candidate(info, RECLAMATION, False))
            elif _may_borrow(incoming, info, queue):
                found.append(_Candidate(info, WHILE_BORROWING, False))
            else:
                found.append(_Candidate(info, RECLAMATION, True))
    return found, advantage


def _may_borrow(incoming: Info, info: Info, queue: Queue) -> bool:
    rule = queue.preemption.get("borrowWithinCohort") or {}
    if rule.get("policy", "Never") == "Never" or info.priority >= incoming.priority:
        return False
    most = rule.get("maxPriorityThreshold")
    return most is None or info.priority <= most


def _uses(info: Info, contested: Collection[FlavorResource]) -> bool:
    return any(where in info.usage for where in contested)


def _yields(incoming: Info, info: Info, policy: str) -> bool:
    if policy == "Any":
        return True
    if policy == "Never":
        return False
    if incoming.priority > info.priority:
        return True
    newer = (incoming.created, incoming.arrival) < (info.created, info.arrival)
    return policy == "LowerOrNewerEqualPriority" and incoming.priority == info.priority and newer


def _order(candidate: _Candidate) -> tuple[int, float, str]:
    """Lower priority first, then the one that was admitted last."""
    info = candidate.info
    return (info.priority, -info.reserved_at, info.uid)
