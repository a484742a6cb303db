"""A whole cluster on a clock that the tests drive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mlk8s.sim.api import Request
from mlk8s.sim.nodes.plugin import operands
from mlk8s.sim.nodes.smi import answer
from mlk8s.sim.nodes.spec import load
from mlk8s.sim.simulator import Simulator

OPERATOR = "gpu-operator-resources"
Object = dict[str, Any]


class Cluster:
    """What tests look at and do, in few words."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.api = simulator.api
        self.fleet = simulator.fleet
        self.faults = simulator.faults

    async def wait(self, seconds: float) -> None:
        """Let simulated time pass."""
        await self.simulator.advance(seconds)

    def node(self, name: str) -> Object:
        """A node."""
        return self.api.get("nodes", "", name)

    def labels(self, name: str) -> dict[str, str]:
        """A node's labels."""
        found: dict[str, str] = self.node(name)["metadata"]["labels"]
        return found

    def gpus(self, name: str, part: str = "allocatable") -> dict[str, str]:
        """A node's resources of NVIDIA."""
        return {k: v for k, v in self.node(name)["status"][part].items() if "nvidia.com" in k}

    def label(self, name: str, **labels: str) -> None:
        """Label a node; ``mig_config`` is ``nvidia.com/mig.config``."""

        def write(node: Object) -> None:
            for key, value in labels.items():
                node["metadata"]["labels"][f"nvidia.com/{key.replace('_', '.')}"] = value

        self.api.change("nodes", "", name, write)

    def smi(self, node: str, *arguments: str, pod: Object | None = None) -> str:
        """What ``nvidia-smi`` prints, in a pod or on the node."""
        return answer(self.fleet.visible(node, pod), arguments).out

    def pod(self, name: str, resource: str = "nvidia.com/gpu", count: int = 1, **spec: Any) -> None:
        """Create a pod that sleeps with some devices."""
        resources = {"limits": {resource: str(count)}, "requests": {resource: str(count)}}
        container = {
            "name": "main",
            "image": "registry.k8s.io/pause:3.10",
            "resources": resources if count else {},
        }
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"containers": [container], **spec},
        }
        self.api.create("pods", body, "default", Request(user="admin"))

    def status(self, name: str, namespace: str = "default") -> Object:
        """A pod's status."""
        found: Object = self.api.get("pods", namespace, name)["status"]
        return found

    def operands(self, app: str, node: str) -> list[Object]:
        """An operand's pods on a node."""
        return operands(self.api, node, app)

    def events(self, name: str) -> list[tuple[str, str]]:
        """Reason and message of the events about an object."""
        return [
            (event["reason"], event["message"])
            for event in self.api.store.items("events")
            if event["involvedObject"]["name"] == name
        ]


async def log(cluster: Cluster, name: str, namespace: str = "default", container: str = "") -> str:
    """What a container has printed."""
    chunks = cluster.simulator.kubelet.logs(namespace, name, container)
    return b"".join([chunk async for chunk in chunks]).decode()


def play(nodes: str, story: Callable[[Cluster], Awaitable[None]], directory: Path) -> None:
    """Start a cluster, wait until the operands run, and play a story on it."""

    async def run() -> None:
        simulator = Simulator(load(nodes), directory, manual=True, seed=1)
        await simulator.start()
        try:
            await simulator.advance(30)
            await story(Cluster(simulator))
        finally:
            await simulator.stop()

    asyncio.run(run())
