"""LimitRanger: amounts that a namespace gives to pods, and bounds that it sets them.

After ``plugin/pkg/admission/limitranger``.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias

from mlk8s.sim import quantity
from mlk8s.sim.admission.errors import refused
from mlk8s.sim.admission.usage import pod_amounts
from mlk8s.sim.amounts import exact
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object

if TYPE_CHECKING:
    from mlk8s.sim.api import Api

_RANGES = "limitranges"
# Request or limit, and how much; None when nothing is said.
_Part: TypeAlias = tuple[str, str | None]
_ANNOTATION = "kubernetes.io/limit-ranger"


def mutate(pod: Object, api: Api) -> None:
    """Give a new pod's containers the requests and limits that they do not have."""
    for limit_range in _of_namespace(pod, api):
        requests: dict[str, str] = {}
        limits: dict[str, str] = {}
        for limit in (limit_range.get("spec") or {}).get("limits") or ():
            if limit.get("type") == "Container":
                requests |= limit.get("defaultRequest") or {}
                limits |= limit.get("default") or {}
        notes: list[str] = []
        for kind, title in (("containers", "container"), ("initContainers", "init container")):
            for container in pod["spec"].get(kind) or ():
                notes += _merge(container, title, requests, limits)
        if notes:
            annotations = pod["metadata"].setdefault("annotations", {})
            annotations[_ANNOTATION] = f"LimitRanger plugin set: {'; '.join(notes)}"


def _merge(
    container: Object, title: str, requests: dict[str, str], limits: dict[str, str]
) -> list[str]:
    resources = container.setdefault("resources", {})
    notes: list[str] = []
    added: dict[str, list[str]] = {}
    for part, given in (("limits", limits), ("requests", requests)):
        missing = sorted(name for name in given if name not in (resources.get(part) or {}))
        if missing:
            found = resources.setdefault(part, {})
            found.update({name: given[name] for name in missing})
            added[part] = missing
    for part, word in (("requests", "request"), ("limits", "limit")):
        if part in added:
            notes.append(f"{', '.join(added[part])} {word} for {title} {container.get('name', '')}")
    return notes


def validate(resource: Resource, obj: Object, api: Api) -> None:
    """Refuse a new pod or claim that is outside of the bounds.

    Raises:
        StatusError: 403, with all bounds that do not hold.
    """
    for limit_range in _of_namespace(obj, api):
        texts: list[str] = []
        for limit in (limit_range.get("spec") or {}).get("limits") or ():
            if resource.key == "pods":
                texts += list(_pod(limit, obj))
            elif limit.get("type") == "PersistentVolumeClaim":
                texts += list(_claim(limit, obj))
        if texts:
            unique = list(dict.fromkeys(texts))
            why = unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"
            raise refused(resource, obj, why)


def _of_namespace(obj: Object, api: Api) -> list[Object]:
    namespace = obj["metadata"].get("namespace", "")
    if not api.store.keys(_RANGES, namespace):
        return []
    return list(api.store.items(_RANGES, namespace))


def _pod(limit: Object, pod: Object) -> Iterator[str]:
    kind = limit.get("type", "")
    if kind == "Container":
        spec = pod["spec"]
        for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
            resources = container.get("resources") or {}
            yield from _check(kind, limit, resources.get("requests"), resources.get("limits"))
    elif kind == "Pod":
        shown = [
            {name: quantity.of(number) for name, number in pod_amounts(pod, part).items()}
            for part in ("requests", "limits")
        ]
        for found, part in zip(shown, ("requests", "limits"), strict=True):
            _keep_format(found, part, pod)
        yield from _check(kind, limit, *shown)


def _keep_format(found: dict[str, str], part: str, pod: Object) -> None:
    """Show a sum in the format (1Gi, not 1073741824) of what it is a sum of."""
    for container in pod["spec"].get("containers") or ():
        for name, text in ((container.get("resources") or {}).get(part) or {}).items():
            found[name] = quantity.of(quantity.value(found[name]), str(text))


def _claim(limit: Object, claim: Object) -> Iterator[str]:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    for what, part in (("minimum", "min"), ("maximum", "max")):
        for name, bound in sorted((limit.get(part) or {}).items()):
            asked = ("request", requests.get(name))
            yield from _bound(what, "PersistentVolumeClaim", name, bound, asked)


def _check(
    kind: str, limit: Object, requests: dict[str, str] | None, limits: dict[str, str] | None
) -> Iterator[str]:
    requests, limits = requests or {}, limits or {}
    for name, bound in sorted((limit.get("min") or {}).items()):
        request, most = ("request", requests.get(name)), ("limit", limits.get(name))
        yield from _bound("minimum", kind, name, bound, request, most)
    for name, bound in sorted((limit.get("max") or {}).items()):
        request, most = ("request", requests.get(name)), ("limit", limits.get(name))
        yield from _bound("maximum", kind, name, bound, most, request)
    for name, bound in sorted((limit.get("maxLimitRequestRatio") or {}).items()):
        yield from _ratio(kind, name, bound, requests, limits)


def _bound(
    what: str,
    kind: str,
    name: str,
    bound: str,
    first: _Part,
    *others: _Part,
) -> Iterator[str]:
    """A ``minimum`` or ``maximum``; the first of request and limit has to be there."""
    begin = f"{what} {name} usage per {kind} is {quantity.canonical(bound)}"
    edge, sign = quantity.value(str(bound)), 1 if what == "maximum" else -1
    if first[1] is None:
        yield f"{begin}.  No {first[0]} is specified"
        return
    for part, amount in (first, *others):
        if amount is not None and sign * quantity.value(str(amount)) > sign * edge:
            yield f"{begin}, but {part} is {quantity.canonical(amount)}"
            return


def _ratio(
    kind: str, name: str, bound: str, requests: dict[str, str], limits: dict[str, str]
) -> Iterator[str]:
    begin = f"{name} max limit to request ratio per {kind} is {quantity.canonical(bound)}, but"
    asked, most = exact(requests).get(name), exact(limits).get(name)
    if not asked:
        yield f"{begin} no request is specified or request is 0"
    elif not most:
        yield f"{begin} no limit is specified or limit is 0"
    elif Fraction(most, asked) > quantity.value(str(bound)):
        yield f"{begin} provided ratio is {float(most / asked):f}"
