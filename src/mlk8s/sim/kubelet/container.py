"""What the kubelet knows of one container: its state, its past, when to start it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from mlk8s.sim.kubelet.environment import Mounts
from mlk8s.sim.kubelet.logs import LogBuffer
from mlk8s.sim.kubelet.process import Exit
from mlk8s.sim.status import Object

Role = Literal["init", "sidecar", "regular"]

# pkg/kubelet/kubelet.go: the first back-off, and the longest; twice the longest without a crash
# and it begins anew.
BACKOFF_S = 10.0
BACKOFF_MAX_S = 300.0


class Backoff:
    """Waiting times that double (``k8s.io/client-go/util/flowcontrol.Backoff``)."""

    __slots__ = ("delay", "updated")

    def __init__(self) -> None:
        self.delay = 0.0
        self.updated = 0.0

    def wait(self, event: float, now: float) -> float:
        """Seconds still to wait after something that happened at ``event``; 0 is none."""
        if not self.delay or event - self.updated > 2 * BACKOFF_MAX_S:
            return 0.0
        return max(0.0, event + self.delay - now)

    def grow(self, event: float, now: float) -> None:
        """Note another attempt."""
        if not self.delay or event - self.updated > 2 * BACKOFF_MAX_S:
            self.delay = BACKOFF_S
        else:
            self.delay = min(self.delay * 2, BACKOFF_MAX_S)
        self.updated = now


class Execution(Protocol):
    """One run of a container."""

    log: LogBuffer
    exit: Exit | None

    def terminate(self) -> None:
        """Ask it to end, as SIGTERM does."""

    def kill(self) -> None:
        """End it."""

    def conclude(self) -> None:
        """Ask it to end, and take its end for a success."""


@dataclass(frozen=True)
class Ended:
    """A run that is over; times in seconds since the epoch, 0 for one that never started."""

    code: int
    reason: str
    message: str
    started: float
    finished: float
    container_id: str

    def as_state(self, stamp: str, finished: str) -> Object:
        """``state.terminated``."""
        state: Object = {"exitCode": self.code, "reason": self.reason}
        if self.message:
            state["message"] = self.message
        state |= {"startedAt": stamp, "finishedAt": finished}
        if self.container_id:
            state["containerID"] = self.container_id
        return state


class ProbeState:
    """How one probe of one container stands."""

    __slots__ = ("busy", "due", "failures", "passed", "settled", "successes")

    def __init__(self, due: float) -> None:
        self.due = due
        self.busy = False
        self.settled = False
        self.passed = False
        self.successes = 0
        self.failures = 0


class Container:
    """One container of a pod.

    Args:
        spec: from the pod.
        role: which of the lists it is in; a sidecar is an init container that runs on.

    Attributes:
        pod: namespace and name.
        phase: ``waiting``, ``running`` or ``terminated``.
        step: within ``waiting``: ``new``, ``pulling``, ``failed-pull``, ``create``, ``backoff``.
        due: when the step ends.
        devices: ids of the GPUs that it got.
        driver: whether it has the driver's tools, as with a GPU.
        ports: of a process, where it listens on this machine, by the TCP port that it declares.
        restarts: how often it was started again.
        started: whether its startup probe has passed.
        simulated: how it runs, for the pod's annotation.
    """

    __slots__ = (
        "backoff",
        "container_id",
        "devices",
        "driver",
        "due",
        "ended",
        "environment",
        "execution",
        "killing",
        "last",
        "message",
        "mounts",
        "name",
        "never_ready",
        "phase",
        "pod",
        "ports",
        "previous_log",
        "probes",
        "pull_began",
        "pull_error",
        "pulls",
        "ready",
        "reason",
        "restarts",
        "role",
        "runs",
        "simulated",
        "spec",
        "started",
        "started_at",
        "step",
    )

    def __init__(self, spec: Object, role: Role) -> None:
        self.spec = spec
        self.role = role
        self.name: str = spec["name"]
        self.pod = ("", "")
        self.phase: Literal["waiting", "running", "terminated"] = "waiting"
        self.step: Literal["new", "pulling", "failed-pull", "create", "backoff"] = "new"
        self.reason = ""
        self.message = ""
        self.due = 0.0
        self.runs = 0
        self.restarts = 0
        self.backoff = Backoff()
        self.pulls = Backoff()
        self.pull_began = 0.0
        self.pull_error = ""
        self.execution: Execution | None = None
        self.previous_log: LogBuffer | None = None
        self.container_id = ""
        self.started_at = 0.0
        self.started = False
        self.ready = False
        self.never_ready = False
        self.killing = 0.0
        self.ended: Ended | None = None
        self.last: Ended | None = None
        self.probes: dict[str, ProbeState] = {}
        self.devices: list[str] = []
        self.driver = False
        self.ports: dict[int, int] = {}
        self.environment: dict[str, str] = {}
        self.mounts = Mounts({})
        self.simulated = ""

    @property
    def field(self) -> str:
        """Its path in the pod, as events name it."""
        part = "containers" if self.role == "regular" else "initContainers"
        return f"spec.{part}{{{self.name}}}"

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self.phase == "running"

    @property
    def succeeded(self) -> bool:
        """Whether its last run ended with 0."""
        return self.phase == "terminated" and self.ended is not None and self.ended.code == 0

    def wait(self, reason: str, message: str = "") -> None:
        """Be ``waiting`` for a reason."""
        self.phase, self.reason, self.message = "waiting", reason, message

    def close(self) -> None:
        """Forget its output."""
        if self.execution is not None:
            self.execution.kill()
            self.execution.log.drop()
        if self.previous_log is not None:
            self.previous_log.drop()
