"""Serves custom resources: a definition that is created becomes part of the API.

It decides whether the names are free, says so in the definition's status, and removes all objects
of a kind whose definition is deleted, as the controllers of ``apiextensions-apiserver`` do.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from mlk8s.sim import crd
from mlk8s.sim.api import Api
from mlk8s.sim.resources import Resource
from mlk8s.sim.runtime import Component
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

KEY = "customresourcedefinitions.apiextensions.k8s.io"
# How many objects of a deleted kind are removed before other components get their turn.
_AT_ONCE = 100


class CustomResources(Component):
    """Registers the resources of every CustomResourceDefinition.

    Args:
        api: the cluster.
    """

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self._served: dict[str, list[Resource]] = {}
        self._generations: dict[str, int] = {}
        self._ending: dict[str, str] = {}

    def keys(self, change: Change) -> Iterable[Hashable]:
        """Definitions, and those whose last objects are going."""
        if change.key == KEY:
            return (change.name,)
        if change.type == "DELETED" and change.key in self._ending:
            return (self._ending[change.key],)
        return ()

    def reconcile(self, key: Hashable) -> None:
        """Serve a definition as it is now, or clean up behind one that is deleted."""
        name = str(key)
        definition = self.api.find(KEY, "", name)
        if definition is None:
            self._clean_up(name)
        elif "deletionTimestamp" in definition["metadata"]:
            self._finish(definition)
        else:
            self._serve(definition)

    # -- serving ---------------------------------------------------------------------------------

    def _serve(self, definition: Object) -> None:
        name, spec = definition["metadata"]["name"], definition["spec"]
        conflict = self._conflict(name, spec)
        generation = definition["metadata"].get("generation", 0)
        if not conflict and self._generations.get(name) != generation:
            self._register(name, spec)
            self._generations[name] = generation
        self._write_status(definition, conflict)

    def _register(self, name: str, spec: Object) -> None:
        for resource in self._served.get(name, ()):
            self.api.registry.remove(resource)
            self.api.schemas.remove(resource)
        served = []
        # The stored version first: it is the one under which components find the resource.
        for version in sorted(spec["versions"], key=lambda version: not version.get("storage")):
            if not version.get("served"):
                continue
            resource = _resource(spec, version)
            self.api.schemas.add(resource, version["schema"]["openAPIV3Schema"])
            self.api.registry.add(resource)
            served.append(resource)
        self._served[name] = served

    def _conflict(self, name: str, spec: Object) -> tuple[str, str] | None:
        """Reason and message when another resource of the group has one of the names."""
        mine = _resource(spec, {"name": ""})
        for other in self.api.registry:
            if other.group != mine.group or other.key == mine.key:
                continue
            taken = {other.plural, other.singular, *other.short}
            for value, reason in (
                (mine.plural, "PluralConflict"),
                (mine.singular, "SingularConflict"),
                *((short, "ShortNamesConflict") for short in mine.short),
            ):
                if value in taken:
                    return reason, f'"{value}" is already in use'
            kinds = {other.kind, f"{other.kind}List"}
            if mine.kind in kinds:
                return "KindConflict", f'"{mine.kind}" is already in use'
            if (listed := spec["names"].get("listKind")) in kinds:
                return "ListKindConflict", f'"{listed}" is already in use'
        return None

    def _write_status(self, definition: Object, conflict: tuple[str, str] | None) -> None:
        spec, now = definition["spec"], self.api.timestamp()
        stored = next(v["name"] for v in spec["versions"] if v.get("storage"))
        status = definition.get("status") or {}
        wanted = dict(status)
        if conflict is None:
            wanted["acceptedNames"] = _names(spec)
            conditions = [
                ("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
                (
                    "Established",
                    "True",
                    "InitialNamesAccepted",
                    "the initial names have been accepted",
                ),
            ]
        else:
            wanted.setdefault("acceptedNames", {"plural": "", "kind": ""})
            conditions = [("NamesAccepted", "False", *conflict)]
            if not _is_true(status, "Established"):
                message = "not all names are accepted"
                conditions.append(("Established", "False", "NotAccepted", message))
        for condition in conditions:
            wanted["conditions"] = _with_condition(wanted.get("conditions"), *condition, now)
        versions = list(status.get("storedVersions") or ())
        wanted["storedVersions"] = versions if stored in versions else [*versions, stored]
        if wanted != status:
            self._set_status(definition, wanted)

    def _set_status(self, definition: Object, status: Object) -> None:
        def write(obj: Object) -> None:
            obj["status"] = status

        self.api.change(KEY, "", definition["metadata"]["name"], write, subresource="status")

    # -- ending ----------------------------------------------------------------------------------

    def _finish(self, definition: Object) -> None:
        metadata = definition["metadata"]
        name = metadata["name"]
        if crd.CLEANUP not in metadata.get("finalizers", ()):
            return
        if name not in self._served:
            self._register(name, definition["spec"])
        self._ending[_resource(definition["spec"], {"name": ""}).key] = name
        status, now = definition.get("status") or {}, self.api.timestamp()
        if not _is_true(status, "Terminating"):
            conditions = _with_condition(
                status.get("conditions"),
                "Terminating",
                "True",
                "InstanceDeletionInProgress",
                "CustomResource deletion is in progress",
                now,
            )
            self._set_status(definition, {**status, "conditions": conditions})
        if not self._remove_objects(name):
            return

        def release(obj: Object) -> None:
            obj["metadata"]["finalizers"] = [
                held for held in obj["metadata"].get("finalizers", ()) if held != crd.CLEANUP
            ]

        self.api.change(KEY, "", name, release)

    def _clean_up(self, name: str) -> None:
        """Forget a definition that is gone, and what is left of its objects."""
        if name not in self._served:
            return
        for resource in self._served[name][:1]:
            for namespace, object_name in self.api.store.keys(resource.key):
                self.api.store.remove(resource.key, namespace, object_name)
            self._ending.pop(resource.key, None)
        for resource in self._served.pop(name):
            self.api.registry.remove(resource)
            self.api.schemas.remove(resource)
        self._generations.pop(name, None)

    def _remove_objects(self, name: str) -> bool:
        """Delete some of a kind's objects; gives whether none is left."""
        if not self._served[name]:
            return True
        resource = self._served[name][0]
        deleted = 0
        for namespace, object_name in self.api.store.keys(resource.key):
            obj = self.api.find(resource.key, namespace, object_name)
            if obj is None or "deletionTimestamp" in obj["metadata"]:
                continue
            if deleted == _AT_ONCE:
                self.enqueue(name)
                return False
            try:
                self.api.delete(resource, namespace, object_name)
            except StatusError as error:
                if error.code != 404:
                    raise
            deleted += 1
        return self.api.store.count(resource.key) == 0


def _resource(spec: Object, version: Object) -> Resource:
    names = spec["names"]
    return Resource(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        plural=names["plural"],
        singular=names.get("singular") or names["kind"].lower(),
        namespaced=spec["scope"] == "Namespaced",
        short=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=tuple(sorted(version.get("subresources") or ())),
    )


def _names(spec: Object) -> Object:
    """The accepted names, with what is said of none of them left out."""
    names = spec["names"]
    accepted = {
        "plural": names["plural"],
        "singular": names.get("singular") or names["kind"].lower(),
        "shortNames": names.get("shortNames"),
        "kind": names["kind"],
        "listKind": names.get("listKind") or f"{names['kind']}List",
        "categories": names.get("categories"),
    }
    return {name: value for name, value in accepted.items() if value}


def _is_true(status: Object, kind: str) -> bool:
    return any(
        condition["type"] == kind and condition["status"] == "True"
        for condition in status.get("conditions") or ()
    )


def _with_condition(
    conditions: list[Object] | None, kind: str, status: str, reason: str, message: str, now: str
) -> list[Object]:
    kept, since = [], now
    place = None
    for index, condition in enumerate(conditions or ()):
        if condition["type"] == kind:
            place = index
            if condition["status"] == status:
                since = condition.get("lastTransitionTime", now)
        kept.append(condition)
    new = {
        "type": kind,
        "status": status,
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }
    if place is None:
        return [*kept, new]
    kept[place] = new
    return kept
