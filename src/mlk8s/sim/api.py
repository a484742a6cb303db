"""What a request does to an object, from the decoded body to the store.

The HTTP server and every component of the cluster go through :class:`Api`: defaults, admission,
validation, field managers, finalizers and graceful deletion happen here and nowhere else.
Components may call it directly because they run in the same process and on the same event loop;
each call is complete when it returns.
"""

from __future__ import annotations

import copy
import hashlib
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlk8s.sim import admission, apply, crd, defaults, patch, validation
from mlk8s.sim.clock import Clock, stamp
from mlk8s.sim.resources import Registry, Resource
from mlk8s.sim.schema import Schemas
from mlk8s.sim.status import (
    MODIFIED,
    Object,
    StatusError,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    not_found,
    unprocessable,
)
from mlk8s.sim.store import Store

if TYPE_CHECKING:
    from mlk8s.sim.addons import Addons

# k8s.io/apimachinery/pkg/util/rand: no vowels and no digits that look like letters.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SERVER_SET = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
# Their deletion answers with the object, that of all others with a Status.
_RETURN_DELETED = {
    "pods",
    "persistentvolumeclaims",
    "persistentvolumes",
    "podtemplates",
    "replicasets.apps",
    "resourcequotas",
    "serviceaccounts",
}
_CRDS = "customresourcedefinitions.apiextensions.k8s.io"
FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclass(frozen=True)
class Request:
    """Who asks, and how.

    Attributes:
        manager: the field manager; ``""`` leaves ``managedFields`` alone.
        user: who the request is from, for admission and messages.
        dry_run: do everything but store.
        validation: ``Strict``, ``Warn`` or ``Ignore`` unknown fields.
        trusted: the object was made by the cluster itself in canonical form, so it is not decoded.
        warnings: sentences for the ``Warning`` header are appended here.
    """

    manager: str = ""
    user: str = "system:serviceaccount:kube-system:controller"
    dry_run: bool = False
    validation: str = "Ignore"
    trusted: bool = False
    warnings: list[str] = field(default_factory=list)


INTERNAL = Request(trusted=True)


@dataclass(frozen=True)
class DeleteOptions:
    """``metav1.DeleteOptions``."""

    grace_period: int | None = None
    propagation: str | None = None
    uid: str | None = None
    resource_version: str | None = None


class Api:
    """Reads and writes of objects as an API server carries them out.

    Args:
        clock: where timestamps come from.
        rng: source of generated names and uids; seeded in tests.

    Attributes:
        addons: what switches add-ons on and off, where the cluster can; their webhooks are asked
            on the way into the store.
    """

    def __init__(self, clock: Clock, rng: random.Random | None = None) -> None:
        self.clock = clock
        self.store = Store()
        self.registry = Registry()
        self.schemas = Schemas()
        self.addons: Addons | None = None
        self._seed = (rng or random.Random()).getrandbits(64)
        self._drawn: dict[str, int] = {}

    # -- reading ---------------------------------------------------------------------------------

    def find(self, key: str, namespace: str, name: str) -> Object | None:
        """A copy of an object, or ``None``."""
        return self.store.get(key, namespace, name)

    def get(self, key: str, namespace: str, name: str) -> Object:
        """A copy of an object.

        Raises:
            StatusError: 404.
        """
        found = self.store.get(key, namespace, name)
        if found is None:
            raise self._missing(key, name)
        return found

    def timestamp(self) -> str:
        """The present time as ``metav1.Time``."""
        return stamp(self.clock.now())

    def suffix(self, prefix: str, length: int = 5) -> str:
        """Random characters as they end the generated names of a prefix."""
        return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in self._draw(prefix)[:length])

    def uid(self, of: str) -> str:
        """A new uid for an object of a resource."""
        return str(uuid.UUID(bytes=self._draw(f"uid of {of}")[:16], version=4))

    def _draw(self, of: str) -> bytes:
        """Random bytes from a row of its own for each purpose.

        So what a seeded cluster calls things depends on the order of like things alone, and not
        on which of its components came first.
        """
        turn = self._drawn[of] = self._drawn.get(of, 0) + 1
        return hashlib.sha256(f"{self._seed}/{of}/{turn}".encode()).digest()

    # -- creating --------------------------------------------------------------------------------

    def create(
        self,
        key: str | Resource,
        obj: Object,
        namespace: str = "",
        request: Request = INTERNAL,
    ) -> Object:
        """Create an object and give it as it is stored.

        Args:
            key: the resource.
            obj: the object; taken over, not copied.
            namespace: the namespace of the request's path.
            request: who asks.

        Raises:
            StatusError: 400, 403, 404, 409 or 422, with the server's message.
        """
        resource = self._resource(key)
        obj = self._decode(resource, obj, request)
        metadata = obj.setdefault("metadata", {})
        self._name(resource, metadata, namespace)
        metadata["uid"] = self.uid(resource.key)
        metadata["creationTimestamp"] = self.timestamp()
        for server_set in ("deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion"):
            metadata.pop(server_set, None)
        if resource.generation or resource.custom:
            metadata["generation"] = 1
        # A kubelet registers its node with its capacity; all other status comes later.
        if resource.has_status and resource.key != "nodes":
            obj.pop("status", None)
        defaults.on_create(resource, obj, self)
        if request.manager:
            apply.track(None, obj, resource, self, request.manager, "")
        admission.mutate("CREATE", resource, obj, None, self, request)
        if generated := metadata.get("generateName"):
            while not metadata.get("name"):
                name = generated[:58] + self.suffix(generated)
                if self.store.raw(resource.key, metadata.get("namespace", ""), name) is None:
                    metadata["name"] = name
        errors = validation.on_create(resource, obj, self)
        if errors:
            raise self._invalid(resource, metadata.get("name", ""), errors)
        admission.validate("CREATE", resource, obj, None, self, request)
        if self.store.raw(resource.key, metadata.get("namespace", ""), metadata["name"]):
            raise already_exists(resource.plural, resource.group, metadata["name"])
        if request.dry_run:
            return obj
        admission.commit("CREATE", resource, obj, None, self)
        return self.store.write(resource.key, obj)

    # -- changing --------------------------------------------------------------------------------

    def update(
        self,
        key: str | Resource,
        obj: Object,
        request: Request = INTERNAL,
        subresource: str = "",
    ) -> Object:
        """Replace an object; with ``subresource="status"`` its status alone.

        Raises:
            StatusError: 404, 409 when ``resourceVersion`` is stale, 422.
        """
        resource = self._resource(key)
        obj = self._decode(resource, obj, request)
        metadata = obj["metadata"]
        old = self.get(resource.key, metadata.get("namespace", ""), metadata["name"])
        return self._replace(resource, old, obj, request, subresource)

    def change(
        self,
        key: str,
        namespace: str,
        name: str,
        mutate: Callable[[Object], None],
        subresource: str = "",
    ) -> Object | None:
        """Read, let ``mutate`` change the copy in place, write; the way components change things.

        Returns:
            The object as it is stored; ``None`` when it does not exist.
        """
        old = self.store.get(key, namespace, name)
        if old is None:
            return None
        # Parsing the stored bytes again costs less than a deep copy.
        new = self.get(key, namespace, name)
        mutate(new)
        return self._replace(self._resource(key), old, new, INTERNAL, subresource)

    def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Any,
        kind: str,
        request: Request,
        subresource: str = "",
        force: bool = False,
    ) -> tuple[Object, bool]:
        """Apply a patch of one of the four kinds.

        Args:
            resource: the resource.
            namespace: the path's namespace.
            name: the path's name.
            body: the patch.
            kind: ``json``, ``merge``, ``strategic`` or ``apply``.
            request: who asks.
            subresource: ``""`` or ``"status"``.
            force: take fields over from other managers (apply alone).

        Returns:
            The object, and whether it was created (apply alone).

        Raises:
            StatusError: 400, 404, 409 (apply conflicts), 415, 422.
        """
        old = self.store.get(resource.key, namespace, name)
        if kind == "apply":
            # Not decoded: the server compares what was sent, and decodes what comes of it.
            metadata = body.setdefault("metadata", {}) if isinstance(body, dict) else None
            if not isinstance(metadata, dict):
                raise bad_request("error decoding YAML: an object with metadata is expected")
            self._name(resource, metadata, namespace)
            new = apply.server_side(old, body, resource, self, request.manager, force, subresource)
            kept = replace(request, manager="", trusted=True)
            if old is None:
                if subresource:
                    raise not_found(resource.plural, resource.group, name)
                return self.create(resource, new, namespace, kept), True
            return self._replace(resource, old, new, kept, subresource), False
        if old is None:
            raise not_found(resource.plural, resource.group, name)
        base = copy.deepcopy(old)
        if kind == "json":
            new = patch.json_patch(base, body)
        elif kind == "strategic" and not resource.custom:
            new = patch.strategic_merge(base, body, self.schemas.of(resource))
        elif kind == "merge":
            new = patch.merge_patch(base, body)
        else:
            raise StatusError(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: "
                "application/json-patch+json, application/merge-patch+json, "
                "application/apply-patch+yaml",
            )
        if force:
            error = forbidden("force", "may not be specified for non-apply patch")
            raise unprocessable("PatchOptions", "meta.k8s.io", "", [error])
        sent = copy.deepcopy(new)
        try:
            new = self._decode(resource, new, request)
        except StatusError as error:
            why = error.message.partition(f"cannot be handled as a {resource.kind}: ")[2]
            raise patch.unfit(kind, body, sent, why or error.message) from error
        return self._replace(resource, old, new, request, subresource), False

    def _replace(
        self, resource: Resource, old: Object, new: Object, request: Request, subresource: str
    ) -> Object:
        before, after = old["metadata"], new["metadata"]
        if after.get("name", before["name"]) != before["name"]:
            raise bad_request(
                f"the name of the object ({after['name']}) does not match the name on the URL "
                f"({before['name']})"
            )
        wanted = after.get("resourceVersion")
        if wanted and wanted != before["resourceVersion"]:
            raise conflict(resource.key, before["name"], MODIFIED)
        if after.get("uid") and after["uid"] != before["uid"]:
            raise conflict(
                resource.key,
                before["name"],
                f"Precondition failed: UID in precondition: {after['uid']}, UID in object meta: "
                f"{before['uid']}",
            )
        for name in _SERVER_SET:
            after.pop(name, None)
            if name in before:
                after[name] = before[name]
        after["resourceVersion"] = before["resourceVersion"]
        if "managedFields" not in after and "managedFields" in before:
            after["managedFields"] = before["managedFields"]
        if "generation" in before:
            after["generation"] = before["generation"]
        self._restrict(resource, old, new, subresource)
        defaults.on_update(resource, new, old, self)
        if request.manager:
            apply.track(old, new, resource, self, request.manager, subresource)
        admission.mutate("UPDATE", resource, new, old, self, request, subresource)
        errors = validation.on_update(resource, new, old, self, subresource)
        if errors:
            raise self._invalid(resource, before["name"], errors)
        admission.validate("UPDATE", resource, new, old, self, request, subresource)
        if "generation" in before and not subresource and _desired(new) != _desired(old):
            after["generation"] = before["generation"] + 1
        if _same(old, new):
            return old
        if request.dry_run:
            return new
        admission.commit("UPDATE", resource, new, old, self)
        if _finished(new):
            self.store.write(resource.key, new)
            return self.store.remove(resource.key, after.get("namespace", ""), after["name"])
        return self.store.write(resource.key, new)

    def _restrict(self, resource: Resource, old: Object, new: Object, subresource: str) -> None:
        """Keep what this request may not change."""
        if subresource == "status":
            for part in set(old) | set(new):
                if part not in ("status", "metadata", "apiVersion", "kind"):
                    _keep(part, old, new)
            if resource.custom:
                kept = dict(old["metadata"])
                if "managedFields" in new["metadata"]:
                    kept["managedFields"] = new["metadata"]["managedFields"]
                new["metadata"] = kept
            elif resource.key == "deployments.apps":
                _keep("labels", old["metadata"], new["metadata"])
        elif resource.has_status and not subresource:
            _keep("status", old, new)

    # -- deleting --------------------------------------------------------------------------------

    def delete(
        self,
        key: str | Resource,
        namespace: str,
        name: str,
        options: DeleteOptions = DeleteOptions(),
        request: Request = INTERNAL,
    ) -> Object:
        """Delete an object, or mark it for deletion when finalizers or a grace period hold it.

        Returns:
            The marked object, the deleted one, or a ``Status``, as the real server answers.

        Raises:
            StatusError: 404, or 409 when a precondition does not hold.
        """
        resource = self._resource(key)
        obj = self.store.get(resource.key, namespace, name)
        if obj is None:
            raise not_found(resource.plural, resource.group, name)
        metadata = obj["metadata"]
        self._check_preconditions(resource, metadata, options)
        admission.validate("DELETE", resource, obj, obj, self, request)
        if request.dry_run:
            return self._deleted(resource, obj)
        if resource.key == "namespaces":
            return self._terminate_namespace(obj)
        finalizers = self._finalizers(resource, metadata, options, request)
        grace = _grace(resource, obj, options)
        already = metadata.get("deletionGracePeriodSeconds")
        if "deletionTimestamp" in metadata and already is not None:
            grace = min(grace, already)
        if not finalizers and grace == 0:
            removed = self.store.remove(resource.key, namespace, name)
            admission.commit("DELETE", resource, removed, removed, self)
            return self._deleted(resource, removed)
        before = copy.deepcopy(obj)
        if finalizers:
            metadata["finalizers"] = finalizers
        if "deletionTimestamp" not in metadata or (already is not None and grace < already):
            metadata["deletionTimestamp"] = stamp(self.clock.now() + grace)
            metadata["deletionGracePeriodSeconds"] = grace
            if "generation" in metadata:
                metadata["generation"] += 1
        if obj != before:
            self.store.write(resource.key, obj)
        return obj

    def _deleted(self, resource: Resource, obj: Object) -> Object:
        if resource.key in _RETURN_DELETED:
            return obj
        details: Object = {"name": obj["metadata"]["name"]}
        if resource.group:
            details["group"] = resource.group
        details |= {"kind": resource.plural, "uid": obj["metadata"]["uid"]}
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        }

    def _check_preconditions(
        self, resource: Resource, metadata: Object, options: DeleteOptions
    ) -> None:
        if options.uid is not None and options.uid != metadata["uid"]:
            raise conflict(
                resource.kind,
                metadata["name"],
                f"the UID in the precondition ({options.uid}) does not match the UID in record "
                f"({metadata['uid']}). The object might have been deleted and then recreated",
            )
        version = options.resource_version
        if version is not None and version != metadata["resourceVersion"]:
            raise conflict(
                resource.kind,
                metadata["name"],
                f"the ResourceVersion in the precondition ({version}) does not match the "
                f"ResourceVersion in record ({metadata['resourceVersion']}). The object might "
                "have been modified",
            )

    def _finalizers(
        self, resource: Resource, metadata: Object, options: DeleteOptions, request: Request
    ) -> list[str]:
        finalizers = [
            name for name in metadata.get("finalizers") or () if name not in (FOREGROUND, ORPHAN)
        ]
        if resource.key == _CRDS and crd.CLEANUP not in finalizers:
            # The definition goes last: its objects first, past their own finalizers.
            finalizers.append(crd.CLEANUP)
        policy = options.propagation
        if policy is None and resource.key == "jobs.batch":
            # batch/v1 alone keeps the pods unless told otherwise, and says so.
            policy = "Orphan"
            request.warnings.append(
                "child pods are preserved by default when jobs are deleted; set "
                "propagationPolicy=Background to remove them or set propagationPolicy=Orphan to "
                "suppress this warning"
            )
        has_dependents = bool(self.store.owned(metadata["uid"]))
        if policy == "Foreground" and has_dependents:
            finalizers.append(FOREGROUND)
        elif policy == "Orphan" and has_dependents:
            finalizers.append(ORPHAN)
        return finalizers

    def _terminate_namespace(self, obj: Object) -> Object:
        if "deletionTimestamp" not in obj["metadata"]:
            obj["metadata"]["deletionTimestamp"] = self.timestamp()
            obj["metadata"]["deletionGracePeriodSeconds"] = 0
            obj.setdefault("status", {})["phase"] = "Terminating"
            self.store.write("namespaces", obj)
        return obj

    # -- helpers ---------------------------------------------------------------------------------

    def _resource(self, key: str | Resource) -> Resource:
        return key if isinstance(key, Resource) else self.registry.of_key(key)

    def _missing(self, key: str, name: str) -> StatusError:
        plural, _, group = key.partition(".")
        return not_found(plural, group, name)

    def _decode(self, resource: Resource, obj: Object, request: Request) -> Object:
        if request.trusted:
            return obj
        if resource.custom:
            return crd.decode(resource, obj, self, request.validation, request.warnings)
        return self.schemas.decode(resource, obj, request.validation, request.warnings)

    def _name(self, resource: Resource, metadata: Object, namespace: str) -> None:
        if resource.namespaced:
            if metadata.setdefault("namespace", namespace) not in (namespace, ""):
                if namespace:
                    raise bad_request(
                        "the namespace of the provided object does not match the namespace sent "
                        "on the request"
                    )
            elif namespace:
                metadata["namespace"] = namespace
        else:
            metadata.pop("namespace", None)

    def _invalid(self, resource: Resource, name: str, errors: list[Any]) -> StatusError:
        return unprocessable(resource.kind, resource.group, name, errors)


def _keep(part: str, old: Object, new: Object) -> None:
    if part in old:
        # Shared: both belong to this request, and what is kept is not changed any more.
        new[part] = old[part]
    else:
        new.pop(part, None)


def _desired(obj: Object) -> Object:
    return {k: v for k, v in obj.items() if k not in ("metadata", "status", "apiVersion", "kind")}


def _same(old: Object, new: Object) -> bool:
    def without(obj: Object) -> Object:
        ignored = ("managedFields", "resourceVersion")
        return {
            **obj,
            "metadata": {k: v for k, v in obj["metadata"].items() if k not in ignored},
        }

    if without(old) != without(new):
        return False
    return _owners(old) == _owners(new)


def _owners(obj: Object) -> list[Object]:
    """The managers and their fields without the time of their last write."""
    entries = obj["metadata"].get("managedFields") or []
    return [{k: v for k, v in entry.items() if k != "time"} for entry in entries]


def _finished(obj: Object) -> bool:
    """Whether nothing holds back an object that is being deleted."""
    metadata = obj["metadata"]
    return (
        "deletionTimestamp" in metadata
        and not metadata.get("finalizers")
        # A namespace's finalizers are in its spec, until it is empty.
        and not (obj["kind"] == "Namespace" and (obj.get("spec") or {}).get("finalizers"))
        and metadata.get("deletionGracePeriodSeconds", 0) == 0
    )


def _grace(resource: Resource, obj: Object, options: DeleteOptions) -> int:
    """Seconds between the request and the end; pods alone have any."""
    if resource.key != "pods":
        return 0
    if not obj["spec"].get("nodeName"):
        return 0
    if obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    if options.grace_period is not None:
        # "Negative values are treated as one second" (rest.BeforeDelete).
        return options.grace_period if options.grace_period >= 0 else 1
    return int(obj["spec"].get("terminationGracePeriodSeconds", 30))
