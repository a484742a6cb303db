"""Who owns which field: server-side apply, and ``managedFields`` of every other write.

The rules are those of ``k8s.io/apimachinery/pkg/util/managedfields``, and for what an apply removes
those of ``sigs.k8s.io/structured-merge-diff/merge``. Managers and their sets are in
:mod:`mlk8s.sim.managers`, what a schema makes of an object in :mod:`mlk8s.sim.typed`.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlk8s.sim import crd, fieldset, typed
from mlk8s.sim.fieldset import Paths
from mlk8s.sim.managers import UNOWNED, Conflicts, Manager, Managers, Owned, Scope, cap, take
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object, StatusError, bad_request, required, unprocessable

if TYPE_CHECKING:
    from mlk8s.sim.api import Api

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_ANNOTATIONS_LIMIT = 256 * 1024
_BEFORE_FIRST_APPLY = "before-first-apply"


def track(
    old: Object | None,
    new: Object,
    resource: Resource,
    api: Api,
    manager: str,
    subresource: str,
) -> None:
    """Record in ``managedFields`` what a create, update or patch changed.

    Args:
        old: the object before; ``None`` when it is created.
        new: the object as the request leaves it, defaults filled in; changed in place.
        resource: its resource.
        api: for its schema and the time.
        manager: the field manager.
        subresource: ``""`` or ``"status"``.
    """
    scope = Scope(api.schemas.of(resource), resource, subresource)
    managers = _asked_for(old, new, subresource)
    new["metadata"].pop("managedFields", None)
    if not managers.owned and old is not None:
        # Nobody has owned anything yet, and this starts with the first apply.
        return
    try:
        _record_update(old, new, managers, manager, scope, api)
    except typed.TypeFault:
        # As the server does: better no owners than wrong ones.
        return
    cap(managers)
    managers.write_to(new)


def _asked_for(old: Object | None, new: Object, subresource: str) -> Managers:
    """The managers to start from: a request may set or reset them."""
    before = [] if old is None else old["metadata"].get("managedFields")
    if subresource:
        return Managers.decoded(before)
    given = new["metadata"].get("managedFields")
    if given in ([], [{}]):
        return Managers()
    found = Managers.decoded(given)
    return found if found.owned else Managers.decoded(before)


def _record_update(
    old: Object | None,
    new: Object,
    managers: Managers,
    name: str,
    scope: Scope,
    api: Api,
) -> None:
    version = scope.resource.api_version
    change = take(scope.live(old), scope.live(new), managers, None, scope, force=True)
    gained = change.modified | change.added
    gained = fieldset.filtered(gained, scope.kept()) - UNOWNED
    managers.drop_empty()
    if gained:
        writer = Manager(name or "unknown", "Update", version, scope.subresource)
        before = managers.owned.get(writer)
        paths = gained | (before.paths if before else set())
        managers.owned[writer] = Owned(paths, version, api.timestamp())


# -- server-side apply ---------------------------------------------------------------------------


def server_side(
    old: Object | None,
    body: Object,
    resource: Resource,
    api: Api,
    manager: str,
    force: bool,
    subresource: str,
) -> Object:
    """The object that results from applying ``body``, its ``managedFields`` included.

    Args:
        old: the object as it is; ``None`` when there is none yet.
        body: what the manager wants, as it was sent: the server compares it undecoded, so that
            a quantity sent as the number 1 differs from the ``"1"`` that is stored.
        resource: the path's resource.
        api: for schemas and the time.
        manager: the field manager.
        force: take over what others own.
        subresource: ``""`` or ``"status"``.

    Raises:
        StatusError: 400 or 422 for a request that cannot be carried out, 409 for conflicts, 500
            for a body that does not fit the schema, as the real server answers.
    """
    if not manager:
        missing = [required("fieldManager", "is required for apply patch")]
        raise unprocessable("PatchOptions", "meta.k8s.io", "", missing)
    _check_body(body, resource)
    scope = Scope(api.schemas.of(resource), resource, subresource)
    try:
        typed.check(body, scope.schema)
    except typed.TypeFault as fault:
        raise _internal(
            f"failed to create typed patch object ({_described(body, resource)}): {fault}"
        ) from None
    request = _Apply(old, body, scope, Manager(manager, "Apply", "", subresource), api)
    try:
        new, managers = request.run(force)
    except Conflicts as conflicts:
        if not request.allowed(conflicts):
            raise conflicts.as_error() from None
        new, managers = request.run(force=True)
    new = _decoded(new, resource, api)
    annotations = new["metadata"].get("annotations") or {}
    if manager == "kubectl" and annotations.get(LAST_APPLIED):
        _remember(new, body)
    managers.write_to(new)
    return new


def _check_body(body: Object, resource: Resource) -> None:
    api_version, kind = body.get("apiVersion") or "", body.get("kind") or ""
    if (api_version, kind) != (resource.api_version, resource.kind):
        group, _, version = api_version.rpartition("/")
        raise bad_request(f"invalid object type: {group}/{version}, Kind={kind}")
    if body["metadata"].get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")


def _described(body: Object, resource: Resource) -> str:
    metadata = body["metadata"]
    return (
        f"{metadata.get('namespace', '')}/{metadata.get('name', '')}; "
        f"{resource.group}/{resource.version}, Kind={resource.kind}"
    )


@dataclass
class _Apply:
    """One apply request; :meth:`run` may be called again with force."""

    old: Object | None
    body: Object
    scope: Scope
    manager: Manager
    api: Api

    def run(self, force: bool) -> tuple[Object, Managers]:
        """The new object and its managers.

        Raises:
            Conflicts: others own what is applied.
        """
        scope, schema, version = self.scope, self.scope.schema, self.scope.resource.api_version
        live = scope.live(self.old)
        managers = Managers()
        if self.old is not None:
            managers = Managers.decoded(self.old["metadata"].get("managedFields"))
            if not managers.owned:
                _record_update(None, self.old, managers, _BEFORE_FIRST_APPLY, scope, self.api)
        merged = typed.merge(live, self.body, schema)
        last = managers.owned.get(self.manager)
        paths = fieldset.filtered(typed.of(self.body, schema), scope.kept())
        mine = Owned(paths, version, last.time if last else "")
        managers.owned[self.manager] = mine
        new = merged
        if last is not None and last.paths:
            new = self._pruned(merged, managers, last.paths)
        take(live, new, managers, self.manager, scope, force)
        mine.paths = mine.paths - UNOWNED
        managers.drop_empty()
        if new != live:
            mine.time = self.api.timestamp()
        return copy.deepcopy(new), managers

    def _pruned(self, merged: Object, managers: Managers, last: Paths) -> Object:
        """Without what the manager applied last time, not this time, and no one else owns."""
        schema = self.scope.schema
        named = typed.with_named_parents
        last = named(last, schema)
        pruned = typed.remove(merged, last, schema)
        # Back in comes what anyone owns ...
        claimed = named(set().union(*(owned.paths for owned in managers.owned.values())), schema)
        all_of_it = named(typed.of(merged, schema), schema)
        left = named(typed.of(pruned, schema), schema)
        pruned = typed.remove(merged, all_of_it - (left | claimed), schema)
        # ... and what was not this manager's to remove.
        left = named(typed.of(pruned, schema), schema)
        pruned = typed.remove(merged, (all_of_it - left) & last, schema)
        kept: Object = typed.without_new_nulls(pruned, merged)
        return kept

    def allowed(self, conflicts: Conflicts) -> bool:
        """Whether the conflicts are only with what kubectl itself applied client-side.

        Conflicts that are so are dropped from ``conflicts``.
        """
        if self.manager.name != "kubectl" or self.old is None:
            return False
        annotations = self.old["metadata"].get("annotations") or {}
        text = annotations.get(LAST_APPLIED)
        if not text:
            return False
        schema = self.scope.schema
        try:
            applied = json.loads(text)
            if applied.get("apiVersion") != self.scope.resource.api_version:
                return False
            typed.check(applied, schema)
            change = typed.compare(applied, self.scope.live(self.old), schema)
        except (ValueError, AttributeError, typed.TypeFault):
            return False
        own = typed.of(applied, schema) - change.modified - change.added - change.removed
        conflicts.found = [found for found in conflicts.found if found[1] not in own]
        return not conflicts.found


def _decoded(obj: Object, resource: Resource, api: Api) -> Object:
    """The merged object in canonical form; what is unknown has been refused before."""
    if resource.custom:
        return crd.decode(resource, obj, api, "Ignore", [])
    decoded: Object = api.schemas.decode(resource, obj, "Ignore", [])
    return decoded


def _remember(new: Object, body: Object) -> None:
    """Keep kubectl's annotation in step, so that it can go back to client-side apply."""
    applied = copy.deepcopy(body)
    (applied["metadata"].get("annotations") or {}).pop(LAST_APPLIED, None)
    text = json.dumps(applied, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    annotations = new["metadata"]["annotations"]
    annotations[LAST_APPLIED] = text + "\n"
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > _ANNOTATIONS_LIMIT:
        del annotations[LAST_APPLIED]


def _internal(message: str) -> StatusError:
    """What becomes of an error that the server gave no status: a 500 without a reason."""
    return StatusError(500, "", message)
