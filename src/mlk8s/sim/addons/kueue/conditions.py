"""Conditions of Kueue's objects, set as ``meta.SetStatusCondition`` does, and their reasons."""

from __future__ import annotations

from mlk8s.sim.addons import objects
from mlk8s.sim.api import Api
from mlk8s.sim.controllers.base import find_condition
from mlk8s.sim.status import Object

QUOTA_RESERVED = "QuotaReserved"
ADMITTED = "Admitted"
FINISHED = "Finished"
EVICTED = "Evicted"
PREEMPTED = "Preempted"
REQUEUED = "Requeued"
ACTIVE = "Active"


def holds(obj: Object, type: str) -> bool:
    """Whether a condition is true."""
    return objects.holds(obj.get("status") or {}, type)


def put(obj: Object, type: str, value: bool, reason: str, message: str, api: Api) -> None:
    """Set a condition; its transition time moves when its status does."""
    status = obj.setdefault("status", {})
    known = find_condition(status, type)
    text = "True" if value else "False"
    if known is None:
        known = {"type": type, "status": "", "lastTransitionTime": ""}
        status.setdefault("conditions", []).append(known)
    if known["status"] != text:
        known["lastTransitionTime"] = api.timestamp()
    known |= {"status": text, "reason": reason, "message": message}
    known["observedGeneration"] = obj["metadata"].get("generation", 1)


def reserve(workload: Object, admission: Object, api: Api) -> None:
    """Reserve quota, and admit: the model has no admission checks to wait for."""
    workload.setdefault("status", {})["admission"] = admission
    queue = admission["clusterQueue"]
    reason = QUOTA_RESERVED
    put(workload, reason, True, reason, f"Quota reserved in ClusterQueue {queue}", api)
    for type in (EVICTED, PREEMPTED):
        known = find_condition(workload["status"], type)
        if known is not None and known["status"] == "True":
            put(workload, type, False, reason, f"Previously: {known['message']}", api)
    put(workload, ADMITTED, True, ADMITTED, "The workload is admitted", api)


def release(workload: Object, reason: str, message: str, api: Api) -> None:
    """Give the quota back, or say why there is none."""
    put(workload, QUOTA_RESERVED, False, reason, message, api)
    workload["status"].pop("admission", None)
    if holds(workload, ADMITTED):
        put(workload, ADMITTED, False, "NoReservation", "The workload has no reservation", api)


def evict(workload: Object, reason: str, message: str, api: Api) -> None:
    """Mark a workload as evicted, and count it."""
    put(workload, EVICTED, True, reason, message, api)
    evictions = workload["status"].setdefault("schedulingStats", {}).setdefault("evictions", [])
    for known in evictions:
        if known["reason"] == reason:
            known["count"] += 1
            return
    evictions.append({"reason": reason, "underlyingCause": "", "count": 1})
