"""Validation of the smaller kinds of the core group: what holds configuration and storage.

ConfigMap, Secret, Namespace, Node, Event, PersistentVolume and PersistentVolumeClaim.
"""

from __future__ import annotations

import base64
import binascii
import copy
import json

from mlk8s.sim import quantity
from mlk8s.sim.status import FieldError, Object, forbidden, invalid, required, unsupported
from mlk8s.sim.validation import gotypes, resources, rules, scheduling

# Of all values of a ConfigMap or a Secret together.
MAX_DATA = 1024 * 1024
_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES = ("Block", "Filesystem")
_RECLAIM = ("Delete", "Recycle", "Retain")
_NEEDED = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def config_map(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a ConfigMap."""
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    errors = _locked(obj, old, ("data", "binaryData"))
    size = 0
    for key, value in sorted(data.items()):
        errors += rules.each(f"data[{key}]", key, rules.config_key)
        if key in binary:
            text = "duplicate of key present in binaryData"
            errors.append(invalid(f"data[{key}]", key, text))
        size += len(value.encode())
    for key, value in sorted(binary.items()):
        errors += rules.each(f"binaryData[{key}]", key, rules.config_key)
        size += _decoded_size(value)
    if size > MAX_DATA:
        # The path of the object as a whole, as the server prints it.
        errors.append(rules.too_long("[]", MAX_DATA))
    return errors


def secret(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a Secret."""
    data, kind = obj.get("data") or {}, obj.get("type", "")
    errors: list[FieldError] = []
    if old is not None and kind != old.get("type", ""):
        errors.append(invalid("type", kind, rules.IMMUTABLE))
    errors += _locked(obj, old, ("data",))
    size = 0
    for key, value in sorted(data.items()):
        errors += rules.each(f"data[{key}]", key, rules.config_key)
        size += _decoded_size(value)
    if size > MAX_DATA:
        errors.append(rules.too_long("data", MAX_DATA))
    annotations = obj["metadata"].get("annotations") or {}
    account = "kubernetes.io/service-account.name"
    if kind == "kubernetes.io/service-account-token" and not annotations.get(account):
        errors.append(required(f"metadata.annotations[{account}]"))
    if kind == "kubernetes.io/basic-auth" and not data.keys() & {"username", "password"}:
        errors += [required("data[username]"), required("data[password]")]
    for key in _NEEDED.get(kind, ()):
        if key not in data:
            errors.append(required(f"data[{key}]"))
        elif "docker" in kind:
            errors += _json(f"data[{key}]", data[key])
    return errors


def _json(path: str, value: str) -> list[FieldError]:
    try:
        found = json.loads(base64.b64decode(value))
    except (ValueError, binascii.Error) as error:
        return [invalid(path, "<secret contents redacted>", str(error))]
    if isinstance(found, dict):
        return []
    text = "json: cannot unmarshal value into Go value of type map[string]interface {}"
    return [invalid(path, "<secret contents redacted>", text)]


def _decoded_size(value: str) -> int:
    return len(value) * 3 // 4 - value[-2:].count("=")


def _locked(obj: Object, old: Object | None, parts: tuple[str, ...]) -> list[FieldError]:
    if old is None or not old.get("immutable"):
        return []
    text = "field is immutable when `immutable` is set"
    errors = [] if obj.get("immutable") else [forbidden("immutable", text)]
    return errors + [
        forbidden(part, text) for part in parts if (obj.get(part) or {}) != (old.get(part) or {})
    ]


def namespace(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a Namespace."""
    errors: list[FieldError] = []
    for name in (obj.get("spec") or {}).get("finalizers") or ():
        errors += rules.each("spec.finalizers", name, rules.qualified_name)
    return errors


def node(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a Node."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    errors: list[FieldError] = []
    for part in ("capacity", "allocatable"):
        for name, text in sorted((status.get(part) or {}).items()):
            errors += resources.amount(f"status.{part}.{name}", name, text)
    if old is not None:
        errors += _node_update(spec, old.get("spec") or {})
    # The server puts the taints below metadata in its messages.
    return errors + scheduling.taints("metadata.taints", spec.get("taints") or [])


def _node_update(spec: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if old.get("podCIDRs") and spec.get("podCIDRs") != old["podCIDRs"]:
        text = 'node updates may not change podCIDR except from "" to valid'
        errors.append(forbidden("spec.podCIDRs", text))
    if old.get("providerID") and spec.get("providerID") != old["providerID"]:
        text = 'node updates may not change providerID except from "" to valid'
        errors.append(forbidden("spec.providerID", text))
    return errors


def event(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in an Event of the core API, which checks little."""
    about = obj["metadata"].get("namespace", "")
    involved = (obj.get("involvedObject") or {}).get("namespace", "")
    if old is None and (involved or "default") != about:
        text = "does not match event.namespace"
        return [invalid("involvedObject.namespace", involved, text)]
    return []


def volume(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a PersistentVolume."""
    spec = obj.get("spec") or {}
    errors = _access_modes(spec)
    capacity = spec.get("capacity") or {}
    if not capacity:
        errors.append(required("spec.capacity"))
    elif "storage" not in capacity or len(capacity) > 1:
        errors.append(unsupported("spec.capacity", capacity, ("storage",)))
    for name, text in sorted(capacity.items()):
        errors += _positive(f"spec.capacity[{name}]", text)
    policy = spec.get("persistentVolumeReclaimPolicy")
    errors += rules.choice("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM, needed=False)
    errors += rules.choice("spec.volumeMode", spec.get("volumeMode"), _VOLUME_MODES, needed=False)
    if needed := (spec.get("nodeAffinity") or {}).get("required"):
        errors += scheduling.node_selector("spec.nodeAffinity.required", needed)
    return errors


def claim(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a PersistentVolumeClaim."""
    spec = obj.get("spec") or {}
    errors = _access_modes(spec)
    errors += rules.label_selector("spec.selector", spec.get("selector"))
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is None:
        errors.append(required("spec.resources[storage]"))
    else:
        errors += _positive("spec.resources[storage]", storage)
    if name := spec.get("storageClassName"):
        errors += rules.each("spec.storageClassName", name, rules.dns_subdomain)
    errors += rules.choice("spec.volumeMode", spec.get("volumeMode"), _VOLUME_MODES, needed=False)
    return errors if old is None else errors + _claim_update(obj, old)


def _claim_update(obj: Object, old: Object) -> list[FieldError]:
    spec, before = copy.deepcopy(obj.get("spec") or {}), copy.deepcopy(old["spec"])
    bound = (old.get("status") or {}).get("phase") == "Bound"
    if not before.get("volumeName"):
        before.pop("volumeName", None)
        if "volumeName" in spec:
            before["volumeName"] = spec["volumeName"]
    if "storageClassName" not in before:
        spec.pop("storageClassName", None)
    new_size = ((spec.get("resources") or {}).get("requests") or {}).get("storage", "0")
    old_size = ((before.get("resources") or {}).get("requests") or {}).get("storage", "0")
    if bound:
        spec.setdefault("resources", {}).setdefault("requests", {})["storage"] = old_size
        if "volumeAttributesClassName" in spec:
            before["volumeAttributesClassName"] = spec["volumeAttributesClassName"]
    errors: list[FieldError] = []
    if spec != before:
        changes = gotypes.diff("PersistentVolumeClaimSpec", before, spec)
        text = (
            "spec is immutable after creation except resources.requests and "
            f"volumeAttributesClassName for bound claims\n{changes}"
        )
        errors.append(forbidden("spec", text))
    capacity = ((old.get("status") or {}).get("capacity") or {}).get("storage", "0")
    smaller = quantity.value(new_size) < quantity.value(old_size)
    if smaller and quantity.value(new_size) <= quantity.value(capacity):
        text = "field can not be less than status.capacity"
        errors.append(forbidden("spec.resources.requests.storage", text))
    return errors


def _access_modes(spec: Object) -> list[FieldError]:
    modes = spec.get("accessModes") or []
    if not modes:
        return [required("spec.accessModes", "at least 1 access mode is required")]
    errors = [
        unsupported("spec.accessModes", mode, _ACCESS_MODES)
        for mode in modes
        if mode not in _ACCESS_MODES
    ]
    if "ReadWriteOncePod" in modes and len(set(modes)) > 1:
        text = "may not use ReadWriteOncePod with other access modes"
        errors.append(forbidden("spec.accessModes", text))
    return errors


def _positive(path: str, text: str) -> list[FieldError]:
    if quantity.value(str(text)) > 0:
        return []
    return [invalid(path, quantity.canonical(text), rules.NOT_POSITIVE)]
