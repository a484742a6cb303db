"""Both jobs end, and never have more workers than there are GPUs."""

from __future__ import annotations

import time
from typing import Any

from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong

JOBS, WORKERS, GPUS, GPU = ("job-a", "job-b"), 3, 4, "nvidia.com/gpu"
QUEUE, LOCAL = "labs-gang", "team"
API = "kueue.x-k8s.io/v1beta2"
WITHIN_S, STILL_S, LOOK_EVERY_S = 60.0, 8.0, 0.05


def prepare(work: Work) -> None:
    """The queue of the team."""
    quota = {"name": GPU, "nominalQuota": str(GPUS)}
    flavors = [{"name": QUEUE, "resources": [quota]}]
    group = {"coveredResources": [GPU], "flavors": flavors}
    queue = {"namespaceSelector": {}, "resourceGroups": [group]}
    for kind, name, spec in (
        ("ResourceFlavor", QUEUE, {}),
        ("ClusterQueue", QUEUE, queue),
        ("LocalQueue", LOCAL, {"clusterQueue": QUEUE}),
    ):
        body = {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}
        work.k.apply(body)


def clean(work: Work) -> None:
    """Remove the queue; the jobs in it first, or it would wait for them."""
    for name in JOBS:
        work.remove("job", name)
    for plural in ("clusterqueues", "resourceflavors"):
        work.k.find(path(f"{API}/{plural}", QUEUE), "DELETE")


def check(work: Work) -> str:
    """Submit both, and watch until both are done."""
    bodies = {body["metadata"]["name"]: body for body in work.objects("jobs.yaml", "Job")}
    if set(bodies) != set(JOBS) or any(not _whole(body) for body in bodies.values()):
        raise Wrong(
            f"jobs.yaml is to hold {' and '.join(JOBS)}, with {WORKERS} workers of one GPU at a "
            "time each."
        )
    work.apply("jobs.yaml", "Job")
    deadline, moved = time.monotonic() + WITHIN_S, time.monotonic()
    while not all(_done(work, name) for name in JOBS):
        holding = _holding(work)
        # Kueue gives the quota of workers that have ended to the next job, before the last has.
        if sum(holding) > GPUS:
            there = " and ".join(f"{n} of {name}" for n, name in zip(holding, JOBS, strict=True))
            raise Wrong(
                f"At the same time there are pods: {there}, for four GPUs. A worker that came too "
                "early holds its GPU and computes nothing. Is every job held back until all its "
                "workers fit?"
            )
        now = time.monotonic()
        moved = now if any(holding) else moved
        if now > deadline or now - moved > STILL_S:
            late = next(name for name in JOBS if not _done(work, name))
            raise Wrong(f"{late} is not done, and nothing happens. {_why(work, late)}")
        time.sleep(LOOK_EVERY_S)
    return "Both jobs ran to their end, each with all its workers at once."


def _whole(body: dict[str, Any]) -> bool:
    spec = body["spec"]
    limits = spec["template"]["spec"]["containers"][0].get("resources", {}).get("limits") or {}
    size = (spec.get("parallelism"), spec.get("completions"), str(limits.get(GPU)))
    return size == (WORKERS, WORKERS, "1")


def _job(work: Work, name: str) -> dict[str, Any]:
    return work.k.request("GET", path("batch/v1/jobs", name, work.namespace))


def _done(work: Work, name: str) -> bool:
    return bool(_job(work, name)["status"].get("succeeded", 0) == WORKERS)


def _holding(work: Work) -> list[int]:
    """How many pods of each job have not ended, at one moment."""
    found = [
        pod["metadata"].get("labels", {}).get("job-name")
        for pod in work.k.items(path("pods", namespace=work.namespace))
        if pod["status"].get("phase") in ("Pending", "Running")
    ]
    return [found.count(name) for name in JOBS]


def _why(work: Work, name: str) -> str:
    """What Kueue says of a job that waits."""
    if not _job(work, name)["spec"].get("suspend"):
        return f"Look at: kubectl describe job {name}"
    found = work.k.items(path(f"{API}/workloads", namespace=work.namespace))
    for workload in found:
        if any(owner["name"] == name for owner in workload["metadata"].get("ownerReferences", ())):
            said = [c["message"] for c in workload["status"].get("conditions", ())]
            return f"It is suspended, and Kueue says: {said[0] if said else 'nothing'}"
    return "It is suspended, and no Workload of Kueue speaks of it: nobody will let it go."
