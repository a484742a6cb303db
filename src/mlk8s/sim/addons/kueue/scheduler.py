"""Kueue's scheduler: the first workload of every ClusterQueue gets all that it asks for, or waits.

One look is one cycle of ``pkg/scheduler/scheduler.go``: choose flavors for the heads, admit those
that fit, send others away for those that may, and put the rest aside with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from mlk8s.sim.addons.kueue import conditions, names, preemption
from mlk8s.sim.addons.kueue.assignment import Assignment, Mode
from mlk8s.sim.addons.kueue.flavors import Assigner
from mlk8s.sim.addons.kueue.model import Amounts, Info, Key, Queue, shown
from mlk8s.sim.addons.kueue.preemption import Target
from mlk8s.sim.addons.kueue.quota import Snapshot
from mlk8s.sim.addons.kueue.state import State
from mlk8s.sim.api import Api
from mlk8s.sim.clock import seconds
from mlk8s.sim.controllers.base import find_condition
from mlk8s.sim.events import Recorder
from mlk8s.sim.runtime import Component
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change

_MISMATCH = "workload namespace doesn't match ClusterQueue selector"


@dataclass
class _Entry:
    """A workload that is being looked at."""

    queue: Queue
    info: Info
    assignment: Assignment = field(default_factory=Assignment)
    targets: list[Target] = field(default_factory=list)
    message: str = ""


class Scheduler(Component):
    """Admits workloads.

    Args:
        api: the cluster.
        recorder: where its events go.
        state: the queues.
    """

    def __init__(self, api: Api, recorder: Recorder, state: State) -> None:
        super().__init__(api)
        self.recorder = recorder
        self.state = state
        state.wake = lambda: self.enqueue("cycle")

    def keys(self, change: Change) -> Iterable[Hashable]:
        """Nothing: the state tells when there is something to do."""
        return ()

    def reconcile(self, key: Hashable) -> None:
        """One cycle."""
        heads = self.state.heads()
        if not heads:
            return
        snapshot = self.state.snapshot()
        entries = [each for each in (self._nominate(*head, snapshot) for head in heads) if each]
        entries.sort(key=lambda each: (each.assignment.borrow, each.info.order))
        leaving: dict[Key, Info] = {}
        moved = [self._process(entry, snapshot, leaving) for entry in entries]
        if any(moved) or len(entries) < len(heads):
            self.enqueue("cycle")
        else:
            # Another look would find the same, so none is taken until something happens.
            for entry in entries:
                self.state.keep(entry.queue, entry.info, sticky=False)

    def _nominate(self, queue: Queue, info: Info, snapshot: Snapshot) -> _Entry | None:
        """Choose flavors; nothing comes of a workload whose namespace is not let in."""
        namespace = self.api.find("namespaces", "", info.key[0]) or {"metadata": {}}
        if not queue.selector.matches(namespace["metadata"].get("labels") or {}):
            self.state.park(queue, info, whole_shape=False)
            self._pend(info, _MISMATCH)
            return None
        entry = _Entry(queue, info)
        entry.assignment = Assigner(info, queue, snapshot, self.state.flavors).assign()
        entry.message = entry.assignment.message
        if Mode.NO_FIT < entry.assignment.mode < Mode.FIT:
            entry.targets = preemption.targets(
                info, queue, snapshot, entry.assignment.contested, entry.assignment.usage
            )
        return entry

    def _process(self, entry: _Entry, snapshot: Snapshot, leaving: dict[Key, Info]) -> bool:
        """Do what can be done; gives whether anything has moved."""
        queue, info, assignment = entry.queue, entry.info, entry.assignment
        if assignment.mode is Mode.NO_FIT:
            return self._refuse(entry)
        if assignment.mode is not Mode.FIT and not entry.targets:
            if queue.preemption.get("reclaimWithinCohort", "Never") != "Any":
                # Others of the cohort must not take what it waits for.
                snapshot.add(queue, self._reserved(entry, snapshot))
            return self._refuse(entry)
        if any(target.info.key in leaving for target in entry.targets):
            # It stays in its queue, and is looked at again in the next cycle.
            self._pend(info, "Workload has overlapping preemption targets with another workload")
            return False
        going = {**leaving, **{target.info.key: target.info for target in entry.targets}}
        with snapshot.without(going.values()):
            fits = snapshot.fits(queue, assignment.usage)
        if not fits:
            self._pend(info, "Workload no longer fits after processing another workload")
            return False
        leaving |= going
        snapshot.add(queue, assignment.usage)
        if entry.targets:
            return self._preempt(entry)
        self._admit(entry)
        return True

    # -- outcomes --------------------------------------------------------------------------------

    def _admit(self, entry: _Entry) -> None:
        info, queue = entry.info, entry.queue.name
        workload = self.api.get(names.WORKLOADS, *info.key)
        requeued = find_condition(workload.get("status") or {}, conditions.REQUEUED)
        since = requeued["lastTransitionTime"] if requeued else info.created
        waited = self.api.clock.now() - seconds(since)
        admission = entry.assignment.as_status(queue)
        self._change(info, lambda found: conditions.reserve(found, admission, self.api))
        message = (
            f"Quota reserved in ClusterQueue {queue}, wait time since queued was {waited:.0f}s"
        )
        if considered := entry.assignment.considered:
            message += f"; Flavors considered: {considered}"
        self._event(workload, "Normal", "QuotaReserved", message)
        message = f"Admitted by ClusterQueue {queue}, wait time since reservation was 0s"
        self._event(workload, "Normal", "Admitted", message)

    def _preempt(self, entry: _Entry) -> bool:
        info = entry.info
        # At the head until those that it sends away have gone.
        self.state.keep(entry.queue, info, sticky=not entry.queue.strict)
        new = [target for target in entry.targets if not target.info.evicted]
        for target in new:
            self._send_away(entry, target)
        message = f"{entry.message}. Pending the preemption of {len(entry.targets)} workload(s)"
        self._pend(info, message)
        return bool(new)

    def _send_away(self, entry: _Entry, target: Target) -> None:
        queue = self.state.queues[target.info.cluster_queue]
        message = (
            f"Preempted to accommodate a workload (UID: {entry.info.uid}, JobUID: "
            f"{entry.info.job_uid or 'UNKNOWN'}) due to {preemption.REASONS[target.reason]}; "
            f"preemptor path: {entry.queue.path}; preemptee path: {queue.path}"
        )

        def mark(found: Object) -> None:
            conditions.put(found, conditions.PREEMPTED, True, target.reason, message, self.api)
            conditions.evict(found, conditions.PREEMPTED, message, self.api)

        victim = self._change(target.info, mark)
        ranks = (
            f"; preemptor effective priority: {_rank(entry.info)}; preemptee effective priority: "
            f"{_rank(target.info)}"
        )
        self._event(victim, "Normal", "EvictedDueToPreempted", message)
        self._event(victim, "Normal", "Preempted", message + ranks)
        incoming = self.api.get(names.WORKLOADS, *entry.info.key)
        message = (
            f"Preempted workload {'/'.join(target.info.key)} (UID: {target.info.uid}) in "
            f"ClusterQueue {queue.name}{ranks}"
        )
        self._event(incoming, "Normal", "PreemptedWorkload", message)

    def _refuse(self, entry: _Entry) -> bool:
        """It does not fit now: aside, or at the head of a queue that is strictly in order."""
        if entry.queue.strict:
            self.state.keep(entry.queue, entry.info, sticky=False)
        else:
            self.state.park(entry.queue, entry.info, whole_shape=True)
        self._pend(entry.info, entry.message)
        return not entry.queue.strict

    def _pend(self, info: Info, message: str) -> None:
        requests = [
            {
                "name": each.name,
                "resources": {n: shown(n, number) for n, number in sorted(each.requests.items())},
            }
            for each in info.pod_sets
        ]

        def mark(found: Object) -> None:
            conditions.release(found, "Pending", message, self.api)
            found["status"]["resourceRequests"] = requests

        self._event(self._change(info, mark), "Warning", "Pending", message)

    # -- helpers ---------------------------------------------------------------------------------

    def _reserved(self, entry: _Entry, snapshot: Snapshot) -> Amounts:
        """What of a waiting workload's requests is kept from the others of the cohort."""
        queue, found = entry.queue, {}
        for where, number in entry.assignment.usage.items():
            quota, used = queue.quotas[where], snapshot.used(queue, where)
            if not entry.assignment.borrow:
                found[where] = max(Fraction(0), min(number, quota.nominal - used))
            elif quota.borrowing is None:
                found[where] = number
            else:
                found[where] = min(number, quota.nominal + quota.borrowing - used)
        return found

    def _change(self, info: Info, mutate: Callable[[Object], None]) -> Object:
        changed = self.api.change(names.WORKLOADS, *info.key, mutate, subresource="status")
        # The state has heard of every deletion.
        assert changed is not None
        return changed

    def _event(self, about: Object, type: str, reason: str, message: str) -> None:
        self.recorder.event(
            about, type, reason, message, names.ADMISSION, action=reason, series=True
        )


def _rank(info: Info) -> str:
    return f"{info.priority} (base: {info.priority}, boost: 0)"
