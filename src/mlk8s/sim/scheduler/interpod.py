"""Pods that want to be near others, or apart from them.

``pkg/scheduler/framework/plugins/interpodaffinity``. What counts is the value of a node's label,
the topology key: all nodes with the same value are one place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from mlk8s.sim.scheduler.cache import Cache, Group
from mlk8s.sim.scheduler.framework import (
    MAX_SCORE,
    SKIPPED,
    Code,
    NodeInfo,
    Plugin,
    State,
    Verdict,
)
from mlk8s.sim.scheduler.podinfo import PodInfo, Term
from mlk8s.sim.status import Object

# Places: (topology key, value) → how many pods there.
Places = Counter[tuple[str, str]]


class _Found:
    """What ``pre_filter`` found.

    Attributes:
        repelling: places of pods whose anti-affinity selects the incoming one.
        near: places of pods that all affinity terms of the incoming one select.
        apart: places of pods that an anti-affinity term of the incoming one selects.
    """

    def __init__(self) -> None:
        self.repelling: Places = Counter()
        self.near: Places = Counter()
        self.apart: Places = Counter()

    def clone(self) -> _Found:
        copied = _Found()
        copied.repelling = self.repelling.copy()
        copied.near = self.near.copy()
        copied.apart = self.apart.copy()
        return copied


class InterPodAffinity(Plugin):
    """Required and preferred affinity and anti-affinity between pods, in both directions.

    Args:
        cache: the cluster.
    """

    name = "InterPodAffinity"
    weight = 2
    _not_near = Verdict(Code.UNRESOLVABLE, ("node(s) didn't match pod affinity rules",), name)
    _not_apart = Verdict(
        Code.UNSCHEDULABLE, ("node(s) didn't match pod anti-affinity rules",), name
    )
    _repelled = Verdict(
        Code.UNSCHEDULABLE, ("node(s) didn't satisfy existing pods anti-affinity rules",), name
    )

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def _matches(self, term: Term, info: PodInfo) -> bool:
        return term.matches(
            info.namespace, info.labels, self._cache.namespaces.get(info.namespace, {})
        )

    def _attracted(self, terms: list[Term], info: PodInfo) -> bool:
        return bool(terms) and all(self._matches(term, info) for term in terms)

    def _spread(self, places: Places, key: str, nodes: Mapping[str, int], weight: int = 1) -> None:
        """Count a group at the places of its nodes."""
        for name, count in nodes.items():
            node = self._cache.nodes.get(name)
            if node is not None and (value := node.labels.get(key)) is not None:
                places[key, value] += count * weight

    def pre_filter(self, state: State, pod: Object, nodes: list[NodeInfo]) -> Verdict | None:
        """Where the pods are that matter for required terms."""
        incoming: PodInfo = state["pod"]
        found = _Found()
        for group in self._cache.affine.values():
            for term in group.info.terms.anti:
                if self._matches(term, incoming):
                    self._spread(found.repelling, term.topology_key, group.nodes)
        terms = incoming.terms
        for group in self._candidates(terms.affinity):
            if self._attracted(terms.affinity, group.info):
                for term in terms.affinity:
                    self._spread(found.near, term.topology_key, group.nodes)
        for group in self._candidates(terms.anti):
            for term in terms.anti:
                if self._matches(term, group.info):
                    self._spread(found.apart, term.topology_key, group.nodes)
        if not (found.repelling or terms.affinity or terms.anti):
            return SKIPPED
        state[self.name] = found
        return None

    def _candidates(self, terms: list[Term]) -> Iterable[Group]:
        """The groups that the terms could select."""
        if not terms:
            return ()
        namespaces: set[str] = set()
        for term in terms:
            if term.by_labels:
                return self._cache.members()
            namespaces |= term.namespaces
        return self._cache.members(sorted(namespaces))

    def add_pod(self, state: State, pod: Object, added: PodInfo, node: NodeInfo) -> None:
        """Count one more."""
        self._update(state, added, node, 1)

    def remove_pod(self, state: State, pod: Object, removed: PodInfo, node: NodeInfo) -> None:
        """Count one less."""
        self._update(state, removed, node, -1)

    def _update(self, state: State, other: PodInfo, node: NodeInfo, by: int) -> None:
        found: _Found = state[self.name]
        incoming: PodInfo = state["pod"]

        def count(places: Places, key: str) -> None:
            if (value := node.labels.get(key)) is not None:
                places[key, value] += by
                if not places[key, value]:
                    del places[key, value]

        for term in other.terms.anti:
            if self._matches(term, incoming):
                count(found.repelling, term.topology_key)
        if self._attracted(incoming.terms.affinity, other):
            for term in incoming.terms.affinity:
                count(found.near, term.topology_key)
        for term in incoming.terms.anti:
            if self._matches(term, other):
                count(found.apart, term.topology_key)

    def filter(self, state: State, pod: Object, node: NodeInfo) -> Verdict | None:
        """Affinity first, then anti-affinity, then that of the pods already there."""
        found: _Found = state[self.name]
        incoming: PodInfo = state["pod"]
        if incoming.terms.affinity and not self._near(found, incoming, node):
            return self._not_near
        labels = node.labels
        for term in incoming.terms.anti:
            key = term.topology_key
            if key in labels and found.apart.get((key, labels[key])):
                return self._not_apart
        if found.repelling:
            for key, value in labels.items():
                if found.repelling.get((key, value)):
                    return self._repelled
        return None

    def _near(self, found: _Found, incoming: PodInfo, node: NodeInfo) -> bool:
        there = True
        for term in incoming.terms.affinity:
            value = node.labels.get(term.topology_key)
            if value is None:
                return False
            there = there and found.near.get((term.topology_key, value), 0) > 0
        # The first pod of a set that wants to be near itself has to start somewhere.
        return there or (not found.near and self._attracted(incoming.terms.affinity, incoming))

    def pre_score(self, state: State, pod: Object, nodes: list[NodeInfo]) -> Verdict | None:
        """Add up the weights at each place: of this pod's terms, and of others' about it."""
        incoming: PodInfo = state["pod"]
        places: Places = Counter()
        for group in self._candidates(incoming.terms.preferred):
            for term in incoming.terms.preferred:
                if self._matches(term, group.info):
                    self._spread(places, term.topology_key, group.nodes, term.weight)
        for group in self._cache.affine.values():
            for term in group.info.terms.affinity:
                # hardPodAffinityWeight, which is 1 by default.
                if self._matches(term, incoming):
                    self._spread(places, term.topology_key, group.nodes)
            for term in group.info.terms.preferred:
                if self._matches(term, incoming):
                    self._spread(places, term.topology_key, group.nodes, term.weight)
        if not places:
            return SKIPPED
        state[f"{self.name}/places"] = places
        return None

    def score(self, state: State, pod: Object, node: NodeInfo) -> int:
        """The weights of all places that the node is part of."""
        places: Places = state[f"{self.name}/places"]
        return sum(places.get(item, 0) for item in node.labels.items())

    def normalize(self, state: State, pod: Object, scores: dict[str, int]) -> None:
        """The lowest becomes 0, the highest 100."""
        low, high = min(scores.values()), max(scores.values())
        for name, score in scores.items():
            scores[name] = int(MAX_SCORE * ((score - low) / (high - low))) if high > low else 0
