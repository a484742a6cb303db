"""Validation of a container's environment, and of references to fields and resources of its pod."""

from __future__ import annotations

from collections.abc import Collection

from mlk8s.sim.status import FieldError, Object, invalid, required, unsupported
from mlk8s.sim.validation import rules

_FIELD_PATHS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_RESOURCE_PATHS = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_ENV_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def variables(path: str, found: list[Object]) -> list[FieldError]:
    """``env`` of a container."""
    errors: list[FieldError] = []
    for index, variable in enumerate(found):
        here = f"{path}[{index}]"
        if name := variable.get("name"):
            errors += rules.each(f"{here}.name", name, rules.env_name)
        else:
            errors.append(required(f"{here}.name"))
        if (source := variable.get("valueFrom")) is not None:
            errors += _value_from(f"{here}.valueFrom", source, variable.get("value", ""))
    return errors


def _value_from(path: str, source: Object, value: str) -> list[FieldError]:
    errors: list[FieldError] = []
    given = [name for name in _ENV_SOURCES if source.get(name) is not None]
    if "fieldRef" in given:
        errors += field_ref(f"{path}.fieldRef", source["fieldRef"], _FIELD_PATHS)
    if "resourceFieldRef" in given:
        errors += resource_ref(f"{path}.resourceFieldRef", source["resourceFieldRef"], False)
    for name in ("configMapKeyRef", "secretKeyRef"):
        if name in given:
            selector = source[name]
            errors += rules.each(
                f"{path}.{name}.name", selector.get("name", ""), rules.dns_subdomain
            )
            if not selector.get("key"):
                errors.append(required(f"{path}.{name}.key"))
            else:
                errors += rules.each(f"{path}.{name}.key", selector["key"], rules.config_key)
    if not given:
        text = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, "
            "`secretKeyRef` or `fileKeyRef`"
        )
        errors.append(invalid(path, "", text))
    elif value:
        errors.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(given) > 1:
        text = "may not have more than one field specified at a time"
        errors.append(invalid(path, "", text))
    return errors


def field_ref(path: str, source: Object, allowed: Collection[str]) -> list[FieldError]:
    """A reference to a field of the pod, in a variable or a downward API volume."""
    if not source.get("apiVersion"):
        return [required(f"{path}.apiVersion")]
    if not (field := source.get("fieldPath")):
        return [required(f"{path}.fieldPath")]
    base, bracket, rest = field.partition("['")
    if bracket and rest.endswith("']"):
        key = rest[:-2]
        if base == "metadata.annotations":
            return rules.each(path, key.lower(), rules.qualified_name)
        if base == "metadata.labels":
            return rules.each(path, key, rules.qualified_name)
        return [invalid(path, base, "does not support subscript")]
    if field in allowed:
        return []
    if field in (*_FIELD_PATHS, "metadata.annotations", "metadata.labels"):
        return [unsupported(f"{path}.fieldPath", field, sorted(allowed))]
    text = f"error converting fieldPath: field label not supported: {field}"
    return [invalid(f"{path}.fieldPath", field, text)]


def resource_ref(path: str, source: Object, in_volume: bool) -> list[FieldError]:
    """A reference to what a container asks for."""
    if in_volume and not source.get("containerName"):
        return [required(f"{path}.containerName")]
    if not (name := source.get("resource")):
        return [required(f"{path}.resource")]
    huge = name.startswith(("requests.hugepages-", "limits.hugepages-"))
    if name not in _RESOURCE_PATHS and not huge:
        return [unsupported(f"{path}.resource", name, _RESOURCE_PATHS)]
    return []


def sources(path: str, found: list[Object]) -> list[FieldError]:
    """``envFrom`` of a container."""
    errors: list[FieldError] = []
    for index, source in enumerate(found):
        here = f"{path}[{index}]"
        if prefix := source.get("prefix"):
            errors += rules.each(f"{here}.prefix", prefix, rules.env_name)
        given = [name for name in ("configMapRef", "secretRef") if source.get(name) is not None]
        for name in given:
            if other := source[name].get("name"):
                errors += rules.each(f"{here}.{name}.name", other, rules.dns_subdomain)
            else:
                errors.append(required(f"{here}.{name}.name"))
        if not given:
            text = "must specify one of: `configMapRef` or `secretRef`"
            errors.append(invalid(path, "", text))
        elif len(given) > 1:
            text = "may not have more than one field specified at a time"
            errors.append(invalid(path, "", text))
    return errors
