"""Probes: what can be asked of a container that is a process is asked; others pass in their time.

See :func:`mlk8s.sim.kubelet.checks.asks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mlk8s.sim.kubelet.checks import asks
from mlk8s.sim.kubelet.container import Container, ProbeState
from mlk8s.sim.status import Object

KINDS = ("startup", "liveness", "readiness")


class Probes:
    """Carries out the probes of containers.

    Args:
        ask: puts a probe to a container and tells later: 0 for a success, and the output.
        failed: told of a failure (container, kind of probe, output).
    """

    def __init__(
        self,
        ask: Callable[[Container, Object, Callable[[int, str], None]], None],
        failed: Callable[[Container, str, str], None],
    ) -> None:
        self._ask = ask
        self._failed = failed

    def begin(self, container: Container, now: float) -> None:
        """Note when the probes of a container that has just started are due."""
        container.probes = {
            kind: ProbeState(now + (probe.get("initialDelaySeconds") or 0))
            for kind, probe in _specs(container)
        }
        container.started = "startup" not in container.probes
        container.ready = (
            container.started and "readiness" not in container.probes and not container.never_ready
        )

    def due(self, container: Container) -> float | None:
        """When the next probe is due."""
        times = [
            state.due
            for kind, state in container.probes.items()
            if not state.busy and self._active(container, kind, state)
        ]
        return min(times, default=None)

    def run(self, container: Container, now: float) -> bool:
        """Carry out what is due; says whether the container has to be killed."""
        for kind, probe in _specs(container):
            state = container.probes.get(kind)
            if state is None or state.busy or not self._active(container, kind, state):
                continue
            if now < state.due:
                continue
            state.due = now + (probe.get("periodSeconds") or 10)
            if asks(container, probe):
                state.busy = True
                self._start(container, kind, probe, state)
            else:
                self._passed(container, kind, probe, state)
        return any(
            not state.passed and state.settled and kind != "readiness"
            for kind, state in container.probes.items()
        )

    def _active(self, container: Container, kind: str, state: ProbeState) -> bool:
        if kind == "startup":
            return not container.started and not state.settled
        if not container.started:
            return False
        # A probe that can only pass need not be asked again.
        return not state.passed or asks(container, container.spec.get(f"{kind}Probe") or {})

    def _start(self, container: Container, kind: str, probe: Object, state: ProbeState) -> None:
        run = container.execution

        def done(code: int, output: str) -> None:
            state.busy = False
            if container.execution is not run or not container.running:
                return
            if code == 0:
                self._passed(container, kind, probe, state)
                return
            state.successes, state.failures = 0, state.failures + 1
            self._failed(container, kind, output)
            if state.failures >= (probe.get("failureThreshold") or 3):
                state.passed, state.settled = False, True
                if kind == "readiness":
                    container.ready = False

        self._ask(container, probe, done)

    def _passed(self, container: Container, kind: str, probe: Object, state: ProbeState) -> None:
        state.failures, state.successes = 0, state.successes + 1
        if state.successes < (probe.get("successThreshold") or 1):
            return
        state.passed = state.settled = True
        if kind == "startup":
            container.started = True
            if "readiness" not in container.probes and not container.never_ready:
                container.ready = True
        elif kind == "readiness" and not container.never_ready:
            container.ready = True


def _specs(container: Container) -> Iterator[tuple[str, Object]]:
    for kind in KINDS:
        if probe := container.spec.get(f"{kind}Probe"):
            yield kind, probe
