"""Nodes: taints that follow from their conditions, pods that taints evict, pods without a node.

Source of the rules: pkg/controller/nodelifecycle, pkg/controller/tainteviction,
pkg/controller/podgc, pkg/controller/ttl.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from mlk8s.sim.api import Api, DeleteOptions
from mlk8s.sim.controllers.base import Controller, find_condition
from mlk8s.sim.controllers.pods import PodIndex
from mlk8s.sim.events import Recorder
from mlk8s.sim.matching import tolerated_for
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change

SIMULATED = "mlk8s.dev/simulated"
_TTL = "node.alpha.kubernetes.io/ttl"
# A node that is gone may come back within this long (podgc quarantineTime).
_QUARANTINE_S = 40.0
# kube-controller-manager --terminated-pod-gc-threshold
_MOST_TERMINATED = 12_500
_NOT_READY = "node.kubernetes.io/not-ready"
_UNREACHABLE = "node.kubernetes.io/unreachable"
_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_PRESSURES = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
_MANAGED = {_NOT_READY, _UNREACHABLE, _UNSCHEDULABLE, *_PRESSURES.values()}


def simulated(node: Object) -> bool:
    """Whether the cluster runs this node itself; other nodes' taints are left alone."""
    metadata = node["metadata"]
    return "true" in (
        (metadata.get("labels") or {}).get(SIMULATED),
        (metadata.get("annotations") or {}).get(SIMULATED),
    )


class NodeLifecycle(Controller):
    """The node lifecycle and TTL controllers."""

    name = "node-controller"
    watch = ("nodes",)

    def __init__(self, api: Api, recorder: Recorder, pods: PodIndex) -> None:
        super().__init__(api, recorder, pods)
        self._ready: dict[str, str] = {}

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The node."""
        if change.key != "nodes":
            return ()
        if change.type == "DELETED":
            if self._ready.pop(change.name, None) is not None:
                message = f"Node {change.name} event: Removing Node {change.name} from Controller"
                self._tell(change.object, "RemovingNode", message)
            return ()
        return (("", change.name),)

    def sync(self, namespace: str, name: str) -> None:
        """Annotate a node; taint one of the cluster's own after its conditions."""
        node = self.api.find("nodes", "", name)
        if node is None:
            return
        annotated = _TTL in (node["metadata"].get("annotations") or {})
        taints = self._taints(node) if simulated(node) else None

        def mutate(found: Object) -> None:
            found["metadata"].setdefault("annotations", {})[_TTL] = "0"
            if taints:
                found["spec"]["taints"] = taints
            elif taints is not None:
                found["spec"].pop("taints", None)

        if not annotated or (taints is not None and taints != (node["spec"].get("taints") or [])):
            self.api.change("nodes", "", name, mutate)
        if simulated(node):
            self._follow(node)

    def _taints(self, node: Object) -> list[Object]:
        """The taints that a node should have; those that nobody manages here stay."""
        status, spec = node.get("status") or {}, node["spec"]
        before = spec.get("taints") or []
        wanted: list[tuple[str, str]] = []
        ready = find_condition(status, "Ready")
        state = ready["status"] if ready is not None else "Unknown"
        if state == "False":
            wanted += [(_NOT_READY, "NoSchedule"), (_NOT_READY, "NoExecute")]
        elif state == "Unknown":
            wanted += [(_UNREACHABLE, "NoSchedule"), (_UNREACHABLE, "NoExecute")]
        for type, key in _PRESSURES.items():
            condition = find_condition(status, type)
            if condition is not None and condition["status"] == "True":
                wanted.append((key, "NoSchedule"))
        if spec.get("unschedulable"):
            wanted.append((_UNSCHEDULABLE, "NoSchedule"))
        kept = [
            taint
            for taint in before
            if taint["key"] not in _MANAGED or (taint["key"], taint["effect"]) in wanted
        ]
        present = {(taint["key"], taint["effect"]) for taint in kept}
        added = [
            {"key": key, "effect": effect, "timeAdded": self.api.timestamp()}
            for key, effect in wanted
            if (key, effect) not in present
        ]
        return kept + added

    def _follow(self, node: Object) -> None:
        """Tell of a node that is new or no longer ready; its pods are not ready then either."""
        name = node["metadata"]["name"]
        ready = find_condition(node.get("status") or {}, "Ready")
        state = ready["status"] if ready is not None else "Unknown"
        before = self._ready.get(name)
        self._ready[name] = state
        if before is None:
            message = f"Node {name} event: Registered Node {name} in Controller"
            self._tell(node, "RegisteredNode", message)
        if before == "True" and state != "True":
            self._tell(node, "NodeNotReady", f"Node {name} status is now: NodeNotReady")
            for pod in self.api.store.pods_on(name):
                condition = find_condition(pod.get("status") or {}, "Ready")
                if condition is None or condition["status"] != "True":
                    continue
                metadata = pod["metadata"]
                self.api.change(
                    "pods", metadata["namespace"], metadata["name"], self._not_ready, "status"
                )
                self.event(pod, "Warning", "NodeNotReady", "Node is not ready")

    def _not_ready(self, pod: Object) -> None:
        condition = find_condition(pod["status"], "Ready")
        if condition is not None:
            condition |= {"status": "False", "lastTransitionTime": self.api.timestamp()}

    def _tell(self, node: Object, reason: str, message: str) -> None:
        self.event(node, "Normal", reason, message)


class TaintEviction(Controller):
    """Deletes pods that do not tolerate a ``NoExecute`` taint, or no longer."""

    name = "taint-eviction-controller"
    watch = ("nodes", "pods")

    def __init__(self, api: Api, recorder: Recorder, pods: PodIndex) -> None:
        super().__init__(api, recorder, pods)
        self._tainted: dict[str, list[Object]] = {}
        # Since when a pod has been under the taints that it tolerates for a time.
        self._since: dict[str, float] = {}

    def keys(self, change: Change) -> Iterable[Hashable]:
        """A pod on a tainted node, or the pods of a node whose taints changed."""
        if change.key == "nodes":
            taints = change.object["spec"].get("taints") or []
            strict = [taint for taint in taints if taint["effect"] == "NoExecute"]
            before = self._tainted.get(change.name, [])
            if change.type == "DELETED" or not strict:
                self._tainted.pop(change.name, None)
            else:
                self._tainted[change.name] = strict
            return (("", change.name),) if strict != before else ()
        if change.key != "pods":
            return ()
        if change.type == "DELETED":
            self._since.pop(change.object["metadata"]["uid"], None)
        elif change.object["spec"].get("nodeName") in self._tainted:
            return ((change.namespace, change.name),)
        return ()

    def sync(self, namespace: str, name: str) -> None:
        """Look at one pod, or at all pods of a node."""
        if not namespace:
            for here in self.api.store.pods_on(name):
                self.enqueue((here["metadata"]["namespace"], here["metadata"]["name"]))
            return
        found = self.api.find("pods", namespace, name)
        if found is None or "deletionTimestamp" in found["metadata"]:
            return
        pod, uid = found, found["metadata"]["uid"]
        taints = self._tainted.get(pod["spec"].get("nodeName", ""), [])
        tolerations = pod["spec"].get("tolerations") or []
        limits = [tolerated_for(tolerations, taint) for taint in taints]
        finite = [limit for limit in limits if limit is not None]
        if not finite:
            if self._since.pop(uid, None) is not None:
                message = f"Cancelling deletion of Pod {namespace}/{name}"
                self.event(pod, "Normal", "TaintManagerEviction", message)
            return
        since = self._since.setdefault(uid, self.now)
        left = since + min(finite) - self.now
        if left > 0:
            self.enqueue((namespace, name), left)
            return
        message = f"Marking for deletion Pod {namespace}/{name}"
        self.event(pod, "Normal", "TaintManagerEviction", message)
        disrupt(
            self.api,
            pod,
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
        )
        self.api.delete("pods", namespace, name, DeleteOptions(uid=uid))


class PodCollector(Controller):
    """Deletes pods of nodes that are gone, unscheduled ones that hang, and old ended ones."""

    name = "pod-garbage-collector"
    watch = ("pods",)

    def __init__(self, api: Api, recorder: Recorder, pods: PodIndex) -> None:
        super().__init__(api, recorder, pods)
        self._ended: dict[tuple[str, str], None] = {}

    def keys(self, change: Change) -> Iterable[Hashable]:
        """A pod that is bound, ends or is deleted; the pods of a node that goes."""
        if change.key == "nodes" and change.type == "DELETED":
            for pod in self.api.store.pods_on(change.name):
                where = (pod["metadata"]["namespace"], pod["metadata"]["name"])
                self.enqueue(where, _QUARANTINE_S)
            return ()
        if change.key != "pods":
            return ()
        where = (change.namespace, change.name)
        if change.type == "DELETED":
            self._ended.pop(where, None)
            return ()
        pod = change.object
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            self._ended[where] = None
            if len(self._ended) > _MOST_TERMINATED:
                return (next(iter(self._ended)),)
        node = pod["spec"].get("nodeName")
        if node and self.api.store.raw("nodes", "", node) is None:
            self.enqueue(where, _QUARANTINE_S)
        elif "deletionTimestamp" in pod["metadata"] and not node:
            return (where,)
        return ()

    def sync(self, namespace: str, name: str) -> None:
        """Delete a pod that nobody else will."""
        pod = self.api.find("pods", namespace, name)
        if pod is None:
            return
        metadata, node = pod["metadata"], pod["spec"].get("nodeName")
        ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        surplus = ended and len(self._ended) > _MOST_TERMINATED
        orphan = bool(node) and self.api.store.raw("nodes", "", str(node)) is None
        hanging = not node and "deletionTimestamp" in metadata
        if not (surplus or orphan or hanging):
            return
        if orphan and not ended:
            disrupt(self.api, pod, "DeletionByPodGC", "PodGC: node no longer exists", fails=True)
        if hanging and metadata.get("deletionGracePeriodSeconds", 0) == 0:
            return
        options = DeleteOptions(grace_period=0, uid=metadata["uid"])
        self.api.delete("pods", namespace, name, options)


def disrupt(api: Api, pod: Object, reason: str, message: str, fails: bool = False) -> None:
    """Say in a pod's status why the cluster deletes it.

    Args:
        api: the cluster.
        pod: the pod.
        reason: of the condition ``DisruptionTarget``.
        message: of the condition.
        fails: the pod cannot say itself how it ended; it counts as failed.
    """

    def mutate(found: Object) -> None:
        status = found.setdefault("status", {})
        if fails:
            status["phase"] = "Failed"
        condition = find_condition(status, "DisruptionTarget") or {"type": "DisruptionTarget"}
        if "status" not in condition:
            status.setdefault("conditions", []).append(condition)
        condition |= {"status": "True", "lastProbeTime": None}
        condition |= {"lastTransitionTime": api.timestamp(), "reason": reason, "message": message}

    metadata = pod["metadata"]
    api.change("pods", metadata["namespace"], metadata["name"], mutate, subresource="status")
