"""Label selectors and node selectors, parsed once and matched often.

The rules are those of ``k8s.io/apimachinery/pkg/labels`` and
``k8s.io/component-helpers/scheduling/corev1/nodeaffinity``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mlk8s.sim.status import Object

Labels = Mapping[str, str]
Test = Callable[[Labels], bool]


def _whole(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _requirement(key: str, operator: str, values: list[str]) -> Test:
    wanted = frozenset(values)
    if operator == "In":
        return lambda labels: labels.get(key) in wanted
    if operator == "NotIn":
        return lambda labels: key not in labels or labels[key] not in wanted
    if operator == "Exists":
        return lambda labels: key in labels
    if operator == "DoesNotExist":
        return lambda labels: key not in labels
    bound = _whole(values[0]) if values else None

    def compare(labels: Labels) -> bool:
        found = _whole(labels.get(key))
        if found is None or bound is None:
            return False
        return found > bound if operator == "Gt" else found < bound

    return compare


class Selector:
    """A ``metav1.LabelSelector``; ``None`` matches nothing, an empty one everything.

    Args:
        selector: as it stands in the object.
        further: labels that have to be equal besides, as of ``matchLabelKeys``.
        unlike: labels that have to differ besides, as of ``mismatchLabelKeys``.
    """

    __slots__ = ("_equal", "_nothing", "_tests")

    def __init__(
        self, selector: Object | None, further: Labels | None = None, unlike: Labels | None = None
    ) -> None:
        self._nothing = selector is None
        selector = selector or {}
        self._equal = tuple({**(selector.get("matchLabels") or {}), **(further or {})}.items())
        self._tests = [
            _requirement(item["key"], item["operator"], item.get("values") or [])
            for item in selector.get("matchExpressions") or ()
        ]
        self._tests += [_requirement(key, "NotIn", [of]) for key, of in (unlike or {}).items()]

    @property
    def everything(self) -> bool:
        """Whether there is nothing to be met."""
        return not (self._nothing or self._equal or self._tests)

    def matches(self, labels: Labels) -> bool:
        """Whether an object with these labels is selected."""
        if self._nothing:
            return False
        for key, value in self._equal:
            if labels.get(key) != value:
                return False
        return all(test(labels) for test in self._tests)


class NodeTerm:
    """One ``NodeSelectorTerm``: everything in it has to hold; an empty one never does."""

    __slots__ = ("_fields", "_labels")

    def __init__(self, term: Object) -> None:
        self._labels = [
            _requirement(item["key"], item["operator"], item.get("values") or [])
            for item in term.get("matchExpressions") or ()
        ]
        self._fields = [
            _requirement(item["key"], item["operator"], item.get("values") or [])
            for item in term.get("matchFields") or ()
        ]

    def matches(self, labels: Labels, name: str) -> bool:
        """Whether a node with these labels and this name meets the term."""
        if not self._labels and not self._fields:
            return False
        if self._fields:
            fields = {"metadata.name": name}
            if not all(test(fields) for test in self._fields):
                return False
        return all(test(labels) for test in self._labels)


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


def tolerates(tolerations: list[Object], taint: Object) -> bool:
    """Whether one of the tolerations covers the taint (``ToleratesTaint``)."""
    return any(_covers(toleration, taint) for toleration in tolerations)


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
