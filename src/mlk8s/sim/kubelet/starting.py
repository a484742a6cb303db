"""The kubelet makes a container and starts it: configured, created, run; or not, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlk8s.sim.kubelet import ending, pulling
from mlk8s.sim.kubelet.container import Container, Ended
from mlk8s.sim.kubelet.environment import ConfigError
from mlk8s.sim.kubelet.launch import StartError, has_gpu, is_process
from mlk8s.sim.ports import CONTAINERS, free_port
from mlk8s.sim.status import Object

if TYPE_CHECKING:
    from mlk8s.sim.kubelet.worker import Worker


def create(worker: Worker, container: Container, now: float) -> None:
    """Make a container whose image is there, and start it; or say why that cannot be."""
    kubelet = worker.kubelet
    fault = worker.fault("create", container)
    if fault is not None:
        message = fault.message
        worker.event("Warning", "Failed", f"Error: {message}", container)
        container.wait(fault.reason, message)
        container.due = now + pulling.RETRY_S
        return
    node = kubelet.api.find("nodes", "", worker.node)
    container.driver = has_gpu(container) or kubelet.fleet.leaks(worker.node)
    container.ports = _ports(worker, container)
    try:
        kubelet.launcher.configure(_placed(worker), node, container, worker.places or {})
    except ConfigError as error:
        worker.event("Warning", "Failed", f"Error: {error}", container)
        container.wait("CreateContainerConfigError", str(error))
        container.due = now + pulling.RETRY_S
        return
    worker.event("Normal", "Created", "Container created", container)
    again = container.runs > 0
    container.runs += 1
    container.restarts += again
    if container.previous_log is not None:
        container.previous_log.drop()
        container.previous_log = None
    if container.execution is not None:
        container.previous_log = container.execution.log
        container.execution = None
    identity = hashlib.sha256(f"{worker.uid}/{container.name}/{container.runs}".encode())
    container.container_id = f"containerd://{identity.hexdigest()}"
    container.step, container.due, container.killing = "new", 0.0, 0.0
    container.never_ready = False
    try:
        _start(worker, container)
    except StartError as error:
        worker.event("Warning", "Failed", f"Error: {error}", container)
        container.ended = Ended(128, "StartError", str(error), 0.0, now, container.container_id)
        container.phase, container.due = "terminated", now + ending.RESTART_S
        container.ports = {}
        container.ready = container.started = False
        return
    worker.event("Normal", "Started", "Container started", container)
    container.phase, container.started_at = "running", now
    container.ended = None
    kubelet.probes.begin(container, now)
    if kubelet.probes.run(container, now):
        ending.kill_unhealthy(worker, container, now)


def _start(worker: Worker, container: Container) -> None:
    launcher, changed = worker.kubelet.launcher, _changed(worker)
    if fault := worker.fault("run", container):
        container.simulated = "fault"
        container.ports = {}
        container.never_ready = fault.exit_code is None
        seconds = None if fault.exit_code is None else 0.5
        code = fault.exit_code or 0
        container.execution = launcher.scripted(fault.lines, seconds, code, changed)
        return
    image = worker.kubelet.catalogue.resolve(container.spec["image"])
    pod = _placed(worker)
    container.execution = launcher.start(
        pod,
        container,
        image,
        worker.kubelet.seen(pod, container),
        changed,
    )
    if fault := worker.fault("log", container):
        text = "".join(f"{line}\n" for line in fault.lines)
        container.execution.log.write(text.encode(), worker.kubelet.api.clock.now())


def _ports(worker: Worker, container: Container) -> dict[int, int]:
    """A free port of this machine for each TCP port that a container declares."""
    if not is_process(container, worker.kubelet.catalogue.resolve(container.spec["image"])):
        return {}
    found: dict[int, int] = {}
    for each in container.spec.get("ports") or ():
        declared = int(each["containerPort"])
        if each.get("protocol", "TCP") == "TCP" and declared not in found:
            taken = {*worker.kubelet.ports(), *found.values()}
            purpose = f"{worker.uid}/{container.name}/{declared}"
            found[declared] = free_port(CONTAINERS, purpose, taken)
    return found


def _changed(worker: Worker) -> Callable[[], None]:
    metadata = worker.pod["metadata"]
    key = (metadata["namespace"], metadata["name"])
    return lambda: worker.kubelet.enqueue(key)


def _placed(worker: Worker) -> Object:
    """The pod with the addresses that it has by now."""
    found = {**worker.pod, "status": {**(worker.pod.get("status") or {})}}
    found["status"] |= {"hostIP": worker.host_ip, "hostIPs": [{"ip": worker.host_ip}]}
    found["status"] |= {"podIP": worker.ip, "podIPs": [{"ip": worker.ip}]}
    return found
