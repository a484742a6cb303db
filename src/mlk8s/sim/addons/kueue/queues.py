"""The status of ClusterQueues and LocalQueues, and what may be deleted of them.

The rules are those of the controllers of ClusterQueue, LocalQueue and ResourceFlavor in
``pkg/controller/core``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from fractions import Fraction

from mlk8s.sim.addons.base import Setting
from mlk8s.sim.addons.kueue import conditions, names
from mlk8s.sim.addons.kueue.model import Info, Queue, shown
from mlk8s.sim.addons.kueue.state import State
from mlk8s.sim.addons.kueue.workloads import release_object
from mlk8s.sim.controllers.base import Controller
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change

_CLUSTER, _FLAVOR = "/cluster", "/flavor"


class Queues(Controller):
    """Counts who waits and who holds what."""

    name = "kueue-queue-controller"
    watch = (names.CLUSTER_QUEUES, names.LOCAL_QUEUES, names.FLAVORS)

    def __init__(self, setting: Setting, state: State) -> None:
        super().__init__(setting.api, setting.recorder, setting.pods)
        self.state = state

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The queues that a change concerns."""
        match change.key:
            case names.WORKLOADS:
                return self._of_workload(change)
            case names.CLUSTER_QUEUES:
                found: list[Hashable] = [(_CLUSTER, change.name)]
                found += [key for key, q in self.state.locals.items() if q[0] == change.name]
                return found + [(_FLAVOR, name) for name in self.state.flavors]
            case names.LOCAL_QUEUES:
                return ((change.namespace, change.name),)
            case names.FLAVORS:
                queues = [(_CLUSTER, name) for name in self.state.queues]
                return [(_FLAVOR, change.name), *queues]
        return ()

    def _of_workload(self, change: Change) -> list[Hashable]:
        found: list[Hashable] = []
        for each in (change.object, change.old):
            if each is None:
                continue
            where = (change.namespace, each["spec"].get("queueName", ""))
            found.append(where)
            admission = (each.get("status") or {}).get("admission") or {}
            local = self.state.locals.get(where)
            clusters = {admission.get("clusterQueue", ""), local.cluster_queue if local else ""}
            found += [(_CLUSTER, name) for name in clusters if name]
        return found

    def sync(self, namespace: str, name: str) -> None:
        """Look at one queue or flavor."""
        if namespace == _CLUSTER:
            self._cluster_queue(name)
        elif namespace == _FLAVOR:
            self._flavor(name)
        else:
            self._local_queue(namespace, name)

    def _flavor(self, name: str) -> None:
        flavor = self.api.find(names.FLAVORS, "", name)
        if flavor is None or "deletionTimestamp" not in flavor["metadata"]:
            return
        if not any(name in queue.flavors for queue in self.state.queues.values()):
            release_object(self.api, names.FLAVORS, flavor)

    def _cluster_queue(self, name: str) -> None:
        obj = self.api.find(names.CLUSTER_QUEUES, "", name)
        queue = self.state.queues.get(name)
        if obj is None or queue is None:
            return
        holding = list(self.state.holding.get(name, {}).values())
        if queue.deleting and not holding:
            release_object(self.api, names.CLUSTER_QUEUES, obj)
            return
        waiting = self.state.waiting.get(name)
        pending = len(waiting.ready) + len(waiting.parked) if waiting else 0
        inactive = self.state.inactive(name)
        reason, message = inactive or ("Ready", "Can admit new workloads")

        def mutate(found: Object) -> None:
            self._count(found, queue, holding, pending, borrowed=True)
            conditions.put(found, conditions.ACTIVE, inactive is None, reason, message, self.api)

        self.api.change(names.CLUSTER_QUEUES, "", name, mutate, subresource="status")

    def _local_queue(self, namespace: str, name: str) -> None:
        local = self.state.locals.get((namespace, name))
        if local is None:
            return
        queue = self.state.queues.get(local.cluster_queue)
        where = (namespace, name)
        mine = [
            info
            for info in self.state.holding.get(local.cluster_queue, {}).values()
            if (info.key[0], info.queue) == where
        ]
        waiting = self.state.waiting.get(local.cluster_queue) if queue else None
        keys = [*waiting.ready, *waiting.parked] if waiting else []
        infos = [self.state.workloads[key] for key in keys]
        pending = sum((info.key[0], info.queue) == where for info in infos)
        active = False
        if local.stop != "None":
            reason, message = "Stopped", "LocalQueue is stopped"
        elif queue is None:
            reason, message = "ClusterQueueDoesNotExist", _CLOSED
        elif self.state.inactive(queue.name) is not None:
            reason, message = "ClusterQueueIsInactive", _CLOSED
        else:
            active, reason, message = True, "Ready", "Can submit new workloads to localQueue"

        def mutate(found: Object) -> None:
            self._count(found, queue, mine, pending, borrowed=False)
            conditions.put(found, conditions.ACTIVE, active, reason, message, self.api)

        self.api.change(names.LOCAL_QUEUES, namespace, name, mutate, subresource="status")

    def _count(
        self, obj: Object, queue: Queue | None, holding: list[Info], pending: int, borrowed: bool
    ) -> None:
        status = obj.setdefault("status", {})
        admitted = [info for info in holding if info.admitted]
        status["pendingWorkloads"] = pending
        status["reservingWorkloads"] = len(holding)
        status["admittedWorkloads"] = len(admitted)
        for part, infos in (("flavorsReservation", holding), ("flavorsUsage", admitted)):
            if queue is None:
                status.pop(part, None)
            else:
                status[part] = _usage(queue, infos, borrowed)


_CLOSED = "Can't submit new workloads to clusterQueue"


def _usage(queue: Queue, infos: list[Info], borrowed: bool) -> list[Object]:
    used: dict[tuple[str, str], Fraction] = {}
    for info in infos:
        for where, number in info.usage.items():
            used[where] = used.get(where, Fraction(0)) + number
    found = []
    for group in queue.groups:
        for flavor in group.flavors:
            resources = []
            for resource in sorted(group.resources):
                total = used.get((flavor, resource), Fraction(0))
                row = {"name": resource, "total": shown(resource, total)}
                if borrowed:
                    over = total - queue.quotas[flavor, resource].nominal
                    over = max(Fraction(0), over) if queue.cohort else Fraction(0)
                    row["borrowed"] = shown(resource, over)
                resources.append(row)
            found.append({"name": flavor, "resources": resources})
    return found
