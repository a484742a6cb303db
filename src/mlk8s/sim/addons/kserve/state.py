"""What an InferenceService says of itself: its predictor, its model, its addresses.

The rules are those of KServe v0.20.0: ``PropagateRawStatus`` and ``PropagateModelStatus`` in
``pkg/apis/serving/v1beta1/inference_service_status.go``.
"""

from __future__ import annotations

from typing import Any

from mlk8s.sim.addons.kserve import names
from mlk8s.sim.addons.kserve.conditions import PREDICTOR_READY, READY, Conditions
from mlk8s.sim.addons.kserve.runtimes import Unsuitable
from mlk8s.sim.controllers.base import find_condition
from mlk8s.sim.status import Object

_TRANSITIONS = {
    "Pending": "InProgress",
    "Loading": "InProgress",
    "Loaded": "UpToDate",
    "FailedToLoad": "BlockedByFailedLoad",
}


def follow_deployment(
    status: Object, conditions: Conditions, deployment: Object, public: str
) -> None:
    """Say of the predictor what its Deployment says of itself.

    Args:
        status: of the InferenceService, changed in place.
        conditions: of that status.
        deployment: as it is stored.
        public: the host name under which the predictor is to be reached.
    """
    said = deployment.get("status") or {}
    available = find_condition(said, "Available") or {}
    progressing = find_condition(said, "Progressing") or {}
    failing = find_condition(said, "ReplicaFailure") or {}
    value, told = "False", ("", "")
    if available.get("status") == "True":
        value, told = "True", _words(available)
    if progressing.get("status") == "False":
        if progressing.get("message"):
            value, told = "False", _words(progressing)
    elif progressing.get("status") == "True":
        if progressing.get("reason") == "NewReplicaSetAvailable":
            value, told = "True", _words(progressing)
        elif available.get("status") != "True":
            value, told = "Unknown", _words(progressing)
    if available.get("status") == "False":
        value, told = "False", _words(available)
    if failing.get("status") == "True":
        value, told = "False", _words(failing)
    component = status.setdefault("components", {}).setdefault(names.PREDICTOR, {})
    if value == "True":
        component["url"] = f"http://{public}"
    conditions.put(PREDICTOR_READY, value, *told)
    status["observedGeneration"] = said.get("observedGeneration", 0)


def _words(condition: Object) -> tuple[str, str]:
    return condition.get("reason", ""), condition.get("message", "")


def follow_pods(status: Object, conditions: Conditions, pods: list[Object]) -> None:
    """Say of the model what its pods say of the server.

    Args:
        status: of the InferenceService, changed in place.
        conditions: of that status.
        pods: the newest first.
    """
    model = status.setdefault("modelStatus", {})
    ready = sum(_is_ready(pod) for pod in pods)
    copies = model.setdefault("copies", {"failedCopies": 0})
    if ready:
        copies["totalCopies"] = ready
    else:
        copies.pop("totalCopies", None)
    if not pods:
        _reach(model, "Pending")
        return
    if conditions.value(READY) == "True":
        _reach(model, "Loaded")
        return
    for container in (pods[0].get("status") or {}).get("containerStatuses") or ():
        if container["name"] == names.SERVER:
            _judge(model, container)


def _judge(model: Object, container: Object) -> None:
    state = container["state"]
    ended: Any = state.get("terminated") or {}
    if (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff":
        ended = (container.get("lastState") or {}).get("terminated") or {}
    elif ended.get("reason") != "Error":
        _reach(model, "Pending")
        return
    failure: Object = {"reason": "ModelLoadFailed"}
    if ended.get("message"):
        failure["message"] = ended["message"]
    if ended.get("exitCode"):
        failure["exitCode"] = ended["exitCode"]
    _reach(model, "FailedToLoad")
    model["lastFailureInfo"] = failure


def _is_ready(pod: Object) -> bool:
    said = pod.get("status") or {}
    found = find_condition(said, "Ready")
    return said.get("phase") == "Running" and found is not None and found["status"] == "True"


def _reach(model: Object, state: str) -> None:
    states = model.setdefault("states", {"activeModelState": ""})
    states["targetModelState"] = state
    model["transitionStatus"] = _TRANSITIONS[state]
    if state == "Loaded":
        states["activeModelState"] = state


def refuse_model(status: Object, error: Unsuitable) -> None:
    """Say that no runtime serves the model.

    Args:
        status: of the InferenceService, changed in place.
        error: why.
    """
    model = status.setdefault("modelStatus", {})
    model.setdefault("states", {"activeModelState": ""})["targetModelState"] = "FailedToLoad"
    model["transitionStatus"] = "InvalidSpec"
    model["lastFailureInfo"] = {"reason": error.reason, "message": error.said}
