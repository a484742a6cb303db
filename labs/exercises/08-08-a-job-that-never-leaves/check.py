"""A job whose cluster never comes gives up, and its cluster goes."""

from __future__ import annotations

from typing import Any

from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong

NAME = "nightly"
JOBS, CLUSTERS = "ray.io/v1/rayjobs", "ray.io/v1/rayclusters"
WAITS_S, RUNS_S = 3, 7200
# KubeRay looks every three seconds.
LOOKS_S, SPARE_S, GONE_S = 3.0, 4.0, 5.0
ENDED = ("Failed", "Complete", "ValidationFailed")


def check(work: Work) -> str:
    """Apply it, and watch how it ends."""
    work.remove("rayjob", NAME)
    work.until("the last cluster to be gone", lambda: not _clusters(work))
    (body, *_) = work.objects("job.yaml", "RayJob")
    if body["metadata"]["name"] != NAME:
        raise Wrong(f"job.yaml is to hold the RayJob {NAME}.")
    work.apply("job.yaml", "RayJob")
    work.until(
        f"{NAME} to give up",
        lambda: _status(work).get("jobDeploymentStatus") in ENDED,
        WAITS_S + LOOKS_S + SPARE_S,
    )
    status = _status(work)
    state = status.get("jobDeploymentStatus", "")
    if state == "ValidationFailed":
        raise Wrong(f"KubeRay does not take it: {status.get('message')}")
    if state not in ENDED:
        raise Wrong(
            f"{NAME} does not run, and does not give up: it is {state or 'unseen'}, and "
            f"{WAITS_S} s are over. Which deadline counts until a job runs?"
        )
    if (body["spec"].get("activeDeadlineSeconds") or 0) != RUNS_S:
        given = body["spec"].get("activeDeadlineSeconds")
        raise Wrong(
            f"{NAME} has given up ({status.get('reason')}). A job that runs is to be ended after "
            f"two hours; activeDeadlineSeconds is {given}."
        )
    if not work.until("its cluster to be gone", lambda: not _clusters(work), GONE_S + LOOKS_S):
        names = ", ".join(each["metadata"]["name"] for each in _clusters(work))
        raise Wrong(
            f"{NAME} has ended ({status.get('reason')}), and its cluster {names} is still there "
            f"more than {GONE_S:g} s later, with all that its pods hold."
        )
    if not _status(work):
        raise Wrong(f"The RayJob {NAME} is gone, too; it is to stay.")
    return f"{NAME} has given up ({status.get('reason')}), and nothing of its cluster is left."


def _status(work: Work) -> dict[str, Any]:
    found = work.k.find(path(JOBS, NAME, work.namespace)) or {}
    return dict(found.get("status") or {})


def _clusters(work: Work) -> list[dict[str, Any]]:
    return list(work.k.items(path(CLUSTERS, namespace=work.namespace)))
