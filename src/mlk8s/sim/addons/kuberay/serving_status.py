"""What a RayService says of itself: its applications, how many pods serve them, conditions.

Source at v1.7.0: ``calculateConditions`` and ``getAndCheckServeStatus`` in
``ray-operator/controllers/ray/rayservice_controller.go``.
"""

from __future__ import annotations

from typing import Any

from mlk8s.sim.addons.kuberay import conditions
from mlk8s.sim.addons.objects import holds
from mlk8s.sim.controllers.base import find_condition, put
from mlk8s.sim.status import Object

READY, UPGRADING = "Ready", "UpgradeInProgress"
_UNTIMED = ("lastUpdateTime", "observedGeneration")


def applications(found: dict[str, Any]) -> Object:
    """The status of each application, from what the dashboard says of it."""
    return {
        name or "default": {
            **_told(each),
            "serveDeploymentStatuses": {
                deployment: _told(said) for deployment, said in each["deployments"].items()
            },
        }
        for name, each in found.items()
    }


def _told(said: Object) -> Object:
    return {part: said[part] for part in ("status", "message") if said.get(part)}


def conclude(service: Object, endpoints: int, when: str) -> None:
    """Set conditions and counts in the status of a service.

    Args:
        service: its status is changed in place.
        endpoints: how many pods take requests.
        when: the present time as ``metav1.Time``.
    """
    status, generation = service["status"], service["metadata"]["generation"]
    status["observedGeneration"] = generation
    put(status, numServeEndpoints=endpoints)

    def say(type: str, value: str, reason: str, message: str) -> None:
        conditions.put(status, type, value, reason, message, when, generation)

    if not status.get("conditions"):
        for type in (READY, UPGRADING):
            say(type, "False", "Initializing", "RayService is initializing")
    if endpoints:
        text = "Number of serve endpoints is greater than 0"
        say(READY, "True", "NonZeroServeEndpoints", text)
    elif holds(status, READY):
        say(READY, "False", "ZeroServeEndpoints", "Number of serve endpoints dropped to 0")
    active = (status.get("activeServiceStatus") or {}).get("rayClusterName")
    pending = (status.get("pendingServiceStatus") or {}).get("rayClusterName")
    if active and pending:
        text = "Both active and pending Ray clusters exist"
        say(UPGRADING, "True", "BothActivePendingClustersExist", text)
    elif active:
        text = "Active Ray cluster exists and no pending Ray cluster"
        say(UPGRADING, "False", "NoPendingCluster", text)
    else:
        known = find_condition(status, UPGRADING)
        if known is None or known["reason"] != "Initializing":
            text = (
                "No active Ray cluster exists, and the RayService is not initializing. Please open "
                "a GitHub issue in the KubeRay repository."
            )
            say(UPGRADING, "Unknown", "NoActiveCluster", text)
    if holds(status, READY):
        status["serviceStatus"] = "Running"
    else:
        status.pop("serviceStatus", None)


def differs(status: Object, before: Object) -> bool:
    """Whether a status is worth storing; that of the clusters in it alone is not."""
    return _seen(status) != _seen(before)


def _seen(status: Object) -> Object:
    found = {key: each for key, each in status.items() if key not in _UNTIMED}
    for part in ("activeServiceStatus", "pendingServiceStatus"):
        known = found.get(part) or {}
        found[part] = {key: each for key, each in known.items() if key != "rayClusterStatus"}
    return found
