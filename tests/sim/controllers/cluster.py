"""A cluster without nodes of its own: API, controllers, a clock that a test drives."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from mlk8s.sim.api import Api, DeleteOptions, Request
from mlk8s.sim.clock import ManualClock
from mlk8s.sim.controllers import controllers
from mlk8s.sim.events import Recorder
from mlk8s.sim.runtime import Runtime
from mlk8s.sim.status import Object

START = 1_800_000_000.0  # 2027-01-15T08:00:00Z
CONTAINER = {"name": "main", "image": "busybox"}


class Cluster:
    """What a test does to a cluster and sees of it; its namespace is ``team``."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.api = Api(self.clock, random.Random(1))
        self.recorder = Recorder(self.api)
        self.runtime = Runtime(self.api, controllers(self.api, self.recorder))

    async def settle(self, seconds: float = 0.0) -> None:
        await self.clock.advance(seconds, self.runtime.idle)

    def create(self, key: str, name: str, **parts: Any) -> Object:
        """An object as a user sends it: decoded, with defaults."""
        resource = self.api.registry.of_key(key)
        metadata = {"name": name, **parts.pop("metadata", {})}
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
        namespace = metadata.get("namespace", "team") if resource.namespaced else ""
        return self.api.create(key, obj | parts, namespace, Request(manager="test"))

    def delete(self, key: str, name: str, propagation: str | None = "Background", **more: Any):
        namespace = "team" if self.api.registry.of_key(key).namespaced else ""
        self.api.delete(key, namespace, name, DeleteOptions(propagation=propagation, **more))

    def get(self, key: str, name: str) -> Object:
        namespace = "team" if self.api.registry.of_key(key).namespaced else ""
        return self.api.get(key, namespace, name)

    def names(self, key: str, namespace: str | None = "team") -> list[str]:
        return [name for _, name in self.api.store.keys(key, namespace)]

    def pods(self) -> list[Object]:
        return list(self.api.store.items("pods", "team"))

    def change(self, key: str, name: str, mutate: Callable[[Object], object]) -> None:
        namespace = "team" if self.api.registry.of_key(key).namespaced else ""

        def change(obj: Object) -> None:
            mutate(obj)

        assert self.api.change(key, namespace, name, change) is not None

    def run_pod(self, name: str, phase: str = "Running", node: str = "n1", code: int = 0) -> None:
        """Do to a pod what scheduler and kubelet would."""
        moment = self.api.timestamp()
        ready = "True" if phase == "Running" else "False"

        def bind(pod: Object) -> None:
            pod["spec"].setdefault("nodeName", node)

        def report(pod: Object) -> None:
            status = pod.setdefault("status", {})
            status["phase"] = phase
            status.setdefault("podIP", "10.1.0.7")
            status["conditions"] = [
                {"type": "Ready", "status": ready, "lastTransitionTime": moment}
            ]
            state: Object = {"running": {"startedAt": moment}}
            if phase in ("Succeeded", "Failed"):
                exit_code = code or (1 if phase == "Failed" else 0)
                state = {"terminated": {"exitCode": exit_code, "finishedAt": moment}}
            status["containerStatuses"] = [
                {
                    "name": pod["spec"]["containers"][0]["name"],
                    "ready": ready == "True",
                    "restartCount": 0,
                    "image": "busybox",
                    "imageID": "",
                    "state": state,
                }
            ]

        if not self.api.get("pods", "team", name)["spec"].get("nodeName"):
            self.api.change("pods", "team", name, bind, subresource="binding")
        self.api.change("pods", "team", name, report, subresource="status")

    def run_all(self, phase: str = "Running", **more: Any) -> list[str]:
        """Bring every pod that has not ended to a phase; gives their names."""
        found = []
        for pod in self.pods():
            status = pod.get("status", {}).get("phase", "Pending")
            if "deletionTimestamp" in pod["metadata"] or status == phase:
                continue
            if status in ("Pending", "Running"):
                self.run_pod(pod["metadata"]["name"], phase, **more)
                found.append(pod["metadata"]["name"])
        return found

    def end_deleted(self) -> None:
        """Let the pods go whose grace nobody waits for."""
        for pod in self.pods():
            if "deletionTimestamp" in pod["metadata"]:
                self.api.delete(
                    "pods", "team", pod["metadata"]["name"], DeleteOptions(grace_period=0)
                )

    def events(self, kind: str | None = None) -> list[tuple[str, str]]:
        """(reason, message) of the events about objects of a kind, in order of their making."""
        found = [
            event
            for event in self.api.store.items("events")
            if kind in (None, event["involvedObject"]["kind"])
        ]
        found.sort(key=lambda event: int(event["metadata"]["resourceVersion"]))
        return [(event["reason"], event["message"]) for event in found]


def condition(obj: Object, type: str) -> tuple[str, str, str] | None:
    """(status, reason, message) of a condition."""
    for each in obj.get("status", {}).get("conditions", []):
        if each["type"] == type:
            return each["status"], each.get("reason", ""), each.get("message", "")
    return None


def play(story: Callable[[Cluster], Awaitable[None]]) -> None:
    """Run a story on a new cluster with the namespace ``team`` and the node ``n1``."""

    async def run() -> None:
        cluster = Cluster()
        await cluster.runtime.listen()
        cluster.runtime.start()
        cluster.create("namespaces", "team")
        cluster.create("nodes", "n1")
        await cluster.settle()
        await story(cluster)
        await cluster.runtime.stop()

    asyncio.run(run())
