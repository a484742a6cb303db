"""What the scheduler hears: changes of objects, brought into its cache and its queue.

Nothing is written here, since others have not yet heard of the change.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable

from mlk8s.sim.api import Api
from mlk8s.sim.scheduler import hints
from mlk8s.sim.scheduler.cache import Cache
from mlk8s.sim.scheduler.cycle import Nominations
from mlk8s.sim.scheduler.framework import Plugin
from mlk8s.sim.scheduler.podinfo import PodInfo
from mlk8s.sim.scheduler.queue import ANY, Entry, Place, Queue
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change

NAME = "default-scheduler"


class Intake:
    """Keeps cache, queue and nominations up to date.

    Args:
        api: the cluster.
        cache: nodes and the pods on them.
        queue: the pods that wait.
        nominations: the pods that wait on a node for others to go.
        binding: the uids of pods that have a node but are not bound yet.
    """

    def __init__(
        self,
        api: Api,
        cache: Cache,
        queue: Queue,
        nominations: Nominations,
        binding: Collection[str],
    ) -> None:
        self._api = api
        self._cache = cache
        self._queue = queue
        self._nominations = nominations
        self._binding = binding
        self._plugins: list[str] = []
        self._asking: list[Plugin] = []
        self._gating: list[Plugin] = []

    def use(self, plugins: list[Plugin]) -> None:
        """Ask these plugins whether a pod may be tried, and whether a change helps it."""
        self._plugins = [plugin.name for plugin in plugins]
        self._asking = [one for one in plugins if type(one).may_help is not Plugin.may_help]
        self._gating = [one for one in plugins if type(one).pre_enqueue is not Plugin.pre_enqueue]

    def load(self) -> list[Hashable]:
        """Take over what is in the store; gives what has to be looked at."""
        store = self._api.store
        for node in store.items("nodes"):
            self._cache.set_node(node)
        for namespace in store.items("namespaces"):
            self._namespace(namespace)
        for service in store.items("services"):
            self._service(service)
        keys: list[Hashable] = []
        for pod in store.items("pods"):
            if pod["metadata"]["uid"] not in self._queue.entries:
                self._pod(pod, None, keys)
        return keys

    def hear(self, change: Change) -> list[Hashable]:
        """Take a change in; gives what has to be looked at besides pods that are ready."""
        keys: list[Hashable] = []
        helped: Iterable[str] = hints.RESOURCES.get(change.key, ())
        gone = change.type == "DELETED"
        match change.key:
            case "pods" if gone:
                helped = self._gone(change.object, keys)
            case "pods":
                helped = self._pod(change.object, change.old, keys)
            case "nodes":
                helped = self._node(change)
            case "namespaces":
                self._cache.changes += 1
                if gone:
                    self._cache.namespaces.pop(change.name, None)
                else:
                    self._namespace(change.object)
            case "services" if gone:
                self._cache.services.get(change.namespace, {}).pop(change.name, None)
            case "services":
                self._service(change.object)
            case "poddisruptionbudgets.policy":
                self._cache.changes += 1
        if helped:
            self._queue.move(helped)
        if change.key.endswith(".resource.k8s.io"):
            self._cache.changes += 1
            self._ask(change)
        elif change.key == "pods" or (change.key == "nodes" and helped):
            self._ask(change)
        return keys

    def nominate(self, info: PodInfo, node: str) -> None:
        """Nominate a pod for a node; an empty name takes it back."""
        if self._nominations.of(info) != node:
            self._cache.changes += 1
            self._nominations.set(info, node)

    def _node(self, change: Change) -> Iterable[str]:
        if change.type == "DELETED":
            self._cache.remove_node(change.name)
            return hints.NODE_GONE
        new, old = change.object, change.old
        if old is None or change.name not in self._cache.nodes:
            self._cache.set_node(new)
            return self._plugins
        if not hints.node_matters(old, new):
            return ()
        self._cache.set_node(new)
        return hints.node_changed(old, new)

    def _namespace(self, namespace: Object) -> None:
        metadata = namespace["metadata"]
        self._cache.namespaces[metadata["name"]] = metadata.get("labels") or {}

    def _service(self, service: Object) -> None:
        metadata = service["metadata"]
        selectors = self._cache.services.setdefault(metadata["namespace"], {})
        if selector := service["spec"].get("selector"):
            selectors[metadata["name"]] = selector
        else:
            selectors.pop(metadata["name"], None)

    def _pod(self, pod: Object, old: Object | None, keys: list[Hashable]) -> Iterable[str]:
        """A pod came or changed."""
        if not pod["spec"].get("nodeName"):
            if pod["spec"].get("schedulerName", NAME) == NAME:
                self._pending(pod, old)
            return ()
        if finished(pod):
            return self._gone(pod, keys)
        info = PodInfo(pod)
        self._queue.remove(info.uid)
        self.nominate(info, "")
        known = self._cache.pod(info.uid)
        if known is None or known[0] != info.node:
            self._cache.add_pod(info, info.node)
            return hints.POD_PLACED
        before = known[1]
        placed = not before.node
        if before.alike(info):
            before.node, before.started = info.node, info.started
            return hints.POD_PLACED if placed else ()
        self._cache.add_pod(info, info.node)
        return hints.POD_PLACED if placed else hints.pod_changed(before, info)

    def _gone(self, pod: Object, keys: list[Hashable]) -> Iterable[str]:
        """A pod was deleted, or has finished."""
        info = PodInfo(pod)
        self._queue.remove(info.uid)
        self.nominate(info, "")
        if info.uid in self._binding:
            keys.append(("undo", info.uid))
        return hints.POD_GONE if self._cache.remove_pod(info.uid) else ()

    def _pending(self, pod: Object, old: Object | None) -> None:
        """A pod without a node came or changed."""
        uid = pod["metadata"]["uid"]
        if uid in self._binding:
            return
        if finished(pod):
            self._queue.remove(uid)
            return
        info = PodInfo(pod)
        self.nominate(info, (pod.get("status") or {}).get("nominatedNodeName") or "")
        entry = self._queue.entries.get(uid)
        if entry is None:
            entry = Entry(uid, info.namespace, info.name, since=self._api.clock.now())
        elif old is not None and not hints.pending_changed(old, pod):
            return
        elif entry.place is Place.FLYING:
            self._queue.missed(entry, ANY)
            return
        entry.priority = info.priority
        entry.claims = bool(pod["spec"].get("resourceClaims"))
        if self._blocked(pod):
            self._queue.gate(entry)
        else:
            self._queue.activate(entry)

    def _blocked(self, pod: Object) -> bool:
        """Whether a plugin says that the pod may not be tried yet."""
        if pod["spec"].get("schedulingGates"):
            return True
        verdicts = (plugin.pre_enqueue(pod) for plugin in self._gating)
        return any(verdict is not None and verdict.rejected for verdict in verdicts)

    def _ask(self, change: Change) -> None:
        """Ask the plugins that look into a change themselves, about pods they turned down."""
        for plugin in self._asking:
            entries = [
                *self._queue.parked(plugin.name),
                *(entry for entry in self._queue.gated() if entry.claims),
                *self._queue.flying(),
            ]
            if change.key == "pods":
                uid = change.object["metadata"]["uid"]
                entries = [entry for entry in entries if entry.uid == uid]
            for entry in entries:
                pod = self._api.find("pods", entry.namespace, entry.name)
                if pod is None or not plugin.may_help(pod, change):
                    continue
                if entry.place is Place.FLYING:
                    self._queue.missed(entry, plugin.name)
                elif entry.place is Place.PARKED:
                    self._queue.retry(entry)
                elif not self._blocked(pod):
                    self._queue.activate(entry)


def finished(pod: Object) -> bool:
    """Whether a pod has ended and no longer takes anything of its node."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
