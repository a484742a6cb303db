"""What a Job asks of Kueue: the Workload that is made of it.

The rules are those of ``pkg/controller/jobframework`` and ``pkg/controller/jobs/job``.
"""

from __future__ import annotations

import copy
import hashlib

from mlk8s.sim.addons.kueue import names
from mlk8s.sim.api import Api
from mlk8s.sim.status import Object

# Set by the Job controller; not part of what a Workload asks for.
MANAGED = ("controller-uid", "job-name", "batch.kubernetes.io/controller-uid")


def label(obj: Object, name: str) -> str:
    """A label of an object; ``""`` when it has none."""
    found: str = (obj["metadata"].get("labels") or {}).get(name, "")
    return found


def queue_name(obj: Object) -> str:
    """The LocalQueue that an object names; ``""`` when none."""
    return label(obj, names.QUEUE_LABEL)


def workload_name(job: Object) -> str:
    """The name of a Job's Workload (``workload_names.go``)."""
    name, uid = job["metadata"]["name"], job["metadata"]["uid"]
    told = hashlib.sha1(f"Job\nbatch\n{name}\n{uid}".encode(), usedforsecurity=False)
    return f"{f'job-{name}'[:247]}-{told.hexdigest()[:5]}"


def priority_of(api: Api, job: Object) -> tuple[Object | None, int]:
    """The priority class and priority of a Job's Workload.

    Raises:
        StatusError: 404: it names a class that does not exist.
    """
    if name := label(job, names.PRIORITY_LABEL):
        found = api.get(names.PRIORITIES, "", name)
        return {
            "group": names.GROUP,
            "kind": "WorkloadPriorityClass",
            "name": name,
        }, int(found["value"])
    classes = "priorityclasses.scheduling.k8s.io"
    if name := job["spec"]["template"]["spec"].get("priorityClassName"):
        chosen: Object | None = api.get(classes, "", name)
    else:
        marked = [each for each in api.store.items(classes) if each.get("globalDefault")]
        chosen = min(marked, key=lambda each: int(each["value"]), default=None)
    if chosen is None:
        return None, 0
    reference = {
        "group": "scheduling.k8s.io",
        "kind": "PriorityClass",
        "name": chosen["metadata"]["name"],
    }
    return reference, int(chosen["value"])


def spec_of(api: Api, job: Object) -> Object:
    """The spec of a Job's Workload.

    Raises:
        StatusError: 404: the Job names a priority class that does not exist.
    """
    template = copy.deepcopy(job["spec"]["template"])
    template["metadata"] = _told(template.get("metadata") or {})
    spec: Object = {
        "active": True,
        "queueName": queue_name(job),
        "podSets": [{"name": names.PODSET, "count": count(job), "template": template}],
    }
    reference, priority = priority_of(api, job)
    spec["priority"] = priority
    if reference is not None:
        spec["priorityClassRef"] = reference
    return spec


def _told(metadata: Object) -> Object:
    """The metadata of a Job's template as its Workload repeats it."""
    labels = {k: v for k, v in (metadata.get("labels") or {}).items() if k not in MANAGED}
    found = {"labels": labels, "annotations": metadata.get("annotations")}
    return {part: value for part, value in found.items() if value}


def compared(template: Object) -> list[object]:
    """What is compared of two templates; tolerations may be added by others."""
    spec = template["spec"]
    containers = [
        [(each.get("name"), each.get("resources")) for each in spec.get(part) or ()]
        for part in ("initContainers", "containers")
    ]
    return [containers, spec.get("nodeSelector") or {}, spec.get("priorityClassName")]


def count(job: Object) -> int:
    """How many of a Job's pods run at once."""
    parallelism: int = job["spec"].get("parallelism", 1)
    completions: int = job["spec"].get("completions", parallelism)
    return min(parallelism, completions)
