"""What makes an object invalid (422), kind by kind.

Each kind has a function that gives the errors of the object in the order in which the server
lists them; an object is checked after defaults and mutating admission, before it is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mlk8s.sim import crd
from mlk8s.sim.defaults.services import refusal
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import FieldError, Object, invalid
from mlk8s.sim.validation import (
    access,
    batch,
    core,
    dra,
    metadata,
    networking,
    pod_updates,
    pods,
    policy,
    services,
    workloads,
)

if TYPE_CHECKING:
    from mlk8s.sim.api import Api

Validator = Callable[[Object, "Object | None"], list[FieldError]]

_DRA_GROUP = "resource.k8s.io"
_CRD = "customresourcedefinitions.apiextensions.k8s.io"


def _of_spec(validate: Callable[[Object, Object | None], list[FieldError]]) -> Validator:
    def check(obj: Object, old: Object | None) -> list[FieldError]:
        return validate(obj.get("spec") or {}, None if old is None else old["spec"])

    return check


def _job(obj: Object, old: Object | None) -> list[FieldError]:
    return batch.job(obj) if old is None else batch.job_update(obj, old)


def _pod(obj: Object, old: Object | None) -> list[FieldError]:
    return pods.on_create(obj) if old is None else pod_updates.on_update(obj, old)


def _pod_template(obj: Object, old: Object | None) -> list[FieldError]:
    return pods.template("template", obj.get("template") or {})


_VALIDATORS: dict[str, Validator] = {
    "configmaps": core.config_map,
    "secrets": core.secret,
    "namespaces": core.namespace,
    "nodes": core.node,
    "events": core.event,
    "persistentvolumes": core.volume,
    "persistentvolumeclaims": core.claim,
    "endpointslices.discovery.k8s.io": networking.endpoint_slice,
    "services": services.validate,
    "pods": _pod,
    "podtemplates": _pod_template,
    "replicationcontrollers": _of_spec(workloads.replication_controller),
    "deployments.apps": _of_spec(workloads.deployment),
    "replicasets.apps": _of_spec(workloads.replica_set),
    "statefulsets.apps": _of_spec(workloads.stateful_set),
    "daemonsets.apps": _of_spec(workloads.daemon_set),
    "jobs.batch": _job,
    "cronjobs.batch": batch.cron_job,
    "resourcequotas": policy.quota,
    "limitranges": policy.limit_range,
    "priorityclasses.scheduling.k8s.io": policy.priority_class,
    "poddisruptionbudgets.policy": policy.budget,
    "runtimeclasses.node.k8s.io": policy.runtime_class,
    "storageclasses.storage.k8s.io": policy.storage_class,
    "leases.coordination.k8s.io": policy.lease,
    "horizontalpodautoscalers.autoscaling": policy.autoscaler,
    "ingresses.networking.k8s.io": networking.ingress,
    "networkpolicies.networking.k8s.io": networking.network_policy,
    "roles.rbac.authorization.k8s.io": access.role,
    "clusterroles.rbac.authorization.k8s.io": access.role,
    "rolebindings.rbac.authorization.k8s.io": access.role_binding,
    "clusterrolebindings.rbac.authorization.k8s.io": access.role_binding,
}


def on_create(resource: Resource, obj: Object, api: Api) -> list[FieldError]:
    """Errors in a new object, in the server's order."""
    errors = metadata.on_create(resource, obj["metadata"])
    if resource.custom:
        return errors + list(crd.validate(resource, obj, api, None))
    if resource.group == _DRA_GROUP:
        return errors + dra.on_create(resource, obj, api)
    if resource.key == _CRD:
        return errors + list(crd.validate_definition(obj))
    validate = _VALIDATORS.get(resource.key)
    if validate is not None:
        errors += validate(obj, None)
    if resource.key == "services" and not errors:
        errors += _allocation(obj, api)
    return errors


def on_update(
    resource: Resource, new: Object, old: Object, api: Api, subresource: str
) -> list[FieldError]:
    """Errors in a change of an object, or of its status alone."""
    errors = metadata.on_update(resource, new["metadata"], old["metadata"])
    if resource.custom:
        return errors + list(crd.validate(resource, new, api, old))
    if resource.group == _DRA_GROUP:
        return errors + dra.on_update(resource, new, old, api, subresource)
    if subresource == "status":
        if resource.key == "pods":
            errors += pod_updates.on_status(new, old)
        elif resource.key == "nodes":
            errors += core.node(new, old)
        return errors
    if resource.key == _CRD:
        return errors + list(crd.validate_definition(new))
    validate = _VALIDATORS.get(resource.key)
    if validate is None or subresource or _unchanged(new, old):
        return errors
    return errors + validate(new, old)


def _allocation(service: Object, api: Api) -> list[FieldError]:
    """Whether a Service may have the address that it asks for."""
    spec = service["spec"]
    address = spec.get("clusterIP", "None")
    if address == "None" or not (why := refusal(address, api)):
        return []
    return [invalid("spec.clusterIPs", spec.get("clusterIPs"), why)]


def _unchanged(new: Object, old: Object) -> bool:
    """Whether metadata and status alone differ: what was valid then is so now."""
    ignored = ("metadata", "status")
    return all(
        new.get(part) == old.get(part) for part in (new.keys() | old.keys()) if part not in ignored
    )
