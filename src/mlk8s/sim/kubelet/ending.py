"""How containers end: by themselves, for a failed probe, or with their pod."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlk8s.sim.kubelet import status
from mlk8s.sim.kubelet.container import Container, Ended

if TYPE_CHECKING:
    from mlk8s.sim.kubelet.worker import Worker

# Simulated seconds. How long a crashed container shows its end before its restart.
RESTART_S = 1.0


def take_ends(worker: Worker, now: float) -> None:
    """Note which containers have ended by now, and how."""
    launcher = worker.kubelet.launcher
    for each in worker.containers:
        run = each.execution
        if not each.running or run is None or run.exit is None:
            continue
        code = 137 if run.exit.oom else run.exit.code
        fault = worker.fault("run", each)
        reason = "OOMKilled" if run.exit.oom else "Completed" if code == 0 else "Error"
        if fault is not None and fault.reason and code:
            reason = fault.reason
        message = launcher.termination_message(worker.pod, each, code)
        each.ended = Ended(
            code, reason, message or run.exit.message, each.started_at, now, each.container_id
        )
        each.phase, each.due = "terminated", now + RESTART_S
        each.ready = each.started = False
        each.ports, each.probes = {}, {}


def kill_unhealthy(worker: Worker, container: Container, now: float) -> None:
    """Stop a container whose startup or liveness probe has failed."""
    kind = next(
        name
        for name, state in container.probes.items()
        if state.settled and not state.passed and name != "readiness"
    )
    worker.event(
        "Normal",
        "Killing",
        f"Container {container.name} failed {kind} probe, will be restarted",
        container,
    )
    probe = container.spec[f"{kind}Probe"]
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is None:
        grace = worker.pod["spec"].get("terminationGracePeriodSeconds", 30)
    container.killing = now + grace
    if container.execution is not None:
        container.execution.terminate()


def end(worker: Worker, now: float, deleting: bool) -> None:
    """Stop everything: SIGTERM, a grace period, SIGKILL; sidecars last."""
    metadata, spec = worker.pod["metadata"], worker.pod["spec"]
    grace = spec.get("terminationGracePeriodSeconds", 30)
    if deleting:
        grace = metadata.get("deletionGracePeriodSeconds", grace)
    if worker.kill_at is None:
        worker.kill_at = now + grace
        worker.grace = grace
        for each in worker.containers:
            if each.running and each.role != "sidecar":
                _terminate(worker, each)
    elif grace < worker.grace:
        worker.kill_at, worker.grace = min(worker.kill_at, now + grace), grace
        worker.killed = False
    if not any(each.running for each in worker.containers if each.role != "sidecar"):
        stop_sidecars(worker, now)
    if now >= worker.kill_at and not worker.killed:
        worker.killed = True
        for each in worker.containers:
            if each.running and each.execution is not None:
                each.execution.kill()
    take_ends(worker, now)


def stop_sidecars(worker: Worker, now: float) -> None:
    """Stop the sidecars, the last one first, as nothing needs them any longer."""
    grace = worker.pod["spec"].get("terminationGracePeriodSeconds", 30)
    for each in reversed(worker.init):
        if each.role == "sidecar" and each.running and not each.killing:
            each.killing = now + grace
            _terminate(worker, each)
        elif each.running and each.killing and now >= each.killing and each.execution:
            each.execution.kill()


def _terminate(worker: Worker, container: Container) -> None:
    worker.event("Normal", "Killing", f"Stopping container {container.name}", container)
    if container.execution is not None:
        container.execution.terminate()


def finish_if_over(worker: Worker, now: float) -> None:
    """Note that a pod is over when none of its containers runs or will run again."""
    if any(each.running for each in worker.containers):
        return
    if worker.kill_at is not None:
        worker.finished = True
        passed = all(each.succeeded or each.started for each in worker.init)
        began = passed or any(each.runs for each in worker.regular)
        for each in worker.regular if began else ():
            # The last state of one that never ran, or waits for its next run.
            if each.phase == "waiting":
                each.ended = Ended(
                    137,
                    "ContainerStatusUnknown",
                    "The container could not be located when the pod was terminated",
                    0.0,
                    0.0,
                    "",
                )
                each.phase = "terminated"
        return
    phase = status.phase_of(worker.policy, worker.containers, False)
    worker.finished = phase in ("Succeeded", "Failed")
