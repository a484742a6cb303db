"""What the API server accepts of a ResourceSlice: where it can be used, its devices, its counters.

The rules and sentences are those of ``pkg/apis/resource/validation`` of 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mlk8s.sim import cel
from mlk8s.sim.status import (
    TOO_MANY,
    FieldError,
    Object,
    duplicate,
    invalid,
    required,
)
from mlk8s.sim.validation import dra_capacity, rules, scheduling

_MAX_DEVICES = 128
# With taints or counters a device needs more room.
_MAX_ADVANCED_DEVICES = 64
_MAX_ATTRIBUTES = 32
_MAX_VALUE = 64
_MAX_IDENTIFIER = 32
_MAX_DRIVER = 63
_MAX_TAINTS = 16
_MAX_COUNTER_SETS = 8
_MAX_COUNTERS = 32
_MAX_CONSUMPTIONS = 2
_MAX_CONDITIONS = 4
_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_IDENTIFIER_TEXT = (
    "a valid C identifier must start with alphabetic character or '_', followed by a string of "
    "alphanumeric characters or '_'"
)
_WHERE = (
    "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
)
_DEVICE_WHERE = (
    "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when "
    "`perDeviceNodeSelection` is set to true in the ResourceSlice spec"
)
_UNSET_OR_TRUE = "must be either unset or set to true"


def spec(path: str, spec: Object, old: Object | None) -> list[FieldError]:
    """What is wrong with the spec of a slice; ``old`` is the spec that it replaces."""
    pool = spec.get("pool") or {}
    errors = driver_name(f"{path}.driver", spec.get("driver", ""))
    errors += pool_name(f"{path}.pool.name", pool.get("name", ""))
    if pool.get("resourceSliceCount", 0) <= 0:
        count = pool.get("resourceSliceCount", 0)
        errors.append(invalid(f"{path}.pool.resourceSliceCount", count, rules.NOT_POSITIVE))
    if pool.get("generation", 0) < 0:
        text = "must be greater than or equal to zero"
        errors.append(invalid(f"{path}.pool.generation", pool["generation"], text))
    if old is not None:
        for name, now, before in (
            ("pool.name", pool.get("name"), (old.get("pool") or {}).get("name")),
            ("driver", spec.get("driver"), old.get("driver")),
            ("nodeName", spec.get("nodeName"), old.get("nodeName")),
        ):
            if now != before:
                errors.append(invalid(f"{path}.{name}", now, rules.IMMUTABLE))
    errors += _where(path, spec)
    counters, devices = spec.get("sharedCounters"), spec.get("devices")
    if counters is not None and devices is not None:
        text = "only one of `sharedCounters` or `devices` is allowed"
        errors.append(invalid(path, "", text))
    errors += _devices(f"{path}.devices", spec, old)
    return errors + _counter_sets(f"{path}.sharedCounters", counters or [])


def driver_name(path: str, name: str) -> list[FieldError]:
    """The name of a DRA driver."""
    if not name:
        return [required(path)]
    errors = [rules.too_long(path, _MAX_DRIVER)] if len(name) > _MAX_DRIVER else []
    return errors + [invalid(path, name, text) for text in rules.dns_subdomain(name.lower())]


def pool_name(path: str, name: str) -> list[FieldError]:
    """The name of a pool: one or more subdomains between slashes."""
    if not name:
        return [required(path)]
    errors = [rules.too_long(path, 253)] if len(name) > 253 else []
    for part in name.split("/"):
        errors += rules.each(path, part, rules.dns_subdomain)
    return errors


def qualified_name(path: str, name: str) -> list[FieldError]:
    """The name of an attribute or capacity, with or without a domain."""
    domain, slash, identifier = name.partition("/")
    if not slash:
        return _identifier(path, name)
    if "/" in identifier:
        return [invalid(path, name, "must not contain more than one slash")]
    errors = (
        driver_name(path, domain) if domain else [invalid(path, "", "the domain must not be empty")]
    )
    if not identifier:
        return [*errors, invalid(path, "", "the name must not be empty")]
    return errors + _identifier(path, identifier)


def _identifier(path: str, name: str) -> list[FieldError]:
    errors = [rules.too_long(path, _MAX_IDENTIFIER)] if len(name) > _MAX_IDENTIFIER else []
    if not re.fullmatch(_IDENTIFIER, name):
        text = rules.pattern_error(_IDENTIFIER_TEXT, _IDENTIFIER, "my_name", "MY_NAME", "MyName")
        errors.append(invalid(path, name, text))
    return errors


def _where(path: str, spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    chosen: list[str] = []
    if (name := spec.get("nodeName")) is not None:
        if name:
            chosen.append("`nodeName`")
            errors += rules.each(f"{path}.nodeName", name, rules.dns_subdomain)
        else:
            text = "must be either unset or set to a non-empty string"
            errors.append(invalid(f"{path}.nodeName", name, text))
    if (selector := spec.get("nodeSelector")) is not None:
        chosen.append("`nodeSelector`")
        errors += scheduling.node_selector(f"{path}.nodeSelector", selector)
        terms = selector.get("nodeSelectorTerms") or []
        if len(terms) != 1:
            text = "must have exactly one node selector term"
            errors.append(invalid(f"{path}.nodeSelector.nodeSelectorTerms", terms, text))
    for flag in ("allNodes", "perDeviceNodeSelection"):
        if spec.get(flag) is False:
            errors.append(invalid(f"{path}.{flag}", False, _UNSET_OR_TRUE))
        elif spec.get(flag):
            chosen.append(f"`{flag}`")
    if not chosen:
        errors.append(required(path, _WHERE))
    elif len(chosen) > 1:
        shown = "{" + ", ".join(chosen) + "}"
        errors.append(invalid(path, shown, f"{_WHERE}, but multiple fields are set"))
    return errors


def _devices(path: str, spec: Object, old: Object | None) -> list[FieldError]:
    devices = spec.get("devices") or []
    advanced = any(device.get("taints") or device.get("consumesCounters") for device in devices)
    most = _MAX_ADVANCED_DEVICES if advanced else _MAX_DEVICES
    if len(devices) > most:
        return [FieldError(path, TOO_MANY, f"{len(devices)}: must have at most {most} items")]
    errors: list[FieldError] = []
    known = {device["name"]: device for device in (old or {}).get("devices") or ()}
    per_device = bool(spec.get("perDeviceNodeSelection"))
    for number, device in enumerate(devices):
        before = known.get(device.get("name", ""))
        if before is None or before != device:
            errors += _device(f"{path}[{number}]", device, before or {}, per_device)
    return errors + _unique(path, devices, "name")


def _unique(path: str, values: list[Object], key: str) -> list[FieldError]:
    names = [value.get(key, "") for value in values]
    first = {name: names.index(name) for name in set(names)} if len(set(names)) < len(names) else {}
    return [
        duplicate(f"{path}[{number}]", name)
        for number, name in enumerate(names)
        if first.get(name, number) != number
    ]


def _device(path: str, device: Object, old: Object, per_device: bool) -> list[FieldError]:
    errors = rules.each(f"{path}.name", device.get("name", ""), rules.dns_label)
    attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
    total = len(attributes) + len(capacity)
    if total > _MAX_ATTRIBUTES:
        text = f"the total number of attributes and capacities must not exceed {_MAX_ATTRIBUTES}"
        errors.append(invalid(path, total, text))
    for name, attribute in attributes.items():
        errors += qualified_name(f"{path}.attributes", name)
        errors += _attribute(f"{path}.attributes[{name}]", attribute)
    if capacity != old.get("capacity"):
        shared = bool(device.get("allowMultipleAllocations"))
        for name, given in capacity.items():
            errors += qualified_name(f"{path}.capacity", name)
            errors += dra_capacity.policy(f"{path}.capacity[{name}]", given, shared)
    taints = device.get("taints") or []
    if taints != (old.get("taints") or []):
        errors += _taints(f"{path}.taints", taints)
    uses = device.get("consumesCounters") or []
    if len(uses) > _MAX_CONSUMPTIONS:
        text = f"{len(uses)}: must have at most {_MAX_CONSUMPTIONS} items"
        errors.append(FieldError(f"{path}.consumesCounters", TOO_MANY, text))
    else:
        for number, use in enumerate(uses):
            errors += _counters(f"{path}.consumesCounters[{number}]", use, "counterSet")
        errors += _unique(f"{path}.consumesCounters", uses, "counterSet")
    return errors + _device_where(path, device, per_device) + _conditions(path, device)


def _attribute(path: str, attribute: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    given = {key: value for key, value in attribute.items() if value is not None}
    for key in ("string", "version"):
        value = given.get(key)
        if key == "version" and value is not None and not cel.is_semver(value):
            text = "must be a string compatible with semver.org spec 2.0.0"
            errors.append(invalid(f"{path}.{key}", value, text))
        if value is not None and len(value.encode()) > _MAX_VALUE:
            errors.append(rules.too_long(f"{path}.{key}", _MAX_VALUE))
    if len(given) != 1:
        shown: Any = given or ""
        errors.append(invalid(path, shown, "exactly one value must be specified"))
    return errors


def _taints(path: str, taints: list[Object]) -> list[FieldError]:
    if len(taints) > _MAX_TAINTS:
        text = f"{len(taints)}: must have at most {_MAX_TAINTS} items"
        return [FieldError(path, TOO_MANY, text)]
    errors: list[FieldError] = []
    for number, taint in enumerate(taints):
        here = f"{path}[{number}]"
        errors += rules.each(f"{here}.key", taint.get("key", ""), rules.qualified_name)
        if value := taint.get("value"):
            errors += rules.each(f"{here}.value", value, rules.label_value)
        effects = ("NoExecute", "NoSchedule", "None")
        errors += rules.choice(f"{here}.effect", taint.get("effect"), effects)
    return errors


def _counter_sets(path: str, sets: list[Object]) -> list[FieldError]:
    if len(sets) > _MAX_COUNTER_SETS:
        text = f"{len(sets)}: must have at most {_MAX_COUNTER_SETS} items"
        return [FieldError(path, TOO_MANY, text)]
    errors: list[FieldError] = []
    for number, counter_set in enumerate(sets):
        errors += _counters(f"{path}[{number}]", counter_set, "name")
    return errors + _unique(path, sets, "name")


def _counters(path: str, holder: Object, key: str) -> list[FieldError]:
    """Counters with the set that they belong to."""
    errors: list[FieldError] = []
    if name := holder.get(key):
        errors += rules.each(f"{path}.{key}", name, rules.dns_label)
    else:
        errors.append(required(f"{path}.{key}"))
    counters: Mapping[str, Object] = holder.get("counters") or {}
    path = f"{path}.counters"
    if not counters:
        errors.append(required(path))
    elif len(counters) > _MAX_COUNTERS:
        text = f"{len(counters)}: must have at most {_MAX_COUNTERS} items"
        errors.append(FieldError(path, TOO_MANY, text))
    else:
        for name in counters:
            errors += rules.each(path, name, rules.dns_label)
    return errors


def _device_where(path: str, device: Object, per_device: bool) -> list[FieldError]:
    fields = [key for key in ("nodeName", "nodeSelector", "allNodes") if key in device]
    if not per_device:
        text = (
            "`nodeName`, `nodeSelector` and `allNodes` can only be set if "
            "`perDeviceNodeSelection` is set to true in the ResourceSlice spec"
        )
        return [invalid(path, None, text)] if fields else []
    errors: list[FieldError] = []
    if device.get("nodeName"):
        errors += rules.each(f"{path}.nodeName", device["nodeName"], rules.dns_subdomain)
    elif "nodeName" in fields:
        fields.remove("nodeName")
        errors.append(invalid(f"{path}.nodeName", "", "must not be empty"))
    if "nodeSelector" in fields:
        errors += scheduling.node_selector(f"{path}.nodeSelector", device["nodeSelector"])
    if device.get("allNodes") is False:
        fields.remove("allNodes")
        errors.append(invalid(f"{path}.allNodes", False, _UNSET_OR_TRUE))
    if not fields:
        errors.append(required(path, _DEVICE_WHERE))
    elif len(fields) > 1:
        shown = "{" + ", ".join(f"`{name}`" for name in fields) + "}"
        errors.append(invalid(path, shown, _DEVICE_WHERE))
    return errors


def _conditions(path: str, device: Object) -> list[FieldError]:
    """``bindingConditions`` and ``bindingFailureConditions`` come together and differ."""
    good = device.get("bindingConditions") or []
    bad = device.get("bindingFailureConditions") or []
    errors: list[FieldError] = []
    for name, listed in (("bindingConditions", good), ("bindingFailureConditions", bad)):
        here = f"{path}.{name}"
        if len(listed) > _MAX_CONDITIONS:
            text = f"{len(listed)}: must have at most {_MAX_CONDITIONS} items"
            errors.append(FieldError(here, TOO_MANY, text))
            continue
        for number, condition in enumerate(listed):
            errors += rules.each(f"{here}[{number}]", condition, rules.qualified_name)
            if condition in listed[:number]:
                errors.append(duplicate(f"{here}[{number}]", condition))
            if listed is bad and condition in good:
                text = "bindingFailureConditions must not overlap with bindingConditions"
                errors.append(invalid(f"{here}[{number}]", condition, text))
    if bad and not good:
        text = "bindingConditions are required to use bindingFailureConditions"
        errors.append(invalid(f"{path}.bindingConditions", good, text))
    if good and not bad:
        text = "bindingFailureConditions are required to use bindingConditions"
        errors.append(invalid(f"{path}.bindingFailureConditions", bad, text))
    return errors
