"""The Jobs of a JobSet: how they are made and labeled, which are which, and their counts.

The rules are those of ``pkg/controllers/jobset_controller.go`` of JobSet v0.12.0.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from mlk8s.sim.addons.trainer import names
from mlk8s.sim.addons.trainer.plan import JOB_TEMPLATE
from mlk8s.sim.controllers.base import find_condition, owner_reference
from mlk8s.sim.decoding import read
from mlk8s.sim.status import Object


@dataclass
class Children:
    """The Jobs of a JobSet by what has become of them; those of earlier attempts apart."""

    active: list[Object] = field(default_factory=list)
    failed: list[Object] = field(default_factory=list)
    succeeded: list[Object] = field(default_factory=list)
    previous: list[Object] = field(default_factory=list)

    @classmethod
    def of(cls, jobs: list[Object], restarts: int) -> Children:
        """Sort the Jobs of a JobSet that has been restarted so often."""
        found = cls()
        for job in jobs:
            status = job.get("status") or {}
            if int(job["metadata"]["labels"][names.RESTART_ATTEMPT]) < restarts:
                found.previous.append(job)
            elif find_condition(status, "Failed"):
                found.failed.append(job)
            elif find_condition(status, "Complete"):
                found.succeeded.append(job)
            else:
                found.active.append(job)
        return found

    @property
    def names(self) -> set[str]:
        """The names that are taken."""
        every = (*self.active, *self.failed, *self.succeeded, *self.previous)
        return {job["metadata"]["name"] for job in every}

    def counts(self, jobset: Object) -> list[Object]:
        """``replicatedJobsStatus``."""
        found = []
        for each in jobset["spec"]["replicatedJobs"]:
            active = [job for job in self.active if part_of(job) == each["name"]]
            found.append(
                {
                    "name": each["name"],
                    "ready": sum(_is_ready(job) for job in active),
                    "succeeded": sum(part_of(job) == each["name"] for job in self.succeeded),
                    "failed": sum(part_of(job) == each["name"] for job in self.failed),
                    "active": sum(bool((job.get("status") or {}).get("active")) for job in active),
                    "suspended": sum(bool(job["spec"].get("suspend")) for job in active),
                }
            )
        return sorted(found, key=lambda each: str(each["name"]), reverse=True)


def part_of(job: Object) -> str:
    """The name of the replicated job that a Job is one of."""
    return str(job["metadata"]["labels"][names.REPLICATED_JOB])


def missing(jobset: Object, present: Children) -> list[Object]:
    """The Jobs that a JobSet has to make."""
    policy = jobset["spec"].get("failurePolicy") or {}
    if present.previous and policy.get("restartStrategy") == "BlockingRecreate":
        return []
    taken = present.names
    return [
        _job(jobset, each, index)
        for each in jobset["spec"]["replicatedJobs"]
        for index in range(each["replicas"])
        if job_name(jobset, each, index) not in taken
    ]


def job_name(jobset: Object, replicated: Object, index: int) -> str:
    """The name of a Job."""
    return f"{jobset['metadata']['name']}-{replicated['name']}-{index}"


def subdomain(jobset: Object) -> str:
    """The name of the Service that gives the pods their names."""
    return str(jobset["spec"]["network"].get("subdomain") or jobset["metadata"]["name"])


def failed_at(job: Object) -> str:
    """When a Job failed."""
    return str(_failure(job)["lastTransitionTime"])


def applies(rule: Object, job: Object) -> bool:
    """Whether a rule of a failure policy is about a failed Job."""
    said = _failure(job)
    patterns = rule.get("onJobFailureMessagePatterns")
    return (
        said["reason"] in (rule.get("onJobFailureReasons") or (said["reason"],))
        and part_of(job) in (rule.get("targetReplicatedJobs") or (part_of(job),))
        and (not patterns or any(re.search(each, said["message"]) for each in patterns))
    )


def merge(template: Object, wanted: Object) -> None:
    """Take over what may change in the pods of a suspended Job; nothing is taken away."""
    old, new = template["metadata"], wanted.get("metadata") or {}
    for part in ("labels", "annotations"):
        old[part] = {**(old.get(part) or {}), **(new.get(part) or {})}
    mine, theirs = template["spec"], wanted["spec"]
    if theirs.get("nodeSelector"):
        mine["nodeSelector"] = {**(mine.get("nodeSelector") or {}), **theirs["nodeSelector"]}
    for part in ("tolerations", "schedulingGates"):
        known = mine.get(part) or []
        if more := [each for each in theirs.get(part) or () if each not in known]:
            mine[part] = [*known, *more]


def _failure(job: Object) -> Object:
    found = find_condition(job["status"], "Failed")
    assert found is not None
    return found


def _is_ready(job: Object) -> bool:
    status, spec = job.get("status") or {}, job["spec"]
    pods = min(spec["parallelism"], spec.get("completions", spec["parallelism"]))
    return bool(status.get("succeeded", 0) + status.get("ready", 0) >= pods)


def _job(jobset: Object, replicated: Object, index: int) -> Object:
    template = read(JOB_TEMPLATE, replicated["template"])
    spec = template["spec"]
    marks = _marks(jobset, replicated, index)
    metadata: Object = {"name": job_name(jobset, replicated, index)}
    for target, source in (
        (metadata, template.get("metadata") or {}),
        (spec["template"].setdefault("metadata", {}), spec["template"]["metadata"]),
    ):
        for part in ("labels", "annotations"):
            target[part] = {**(source.get(part) or {}), **marks}
    metadata["ownerReferences"] = [owner_reference(jobset)]
    if jobset["spec"]["network"]["enableDNSHostnames"]:
        spec["template"]["spec"]["subdomain"] = subdomain(jobset)
    spec["suspend"] = bool(jobset["spec"].get("suspend"))
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _marks(jobset: Object, replicated: Object, index: int) -> dict[str, str]:
    """What Jobs and pods carry, as labels and as annotations."""
    metadata, every = jobset["metadata"], jobset["spec"]["replicatedJobs"]
    before = every[: every.index(replicated)]
    group = replicated["groupName"]
    name = f"{metadata['namespace']}/{job_name(jobset, replicated, index)}"
    restarts = (jobset.get("status") or {}).get("restarts", 0)
    of_group = sum(each["replicas"] for each in every if each["groupName"] == group)
    before_in_group = sum(each["replicas"] for each in before if each["groupName"] == group)
    return {
        names.JOBSET_NAME: metadata["name"],
        names.JOBSET_UID: metadata["uid"],
        names.REPLICATED_JOB: replicated["name"],
        names.RESTART_ATTEMPT: str(restarts),
        names.REPLICAS: str(replicated["replicas"]),
        names.GLOBAL_REPLICAS: str(sum(each["replicas"] for each in every)),
        names.JOB_INDEX: str(index),
        names.JOB_KEY: hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest(),
        names.JOB_GLOBAL_INDEX: str(sum(each["replicas"] for each in before) + index),
        names.GROUP_NAME: group,
        names.GROUP_REPLICAS: str(of_group),
        names.JOB_GROUP_INDEX: str(before_in_group + index),
    }
