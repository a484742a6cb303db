"""The garbage collector: objects go when their owners have gone, or before them, or are let go.

Source of the rules: pkg/controller/garbagecollector/garbagecollector.go.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import orjson

from mlk8s.sim.api import FOREGROUND, ORPHAN, DeleteOptions
from mlk8s.sim.controllers.base import Controller, drop_owner
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

# Dependents let go in one turn.
_BURST = 50


class GarbageCollector(Controller):
    """Follows owner references.

    Its keys are an object to judge by its owners, an owner that is gone, and an owner that waits
    for its dependents.
    """

    name = "garbage-collector-controller"

    def start(self) -> None:
        """Judge what exists already."""
        for resource in self.api.registry:
            for namespace, name in self.api.store.keys(resource.key):
                self.enqueue(("judge", resource.key, namespace, name))

    def keys(self, change: Change) -> Iterable[Hashable]:
        """What a change has to do with ownership; most changes have nothing."""
        metadata = change.object["metadata"]
        found: list[Hashable] = []
        references = metadata.get("ownerReferences") or []
        if change.type == "DELETED":
            if self.api.store.owned(metadata["uid"]):
                found.append(("gone", metadata["uid"]))
            for reference in references:
                found += self._waiting(reference, change.namespace)
            return found
        before = (change.old or {}).get("metadata", {}).get("ownerReferences") or []
        if references and references != before:
            found.append(("judge", change.key, change.namespace, change.name))
        if before != references:
            for reference in before:
                found += self._waiting(reference, change.namespace)
        finalizers = metadata.get("finalizers") or ()
        if "deletionTimestamp" in metadata and (FOREGROUND in finalizers or ORPHAN in finalizers):
            found.append(("owner", change.key, change.namespace, change.name))
        return found

    def _waiting(self, reference: Object, namespace: str) -> list[Hashable]:
        """The key of an owner that is being deleted and may have waited for this dependent."""
        resource = self.api.registry.of_kind(reference["apiVersion"], reference["kind"])
        if resource is None:
            return []
        space = namespace if resource.namespaced else ""
        raw = self.api.store.raw(resource.key, space, reference["name"])
        if raw is None or b'"deletionTimestamp"' not in raw:
            return []
        return [("owner", resource.key, space, reference["name"])]

    def reconcile(self, key: Hashable) -> None:
        """Carry out one of the three kinds of key."""
        assert isinstance(key, tuple)
        if key[0] == "gone":
            for dependent in self.api.store.owned(key[1]):
                self.enqueue(("judge", *dependent))
        elif key[0] == "judge":
            self._judge(*key[1:])
        else:
            self._release(*key[1:])

    # -- dependents ------------------------------------------------------------------------------

    def _judge(self, key: str, namespace: str, name: str) -> None:
        """Delete an object none of whose owners exists, or whose owners wait for it."""
        obj = self.api.find(key, namespace, name)
        if obj is None:
            return
        metadata = obj["metadata"]
        references = metadata.get("ownerReferences") or []
        if not references:
            return
        solid, waiting, absent = [], [], []
        for reference in references:
            owner = self._owner(reference, namespace)
            if owner is None:
                absent.append(reference)
            elif FOREGROUND in (owner.get("finalizers") or ()) and "deletionTimestamp" in owner:
                waiting.append(reference)
            else:
                solid.append(reference)
        if solid:
            if absent or waiting:
                self._drop(key, obj, [each["uid"] for each in absent + waiting])
            return
        if "deletionTimestamp" in metadata and not waiting:
            return
        finalizers = metadata.get("finalizers") or ()
        dependents = bool(self.api.store.owned(metadata["uid"]))
        if waiting and dependents:
            policy = "Foreground"
        elif ORPHAN in finalizers:
            policy = "Orphan"
        elif FOREGROUND in finalizers:
            policy = "Foreground"
        else:
            policy = "Background"
        if "deletionTimestamp" in metadata and (policy != "Foreground" or FOREGROUND in finalizers):
            return
        self._delete(key, obj, policy)

    def _owner(self, reference: Object, namespace: str) -> Object | None:
        """The metadata of an owner; of a kind that is not served it counts as present."""
        resource = self.api.registry.of_kind(reference["apiVersion"], reference["kind"])
        if resource is None:
            return {}
        space = namespace if resource.namespaced else ""
        raw = self.api.store.raw(resource.key, space, reference["name"])
        if raw is None:
            return None
        metadata: Object = orjson.loads(raw)["metadata"]
        return metadata if metadata["uid"] == reference["uid"] else None

    def _drop(self, key: str, obj: Object, uids: list[str]) -> None:
        def mutate(found: Object) -> None:
            for uid in uids:
                drop_owner(found, uid)

        metadata = obj["metadata"]
        self.api.change(key, metadata.get("namespace", ""), metadata["name"], mutate)

    def _delete(self, key: str, obj: Object, policy: str) -> None:
        metadata = obj["metadata"]
        options = DeleteOptions(propagation=policy, uid=metadata["uid"])
        try:
            self.api.delete(key, metadata.get("namespace", ""), metadata["name"], options)
        except StatusError as error:
            if error.code not in (404, 409):
                raise

    # -- owners ----------------------------------------------------------------------------------

    def _release(self, key: str, namespace: str, name: str) -> None:
        """Move on an owner that is deleted in the foreground, or without its dependents."""
        owner = self.api.find(key, namespace, name)
        if owner is None or "deletionTimestamp" not in owner["metadata"]:
            return
        metadata = owner["metadata"]
        finalizers = metadata.get("finalizers") or ()
        dependents = self.api.store.owned(metadata["uid"])
        if ORPHAN in finalizers:
            for dependent in dependents[:_BURST]:
                self.api.change(*dependent, lambda obj: drop_owner(obj, metadata["uid"]))
            if len(dependents) > _BURST:
                self.enqueue(("owner", key, namespace, name))
            else:
                self._unhold(key, owner, ORPHAN)
        elif FOREGROUND in finalizers:
            blocking = 0
            for dependent in dependents:
                raw = self.api.store.raw(*dependent)
                if raw is None:
                    continue
                found = orjson.loads(raw)["metadata"]
                blocking += any(
                    reference["uid"] == metadata["uid"] and reference.get("blockOwnerDeletion")
                    for reference in found["ownerReferences"]
                )
                if "deletionTimestamp" not in found:
                    self.enqueue(("judge", *dependent))
            if not blocking:
                self._unhold(key, owner, FOREGROUND)

    def _unhold(self, key: str, owner: Object, finalizer: str) -> None:
        def mutate(found: Object) -> None:
            left = [f for f in found["metadata"].get("finalizers") or () if f != finalizer]
            if left:
                found["metadata"]["finalizers"] = left
            else:
                found["metadata"].pop("finalizers", None)

        metadata = owner["metadata"]
        self.api.change(key, metadata.get("namespace", ""), metadata["name"], mutate)
