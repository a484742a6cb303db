"""Whether a node takes a pod that was bound to it: the kubelet's own check.

The rules and messages are those of ``pkg/kubelet/lifecycle/predicate.go``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from mlk8s.sim.matching import NodeSelection
from mlk8s.sim.scheduler.podinfo import amounts, pod_requests
from mlk8s.sim.status import Object

# What the kubelet's own arithmetic covers; devices are the device manager's.
_COUNTED = ("cpu", "memory", "ephemeral-storage")


class Rejected(Exception):
    """A pod that the node does not take.

    Attributes:
        reason: becomes ``status.reason``.
        message: the event's; the status says ``Pod was rejected:`` before it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message.removeprefix("Pod was rejected: ")


def requests_of(pod: Object) -> Counter[str]:
    """What a pod takes of its node: CPU in thousandths, the rest in ones, and itself."""
    found = pod_requests(pod["spec"])
    counted = Counter({name: found[name] for name in _COUNTED if found.get(name)})
    counted["pods"] = 1
    return counted


def check(pod: Object, node: Object, requests: Counter[str], used: Mapping[str, int]) -> None:
    """Check that a pod fits on a node beside what is there.

    Args:
        pod: the pod.
        node: the node.
        requests: what the pod takes.
        used: what the others on the node take.

    Raises:
        Rejected: it does not.
    """
    allocatable = amounts(node.get("status", {}).get("allocatable") or {})
    for name in ("pods", *_COUNTED):
        wanted = requests.get(name, 0)
        capacity = allocatable.get(name, 0)
        if wanted and used.get(name, 0) + wanted > capacity:
            raise Rejected(
                f"OutOf{name}",
                f"Node didn't have enough resource: {name}, requested: {wanted}, "
                f"used: {used.get(name, 0)}, capacity: {capacity}",
            )
    labels = node["metadata"].get("labels") or {}
    if not NodeSelection(pod["spec"]).matches(labels, node["metadata"]["name"]):
        raise Rejected(
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        )
