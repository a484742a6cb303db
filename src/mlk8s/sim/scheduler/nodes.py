"""What a node's own fields say: its name, labels, taints, ports, images, and being cordoned.

``pkg/scheduler/framework/plugins``: ``nodename``, ``nodeunschedulable``, ``nodeaffinity``,
``tainttoleration``, ``nodeports``, ``imagelocality``.
"""

from __future__ import annotations

from mlk8s.sim.matching import NodeSelection, NodeTerm, tolerates
from mlk8s.sim.scheduler.cache import Cache
from mlk8s.sim.scheduler.framework import (
    MAX_SCORE,
    SKIPPED,
    Code,
    NodeInfo,
    Plugin,
    State,
    Verdict,
    default_normalize,
)
from mlk8s.sim.scheduler.podinfo import PREFERRED, REQUIRED
from mlk8s.sim.status import Object

_UNSCHEDULABLE_TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
_ANY_ADDRESS = "0.0.0.0"
# pkg/scheduler/framework/plugins/imagelocality: sizes that count, in bytes.
_SMALL = 23 * 1024 * 1024
_LARGE = 1000 * 1024 * 1024


class NodeUnschedulable(Plugin):
    """Cordoned nodes take no new pods, but for those that tolerate it."""

    name = "NodeUnschedulable"
    _no = Verdict(Code.UNRESOLVABLE, ("node(s) were unschedulable",), name)

    def filter(self, state: State, pod: Object, node: NodeInfo) -> Verdict | None:
        """Whether ``spec.unschedulable`` is set and not tolerated."""
        if not node.unschedulable:
            return None
        tolerations = pod["spec"].get("tolerations") or []
        return None if tolerates(tolerations, _UNSCHEDULABLE_TAINT) else self._no


class NodeName(Plugin):
    """A pod that names its node runs there or nowhere."""

    name = "NodeName"
    _no = Verdict(Code.UNRESOLVABLE, ("node(s) didn't match the requested node name",), name)

    def pre_filter(self, state: State, pod: Object, nodes: list[NodeInfo]) -> Verdict | None:
        """Nothing to look at unless a name is given."""
        return None if pod["spec"].get("nodeName") else SKIPPED

    def filter(self, state: State, pod: Object, node: NodeInfo) -> Verdict | None:
        """Whether the name is the node's."""
        return None if pod["spec"].get("nodeName") in (None, "", node.name) else self._no


class TaintToleration(Plugin):
    """Taints with NoSchedule or NoExecute keep pods away; PreferNoSchedule lowers the score."""

    name = "TaintToleration"
    weight = 3
    _no = Verdict(Code.UNRESOLVABLE, ("node(s) had untolerated taint(s)",), name)

    def filter(self, state: State, pod: Object, node: NodeInfo) -> Verdict | None:
        """Whether every hard taint is tolerated."""
        if not node.hard_taints:
            return None
        tolerations = pod["spec"].get("tolerations") or []
        for taint in node.hard_taints:
            if not tolerates(tolerations, taint):
                return self._no
        return None

    def pre_score(self, state: State, pod: Object, nodes: list[NodeInfo]) -> Verdict | None:
        """Keep the tolerations that speak of PreferNoSchedule."""
        if not any(node.soft_taints for node in nodes):
            return SKIPPED
        state[self.name] = [
            toleration
            for toleration in pod["spec"].get("tolerations") or ()
            if toleration.get("effect") in (None, "", "PreferNoSchedule")
        ]
        return None

    def score(self, state: State, pod: Object, node: NodeInfo) -> int:
        """How many soft taints are not tolerated."""
        return sum(not tolerates(state[self.name], taint) for taint in node.soft_taints)

    def normalize(self, state: State, pod: Object, scores: dict[str, int]) -> None:
        """The fewer the better."""
        default_normalize(scores, reverse=True)


class NodeAffinity(Plugin):
    """``nodeSelector`` and node affinity."""

    name = "NodeAffinity"
    weight = 2
    _no = Verdict(Code.UNRESOLVABLE, ("node(s) didn't match Pod's node affinity/selector",), name)

    def pre_filter(self, state: State, pod: Object, nodes: list[NodeInfo]) -> Verdict | None:
        """Parse the terms; where all of them name nodes, as DaemonSets do, look at no others."""
        selection = NodeSelection(pod["spec"])
        if selection.empty:
            return SKIPPED
        state[self.name] = selection
        named = _named(pod["spec"])
        if named is None:
            return None
        if not named:
            return Verdict(Code.UNRESOLVABLE, ("pod affinity terms conflict",), self.name)
        return Verdict(Code.SUCCESS, nodes=named)

    def filter(self, state: State, pod: Object, node: NodeInfo) -> Verdict | None:
        """Whether the node's labels and name are what is required."""
        selection: NodeSelection = state[self.name]
        return None if selection.matches(node.labels, node.name) else self._no

    def pre_score(self, state: State, pod: Object, nodes: list[NodeInfo]) -> Verdict | None:
        """Parse the preferred terms."""
        affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
        preferred = [
            (NodeTerm(item["preference"]), item["weight"]) for item in affinity.get(PREFERRED) or ()
        ]
        if not preferred:
            return SKIPPED
        state[f"{self.name}/preferred"] = preferred
        return None

    def score(self, state: State, pod: Object, node: NodeInfo) -> int:
        """The weights of the preferred terms that the node meets."""
        preferred: list[tuple[NodeTerm, int]] = state[f"{self.name}/preferred"]
        return sum(weight for term, weight in preferred if term.matches(node.labels, node.name))

    def normalize(self, state: State, pod: Object, scores: dict[str, int]) -> None:
        """The more the better."""
        default_normalize(scores)


def _named(spec: Object) -> frozenset[str] | None:
    """The nodes that the required terms name; ``None`` when one of the terms names none."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get(REQUIRED) or {}).get("nodeSelectorTerms")
    if not terms:
        return None
    names: frozenset[str] = frozenset()
    for term in terms:
        of_term: frozenset[str] | None = None
        for field in term.get("matchFields") or ():
            if field["key"] == "metadata.name" and field["operator"] == "In":
                values = frozenset(field.get("values") or ())
                of_term = values if of_term is None else of_term & values
        if of_term is None:
            return None
        names |= of_term
    return names


class NodePorts(Plugin):
    """Host ports are given out once."""

    name = "NodePorts"
    _no = Verdict(
        Code.UNSCHEDULABLE, ("node(s) didn't have free ports for the requested pod ports",), name
    )

    def pre_filter(self, state: State, pod: Object, nodes: list[NodeInfo]) -> Verdict | None:
        """Most pods want none."""
        return None if state["pod"].host_ports else SKIPPED

    def filter(self, state: State, pod: Object, node: NodeInfo) -> Verdict | None:
        """Whether none of the ports is taken; the address 0.0.0.0 stands for all."""
        for address, protocol, port in state["pod"].host_ports:
            for taken_address, taken_protocol, taken_port in node.host_ports:
                if (taken_protocol, taken_port) == (protocol, port) and (
                    address == taken_address or _ANY_ADDRESS in (address, taken_address)
                ):
                    return self._no
        return None


class ImageLocality(Plugin):
    """Prefers nodes that have the pod's images, large and widespread ones above all.

    Args:
        cache: the cluster.
    """

    name = "ImageLocality"
    weight = 1

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def pre_score(self, state: State, pod: Object, nodes: list[NodeInfo]) -> Verdict | None:
        """Which of the pod's images any node has."""
        spec = pod["spec"]
        containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        images = [_with_tag(container.get("image") or "") for container in containers]
        known = [image for image in images if image in self._cache.images]
        if not known:
            return SKIPPED
        state[self.name] = (known, len(images))
        return None

    def score(self, state: State, pod: Object, node: NodeInfo) -> int:
        """The sizes of the images here, each by the share of nodes that have it, scaled."""
        images, count = state[self.name]
        everywhere = len(self._cache.nodes)
        total = sum(
            int(node.images[image] * (self._cache.images[image] / everywhere))
            for image in images
            if image in node.images
        )
        largest: int = _LARGE * count
        return MAX_SCORE * (min(max(total, _SMALL), largest) - _SMALL) // (largest - _SMALL)


def _with_tag(image: str) -> str:
    return image if ":" in image.rpartition("/")[2] else f"{image}:latest"
