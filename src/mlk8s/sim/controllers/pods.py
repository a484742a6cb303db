"""What controllers need to know of every pod, kept up to date change by change.

A controller that counted its pods by reading them would parse a thousand pods for each change of
one of them. :class:`PodIndex` keeps the dozen facts that counting needs, by owner and by label.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from mlk8s.sim.clock import seconds
from mlk8s.sim.controllers.indexes import LabelIndex
from mlk8s.sim.matching import Selector
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change, Store

TRACKING_FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
_COST_ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"


@dataclass(frozen=True, slots=True)
class PodFacts:
    """One pod, as far as controllers count it.

    Attributes:
        owner: uid of the controlling owner, or ``""``.
        ready_since: when the Ready condition became true, in seconds since the epoch.
        created: in seconds since the epoch.
        restarts: of all containers together.
        cost: annotation ``controller.kubernetes.io/pod-deletion-cost``.
        tracked: has the finalizer that holds it until its Job has counted it.
        index: completion index of an Indexed Job, or -1.
    """

    namespace: str
    name: str
    uid: str
    labels: dict[str, str]
    owner: str
    phase: str
    ready: bool
    ready_since: float
    created: float
    deleting: bool
    node: str
    restarts: int
    cost: int
    tracked: bool
    index: int

    @property
    def finished(self) -> bool:
        """Whether it ran to its end, well or not."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def active(self) -> bool:
        """Whether it counts as a replica."""
        return not self.finished and not self.deleting

    @property
    def terminating(self) -> bool:
        """Whether it is being deleted and has not ended yet."""
        return self.deleting and not self.finished

    def available(self, min_ready_seconds: float, now: float) -> bool:
        """Whether it has been ready for long enough."""
        return self.ready and now - self.ready_since >= min_ready_seconds


def facts_of(pod: Object) -> PodFacts:
    """The facts of one pod."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    annotations = metadata.get("annotations") or {}
    owner = controller_of(pod)
    ready, since = False, 0.0
    for condition in status.get("conditions") or ():
        if condition["type"] == "Ready" and condition["status"] == "True":
            ready = True
            since = seconds(condition.get("lastTransitionTime") or metadata["creationTimestamp"])
    statuses = (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])
    return PodFacts(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        labels=metadata.get("labels") or {},
        owner=owner["uid"] if owner else "",
        phase=status.get("phase") or "Pending",
        ready=ready,
        ready_since=since,
        created=seconds(metadata["creationTimestamp"]),
        deleting="deletionTimestamp" in metadata,
        node=pod["spec"].get("nodeName") or "",
        restarts=sum(container.get("restartCount", 0) for container in statuses),
        cost=_number(annotations.get(_COST_ANNOTATION), 0),
        tracked=TRACKING_FINALIZER in (metadata.get("finalizers") or ()),
        index=_number(annotations.get(INDEX_ANNOTATION), -1),
    )


def controller_of(obj: Object) -> Object | None:
    """The owner reference of the object that controls this one."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            found: Object = reference
            return found
    return None


def _number(text: str | None, otherwise: int) -> int:
    if text is None:
        return otherwise
    try:
        return int(text)
    except ValueError:
        return otherwise


class PodIndex:
    """The facts of all pods, by name, by owner and by label.

    It hears of a change before any component that is created after it does.

    Args:
        store: the cluster's state.
    """

    def __init__(self, store: Store) -> None:
        self._facts: dict[tuple[str, str], PodFacts] = {}
        self._owned: dict[str, dict[tuple[str, str], PodFacts]] = {}
        self._labels = LabelIndex()
        self._orphans = LabelIndex()
        for raw in store.raws("pods"):
            self._put(facts_of(orjson.loads(raw)))
        store.subscribe(self._hear)

    def get(self, namespace: str, name: str) -> PodFacts | None:
        """The facts of one pod."""
        return self._facts.get((namespace, name))

    def of(self, owner: str) -> list[PodFacts]:
        """The pods that an owner controls, by its uid; the oldest first."""
        return list(self._owned.get(owner, {}).values())

    def count(self, owner: str) -> int:
        """How many pods an owner controls."""
        return len(self._owned.get(owner, ()))

    def select(self, namespace: str, selector: Selector) -> list[PodFacts]:
        """The pods of a namespace that a selector matches, by name."""
        return self._named(namespace, self._labels.select(namespace, selector))

    def orphans(self, namespace: str, selector: Selector) -> list[PodFacts]:
        """Those of :meth:`select` that nothing controls."""
        return self._named(namespace, self._orphans.select(namespace, selector))

    def _named(self, namespace: str, names: Iterable[str]) -> list[PodFacts]:
        return [self._facts[namespace, name] for name in names]

    def _hear(self, change: Change) -> None:
        if change.key != "pods":
            return
        old = self._facts.get((change.namespace, change.name))
        if change.type == "DELETED":
            if old is not None:
                self._remove(old)
            return
        new = facts_of(change.object)
        if new != old:
            if old is not None and old.owner != new.owner:
                self._remove(old)
            self._put(new)

    def _put(self, facts: PodFacts) -> None:
        where = (facts.namespace, facts.name)
        self._facts[where] = facts
        self._labels.put(*where, facts.labels)
        if facts.owner:
            self._owned.setdefault(facts.owner, {})[where] = facts
        else:
            self._orphans.put(*where, facts.labels)

    def _remove(self, facts: PodFacts) -> None:
        where = (facts.namespace, facts.name)
        del self._facts[where]
        self._labels.remove(*where)
        if not facts.owner:
            self._orphans.remove(*where)
            return
        owned = self._owned[facts.owner]
        del owned[where]
        if not owned:
            del self._owned[facts.owner]
