"""kube-scheduler with its default profile: pods come in, bindings and reasons go out.

One pod at a time is tried against the cache; writes go through the API. A pod whose claims have to
be written first is bound in a step of its own, so that the next pod meets it half bound, as in a
real cluster.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import orjson

from mlk8s.sim.api import Api
from mlk8s.sim.events import Recorder
from mlk8s.sim.runtime import Component
from mlk8s.sim.scheduler import hints
from mlk8s.sim.scheduler.allocator import AllocationError
from mlk8s.sim.scheduler.cache import Cache
from mlk8s.sim.scheduler.cycle import Cycle, Diagnosis, Nominations
from mlk8s.sim.scheduler.dra import DynamicResources
from mlk8s.sim.scheduler.framework import Code, NodeInfo, Plugin, State, Verdict
from mlk8s.sim.scheduler.intake import Intake
from mlk8s.sim.scheduler.interpod import InterPodAffinity
from mlk8s.sim.scheduler.nodes import (
    ImageLocality,
    NodeAffinity,
    NodeName,
    NodePorts,
    NodeUnschedulable,
    TaintToleration,
)
from mlk8s.sim.scheduler.podinfo import PodInfo
from mlk8s.sim.scheduler.preemption import Preemption
from mlk8s.sim.scheduler.queue import FORGOTTEN_S, Entry, Place, Queue
from mlk8s.sim.scheduler.reports import Reports
from mlk8s.sim.scheduler.resources import NodeResourcesBalancedAllocation, NodeResourcesFit
from mlk8s.sim.scheduler.topology import PodTopologySpread
from mlk8s.sim.scheduler.volumes import VolumeBinding
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change
from mlk8s.sim.subresources import bind

NO_NODES = "no nodes available to schedule pods"
# About what writing a claim's allocation takes a real API server; pods are tried meanwhile.
_WRITE_S = 0.05
_WAIT_S = 0.1
_FLUSH_S = 30.0


@dataclass
class _Binding:
    """A pod that has its node but is not bound yet."""

    entry: Entry
    pod: Object
    state: State
    node: NodeInfo


class Scheduler(Component):
    """Gives pods their nodes.

    Args:
        api: the cluster.
        recorder: writes its events.
    """

    def __init__(self, api: Api, recorder: Recorder) -> None:
        super().__init__(api)
        self.cache = Cache()
        self.queue = Queue(api.clock.now)
        self.nominations = Nominations()
        claims = DynamicResources(api)
        self.plugins: list[Plugin] = [
            NodeUnschedulable(),
            NodeName(),
            TaintToleration(),
            NodeAffinity(),
            NodePorts(),
            NodeResourcesFit(claims.delegates),
            VolumeBinding(api),
            PodTopologySpread(self.cache, api.find),
            InterPodAffinity(self.cache),
            claims,
            NodeResourcesBalancedAllocation(),
            ImageLocality(self.cache),
        ]
        rng = random.Random(api.uid("scheduler"))
        self.cycle = Cycle(self.plugins, self.cache, self.nominations, rng)
        self.preemption = Preemption(api, recorder, self.cycle, rng)
        self._reports = Reports(api, recorder)
        self._binding: dict[str, _Binding] = {}
        self._intake = Intake(api, self.cache, self.queue, self.nominations, self._binding.keys())
        self._intake.use(self.plugins)
        # What came of a pod like this one, as long as nothing has changed since.
        self._alike: dict[bytes, tuple[str, frozenset[str]]] = {}
        self._alike_at = -1

    def start(self) -> None:
        """Take over what is there already."""
        for key in self._intake.load():
            self.enqueue(key)
        self.enqueue("flush", _FLUSH_S)
        if self.queue.ready:
            self.enqueue("schedule")

    def keys(self, change: Change) -> Iterable[Hashable]:
        """Bring cache and queue up to date; one key stands for all pods that are ready."""
        if change.key == "events":
            return ()
        keys = self._intake.hear(change)
        return [*keys, "schedule"] if self.queue.ready else keys

    def reconcile(self, key: Hashable) -> None:
        """Try the next pod, or go on with one."""
        match key:
            case "flush":
                self._flush()
            case ("bind", str(uid)):
                if (binding := self._binding.get(uid)) is not None:
                    self._bind(binding)
            case ("undo", str(uid)):
                if (binding := self._binding.pop(uid, None)) is not None:
                    self._unreserve(binding)
            case ("retry", str(uid)):
                if (entry := self.queue.entries.get(uid)) is not None:
                    self.queue.retry(entry)
            case _:
                if (entry := self.queue.pop()) is not None:
                    self._next(entry)
        if self.queue.ready:
            self.enqueue("schedule")

    def _flush(self) -> None:
        """Try pods again that nothing has helped for five minutes."""
        now = self.api.clock.now()
        for entry in self.queue.parked():
            if now - entry.since >= FORGOTTEN_S:
                self.queue.retry(entry)
        self.enqueue("flush", _FLUSH_S)

    # -- trying ----------------------------------------------------------------------------------

    def _next(self, entry: Entry) -> None:
        """Try a pod; whatever goes wrong, it is not lost."""
        try:
            self._try(entry)
        finally:
            if entry.place is Place.FLYING and entry.uid in self.queue.entries:
                self.queue.park(entry, ())
                self.enqueue(("retry", entry.uid), entry.backoff)

    def _try(self, entry: Entry) -> None:
        pod = self.api.find("pods", entry.namespace, entry.name)
        if pod is None or pod["metadata"]["uid"] != entry.uid or pod["spec"].get("nodeName"):
            self.queue.remove(entry.uid)
            return
        if "deletionTimestamp" in pod["metadata"]:
            self._reports.warn(
                entry, pod, f"skip schedule deleting pod: {entry.namespace}/{entry.name}"
            )
            self.queue.remove(entry.uid)
            return
        if not self.cache.nodes:
            self._fail(entry, pod, NO_NODES, (), "")
            return
        kind = self._kind(pod)
        if kind is not None and (known := self._alike.get(kind)) is not None:
            self._fail(entry, pod, *known, "")
            return
        state = self.cycle.begin(pod)
        try:
            found, diagnosis = self.cycle.feasible(state, pod)
        except AllocationError as error:
            self._error(entry, pod, f'running "DynamicResources" filter plugin: {error}')
            return
        if found:
            self._place(entry, pod, state, self.cycle.pick(state, pod, found))
        else:
            self._make_room(entry, pod, state, diagnosis, kind)

    def _kind(self, pod: Object) -> bytes | None:
        """The same for pods that fare the same; ``None`` when that cannot be said.

        With many replicas waiting for one place, the second and all further ones cost little.
        """
        if self._alike_at != self.cache.changes:
            self._alike.clear()
            self._alike_at = self.cache.changes
        spec, metadata = pod["spec"], pod["metadata"]
        if spec.get("resourceClaims") or (pod.get("status") or {}).get("nominatedNodeName"):
            return None
        volumes = spec.get("volumes") or ()
        if any("persistentVolumeClaim" in one or "ephemeral" in one for one in volumes):
            return None
        same = {key: spec[key] for key in spec if key not in ("containers", "volumes", "hostname")}
        same["containers"] = [
            (one.get("resources"), one.get("ports")) for one in spec["containers"]
        ]
        where = (metadata["namespace"], metadata.get("labels"))
        return orjson.dumps((where, same), option=orjson.OPT_SORT_KEYS)

    def _make_room(
        self, entry: Entry, pod: Object, state: State, diagnosis: Diagnosis, kind: bytes | None
    ) -> None:
        """Nothing fits: see whether claims or other pods can give way."""
        texts = self.cycle.post_filter(state, pod, diagnosis.verdicts)
        outcome = self.preemption.run(state, pod, diagnosis)
        if not outcome.node:
            diagnosis.post_filter = ", ".join([*texts, f"preemption: {outcome.text}"])
        message = diagnosis.message(len(self.cache.nodes))
        if outcome.node:
            self._intake.nominate(state["pod"], outcome.node)
        elif kind is not None and self._alike_at == self.cache.changes:
            self._alike[kind] = (message, frozenset(diagnosis.plugins))
        self._fail(entry, pod, message, diagnosis.plugins, outcome.node)

    def _fail(
        self,
        entry: Entry,
        pod: Object,
        message: str,
        plugins: Iterable[str],
        nominated: str | None,
    ) -> None:
        """Put the pod aside until something helps, and say why."""
        self.queue.park(entry, plugins)
        self._reports.failed(entry, pod, message, nominated, "Unschedulable")

    def _error(self, entry: Entry, pod: Object, message: str) -> None:
        """Something went wrong; it is tried again after a back-off."""
        self.queue.park(entry, ())
        self._reports.failed(entry, pod, message, "", "SchedulerError")
        self.enqueue(("retry", entry.uid), entry.backoff)

    # -- binding ---------------------------------------------------------------------------------

    def _place(self, entry: Entry, pod: Object, state: State, node: NodeInfo) -> None:
        """Reserve the node for the pod, and bind it: at once, unless claims come first."""
        info: PodInfo = state["pod"]
        self._intake.nominate(info, "")
        self.cache.add_pod(info, node.name)
        binding = _Binding(entry, pod, state, node)
        for plugin in self.plugins:
            verdict = plugin.reserve(state, pod, node)
            if verdict is not None and verdict.rejected:
                self._forget(binding)
                self._turned_down(binding, verdict, plugin.name)
                return
        self.queue.remove(entry.uid)
        self._binding[entry.uid] = binding
        if any(plugin.will_pre_bind(state, pod, node) for plugin in self.plugins):
            self.enqueue(("bind", entry.uid), _WRITE_S)
        else:
            self._bind(binding)

    def _bind(self, binding: _Binding) -> None:
        pod, node, uid = binding.pod, binding.node, binding.entry.uid
        running = ""
        try:
            for plugin in self.plugins:
                running = f'running PreBind plugin "{plugin.name}"'
                verdict = plugin.pre_bind(binding.state, pod, node)
                if verdict is not None and verdict.code is Code.WAIT:
                    self.enqueue(("bind", uid), _WAIT_S)
                    return
                if verdict is not None and verdict.rejected:
                    if self._return(binding):
                        self._turned_down(binding, verdict, plugin.name)
                    return
            running = 'binding rejected: running Bind plugin "DefaultBinder"'
            del self._binding[uid]
            bind(self.api, binding.entry.namespace, binding.entry.name, node.name)
        except (StatusError, AllocationError) as error:
            if self._return(binding):
                self._error(binding.entry, pod, f"{running}: {error}")
            return
        self._reports.scheduled(pod, node.name)

    def _return(self, binding: _Binding) -> bool:
        """Give up a binding; whether the pod is still there to wait again."""
        self._binding.pop(binding.entry.uid, None)
        self._forget(binding)
        found = self.api.find("pods", binding.entry.namespace, binding.entry.name)
        if found is None or found["metadata"]["uid"] != binding.entry.uid:
            return False
        self.queue.take_back(binding.entry)
        return True

    def _forget(self, binding: _Binding) -> None:
        """The pod is not on the node after all, which is as good as one that has gone."""
        self._unreserve(binding)
        if self.cache.remove_pod(binding.entry.uid):
            self.queue.move(hints.POD_GONE)

    def _unreserve(self, binding: _Binding) -> None:
        for plugin in reversed(self.plugins):
            plugin.unreserve(binding.state, binding.pod, binding.node)

    def _turned_down(self, binding: _Binding, verdict: Verdict, plugin: str) -> None:
        """A plugin refused the node after all."""
        entry, message = binding.entry, Diagnosis({binding.node.name: verdict}).message(1)
        self._fail(entry, binding.pod, message, (verdict.plugin or plugin,), "")
        self.enqueue(("retry", entry.uid), entry.backoff)
