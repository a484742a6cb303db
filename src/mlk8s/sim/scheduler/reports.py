"""What the scheduler tells the world about a pod: its condition, its nomination, its events.

``schedule_one.go``, ``handleSchedulingFailure``.
"""

from __future__ import annotations

from mlk8s.sim.api import Api
from mlk8s.sim.events import Recorder
from mlk8s.sim.scheduler.intake import NAME
from mlk8s.sim.scheduler.queue import Entry
from mlk8s.sim.status import Object

# A message that does not change is recorded twice, then once in so many seconds.
_REPEAT_S = 60.0
# Events' notes are cut at this length (validation.NoteLengthLimit).
_NOTE_LENGTH = 1024


class Reports:
    """Writes conditions and events.

    Args:
        api: the cluster.
        recorder: writes its events.
    """

    def __init__(self, api: Api, recorder: Recorder) -> None:
        self._api = api
        self._recorder = recorder

    def failed(
        self, entry: Entry, pod: Object, message: str, nominated: str | None, reason: str
    ) -> None:
        """Say why a pod was not scheduled.

        Args:
            entry: the pod's.
            pod: as it was tried.
            message: for condition and event.
            nominated: the node it waits for; empty for none; ``None`` leaves what there is.
            reason: of the condition.
        """
        self._condition(pod, reason, message, nominated)
        self.warn(entry, pod, message)

    def warn(self, entry: Entry, pod: Object, message: str) -> None:
        """The event FailedScheduling."""
        said, times, last = entry.said
        now = self._api.clock.now()
        if said == message and times > 1 and now - last < _REPEAT_S:
            return
        entry.said = (message, times + 1 if said == message else 1, now)
        note = message
        if len(note) > _NOTE_LENGTH:
            note = f"{note[: _NOTE_LENGTH - 4]} ..."
        self._recorder.event(
            pod, "Warning", "FailedScheduling", note, NAME, action="Scheduling", series=True
        )

    def scheduled(self, pod: Object, node: str) -> None:
        """The event Scheduled."""
        metadata = pod["metadata"]
        self._recorder.event(
            pod,
            "Normal",
            "Scheduled",
            f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {node}",
            NAME,
            action="Binding",
            series=True,
        )

    def _condition(self, pod: Object, reason: str, message: str, nominated: str | None) -> None:
        """Write PodScheduled=False, and the nomination, unless both are so already."""
        metadata, status = pod["metadata"], pod.get("status") or {}
        current: Object = next(
            (one for one in status.get("conditions") or () if one["type"] == "PodScheduled"), {}
        )
        waiting = current.get("status") == "False"
        kept = nominated is None or nominated == (status.get("nominatedNodeName") or "")
        same = (current.get("reason"), current.get("message")) == (reason, message)
        if kept and waiting and same:
            return
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": None,
            "lastTransitionTime": (waiting and current.get("lastTransitionTime"))
            or self._api.timestamp(),
            "reason": reason,
            "message": message,
            "observedGeneration": metadata.get("generation", 1),
        }

        def mutate(obj: Object) -> None:
            changed = obj.setdefault("status", {})
            conditions = changed.setdefault("conditions", [])
            conditions[:] = [one for one in conditions if one["type"] != "PodScheduled"]
            conditions.append(condition)
            if nominated:
                changed["nominatedNodeName"] = nominated
            elif nominated is not None:
                changed.pop("nominatedNodeName", None)

        self._api.change(
            "pods", metadata["namespace"], metadata["name"], mutate, subresource="status"
        )
