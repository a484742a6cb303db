"""DaemonSets: one pod on every node that fits.

The controller only names the node in the pod's affinity; the scheduler binds it. Source of the
rules: pkg/controller/daemon (daemon_controller.go, update.go, util/daemonset_util.go).
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable

import orjson

from mlk8s.sim.api import Api
from mlk8s.sim.controllers import revisions
from mlk8s.sim.controllers.base import BURST, Workload, namespace_ends, pod_of, scaled
from mlk8s.sim.controllers.pods import PodFacts, PodIndex
from mlk8s.sim.events import Recorder
from mlk8s.sim.matching import NodeSelection, tolerates
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

_GENERATION = "deprecated.daemonset.template.generation"
# How long after a failed daemon pod the next is replaced (daemon_controller.go).
_FIRST_BACKOFF_S, _LAST_BACKOFF_S = 1.0, 900.0
_TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)


class DaemonSets(Workload):
    """The DaemonSet controller."""

    name = "daemonset-controller"
    resource = "daemonsets.apps"
    kind = "DaemonSet"
    watch = ("nodes", "daemonsets.apps", "pods")

    def __init__(self, api: Api, recorder: Recorder, pods: PodIndex) -> None:
        super().__init__(api, recorder, pods)
        # What placement needs of each node: labels, taints. Heartbeats change nothing here.
        self._nodes: dict[str, tuple[dict[str, str], list[Object]]] = {}
        self._version = 0
        self._places: dict[str, tuple[tuple[int, int], dict[str, tuple[bool, bool]]]] = {}
        self._backoff: dict[tuple[str, str], tuple[int, float]] = {}

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The DaemonSet, that of a pod, or all when a node is new or tells something else."""
        if change.key != "nodes":
            if change.key == self.resource and change.type == "DELETED":
                self._places.pop(change.object["metadata"]["uid"], None)
            return super().keys(change)
        if change.type == "DELETED":
            self._nodes.pop(change.name, None)
        else:
            node = change.object
            told = (node["metadata"].get("labels") or {}, node["spec"].get("taints") or [])
            if self._nodes.get(change.name) == told:
                return ()
            self._nodes[change.name] = told
        self._version += 1
        return self.api.store.keys(self.resource)

    def sync(self, namespace: str, name: str) -> None:
        """Make what is missing, delete what is too much, replace what is old, and report."""
        found = self.api.find(self.resource, namespace, name)
        if found is None or "deletionTimestamp" in found["metadata"]:
            return
        by_node: dict[str, list[PodFacts]] = {}
        for pod in self.claim(found, self.selector(found)):
            by_node.setdefault(pod.node or self._target(pod), []).append(pod)
        known = revisions.listed(self.api, found)
        labels = (found["spec"]["template"].get("metadata") or {}).get("labels") or {}
        update = revisions.current(self.api, found, known, dict(labels))
        suffix = update["metadata"]["labels"][revisions.HASH_LABEL]
        places = self._eligible(found)
        failure = None
        try:
            self._manage(found, by_node, places, suffix)
            self._roll(found, by_node, places, suffix)
        except StatusError as error:
            failure = None if namespace_ends(error) else error
        self._report(found, places, suffix)
        used = {
            pod.labels.get(revisions.HASH_LABEL, "") for pods in by_node.values() for pod in pods
        }
        revisions.trim(
            self.api,
            known,
            {r["metadata"]["name"] for r in known if _suffix(r) in used | {suffix}},
            found["spec"].get("revisionHistoryLimit", 10),
        )
        if failure is not None:
            raise failure

    # -- where -----------------------------------------------------------------------------------

    def _eligible(self, found: Object) -> dict[str, tuple[bool, bool]]:
        """For each node whether a pod should run there, and whether one may go on running."""
        metadata = found["metadata"]
        version = (self._version, metadata.get("generation", 1))
        kept = self._places.get(metadata["uid"])
        if kept is not None and kept[0] == version:
            return kept[1]
        spec = found["spec"]["template"]["spec"]
        tolerations = daemon_tolerations(spec)
        places, selection = {}, NodeSelection(spec)
        for name, (labels, taints) in self._nodes.items():
            fits = selection.matches(labels, name) and spec.get("nodeName", name) == name
            hard = [t for t in taints if t["effect"] in ("NoSchedule", "NoExecute")]
            run = fits and all(tolerates(tolerations, taint) for taint in hard)
            stay = fits and all(
                tolerates(tolerations, t) for t in hard if t["effect"] == "NoExecute"
            )
            places[name] = (run, stay)
        self._places[metadata["uid"]] = (version, places)
        return places

    def _target(self, pod: PodFacts) -> str:
        """The node that an unscheduled daemon pod is meant for."""
        raw = self.api.store.raw("pods", pod.namespace, pod.name)
        if raw is None:
            return ""
        affinity = (orjson.loads(raw)["spec"].get("affinity") or {}).get("nodeAffinity") or {}
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
        for term in required.get("nodeSelectorTerms") or ():
            for requirement in term.get("matchFields") or ():
                if requirement["key"] == "metadata.name" and requirement.get("values"):
                    return str(requirement["values"][0])
        return ""

    # -- pods ------------------------------------------------------------------------------------

    def _manage(
        self,
        found: Object,
        by_node: dict[str, list[PodFacts]],
        places: dict[str, tuple[bool, bool]],
        suffix: str,
    ) -> None:
        metadata = found["metadata"]
        missing: list[str] = []
        for name, (run, stay) in places.items():
            pods = by_node.get(name, [])
            if run and not pods:
                missing.append(name)
            elif stay:
                self._tend(found, name, pods)
            else:
                for pod in pods:
                    if not pod.deleting:
                        self.delete_pod(found, pod)
        for name in by_node.keys() - places.keys() - {""}:
            for pod in by_node[name]:
                if not pod.deleting and not pod.node:
                    self.delete_pod(found, pod)
        template = self._template(found, suffix)
        self.create_pods(
            found, (_for_node(pod_of(template, found), name) for name in missing[:BURST])
        )
        if len(missing) > BURST:
            self.enqueue((metadata["namespace"], metadata["name"]))

    def _tend(self, found: Object, name: str, pods: list[PodFacts]) -> None:
        """Delete a pod that ended, and all running ones but the oldest.

        During a surge two run: the old one and its successor, until that is available.
        """
        metadata = found["metadata"]
        running = []
        for pod in pods:
            if pod.deleting:
                continue
            if pod.phase == "Failed":
                key = (metadata["uid"], name)
                tries, since = self._backoff.get(key, (0, 0.0))
                wait = min(_FIRST_BACKOFF_S * 2.0 ** min(tries, 20), _LAST_BACKOFF_S)
                left = since + wait - self.now if tries else 0.0
                if left > 0:
                    self.enqueue((metadata["namespace"], metadata["name"]), left)
                    continue
                self._backoff[key] = (tries + 1, self.now)
                what = f"failed daemon pod {pod.namespace}/{pod.name} on node {name}"
                message = f"Found {what}, will try to kill it"
                self.event(found, "Warning", "FailedDaemonPod", message)
                self.delete_pod(found, pod)
            elif pod.phase == "Succeeded":
                what = f"succeeded daemon pod {pod.namespace}/{pod.name} on node {name}"
                message = f"Found {what}, will try to delete it"
                self.event(found, "Normal", "SucceededDaemonPod", message)
                self.delete_pod(found, pod)
            else:
                running.append(pod)
        if self._limits(found, 1)[0] == 0:
            running.sort(key=lambda pod: (not pod.node, not pod.ready, pod.created, pod.uid))
            for pod in running[1:]:
                self.delete_pod(found, pod)

    def _template(self, found: Object, suffix: str) -> Object:
        template: Object = copy.deepcopy(found["spec"]["template"])
        annotations = found["metadata"].get("annotations") or {}
        generation = annotations.get(_GENERATION) or found["metadata"].get("generation", 1)
        labels = template.setdefault("metadata", {}).setdefault("labels", {})
        labels["pod-template-generation"] = str(generation)
        labels[revisions.HASH_LABEL] = suffix
        template["spec"]["tolerations"] = daemon_tolerations(template["spec"])
        return template

    def _limits(self, found: Object, nodes: int) -> tuple[int, int]:
        """``maxSurge`` and ``maxUnavailable`` as numbers of nodes."""
        strategy = found["spec"].get("updateStrategy") or {}
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            return 0, 0
        told = strategy.get("rollingUpdate") or {}
        surge = scaled(told.get("maxSurge", 0), nodes, round_up=True)
        unavailable = scaled(told.get("maxUnavailable", 1), nodes, round_up=True)
        return surge, (1 if not surge and not unavailable else unavailable)

    def _roll(
        self,
        found: Object,
        by_node: dict[str, list[PodFacts]],
        places: dict[str, tuple[bool, bool]],
        suffix: str,
    ) -> None:
        strategy = found["spec"].get("updateStrategy") or {}
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            return
        wanted = [name for name, (run, _) in places.items() if run]
        surge, unavailable = self._limits(found, len(wanted))
        if surge:
            self._surge(found, by_node, wanted, suffix, surge)
            return
        down, old = 0, []
        for name in wanted:
            pods = [pod for pod in by_node.get(name, []) if not pod.deleting]
            pod = pods[0] if pods else None
            if pod is None or not self._available(found, pod):
                down += 1
            if pod is not None and pod.labels.get(revisions.HASH_LABEL) != suffix:
                old.append((self._available(found, pod), pod))
        for available, pod in sorted(old, key=lambda each: (each[0], each[1].name)):
            if available:
                if down >= unavailable:
                    return
                down += 1
            self.delete_pod(found, pod)

    def _surge(
        self,
        found: Object,
        by_node: dict[str, list[PodFacts]],
        wanted: list[str],
        suffix: str,
        most: int,
    ) -> None:
        """Start the successor beside the old pod; the old one goes when that is available."""
        surging, start = 0, []
        for name in wanted:
            pods = [pod for pod in by_node.get(name, []) if not pod.deleting and not pod.finished]
            new = [pod for pod in pods if pod.labels.get(revisions.HASH_LABEL) == suffix]
            old = [pod for pod in pods if pod not in new]
            if not old:
                continue
            if new and self._available(found, new[0]):
                for pod in old:
                    self.delete_pod(found, pod)
            elif new:
                surging += 1
            else:
                start.append(name)
        template = self._template(found, suffix)
        chosen = start[: max(most - surging, 0)]
        self.create_pods(found, (_for_node(pod_of(template, found), name) for name in chosen))

    def _available(self, found: Object, pod: PodFacts) -> bool:
        wait = found["spec"].get("minReadySeconds", 0)
        if pod.ready and (left := pod.ready_since + wait - self.now) > 0:
            metadata = found["metadata"]
            self.enqueue((metadata["namespace"], metadata["name"]), left)
        return pod.available(wait, self.now)

    # -- status ----------------------------------------------------------------------------------

    def _report(self, found: Object, places: dict[str, tuple[bool, bool]], suffix: str) -> None:
        by_node: dict[str, list[PodFacts]] = {}
        for pod in self.pods.of(found["metadata"]["uid"]):
            by_node.setdefault(pod.node or self._target(pod), []).append(pod)
        desired = scheduled = misplaced = ready = updated = available = 0
        for name, (run, _) in places.items():
            pods = by_node.get(name, [])
            if not run:
                misplaced += bool(pods)
                continue
            desired += 1
            if not pods:
                continue
            scheduled += 1
            pod = min(pods, key=lambda each: (each.created, each.name))
            ready += pod.ready
            available += self._available(found, pod)
            updated += pod.labels.get(revisions.HASH_LABEL) == suffix

        def mutate(status: Object) -> None:
            status["currentNumberScheduled"] = scheduled
            status["numberMisscheduled"] = misplaced
            status["desiredNumberScheduled"] = desired
            status["numberReady"] = ready
            for name, number in (
                ("updatedNumberScheduled", updated),
                ("numberAvailable", available),
                ("numberUnavailable", desired - available),
            ):
                if number:
                    status[name] = number
                else:
                    status.pop(name, None)
            status["observedGeneration"] = found["metadata"].get("generation", 1)

        self.write_status(found, mutate)


def daemon_tolerations(spec: Object) -> list[Object]:
    """A template's tolerations and those that every daemon pod has."""
    tolerations = copy.deepcopy(spec.get("tolerations") or [])
    taints = list(_TOLERATED)
    if spec.get("hostNetwork"):
        taints.append(("node.kubernetes.io/network-unavailable", "NoSchedule"))
    for key, effect in taints:
        added = {"key": key, "operator": "Exists", "effect": effect}
        if added not in tolerations:
            tolerations.append(added)
    return tolerations


def _for_node(pod: Object, name: str) -> Object:
    """Require the node in the pod's affinity, in place of what the template required."""
    only = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}
    affinity = pod["spec"].setdefault("affinity", {}).setdefault("nodeAffinity", {})
    affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [only]}
    return pod


def _suffix(revision: Object) -> str:
    return str(revision["metadata"]["labels"][revisions.HASH_LABEL])
