"""The table of pods: what a pod's many states come to in one word."""

from __future__ import annotations

from typing import Any

from mlk8s.sim.clock import seconds
from mlk8s.sim.status import Object
from mlk8s.sim.tables import text

_DONE = {
    "Succeeded": "The pod has completed successfully.",
    "Failed": "The pod failed.",
}


def conditions(pod: Object) -> list[Object]:
    """What a row says of a pod that is over, so that a client may leave it out."""
    phase = text.at(pod, "status", "phase")
    if phase not in _DONE:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": _DONE[phase]}]


def row(pod: Object, now: float) -> list[Any]:
    """The cells of a pod."""
    spec, status = pod["spec"], pod.get("status") or {}
    counted = _Counted(spec, status)
    reason = counted.reason
    phase = status.get("phase", "")
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif phase not in ("Succeeded", "Failed"):
            reason = "Terminating"
    restarts = str(counted.restarts)
    if counted.restarts and counted.restarted:
        restarts += f" ({text.since(counted.restarted, now)} ago)"
    ips = status.get("podIPs") or [{}]
    return [
        pod["metadata"]["name"],
        f"{counted.ready}/{counted.total}",
        reason,
        restarts,
        text.age(pod, now),
        ips[0].get("ip") or text.NONE,
        spec.get("nodeName") or text.NONE,
        status.get("nominatedNodeName") or text.NONE,
        _gates(pod),
    ]


def _gates(pod: Object) -> str:
    gates = pod["spec"].get("readinessGates") or ()
    if not gates:
        return text.NONE
    true = sum(text.condition(pod, gate["conditionType"]) == "True" for gate in gates)
    return f"{true}/{len(gates)}"


class _Counted:
    """One pass over a pod's containers.

    Attributes:
        ready: containers that are ready, sidecars included.
        total: containers that can be.
        reason: the pod's status in one word.
        restarts: of all containers that count.
        restarted: when the last of them ended; empty when none did.
    """

    def __init__(self, spec: Object, status: Object) -> None:
        self.ready = 0
        self.restarts = 0
        self.restarted = ""
        self.reason = status.get("reason") or status.get("phase", "")
        conditions = {found.get("type"): found for found in status.get("conditions") or ()}
        if conditions.get("PodScheduled", {}).get("reason") == "SchedulingGated":
            self.reason = "SchedulingGated"
        inits = spec.get("initContainers") or []
        sidecars = {init["name"] for init in inits if init.get("restartPolicy") == "Always"}
        self.total = len(spec.get("containers") or ()) + len(sidecars)
        of_sidecars, sidecar_restarted = 0, ""
        initializing = False
        for index, container in enumerate(status.get("initContainerStatuses") or ()):
            restarts, ended = _restarts(container)
            self.restarts += restarts
            self.restarted = _later(self.restarted, ended)
            sidecar = container["name"] in sidecars
            if sidecar:
                of_sidecars += restarts
                sidecar_restarted = _later(sidecar_restarted, ended)
            state = container.get("state") or {}
            terminated, waiting = state.get("terminated"), state.get("waiting") or {}
            if terminated and not terminated.get("exitCode"):
                continue
            if sidecar and container.get("started"):
                self.ready += bool(container.get("ready"))
                continue
            initializing = True
            if terminated:
                self.reason = f"Init:{_ended(terminated)}"
            elif waiting.get("reason") and waiting["reason"] != "PodInitializing":
                self.reason = f"Init:{waiting['reason']}"
            else:
                self.reason = f"Init:{index}/{len(inits)}"
            break
        if not initializing or conditions.get("Initialized", {}).get("status") == "True":
            self.restarts, self.restarted = of_sidecars, sidecar_restarted
            self._containers(status, conditions)

    def _containers(self, status: Object, conditions: Object) -> None:
        running = False
        for container in reversed(status.get("containerStatuses") or ()):
            restarts, ended = _restarts(container)
            self.restarts += restarts
            self.restarted = _later(self.restarted, ended)
            state = container.get("state") or {}
            terminated, waiting = state.get("terminated"), state.get("waiting") or {}
            if waiting.get("reason"):
                self.reason = waiting["reason"]
            elif terminated:
                self.reason = _ended(terminated)
            elif container.get("ready") and "running" in state:
                running = True
                self.ready += 1
        if self.reason == "Completed" and running:
            ready = conditions.get("Ready", {}).get("status") == "True"
            self.reason = "Running" if ready else "NotReady"


def _restarts(container: Object) -> tuple[int, str]:
    """How often a container was restarted, and when it last ended."""
    ended = text.at(container, "lastState", "terminated", "finishedAt")
    return int(container.get("restartCount") or 0), ended or ""


def _later(one: str, other: str) -> str:
    if not one or not other:
        return one or other
    return one if seconds(one) >= seconds(other) else other


def _ended(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"
