"""Whether a pod may be on a node, by what both say of themselves: for DaemonSets and taints.

Resources are not looked at: they are the scheduler's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlk8s.sim.status import Object


def tolerates(tolerations: Iterable[Object], taint: Object) -> bool:
    """Whether one of the tolerations bears with a taint."""
    return any(_bears(toleration, taint) for toleration in tolerations)


def _bears(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    operator = toleration.get("operator") or "Equal"
    value, other = toleration.get("value", ""), taint.get("value", "")
    if operator == "Exists":
        return True
    if operator in ("Lt", "Gt"):
        try:
            return int(other) < int(value) if operator == "Lt" else int(other) > int(value)
        except ValueError:
            return False
    return bool(value == other)


def tolerated_for(tolerations: Iterable[Object], taint: Object) -> float | None:
    """How many seconds a running pod may stay on a node with a ``NoExecute`` taint.

    Returns:
        ``None`` for as long as it likes, 0 when the taint is not tolerated.
    """
    bearing = [toleration for toleration in tolerations if _bears(toleration, taint)]
    if not bearing:
        return 0.0
    limits = [t["tolerationSeconds"] for t in bearing if t.get("tolerationSeconds") is not None]
    return max(float(min(limits)), 0.0) if limits else None


def selected(pod_spec: Object, name: str, labels: dict[str, str]) -> bool:
    """Whether node selector and required node affinity of a pod admit a node."""
    for key, value in (pod_spec.get("nodeSelector") or {}).items():
        if labels.get(key) != value:
            return False
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(_term(term, name, labels) for term in required.get("nodeSelectorTerms") or ())


def _term(term: Object, name: str, labels: dict[str, str]) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_holds(each, labels) for each in expressions) and all(
        _holds(each, {"metadata.name": name}) for each in fields
    )


def _holds(requirement: Object, labels: dict[str, str]) -> bool:
    operator, values = requirement["operator"], requirement.get("values") or []
    value: Any = labels.get(requirement["key"])
    if operator == "In":
        return value is not None and value in values
    if operator == "NotIn":
        return value is None or value not in values
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    try:
        return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
    except (TypeError, ValueError):
        return False
