"""Which flavor each resource of a workload gets, or why it gets none.

The rules and messages are those of ``pkg/scheduler/flavorassigner``.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from mlk8s.sim.addons.kueue import preemption
from mlk8s.sim.addons.kueue.assignment import Assigned, Assignment, Attempt, Mode, PodSetAssignment
from mlk8s.sim.addons.kueue.model import Amounts, Group, Info, Queue, shown
from mlk8s.sim.addons.kueue.quota import Snapshot
from mlk8s.sim.matching import NodeSelection, tolerates
from mlk8s.sim.status import Object


class Assigner:
    """Chooses flavors for one workload.

    Args:
        info: the workload.
        queue: its ClusterQueue.
        snapshot: quotas and usage.
        flavors: the specs of the ResourceFlavors; a queue that misses one is not looked at.
    """

    def __init__(
        self, info: Info, queue: Queue, snapshot: Snapshot, flavors: Mapping[str, Object]
    ) -> None:
        self.info = info
        self.queue = queue
        self.snapshot = snapshot
        self.flavors = flavors

    def assign(self) -> Assignment:
        """Flavors for all pod sets, up to the first that gets none."""
        assignment = Assignment()
        for pod_set in self.info.pod_sets:
            requests = dict(pod_set.requests)
            if self.queue.group("pods") is not None:
                requests["pods"] = Fraction(pod_set.count)
            found = PodSetAssignment(pod_set, requests)
            assignment.pod_sets.append(found)
            complete = self._pod_set(found, assignment.usage)
            for resource, assigned in found.flavors.items():
                where = (assigned.flavor, resource)
                before = assignment.usage.get(where, Fraction(0))
                assignment.usage[where] = before + requests[resource]
            if not complete:
                break
        return assignment

    def _pod_set(self, found: PodSetAssignment, usage: Amounts) -> bool:
        """Fill in one pod set; gives whether every resource has got a flavor."""
        for resource in sorted(found.requests):
            if resource in found.flavors:
                # The other resources of its group came with the same flavor.
                continue
            group = self.queue.group(resource)
            if group is None:
                if found.requests[resource] == 0:
                    continue
                found.flavors.clear()
                found.reasons = [f"resource {resource} unavailable in ClusterQueue"]
                return False
            chosen, reasons = self._choose(found, group, usage)
            if not chosen:
                found.flavors.clear()
                found.reasons = reasons
                return False
            found.flavors |= chosen
            found.reasons += reasons
        return True

    def _choose(
        self, found: PodSetAssignment, group: Group, usage: Amounts
    ) -> tuple[dict[str, Assigned], list[str]]:
        """The best flavor of a group for the resources that it covers."""
        best: dict[str, Assigned] = {}
        best_attempt = Attempt(Mode.NO_FIT)
        reasons: list[str] = []
        wanted = [name for name in sorted(found.requests) if name in group.resources]
        for flavor in group.flavors:
            unfit = self._unfit(flavor, group, found.pod_set.spec)
            if unfit:
                reasons.append(unfit)
                found.attempts[flavor] = Attempt(Mode.NO_FIT, 0, [unfit])
                continue
            attempt = Attempt(Mode.FIT)
            assigned: dict[str, Assigned] = {}
            most = 0
            for resource in wanted:
                taken = usage.get((flavor, resource), Fraction(0))
                mode, borrow, reason = self._fits(flavor, resource, taken, found.requests[resource])
                attempt.reasons += [reason] if reason else []
                most = max(most, borrow)
                if self._prefers(attempt, Attempt(mode, borrow)):
                    attempt.mode, attempt.borrow = mode, borrow
                if attempt.mode is Mode.NO_FIT:
                    continue
                assigned[resource] = Assigned(flavor, mode, borrow)
            reasons += attempt.reasons
            found.attempts[flavor] = Attempt(attempt.mode, most, attempt.reasons)
            if not self._tries_next(attempt):
                best, best_attempt = assigned, attempt
                break
            if self._prefers(attempt, best_attempt):
                best, best_attempt = assigned, attempt
        return best, [] if best_attempt.mode is Mode.FIT else reasons

    def _unfit(self, name: str, group: Group, spec: Object) -> str:
        """Why pods may not use a flavor, whatever its quota."""
        flavor = self.flavors[name]
        tolerations = [*(spec.get("tolerations") or ()), *(flavor.get("tolerations") or ())]
        for taint in flavor.get("nodeTaints") or ():
            if taint["effect"] == "PreferNoSchedule" or tolerates(tolerations, taint):
                continue
            return f"untolerated taint {_taint(taint)} in flavor {name}"
        labels = flavor.get("nodeLabels") or {}
        if not NodeSelection(_about(spec, labels)).matches(labels, ""):
            return f"flavor {name} doesn't match node affinity"
        return ""

    def _fits(
        self, flavor: str, resource: str, taken: Fraction, request: Fraction
    ) -> tuple[Mode, int, str]:
        """Whether a flavor has enough of a resource, what it takes, and what is missing."""
        queue, snapshot = self.queue, self.snapshot
        where = (flavor, resource)
        wanted = taken + request
        capacity = snapshot.capacity(queue, where)
        if wanted > capacity:
            reason = (
                f"insufficient quota for {resource} in flavor {flavor}, previously considered "
                f"podsets requests ({shown(resource, taken)}) + current podset request "
                f"({shown(resource, request)}) > maximum capacity ({shown(resource, capacity)})"
            )
            return Mode.NO_FIT, 0, reason
        available = snapshot.available(queue, where)
        borrow = snapshot.borrowing(queue, where, wanted)
        if wanted <= available:
            return Mode.FIT, borrow, ""
        reason = (
            f"insufficient unused quota for {resource} in flavor {flavor}, "
            f"{shown(resource, wanted - available)} more needed"
        )
        policy = (queue.preemption.get("borrowWithinCohort") or {}).get("policy", "Never")
        own = snapshot.nominal(queue, where) >= wanted
        if not own and policy == "Never":
            return Mode.NO_FIT, borrow, reason
        gone = preemption.targets(self.info, queue, snapshot, {where}, {where: wanted})
        if not gone:
            return Mode.NO_CANDIDATES, borrow, reason
        with snapshot.without(target.info for target in gone):
            borrow = snapshot.borrowing(queue, where, wanted)
        inside = any(target.info.cluster_queue == queue.name for target in gone)
        return Mode.PREEMPT if inside else Mode.RECLAIM, borrow, reason

    def _tries_next(self, attempt: Attempt) -> bool:
        """Whether the next flavor is looked at although this one was not refused."""
        fungible = self.queue.fungibility
        if attempt.mode in (Mode.NO_FIT, Mode.NO_CANDIDATES):
            return True
        preempts = attempt.mode in (Mode.PREEMPT, Mode.RECLAIM)
        if preempts and fungible.get("whenCanPreempt", "TryNextFlavor") == "TryNextFlavor":
            return True
        return bool(attempt.borrow) and fungible.get("whenCanBorrow") == "TryNextFlavor"

    def _prefers(self, one: Attempt, other: Attempt) -> bool:
        """Whether one way is better than another."""
        if one.mode is Mode.NO_FIT:
            return False
        if other.mode is Mode.NO_FIT:
            return True
        hopeless = (one.mode is Mode.NO_CANDIDATES, other.mode is Mode.NO_CANDIDATES)
        if hopeless[0] != hopeless[1]:
            return hopeless[1]
        by_mode, by_borrow = (one.mode, other.mode), (other.borrow, one.borrow)
        order = [by_mode, by_borrow]
        if self.queue.fungibility.get("preference") == "PreemptionOverBorrowing":
            order.reverse()
        return [pair[0] for pair in order] > [pair[1] for pair in order]


def _taint(taint: Object) -> str:
    # As Go prints a pointer to corev1.Taint: {key value effect timeAdded}.
    return f"{{{taint['key']} {taint.get('value', '')} {taint['effect']} <nil>}}"


def _about(spec: Object, labels: Mapping[str, str]) -> Object:
    """What pods require of their node, as far as a flavor speaks of it."""
    selector = {k: v for k, v in (spec.get("nodeSelector") or {}).items() if k in labels}
    found: Object = {"nodeSelector": selector}
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = []
    for term in required.get("nodeSelectorTerms") or ():
        expressions = [e for e in term.get("matchExpressions") or () if e["key"] in labels]
        if not expressions:
            # A term that says nothing of the flavor's labels is met by it.
            return found
        terms.append({"matchExpressions": expressions})
    if terms:
        key = "requiredDuringSchedulingIgnoredDuringExecution"
        found["affinity"] = {"nodeAffinity": {key: {"nodeSelectorTerms": terms}}}
    return found
