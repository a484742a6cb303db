"""Which objects a selector matches, and which selectors match an object.

The indexes answer without looking at every object of a namespace, so that fifty thousand pods and
a thousand controllers stay linear.
"""

from __future__ import annotations

from collections.abc import Iterable

from mlk8s.sim.matching import Selector
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change

_NO_PAIR = ("", "")


def _pair(selector: Selector) -> tuple[str, str]:
    return selector.pair or _NO_PAIR


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

    def select(self, namespace: str, selector: Selector) -> list[str]:
        """Names of the objects of a namespace that a selector matches, in order."""
        found = self._by_pair.get((namespace, *_pair(selector)), ())
        return sorted(name for name in found if selector.matches(self._labels[namespace, name]))


class SelectorIndex:
    """Selectors by namespace, to find those that match an object's labels."""

    def __init__(self) -> None:
        self._selectors: dict[tuple[str, str], Selector] = {}
        self._by_pair: dict[tuple[str, str, str], set[str]] = {}

    def put(self, namespace: str, name: str, selector: Object | None) -> None:
        """Add a selector under a name, or replace it; ``None`` removes it."""
        self.remove(namespace, name)
        if selector is not None:
            parsed = self._selectors[namespace, name] = Selector(selector)
            self._by_pair.setdefault((namespace, *_pair(parsed)), set()).add(name)

    def remove(self, namespace: str, name: str) -> None:
        """Forget a selector; harmless when it is not known."""
        selector = self._selectors.pop((namespace, name), None)
        if selector is None:
            return
        names = self._by_pair[(namespace, *_pair(selector))]
        names.discard(name)
        if not names:
            del self._by_pair[(namespace, *_pair(selector))]

    def touched(self, change: Change) -> set[str]:
        """Names of those that match an object, or matched it before it changed."""
        return {
            name
            for obj in (change.object, change.old)
            if obj is not None
            for name in self.matching(change.namespace, obj["metadata"].get("labels") or {})
        }

    def matching(self, namespace: str, labels: dict[str, str]) -> list[str]:
        """Names of the selectors of a namespace that match the labels, in order."""
        pairs: Iterable[tuple[str, str]] = (_NO_PAIR, *labels.items())
        return sorted(
            name
            for pair in pairs
            for name in self._by_pair.get((namespace, *pair), ())
            if self._selectors[namespace, name].matches(labels)
        )
