"""The cluster's state: objects as JSON bytes, one revision counter, and a log of changes.

Readers get copies of their own, so no caller can change what is stored but by writing it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import orjson
from sortedcontainers import SortedDict

from mlk8s.sim.status import Object

# How many changes of one resource a watch may lag behind before it gets 410 Gone.
LOG_LENGTH = 10_000

Subscriber = Callable[["Change"], None]


@dataclass(frozen=True)
class Change:
    """One change of one object.

    Attributes:
        type: ``ADDED``, ``MODIFIED`` or ``DELETED``.
        key: which resource, as :attr:`mlk8s.sim.resources.Resource.key`.
        revision: the store's revision after it; the object's ``resourceVersion``.
        raw: the object as JSON; for ``DELETED`` its last state, with the revision of the deletion.
        old_raw: the object before it; ``None`` for ``ADDED``.
    """

    type: str
    key: str
    namespace: str
    name: str
    revision: int
    raw: bytes
    old_raw: bytes | None

    @cached_property
    def object(self) -> Object:
        """The object, shared by all who look at this change: not to be changed."""
        parsed: Object = orjson.loads(self.raw)
        return parsed

    @cached_property
    def old(self) -> Object | None:
        """The object before the change, shared: not to be changed."""
        return None if self.old_raw is None else orjson.loads(self.old_raw)


class TooOld(Exception):
    """The log no longer reaches back to the revision asked for."""


class Store:
    """Objects of all resources, by resource key, namespace and name.

    A cluster-scoped object has the namespace ``""``. Every write raises the revision by one and
    is told to subscribers before it returns.
    """

    def __init__(self) -> None:
        self.revision = 1
        self._objects: dict[str, SortedDict[tuple[str, str], bytes]] = {}
        self._logs: dict[str, deque[Change]] = {}
        self._forgotten: dict[str, int] = {}
        self._subscribers: list[Subscriber] = []
        self._owned: dict[str, set[tuple[str, str, str]]] = {}
        self._on_node: dict[str, set[tuple[str, str]]] = {}

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call ``subscriber`` with every change to come; gives the function that ends it."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def get(self, key: str, namespace: str, name: str) -> Object | None:
        """A copy of one object."""
        raw = self.raw(key, namespace, name)
        return None if raw is None else orjson.loads(raw)

    def raw(self, key: str, namespace: str, name: str) -> bytes | None:
        """One object as JSON."""
        found: bytes | None = self._objects.get(key, {}).get((namespace, name))
        return found

    def keys(self, key: str, namespace: str | None = None) -> list[tuple[str, str]]:
        """(namespace, name) of each object, in order; ``None`` is every namespace."""
        objects = self._objects.get(key)
        if objects is None:
            return []
        if namespace is None:
            return list(objects)
        return list(objects.irange((namespace, ""), (namespace + "\0", ""), (True, False)))

    def raws(self, key: str, namespace: str | None = None) -> list[bytes]:
        """The objects of a resource as JSON, in order of namespace and name."""
        objects = self._objects.get(key)
        if objects is None:
            return []
        if namespace is None:
            return list(objects.values())
        return [objects[where] for where in self.keys(key, namespace)]

    def items(self, key: str, namespace: str | None = None) -> Iterator[Object]:
        """Copies of the objects of a resource, in order of namespace and name."""
        for raw in self.raws(key, namespace):
            yield orjson.loads(raw)

    def count(self, key: str, namespace: str | None = None) -> int:
        """How many objects of a resource there are."""
        return len(self._objects.get(key, ()) if namespace is None else self.keys(key, namespace))

    def total(self) -> int:
        """How many objects there are."""
        return sum(map(len, self._objects.values()))

    def owned(self, uid: str) -> list[tuple[str, str, str]]:
        """(resource key, namespace, name) of the objects with an owner reference to ``uid``."""
        return sorted(self._owned.get(uid, ()))

    def pods_on(self, node: str) -> list[Object]:
        """The pods bound to a node."""
        return [
            orjson.loads(self._objects["pods"][where])
            for where in sorted(self._on_node.get(node, ()))
        ]

    def write(self, key: str, obj: Object) -> Object:
        """Add or replace an object; sets its ``resourceVersion`` and gives it back.

        Kind and apiVersion come first in the stored JSON, so that a list can leave them out of
        its items without parsing them.
        """
        metadata = obj["metadata"]
        where = (metadata.get("namespace", ""), metadata["name"])
        self.revision += 1
        metadata["resourceVersion"] = str(self.revision)
        obj = {"kind": obj["kind"], "apiVersion": obj["apiVersion"], **obj}
        raw = orjson.dumps(obj)
        objects = self._objects.setdefault(key, SortedDict())
        old = objects.get(where)
        objects[where] = raw
        change = Change(
            "ADDED" if old is None else "MODIFIED", key, *where, self.revision, raw, old
        )
        if old is None or change.old is None:
            self._index(key, where, obj)
        else:
            before, after = change.old["metadata"], metadata
            if before.get("ownerReferences") != after.get("ownerReferences") or (
                key == "pods" and change.old["spec"].get("nodeName") != obj["spec"].get("nodeName")
            ):
                self._unindex(key, where, change.old)
                self._index(key, where, obj)
        self._tell(change)
        return obj

    def remove(self, key: str, namespace: str, name: str) -> Object:
        """Remove an object for good; gives its last state."""
        objects = self._objects[key]
        old = objects.pop((namespace, name))
        self.revision += 1
        obj: Object = orjson.loads(old)
        self._unindex(key, (namespace, name), obj)
        obj["metadata"]["resourceVersion"] = str(self.revision)
        self._tell(Change("DELETED", key, namespace, name, self.revision, orjson.dumps(obj), old))
        return obj

    def since(self, key: str, revision: int) -> list[Change]:
        """The changes of a resource after a revision.

        Raises:
            TooOld: some of them have been forgotten.
        """
        if revision < self._forgotten.get(key, 0):
            raise TooOld
        found: list[Change] = []
        for change in reversed(self._logs.get(key, ())):
            if change.revision <= revision:
                break
            found.append(change)
        found.reverse()
        return found

    def at(self, key: str, namespace: str | None, revision: int) -> list[bytes]:
        """The objects of a resource as they were at a revision, as :meth:`raws` gives them.

        Raises:
            TooOld: the log does not reach back so far.
        """
        changes = self.since(key, revision)
        if not changes:
            return self.raws(key, namespace)
        objects = dict(self._objects.get(key, {}))
        for change in reversed(changes):
            where = (change.namespace, change.name)
            if change.old_raw is None:
                objects.pop(where, None)
            else:
                objects[where] = change.old_raw
        return [objects[at] for at in sorted(objects) if namespace in (None, at[0])]

    def compact(self) -> None:
        """Forget the log: a watch from an older revision gets 410 Gone, as after etcd's."""
        for key in self._logs:
            self._forgotten[key] = self.revision
            self._logs[key].clear()

    def _tell(self, change: Change) -> None:
        log = self._logs.setdefault(change.key, deque())
        log.append(change)
        while len(log) > LOG_LENGTH:
            self._forgotten[change.key] = log.popleft().revision
        for subscriber in list(self._subscribers):
            subscriber(change)
        # The log keeps the bytes; as parsed objects ten thousand changes would take ten times more.
        vars(change).pop("object", None)
        vars(change).pop("old", None)

    def _index(self, key: str, where: tuple[str, str], obj: Object) -> None:
        for owner in obj["metadata"].get("ownerReferences") or ():
            self._owned.setdefault(owner["uid"], set()).add((key, *where))
        if key == "pods" and (node := obj["spec"].get("nodeName")):
            self._on_node.setdefault(node, set()).add(where)

    def _unindex(self, key: str, where: tuple[str, str], obj: Object) -> None:
        for owner in obj["metadata"].get("ownerReferences") or ():
            owned = self._owned.get(owner["uid"], set())
            owned.discard((key, *where))
            if not owned:
                self._owned.pop(owner["uid"], None)
        if key == "pods" and (node := obj["spec"].get("nodeName")):
            on_node = self._on_node.get(node, set())
            on_node.discard(where)
            if not on_node:
                self._on_node.pop(node, None)
