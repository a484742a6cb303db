"""What the scheduler keeps of a pod: amounts as integers, ports, affinity terms.

The object itself is not kept, so that 50,000 running pods stay small.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import ceil
from typing import Any

import orjson

from mlk8s.sim.amounts import pod_total
from mlk8s.sim.matching import Selector
from mlk8s.sim.quantity import value
from mlk8s.sim.status import Object

# pkg/scheduler/util/pod_resources.go: what a container counts for in scores when it asks nothing.
DEFAULT_CPU = 100
DEFAULT_MEMORY = 200 * 1024 * 1024
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


@lru_cache(maxsize=8192)
def amount(name: str, text: str) -> int:
    """A quantity in the scheduler's units, rounded up: CPU in thousandths, others in ones."""
    return ceil(value(text) * 1000) if name == "cpu" else ceil(value(text))


def amounts(quantities: Mapping[str, Any]) -> dict[str, int]:
    """Quantities by resource name, in the scheduler's units."""
    return {name: amount(name, str(text)) for name, text in quantities.items()}


def pod_requests(spec: Object, missing: Mapping[str, int] | None = None) -> dict[str, int]:
    """What a pod asks of its node, in the scheduler's units.

    Args:
        spec: the pod's.
        missing: what a container counts for that has no request of that resource.
    """
    return pod_total(spec, "requests", amounts, missing)


@lru_cache(maxsize=4096)
def _sizes(raw: bytes) -> tuple[dict[str, int], int, int]:
    """Requests, and CPU and memory with their defaults; one result for all pods of a workload."""
    spec: Object = orjson.loads(raw)
    requests = pod_requests(spec)
    missing = {"cpu": DEFAULT_CPU, "memory": DEFAULT_MEMORY}
    if (spec.get("resources") or {}).get("requests"):
        missing = {name: size for name, size in missing.items() if name not in requests}
    nonzero = pod_requests(spec, missing)
    return requests, nonzero.get("cpu", 0), nonzero.get("memory", 0)


class Term:
    """A pod (anti-)affinity term: which pods, and what they share a node's label with.

    Args:
        term: a ``PodAffinityTerm``.
        namespace: of the pod that has it.
        labels: of the pod that has it, for ``matchLabelKeys``.
        weight: of a preferred term; negative for anti-affinity.
    """

    __slots__ = ("_of_namespaces", "_selector", "namespaces", "topology_key", "weight")

    def __init__(self, term: Object, namespace: str, labels: Object, weight: int = 0) -> None:
        names = term.get("namespaces") or ()
        of_namespaces = term.get("namespaceSelector")
        if not names and of_namespaces is None:
            names = (namespace,)
        self.namespaces = frozenset(names)
        self._of_namespaces = None if of_namespaces is None else Selector(of_namespaces)
        self.topology_key: str = term["topologyKey"]
        self.weight = weight
        same = {key: labels[key] for key in term.get("matchLabelKeys") or () if key in labels}
        other = {key: labels[key] for key in term.get("mismatchLabelKeys") or () if key in labels}
        self._selector = Selector(term.get("labelSelector"), same, other)

    @property
    def by_labels(self) -> bool:
        """Whether namespaces are selected by their labels, not only by name."""
        return self._of_namespaces is not None

    def matches(
        self, namespace: str, labels: Mapping[str, str], of_namespace: Mapping[str, str]
    ) -> bool:
        """Whether it selects a pod; ``of_namespace`` are the labels of the pod's namespace."""
        if namespace not in self.namespaces and not (
            self._of_namespaces is not None and self._of_namespaces.matches(of_namespace)
        ):
            return False
        return self._selector.matches(labels)


class Terms:
    """All inter-pod terms of a pod.

    Args:
        affinity: ``spec.affinity``.
        namespace: the pod's.
        labels: the pod's.
    """

    __slots__ = ("affinity", "anti", "preferred")

    def __init__(self, affinity: Object, namespace: str, labels: Object) -> None:
        near = affinity.get("podAffinity") or {}
        apart = affinity.get("podAntiAffinity") or {}
        self.affinity = [Term(term, namespace, labels) for term in near.get(REQUIRED) or ()]
        self.anti = [Term(term, namespace, labels) for term in apart.get(REQUIRED) or ()]
        self.preferred = [
            Term(item["podAffinityTerm"], namespace, labels, sign * item["weight"])
            for side, sign in ((near, 1), (apart, -1))
            for item in side.get(PREFERRED) or ()
        ]


NO_TERMS = Terms({}, "", {})


class PodInfo:
    """A pod as far as the scheduler has to know it.

    Attributes:
        requests: by resource name, in the scheduler's units; shared, not to be changed.
        nonzero_cpu: in thousandths, with the default for containers that ask none.
        nonzero_memory: in bytes, with the default for containers that ask none.
        host_ports: (ip, protocol, port).
        started: ``status.startTime``; empty before.
        terms: inter-pod affinity.
        group: equal for pods that no selector and no affinity can tell apart.
    """

    __slots__ = (
        "group",
        "host_ports",
        "labels",
        "name",
        "namespace",
        "node",
        "nonzero_cpu",
        "nonzero_memory",
        "priority",
        "requests",
        "started",
        "terminating",
        "terms",
        "uid",
    )

    def __init__(self, pod: Object) -> None:
        metadata, spec = pod["metadata"], pod["spec"]
        self.uid: str = metadata["uid"]
        self.namespace: str = metadata.get("namespace", "")
        self.name: str = metadata["name"]
        self.labels: dict[str, str] = metadata.get("labels") or {}
        self.node: str = spec.get("nodeName") or ""
        self.priority: int = spec.get("priority") or 0
        self.terminating = "deletionTimestamp" in metadata
        self.started: str = (pod.get("status") or {}).get("startTime") or ""
        self.requests, self.nonzero_cpu, self.nonzero_memory = _sizes(_sized(spec))
        self.host_ports = host_ports(spec)
        affinity = spec.get("affinity") or {}
        affinity = {key: affinity[key] for key in affinity if key.startswith("pod")}
        self.terms = Terms(affinity, self.namespace, self.labels) if affinity else NO_TERMS
        self.group: bytes = orjson.dumps(
            [self.labels, affinity, self.terminating], option=orjson.OPT_SORT_KEYS
        )

    def alike(self, other: PodInfo) -> bool:
        """Whether another state of the same pod is the same to the scheduler."""
        return (
            self.group == other.group
            and self.requests == other.requests
            and self.host_ports == other.host_ports
            and self.priority == other.priority
        )


def _sized(spec: Object) -> bytes:
    """The part of a spec that its requests come from."""

    def slim(containers: list[Object] | None) -> list[Object]:
        return [
            {
                "resources": {"requests": (container.get("resources") or {}).get("requests")},
                "restartPolicy": container.get("restartPolicy"),
            }
            for container in containers or ()
        ]

    return orjson.dumps(
        {
            "containers": slim(spec.get("containers")),
            "initContainers": slim(spec.get("initContainers")),
            "resources": spec.get("resources"),
            "overhead": spec.get("overhead"),
        }
    )


def host_ports(spec: Object) -> tuple[tuple[str, str, int], ...]:
    """(ip, protocol, port) that a pod takes of its node; sidecars count, init containers do not."""
    found: list[Object] = []
    for container in spec.get("containers") or ():
        found += container.get("ports") or ()
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            found += container.get("ports") or ()
    return tuple(
        (port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", port["hostPort"])
        for port in found
        if port.get("hostPort")
    )
