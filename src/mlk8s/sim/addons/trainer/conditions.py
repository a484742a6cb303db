"""Conditions of TrainJobs and JobSets: one that never was is not made to say ``False``."""

from __future__ import annotations

from mlk8s.sim.addons.objects import holds
from mlk8s.sim.controllers.base import find_condition
from mlk8s.sim.status import Object

COMPLETE = "Complete"
COMPLETED = "Completed"
FAILED = "Failed"
SUSPENDED = "Suspended"
RESTARTING = "RestartingJobSet"


def put(status: Object, type: str, value: bool, reason: str, message: str, when: str) -> bool:
    """Set a condition; its transition time moves when its status does.

    Returns:
        Whether anything changed.
    """
    told = {"status": "True" if value else "False", "reason": reason, "message": message}
    known = find_condition(status, type)
    if known is None:
        if not value:
            return False
        known = {"type": type, "status": ""}
        status.setdefault("conditions", []).append(known)
    if all(known.get(name) == text for name, text in told.items()):
        return False
    if known["status"] != told["status"]:
        known["lastTransitionTime"] = when
    known |= told
    return True


__all__ = ["COMPLETE", "COMPLETED", "FAILED", "RESTARTING", "SUSPENDED", "holds", "put"]
