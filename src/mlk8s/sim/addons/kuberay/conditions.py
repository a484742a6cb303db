"""Conditions as ``meta.SetStatusCondition`` keeps them, in the order in which they appeared."""

from __future__ import annotations

from mlk8s.sim.controllers.base import find_condition
from mlk8s.sim.status import Object


def put(
    status: Object,
    type: str,
    value: str,
    reason: str,
    message: str,
    when: str,
    generation: int | None = None,
) -> None:
    """Set a condition; its transition time moves when its value does.

    Args:
        status: changed in place.
        type: of the condition.
        value: ``True``, ``False`` or ``Unknown``.
        reason: in one word.
        message: in a sentence; may be empty.
        when: the present time as ``metav1.Time``.
        generation: of the object that was looked at, where the condition says it.
    """
    known = find_condition(status, type)
    if known is None:
        known = {"type": type, "status": ""}
        status.setdefault("conditions", []).append(known)
    if known["status"] != value:
        known["lastTransitionTime"] = when
    known |= {"status": value, "reason": reason, "message": message}
    if generation is not None:
        known["observedGeneration"] = generation
