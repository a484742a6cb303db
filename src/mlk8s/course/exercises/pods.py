"""What became of a pod, in the few words that a check decides by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlk8s.cluster.workloads import unschedulable

Object = dict[str, Any]

# How long a state must last to count, in the embedded cluster and in a live one, where the
# scheduler may rest for ten seconds and a pull is tried again. Others are on the way to these.
STAYS_S = {
    "runs": (0.3, 2.0),
    "done": (0.0, 0.0),
    "failed": (0.0, 0.0),
    "stuck": (0.3, 30.0),
    "waits": (0.3, 12.0),
}
_STUCK = (
    *("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"),
    *(
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    ),
)


@dataclass(frozen=True)
class Found:
    """What became of a pod.

    Attributes:
        state: ``runs``, ``done``, ``failed``, ``waits`` (the scheduler finds no node), ``stuck``
            (on a node, where a container cannot start or ends again and again), ``starting`` (not
            yet running when the time was up) or ``missing``.
        pod: the object; empty when missing.
        says: the cluster's own words for it.
    """

    state: str
    pod: Object
    says: str

    @property
    def node(self) -> str:
        """Where it is; empty when nowhere."""
        return str(self.pod.get("spec", {}).get("nodeName", ""))


def look_at(pod: Object, before: Found) -> Found:
    """The state of a pod now.

    Args:
        pod: as the server gives it; empty when there is none.
        before: what it was at the last look.
    """
    if not pod:
        return before if before.state == "missing" else Found("missing", {}, "it was deleted")
    phase = pod["status"].get("phase")
    if phase in ("Succeeded", "Failed"):
        return Found("done" if phase == "Succeeded" else "failed", pod, _ended(pod))
    if unschedulable(pod):
        said = next(c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled")
        return Found("waits", pod, said.get("message") or said.get("reason", ""))
    for reason, message in _troubles(pod):
        stuck = "stuck" if reason in _STUCK else "starting"
        return Found(stuck, pod, f"{reason}: {message}".rstrip(": "))
    return Found("runs" if phase == "Running" else "starting", pod, str(phase))


def _ended(pod: Object) -> str:
    state = pod["status"]
    if state.get("reason"):
        return f"{state['reason']}: {state.get('message', '')}"
    for container in state.get("containerStatuses") or ():
        if ended := (container.get("state") or {}).get("terminated"):
            code, reason = ended["exitCode"], ended.get("reason", "")
            return f"container {container['name']} ended with exit code {code} ({reason})"
    return str(state["phase"])


def _troubles(pod: Object) -> Iterator[tuple[str, str]]:
    """Why containers do not run: the reason and the message of those that wait or have failed."""
    for container in pod["status"].get("containerStatuses") or ():
        state = container.get("state") or {}
        if waiting := state.get("waiting"):
            yield waiting.get("reason", ""), waiting.get("message", "")
        elif (ended := state.get("terminated")) and ended["exitCode"]:
            yield ended.get("reason", ""), f"container {container['name']}: {ended['exitCode']}"
