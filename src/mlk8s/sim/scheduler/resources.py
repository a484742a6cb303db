"""Whether a node has what a pod requests, and which node has most left.

``pkg/scheduler/framework/plugins/noderesources``. GPUs and other extended resources decide where a
pod can run, not where it runs best: the default profile scores CPU and memory alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

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

_FIRST = ("cpu", "memory", "ephemeral-storage")


@lru_cache(maxsize=1024)
def _verdict(code: Code, reasons: tuple[str, ...]) -> Verdict:
    """The same object for thousands of nodes."""
    return Verdict(code, reasons, "NodeResourcesFit")


def _nowhere(resource: str, node: NodeInfo) -> bool:
    return False


class NodeResourcesFit(Plugin):
    """Every requested resource is free; scores ``LeastAllocated``.

    Args:
        elsewhere: whether an extended resource of a node is given out by DRA.
    """

    name = "NodeResourcesFit"
    weight = 1

    def __init__(self, elsewhere: Callable[[str, NodeInfo], bool] = _nowhere) -> None:
        self._elsewhere = elsewhere

    def pre_filter(self, state: State, pod: Object, nodes: list[NodeInfo]) -> Verdict | None:
        """Put the requests in upstream's order, without those of nothing."""
        info: PodInfo = state["pod"]
        asked = {name: info.requests[name] for name in _FIRST if info.requests.get(name)}
        asked |= {name: info.requests[name] for name in sorted(info.requests) if name not in asked}
        state[self.name] = [(name, number) for name, number in asked.items() if number > 0]
        return None

    def filter(self, state: State, pod: Object, node: NodeInfo) -> Verdict | None:
        """All that is missing, in one verdict; unresolvable when the empty node has too little."""
        allocatable, requested = node.allocatable, node.requested
        reasons: list[str] = []
        code = Code.UNSCHEDULABLE
        if len(node.pods) + 1 > allocatable.get("pods", 0):
            reasons.append("Too many pods")
        for name, number in state[self.name]:
            size = allocatable.get(name, 0)
            if number > size - requested.get(name, 0) and not self._elsewhere(name, node):
                reasons.append(f"Insufficient {name}")
                if number > size:
                    code = Code.UNRESOLVABLE
        return _verdict(code, tuple(reasons)) if reasons else None

    def score(self, state: State, pod: Object, node: NodeInfo) -> int:
        """The free share of CPU and of memory after the pod, in percent, averaged."""
        info: PodInfo = state["pod"]
        total = counted = 0
        for size, taken in (
            (node.allocatable.get("cpu", 0), node.nonzero_cpu + info.nonzero_cpu),
            (node.allocatable.get("memory", 0), node.nonzero_memory + info.nonzero_memory),
        ):
            if size:
                counted += 1
                if taken <= size:
                    total += (size - taken) * MAX_SCORE // size
        return total // counted if counted else 0


class NodeResourcesBalancedAllocation(Plugin):
    """Prefers nodes whose CPU and memory would be used to the same degree."""

    name = "NodeResourcesBalancedAllocation"
    weight = 1

    def pre_score(self, state: State, pod: Object, nodes: list[NodeInfo]) -> Verdict | None:
        """Pods that request neither CPU nor memory are not scored."""
        requests = state["pod"].requests
        return None if requests.get("cpu") or requests.get("memory") else SKIPPED

    def score(self, state: State, pod: Object, node: NodeInfo) -> int:
        """100 less the standard deviation of the two shares, in percent."""
        requests = state["pod"].requests
        shares = []
        for name in ("cpu", "memory"):
            if size := node.allocatable.get(name, 0):
                taken = node.requested.get(name, 0) + requests.get(name, 0)
                shares.append(min(taken / size, 1.0))
        deviation = abs(shares[0] - shares[1]) / 2 if len(shares) == 2 else 0.0
        return int((1 - deviation) * MAX_SCORE)
