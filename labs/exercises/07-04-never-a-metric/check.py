"""The search ends with a best trial, whose value is one that was printed."""

from __future__ import annotations

from typing import Any

from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong

NAME, TRIALS = "search", 4
KATIB = "kubeflow.org/v1beta1"
CONTAINER, METRIC = "train", "objectiveMetricName"


def check(work: Work) -> str:
    """Run the Experiment, and tell what was printed where nothing was found."""
    work.remove("experiment", NAME)
    work.until("the last search to be gone", lambda: not _left(work))
    (body, *_) = work.apply("search.yaml", "Experiment")
    spec = body.get("spec", {})
    if (body["metadata"]["name"], spec.get("maxTrialCount")) != (NAME, TRIALS):
        raise Wrong(
            f"search.yaml is to hold the Experiment {NAME} with {TRIALS} trials, as before."
        )
    ended = work.until("the search to end", lambda: _end(work))
    if ended is None:
        raise Wrong(f"{NAME} does not end: kubectl describe experiment {NAME}")
    status = _status(work)
    if lost := status.get("metricsUnavailableTrialList"):
        raise Wrong(
            f"Trial {lost[0]} succeeded, and Katib knows no {spec['objective'][METRIC]} of it. "
            f"Its log ends with: {_printed(work, lost[0])!r}. How does the collector recognize a "
            "metric?"
        )
    best = status.get("currentOptimalTrial") or {}
    metrics = (best.get("observation") or {}).get("metrics")
    if ended != "Succeeded" or not metrics:
        raise Wrong(f"{NAME} has ended as {ended}, without a best trial: kubectl get trials")
    return f"{status['trialsSucceeded']} trials, and the best has a loss of {metrics[0]['latest']}."


def _status(work: Work) -> dict[str, Any]:
    found = work.k.request("GET", path(f"{KATIB}/experiments", NAME, work.namespace))
    return dict(found.get("status") or {})


def _end(work: Work) -> str | None:
    """The condition with which the search has ended."""
    for each in _status(work).get("conditions", ()):
        if each["type"] in ("Succeeded", "Failed") and each["status"] == "True":
            return str(each["type"])
    return None


def _left(work: Work) -> list[dict[str, Any]]:
    kinds = (f"{KATIB}/suggestions", f"{KATIB}/trials", "pods")
    return [each for kind in kinds for each in work.k.items(path(kind, namespace=work.namespace))]


def _printed(work: Work, trial: str) -> str:
    """The last line of a trial."""
    for pod in work.k.items(path("pods", namespace=work.namespace)):
        if pod["metadata"]["labels"].get("job-name") == trial:
            lines = work.k.logs(pod["metadata"]["name"], CONTAINER).text.strip().splitlines()
            return lines[-1] if lines else ""
    return "(its pod is gone)"
