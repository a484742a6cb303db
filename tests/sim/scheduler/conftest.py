"""Nodes and pods in a few words, plugins without a cluster, and a cluster without a kubelet."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mlk8s.sim.scheduler.cache import Cache
from mlk8s.sim.scheduler.cycle import Cycle, Diagnosis, Nominations
from mlk8s.sim.scheduler.framework import Code, State
from mlk8s.sim.scheduler.interpod import InterPodAffinity
from mlk8s.sim.scheduler.nodes import (
    ImageLocality,
    NodeAffinity,
    NodeName,
    NodePorts,
    NodeUnschedulable,
    TaintToleration,
)
from mlk8s.sim.scheduler.podinfo import PodInfo
from mlk8s.sim.scheduler.resources import NodeResourcesBalancedAllocation, NodeResourcesFit
from mlk8s.sim.scheduler.topology import PodTopologySpread

Object = dict[str, Any]


def a_node(name: str, *, labels: Object | None = None, **parts: Any) -> Object:
    """A node; ``parts`` are ``allocatable``, ``images`` or fields of its spec."""
    allocatable = {"cpu": "16", "memory": "128Gi", "pods": "110", **parts.pop("allocatable", {})}
    images = parts.pop("images", [])
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": parts,
        "status": {"allocatable": allocatable, "capacity": allocatable, "images": images},
    }


def a_pod(
    name: str,
    requests: Object | None = None,
    *,
    labels: Object | None = None,
    namespace: str = "default",
    **spec: Any,
) -> Object:
    """A pod of one container; ``spec`` is the rest."""
    extended = {key: value for key, value in (requests or {}).items() if "/" in key}
    resources = {"requests": requests or {}, **({"limits": extended} if extended else {})}
    container = {"name": "main", "image": "cuda:13", "resources": resources}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "labels": labels or {},
        },
        "spec": {"containers": [container], **spec},
        "status": {},
    }


class Lab:
    """The plugins that need no API, in the default profile's order, over a cache."""

    a_node = staticmethod(a_node)
    a_pod = staticmethod(a_pod)

    def __init__(self) -> None:
        self.cache = Cache()
        self.nominations = Nominations()
        self.objects: dict[tuple[str, str, str], Object] = {}
        plugins = [
            NodeUnschedulable(),
            NodeName(),
            TaintToleration(),
            NodeAffinity(),
            NodePorts(),
            NodeResourcesFit(),
            PodTopologySpread(self.cache, lambda *where: self.objects.get(where)),
            InterPodAffinity(self.cache),
            NodeResourcesBalancedAllocation(),
            ImageLocality(self.cache),
        ]
        self.cycle = Cycle(plugins, self.cache, self.nominations, random.Random(0))

    def nodes(self, *nodes: Object) -> None:
        for node in nodes:
            self.cache.set_node(node)

    def run(self, pod: Object, node: str) -> None:
        self.cache.add_pod(PodInfo(pod), node)

    def diagnose(self, pod: Object) -> Diagnosis:
        return self.cycle.feasible(self.cycle.begin(pod), pod)[1]

    def feasible(self, pod: Object) -> list[str]:
        return sorted(node.name for node in self.cycle.feasible(self.cycle.begin(pod), pod)[0])

    def reasons(self, pod: Object) -> dict[str, tuple[str, ...]]:
        return {name: verdict.reasons for name, verdict in self.diagnose(pod).verdicts.items()}

    def codes(self, pod: Object) -> dict[str, Code]:
        return {name: verdict.code for name, verdict in self.diagnose(pod).verdicts.items()}

    def scores(self, pod: Object, plugin: str) -> dict[str, int] | None:
        state: State = self.cycle.begin(pod)
        fitting, _ = self.cycle.feasible(state, pod)
        details = self.cycle.scores(state, pod, fitting)[1]
        return details[plugin].normalized if plugin in details else None


@pytest.fixture
def lab() -> Lab:
    return Lab()


class Cluster:
    """API and scheduler on a clock that stands still; nobody runs the pods."""

    def __init__(self) -> None:
        from mlk8s.sim.api import Api
        from mlk8s.sim.clock import ManualClock
        from mlk8s.sim.events import Recorder
        from mlk8s.sim.runtime import Runtime
        from mlk8s.sim.scheduler.scheduler import Scheduler

        self.clock = ManualClock(1_790_000_000)
        self.api = Api(self.clock, random.Random(7))
        self.scheduler = Scheduler(self.api, Recorder(self.api))
        self.runtime = Runtime(self.api, [self.scheduler])

    async def start(self) -> None:
        await self.runtime.listen()
        self.runtime.start()
        for name in ("default", "team"):
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self.api.create("namespaces", namespace)
            account = {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "default"},
            }
            self.api.create("serviceaccounts", account, name)

    def node(self, name: str, **parts: Any) -> None:
        node = a_node(name, **parts)
        status = node["status"]
        self.api.create("nodes", node)
        self.api.change("nodes", "", name, lambda obj: obj.update(status=status), "status")
        self.api.change("nodes", "", name, _ready)

    def pod(self, name: str, requests: Object | None = None, **spec: Any) -> None:
        pod = a_pod(name, requests, **spec)
        self.api.create("pods", pod, pod["metadata"]["namespace"])

    def priority(self, name: str, value: int, **more: Any) -> None:
        self.api.create(
            "priorityclasses.scheduling.k8s.io",
            {
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": name},
                "value": value,
                **more,
            },
        )

    def get(self, name: str, namespace: str = "default") -> Object:
        return self.api.get("pods", namespace, name)

    def where(self, name: str, namespace: str = "default") -> str | None:
        node: str | None = self.get(name, namespace)["spec"].get("nodeName")
        return node

    def condition(self, name: str, namespace: str = "default") -> Object:
        conditions = self.get(name, namespace)["status"]["conditions"]
        return next(one for one in conditions if one["type"] == "PodScheduled")

    def events(self, name: str) -> list[tuple[str, str]]:
        found = [
            (event["reason"], event["message"])
            for event in self.api.store.items("events")
            if event["involvedObject"]["name"] == name
        ]
        return sorted(found)

    def finish(self, name: str) -> None:
        self.api.change(
            "pods", "default", name, lambda obj: obj["status"].update(phase="Succeeded"), "status"
        )

    async def pass_time(self, seconds: float = 0.0) -> None:
        await self.clock.advance(seconds, self.runtime.idle)


def _ready(node: Object) -> None:
    taints = node["spec"].get("taints") or []
    node["spec"]["taints"] = [one for one in taints if one["key"] != "node.kubernetes.io/not-ready"]


Play = Callable[[Callable[[Cluster], Any]], None]


@pytest.fixture
def play() -> Iterator[Play]:
    """Run an async test on a started cluster."""

    def run(test: Callable[[Cluster], Any]) -> None:
        async def all_of_it() -> None:
            cluster = Cluster()
            await cluster.start()
            try:
                await test(cluster)
            finally:
                await cluster.runtime.stop()

        asyncio.run(all_of_it())

    yield run
