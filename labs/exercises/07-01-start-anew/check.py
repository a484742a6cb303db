"""A node fails, and the JobSet makes both nodes anew, once."""

from __future__ import annotations

from typing import Any

from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong

NAME, MOST = "train", 3
JOBSETS = "jobset.x-k8s.io/v1alpha2/jobsets"
ATTEMPT = "jobset.sigs.k8s.io/restart-attempt"
SLEEPS = "exec sleep"
# From a pod's failure to that of its Job, where the Job does not replace it.
NOTICED_S = 5.0


def check(work: Work) -> str:
    """Run the training, see the first failure and what comes of it."""
    work.remove("trainjob", NAME)
    work.until("the last training to be gone", lambda: not _jobset(work) and not _pods(work))
    bodies = work.apply("training.yaml", "TrainingRuntime", "TrainJob")
    job = next((b for b in bodies if b["kind"] == "TrainJob" and b["metadata"]["name"] == NAME), {})
    script = (job.get("spec", {}).get("trainer", {}).get("command") or [""])[-1]
    if SLEEPS not in script or "exit 1" not in script:
        raise Wrong(f"The TrainJob {NAME} is not the one of the task; its command has to stay.")
    work.until("node 1 to fail", lambda: _failures(work) or _ended(work))
    if _again(work):
        raise Wrong(
            "The container of node 1 has failed and was started again in its pod, on the same GPU, "
            "while node 0 waits. Who starts a container again, and which field tells it not to?"
        )
    # Once the Jobs are made anew nothing is left of the first ones.
    work.until("its Job to fail", lambda: _restarts(work) or _ended(work), NOTICED_S)
    if not _restarts(work) and not _ended(work):
        raise Wrong(
            "Pod 1 of the Job train-node-0 has failed, and the Job has not: it makes a new pod for "
            "this one node, and node 0 goes on waiting for the old. After how many failures does a "
            "Job fail?"
        )
    said = work.until("the training to end", lambda: _ended(work))
    if said is None:
        raise Wrong(f"{NAME} does not end: kubectl describe jobset {NAME} -n {work.namespace}")
    if said["type"] != "Complete":
        raise Wrong(
            f"{NAME} has failed for good: {said['message']}. Nobody has made its nodes anew. Which "
            "policy does a JobSet need for that?"
        )
    if _jobset(work)["spec"]["failurePolicy"].get("maxRestarts") != MOST:
        raise Wrong(f"It works, and a training that can never work would not end after {MOST}.")
    anew = [pod for pod in _pods(work) if pod["metadata"]["labels"][ATTEMPT] == "1"]
    return f"Node 1 failed, and {len(anew)} new pods brought {NAME} to its end, after one restart."


def _jobset(work: Work) -> dict[str, Any]:
    return work.k.find(path(JOBSETS, NAME, work.namespace)) or {}


def _restarts(work: Work) -> int:
    return int(_jobset(work).get("status", {}).get("restarts", 0))


def _ended(work: Work) -> dict[str, Any] | None:
    """The condition with which the training has ended."""
    where = path("trainer.kubeflow.org/v1alpha1/trainjobs", NAME, work.namespace)
    found = (work.k.find(where) or {}).get("status", {}).get("conditions", ())
    ends = (c for c in found if c["type"] in ("Complete", "Failed") and c["status"] == "True")
    return next(ends, None)


def _pods(work: Work) -> list[dict[str, Any]]:
    return list(work.k.items(path("pods", namespace=work.namespace)))


def _failures(work: Work) -> bool:
    """Whether a process of the first attempt has failed, or the second attempt is there."""
    return bool(_restarts(work)) or any(
        pod["status"].get("phase") == "Failed" or _count(pod) for pod in _pods(work)
    )


def _again(work: Work) -> bool:
    """Whether a container was started again, or would have been had its Job not ended first."""
    return any(pod["spec"]["restartPolicy"] != "Never" for pod in _pods(work)) or any(
        map(_count, _pods(work))
    )


def _count(pod: dict[str, Any]) -> int:
    return sum(each["restartCount"] for each in pod["status"].get("containerStatuses") or ())
