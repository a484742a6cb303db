"""Conditions of Katib's objects: the one that changed last comes last.

Source: ``setCondition`` and the ``Mark…`` methods in ``pkg/apis/controller/*/v1beta1/util.go`` of
Katib at v0.19.0.
"""

from __future__ import annotations

from mlk8s.sim.addons.katib import names
from mlk8s.sim.addons.objects import holds
from mlk8s.sim.controllers.base import drop_condition, find_condition
from mlk8s.sim.status import Object


def put(status: Object, type: str, value: bool, reason: str, message: str, when: str) -> None:
    """Set a condition; nothing happens where neither its status nor its reason is new.

    Args:
        status: of the object; changed in place.
        type: of the condition.
        value: whether it is true.
        reason: why.
        message: why, in a sentence.
        when: the present time.
    """
    told = {"type": type, "status": "True" if value else "False"}
    since = when
    known = find_condition(status, type)
    if known is not None and known["status"] == told["status"]:
        if known["reason"] == reason:
            return
        since = known["lastTransitionTime"]
    drop_condition(status, type)
    told |= {"reason": reason, "message": message}
    told |= {"lastUpdateTime": when, "lastTransitionTime": since}
    status.setdefault("conditions", []).append(told)


def stop(status: Object, when: str) -> None:
    """Say that the object runs no longer, where it has been running."""
    known = find_condition(status, names.RUNNING)
    if known is not None:
        put(status, names.RUNNING, False, known["reason"], known["message"], when)


def end(status: Object, type: str, reason: str, message: str, when: str) -> None:
    """Set the condition with which an object ends; it runs no longer."""
    stop(status, when)
    put(status, type, True, reason, message, when)


def last(status: Object) -> str:
    """The type of the condition that changed last; empty where there is none."""
    conditions = status.get("conditions") or ()
    return str(conditions[-1]["type"]) if conditions else ""


def completed(trial: Object) -> bool:
    """Whether a Trial has ended, one way or another."""
    return holds(
        trial.get("status") or {},
        names.SUCCEEDED,
        names.FAILED,
        names.KILLED,
        names.EARLY_STOPPED,
        names.METRICS_UNAVAILABLE,
    )
