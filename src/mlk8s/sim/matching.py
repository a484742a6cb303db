"""Whether objects fit together: label selectors, node affinity, taints and tolerations.

Selectors of objects (``metav1.LabelSelector``, ``NodeSelectorTerm``) are parsed once and matched
often; the text form that a client sends is in :mod:`mlk8s.sim.selectors`. The rules are those of
``k8s.io/apimachinery/pkg/labels``, ``k8s.io/component-helpers/scheduling/corev1/nodeaffinity`` and
``k8s.io/api/core/v1/toleration.go``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mlk8s.sim.selectors import Requirement
from mlk8s.sim.status import Object

Labels = Mapping[str, str]

_OPERATORS = {
    "In": "in",
    "NotIn": "notin",
    "Exists": "exists",
    "DoesNotExist": "!",
    "Gt": "gt",
    "Lt": "lt",
}


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[+-]?[0-9]+", text) else None


def _requirements(expressions: Iterable[Object] | None) -> list[Requirement]:
    return [_requirement(expression) for expression in expressions or ()]


def _requirement(expression: Object) -> Requirement:
    operator = _OPERATORS.get(expression.get("operator") or "")
    values = tuple(expression.get("values") or ())
    if operator is None or (operator in ("gt", "lt") and (not values or _whole(values[0]) is None)):
        # Validation does not let it in; it is in nobody's labels.
        return Requirement(expression.get("key", ""), "in")
    return Requirement(expression.get("key", ""), operator, values)


class Selector:
    """A ``metav1.LabelSelector``; ``None`` matches nothing, an empty one everything.

    Args:
        selector: as it stands in the object.
        further: labels that have to be equal besides, as of ``matchLabelKeys``.
        unlike: labels that have to differ besides, as of ``mismatchLabelKeys``.
    """

    __slots__ = ("_equal", "_nothing", "_others")

    def __init__(
        self, selector: Object | None, further: Labels | None = None, unlike: Labels | None = None
    ) -> None:
        self._nothing = selector is None
        selector = selector or {}
        self._equal = tuple({**(selector.get("matchLabels") or {}), **(further or {})}.items())
        self._others = _requirements(selector.get("matchExpressions"))
        self._others += [Requirement(key, "notin", (of,)) for key, of in (unlike or {}).items()]

    @property
    def everything(self) -> bool:
        """Whether there is nothing to be met."""
        return not (self._nothing or self._equal or self._others)

    @property
    def pair(self) -> tuple[str, str] | None:
        """One label that every match carries; ``None`` when it names none."""
        return self._equal[0] if self._equal else None

    def matches(self, labels: Labels | None) -> bool:
        """Whether an object with these labels is selected."""
        if self._nothing:
            return False
        found = labels or {}
        for key, value in self._equal:
            if found.get(key) != value:
                return False
        return all(other.matches(found) for other in self._others)


class NodeTerm:
    """One ``NodeSelectorTerm``: everything in it has to hold; an empty one never does."""

    __slots__ = ("_fields", "_labels")

    def __init__(self, term: Object) -> None:
        self._labels = _requirements(term.get("matchExpressions"))
        self._fields = _requirements(term.get("matchFields"))

    def matches(self, labels: Labels, name: str) -> bool:
        """Whether a node with these labels and this name meets the term."""
        if not self._labels and not self._fields:
            return False
        if self._fields:
            fields = {"metadata.name": name}
            if not all(test.matches(fields) for test in self._fields):
                return False
        return all(test.matches(labels) for test in self._labels)


class NodeSelection:
    """What a pod requires of its node: ``nodeSelector`` and required node affinity."""

    __slots__ = ("_equal", "_terms")

    def __init__(self, spec: Object) -> None:
        self._equal = tuple((spec.get("nodeSelector") or {}).items())
        required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
            "requiredDuringSchedulingIgnoredDuringExecution"
        )
        self._terms: list[NodeTerm] | None = None
        if required is not None:
            self._terms = [NodeTerm(term) for term in required.get("nodeSelectorTerms") or ()]

    @property
    def empty(self) -> bool:
        """Whether any node will do."""
        return not self._equal and self._terms is None

    def matches(self, labels: Labels, name: str) -> bool:
        """Whether a node with these labels and this name will do."""
        for key, value in self._equal:
            if labels.get(key) != value:
                return False
        return self._terms is None or any(term.matches(labels, name) for term in self._terms)


def tolerates(tolerations: Iterable[Object], taint: Object) -> bool:
    """Whether one of the tolerations covers the taint (``ToleratesTaint``)."""
    return any(_covers(toleration, taint) for toleration in tolerations)


def tolerated_for(tolerations: Iterable[Object], taint: Object) -> float | None:
    """How many seconds a running pod may stay on a node with a ``NoExecute`` taint.

    Returns:
        ``None`` for as long as it likes, 0 when the taint is not tolerated.
    """
    covering = [toleration for toleration in tolerations if _covers(toleration, taint)]
    if not covering:
        return 0.0
    limits = [t["tolerationSeconds"] for t in covering if t.get("tolerationSeconds") is not None]
    return max(float(min(limits)), 0.0) if limits else None


def _covers(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    if not toleration.get("key"):
        return False
    has, wants = taint.get("value") or "", toleration.get("value") or ""
    if operator == "Equal":
        return bool(has == wants)
    found, bound = _whole(has), _whole(wants)
    if found is None or bound is None:
        return False
    return found < bound if operator == "Lt" else found > bound
