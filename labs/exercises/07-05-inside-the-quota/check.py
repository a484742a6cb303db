"""Six trials, no pod refused, and as many at a time as the quota leaves room for."""

from __future__ import annotations

import time
from typing import Any

from mlk8s.cluster import gpu_pod
from mlk8s.cluster.requests import quantities
from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong

NAME, TRIALS, EACH = "search", 6, 2
GPU, KATIB = "nvidia.com/gpu", "kubeflow.org/v1beta1"
HARD, NOTEBOOK, IMAGE = 6, "notebook", "registry.k8s.io/pause:3.10"
LABEL = {"katib.kubeflow.org/metrics-collector-injection": "enabled"}
WITHIN_S, LOOK_EVERY_S = 40.0, 0.05


def prepare(work: Work) -> None:
    """The quota, and who is there already."""
    work.k.patch("namespaces", work.namespace, {"metadata": {"labels": LABEL}})
    quota: dict[str, Any] = {"apiVersion": "v1", "kind": "ResourceQuota"}
    quota |= {"metadata": {"name": "gpus"}, "spec": {"hard": {f"requests.{GPU}": str(HARD)}}}
    work.k.apply(quota)
    work.k.apply(gpu_pod(NOTEBOOK, IMAGE))
    work.running(NOTEBOOK)


def check(work: Work) -> str:
    """Run the search and watch the quota."""
    work.remove("experiment", NAME)
    work.until("the last search to be gone", lambda: not _left(work))
    known = {each["metadata"]["name"] for each in _refusals(work)}
    (body, *_) = work.apply("search.yaml", "Experiment")
    _same(body)
    most, deadline = 0, time.monotonic() + WITHIN_S
    while not _ended(work):
        most = max(most, _used(work))
        new = [each for each in _refusals(work) if each["metadata"]["name"] not in known]
        if new:
            raise Wrong(
                f"A pod was refused: {new[0]['message']}. Who else is in the namespace, and how "
                "many trials fit beside it?"
            )
        if time.monotonic() > deadline:
            raise Wrong(f"{NAME} has not ended after {WITHIN_S:g} s: kubectl get trials")
        time.sleep(LOOK_EVERY_S)
    done = _experiment(work)["status"].get("trialsSucceeded", 0)
    if done != TRIALS:
        raise Wrong(f"{done} of {TRIALS} trials succeeded: kubectl get trials")
    room = 1 + (HARD - 1) // EACH * EACH
    if most != room:
        raise Wrong(
            f"Nothing was refused, and at most {most} of the {HARD} GPUs of the quota were in use "
            "at a time. There was room for more trials."
        )
    return f"{TRIALS} trials, {most} of {HARD} GPUs in use with the notebook's, no pod refused."


def _same(body: dict[str, Any]) -> None:
    spec = body.get("spec", {})
    template = spec.get("trialTemplate", {}).get("trialSpec", {}).get("spec", {})
    containers = template.get("template", {}).get("spec", {}).get("containers") or [{}]
    gpus = quantities((containers[0].get("resources") or {}).get("limits") or {}).get(GPU, 0)
    wanted = (NAME, TRIALS, EACH)
    if (body["metadata"]["name"], spec.get("maxTrialCount"), gpus) != wanted:
        raise Wrong(f"{NAME} is to have {TRIALS} trials, and each of them two GPUs, as before.")


def _experiment(work: Work) -> dict[str, Any]:
    return work.k.request("GET", path(f"{KATIB}/experiments", NAME, work.namespace))


def _ended(work: Work) -> bool:
    return any(
        each["type"] in ("Succeeded", "Failed") and each["status"] == "True"
        for each in _experiment(work).get("status", {}).get("conditions", ())
    )


def _used(work: Work) -> int:
    found = work.k.request("GET", path("resourcequotas", "gpus", work.namespace))
    return int(found.get("status", {}).get("used", {}).get(f"requests.{GPU}", 0))


def _refusals(work: Work) -> list[dict[str, Any]]:
    where = path("events", namespace=work.namespace)
    found = work.k.items(where, fieldSelector="reason=FailedCreate")
    return [each for each in found if "exceeded quota" in each["message"]]


def _left(work: Work) -> bool:
    """Whether something of an earlier search is still there."""
    pods = [p["metadata"]["name"] for p in work.k.items(path("pods", namespace=work.namespace))]
    kinds = (f"{KATIB}/suggestions", f"{KATIB}/trials")
    return set(pods) > {NOTEBOOK} or any(
        True for kind in kinds for _ in work.k.items(path(kind, namespace=work.namespace))
    )
