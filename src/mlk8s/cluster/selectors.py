"""Label selectors, of a pod for its node and of a rule for pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]


def selects(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """Whether a ``LabelSelector`` selects an object with these labels; none selects nothing."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _matches(expression, labels) for expression in selector.get("matchExpressions") or ()
    )


def query(selector: Object) -> str:
    """A ``LabelSelector`` as the parameter ``labelSelector``."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        key, values = expression["key"], ",".join(expression.get("values") or ())
        match expression["operator"]:
            case "In":
                parts.append(f"{key} in ({values})")
            case "NotIn":
                parts.append(f"{key} notin ({values})")
            case "Exists":
                parts.append(key)
            case _:
                parts.append(f"!{key}")
    return ",".join(parts)


def labels_differ(pod: Object, node: Object) -> list[tuple[str, str]]:
    """What a pod's nodeSelector and required node affinity miss in a node: (text, next step)."""
    marks = node["metadata"].get("labels") or {}
    found = []
    for key, value in (pod["spec"].get("nodeSelector") or {}).items():
        if marks.get(key) != value:
            found.append(_mismatch(key, value, marks))
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or []
    if terms and not any(_meets(term, node) for term in terms):
        # With alternatives, the one that misses the least.
        missing = min((_missing(term, node) for term in terms), key=len)
        found += missing or [
            (
                "it cannot be selected: the pod's node affinity is empty",
                "correct its node affinity.",
            )
        ]
    return found


def _missing(term: Object, node: Object) -> list[tuple[str, str]]:
    marks = node["metadata"].get("labels") or {}
    found = []
    for expression in term.get("matchExpressions") or ():
        if _matches(expression, marks):
            continue
        listed = ", ".join(expression.get("values") or ())
        wanted = {
            "In": listed if "," not in listed else f"one of {listed}",
            "NotIn": f"none of {listed}",
            "Exists": "to be there",
            "DoesNotExist": "not to be there",
            "Gt": f"above {listed}",
            "Lt": f"below {listed}",
        }[expression["operator"]]
        found.append(_mismatch(expression["key"], wanted, marks))
    fields = {"metadata.name": node["metadata"]["name"]}
    for expression in term.get("matchFields") or ():
        if not _matches(expression, fields):
            listed = ", ".join(expression.get("values") or ())
            word = "" if expression["operator"] == "In" else "any but "
            found.append(
                (
                    f"it is not the node that the pod selects ({word}{listed})",
                    "take the node's name out of the pod's affinity.",
                )
            )
    return found


def _mismatch(key: str, wanted: str, marks: Mapping[str, str]) -> tuple[str, str]:
    has = f"it has {key}={marks[key]}" if key in marks else f"it has no label {key}"
    return (
        f"{has}, and the pod selects {wanted}",
        f"select a value that a node has: kubectl get nodes -L {key}.",
    )


def _meets(term: Object, node: Object) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    marks = node["metadata"].get("labels") or {}
    named = {"metadata.name": node["metadata"]["name"]}
    # An empty term selects nothing.
    return bool(expressions or fields) and (
        all(_matches(e, marks) for e in expressions) and all(_matches(e, named) for e in fields)
    )


def _matches(expression: Object, marks: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    has = marks.get(key)
    match expression["operator"]:
        case "In":
            return has in values
        case "NotIn":
            return has not in values
        case "Exists":
            return has is not None
        case "DoesNotExist":
            return has is None
        case operator:
            try:
                found, bound = int(has or ""), int(values[0])
            except ValueError:
                return False
            return found > bound if operator == "Gt" else found < bound
