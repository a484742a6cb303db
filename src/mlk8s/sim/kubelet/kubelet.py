"""The kubelet of all nodes of this simulator: which pods it has, and what they share."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mlk8s.sim.api import Api
from mlk8s.sim.clock import Clock
from mlk8s.sim.events import Recorder
from mlk8s.sim.faults import Faults
from mlk8s.sim.kubelet import logs
from mlk8s.sim.kubelet.admission import Rejected, check, requests_of
from mlk8s.sim.kubelet.checks import Checks
from mlk8s.sim.kubelet.container import Container, Execution
from mlk8s.sim.kubelet.images import Catalogue, parse
from mlk8s.sim.kubelet.launch import Launcher
from mlk8s.sim.kubelet.logs import LogBuffer, LogPool
from mlk8s.sim.kubelet.probes import Probes
from mlk8s.sim.kubelet.processes import Processes
from mlk8s.sim.kubelet.reaper import Reaper
from mlk8s.sim.kubelet.sample import Sample
from mlk8s.sim.kubelet.worker import Worker
from mlk8s.sim.nodes.devices import AdmissionError
from mlk8s.sim.nodes.smi import Seen
from mlk8s.sim.runtime import Component
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change

if TYPE_CHECKING:
    from mlk8s.sim.nodes.fleet import Fleet

# Where pods of nodes without spec.podCIDR get their addresses: a /24 per node.
_POD_NETWORK = int(ipaddress.ip_address("10.64.0.0"))
_LATE_S = 0.5


class Kubelet(Component):
    """Runs the pods that are bound to nodes which the simulator started.

    Args:
        api: the cluster.
        recorder: of its events.
        fleet: its nodes, with their devices.
        faults: what to do wrong.
        directory: where pods have their files; made when needed, removed at the end.
        catalogue: the images that exist.
    """

    def __init__(
        self,
        api: Api,
        recorder: Recorder,
        fleet: Fleet,
        faults: Faults,
        directory: Path,
        catalogue: Catalogue | None = None,
    ) -> None:
        super().__init__(api)
        self.recorder = recorder
        self.fleet = fleet
        self.faults = faults
        self.directory = directory
        self.catalogue = catalogue or Catalogue.standard()
        self.processes = Processes(str(directory.parent.resolve()))
        self.launcher = Launcher(api, self.processes, LogPool(), directory)
        self.checks = Checks(self)
        self.probes = Probes(self.checks.ask, self._probe_failed)
        self.workers: dict[tuple[str, str], Worker] = {}
        self._images: dict[str, set[str]] = {}
        self._used: dict[str, Counter[str]] = {}
        self._networks: dict[str, int] = {}
        self._hosts: dict[str, int] = {}
        self._writing = False
        # The last sample of what process groups use; see mlk8s.sim.kubelet.usage.
        self.sample: Sample | None = None

    @property
    def reaper(self) -> Reaper | None:
        """The helper that ends all processes, should the simulator die."""
        return self.processes.reaper

    @reaper.setter
    def reaper(self, reaper: Reaper | None) -> None:
        self.processes.reaper = reaper

    @property
    def clock(self) -> Clock:
        """The cluster's time."""
        return self.api.clock

    def keys(self, change: Change) -> Iterable[Hashable]:
        """Pods on nodes that are served; not what this kubelet has written itself."""
        if change.key != "pods" or self._writing:
            return ()
        key = (change.namespace, change.name)
        if key in self.workers:
            return (key,)
        if change.type == "DELETED" or not self.fleet.serves(
            change.object["spec"].get("nodeName") or ""
        ):
            return ()
        return (key,)

    def reconcile(self, key: Hashable) -> None:
        """Bring one pod forward."""
        assert isinstance(key, tuple)
        namespace, name = key
        pod = self.api.find("pods", namespace, name)
        worker = self.workers.get(key)
        if worker is not None and (pod is None or pod["metadata"]["uid"] != worker.uid):
            self._forget(key, worker)
            worker = None
        if pod is None:
            return
        if worker is None:
            node = pod["spec"].get("nodeName")
            if not node or not self.fleet.serves(node):
                return
            if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
                return
            worker = self.workers[key] = Worker(self, pod)
        due = worker.sync(pod)
        if due is not None:
            self.enqueue(key, due - self.api.clock.now())

    def _forget(self, key: tuple[str, str], worker: Worker) -> None:
        del self.workers[key]
        worker.abandon()
        place = self.directory / "pods" / worker.uid
        if place.exists():
            shutil.rmtree(place, ignore_errors=True)
            # A process that is just being killed may have written once more.
            asyncio.get_running_loop().call_later(
                _LATE_S, lambda: shutil.rmtree(place, ignore_errors=True)
            )

    def stop(self) -> None:
        """End all processes and remove all files."""
        self.checks.stop()
        self.processes.stop()
        for worker in self.workers.values():
            for container in worker.containers:
                container.close()
        self.workers.clear()
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- for workers -----------------------------------------------------------------------------

    def write(self, pod: Object, mutate: Callable[[Object], None]) -> Object | None:
        """Change a pod's status; the change is not told to this kubelet."""
        metadata = pod["metadata"]
        self._writing = True
        try:
            return self.api.change(
                "pods", metadata["namespace"], metadata["name"], mutate, subresource="status"
            )
        finally:
            self._writing = False

    def admit(self, worker: Worker) -> dict[str, dict[str, list[str]]]:
        """Give a pod its place on its node, and devices: container → resource → ids.

        Raises:
            Rejected: the node does not take it.
        """
        pod, node_name = worker.pod, worker.node
        try:
            devices: dict[str, dict[str, list[str]]] = self.fleet.allocate(pod)
        except AdmissionError as error:
            raise Rejected(error.reason, error.message) from None
        node = self.api.find("nodes", "", node_name)
        requests = requests_of(pod)
        used = self._used.setdefault(node_name, Counter())
        if node is not None:
            try:
                check(pod, node, requests, used)
            except Rejected:
                self._release_devices(worker)
                raise
        used.update(requests)
        return devices

    def release(self, worker: Worker) -> None:
        """Take back what :meth:`admit` gave."""
        self._used[worker.node].subtract(requests_of(worker.pod))
        self._release_devices(worker)

    def _release_devices(self, worker: Worker) -> None:
        metadata = worker.pod["metadata"]
        self.fleet.release(metadata["namespace"], metadata["name"], worker.uid, worker.node)

    def seen(self, pod: Object, container: Container) -> Seen | None:
        """What ``nvidia-smi`` can see in a container; ``None`` where there is no such command."""
        if not container.driver:
            return None
        return self.fleet.visible(pod["spec"]["nodeName"], pod, container.devices)

    def has_image(self, node: str, name: str) -> bool:
        """Whether a node has pulled an image before."""
        return str(parse(name)) in self._images.get(node, ())

    def keep_image(self, node: str, name: str) -> None:
        """Note that a node has an image."""
        self._images.setdefault(node, set()).add(str(parse(name)))

    def addresses(self, node_name: str, pod: Object | None) -> tuple[str, str]:
        """The IP addresses of a node, and a new one for a pod on it."""
        node = self.api.find("nodes", "", node_name) or {}
        known = node.get("status", {}).get("addresses") or ()
        host = next((each["address"] for each in known if each["type"] == "InternalIP"), "")
        if pod is None:
            return host, ""
        if pod["spec"].get("hostNetwork"):
            return host, host
        if node_name not in self._networks:
            network = _POD_NETWORK + 256 * len(self._networks)
            if given := node.get("spec", {}).get("podCIDR"):
                network = int(ipaddress.ip_network(given).network_address)
            self._networks[node_name] = network
        # .1 is the bridge; after 253 pods addresses come round again.
        count = self._hosts[node_name] = self._hosts.get(node_name, 0) + 1
        offset = 2 + (count - 1) % 253
        return host, str(ipaddress.ip_address(self._networks[node_name] + offset))

    def ports(self) -> Iterator[int]:
        """The ports of this machine that containers have been given."""
        for worker in self.workers.values():
            for each in worker.containers:
                yield from each.ports.values()

    def port(self, namespace: str, name: str, declared: int) -> int | None:
        """Where a pod's process listens on this machine; ``None`` where none is to listen.

        Args:
            namespace: of the pod.
            name: of the pod.
            declared: a port of one of its containers.
        """
        worker = self.workers.get((namespace, name))
        for each in worker.containers if worker is not None else ():
            if each.running and declared in each.ports:
                return each.ports[declared]
        return None

    # -- probes ----------------------------------------------------------------------------------

    def _probe_failed(self, container: Container, kind: str, output: str) -> None:
        worker = self.workers.get(container.pod)
        if worker is not None:
            title = kind.capitalize()
            worker.event("Warning", "Unhealthy", f"{title} probe failed: {output}", container)

    def execution(self, namespace: str, name: str, container: str) -> Execution | None:
        """The present or last run of a container; ``None`` before its first."""
        worker = self.workers.get((namespace, name))
        for each in worker.containers if worker is not None else ():
            if each.name == container:
                return each.execution
        return None

    # -- logs ------------------------------------------------------------------------------------

    def log_of(self, namespace: str, name: str, container: str, run: str) -> LogBuffer | None:
        """The output of one run of a container, by its container ID."""
        worker = self.workers.get((namespace, name))
        for each in worker.containers if worker is not None else ():
            if each.name == container:
                if run == each.container_id and each.execution is not None:
                    return each.execution.log
                if each.last is not None and run == each.last.container_id:
                    # Between two runs the last one's output has not been put aside yet.
                    return each.previous_log
        return None

    def logs(
        self,
        namespace: str,
        name: str,
        container: str = "",
        *,
        follow: bool = False,
        tail: int | None = None,
        since_seconds: int | None = None,
        previous: bool = False,
        timestamps: bool = False,
        limit_bytes: int | None = None,
    ) -> AsyncIterator[bytes]:
        """The log of a container.

        A pod that is not bound, or is bound to a node without a kubelet, has an empty one.

        Raises:
            StatusError: 404, or 400 with the kubelet's message.
        """
        pod = self.api.get("pods", namespace, name)
        container = logs.choose_container(pod, container)
        if not self.fleet.serves(pod["spec"].get("nodeName") or ""):
            return logs.nothing()
        run = logs.readable_run(pod, container, previous)
        if (lines := self.fleet.log(pod, container)) is not None:
            return logs.of_lines(lines, tail, limit_bytes)
        buffer = self.log_of(namespace, name, container, run)
        if buffer is None:
            return logs.nothing()
        since = None if since_seconds is None else self.api.clock.now() - since_seconds
        chunks = buffer.read(follow=follow, tail=tail, since=since, timestamps=timestamps)
        return logs.limited(chunks, limit_bytes)
