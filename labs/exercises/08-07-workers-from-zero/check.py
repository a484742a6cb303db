"""What KubeRay makes of a RayCluster, and of the wish for one worker more."""

from __future__ import annotations

import re
from typing import Any

from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong

NAME, GROUP, GPU, TAG = "gpus", "gpu", "nvidia.com/gpu", "2.60.0-py311"
CLUSTERS = "ray.io/v1/rayclusters"
MOST = 2


def check(work: Work) -> str:
    """Look at the head, at what is there before anybody asks, and at a worker."""
    work.remove("raycluster", NAME)
    work.until("the pods of the last cluster to be gone", lambda: not _pods(work))
    (body, *_) = work.objects("cluster.yaml", "RayCluster")
    if body["metadata"]["name"] != NAME:
        raise Wrong(f"cluster.yaml is to hold the RayCluster {NAME}.")
    work.apply("cluster.yaml", "RayCluster")
    work.until("KubeRay", lambda: _seen(work) or _mistake(work))
    if said := _mistake(work):
        raise Wrong(f"KubeRay does not take it, and says so in an event: {said}")
    found = _pods(work)
    heads = [pod for pod in found if _is(pod, "head")]
    if not heads:
        raise Wrong(f"No head comes. Look at: kubectl describe raycluster {NAME}")
    _judge_head(heads[0])
    workers = [pod for pod in found if _is(pod, "worker")]
    if workers:
        noun = "worker" if len(workers) == 1 else "workers"
        raise Wrong(
            f"KubeRay makes {len(workers)} {noun} before anybody has asked for a GPU. Which fields "
            "say how many there are at least, and at first?"
        )
    _judge_worker(_worker(work))
    return "Nothing is taken until it is asked for, and then a worker with one GPU that Ray knows."


def _judge_head(pod: dict[str, Any]) -> None:
    line = _line(pod)
    cpus = re.search(r"--num-cpus=(\d+)", line)
    if cpus is None or cpus[1] != "0":
        told = cpus[0] if cpus else "without --num-cpus"
        raise Wrong(f"The head starts with {told}: tasks and actors would run on it.")
    if all(each["name"] != "autoscaler" for each in pod["spec"]["containers"]):
        raise Wrong("The head's pod has no autoscaler any more. Who would add a worker?")
    _judge_image(pod, "head")


def _worker(work: Work) -> dict[str, Any]:
    """Ask for one, as the autoscaler does."""
    groups = _cluster(work)["spec"].get("workerGroupSpecs") or []
    if [each["groupName"] for each in groups] != [GROUP]:
        raise Wrong(f"There is to be one group of workers, {GROUP}.")
    if groups[0].get("maxReplicas") != MOST:
        raise Wrong(f"maxReplicas: {groups[0].get('maxReplicas')}; {MOST} are allowed.")
    groups[0]["replicas"] = 1
    work.k.patch("rayclusters", NAME, {"spec": {"workerGroupSpecs": groups}})

    def look() -> Any:
        return [pod for pod in _pods(work) if _is(pod, "worker")] or _refusal(work)

    found = work.until("a worker", look)
    if isinstance(found, list):
        return dict(found[0])
    raise Wrong(f"No worker comes when one is asked for: {found or 'KubeRay says nothing'}")


def _judge_worker(pod: dict[str, Any]) -> None:
    limits = (pod["spec"]["containers"][0].get("resources") or {}).get("limits") or {}
    knows = "--num-gpus=1 " in _line(pod) + " "
    if str(limits.get(GPU, 0)) != "1":
        if knows:
            raise Wrong("Ray counts a GPU in the worker, and Kubernetes has given it none.")
        raise Wrong(f"The worker has {limits.get(GPU, 'no')} {GPU}; it is to have one.")
    if not knows:
        raise Wrong("The worker has a GPU, and Ray is not told of one.")
    if pod["spec"]["restartPolicy"] != "Never":
        raise Wrong(f"The worker's restartPolicy is {pod['spec']['restartPolicy']}.")
    _judge_image(pod, "worker")


def _judge_image(pod: dict[str, Any], what: str) -> None:
    image = pod["spec"]["containers"][0]["image"]
    if image.rpartition(":")[2] != TAG:
        raise Wrong(
            f"The {what} runs {image}. Ray 2.60.0 with Python 3.11 is asked for, and a worker of "
            "another version does not join."
        )


def _line(pod: dict[str, Any]) -> str:
    return " ".join(pod["spec"]["containers"][0].get("args") or ())


def _is(pod: dict[str, Any], node_type: str) -> bool:
    return bool(pod["metadata"]["labels"].get("ray.io/node-type") == node_type)


def _pods(work: Work) -> list[dict[str, Any]]:
    label = f"ray.io/cluster={NAME}"
    return list(work.k.items(path("pods", namespace=work.namespace), labelSelector=label))


def _cluster(work: Work) -> dict[str, Any]:
    return work.k.request("GET", path(CLUSTERS, NAME, work.namespace))


def _seen(work: Work) -> bool:
    """Whether KubeRay has made what it makes at first."""
    status = _cluster(work).get("status") or {}
    return "desiredWorkerReplicas" in status or "head" in status


def _mistake(work: Work) -> str:
    return _said(work, "InvalidRayClusterSpec") or _said(work, "FailedToCreateHeadPod")


def _refusal(work: Work) -> str:
    return _said(work, "FailedToCreateWorkerPod")


def _said(work: Work, reason: str) -> str:
    """The last event of this cluster with this reason."""
    uid = _cluster(work)["metadata"]["uid"]
    where = path("events", namespace=work.namespace)
    events = work.k.items(where, fieldSelector=f"reason={reason}")
    told = [str(each["message"]) for each in events if each["involvedObject"].get("uid") == uid]
    return told[-1] if told else ""
