"""Who may use how much: quotas of ClusterQueues, and what they lend each other in a cohort.

The rules are those of ``pkg/cache/scheduler/resource_node.go`` for cohorts without parents. One
:class:`Snapshot` serves one cycle of the scheduler, which adds and removes usage to try things out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction

from mlk8s.sim.addons.kueue.model import Amounts, FlavorResource, Info, Key, Queue

_NONE = Fraction(0)


class Snapshot:
    """Quotas and usage at one moment.

    Args:
        queues: all ClusterQueues.
        holding: the workloads that hold quota, by ClusterQueue.
    """

    def __init__(
        self, queues: Mapping[str, Queue], holding: Mapping[str, Mapping[Key, Info]]
    ) -> None:
        self.queues = queues
        self.holding = {name: dict(holding.get(name, {})) for name in queues}
        self.usage: dict[str, Amounts] = {name: {} for name in queues}
        self._members: dict[str, list[Queue]] = {}
        for queue in queues.values():
            if queue.cohort:
                self._members.setdefault(queue.cohort, []).append(queue)
            for info in self.holding[queue.name].values():
                self.add(queue, info.usage)

    def add(self, queue: Queue, amounts: Mapping[FlavorResource, Fraction]) -> None:
        """Let a queue use more."""
        usage = self.usage[queue.name]
        for where, number in amounts.items():
            usage[where] = usage.get(where, _NONE) + number

    def members(self, queue: Queue) -> list[Queue]:
        """The queues of a queue's cohort, itself among them."""
        return self._members[queue.cohort] if queue.cohort else [queue]

    def used(self, queue: Queue, where: FlavorResource) -> Fraction:
        """What a queue uses."""
        return self.usage[queue.name].get(where, _NONE)

    def nominal(self, queue: Queue, where: FlavorResource) -> Fraction:
        """Its own quota."""
        quota = queue.quotas.get(where)
        return quota.nominal if quota else _NONE

    def _kept(self, queue: Queue, where: FlavorResource) -> Fraction:
        """The part of its quota that it never lends."""
        quota = queue.quotas.get(where)
        if quota is None or quota.lending is None:
            return _NONE
        return max(_NONE, quota.nominal - quota.lending)

    def _cohort(self, queue: Queue, where: FlavorResource) -> tuple[Fraction, Fraction]:
        """What the members of a cohort share, and what of it they use."""
        total = used = _NONE
        for each in self.members(queue):
            kept = self._kept(each, where)
            total += self.nominal(each, where) - kept
            used += max(_NONE, self.used(each, where) - kept)
        return total, used

    def available(self, queue: Queue, where: FlavorResource) -> Fraction:
        """What a queue may still use, borrowing included."""
        used = self.used(queue, where)
        if not queue.cohort:
            return max(_NONE, self.nominal(queue, where) - used)
        kept = self._kept(queue, where)
        total, taken = self._cohort(queue, where)
        shared = total - taken
        quota = queue.quotas.get(where)
        if quota is not None and quota.borrowing is not None:
            lent = quota.nominal - kept
            shared = min(shared, lent - max(_NONE, used - kept) + quota.borrowing)
        return max(_NONE, max(_NONE, kept - used) + shared)

    def capacity(self, queue: Queue, where: FlavorResource) -> Fraction:
        """What a queue could use if nobody used anything."""
        if not queue.cohort:
            return self.nominal(queue, where)
        most = self._kept(queue, where) + self._cohort(queue, where)[0]
        quota = queue.quotas.get(where)
        if quota is not None and quota.borrowing is not None:
            most = min(most, quota.nominal + quota.borrowing)
        return most

    def borrows(self, queue: Queue, where: FlavorResource, more: Fraction = _NONE) -> bool:
        """Whether a queue uses more than its own quota, or would with ``more``."""
        return self.nominal(queue, where) < self.used(queue, where) + more

    def borrowing(self, queue: Queue, where: FlavorResource, more: Fraction) -> int:
        """How far away the quota for ``more`` is: 0 in the queue, 1 in its cohort."""
        return 1 if queue.cohort and self.borrows(queue, where, more) else 0

    def within_nominal(self, queue: Queue, wheres: Iterable[FlavorResource]) -> bool:
        """Whether a queue borrows none of these."""
        return not any(self.borrows(queue, where) for where in wheres)

    def fits(self, queue: Queue, amounts: Mapping[FlavorResource, Fraction]) -> bool:
        """Whether all of this may be used now."""
        return all(number <= self.available(queue, where) for where, number in amounts.items())

    def remove_workload(self, info: Info) -> None:
        """Take a workload's usage away."""
        queue = self.queues[info.cluster_queue]
        self.holding[queue.name].pop(info.key)
        self.add(queue, {where: -number for where, number in info.usage.items()})

    def add_workload(self, info: Info) -> None:
        """Put it back."""
        queue = self.queues[info.cluster_queue]
        self.holding[queue.name][info.key] = info
        self.add(queue, info.usage)

    @contextmanager
    def without(self, infos: Iterable[Info]) -> Iterator[None]:
        """The same without some workloads, inside the block."""
        gone = [info for info in infos if info.key in self.holding[info.cluster_queue]]
        for info in gone:
            self.remove_workload(info)
        try:
            yield
        finally:
            for info in gone:
                self.add_workload(info)
