"""An embedded cluster for a module, and a few ways to fill it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest

from mlk8s.cluster import Answer, Connection, attach, gpu_pod, why
from mlk8s.cluster.connection import NAMESPACE
from mlk8s.cluster.wire import path
from mlk8s.sim import Cluster

Object = dict[str, Any]
PAUSE = "registry.k8s.io/pause:3.10"


class Bench:
    """A cluster, and how a test fills it."""

    def __init__(self, connection: Connection, **defaults: Any) -> None:
        self.connection = connection
        self.defaults = defaults
        self.cluster = connection.embedded
        connection.ensure_namespace()

    def make(
        self, body: Mapping[str, Any], resource: str = "pods", namespace: str = NAMESPACE
    ) -> Object:
        where = path(resource, namespace=namespace)
        return self.connection.request("POST", where, dict(body))

    def pod(self, name: str, **arguments: Any) -> Object:
        """A pod that holds what it asks for; ``spec`` and ``labels`` are added to it."""
        spec, labels = arguments.pop("spec", {}), arguments.pop("labels", {})
        image, command = arguments.pop("image", PAUSE), arguments.pop("command", ())
        body = dict(gpu_pod(name, image, command, **self.defaults, **arguments))
        body["spec"] = {**body["spec"], **spec}
        body["metadata"]["labels"].update(labels)
        return self.make(body)

    def delete(self, name: str, resource: str = "pods") -> None:
        where = path(resource, name, NAMESPACE if resource != "nodes" else "")
        self.connection.find(where, "DELETE", {"gracePeriodSeconds": 0})

    def status(self, name: str) -> Object:
        found: Object = self.connection.request("GET", path("pods", name, NAMESPACE))["status"]
        return found

    def until(self, condition: Callable[[], Any], within_s: float = 10.0) -> Any:
        deadline = time.monotonic() + within_s
        while not (found := condition()):
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.05)
        return found

    def running(self, *names: str) -> None:
        for name in names:
            self.until(partial(self._runs, name))

    def _runs(self, name: str) -> bool:
        return bool(self.status(name).get("phase") == "Running")

    def looked_at(self, name: str) -> None:
        """Wait until the scheduler has said something about a pod."""
        self.until(lambda: self.status(name).get("conditions"))

    def why(self, name: str) -> Answer:
        if "/" not in name:
            self.looked_at(name)
        return why(name, self.connection)

    def node(self, name: str, labels: Object | None = None, **amounts: str) -> None:
        """A ready node without a kubelet."""
        self.make(
            {
                "metadata": {
                    "name": name,
                    "labels": {"kubernetes.io/hostname": name, **(labels or {})},
                }
            },
            "nodes",
            "",
        )
        there = {"cpu": "8", "memory": "32Gi", "pods": "110"}
        there |= {key.replace("__", "/").replace("_", "."): n for key, n in amounts.items()}
        found = self.connection.request("GET", path("nodes", name))
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        found["status"] |= {"capacity": there, "allocatable": there, "conditions": [ready]}
        self.connection.request("PUT", path("nodes", name, part="status"), found)
        found = self.connection.request("GET", path("nodes", name))
        found["spec"].pop("taints", None)
        self.connection.request("PUT", path("nodes", name), found)


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The cluster of the module's ``NODES``."""
    with Cluster(request.module.NODES, seed=0) as cluster, attach(cluster) as connection:
        yield Bench(connection)
        log = (cluster.directory / "server.log").read_text()
        assert "Traceback" not in log, log
