"""One pod on its way through the kubelet: admitted, mounted, pulled, started, restarted, ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mlk8s.sim.api import DeleteOptions
from mlk8s.sim.clock import stamp
from mlk8s.sim.kubelet import ending, pulling, starting, status
from mlk8s.sim.kubelet.admission import Rejected
from mlk8s.sim.kubelet.container import Container
from mlk8s.sim.kubelet.volumes import MountError, prepare
from mlk8s.sim.status import Object, StatusError

if TYPE_CHECKING:
    from mlk8s.sim.faults import Interference, Stage
    from mlk8s.sim.kubelet.kubelet import Kubelet

#: How each container runs, and where those that are processes listen on this machine.
SIMULATED, PORTS = "mlk8s.dev/simulated", "mlk8s.dev/ports"
_DEADLINE = "Pod was active on the node longer than the specified deadline"


class Worker:
    """A pod that is bound to a node of this simulator.

    Args:
        kubelet: for all pods.
        pod: as it was first seen.
    """

    def __init__(self, kubelet: Kubelet, pod: Object) -> None:
        self.kubelet = kubelet
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self.node: str = pod["spec"]["nodeName"]
        spec = pod["spec"]
        self.containers = [
            Container(each, "sidecar" if each.get("restartPolicy") == "Always" else "init")
            for each in spec.get("initContainers") or ()
        ] + [Container(each, "regular") for each in spec["containers"]]
        self.init = [each for each in self.containers if each.role != "regular"]
        self.regular = [each for each in self.containers if each.role == "regular"]
        self.policy: str = spec.get("restartPolicy", "Always")
        self.admitted = False
        self.rejected = False
        self.finished = False
        self.holding = False
        self.started_at = 0.0
        self.ip = ""
        self.host_ip = ""
        self.sandbox = False
        self.places: dict[str, Path] | None = None
        self.retry_at = 0.0
        self.mount_delay = 0.0
        # Why the pod as a whole ends: (status.reason, status.message).
        self.verdict: tuple[str, str] | None = None
        self.kill_at: float | None = None
        self.killed = False
        self.grace = 0
        self._said: Object = {}
        key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        for each in self.containers:
            each.pod = key

    # -- the loop --------------------------------------------------------------------------------

    def sync(self, pod: Object) -> float | None:
        """Bring the pod forward; gives the time of the next look, if one is needed."""
        now = self.kubelet.api.clock.now()
        self.pod = pod
        if self.rejected or self.finished:
            self._delete_if_asked()
            return None
        deleting = "deletionTimestamp" in pod["metadata"]
        if not self.admitted:
            if deleting:
                self.finished = True
                self._delete_if_asked()
                return None
            if not self._admit(now):
                return None
        ending.take_ends(self, now)
        deadline = pod["spec"].get("activeDeadlineSeconds")
        active = deadline is not None and self.verdict is None and not deleting
        if active and now >= self.started_at + deadline:
            self.verdict = ("DeadlineExceeded", _DEADLINE)
            self.event("Normal", "DeadlineExceeded", _DEADLINE)
        if deleting or self.verdict is not None:
            ending.end(self, now, deleting)
        else:
            self._advance(now)
        ending.finish_if_over(self, now)
        self._write(now)
        if self.finished:
            self._let_go()
            self._delete_if_asked()
            return None
        return self._next(now)

    def _next(self, now: float) -> float | None:
        times: list[float] = []
        deadline = self.pod["spec"].get("activeDeadlineSeconds")
        if self.kill_at is not None:
            if not self.killed:
                times.append(self.kill_at)
        else:
            if deadline is not None and self.verdict is None:
                times.append(self.started_at + deadline)
            if self.retry_at > now:
                times.append(self.retry_at)
            for each in self.containers:
                if each.running:
                    due = self.kubelet.probes.due(each)
                    if due is not None:
                        times.append(due)
                    if each.killing:
                        times.append(each.killing)
                elif each.due > now:
                    times.append(each.due)
        return min((each for each in times if each > now), default=None)

    # -- admission -------------------------------------------------------------------------------

    def _admit(self, now: float) -> bool:
        self.started_at = now
        try:
            if fault := self.kubelet.faults.of(self.pod, "admission"):
                raise Rejected(fault.reason or "UnexpectedAdmissionError", fault.message)
            devices = self.kubelet.admit(self)
        except Rejected as error:
            self.rejected = True
            reason = error.reason
            self.event("Warning", reason, error.message)
            message = f"Pod was rejected: {error.message}"

            def reject(pod: Object) -> None:
                kept = {
                    name: pod["status"][name]
                    for name in ("qosClass", "resourceClaimStatuses")
                    if name in pod.get("status", {})
                }
                pod["status"] = {
                    "observedGeneration": pod["metadata"].get("generation", 1),
                    "phase": "Failed",
                    "message": message,
                    "reason": reason,
                    "startTime": stamp(now),
                    **kept,
                }

            self.kubelet.write(self.pod, reject)
            return False
        for each in self.containers:
            # A share of a device is known to the container by the device itself.
            ids = [
                device.partition("::")[0]
                for resource, held in (devices.get(each.name) or {}).items()
                if resource.startswith("nvidia.com/")
                for device in held
            ]
            each.devices = list(dict.fromkeys(ids))
            each.wait("PodInitializing" if self.init else "ContainerCreating")
        self.admitted = self.holding = True
        return True

    # -- forward ---------------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        if not self.sandbox:
            if now < self.retry_at or not self._mount(now):
                return
            fault = self.fault("create", self.regular[0])
            if fault is not None and fault.reason == "FailedCreatePodSandBox":
                self.event("Warning", fault.reason, fault.message)
                self.retry_at = now + pulling.RETRY_S
                return
            self.host_ip, self.ip = self.kubelet.addresses(self.node, self.pod)
            self.sandbox = True
        over = all(each.phase == "terminated" for each in self.regular) and not any(
            status.restarts(each, self.policy) for each in self.regular
        )
        if over:
            ending.stop_sidecars(self, now)
            return
        for each in self.init:
            if each.role == "init" and (each.succeeded or any(c.runs for c in self.regular)):
                continue
            self._drive(each, now)
            failed = each.role == "init" and each.phase == "terminated" and not each.succeeded
            if failed and not status.restarts(each, self.policy):
                self.verdict = ("", "")
                ending.end(self, now, False)
                return
            passed = each.started if each.role == "sidecar" else each.succeeded
            if not passed and not any(c.runs for c in self.regular):
                return
        for each in self.regular:
            self._drive(each, now)
            if each.step == "pulling" and each.phase == "waiting":
                break

    def _mount(self, now: float) -> bool:
        if self.places is not None or not self.pod["spec"].get("volumes"):
            self.places = self.places or {}
            return True
        node = self.kubelet.api.find("nodes", "", self.node)
        try:
            self.places = prepare(self.kubelet.api, self.pod, node, self.kubelet.directory)
        except MountError as error:
            self.event("Warning", "FailedMount", str(error))
            # pkg/volume/util/nestedpendingoperations: half a second, doubled, two minutes at most.
            self.mount_delay = min(self.mount_delay * 2 or 0.5, 122.0)
            self.retry_at = now + self.mount_delay
            return False
        return True

    def _drive(self, container: Container, now: float) -> None:
        """Bring one container forward as far as it goes now."""
        if container.running:
            if self.kubelet.probes.run(container, now) and not container.killing:
                ending.kill_unhealthy(self, container, now)
            elif container.killing and now >= container.killing and container.execution:
                container.execution.kill()
            return
        # One whose image is being pulled again has waited already.
        if container.phase == "terminated" and container.step == "new":
            if not status.restarts(container, self.policy) or now < container.due:
                return
            assert container.ended is not None
            wait = container.backoff.wait(container.ended.finished, now)
            if wait > 0:
                self._back_off(container, now + wait)
                return
            self._again(container, now)
        if now < container.due:
            return
        if container.step == "backoff":
            self._again(container, now)
        if container.step in ("new", "pulling", "failed-pull") and not pulling.pull(
            self, container, now
        ):
            return
        starting.create(self, container, now)

    def _back_off(self, container: Container, until: float) -> None:
        container.last = container.ended
        container.step, container.due = "backoff", until
        pod = self.pod["metadata"]
        name = f"{pod['name']}_{pod['namespace']}({self.uid})"
        container.wait(
            "CrashLoopBackOff",
            f"back-off {pulling.duration(container.backoff.delay)} restarting failed "
            f"container={container.name} pod={name}",
        )
        container.ready = container.started = False
        self.event(
            "Warning",
            "BackOff",
            f"Back-off restarting failed container {container.name} in pod {name}",
            container,
        )

    def _again(self, container: Container, now: float) -> None:
        assert container.ended is not None
        container.backoff.grow(container.ended.finished, now)
        container.last = container.ended
        container.step, container.due = "new", 0.0

    # -- the end ----------------------------------------------------------------------------------

    def _let_go(self) -> None:
        """Give back what the node lent: devices, CPU, memory, the place among its pods."""
        if self.holding:
            self.holding = False
            self.kubelet.release(self)

    def _delete_if_asked(self) -> None:
        metadata = self.pod["metadata"]
        if "deletionTimestamp" not in metadata or metadata.get("deletionGracePeriodSeconds") == 0:
            return
        options = DeleteOptions(grace_period=0, uid=self.uid)
        try:
            self.kubelet.api.delete("pods", metadata["namespace"], metadata["name"], options)
        except StatusError as error:
            if error.code not in (404, 409):
                raise

    def abandon(self) -> None:
        """The pod is gone from the API: end at once what is left of it."""
        for each in self.containers:
            each.close()
        self._let_go()
        self.finished = True

    def fault(self, stage: Stage, container: Container) -> Interference | None:
        """What a fault does to a container at a stage of its way."""
        fault = self.kubelet.faults.of(self.pod, stage, container.name)
        if fault is not None and not fault.container and container is not self.regular[0]:
            return None
        return fault

    # -- saying it -------------------------------------------------------------------------------

    def event(
        self, type: str, reason: str, message: str, container: Container | None = None
    ) -> None:
        """Record an event about the pod, or about one of its containers."""
        self.kubelet.recorder.event(
            {"apiVersion": "v1", "kind": "Pod", **self.pod},
            type,
            reason,
            message,
            "kubelet",
            host=self.node,
            field=container.field if container is not None else "",
        )

    def _write(self, now: float) -> None:
        ending = self.kill_at is not None
        phase = status.phase_of(self.policy, self.containers, ending)
        if self.verdict is not None and self.finished:
            phase = "Failed"
        own: Object = {
            "observedGeneration": self.pod["metadata"].get("generation", 1),
            "phase": phase,
            "startTime": stamp(self.started_at),
        }
        if self.verdict is not None and self.verdict[0]:
            own |= {"reason": self.verdict[0], "message": self.verdict[1]}
        over = phase in ("Succeeded", "Failed")
        if self.sandbox:
            own |= {"hostIP": self.host_ip, "hostIPs": [{"ip": self.host_ip}]}
            own |= {"podIP": self.ip, "podIPs": [{"ip": self.ip}]}
        else:
            host, _ = self.kubelet.addresses(self.node, None)
            own |= {"hostIP": host, "hostIPs": [{"ip": host}]}
        up = self.sandbox and not over
        own["conditions"] = status.conditions(self.pod, self.containers, phase, up, stamp(now))
        if self.init:
            own["initContainerStatuses"] = [status.container_status(each) for each in self.init]
        own["containerStatuses"] = [status.container_status(each) for each in self.regular]
        if own == self._said:
            return
        self._said = own
        simulated = ",".join(f"{c.name}={c.simulated}" for c in self.containers if c.simulated)
        ports = {
            f"{each.name}/{declared}": port
            for each in self.containers
            for declared, port in each.ports.items()
        }

        def put(pod: Object) -> None:
            pod.setdefault("status", {}).update(own)
            annotations = {**(pod["metadata"].get("annotations") or {})}
            annotations.pop(PORTS, None)
            if simulated:
                annotations[SIMULATED] = simulated
            if ports:
                annotations[PORTS] = json.dumps(ports)
            if annotations:
                pod["metadata"]["annotations"] = annotations

        self.pod = self.kubelet.write(self.pod, put) or self.pod
