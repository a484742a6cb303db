"""Managers: the decoded form of ``managedFields``, and how ownership passes between them.

The rules are those of ``k8s.io/apimachinery/pkg/util/managedfields``. When a request is recorded,
and what an apply does, is in :mod:`mlk8s.sim.apply`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from mlk8s.sim import fields, fieldset, typed
from mlk8s.sim.clock import seconds
from mlk8s.sim.fieldset import Filter, Path, Paths
from mlk8s.sim.resources import Resource
from mlk8s.sim.schema import Schema, named
from mlk8s.sim.status import Object, StatusError

_MOST_UPDATERS = 10
_ANCIENT = "ancient-changes"
# Set by the server, or naming the object: nobody owns them.
UNOWNED: Paths = {("f:apiVersion",), ("f:kind",), ("f:metadata",)} | {
    ("f:metadata", f"f:{name}")
    for name in (
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    )
}
# Parts of the metadata that a write of the status does not change.
_STATUS_KEEPS = {
    "pods": {"f:deletionTimestamp", "f:ownerReferences"},
    "deployments.apps": {"f:labels"},
}
_STATUS_KEEPS_METADATA = {
    "resourceclaims.resource.k8s.io",
    "customresourcedefinitions.apiextensions.k8s.io",
}


@dataclass(frozen=True)
class Manager:
    """Who wrote, and how; an updater of another version is another manager."""

    name: str
    operation: str
    version: str = ""
    subresource: str = ""

    def __str__(self) -> str:
        text = _quoted(self.name)
        if self.subresource:
            text += f" with subresource {_quoted(self.subresource)}"
        return f"{text} using {self.version}" if self.operation == "Update" else text


@dataclass
class Owned:
    """What a manager owns, in which version, and since when; ``time`` may be empty."""

    paths: Paths
    version: str
    time: str = ""


@dataclass
class Managers:
    """The decoded ``managedFields`` of an object."""

    owned: dict[Manager, Owned] = field(default_factory=dict)

    @classmethod
    def decoded(cls, entries: Any) -> Managers:
        """The managers of an object; none when an entry is malformed, as the server has it."""
        found = cls()
        for entry in entries or ():
            operation, version = entry.get("operation"), entry.get("apiVersion")
            if operation not in ("Apply", "Update") or not version:
                return cls()
            if entry.get("fieldsType") != "FieldsV1":
                return cls()
            manager = Manager(
                entry.get("manager", ""),
                operation,
                version if operation == "Update" else "",
                entry.get("subresource", ""),
            )
            paths = fieldset.decode(entry.get("fieldsV1") or {})
            found.owned[manager] = Owned(paths, version, entry.get("time") or "")
        return found

    def encoded(self) -> list[Object]:
        """The ``managedFields``, in the server's order."""
        entries = []
        for manager, owned in sorted(self.owned.items(), key=_entry_order):
            entry: Object = {
                "manager": manager.name,
                "operation": manager.operation,
                "apiVersion": owned.version,
            }
            if owned.time:
                entry["time"] = owned.time
            entry |= {"fieldsType": "FieldsV1", "fieldsV1": fieldset.encode(owned.paths)}
            if manager.subresource:
                entry["subresource"] = manager.subresource
            entries.append(entry)
        return entries

    def write_to(self, obj: Object) -> None:
        """Put them into an object; leave none when there are none."""
        if self.owned:
            obj["metadata"]["managedFields"] = self.encoded()
        else:
            obj["metadata"].pop("managedFields", None)

    def drop_empty(self) -> None:
        """Forget managers that own nothing any more."""
        self.owned = {manager: owned for manager, owned in self.owned.items() if owned.paths}


def _entry_order(item: tuple[Manager, Owned]) -> tuple[str, float, str, str, str]:
    manager, owned = item
    when = float(int(seconds(owned.time))) if owned.time else 0.0
    return (manager.operation, when, manager.name, owned.version, manager.subresource)


class Conflicts(Exception):
    """Fields that others own with another value."""

    def __init__(self, found: list[tuple[Manager, Path]]) -> None:
        super().__init__("conflicts")
        self.found = found

    def as_error(self) -> StatusError:
        """409, naming every field and its manager."""
        if len(self.found) == 1:
            manager, path = self.found[0]
            what = f"1 conflict: conflict with {manager}: {fieldset.shown(path)}"
        else:
            by_manager: dict[Manager, list[Path]] = {}
            for manager, path in self.found:
                by_manager.setdefault(manager, []).append(path)
            lines = []
            for manager, paths in by_manager.items():
                lines.append(f"conflicts with {manager}:")
                lines += [f"- {fieldset.shown(path)}" for path in paths]
            what = f"{len(self.found)} conflicts: " + "\n".join(lines)
        causes = [
            {
                "reason": "FieldManagerConflict",
                "message": f"conflict with {manager}",
                "field": fieldset.shown(path),
            }
            for manager, path in self.found
        ]
        return StatusError(409, "Conflict", f"Apply failed with {what}", {"causes": causes})


@dataclass(frozen=True)
class Scope:
    """What a write is about: its resource's schema, and the fields that it can change."""

    schema: Schema
    resource: Resource
    subresource: str

    def kept(self) -> Filter | None:
        """Which fields the write can own; ``None`` when all."""
        resource = self.resource
        if self.subresource == "status":
            if resource.custom:
                return lambda path: path[0] == "f:status"
            reset = _STATUS_KEEPS.get(resource.key, set())
            whole = resource.key in _STATUS_KEEPS_METADATA

            def in_status(path: Path) -> bool:
                if path[0] == "f:metadata":
                    return not whole and not (len(path) > 1 and path[1] in reset)
                return path[0] in ("f:status", "f:apiVersion", "f:kind")

            return in_status
        if resource.has_status and not self.subresource:
            return lambda path: path[0] != "f:status"
        return None

    def live(self, obj: Object | None) -> Object:
        """An object as the server holds it: with what it writes even when it is empty."""
        held = {} if obj is None else dict(obj)
        if "metadata" in held:
            metadata = dict(held["metadata"])
            metadata.pop("managedFields", None)
            held["metadata"] = metadata
        return held if self.resource.custom else _as_held(held, self.schema)


def take(
    live: Object,
    new: Object,
    managers: Managers,
    writer: Manager | None,
    scope: Scope,
    force: bool,
) -> typed.Comparison:
    """Take from all others what a write changes or removes.

    Raises:
        Conflicts: they own it, and the write may not force.
    """
    change = typed.compare(live, new, scope.schema)
    change.keep(scope.kept())
    written = change.modified | change.added
    others = [(manager, owned) for manager, owned in managers.owned.items() if manager != writer]
    conflicts = [
        (manager, path)
        for manager, owned in sorted(others, key=_entry_order)
        for path in fieldset.ordered(owned.paths & written)
    ]
    if conflicts and not force:
        raise Conflicts(sorted(conflicts, key=lambda found: found[0].name))
    for _, owned in others:
        owned.paths = owned.paths - written - change.removed
    return change


def cap(managers: Managers) -> None:
    """Merge the oldest updaters into one when there are too many of them."""
    updaters = [item for item in managers.owned.items() if item[0].operation == "Update"]
    excess = len(updaters) - _MOST_UPDATERS
    if excess <= 0:
        return
    updaters.sort(key=lambda item: (_entry_order(item)[1], item[0].name, item[0].version))
    first: dict[str, Manager] = {}
    for manager, owned in updaters:
        if excess <= 0:
            return
        bucket = Manager(_ANCIENT, "Update", owned.version)
        if owned.version not in first:
            first[owned.version] = manager
            continue
        if bucket not in managers.owned:
            managers.owned[bucket] = managers.owned.pop(first[owned.version])
        merged = managers.owned[bucket]
        merged.paths = merged.paths | owned.paths
        merged.time = owned.time
        managers.owned.pop(manager, None)
        excess -= 1


@cache
def _always_written(definition: str) -> tuple[tuple[str, bool], ...]:
    """Properties that Go writes even when they are empty, and whether each is a struct.

    The others are lists that have to be set, which it writes as null.
    """
    schema, known = named(definition), fields.of(definition)
    structs = [
        (name, True)
        for name, below in schema.properties.items()
        if below.properties and name in known and not known[name].pointer
    ]
    lists = [
        (name, False)
        for name, below in schema.properties.items()
        if below.type == "array" and name in schema.required
    ]
    return (*structs, *lists)


def _as_held(obj: Object, schema: Schema) -> Object:
    if not schema.definition:
        return obj
    held = dict(obj)
    for name, struct in _always_written(schema.definition):
        below = schema.property(name)
        assert below is not None
        if struct:
            held[name] = _as_held(held.get(name) or {}, below)
        else:
            held.setdefault(name, None)
    return held


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
