"""What the API server accepts of DeviceClass, ResourceClaim and ResourceClaimTemplate.

The rules and sentences are those of ``pkg/apis/resource/validation`` of 1.36, with its limits from
``k8s.io/api/resource/v1``. ResourceSlices are in ``dra_slices``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from mlk8s.sim import cel
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import (
    TOO_MANY,
    FieldError,
    Object,
    duplicate,
    forbidden,
    invalid,
    required,
    unsupported,
)
from mlk8s.sim.validation import dra_slices, gotypes, resources, rules, scheduling
from mlk8s.sim.validation.dra_types import claim_spec, template_spec

if TYPE_CHECKING:
    from mlk8s.sim.api import Api

_MAX_ITEMS = 32
_MAX_ALTERNATIVES = 8
_MAX_TOLERATIONS = 16
_MAX_USERS = 256
_MAX_EXPRESSION = 10 * 1024
_MAX_PARAMETERS = 10 * 1024
_MODES = ("All", "ExactCount")
_EFFECTS = ("NoExecute", "NoSchedule", "None")
_ADMIN_LABEL = "resource.kubernetes.io/admin-access"
_REFERENCE = (
    "must be the name of a request in the claim or the name of a request and a subrequest "
    "separated by '/'"
)
Check = Callable[[str, Any], list[FieldError]]


def on_create(resource: Resource, obj: Object, api: Api) -> list[FieldError]:
    """What is wrong with a new object; its metadata is checked elsewhere."""
    spec = obj.get("spec") or {}
    match resource.kind:
        case "DeviceClass":
            return _class("spec", spec, None)
        case "ResourceClaim":
            return _claim("spec", spec) + _admin("spec", spec, obj, api)
        case "ResourceClaimTemplate":
            inner = spec.get("spec") or {}
            return _claim("spec.spec", inner) + _admin("spec.spec", inner, obj, api)
        case "ResourceSlice":
            return dra_slices.spec("spec", spec, None)
    return []


def on_update(
    resource: Resource, new: Object, old: Object, api: Api, subresource: str
) -> list[FieldError]:
    """What is wrong with a change."""
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    match resource.kind:
        case "DeviceClass":
            return _class("spec", spec, before)
        case "ResourceClaim" if subresource == "status":
            return _status(new, old)
        case "ResourceClaim" if spec != before:
            return [gotypes.invalid("spec", claim_spec(spec), rules.IMMUTABLE)]
        case "ResourceClaimTemplate" if spec != before:
            return [gotypes.invalid("spec", template_spec(spec), rules.IMMUTABLE)]
        case "ResourceSlice":
            return dra_slices.spec("spec", spec, before)
    return []


def items(
    path: str, values: Sequence[Any], most: int, check: Check, key: str | None = None
) -> list[FieldError]:
    """A list that is not too long, of valid items; ``key`` may not repeat (``""``: the item)."""
    if len(values) > most:
        return [FieldError(path, TOO_MANY, f"{len(values)}: must have at most {most} items")]
    errors: list[FieldError] = []
    for number, value in enumerate(values):
        errors += check(f"{path}[{number}]", value)
    if key is None:
        return errors
    seen: set[str] = set()
    for number, value in enumerate(values):
        name = value.get(key, "") if key else value
        if name in seen:
            errors.append(duplicate(f"{path}[{number}]", name))
        seen.add(name)
    return errors


# -- classes and claims --------------------------------------------------------------------------


def _class(path: str, spec: Object, old: Object | None) -> list[FieldError]:
    errors: list[FieldError] = []
    selectors = spec.get("selectors") or []
    # Selectors that have not changed are not compiled again.
    stored = old is not None and selectors == (old.get("selectors") or [])
    errors += items(
        f"{path}.selectors", selectors, _MAX_ITEMS, lambda at, each: _selector(at, each, stored)
    )
    config = spec.get("config") or []
    stored_config = old is not None and config == (old.get("config") or [])
    errors += items(
        f"{path}.config",
        config,
        _MAX_ITEMS,
        lambda at, each: _configuration(at, each, stored_config),
    )
    name = spec.get("extendedResourceName")
    if name is not None and not resources.is_extended(name):
        text = "must be a valid extended resource name"
        errors.append(invalid(f"{path}.extendedResourceName", name, text))
    return errors


def _claim(path: str, spec: Object) -> list[FieldError]:
    devices = spec.get("devices") or {}
    path = f"{path}.devices"
    names = _names(devices)
    errors = items(f"{path}.requests", devices.get("requests") or [], _MAX_ITEMS, _request, "name")
    errors += items(
        f"{path}.constraints",
        devices.get("constraints") or [],
        _MAX_ITEMS,
        lambda at, each: _constraint(at, each, names),
    )
    errors += items(
        f"{path}.config",
        devices.get("config") or [],
        _MAX_ITEMS,
        lambda at, each: _references(at, each, names) + _configuration(at, each, False),
    )
    return errors


def _names(devices: Object) -> set[str]:
    names: set[str] = set()
    for request in devices.get("requests") or ():
        name = request.get("name", "")
        names.add(name)
        names |= {f"{name}/{sub.get('name', '')}" for sub in request.get("firstAvailable") or ()}
    return names


def _request(path: str, request: Object) -> list[FieldError]:
    errors = rules.each(f"{path}.name", request.get("name", ""), rules.dns_label)
    alternatives, exactly = request.get("firstAvailable") or [], request.get("exactly")
    text = "exactly one of `exactly` or `firstAvailable` is required"
    if alternatives and exactly is not None:
        return [*errors, invalid(path, None, f"{text}, but multiple fields are set")]
    if alternatives:
        return errors + items(
            f"{path}.firstAvailable", alternatives, _MAX_ALTERNATIVES, _subrequest, "name"
        )
    if exactly is None:
        return [*errors, required(path, text)]
    return errors + _device(f"{path}.exactly", exactly)


def _subrequest(path: str, request: Object) -> list[FieldError]:
    errors = rules.each(f"{path}.name", request.get("name", ""), rules.dns_label)
    return errors + _device(path, request)


def _device(path: str, spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if name := spec.get("deviceClassName"):
        errors += rules.each(f"{path}.deviceClassName", name, rules.dns_subdomain)
    else:
        errors.append(required(f"{path}.deviceClassName"))
    errors += items(
        f"{path}.selectors",
        spec.get("selectors") or [],
        _MAX_ITEMS,
        lambda at, each: _selector(at, each, False),
    )
    mode, count = spec.get("allocationMode", ""), spec.get("count", 0)
    if mode not in _MODES:
        errors.append(unsupported(f"{path}.allocationMode", mode, _MODES))
    elif mode == "All" and count:
        text = "must not be specified when allocationMode is 'All'"
        errors.append(invalid(f"{path}.count", count, text))
    elif mode == "ExactCount" and count <= 0:
        errors.append(invalid(f"{path}.count", count, rules.NOT_POSITIVE))
    tolerations = spec.get("tolerations") or []
    return errors + items(f"{path}.tolerations", tolerations, _MAX_TOLERATIONS, _toleration)


def _selector(path: str, selector: Object, stored: bool) -> list[FieldError]:
    if selector.get("cel") is None:
        return [required(f"{path}.cel")]
    expression = selector["cel"].get("expression", "")
    path = f"{path}.cel.expression"
    if stored:
        return []
    if len(expression.encode()) > _MAX_EXPRESSION:
        return [rules.too_long(path, _MAX_EXPRESSION)]
    try:
        cel.selector(expression)
    except cel.CelError as error:
        return [invalid(path, expression, str(error))]
    return []


def _toleration(path: str, toleration: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if key := toleration.get("key"):
        errors += rules.each(f"{path}.key", key, rules.qualified_name)
    operator, value = toleration.get("operator", ""), toleration.get("value", "")
    if operator == "Exists":
        if value:
            errors.append(invalid(f"{path}.value", value, "must be empty for operator `Exists`"))
    elif operator == "Equal":
        errors += rules.each(f"{path}.value", value, rules.label_value)
    else:
        errors += rules.choice(f"{path}.operator", operator, ("Equal", "Exists"))
    return errors + rules.choice(f"{path}.effect", toleration.get("effect"), _EFFECTS, False)


def _constraint(path: str, constraint: Object, names: set[str]) -> list[FieldError]:
    errors = _references(path, constraint, names)
    for kind in ("matchAttribute", "distinctAttribute"):
        if (name := constraint.get(kind)) is not None:
            errors += dra_slices.qualified_name(f"{path}.{kind}", name)
            if "/" not in name:
                text = "a fully qualified name must be a domain and a name separated by a slash"
                errors.append(invalid(f"{path}.{kind}", name, text))
            return errors
    text = (
        'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields '
        "are set"
    )
    return [*errors, required(path, text)]


def _references(path: str, holder: Object, names: set[str]) -> list[FieldError]:
    """The requests that a constraint or a configuration is about."""
    return items(
        f"{path}.requests",
        holder.get("requests") or [],
        _MAX_ITEMS,
        lambda at, name: _reference(at, name, names),
        "",
    )


def _reference(path: str, name: str, names: set[str]) -> list[FieldError]:
    parts = name.split("/")
    if len(parts) > 2:
        return [invalid(path, name, _REFERENCE)]
    errors = [error for part in parts for error in rules.each(path, part, rules.dns_label)]
    return errors if name in names else [*errors, invalid(path, name, _REFERENCE)]


def _configuration(path: str, config: Object, stored: bool) -> list[FieldError]:
    if (opaque := config.get("opaque")) is None:
        return [required(f"{path}.opaque")]
    path = f"{path}.opaque"
    errors = dra_slices.driver_name(f"{path}.driver", opaque.get("driver", ""))
    parameters = opaque.get("parameters")
    path = f"{path}.parameters"
    if parameters is None:
        errors.append(required(path))
    elif not stored and len(orjson.dumps(parameters)) > _MAX_PARAMETERS:
        errors.append(rules.too_long(path, _MAX_PARAMETERS))
    elif not isinstance(parameters, dict):
        errors.append(invalid(path, "<value omitted>", "must be a valid JSON object"))
    return errors


def _admin(path: str, spec: Object, obj: Object, api: Api) -> list[FieldError]:
    """Access to devices that others use is for namespaces with a label."""
    requests = (spec.get("devices") or {}).get("requests") or []
    namespace = api.find("namespaces", "", obj["metadata"].get("namespace", ""))
    labels = ((namespace or {}).get("metadata") or {}).get("labels") or {}
    if labels.get(_ADMIN_LABEL) == "true":
        return []
    text = (
        f"admin access to devices requires the `{_ADMIN_LABEL}: true` label on the containing "
        "namespace"
    )
    return [
        forbidden(f"{path}.devices.requests[{number}].exactly.adminAccess", text)
        for number, request in enumerate(requests)
        if (request.get("exactly") or {}).get("adminAccess")
    ]


# -- status --------------------------------------------------------------------------------------


def _status(new: Object, old: Object) -> list[FieldError]:
    status, before = new.get("status") or {}, old.get("status") or {}
    names = _names((new.get("spec") or {}).get("devices") or {})
    users = status.get("reservedFor") or []
    errors = items("status.reservedFor", users, _MAX_USERS, _user, "uid")
    allocation, earlier = status.get("allocation"), before.get("allocation")
    errors += _device_statuses(status.get("devices") or [], allocation)
    if users and allocation is None:
        text = "may not be specified when `allocated` is not set"
        errors.append(forbidden("status.reservedFor", text))
    elif users and "deletionTimestamp" in new["metadata"]:
        known = before.get("reservedFor") or []
        if any(user not in known for user in users):
            text = (
                "new entries may not be added while `deallocationRequested` or "
                "`deletionTimestamp` are set"
            )
            errors.append(forbidden("status.reservedFor", text))
    if allocation is not None and earlier is not None:
        if allocation != earlier:
            errors.append(invalid("status.allocation", allocation, rules.IMMUTABLE))
    elif allocation is not None:
        errors += _allocation("status.allocation", allocation, names)
    return errors


def _user(path: str, user: Object) -> list[FieldError]:
    return [required(f"{path}.{key}") for key in ("resource", "name", "uid") if not user.get(key)]


def _allocation(path: str, allocation: Object, names: set[str]) -> list[FieldError]:
    devices = allocation.get("devices") or {}

    def result(at: str, each: Object) -> list[FieldError]:
        errors = _reference(f"{at}.request", each.get("request", ""), names)
        errors += dra_slices.driver_name(f"{at}.driver", each.get("driver", ""))
        errors += dra_slices.pool_name(f"{at}.pool", each.get("pool", ""))
        return errors + rules.each(f"{at}.device", each.get("device", ""), rules.dns_label)

    def config(at: str, each: Object) -> list[FieldError]:
        errors = rules.choice(f"{at}.source", each.get("source"), ("FromClaim", "FromClass"))
        return errors + _references(at, each, names) + _configuration(at, each, False)

    errors = items(f"{path}.devices.results", devices.get("results") or [], _MAX_ITEMS, result)
    errors += items(f"{path}.devices.config", devices.get("config") or [], 2 * _MAX_ITEMS, config)
    if (selector := allocation.get("nodeSelector")) is not None:
        errors += scheduling.node_selector(f"{path}.nodeSelector", selector)
    return errors


def _device_statuses(devices: list[Object], allocation: Object | None) -> list[FieldError]:
    """What drivers report of allocated devices."""

    def identity(each: Object) -> tuple[Any, ...]:
        return tuple(each.get(key) for key in ("driver", "pool", "device", "shareID"))

    results = ((allocation or {}).get("devices") or {}).get("results") or ()
    allocated = {identity(result) for result in results}
    errors: list[FieldError] = []
    seen: set[tuple[Any, ...]] = set()
    for number, device in enumerate(devices):
        path, key = f"status.devices[{number}]", identity(device)
        shown = "/".join(str(part) for part in key if part)
        errors += dra_slices.driver_name(f"{path}.driver", device.get("driver", ""))
        errors += dra_slices.pool_name(f"{path}.pool", device.get("pool", ""))
        errors += rules.each(f"{path}.device", device.get("device", ""), rules.dns_label)
        if key not in allocated:
            errors.append(invalid(path, shown, "must be an allocated device in the claim"))
        if key in seen:
            errors.append(duplicate(path, shown))
        seen.add(key)
    return errors
