"""The scheduler's own picture of the cluster, kept up to date change by change.

Besides nodes it knows *groups*: pods of one namespace that no selector and no affinity can tell
apart, such as the replicas of a Deployment, with how many of them each node has. What is asked of
all pods (topology spread, inter-pod affinity) is asked of each group once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from mlk8s.sim.scheduler.framework import NodeInfo
from mlk8s.sim.scheduler.podinfo import PodInfo
from mlk8s.sim.status import Object

REGION = "topology.kubernetes.io/region"
ZONE = "topology.kubernetes.io/zone"


class Group:
    """Pods that differ only in name and node.

    Args:
        info: one of them.
    """

    __slots__ = ("info", "nodes")

    def __init__(self, info: PodInfo) -> None:
        self.info = info
        self.nodes: Counter[str] = Counter()


class Cache:
    """Nodes, the pods on them, and what else scheduling depends on.

    Attributes:
        nodes: by name.
        groups: by namespace.
        affine: the groups with inter-pod affinity terms.
        namespaces: labels by name.
        services: selectors by namespace and name.
        images: how many nodes have an image.
        priorities: how many pods on nodes have a priority.
        changes: counts everything that happened; what was found out at the same count still holds.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, NodeInfo] = {}
        self.groups: dict[str, dict[bytes, Group]] = {}
        self.affine: dict[tuple[str, bytes], Group] = {}
        self.namespaces: dict[str, dict[str, str]] = {}
        self.services: dict[str, dict[str, dict[str, str]]] = {}
        self.images: Counter[str] = Counter()
        self.priorities: Counter[int] = Counter()
        self.changes = 0
        self._pods: dict[str, tuple[str, PodInfo]] = {}
        # Pods on nodes that are not known (any more).
        self._homeless: dict[str, dict[str, PodInfo]] = {}
        self._ordered: list[NodeInfo] | None = None

    # -- nodes -----------------------------------------------------------------------------------

    def set_node(self, node: Object) -> None:
        """Add a node, or take over its present state."""
        self.changes += 1
        name = node["metadata"]["name"]
        info = self.nodes.get(name)
        if info is None:
            info = self.nodes[name] = NodeInfo(node)
            for pod in self._homeless.pop(name, {}).values():
                info.add_pod(pod)
            self._ordered = None
        else:
            zone = _zone(info)
            self._count_images(info, -1)
            info.set_node(node)
            if _zone(info) != zone:
                self._ordered = None
        self._count_images(info, 1)

    def remove_node(self, name: str) -> None:
        """Forget a node; its pods are kept for its return."""
        info = self.nodes.pop(name, None)
        if info is None:
            return
        self.changes += 1
        self._ordered = None
        self._count_images(info, -1)
        if info.pods:
            self._homeless[name] = dict(info.pods)

    def _count_images(self, info: NodeInfo, by: int) -> None:
        for image in info.images:
            self.images[image] += by
            if not self.images[image]:
                del self.images[image]

    def ordered(self) -> list[NodeInfo]:
        """All nodes, zone by zone in turn, as upstream's node tree gives them."""
        if self._ordered is None:
            zones: dict[str, list[NodeInfo]] = {}
            for info in self.nodes.values():
                zones.setdefault(_zone(info), []).append(info)
            if len(zones) == 1:
                self._ordered = list(self.nodes.values())
            else:
                self._ordered = list(_in_turn(list(zones.values())))
        return self._ordered

    # -- pods ------------------------------------------------------------------------------------

    def add_pod(self, info: PodInfo, node: str) -> None:
        """Count a pod on a node; replaces what was known of it."""
        if info.uid in self._pods:
            self.remove_pod(info.uid)
        self.changes += 1
        self._pods[info.uid] = (node, info)
        if node in self.nodes:
            self.nodes[node].add_pod(info)
        else:
            self._homeless.setdefault(node, {})[info.uid] = info
        groups = self.groups.setdefault(info.namespace, {})
        group = groups.get(info.group)
        if group is None:
            group = groups[info.group] = Group(info)
            terms = info.terms
            if terms.affinity or terms.anti or terms.preferred:
                self.affine[info.namespace, info.group] = group
        group.nodes[node] += 1
        self.priorities[info.priority] += 1

    def remove_pod(self, uid: str) -> bool:
        """No longer count a pod; whether it was."""
        found = self._pods.pop(uid, None)
        if found is None:
            return False
        self.changes += 1
        node, info = found
        if node in self.nodes:
            self.nodes[node].remove_pod(uid)
        elif node in self._homeless:
            self._homeless[node].pop(uid, None)
            if not self._homeless[node]:
                del self._homeless[node]
        self.priorities[info.priority] -= 1
        if not self.priorities[info.priority]:
            del self.priorities[info.priority]
        groups = self.groups[info.namespace]
        group = groups[info.group]
        group.nodes[node] -= 1
        if not group.nodes[node]:
            del group.nodes[node]
        if not group.nodes:
            del groups[info.group]
            self.affine.pop((info.namespace, info.group), None)
            if not groups:
                del self.groups[info.namespace]
        return True

    def pod(self, uid: str) -> tuple[str, PodInfo] | None:
        """(node, pod) of a pod that is counted."""
        return self._pods.get(uid)

    def members(self, namespaces: Iterable[str] | None = None) -> Iterator[Group]:
        """The groups of some namespaces, or of all."""
        for namespace in self.groups if namespaces is None else namespaces:
            yield from self.groups.get(namespace, {}).values()


def _zone(info: NodeInfo) -> str:
    return f"{info.labels.get(REGION, '')}/{info.labels.get(ZONE, '')}"


def _in_turn(zones: list[list[NodeInfo]]) -> Iterator[NodeInfo]:
    longest = max((len(zone) for zone in zones), default=0)
    for index in range(longest):
        for zone in zones:
            if index < len(zone):
                yield zone[index]
