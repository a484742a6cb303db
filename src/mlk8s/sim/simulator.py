"""One cluster: the API and everything that runs beside it, put together."""

from __future__ import annotations

import random
import time
from pathlib import Path

from mlk8s.sim.addons import Addons
from mlk8s.sim.api import Api
from mlk8s.sim.clock import Clock, ManualClock, RealClock
from mlk8s.sim.controllers import controllers
from mlk8s.sim.events import Recorder
from mlk8s.sim.faults import Faults
from mlk8s.sim.kubelet import usage
from mlk8s.sim.kubelet.kubelet import Kubelet
from mlk8s.sim.kubelet.reaper import Reaper
from mlk8s.sim.nodes.fleet import Fleet
from mlk8s.sim.nodes.spec import NodeSpec
from mlk8s.sim.runtime import Runtime
from mlk8s.sim.scheduler.scheduler import Scheduler

_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
# The two classes that every cluster has (pkg/apis/scheduling/types.go).
_PRIORITY_CLASSES = {
    "system-cluster-critical": (
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another "
        "node if necessary.",
    ),
    "system-node-critical": (
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
}


class Simulator:
    """A cluster inside this process; one event loop runs all of it.

    Args:
        specs: the nodes to start.
        directory: where pods that run as processes have their files.
        manual: time stands still until :meth:`advance`.
        seed: makes generated names and uids, and the choice among equal nodes, repeatable.
        reaper: ends pods' processes should this process be killed.
        root_ca: certificates, as PEM, that pods may trust the server by.
    """

    def __init__(
        self,
        specs: list[NodeSpec],
        directory: Path,
        *,
        manual: bool = False,
        seed: int | None = None,
        reaper: Reaper | None = None,
        root_ca: str = "",
    ) -> None:
        self.specs = specs
        self.directory = directory
        self.manual = manual
        self.seed = seed
        self.reaper = reaper
        self.root_ca = root_ca
        self.last_request = time.monotonic()
        self._build()

    def _build(self) -> None:
        self.clock: Clock = ManualClock() if self.manual else RealClock()
        self.api = Api(self.clock, random.Random(self.seed))
        self.recorder = Recorder(self.api)
        self.fleet = Fleet(self.api, self.recorder, self.specs)
        self.faults = Faults(self.api, self.recorder, self.fleet)
        self.scheduler = Scheduler(self.api, self.recorder)
        self.kubelet = Kubelet(
            self.api, self.recorder, self.fleet, self.faults, self.directory / "pods"
        )
        self.kubelet.reaper = self.reaper
        managed = controllers(
            self.api, self.recorder, self.root_ca, lambda: usage.pod_metrics(self.kubelet)
        )
        self.runtime = Runtime(self.api, [*managed, self.scheduler, self.fleet, self.kubelet])
        self.addons = Addons(self.api, self.recorder, self.runtime)

    async def start(self) -> None:
        """Start the components, then make what every cluster has."""
        self.directory.mkdir(parents=True, exist_ok=True)
        await self.runtime.listen()
        for name in _NAMESPACES:
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self.api.create("namespaces", namespace)
        for name, (value, description) in _PRIORITY_CLASSES.items():
            self.api.create(
                "priorityclasses.scheduling.k8s.io",
                {
                    "apiVersion": "scheduling.k8s.io/v1",
                    "kind": "PriorityClass",
                    "metadata": {"name": name},
                    "value": value,
                    "description": description,
                    "preemptionPolicy": "PreemptLowerPriority",
                },
            )
        self.api.create(
            "services",
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {
                    "name": "kubernetes",
                    "labels": {"component": "apiserver", "provider": "kubernetes"},
                },
                "spec": {
                    "clusterIP": "10.0.0.1",
                    "ports": [{"name": "https", "port": 443, "targetPort": 6443}],
                },
            },
            "default",
        )
        self.runtime.start()

    async def stop(self) -> None:
        """Stop everything, pods' processes included."""
        await self.runtime.stop()

    async def reset(self) -> None:
        """Stop everything, forget it, and start anew with the same nodes and no add-ons."""
        await self.stop()
        self._build()
        await self.start()

    async def advance(self, seconds: float) -> None:
        """Let simulated time pass.

        Raises:
            TypeError: the cluster runs on the machine's time.
        """
        if not isinstance(self.clock, ManualClock):
            raise TypeError("this cluster runs on the machine's time")
        await self.clock.advance(seconds, self.runtime.idle)

    def touched(self) -> None:
        """Note that somebody uses the cluster."""
        self.last_request = time.monotonic()
