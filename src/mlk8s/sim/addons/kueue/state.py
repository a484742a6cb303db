"""What Kueue keeps in memory: queues, who waits in them, and who holds quota.

It hears of every change as it is stored. A workload that could not be admitted is parked until
something happens that may free quota for it, as in ``pkg/cache/queue``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from mlk8s.sim.addons.kueue import names
from mlk8s.sim.addons.kueue.model import Info, Key, Queue, info_of, queue_of
from mlk8s.sim.addons.kueue.quota import Snapshot
from mlk8s.sim.api import Api
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change


class Local(NamedTuple):
    """A LocalQueue."""

    cluster_queue: str
    stop: str


class Waiting:
    """The workloads that wait in one ClusterQueue.

    Attributes:
        ready: to be looked at.
        parked: looked at in vain; nothing that could help has happened since.
        refused: shapes of workloads that were looked at in vain: one speaks for all of its shape.
        sticky: the workload that has sent others away, and comes first.
        idle: the first of ``ready`` was looked at, and nothing has happened since.
    """

    def __init__(self) -> None:
        self.ready: dict[Key, None] = {}
        self.parked: dict[Key, None] = {}
        self.refused: set[str] = set()
        self.sticky: Key | None = None
        self.idle = False

    def drop(self, key: Key) -> bool:
        """Forget a workload; gives whether it may have been kept at the head."""
        kept = self.idle and key in self.ready
        self.ready.pop(key, None)
        self.parked.pop(key, None)
        if self.sticky == key:
            self.sticky = None
        return kept

    def revive(self) -> None:
        """Look at all of them again."""
        self.ready |= self.parked
        self.parked.clear()
        self.refused.clear()
        self.idle = False


class State:
    """Kueue's view of the cluster.

    Args:
        api: the cluster.

    Attributes:
        flavors: the specs of the ResourceFlavors.
        wake: called when there is something to schedule.
    """

    def __init__(self, api: Api) -> None:
        self.api = api
        self.flavors: dict[str, Object] = {}
        self.queues: dict[str, Queue] = {}
        self.locals: dict[Key, Local] = {}
        self.workloads: dict[Key, Info] = {}
        self.holding: dict[str, dict[Key, Info]] = {}
        self.waiting: dict[str, Waiting] = {}
        self.wake: Callable[[], None] = lambda: None
        self._arrivals = 0
        self._forget = api.store.subscribe(self._hear)

    def close(self) -> None:
        """Hear of no more changes."""
        self._forget()

    # -- asking ----------------------------------------------------------------------------------

    def cluster_queue(self, info: Info) -> str:
        """The ClusterQueue behind a workload's LocalQueue; ``""`` when that is missing."""
        local = self.locals.get((info.key[0], info.queue))
        return local.cluster_queue if local else ""

    def inactive(self, name: str) -> tuple[str, str] | None:
        """Reason and message when a ClusterQueue admits nothing now."""
        queue = self.queues[name]
        if queue.deleting:
            return "Terminating", "Can't admit new workloads; clusterQueue is terminating"
        found = []
        if queue.stop != "None":
            found.append(("Stopped", "is stopped"))
        if missing := [flavor for flavor in queue.flavors if flavor not in self.flavors]:
            text = f"references missing ResourceFlavor(s): {','.join(missing)}"
            found.append(("FlavorNotFound", text))
        if queue.checks:
            # The model has no admission checks, so whatever is named is missing.
            text = f"references missing AdmissionCheck(s): {','.join(queue.checks)}"
            found.append(("AdmissionCheckNotFound", text))
        if not found:
            return None
        messages = ", ".join(message for _, message in found)
        return found[0][0], f"Can't admit new workloads: {messages}."

    def snapshot(self) -> Snapshot:
        """Quotas and usage as they are now."""
        return Snapshot(self.queues, self.holding)

    def heads(self) -> list[tuple[Queue, Info]]:
        """The first workload of each ClusterQueue; nothing when nothing has happened since.

        One that is kept at the head of its queue takes part whenever there is something to look at
        in another queue: it may hold back what the other one would borrow.
        """
        found: list[tuple[Queue, Info]] = []
        if not self.busy:
            return found
        for name, waiting in self.waiting.items():
            queue = self.queues.get(name)
            if queue is None or not waiting.ready or self.inactive(name) is not None:
                continue
            infos = [self.workloads[key] for key in waiting.ready]
            first = min(infos, key=lambda info: (info.key != waiting.sticky, info.order))
            found.append((queue, first))
        return found

    @property
    def busy(self) -> bool:
        """Whether a ClusterQueue has something to look at."""
        return any(
            waiting.ready and not waiting.idle and self.inactive(name) is None
            for name, waiting in self.waiting.items()
            if name in self.queues
        )

    # -- after a look ----------------------------------------------------------------------------

    def keep(self, queue: Queue, info: Info, sticky: bool) -> None:
        """Leave a workload at the head of its queue until something happens."""
        waiting = self.waiting[queue.name]
        waiting.ready[info.key] = None
        waiting.idle = True
        if sticky:
            waiting.sticky = info.key

    def park(self, queue: Queue, info: Info, whole_shape: bool) -> None:
        """Put a workload aside, and with it those that equal it."""
        waiting = self.waiting[queue.name]
        waiting.drop(info.key)
        waiting.parked[info.key] = None
        if whole_shape:
            waiting.refused.add(info.shape)
            for key in [k for k in waiting.ready if self.workloads[k].shape == info.shape]:
                del waiting.ready[key]
                waiting.parked[key] = None

    # -- hearing ---------------------------------------------------------------------------------

    def _hear(self, change: Change) -> None:
        gone = change.type == "DELETED"
        match change.key:
            case names.WORKLOADS:
                self._workload(change, gone)
            case names.FLAVORS:
                if gone:
                    self.flavors.pop(change.name, None)
                else:
                    self.flavors[change.name] = change.object.get("spec") or {}
                self._revive(self.queues)
            case names.CLUSTER_QUEUES:
                self._cluster_queue(change, gone)
            case names.LOCAL_QUEUES:
                self._local_queue(change, gone)
            case "namespaces" if not gone:
                # A ClusterQueue may now be open to it.
                self._revive(self.queues)

    def _cluster_queue(self, change: Change, gone: bool) -> None:
        before = self.queues.pop(change.name, None)
        if gone:
            self.waiting.pop(change.name, None)
            after = None
        else:
            after = queue_of(change.object)
            self.queues[change.name] = after
        spec = None if change.old is None else change.old.get("spec")
        # Its own status says nothing new.
        if not gone and spec == change.object.get("spec") and before is not None:
            return
        if before is None and after is not None:
            for key in [
                k for k, i in self.workloads.items() if self.cluster_queue(i) == after.name
            ]:
                self._place(self.workloads[key])
        cohorts = {each.cohort for each in (before, after) if each and each.cohort}
        self._revive([n for n, q in self.queues.items() if n == change.name or q.cohort in cohorts])

    def _local_queue(self, change: Change, gone: bool) -> None:
        key = (change.namespace, change.name)
        if gone:
            self.locals.pop(key, None)
        else:
            spec = change.object.get("spec") or {}
            local = Local(spec.get("clusterQueue", ""), spec.get("stopPolicy") or "None")
            if self.locals.get(key) == local:
                return
            self.locals[key] = local
        for info in [i for i in self.workloads.values() if (i.key[0], i.queue) == key]:
            self._place(info, again=True)

    def _workload(self, change: Change, gone: bool) -> None:
        key = (change.namespace, change.name)
        before = self.workloads.pop(key, None)
        after = None
        if not gone:
            if before is None:
                self._arrivals += 1
            after = info_of(change.object, before.arrival if before else self._arrivals)
            self.workloads[key] = after
        if before is not None and before.cluster_queue:
            self.holding[before.cluster_queue].pop(key, None)
        if after is not None and after.cluster_queue:
            self.holding.setdefault(after.cluster_queue, {})[key] = after
        if before is not None and before.cluster_queue:
            freed = any(
                number > (after.usage if after else {}).get(where, 0)
                for where, number in before.usage.items()
            )
            if freed or after is None or not after.cluster_queue:
                self._revive(self._cohort(before.cluster_queue))
        if after is None:
            self._leave(key)
        else:
            self._place(after, again=before is None or before.fingerprint != after.fingerprint)

    def _place(self, info: Info, again: bool = True) -> None:
        """Put a workload where it belongs: with those to look at, aside, or nowhere."""
        local = self.locals.get((info.key[0], info.queue))
        home = local.cluster_queue if local and local.stop == "None" and info.waits else ""
        self._leave(info.key, home)
        if home not in self.queues:
            return
        waiting = self.waiting.setdefault(home, Waiting())
        known = info.key in waiting.ready or info.key in waiting.parked
        if known and not again:
            return
        waiting.parked.pop(info.key, None)
        refused = info.shape in waiting.refused and not self.queues[home].strict
        if not info.requeues or (refused and info.key not in waiting.ready):
            waiting.ready.pop(info.key, None)
            waiting.parked[info.key] = None
            return
        waiting.ready[info.key] = None
        waiting.idle = False
        self.wake()

    def _leave(self, key: Key, home: str = "") -> None:
        """Take a workload out of all queues but one."""
        for name, waiting in self.waiting.items():
            if name != home and waiting.drop(key):
                # What it held back is free for the heads of the others.
                for other in self._cohort(name):
                    if other in self.waiting:
                        self.waiting[other].idle = False
                self.wake()

    def _cohort(self, name: str) -> list[str]:
        """The queues that share quota with one, itself among them."""
        queue = self.queues.get(name)
        if queue is None:
            return []
        shared = queue.cohort
        return [n for n, q in self.queues.items() if n == name or (shared and q.cohort == shared)]

    def _revive(self, queues: Iterable[str]) -> None:
        for name in queues:
            if (waiting := self.waiting.get(name)) is not None:
                waiting.revive()
                held = [k for k in waiting.ready if not self.workloads[k].requeues]
                for key in held:
                    del waiting.ready[key]
                    waiting.parked[key] = None
        self.wake()
