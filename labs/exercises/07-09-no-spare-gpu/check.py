"""A new version comes although all GPUs are taken, and no pod waits for one."""

from __future__ import annotations

from typing import Any

from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong

NAME, GPU = "answers", "nvidia.com/gpu"
SERVICES = "serving.kserve.io/v1beta1/inferenceservices"
LOOK = f"Look at: kubectl describe deployment {NAME}-predictor"
OLD, NEW = "1", "2"


def check(work: Work) -> str:
    """Start version 1, then ask for version 2 as a pipeline would."""
    work.remove("inferenceservice", NAME)
    work.until("the last service to be gone", lambda: not _pods(work))
    (body, *_) = work.apply("serving.yaml", "InferenceService")
    if body["metadata"]["name"] != NAME:
        raise Wrong(f"serving.yaml is to hold the InferenceService {NAME}.")
    work.until("version 1", lambda: _answers(work, OLD) or _trouble(work))
    if not _answers(work, OLD):
        raise Wrong(f"Version 1 does not come: {_trouble(work) or LOOK}")
    (pod,) = [pod for pod in _pods(work) if _version(pod) == OLD]
    if not pod["spec"]["containers"][0]["resources"]["limits"].get(GPU):
        raise Wrong("The server needs its GPU: the model does not run without one.")
    _update(work)
    work.until("version 2", lambda: _answers(work, NEW) or _trouble(work))
    if not _answers(work, NEW):
        raise Wrong(
            f"Version 2 does not come, and version 1 goes on answering. {_trouble(work) or LOOK} "
            "Who would have to go first?"
        )
    return "Version 2 answers, on the GPU that version 1 has given up."


def _update(work: Work) -> None:
    found = work.k.request("GET", path(SERVICES, NAME, work.namespace))
    (server,) = found["spec"]["predictor"]["containers"]
    for variable in server["env"]:
        if variable["name"] == "VERSION":
            variable["value"] = NEW
    change = {"spec": {"predictor": {"containers": [server]}}}
    work.k.patch("inferenceservice", NAME, change)


def _pods(work: Work) -> list[dict[str, Any]]:
    label = f"serving.kserve.io/inferenceservice={NAME}"
    return list(work.k.items(path("pods", namespace=work.namespace), labelSelector=label))


def _version(pod: dict[str, Any]) -> str:
    variables = pod["spec"]["containers"][0].get("env") or ()
    return next((str(each.get("value")) for each in variables if each["name"] == "VERSION"), "")


def _answers(work: Work, version: str) -> bool:
    """Whether one pod is there, of this version, and ready."""
    found = _pods(work)
    return len(found) == 1 and all(
        _version(pod) == version
        and any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in pod["status"].get("conditions") or ()
        )
        for pod in found
    )


def _trouble(work: Work) -> str:
    """Why it does not go on; empty where it may."""
    found = _pods(work)
    # While an old pod ends, a new one may wait for its GPU for a moment.
    stays = any(_running(pod) for pod in found)
    for pod in found:
        for each in pod["status"].get("conditions") or ():
            if stays and each["type"] == "PodScheduled" and each["status"] == "False":
                return f"Its pod waits: {each['message']}"
    uid = work.k.request("GET", path(SERVICES, NAME, work.namespace))["metadata"]["uid"]
    where = path("events", namespace=work.namespace)
    events = work.k.items(where, fieldSelector="reason=InternalError")
    said = [each["message"] for each in events if each["involvedObject"].get("uid") == uid]
    return f"KServe says: {said[-1]}." if said else ""


def _running(pod: dict[str, Any]) -> bool:
    return pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
