"""Workloads between admission and end: what keeps them out of a queue, and what sends them away.

The rules are those of ``pkg/controller/core/workload_controller.go``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from mlk8s.sim.addons.base import Setting
from mlk8s.sim.addons.kueue import conditions, names
from mlk8s.sim.addons.kueue.state import State
from mlk8s.sim.api import Api
from mlk8s.sim.controllers.base import Controller, find_condition
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change

_WATCHED = (names.WORKLOADS, names.LOCAL_QUEUES, names.CLUSTER_QUEUES, names.FLAVORS)
_LOCAL_STOPPED, _CLUSTER_STOPPED = "LocalQueueStopped", "ClusterQueueStopped"
_DEACTIVATED = "Deactivated"


class Workloads(Controller):
    """Keeps the conditions of Workloads in line with their queues."""

    name = names.WORKLOAD_CONTROLLER
    watch = (names.WORKLOADS,)

    def __init__(self, setting: Setting, state: State) -> None:
        super().__init__(setting.api, setting.recorder, setting.pods)
        self.state = state

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The Workload, or all unfinished ones when a queue or flavor has another spec."""
        if change.key == names.WORKLOADS:
            return ((change.namespace, change.name),)
        if change.key not in _WATCHED or change.key not in self._relevant(change):
            return ()
        return [key for key, info in self.state.workloads.items() if info.waits or info.admitted]

    def _relevant(self, change: Change) -> tuple[str, ...]:
        """The resource, unless nothing but its status has changed."""
        old = change.old if change.type == "MODIFIED" else None
        if old is not None and old.get("spec") == change.object.get("spec"):
            return ()
        return (change.key,)

    def sync(self, namespace: str, name: str) -> None:
        """Look at one Workload."""
        workload = self.api.find(names.WORKLOADS, namespace, name)
        if workload is None:
            return
        if "deletionTimestamp" in workload["metadata"]:
            self._finalize(workload)
            return
        if conditions.holds(workload, conditions.FINISHED):
            return
        if not workload["spec"].get("active", True):
            if not conditions.holds(workload, conditions.EVICTED):
                self._evict(workload, _DEACTIVATED, "The workload is deactivated")
            return
        if not self._restart(workload):
            if not conditions.holds(workload, conditions.QUOTA_RESERVED):
                self._block(workload)
            elif not conditions.holds(workload, conditions.EVICTED):
                self._drain(workload)

    def _finalize(self, workload: Object) -> None:
        """Let a deleted Workload go once no job needs to be stopped for it."""
        metadata = workload["metadata"]
        for owner in metadata.get("ownerReferences") or ():
            resource = self.api.registry.of_kind(owner["apiVersion"], owner["kind"])
            found = resource and self.api.find(resource.key, metadata["namespace"], owner["name"])
            if found and found["metadata"]["uid"] == owner["uid"]:
                return
        release_object(self.api, names.WORKLOADS, workload)

    def _restart(self, workload: Object) -> bool:
        """Queue a Workload again that a stopped queue, or a deactivation, had sent away."""
        requeued = find_condition(workload.get("status") or {}, conditions.REQUEUED)
        if requeued is None or requeued["status"] == "True":
            return False
        local = self.state.locals.get(self._local(workload))
        queue = self.state.queues.get(local.cluster_queue) if local else None
        match requeued["reason"]:
            case "Deactivated":
                reason, message = "Reactivated", "The workload was reactivated"
            case "LocalQueueStopped" if local and local.stop == "None":
                reason = "LocalQueueRestarted"
                message = "The LocalQueue was restarted after being stopped"
            case "ClusterQueueStopped" if queue and queue.stop == "None":
                reason = "ClusterQueueRestarted"
                message = "The ClusterQueue was restarted after being stopped"
            case _:
                return False

        def mark(found: Object) -> None:
            conditions.put(found, conditions.REQUEUED, True, reason, message, self.api)

        self._change(workload, mark)
        return True

    def _block(self, workload: Object) -> None:
        """Say which queue is missing or inactive."""
        where = self._local(workload)
        local = self.state.locals.get(where)
        if local is None:
            message = f"LocalQueue {where[1]} doesn't exist"
        elif local.stop != "None":
            message = f"LocalQueue {where[1]} is inactive"
        elif local.cluster_queue not in self.state.queues:
            message = f"ClusterQueue {local.cluster_queue} doesn't exist"
        elif self.state.inactive(local.cluster_queue) is not None:
            message = f"ClusterQueue {local.cluster_queue} is inactive"
        else:
            return

        def mark(found: Object) -> None:
            conditions.release(found, "Inadmissible", message, self.api)

        self._change(workload, mark)

    def _drain(self, workload: Object) -> None:
        """Send an admitted Workload away when its queue is to be drained."""
        local = self.state.locals.get(self._local(workload))
        queue = self.state.queues.get(workload["status"]["admission"]["clusterQueue"])
        if local and local.stop == "HoldAndDrain":
            self._evict(workload, _LOCAL_STOPPED, "The LocalQueue is stopped")
        elif queue and queue.stop == "HoldAndDrain":
            self._evict(workload, _CLUSTER_STOPPED, "The ClusterQueue is stopped")

    def _evict(self, workload: Object, reason: str, message: str) -> None:
        admitted = (workload.get("status") or {}).get("admission") is not None
        self._change(workload, lambda found: conditions.evict(found, reason, message, self.api))
        if admitted:
            self.event(workload, "Normal", f"EvictedDueTo{reason}", message)

    def _local(self, workload: Object) -> tuple[str, str]:
        return workload["metadata"]["namespace"], workload["spec"].get("queueName", "")

    def _change(self, workload: Object, mutate: Callable[[Object], None]) -> None:
        metadata = workload["metadata"]
        self.api.change(
            names.WORKLOADS, metadata["namespace"], metadata["name"], mutate, subresource="status"
        )

    def event(self, about: Object, type: str, reason: str, message: str) -> None:
        """Record an event in the newer form, as Kueue does."""
        self.recorder.event(about, type, reason, message, self.name, action=reason, series=True)


def release_object(api: Api, key: str, obj: Object) -> None:
    """Take Kueue's finalizer off an object."""

    def mutate(found: Object) -> None:
        held = found["metadata"].get("finalizers") or ()
        left = [each for each in held if each != names.IN_USE]
        if left:
            found["metadata"]["finalizers"] = left
        else:
            found["metadata"].pop("finalizers", None)

    if names.IN_USE in (obj["metadata"].get("finalizers") or ()):
        metadata = obj["metadata"]
        api.change(key, metadata.get("namespace", ""), metadata["name"], mutate)
