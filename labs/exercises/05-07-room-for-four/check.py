"""The job leaves a whole server free when it can, and runs in full when it cannot."""

from __future__ import annotations

from collections import Counter

from mlk8s.cluster import gpu_pod
from mlk8s.course.exercises import Work, Wrong

IMAGE = "registry.k8s.io/pause:3.10"
NODES = ("t4x4-0", "t4x4-1")
TRIALS = 4


def check(work: Work) -> str:
    """Once on empty servers, once on half full ones."""
    _empty(work)
    gathered = _places(work)
    if sum(gathered.values()) < TRIALS:
        raise Wrong(f"On empty servers {_missing(work)}")
    work.k.apply(gpu_pod("big", IMAGE, gpus=4))
    big = work.settled("big")
    if big.state != "runs":
        there = " and ".join(f"{count} on {node}" for node, count in sorted(gathered.items()))
        raise Wrong(
            f"The trials went {there}, so the pod of four GPUs waits: {big.says} What makes the "
            "scheduler like the emptier server, and what can a pod say against it?"
        )
    _empty(work)
    for node in NODES:
        selector = {"kubernetes.io/hostname": node}
        work.k.apply(gpu_pod(f"other-{node}", IMAGE, gpus=2, node_selector=selector))
    work.all_settled(*(f"other-{node}" for node in NODES))
    spread = _places(work)
    if sum(spread.values()) < TRIALS:
        raise Wrong(f"With two GPUs free on either server {_missing(work)}")
    return (
        "On empty servers all trials went to one, and a pod of four GPUs had the other; on half "
        "full ones they ran two and two."
    )


def _empty(work: Work) -> None:
    work.remove_applied()
    for name in ("big", *(f"other-{node}" for node in NODES)):
        work.remove("pod", name)


def _places(work: Work) -> Counter[str]:
    """How many trials run on which server, once all of them have been looked at."""
    (job,) = work.apply("sweep.yaml", "Job")
    if job["metadata"]["name"] != "sweep" or job["spec"].get("parallelism") != TRIALS:
        raise Wrong(f"sweep.yaml is to hold the job sweep with a parallelism of {TRIALS}.")
    work.until("the job's pods", lambda: len(_trials(work)) == TRIALS)
    found = work.all_settled(*_trials(work)).values()
    return Counter(each.node for each in found if each.state == "runs")


def _trials(work: Work) -> list[str]:
    where = f"/api/v1/namespaces/{work.namespace}/pods"
    found = work.k.items(where, labelSelector="job-name=sweep")
    return [pod["metadata"]["name"] for pod in found]


def _missing(work: Work) -> str:
    found = work.all_settled(*_trials(work)).values()
    says = next(each.says for each in found if each.state != "runs")
    return f"not all trials run: {says} A wish would have been enough."
