"""The queue has quota, Kueue admits the job through it, and the job runs to its end."""

from __future__ import annotations

from typing import Any

from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong

JOB, QUEUE, HOME, LABEL = "kueue-demo", "gpu", "default", "kueue.x-k8s.io/queue-name"
API = "kueue.x-k8s.io/v1beta2"
ADMITTED_S = 3.0


def check(work: Work) -> str:
    """The job, its Workload, its end."""
    job = work.k.find(path("batch/v1/jobs", JOB, HOME))
    if job is None or (job["metadata"].get("labels") or {}).get(LABEL) != QUEUE:
        raise Wrong(
            f"{JOB} is not in the queue {QUEUE} any more. The next job would wait as it did. Have "
            "it made again by the exercise's reset and start, and repair what holds it."
        )
    work.until("Kueue to admit the job", lambda: "Admitted" in _conditions(work), ADMITTED_S)
    if "Admitted" not in _conditions(work):
        raise Wrong(
            f"Kueue has not admitted {JOB}. Its Workload says: {_waits(work)}. Whose quota is it, "
            "and what is it compared with?"
        )
    work.until("the job to end", lambda: _succeeded(work))
    if not _succeeded(work):
        raise Wrong(
            f"Kueue admitted {JOB}, and it has not ended: kubectl describe job {JOB} -n {HOME}"
        )
    return f"The queue {QUEUE} has quota, Kueue admitted {JOB} through it, and the job is done."


def _workload(work: Work) -> dict[str, Any]:
    found = work.k.items(path(f"{API}/workloads", namespace=HOME))
    for workload in found:
        if any(owner["name"] == JOB for owner in workload["metadata"].get("ownerReferences", ())):
            return workload
    return {}


def _conditions(work: Work) -> list[str]:
    """The conditions that hold."""
    found = _workload(work).get("status", {}).get("conditions", ())
    return [each["type"] for each in found if each["status"] == "True"]


def _waits(work: Work) -> str:
    found = _workload(work).get("status", {}).get("conditions", ())
    said = [each["message"] for each in found if each["status"] == "False"]
    return said[0].rstrip(".") if said else "nothing"


def _succeeded(work: Work) -> bool:
    job = work.k.request("GET", path("batch/v1/jobs", JOB, HOME))
    return bool(job["status"].get("succeeded"))
