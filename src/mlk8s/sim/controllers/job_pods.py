"""The pods of a Job: how they are made, and which of too many go first."""

from __future__ import annotations

from mlk8s.sim.controllers.base import pod_of
from mlk8s.sim.controllers.pods import INDEX_ANNOTATION, TRACKING_FINALIZER, PodFacts
from mlk8s.sim.status import Object

_INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"
_INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def pod_for(job: Object, index: int | None = None, failures: int | None = None) -> Object:
    """A pod of a Job.

    Args:
        job: the Job.
        index: its completion index, for an Indexed Job.
        failures: how often the index has failed, for a Job with a limit per index.
    """
    pod = pod_of(job["spec"]["template"], job)
    metadata = pod["metadata"]
    finalizers = metadata.setdefault("finalizers", [])
    if TRACKING_FINALIZER not in finalizers:
        finalizers.append(TRACKING_FINALIZER)
    if index is None:
        return pod
    name = job["metadata"]["name"]
    # Room for the five characters that follow, within the 63 of a host name.
    suffix = f"-{index}-"
    metadata["generateName"] = name[: 63 - 5 - len(suffix)] + suffix
    metadata.setdefault("annotations", {})[INDEX_ANNOTATION] = str(index)
    metadata.setdefault("labels", {})[INDEX_ANNOTATION] = str(index)
    if failures is not None:
        metadata["annotations"][_INDEX_FAILURES] = str(failures)
    spec = pod["spec"]
    spec["hostname"] = f"{name}-{index}"
    for container in (spec.get("initContainers") or []) + spec["containers"]:
        variables = container.setdefault("env", [])
        if not any(variable["name"] == _INDEX_VARIABLE for variable in variables):
            source = {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX_ANNOTATION}']"}
            variables.append({"name": _INDEX_VARIABLE, "valueFrom": {"fieldRef": source}})
    return pod


def annotated_failures(pod: Object) -> int:
    """How often a pod's index had failed before it."""
    text = (pod["metadata"].get("annotations") or {}).get(_INDEX_FAILURES, "0")
    return int(text) if text.isdigit() else 0


def first_to_go(active: list[PodFacts], surplus: int, completions: int | None) -> list[PodFacts]:
    """Pods to remove: those with an index that another has or none may have, then the youngest.

    Args:
        active: the running pods.
        surplus: how many there are too many.
        completions: how many indexes there are; ``None`` for a Job without.
    """
    ordered = sorted(
        active,
        key=lambda pod: (
            bool(pod.node),
            _PHASES.get(pod.phase, 1),
            pod.ready,
            -pod.ready_since,
            -pod.restarts,
            -pod.created,
            pod.uid,
        ),
    )
    gone: list[PodFacts] = []
    if completions is not None:
        seen: set[int] = set()
        for pod in reversed(ordered):
            if not 0 <= pod.index < completions or pod.index in seen:
                gone.append(pod)
            seen.add(pod.index)
    going = {pod.uid for pod in gone}
    left = [pod for pod in ordered if pod.uid not in going]
    return gone + left[: max(surplus - len(gone), 0)]
