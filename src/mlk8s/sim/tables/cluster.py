"""The tables of nodes, namespaces, configuration, storage, access, events and devices."""

from __future__ import annotations

from typing import Any

from mlk8s.sim.status import Object
from mlk8s.sim.tables import text
from mlk8s.sim.tables.text import age, at, count

Row = list[Any]
_ROLE_PREFIX = "node-role.kubernetes.io/"
_CLASS = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def node(obj: Object, now: float) -> Row:
    """A Node."""
    ready = text.condition(obj, "Ready")
    status = "Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"
    if at(obj, "spec", "unschedulable"):
        status += ",SchedulingDisabled"
    roles = set()
    for key, value in (obj["metadata"].get("labels") or {}).items():
        if key.startswith(_ROLE_PREFIX):
            roles.add(key.removeprefix(_ROLE_PREFIX))
        elif key == "kubernetes.io/role":
            roles.add(value)
    info = at(obj, "status", "nodeInfo") or {}
    return [
        _name(obj),
        status,
        ",".join(sorted(roles - {""})) or text.NONE,
        age(obj, now),
        info.get("kubeletVersion", ""),
        _address(obj, "InternalIP"),
        _address(obj, "ExternalIP"),
        *(
            info.get(name) or text.UNKNOWN
            for name in ("osImage", "kernelVersion", "containerRuntimeVersion")
        ),
    ]


def _address(obj: Object, kind: str) -> str:
    for address in at(obj, "status", "addresses") or ():
        if address.get("type") == kind:
            return str(address["address"])
    return text.NONE


def namespace(obj: Object, now: float) -> Row:
    """A Namespace."""
    return [_name(obj), at(obj, "status", "phase") or "", age(obj, now)]


def config_map(obj: Object, now: float) -> Row:
    """A ConfigMap."""
    size = len(obj.get("data") or ()) + len(obj.get("binaryData") or ())
    return [_name(obj), size, age(obj, now)]


def secret(obj: Object, now: float) -> Row:
    """A Secret."""
    return [_name(obj), obj.get("type", ""), len(obj.get("data") or ()), age(obj, now)]


def service_account(obj: Object, now: float) -> Row:
    """A ServiceAccount."""
    return [_name(obj), len(obj.get("secrets") or ()), age(obj, now)]


def resource_quota(obj: Object, now: float) -> Row:
    """A ResourceQuota: what is used of what, limits apart."""
    hard, used = at(obj, "status", "hard") or {}, at(obj, "status", "used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for name in sorted(hard):
        column = limits if name.startswith("limits.") else requests
        column.append(f"{name}: {used.get(name, '0')}/{hard[name]}")
    return [_name(obj), ", ".join(requests), ", ".join(limits), age(obj, now)]


def _modes(modes: list[str] | None) -> str:
    return ",".join(short for mode, short in _MODES.items() if mode in (modes or ()))


def _class(obj: Object) -> str:
    annotations = obj["metadata"].get("annotations") or {}
    return str(annotations.get(_CLASS) or at(obj, "spec", "storageClassName") or "")


def _phase(obj: Object) -> str:
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return str(at(obj, "status", "phase") or "")


def persistent_volume(obj: Object, now: float) -> Row:
    """A PersistentVolume."""
    spec = obj["spec"]
    claim = spec.get("claimRef")
    return [
        _name(obj),
        at(spec, "capacity", "storage") or "0",
        _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        _phase(obj),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _class(obj),
        spec.get("volumeAttributesClassName") or text.UNSET,
        at(obj, "status", "reason") or "",
        age(obj, now),
        spec.get("volumeMode") or text.UNSET,
    ]


def volume_claim(obj: Object, now: float) -> Row:
    """A PersistentVolumeClaim."""
    spec, capacity, modes = obj["spec"], "", ""
    if spec.get("volumeName"):
        modes = _modes(at(obj, "status", "accessModes"))
        capacity = at(obj, "status", "capacity", "storage") or "0"
    return [
        _name(obj),
        _phase(obj),
        spec.get("volumeName", ""),
        capacity,
        modes,
        _class(obj),
        spec.get("volumeAttributesClassName") or text.UNSET,
        age(obj, now),
        spec.get("volumeMode") or text.UNSET,
    ]


def storage_class(obj: Object, now: float) -> Row:
    """A StorageClass."""
    annotations = obj["metadata"].get("annotations") or {}
    default = any(annotations.get(name) == "true" for name in _DEFAULT_CLASS)
    return [
        f"{_name(obj)} (default)" if default else _name(obj),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


def event(obj: Object, now: float) -> Row:
    """An Event of either API."""
    first = text.since(obj.get("firstTimestamp") or obj.get("eventTime"), now)
    last = text.since(obj["lastTimestamp"], now) if obj.get("lastTimestamp") else first
    times = count(obj, "count") or 1
    series = obj.get("series")
    if series:
        last = text.since(series.get("lastObservedTime"), now)
        times = count(series, "count")
    about = obj.get("involvedObject") or {}
    target = about.get("kind", "").lower()
    if about.get("name"):
        target += f"/{about['name']}"
    source = at(obj, "source", "component") or obj.get("reportingComponent") or ""
    host = at(obj, "source", "host") or obj.get("reportingInstance")
    return [
        last,
        obj.get("type", ""),
        obj.get("reason", ""),
        target,
        about.get("fieldPath", ""),
        f"{source}, {host}" if host else source,
        obj.get("message", "").strip(),
        first,
        times,
        _name(obj),
    ]


def role_binding(obj: Object, now: float) -> Row:
    """A RoleBinding or a ClusterRoleBinding."""
    subjects: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or ():
        name, within = subject.get("name", ""), subject.get("namespace")
        if subject.get("kind") == "ServiceAccount" and within:
            name = f"{within}/{name}"
        subjects.get(subject.get("kind", ""), []).append(name)
    role = obj["roleRef"]
    return [
        _name(obj),
        f"{role['kind']}/{role['name']}",
        age(obj, now),
        *(", ".join(names) for names in subjects.values()),
    ]


def lease(obj: Object, now: float) -> Row:
    """A Lease."""
    return [_name(obj), at(obj, "spec", "holderIdentity") or "", age(obj, now)]


def runtime_class(obj: Object, now: float) -> Row:
    """A RuntimeClass."""
    return [_name(obj), obj.get("handler", ""), age(obj, now)]


def priority_class(obj: Object, now: float) -> Row:
    """A PriorityClass."""
    return [
        _name(obj),
        count(obj, "value"),
        bool(obj.get("globalDefault")),
        age(obj, now),
        obj.get("preemptionPolicy", ""),
    ]


def named(obj: Object, now: float) -> Row:
    """A DeviceClass or a ResourceClaimTemplate: name and age."""
    return [_name(obj), age(obj, now)]


def resource_claim(obj: Object, now: float) -> Row:
    """A ResourceClaim."""
    states = []
    deleted = bool(obj["metadata"].get("deletionTimestamp"))
    if deleted:
        states.append("deleted")
    if at(obj, "status", "allocation"):
        states.append("allocated")
        if at(obj, "status", "reservedFor"):
            states.append("reserved")
    elif not deleted:
        states.append("pending")
    return [_name(obj), ",".join(states), age(obj, now)]


def resource_slice(obj: Object, now: float) -> Row:
    """A ResourceSlice."""
    spec = obj["spec"]
    return [
        _name(obj),
        spec.get("nodeName", ""),
        spec.get("driver", ""),
        at(spec, "pool", "name") or "",
        age(obj, now),
    ]


def default(obj: Object, now: float) -> Row:
    """Any other kind: its name and when it was made."""
    return [_name(obj), obj["metadata"].get("creationTimestamp") or text.UNKNOWN]
