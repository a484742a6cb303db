"""What an object counts for in a quota, and which scopes a pod falls into.

The rules are those of ``pkg/quota/v1/evaluator/core``.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from mlk8s.sim import quantity
from mlk8s.sim.amounts import add, exact, pod_total
from mlk8s.sim.defaults.pods import quality_of_service
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object
from mlk8s.sim.validation import resources as names

Amounts = dict[str, Fraction]

ONE = Fraction(1)
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_COUNTED_BY_NAME = {
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
}
# allocationMode All may bring as many devices as an allocation may have (resource.k8s.io/v1).
_ALL_DEVICES = Fraction(32)


def pod_amounts(pod: Object, part: str) -> Amounts:
    """What a pod asks for, exactly: ``part`` is ``requests`` or ``limits``."""
    return pod_total(pod["spec"], part, exact)


def compute(requests: Amounts, limits: Amounts) -> Amounts:
    """Requests and limits under the names that a quota has for them."""
    found: Amounts = {"pods": ONE}
    for name in _COMPUTE:
        if name in requests:
            found[name] = found[f"requests.{name}"] = requests[name]
        if name in limits:
            found[f"limits.{name}"] = limits[name]
    for name, number in requests.items():
        if names.is_huge_pages(name):
            found[name] = found[f"requests.{name}"] = number
        elif names.is_extended(name):
            found[f"requests.{name}"] = number
    return found


def _pod(obj: Object) -> Amounts:
    status = obj.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return {}
    return compute(pod_amounts(obj, "requests"), pod_amounts(obj, "limits"))


def _service(obj: Object) -> Amounts:
    spec = obj.get("spec") or {}
    ports = Fraction(len(spec.get("ports") or ()))
    kind = spec.get("type")
    found = {
        "services": ONE,
        "services.nodeports": Fraction(),
        "services.loadbalancers": Fraction(),
    }
    if kind == "NodePort" or (
        kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts", True)
    ):
        found["services.nodeports"] = ports
    if kind == "LoadBalancer":
        found["services.loadbalancers"] = ONE
    return found


def _claim(obj: Object) -> Amounts:
    spec = obj.get("spec") or {}
    found = {"persistentvolumeclaims": ONE}
    by_class = ""
    if name := spec.get("storageClassName"):
        by_class = f"{name}.storageclass.storage.k8s.io/"
        found[f"{by_class}persistentvolumeclaims"] = ONE
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if asked is not None:
        found["requests.storage"] = quantity.value(str(asked))
        if by_class:
            found[f"{by_class}requests.storage"] = found["requests.storage"]
    return found


def _resource_claim(obj: Object) -> Amounts:
    found: Amounts = {}
    for request in ((obj.get("spec") or {}).get("devices") or {}).get("requests") or ():
        if (exact := request.get("exactly")) is not None:
            add(found, _devices(exact))
            continue
        # One of several: as much as the largest of them may take of each class.
        most: Amounts = {}
        for one in request.get("firstAvailable") or ():
            for name, number in _devices(one).items():
                most[name] = max(most.get(name, Fraction()), number)
        add(found, most)
    return found


def _devices(request: Object) -> Amounts:
    name = f"{request.get('deviceClassName', '')}.deviceclass.resource.k8s.io/devices"
    if request.get("allocationMode") == "All":
        return {name: _ALL_DEVICES}
    return {name: Fraction(request.get("count", 1))}


_EVALUATORS: dict[str, Callable[[Object], Amounts]] = {
    "pods": _pod,
    "services": _service,
    "persistentvolumeclaims": _claim,
    "resourceclaims.resource.k8s.io": _resource_claim,
}


def usage_of(resource: Resource, obj: Object) -> Amounts:
    """What an object counts for, under every name that a quota may have for it.

    A pod that has ended counts as an object (``count/pods``) and nothing else.
    """
    found: Amounts = {f"count/{resource.key}": ONE}
    if resource.group == "" and resource.key in _COUNTED_BY_NAME:
        found[resource.key] = ONE
    if evaluate := _EVALUATORS.get(resource.key):
        found |= evaluate(obj)
    return found


def tracks(resource: Resource, name: str) -> bool:
    """Whether objects of a resource can count under this name of a quota."""
    if name == f"count/{resource.key}" or name == resource.key:
        return resource.group == "" or name.startswith("count/")
    if resource.key == "pods":
        bare = name.removeprefix("requests.")
        if bare in _COMPUTE or name.removeprefix("limits.") in _COMPUTE:
            return True
        prefixed = name.startswith("requests.") and not names.is_native(name)
        return names.is_huge_pages(bare) or prefixed
    if resource.key == "services":
        return name.startswith("services.")
    if resource.key == "persistentvolumeclaims":
        return name == "requests.storage" or ".storageclass.storage.k8s.io/" in name
    if resource.key == "resourceclaims.resource.k8s.io":
        return name.endswith(".deviceclass.resource.k8s.io/devices")
    return False


def in_scopes(quota: Object, resource: Resource, obj: Object) -> bool:
    """Whether an object falls into all scopes of a quota; only pods and claims have any."""
    spec = quota.get("spec") or {}
    selectors = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    selectors += (spec.get("scopeSelector") or {}).get("matchExpressions") or []
    return all(_in_scope(selector, resource, obj) for selector in selectors)


def _in_scope(selector: Object, resource: Resource, obj: Object) -> bool:
    scope: str = selector["scopeName"]
    spec = obj.get("spec") or {}
    if scope == "VolumeAttributesClass" and resource.key == "persistentvolumeclaims":
        return _selected(selector, spec.get("volumeAttributesClassName"))
    if resource.key != "pods":
        return False
    if scope in ("Terminating", "NotTerminating"):
        return (spec.get("activeDeadlineSeconds") is not None) == (scope == "Terminating")
    if scope in ("BestEffort", "NotBestEffort"):
        return (quality_of_service(obj) == "BestEffort") == (scope == "BestEffort")
    if scope == "PriorityClass":
        return _selected(selector, spec.get("priorityClassName"))
    return scope == "CrossNamespacePodAffinity" and _reaches_out(spec)


def _selected(selector: Object, value: str | None) -> bool:
    operator: str = selector.get("operator", "")
    values: list[str] = selector.get("values") or []
    if operator == "In":
        return bool(value) and value in values
    if operator == "NotIn":
        return not value or value not in values
    return bool(value) == (operator == "Exists")


def _reaches_out(spec: Object) -> bool:
    for kind in ("podAffinity", "podAntiAffinity"):
        found = (spec.get("affinity") or {}).get(kind) or {}
        terms = list(found.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        terms += [
            one.get("podAffinityTerm") or {}
            for one in found.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ]
        if any(
            term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms
        ):
            return True
    return False
