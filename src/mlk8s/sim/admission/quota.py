"""ResourceQuota: whether an object still fits into what its namespace may use.

After ``apiserver/pkg/admission/plugin/resourcequota``. A quota is enforced by its status, which
the quota controller writes; until then it limits nothing. The use is raised when an object is
accepted; the controller lowers it when objects end or go.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from mlk8s.sim import quantity
from mlk8s.sim.admission.errors import refused
from mlk8s.sim.admission.usage import Amounts, compute, in_scopes, tracks, usage_of
from mlk8s.sim.amounts import exact
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object

if TYPE_CHECKING:
    from mlk8s.sim.api import Api

__all__ = ["commit", "matches", "tracks", "usage_of", "validate"]

_QUOTAS = "resourcequotas"
# With a quota on one of these every container has to say how much it takes.
_NEEDED = {
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
}


def matches(quota: Object, resource: Resource, obj: Object) -> bool:
    """Whether a quota counts an object: by what it limits, and by its scopes."""
    hard = (quota.get("spec") or {}).get("hard") or {}
    if not any(tracks(resource, name) for name in hard):
        return False
    return in_scopes(quota, resource, obj)


def validate(op: str, resource: Resource, obj: Object, old: Object | None, api: Api) -> None:
    """Refuse an object that would exceed a quota.

    Raises:
        StatusError: 403, with what was asked for, is in use, and is the limit.
    """
    for quota in _of_namespace(op, resource, obj, api):
        status = quota.get("status") or {}
        hard, used = exact(status.get("hard")), exact(status.get("used"))
        restricted = [name for name in hard if tracks(resource, name)]
        if not restricted or not in_scopes(quota, resource, obj):
            continue
        name = quota["metadata"]["name"]
        if resource.key == "pods" and (missing := _missing(restricted, obj)):
            raise refused(resource, obj, f"failed quota: {name}: must specify {missing}")
        if unknown := sorted(one for one in restricted if one not in used):
            text = f"status unknown for quota: {name}, resources: {','.join(unknown)}"
            raise refused(resource, obj, text)
        asked = _increase(op, quota, resource, obj, old)
        over = sorted(
            one for one, number in asked.items() if one in hard and used[one] + number > hard[one]
        )
        if over:
            like = status["hard"]
            raise refused(
                resource,
                obj,
                f"exceeded quota: {name}, "
                f"requested: {_listed(over, asked, _formats(over, obj, like))}, "
                f"used: {_listed(over, used, status['used'])}, "
                f"limited: {_listed(over, hard, like)}",
            )


def commit(op: str, resource: Resource, obj: Object, old: Object | None, api: Api) -> None:
    """Charge an accepted object to the quotas of its namespace."""
    for quota in _of_namespace(op, resource, obj, api):
        status = quota.get("status") or {}
        hard = status.get("hard") or {}
        if not in_scopes(quota, resource, obj):
            continue
        asked = {
            name: number
            for name, number in _increase(op, quota, resource, obj, old).items()
            if name in hard
        }
        if not asked:
            continue

        def charge(found: Object, asked: Amounts = asked) -> None:
            limits, used = found["status"]["hard"], found["status"].setdefault("used", {})
            for name, number in asked.items():
                before = used.get(name, "0")
                total = quantity.value(str(before)) + number
                used[name] = quantity.of(total, str(limits[name]))

        where = quota["metadata"]
        api.change(_QUOTAS, where["namespace"], where["name"], charge, subresource="status")


def _of_namespace(op: str, resource: Resource, obj: Object, api: Api) -> list[Object]:
    namespace = obj["metadata"].get("namespace", "")
    if op == "UPDATE" and resource.key not in ("services", "persistentvolumeclaims"):
        # The use of all others does not grow by a change.
        return []
    if op == "DELETE" or not namespace or not api.store.keys(_QUOTAS, namespace):
        return []
    return list(api.store.items(_QUOTAS, namespace))


def _increase(
    op: str, quota: Object, resource: Resource, obj: Object, old: Object | None
) -> Amounts:
    found = usage_of(resource, obj)
    if op == "UPDATE" and old is not None and in_scopes(quota, resource, old):
        for name, number in usage_of(resource, old).items():
            found[name] = max(found.get(name, Fraction()) - number, Fraction())
    return {name: number for name, number in found.items() if number}


def _missing(restricted: list[str], pod: Object) -> str:
    """Which containers do not say what a quota needs: ``limits.cpu for: a,b; memory for: a``."""
    found: dict[str, set[str]] = {}
    spec = pod["spec"]
    needed = _NEEDED.intersection(restricted) - set(_said(spec))
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        for name in needed - set(_said(container)):
            found.setdefault(name, set()).add(container["name"])
    return "; ".join(f"{name} for: {','.join(sorted(found[name]))}" for name in sorted(found))


def _said(holder: Object) -> Amounts:
    resources = holder.get("resources") or {}
    return compute(exact(resources.get("requests")), exact(resources.get("limits")))


def _formats(over: list[str], obj: Object, like: dict[str, str]) -> dict[str, str]:
    """In which form each amount is shown: that of the object's own quantities, if it has any."""
    formats = {name: str(like[name]) for name in over}
    for container in (obj.get("spec") or {}).get("containers") or ():
        resources = container.get("resources") or {}
        for part in ("limits", "requests"):
            for name, text in (resources.get(part) or {}).items():
                for key in (name, f"{part}.{name}"):
                    if key in formats:
                        formats[key] = str(text)
    return formats


def _listed(over: list[str], values: Amounts, like: dict[str, str]) -> str:
    return ",".join(f"{name}={quantity.of(values[name], str(like[name]))}" for name in over)
