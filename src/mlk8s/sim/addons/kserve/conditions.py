"""Conditions as Knative's library keeps them: Ready sums up the two that it depends on.

The rules are those of ``knative.dev/pkg/apis/condition_set.go``, which KServe builds on, for a set
that lives on (``NewLivingConditionSet``).
"""

from __future__ import annotations

from mlk8s.sim.controllers.base import find_condition
from mlk8s.sim.status import Object

READY, PREDICTOR_READY, INGRESS_READY = "Ready", "PredictorReady", "IngressReady"
STOPPED = "Stopped"
_DEPENDENTS = (PREDICTOR_READY, INGRESS_READY)


class Conditions:
    """The conditions of one status.

    Args:
        status: changed in place.
        now: the present time as ``metav1.Time``.
    """

    def __init__(self, status: Object, now: str) -> None:
        self._status = status
        self._now = now

    def initialize(self) -> None:
        """Make the conditions that are not there yet: unknown."""
        for type in (READY, *_DEPENDENTS):
            if find_condition(self._status, type) is None:
                self._set(type, "Unknown", "", "")

    def value(self, type: str) -> str:
        """``True``, ``False``, ``Unknown``; empty where there is no such condition."""
        found = find_condition(self._status, type)
        return str(found["status"]) if found else ""

    def put(self, type: str, value: str, reason: str = "", message: str = "") -> None:
        """Set a condition, and Ready with it.

        Args:
            type: of the condition.
            value: ``True``, ``False`` or ``Unknown``.
            reason: in one word.
            message: in a sentence.
        """
        if value == "False" and type in _DEPENDENTS:
            self._set(READY, value, reason, message)
        self._set(type, value, reason, message)
        if value == "True":
            self._sum_up()
        elif value == "Unknown" and type in _DEPENDENTS:
            if any(self.value(each) == "False" for each in _DEPENDENTS):
                self._sum_up()
            else:
                self._set(READY, value, reason, message)

    def _sum_up(self) -> None:
        found = [find_condition(self._status, each) for each in _DEPENDENTS]
        known = [each for each in found if each is not None]
        # The one that changed last speaks for them; a failure before what is unknown.
        for value in ("False", "Unknown"):
            bad = [each for each in known if each["status"] == value]
            if bad:
                last = max(bad, key=lambda each: str(each["lastTransitionTime"]))
                self._set(READY, value, last.get("reason", ""), last.get("message", ""))
                return
        self._set(READY, "True", "", "")

    def _set(self, type: str, value: str, reason: str, message: str) -> None:
        told: Object = {"type": type, "status": value}
        if type not in (READY, *_DEPENDENTS):
            told["severity"] = "Info"
        told |= {key: text for key, text in (("reason", reason), ("message", message)) if text}
        known = self._status.setdefault("conditions", [])
        for each in known:
            if each["type"] == type:
                if {key: each[key] for key in each if key != "lastTransitionTime"} == told:
                    return
                known.remove(each)
                break
        known.append({**told, "lastTransitionTime": self._now})
        known.sort(key=lambda each: str(each["type"]))
