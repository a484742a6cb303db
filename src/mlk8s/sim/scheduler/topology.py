"""Spreading pods over zones, hosts, or any other label of nodes.

``pkg/scheduler/framework/plugins/podtopologyspread``. Pods of a Service, ReplicaSet or StatefulSet
that name no constraints of their own are spread softly over hosts and zones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator

from mlk8s.sim.matching import NodeSelection, Selector, tolerates
from mlk8s.sim.scheduler.cache import ZONE, Cache
from mlk8s.sim.scheduler.framework import (
    MAX_SCORE,
    SKIPPED,
    Code,
    NodeInfo,
    Plugin,
    State,
    Verdict,
)
from mlk8s.sim.scheduler.podinfo import PodInfo
from mlk8s.sim.status import Object

HOST = "kubernetes.io/hostname"
# plugin.go, systemDefaultConstraints: (topology key, maxSkew), all ScheduleAnyway.
_DEFAULTS = ((HOST, 3), (ZONE, 5))
_OWNERS = {
    "ReplicationController": "replicationcontrollers",
    "ReplicaSet": "replicasets.apps",
    "StatefulSet": "statefulsets.apps",
}
# (resource key, namespace, name) → the object.
Find = Callable[[str, str, str], Object | None]


class _Constraint:
    """One constraint with what it asks of nodes that count."""

    def __init__(self, constraint: Object, selector: Selector, spec: Object) -> None:
        self.key: str = constraint["topologyKey"]
        self.max_skew: int = constraint["maxSkew"]
        self.min_domains: int = constraint.get("minDomains") or 1
        self.selector = selector
        self._selection: NodeSelection | None = None
        if constraint.get("nodeAffinityPolicy", "Honor") == "Honor":
            selection = NodeSelection(spec)
            self._selection = None if selection.empty else selection
        self._tolerations: list[Object] | None = None
        if constraint.get("nodeTaintsPolicy", "Ignore") == "Honor":
            self._tolerations = spec.get("tolerations") or []

    def counts(self, node: NodeInfo) -> bool:
        """Whether pods on the node count (``matchNodeInclusionPolicies``)."""
        if self._selection is not None and not self._selection.matches(node.labels, node.name):
            return False
        return self._tolerations is None or all(
            tolerates(self._tolerations, taint) for taint in node.hard_taints
        )


class _Skew:
    """The matching pods of each domain, for each constraint."""

    def __init__(self, constraints: list[_Constraint], counts: list[dict[str, int]]) -> None:
        self.constraints = constraints
        self.counts = counts
        self._lowest: list[int | None] = [None] * len(counts)

    def clone(self) -> _Skew:
        return _Skew(self.constraints, [dict(counts) for counts in self.counts])

    def add(self, index: int, domain: str, by: int) -> None:
        self.counts[index][domain] = self.counts[index].get(domain, 0) + by
        self._lowest[index] = None

    def lowest(self, index: int) -> int:
        counts = self.counts[index]
        if len(counts) < self.constraints[index].min_domains:
            return 0
        lowest = self._lowest[index]
        if lowest is None:
            lowest = self._lowest[index] = min(counts.values(), default=0)
        return lowest


class _Scoring:
    """What scoring needs of each constraint.

    Attributes:
        counts: matching pods by domain.
        weights: growing with the number of domains.
        ignored: nodes without all the labels.
    """

    def __init__(self, constraints: list[_Constraint]) -> None:
        self.constraints = constraints
        self.counts: list[dict[str, int]] = [{} for _ in constraints]
        self.weights: list[float] = []
        self.ignored: set[str] = set()


class PodTopologySpread(Plugin):
    """``spec.topologySpreadConstraints`` and the default ones.

    Args:
        cache: the cluster.
        find: reads the owner of a pod, for its selector.
    """

    name = "PodTopologySpread"
    weight = 2
    _skewed = Verdict(
        Code.UNSCHEDULABLE, ("node(s) didn't match pod topology spread constraints",), name
    )
    _unlabeled = Verdict(
        Code.UNRESOLVABLE,
        ("node(s) didn't match pod topology spread constraints (missing required label)",),
        name,
    )

    def __init__(self, cache: Cache, find: Find) -> None:
        self._cache = cache
        self._find = find

    def pre_filter(self, state: State, pod: Object, nodes: list[NodeInfo]) -> Verdict | None:
        """Count the matching pods of each domain of the hard constraints."""
        constraints = list(_own(pod, "DoNotSchedule"))
        if not constraints:
            return SKIPPED
        namespace = state["pod"].namespace
        per_node = [self._matching(namespace, constraint.selector) for constraint in constraints]
        counts: list[dict[str, int]] = [{} for _ in constraints]
        for node in nodes:
            labels = node.labels
            if not all(constraint.key in labels for constraint in constraints):
                continue
            for index, constraint in enumerate(constraints):
                if constraint.counts(node):
                    domain = labels[constraint.key]
                    found = per_node[index].get(node.name, 0)
                    counts[index][domain] = counts[index].get(domain, 0) + found
        state[self.name] = _Skew(constraints, counts)
        return None

    def _matching(self, namespace: str, selector: Selector) -> Counter[str]:
        """How many selected pods each node has; pods that are being deleted do not count."""
        found: Counter[str] = Counter()
        if selector.everything:
            # countPodsMatchSelector: an empty selector counts nothing.
            return found
        for group in self._cache.members((namespace,)):
            if not group.info.terminating and selector.matches(group.info.labels):
                found.update(group.nodes)
        return found

    def add_pod(self, state: State, pod: Object, added: PodInfo, node: NodeInfo) -> None:
        """Count one more."""
        self._update(state, added, node, 1)

    def remove_pod(self, state: State, pod: Object, removed: PodInfo, node: NodeInfo) -> None:
        """Count one less."""
        self._update(state, removed, node, -1)

    def _update(self, state: State, other: PodInfo, node: NodeInfo, by: int) -> None:
        skew: _Skew = state[self.name]
        if other.namespace != state["pod"].namespace:
            return
        if not all(constraint.key in node.labels for constraint in skew.constraints):
            return
        for index, constraint in enumerate(skew.constraints):
            if constraint.selector.matches(other.labels) and constraint.counts(node):
                skew.add(index, node.labels[constraint.key], by)

    def filter(self, state: State, pod: Object, node: NodeInfo) -> Verdict | None:
        """Whether the domain would not have ``maxSkew`` pods more than the emptiest."""
        skew: _Skew = state[self.name]
        labels = state["pod"].labels
        for index, constraint in enumerate(skew.constraints):
            domain = node.labels.get(constraint.key)
            if domain is None:
                return self._unlabeled
            there = skew.counts[index].get(domain, 0) + constraint.selector.matches(labels)
            if there - skew.lowest(index) > constraint.max_skew:
                return self._skewed
        return None

    def pre_score(self, state: State, pod: Object, nodes: list[NodeInfo]) -> Verdict | None:
        """Count the matching pods of each domain of the soft constraints."""
        own = bool(pod["spec"].get("topologySpreadConstraints"))
        constraints = list(_own(pod, "ScheduleAnyway") if own else self._default(pod))
        if not constraints:
            return SKIPPED
        scoring = state[f"{self.name}/scoring"] = _Scoring(constraints)
        # The default constraints leave no node out: hosts are spread over where there are no zones.
        for node in nodes:
            if own and not all(constraint.key in node.labels for constraint in constraints):
                scoring.ignored.add(node.name)
                continue
            for index, constraint in enumerate(constraints):
                if constraint.key != HOST:
                    scoring.counts[index].setdefault(node.labels.get(constraint.key, ""), 0)
        for index, constraint in enumerate(constraints):
            per_node = self._matching(state["pod"].namespace, constraint.selector)
            if constraint.key == HOST:
                domains = len(nodes) - len(scoring.ignored)
                scoring.counts[index] = dict(per_node)
            else:
                domains = len(scoring.counts[index])
                self._sum(scoring, index, per_node, own)
            scoring.weights.append(math.log(domains + 2))
        return None

    def _sum(self, scoring: _Scoring, index: int, per_node: Counter[str], labeled: bool) -> None:
        """Add up what nodes have to what domains have."""
        counts, constraint = scoring.counts[index], scoring.constraints[index]
        for name, count in per_node.items():
            node = self._cache.nodes.get(name)
            if node is None or not constraint.counts(node):
                continue
            if labeled and not all(other.key in node.labels for other in scoring.constraints):
                continue
            domain = node.labels.get(constraint.key, "")
            if domain in counts:
                counts[domain] += count

    def _default(self, pod: Object) -> Iterator[_Constraint]:
        """The default constraints, for pods that a Service or a workload selects."""
        selector = self._owner_selector(pod)
        if selector is not None:
            for key, skew in _DEFAULTS:
                yield _Constraint({"topologyKey": key, "maxSkew": skew}, selector, pod["spec"])

    def _owner_selector(self, pod: Object) -> Selector | None:
        """What selects the pod and its like (``helper.DefaultSelector``)."""
        metadata = pod["metadata"]
        namespace, labels = metadata.get("namespace", ""), metadata.get("labels") or {}
        equal: dict[str, str] = {}
        for wanted in self._cache.services.get(namespace, {}).values():
            if wanted.items() <= labels.items():
                equal |= wanted
        selector: Object = {}
        for owner in metadata.get("ownerReferences") or ():
            if owner.get("controller") and owner["kind"] in _OWNERS:
                found = self._find(_OWNERS[owner["kind"]], namespace, owner["name"])
                if found is not None and owner["kind"] == "ReplicationController":
                    equal |= found["spec"].get("selector") or {}
                elif found is not None:
                    selector = found["spec"].get("selector") or {}
        combined = Selector(selector, equal)
        return None if combined.everything else combined

    def score(self, state: State, pod: Object, node: NodeInfo) -> int:
        """The matching pods near the node, more of them where there are more domains."""
        scoring: _Scoring = state[f"{self.name}/scoring"]
        if node.name in scoring.ignored:
            return 0
        total = 0.0
        for index, constraint in enumerate(scoring.constraints):
            domain = node.labels.get(constraint.key)
            if domain is None:
                continue
            if constraint.key == HOST:
                domain = node.name
            count = scoring.counts[index].get(domain, 0)
            total += count * scoring.weights[index] + (constraint.max_skew - 1)
        return math.floor(total + 0.5)

    def normalize(self, state: State, pod: Object, scores: dict[str, int]) -> None:
        """The fewer the better; 0 for nodes without the labels."""
        ignored = state[f"{self.name}/scoring"].ignored
        counted = [score for name, score in scores.items() if name not in ignored]
        low, high = min(counted, default=0), max(counted, default=0)
        for name, score in scores.items():
            if name in ignored:
                scores[name] = 0
            else:
                scores[name] = MAX_SCORE * (high + low - score) // high if high else MAX_SCORE


def _own(pod: Object, when: str) -> Iterator[_Constraint]:
    """The pod's constraints of one kind, with ``matchLabelKeys`` worked into the selector."""
    labels = pod["metadata"].get("labels") or {}
    for constraint in pod["spec"].get("topologySpreadConstraints") or ():
        if constraint["whenUnsatisfiable"] == when:
            same = {
                key: labels[key] for key in constraint.get("matchLabelKeys") or () if key in labels
            }
            selector = Selector(constraint.get("labelSelector"), same)
            yield _Constraint(constraint, selector, pod["spec"])
