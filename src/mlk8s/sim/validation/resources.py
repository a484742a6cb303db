"""Validation of resource names and amounts: what a container asks for, quotas, limit ranges.

The rules are those of ``pkg/apis/core/validation`` and ``pkg/apis/core/helper``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from fractions import Fraction
from typing import Any

from mlk8s.sim import quantity
from mlk8s.sim.status import FieldError, duplicate, forbidden, invalid, required, unsupported
from mlk8s.sim.validation import rules

HUGE_PAGES = "hugepages-"
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_OBJECTS = (
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
)
_STANDARD = {
    *_COMPUTE,
    *(f"requests.{name}" for name in _COMPUTE),
    *(f"limits.{name}" for name in _COMPUTE),
    *_OBJECTS,
    "storage",
    "requests.storage",
}
_QUOTA = _STANDARD - {"storage"}
_INTEGER = set(_OBJECTS)


def is_native(name: str) -> bool:
    """Whether Kubernetes itself defines a resource."""
    return "/" not in name or "kubernetes.io/" in name


def is_huge_pages(name: str) -> bool:
    """``hugepages-2Mi`` and the like."""
    return name.startswith(HUGE_PAGES)


def is_extended(name: str) -> bool:
    """Whether a resource comes from a device plugin or an operator, such as ``nvidia.com/gpu``."""
    if is_native(name) or name.startswith("requests."):
        return False
    # It has to stay valid as a name in a quota.
    return not rules.qualified_name(f"requests.{name}")


def is_whole(name: str) -> bool:
    """Whether the resource is counted in whole pieces."""
    return name in _INTEGER or is_extended(name)


def may_overcommit(name: str) -> bool:
    """Whether a request may differ from the limit."""
    return is_native(name) and not is_huge_pages(name)


def _name(path: str, name: str) -> list[FieldError]:
    errors = rules.each(path, name, rules.qualified_name)
    if not errors and "/" not in name and name not in _STANDARD and not _prefixed(name):
        errors.append(invalid(path, name, "must be a standard resource type or fully qualified"))
    return errors


def _prefixed(name: str) -> bool:
    return name.startswith((HUGE_PAGES, f"requests.{HUGE_PAGES}"))


def container_name(path: str, name: str) -> list[FieldError]:
    """The name of a resource that a container asks for."""
    errors = _name(path, name)
    if "/" not in name:
        if name not in _COMPUTE and not is_huge_pages(name):
            errors.append(invalid(path, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        errors.append(invalid(path, name, "doesn't follow extended resource name standard"))
    return errors


def pod_name(path: str, name: str) -> list[FieldError]:
    """The name of a resource that a pod as a whole asks for."""
    errors = _name(path, name)
    if not errors and name not in ("cpu", "memory") and not is_huge_pages(name):
        errors.append(unsupported(path, name, ("cpu", HUGE_PAGES, "memory")))
    return errors


def quota_name(path: str, name: str) -> list[FieldError]:
    """The name of what a ResourceQuota limits."""
    errors = _name(path, name)
    if "/" not in name and name not in _QUOTA and not _prefixed(name):
        errors.append(invalid(path, name, "must be a standard resource for quota"))
    return errors


def limit_range_name(path: str, name: str, kind: str) -> list[FieldError]:
    """The name of what a LimitRange limits, by its ``type``."""
    return container_name(path, name) if kind in ("Pod", "Container") else _name(path, name)


def amount(path: str, name: str, text: Any) -> list[FieldError]:
    """The amount of a resource."""
    return rules.quantity_value(path, text, is_whole(name))


def amounts(
    path: str,
    found: Mapping[str, Any] | None,
    check: Callable[[str, str], list[FieldError]] | None = None,
) -> list[FieldError]:
    """A resource list, its names too when a check for them is given."""
    errors: list[FieldError] = []
    for name, text in sorted((found or {}).items()):
        here = f"{path}[{name}]"
        if check:
            errors += check(here, name)
        errors += amount(here, name, text)
    return errors


def requirements(
    path: str,
    found: Mapping[str, Any],
    claims: Collection[str],
    check: Callable[[str, str], list[FieldError]] = container_name,
) -> list[FieldError]:
    """``resources`` of a container or a pod.

    Args:
        path: its path.
        found: the requirements.
        claims: names of the pod's ``resourceClaims``.
        check: which names are allowed.
    """
    limits, requests = found.get("limits") or {}, found.get("requests") or {}
    errors: list[FieldError] = []
    for name, text in sorted(limits.items()):
        here = f"{path}.limits[{name}]"
        errors += check(here, name) + amount(here, name, text) + _huge(here, name, text)
    for name, text in sorted(requests.items()):
        here = f"{path}.requests[{name}]"
        errors += check(here, name) + amount(here, name, text)
        errors += _against_limit(path, name, text, limits.get(name))
        errors += _huge(here, name, text)
    names = {*limits, *requests}
    if any(is_huge_pages(name) for name in names) and not names & {"cpu", "memory"}:
        errors.append(forbidden(path, "HugePages require cpu or memory"))
    return errors + _claims(f"{path}.claims", found.get("claims") or [], claims)


def _against_limit(path: str, name: str, text: Any, limit: Any) -> list[FieldError]:
    if limit is None:
        if may_overcommit(name):
            return []
        detail = "Limit must be set for non overcommitable resources"
        return [required(f"{path}.limits", detail)]
    asked, most = quantity.value(str(text)), quantity.value(str(limit))
    shown = quantity.canonical(text)
    if asked != most and not may_overcommit(name):
        detail = f"must be equal to {name} limit of {quantity.canonical(limit)}"
        return [invalid(f"{path}.requests", shown, detail)]
    if asked > most:
        detail = f"must be less than or equal to {name} limit of {quantity.canonical(limit)}"
        return [invalid(f"{path}.requests", shown, detail)]
    return []


def _huge(path: str, name: str, text: Any) -> list[FieldError]:
    if not is_huge_pages(name):
        return []
    try:
        page = quantity.value(name.removeprefix(HUGE_PAGES))
    except ValueError:
        page = Fraction(0)
    number = quantity.value(str(text))
    if page > 0 and number % page == 0:
        return []
    shown = quantity.canonical(text)
    return [invalid(path, shown, f"{shown} is not positive integer multiple of {name}")]


def _claims(path: str, claims: list[dict[str, Any]], of_pod: Collection[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        here, name = f"{path}[{index}]", claim.get("name", "")
        if not name:
            errors.append(required(here))
            continue
        if name in seen:
            errors.append(duplicate(here, name))
        else:
            key = name
            if request := claim.get("request"):
                errors += rules.each(f"{here}.request", request, rules.dns_label)
                key += f"/{request}"
            if key in seen:
                errors.append(duplicate(here, key))
            elif key == name:
                errors += [duplicate(here, name) for other in seen if other.startswith(f"{name}/")]
            seen.add(key)
        if name not in of_pod:
            listed = f": {', '.join(sorted(of_pod))}" if of_pod else " which is empty"
            detail = f"must be one of the names in pod.spec.resourceClaims{listed}"
            errors.append(rules.not_found(here, name, detail))
    return errors
