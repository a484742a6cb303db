"""What is added to, and refused of, objects on their way into the store.

The plugins are those that a server runs by default and that matter here: NamespaceLifecycle,
LimitRanger, TaintNodesByCondition, Priority, DefaultTolerationSeconds, DefaultStorageClass,
RuntimeClass and ResourceQuota; then the webhooks of add-ons. Pod security levels and webhooks that
users register are not modeled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from mlk8s.sim.admission import limits, pods, quota
from mlk8s.sim.admission.errors import refused
from mlk8s.sim.defaults.pods import quality_of_service
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object, StatusError, not_found

if TYPE_CHECKING:
    from mlk8s.sim.api import Api, Request

_IMMORTAL = ("default", "kube-system", "kube-public")
_NOT_READY = "node.kubernetes.io/not-ready"
_STORAGE_CLASSES = "storageclasses.storage.k8s.io"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
# Reviews are not stored, so a namespace that goes may still ask.
_REVIEWS = ("localsubjectaccessreviews.authorization.k8s.io",)


def mutate(
    op: str,
    resource: Resource,
    obj: Object,
    old: Object | None,
    api: Api,
    request: Request,
    subresource: str = "",
) -> None:
    """Complete an object, or refuse it before it is validated.

    Raises:
        StatusError: 403 or 404.
    """
    if op == "CREATE":
        _namespace_lives(resource, obj, api)
    if subresource:
        return
    key = resource.key
    if key == "pods":
        if op == "CREATE":
            limits.mutate(obj, api)
            pods.prioritize(resource, obj, api)
            pods.add_runtime(resource, obj, api)
        pods.tolerate(obj)
        if op == "CREATE":
            obj["status"]["qosClass"] = quality_of_service(obj)
    elif op == "CREATE" and key == "nodes":
        _taint(obj)
    elif op == "CREATE" and key == "persistentvolumeclaims":
        _storage_class(obj, api)
    if api.addons is not None:
        api.addons.mutate(op, resource, obj, old)


def validate(
    op: str,
    resource: Resource,
    obj: Object,
    old: Object | None,
    api: Api,
    request: Request,
    subresource: str = "",
) -> None:
    """Refuse an object that is valid and yet may not be stored, changed or deleted.

    Raises:
        StatusError: 403.
    """
    key = resource.key
    if op == "DELETE":
        if key == "namespaces" and obj["metadata"]["name"] in _IMMORTAL:
            raise refused(resource, obj, "this namespace may not be deleted")
        return
    if subresource:
        return
    if key == "priorityclasses.scheduling.k8s.io":
        pods.one_default_class(op, resource, obj, api)
    if op == "CREATE" and key in ("pods", "persistentvolumeclaims"):
        limits.validate(resource, obj, api)
    if api.addons is not None:
        api.addons.validate(op, resource, obj, old)
    quota.validate(op, resource, obj, old, api)


def commit(op: str, resource: Resource, obj: Object, old: Object | None, api: Api) -> None:
    """Take note of an object that is about to be stored, or has been removed."""
    quota.commit(op, resource, obj, old, api)


def _namespace_lives(resource: Resource, obj: Object, api: Api) -> None:
    name = obj["metadata"].get("namespace", "")
    if not name or resource.key in _REVIEWS:
        return
    raw = api.store.raw("namespaces", "", name)
    if raw is None:
        raise not_found("namespaces", "", name)
    if b'"deletionTimestamp"' not in raw:
        return
    if "deletionTimestamp" not in orjson.loads(raw)["metadata"]:
        return
    text = f"unable to create new content in namespace {name} because it is being terminated"
    error = refused(resource, obj, text)
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {name} is being terminated",
        "field": "metadata.namespace",
    }
    details = {**error.details, "causes": [cause]}
    raise StatusError(error.code, error.reason, error.message, details)


def _taint(node: Object) -> None:
    """TaintNodesByCondition: no pod goes to a node before it has said that it is ready."""
    taints = node["spec"].setdefault("taints", [])
    wanted = (_NOT_READY, "NoSchedule")
    if not any((taint.get("key"), taint.get("effect")) == wanted for taint in taints):
        taints.append({"key": _NOT_READY, "effect": "NoSchedule"})


def _storage_class(claim: Object, api: Api) -> None:
    """DefaultStorageClass: the newest class that is marked so."""
    spec = claim["spec"]
    if spec.get("storageClassName") is not None:
        return
    marked = [
        one
        for one in api.store.items(_STORAGE_CLASSES)
        if (one["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
    ]
    if marked:
        newest = max(
            marked, key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["name"])
        )
        spec["storageClassName"] = newest["metadata"]["name"]
