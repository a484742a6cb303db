"""Label selectors: does an object match, which objects match, and which selectors match an object.

The indexes answer without looking at every object of a namespace, so that fifty thousand pods and
a thousand controllers stay linear.
"""

from __future__ import annotations

from collections.abc import Iterable

from mlk8s.sim.status import Object

_NO_PAIR = ("", "")


def matches(selector: Object | None, labels: dict[str, str]) -> bool:
    """Whether labels satisfy a ``metav1.LabelSelector``.

    Args:
        selector: ``None`` matches nothing, an empty one everything.
        labels: the object's labels.
    """
    if selector is None:
        return False
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    return all(
        _satisfies(requirement, labels) for requirement in selector.get("matchExpressions") or ()
    )


def _satisfies(requirement: Object, labels: dict[str, str]) -> bool:
    key, operator = requirement["key"], requirement["operator"]
    values = requirement.get("values") or ()
    if operator == "In":
        return key in labels and labels[key] in values
    if operator == "NotIn":
        return key not in labels or labels[key] not in values
    if operator == "Exists":
        return key in labels
    return key not in labels


def _pair(selector: Object | None) -> tuple[str, str]:
    """One label that every match carries, or ``("", "")`` when the selector names none."""
    if selector is None:
        return _NO_PAIR
    return next(iter((selector.get("matchLabels") or {}).items()), _NO_PAIR)


class LabelIndex:
    """Names of objects by namespace and label, to find those that a selector matches."""

    def __init__(self) -> None:
        self._labels: dict[tuple[str, str], dict[str, str]] = {}
        self._by_pair: dict[tuple[str, str, str], set[str]] = {}

    def put(self, namespace: str, name: str, labels: dict[str, str]) -> None:
        """Add an object, or note its new labels."""
        where = (namespace, name)
        if self._labels.get(where) == labels:
            return
        self.remove(namespace, name)
        self._labels[where] = labels
        for pair in (_NO_PAIR, *labels.items()):
            self._by_pair.setdefault((namespace, *pair), set()).add(name)

    def remove(self, namespace: str, name: str) -> None:
        """Forget an object; harmless when it is not known."""
        labels = self._labels.pop((namespace, name), None)
        if labels is None:
            return
        for pair in (_NO_PAIR, *labels.items()):
            names = self._by_pair[(namespace, *pair)]
            names.discard(name)
            if not names:
                del self._by_pair[(namespace, *pair)]

    def select(self, namespace: str, selector: Object | None) -> list[str]:
        """Names of the objects of a namespace that a selector matches, in order."""
        if selector is None:
            return []
        found = self._by_pair.get((namespace, *_pair(selector)), ())
        return sorted(name for name in found if matches(selector, self._labels[namespace, name]))


class SelectorIndex:
    """Selectors by namespace, to find those that match an object's labels."""

    def __init__(self) -> None:
        self._selectors: dict[tuple[str, str], Object] = {}
        self._by_pair: dict[tuple[str, str, str], set[str]] = {}

    def put(self, namespace: str, name: str, selector: Object | None) -> None:
        """Add a selector under a name, or replace it; ``None`` removes it."""
        self.remove(namespace, name)
        if selector is not None:
            self._selectors[namespace, name] = selector
            self._by_pair.setdefault((namespace, *_pair(selector)), set()).add(name)

    def remove(self, namespace: str, name: str) -> None:
        """Forget a selector; harmless when it is not known."""
        selector = self._selectors.pop((namespace, name), None)
        if selector is None:
            return
        names = self._by_pair[(namespace, *_pair(selector))]
        names.discard(name)
        if not names:
            del self._by_pair[(namespace, *_pair(selector))]

    def matching(self, namespace: str, labels: dict[str, str]) -> list[str]:
        """Names of the selectors of a namespace that match the labels, in order."""
        pairs: Iterable[tuple[str, str]] = (_NO_PAIR, *labels.items())
        return sorted(
            name
            for pair in pairs
            for name in self._by_pair.get((namespace, *pair), ())
            if matches(self._selectors[namespace, name], labels)
        )
