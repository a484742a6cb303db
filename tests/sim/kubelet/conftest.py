"""A cluster with two nodes that a kubelet serves, and one that none does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mlk8s.sim.api import Api
from mlk8s.sim.clock import ManualClock, RealClock
from mlk8s.sim.events import Recorder
from mlk8s.sim.kubelet.kubelet import Kubelet
from mlk8s.sim.nodes import smi
from mlk8s.sim.nodes.devices import AdmissionError
from mlk8s.sim.runtime import Runtime


class Fleet:
    """Two nodes with two GPUs each."""

    def __init__(self) -> None:
        self.free = {"a": ["GPU-a0", "GPU-a1"], "b": ["GPU-b0", "GPU-b1"]}
        self.held: dict[str, list[str]] = {}
        self.leaky = False

    def serves(self, node: str) -> bool:
        return node in self.free

    def allocate(self, pod: Any) -> dict[str, dict[str, list[str]]]:
        free = self.free[pod["spec"]["nodeName"]]
        found: dict[str, dict[str, list[str]]] = {}
        for container in pod["spec"]["containers"]:
            limits = (container.get("resources") or {}).get("limits") or {}
            count = int(limits.get("nvidia.com/gpu", 0))
            if count > len(free):
                raise AdmissionError(
                    "Allocate failed due to requested number of devices unavailable for "
                    f"nvidia.com/gpu. Requested: {count}, Available: {len(free)}, which is "
                    "unexpected"
                )
            ids = [free.pop(0) for _ in range(count)]
            self.held.setdefault(pod["metadata"]["uid"], []).extend(ids)
            if ids:
                found[container["name"]] = {"nvidia.com/gpu": ids}
        return found

    def release(self, namespace: str, name: str, uid: str, node: str) -> None:
        self.free[node] += self.held.pop(uid, [])

    def visible(self, node: str, pod: Any = None, devices: Any = None) -> smi.Seen:
        gpu: dict[str, Any] = {
            "name": f"A GPU of {node}",
            "uuid": "GPU-0",
            "bus": "00000000:18:00.0",
        }
        gpu |= {"memory": 81559, "watts": 700, "compute": "9.0", "architecture": "Hopper"}
        gpus = [{**gpu, "mig": "Disabled", "instances": []}] if devices or self.leaky else []
        return {"driver": "580.95.05", "cuda": "13.0", "error": "", "error_code": 0, "gpus": gpus}

    def leaks(self, node: str) -> bool:
        return self.leaky

    def log(self, pod: Any, container: str) -> list[str] | None:
        return None


class Faults:
    def __init__(self) -> None:
        self.interferences: list[Any] = []

    def of(self, pod: Any, stage: str, container: str = "") -> Any:
        for each in self.interferences:
            if each.stage == stage and each.container in ("", container) and each.match(pod):
                return each
        return None


class Cluster:
    """What a test has at hand."""

    def __init__(self, directory: Path, manual: bool) -> None:
        self.clock = ManualClock(1_800_000_000) if manual else RealClock()
        self.api = Api(self.clock, random.Random(1))
        self.fleet = Fleet()
        self.faults = Faults()
        self.directory = directory
        self.kubelet = Kubelet(
            self.api,
            Recorder(self.api),
            self.fleet,  # type: ignore[arg-type]
            self.faults,  # type: ignore[arg-type]
            directory / "pods",
        )
        self.runtime = Runtime(self.api, [self.kubelet])

    async def start(self) -> None:
        await self.runtime.listen()
        self.runtime.start()
        for name in ("default", "kube-system"):
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self.api.create("namespaces", namespace)
        for name, address in (("a", "10.0.0.1"), ("b", "10.0.0.2"), ("elsewhere", "10.0.0.3")):
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {}}}
            self.api.create("nodes", node)
            amounts = {"cpu": "200", "memory": "1Ti", "pods": "2000", "nvidia.com/gpu": "2"}

            def put(node: Any, address: str = address, amounts: Any = amounts) -> None:
                node["status"] = {
                    "capacity": amounts,
                    "allocatable": amounts,
                    "addresses": [{"type": "InternalIP", "address": address}],
                }

            self.api.change("nodes", "", name, put, subresource="status")

    def pod(self, name: str, node: str = "a", **spec: Any) -> Any:
        """Create a pod; ``image``, ``command`` … are those of its only container."""
        inside: tuple[str, ...] = (
            "image",
            "command",
            "args",
            "env",
            "envFrom",
            "resources",
            "volumeMounts",
        )
        inside += ("imagePullPolicy", "livenessProbe", "readinessProbe", "startupProbe", "stdin")
        main = {"name": "main", "imagePullPolicy": "IfNotPresent"}
        main |= {key: spec.pop(key) for key in inside if key in spec}
        whole = {
            "nodeName": node,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 30,
            "containers": [main],
        }
        metadata = {"name": name, "namespace": "default"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole | spec}
        return self.api.create("pods", pod, "default")

    def get(self, name: str) -> Any:
        return self.api.find("pods", "default", name)

    def main(self, name: str) -> Any:
        """The status of a pod's first container."""
        return self.get(name)["status"]["containerStatuses"][0]

    def events(self, name: str) -> list[tuple[str, str, str]]:
        return [
            (each["type"], each["reason"], each["message"])
            for each in sorted(
                self.api.store.items("events"), key=lambda e: int(e["metadata"]["resourceVersion"])
            )
            if each["involvedObject"]["name"] == name
        ]

    async def advance(self, seconds: float) -> None:
        assert isinstance(self.clock, ManualClock)
        await self.clock.advance(seconds, self.runtime.idle)

    async def until(self, true: Callable[[], Any], seconds: float = 10.0) -> None:
        """Wait in real time."""
        for _ in range(int(seconds / 0.02)):
            if true():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"not within {seconds} s")

    async def ends(self, name: str) -> str:
        await self.until(lambda: self.get(name)["status"]["phase"] in ("Succeeded", "Failed"))
        return str(self.get(name)["status"]["phase"])

    async def log(self, name: str, container: str = "", **options: Any) -> str:
        chunks = self.kubelet.logs("default", name, container, **options)
        return b"".join([chunk async for chunk in chunks]).decode()


@pytest.fixture
def cluster(tmp_path: Path) -> Any:
    """``async with cluster() as c``: a running cluster; ``manual=False`` for real time."""

    @asynccontextmanager
    async def make(manual: bool = True) -> AsyncIterator[Cluster]:
        found = Cluster(tmp_path / "cluster", manual)
        await found.start()
        try:
            yield found
        finally:
            await found.runtime.stop()

    return make
