"""What all controllers share: replay at the start, ownership, creating pods, conditions, hashes."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import orjson

from mlk8s.sim.api import Api, DeleteOptions
from mlk8s.sim.controllers.indexes import SelectorIndex
from mlk8s.sim.controllers.pods import PodFacts, PodIndex, controller_of
from mlk8s.sim.events import Recorder
from mlk8s.sim.matching import Selector
from mlk8s.sim.runtime import Component
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

# Pods made or deleted in one turn: the real controllers take 500, in parallel; here a turn keeps
# the API server from answering.
BURST = 50
# k8s.io/apimachinery/pkg/util/rand.SafeEncodeString
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class Controller(Component):
    """A component whose keys are (namespace, name).

    Subclasses name the resources that they :attr:`watch`, and override ``keys`` and :meth:`sync`.

    Args:
        api: the cluster.
        recorder: where its events go.
        pods: the facts of all pods.
    """

    name = ""
    watch: tuple[str, ...] = ()

    def __init__(self, api: Api, recorder: Recorder, pods: PodIndex) -> None:
        super().__init__(api)
        self.recorder = recorder
        self.pods = pods

    @property
    def now(self) -> float:
        """The present time in seconds since the epoch."""
        return self.api.clock.now()

    def start(self) -> None:
        """Hear of what exists already as if it had just been added."""
        for key in self.watch:
            for (namespace, name), raw in zip(
                self.api.store.keys(key), self.api.store.raws(key), strict=True
            ):
                change = Change("ADDED", key, namespace, name, self.api.store.revision, raw, None)
                for found in self.keys(change):
                    self.enqueue(found)

    def reconcile(self, key: Hashable) -> None:
        """Look at one object."""
        assert isinstance(key, tuple)
        self.sync(*key)

    def sync(self, namespace: str, name: str) -> None:
        """Look at one object."""
        raise NotImplementedError

    def event(self, about: Object, type: str, reason: str, message: str) -> None:
        """Record an event in this controller's name."""
        self.recorder.event(about, type, reason, message, self.name)


class Workload(Controller):
    """A controller that owns pods and finds them by a selector.

    Subclasses set :attr:`resource` and :attr:`kind`; a change of a pod brings up its owner, or
    for a pod that nothing controls those that could adopt it.
    """

    resource = ""
    kind = ""

    def __init__(self, api: Api, recorder: Recorder, pods: PodIndex) -> None:
        super().__init__(api, recorder, pods)
        self._selectors = SelectorIndex()

    def selector(self, obj: Object) -> Object | None:
        """The selector of one of this controller's objects."""
        selector: Object | None = obj["spec"].get("selector")
        return selector

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The object itself, or the owner of a pod."""
        if change.key == self.resource:
            where = (change.namespace, change.name)
            if change.type == "DELETED":
                self._selectors.remove(*where)
            elif change.old is None or change.old["spec"] != change.object["spec"]:
                self._selectors.put(*where, self.selector(change.object))
            return (where,)
        if change.key == "pods":
            return self._owners(change)
        return ()

    def _owners(self, change: Change) -> Iterable[Hashable]:
        found: list[Hashable] = []
        for pod in (change.object, change.old):
            if pod is None:
                continue
            owner = controller_of(pod)
            if owner is None:
                if change.type != "DELETED" and pod is change.object:
                    labels = pod["metadata"].get("labels") or {}
                    names = self._selectors.matching(change.namespace, labels)
                    found += [(change.namespace, name) for name in names]
            elif owner["kind"] == self.kind:
                key = (change.namespace, owner["name"])
                # Many pods make many changes: they are looked at together.
                count = self.pods.count(owner["uid"])
                if count <= 100:
                    found.append(key)
                else:
                    self.enqueue(key, min(count / 5000, 1.0))
        return found

    def claim(self, obj: Object, selector: Object | None) -> list[PodFacts]:
        """The pods of an object, after adopting those that fit and releasing those that do not.

        Source: pkg/controller/controller_ref_manager.go.
        """
        metadata = obj["metadata"]
        namespace, deleting = metadata["namespace"], "deletionTimestamp" in metadata
        mine, chosen = [], Selector(selector)
        for pod in self.pods.of(metadata["uid"]):
            if chosen.matches(pod.labels):
                mine.append(pod)
            elif not deleting and not pod.deleting:
                self._release(pod, metadata["uid"])
        if deleting:
            return mine
        for pod in self.pods.orphans(namespace, chosen):
            if pod.active:
                self._adopt(pod, obj)
                adopted = self.pods.get(namespace, pod.name)
                if adopted is not None:
                    mine.append(adopted)
        return mine

    def _adopt(self, pod: PodFacts, owner: Object) -> None:
        def mutate(found: Object) -> None:
            references = found["metadata"].setdefault("ownerReferences", [])
            references.append(owner_reference(owner))

        self.api.change("pods", pod.namespace, pod.name, mutate)

    def _release(self, pod: PodFacts, uid: str) -> None:
        self.api.change("pods", pod.namespace, pod.name, lambda found: drop_owner(found, uid))

    def create_pods(self, owner: Object, pods: Iterable[Object]) -> None:
        """Create pods in batches of 1, 2, 4, …; a batch with a failure is the last.

        Raises:
            StatusError: the first failure; an event has told of each.
        """
        waiting = list(pods)
        size = 1
        while waiting:
            batch, waiting = waiting[:size], waiting[size:]
            failure: StatusError | None = None
            for pod in batch:
                try:
                    self.create_pod(owner, pod)
                except StatusError as error:
                    failure = failure or error
            if failure is not None:
                raise failure
            size *= 2

    def create_pod(self, owner: Object, pod: Object) -> Object:
        """Create one pod and tell of it, also when it fails.

        Raises:
            StatusError: what the API server said.
        """
        try:
            made = self.api.create("pods", pod, owner["metadata"]["namespace"])
        except StatusError as error:
            if not namespace_ends(error):
                self.event(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")
            raise
        self.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")
        return made

    def delete_pod(self, owner: Object, pod: PodFacts) -> None:
        """Delete one pod and tell of it.

        Raises:
            StatusError: what the API server said; a pod that is gone is none.
        """
        try:
            self.api.delete("pods", pod.namespace, pod.name, DeleteOptions(uid=pod.uid))
        except StatusError as error:
            if error.code == 404:
                return
            self.event(owner, "Warning", "FailedDelete", f"Error deleting: {error.message}")
            raise
        self.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {pod.name}")

    def write_status(self, obj: Object, mutate: Callable[[Object], None]) -> None:
        """Change the object's status; nothing is written when it stays as it is."""
        metadata = obj["metadata"]

        def change(found: Object) -> None:
            if found["metadata"]["uid"] == metadata["uid"]:
                mutate(found.setdefault("status", {}))

        self.api.change(
            self.resource, metadata["namespace"], metadata["name"], change, subresource="status"
        )


def namespace_ends(error: StatusError) -> bool:
    """Whether a creation failed because its namespace is being deleted, which is no news."""
    causes = error.details.get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


def owner_reference(owner: Object) -> Object:
    """The reference of an object that controls another and holds back its foreground deletion."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def drop_owner(obj: Object, uid: str) -> None:
    """Remove the owner reference to ``uid`` from an object."""
    references = obj["metadata"].get("ownerReferences") or []
    left = [reference for reference in references if reference["uid"] != uid]
    if left:
        obj["metadata"]["ownerReferences"] = left
    else:
        obj["metadata"].pop("ownerReferences", None)


def pod_of(template: Object, owner: Object) -> Object:
    """A pod as a template describes it, controlled by ``owner`` and named after it."""
    told = template.get("metadata") or {}
    metadata: Object = {"generateName": f"{owner['metadata']['name']}-"}
    for part in ("labels", "annotations", "finalizers"):
        if told.get(part):
            metadata[part] = copy.deepcopy(told[part])
    metadata["namespace"] = owner["metadata"]["namespace"]
    metadata["ownerReferences"] = [owner_reference(owner)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": copy.deepcopy(template["spec"]),
    }


def find_condition(status: Object, type: str) -> Object | None:
    """The condition of a type."""
    for condition in status.get("conditions") or ():
        if condition["type"] == type:
            found: Object = condition
            return found
    return None


def drop_condition(status: Object, type: str) -> None:
    """Remove the condition of a type."""
    conditions = [c for c in status.get("conditions") or () if c["type"] != type]
    if conditions:
        status["conditions"] = conditions
    else:
        status.pop("conditions", None)


def put(status: Object, **numbers: int) -> None:
    """Set counts; a count of zero is left out, as ``omitempty`` does."""
    for name, number in numbers.items():
        if number:
            status[name] = number
        else:
            status.pop(name, None)


def scaled(value: Any, total: int, round_up: bool) -> int:
    """An ``IntOrString``: a number, or a percentage of ``total``."""
    if isinstance(value, str) and value.endswith("%"):
        exact = int(value[:-1]) * total
        return math.ceil(exact / 100) if round_up else exact // 100
    return int(value)


def hash_of(value: Any, collisions: int = 0) -> str:
    """A short stable hash in the characters that Kubernetes uses in names.

    The server hashes Go's dump of its own structs, which nobody else can; so the letters differ
    from a real cluster's, their form does not.
    """
    told = orjson.dumps([value, collisions], option=orjson.OPT_SORT_KEYS)
    number = int.from_bytes(hashlib.sha256(told).digest()[:4], "big")
    return "".join(_ALPHABET[ord(digit) % len(_ALPHABET)] for digit in str(number))
