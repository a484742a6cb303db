"""TrainJobs: each gets the JobSet that its runtime describes, and reports what becomes of it.

The rules are those of Trainer v2.3.0: ``pkg/controller/trainjob_controller.go`` and
``pkg/runtime/framework/plugins/jobset/jobset.go``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable

import yaml

from mlk8s.sim.addons.base import Setting
from mlk8s.sim.addons.objects import owner_keys, write_status
from mlk8s.sim.addons.trainer import conditions, names, plan
from mlk8s.sim.api import Request
from mlk8s.sim.clock import seconds
from mlk8s.sim.controllers.base import Controller, find_condition, owner_reference
from mlk8s.sim.controllers.pods import controller_of
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

_LONGEST = 950
_DEADLINE = ("DeadlineExceeded", "TrainJob exceeded its active deadline")
# The ends of a JobSet, and what a TrainJob calls them.
_ENDS = {conditions.COMPLETED: conditions.COMPLETE, conditions.FAILED: conditions.FAILED}
_COUNTS = ("name", "ready", "succeeded", "failed", "active", "suspended")
# What a JobSet that is suspended takes over from a changed TrainJob.
_MUTABLE = ("nodeSelector", "tolerations", "schedulingGates")


class TrainJobs(Controller):
    """The TrainJob controller."""

    name = names.TRAIN_JOB_CONTROLLER
    watch = (names.TRAIN_JOBS,)

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting.api, setting.recorder, setting.pods)

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The TrainJob, or the TrainJob of a JobSet."""
        if change.key == names.TRAIN_JOBS:
            return ((change.namespace, change.name),)
        return owner_keys(change, "TrainJob") if change.key == names.JOBSETS else ()

    def sync(self, namespace: str, name: str) -> None:
        """Make or change the JobSet, and report.

        Raises:
            StatusError: the JobSet cannot be made; an event has told of it.
        """
        job = self.api.find(names.TRAIN_JOBS, namespace, name)
        if job is None or "deletionTimestamp" in job["metadata"]:
            return
        if job["spec"]["managedBy"] != names.TRAIN_JOB_MANAGER:
            return
        status = job.setdefault("status", {})
        before = copy.deepcopy(status)
        failure = None
        if not _finished(status):
            try:
                self._realize(job)
            except StatusError as error:
                failure = error
                text = str(error.message)
                shown = f"{text[:_LONGEST]} ..." if len(text) > _LONGEST else text
                message = f"TrainJob resources reconciliation failed: {shown}"
                self.event(job, "Warning", "TrainJobResourcesCreationFailed", message)
        if job["spec"].get("suspend"):
            told = (True, "Suspended", "TrainJob is suspended")
        else:
            told = (False, "Resumed", "TrainJob is resumed")
        conditions.put(status, conditions.SUSPENDED, *told, self.api.timestamp())
        self._follow(job)
        self._limit(job)
        if status != before:
            write_status(self.api, names.TRAIN_JOBS, job, status)
        if failure is not None:
            raise failure

    # -- the JobSet ------------------------------------------------------------------------------

    def _realize(self, job: Object) -> None:
        metadata = job["metadata"]
        where = (names.JOBSETS, metadata["namespace"], metadata["name"])
        present = self.api.find(*where)
        suspends = bool(job["spec"].get("suspend"))
        if present is not None and not suspends and not present["spec"].get("suspend"):
            return
        made = plan.jobset(job, self._snapshot(job))
        if present is None:
            # Read like a request's body: with the defaults of its definition.
            self.api.create(names.JOBSETS, made, metadata["namespace"], Request())
        else:
            self.api.change(*where, _take_over(made))

    def _snapshot(self, job: Object) -> Object:
        """The runtime as it was when the TrainJob was first seen: kept in a ConfigMap."""
        metadata, reference = job["metadata"], job["spec"]["runtimeRef"]
        namespace = metadata["namespace"]
        name = f"{metadata['name']}{names.SNAPSHOT_SUFFIX}"
        kept = self.api.find("configmaps", namespace, name)
        if kept is not None:
            owner = controller_of(kept)
            if owner is None or owner["uid"] != metadata["uid"]:
                text = "a snapshot configmap exists but is owned by another object"
                raise StatusError(409, "Conflict", f"invalid runtime snapshot: {text}")
            if "runtime" not in (kept.get("data") or {}):
                text = 'snapshot ConfigMap missing "runtime" data key'
                raise StatusError(409, "Conflict", f"invalid runtime snapshot: {text}")
            kept_runtime: Object = yaml.safe_load(kept["data"]["runtime"])
            return kept_runtime
        runtime = find_runtime(self.api.get, namespace, reference)
        made: Object = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "ownerReferences": [owner_reference(job)]},
            "data": {"runtime": yaml.safe_dump(runtime)},
        }
        self.api.create("configmaps", made, namespace)
        return runtime

    # -- reporting -------------------------------------------------------------------------------

    def _follow(self, job: Object) -> None:
        """Take over what the JobSet says of itself."""
        metadata, status = job["metadata"], job["status"]
        found = self.api.find(names.JOBSETS, metadata["namespace"], metadata["name"])
        if found is None:
            return
        said = found.get("status") or {}
        for end, type in _ENDS.items():
            known = find_condition(said, end)
            if known is not None and known["status"] == "True":
                when = known["lastTransitionTime"]
                conditions.put(status, type, True, known["reason"], known["message"], when)
        if said.get("replicatedJobsStatus"):
            status["jobsStatus"] = [
                {part: each[part] for part in _COUNTS} for each in said["replicatedJobsStatus"]
            ]

    def _limit(self, job: Object) -> None:
        """Fail a TrainJob whose time is over: its JobSet goes, and with it its pods."""
        metadata, spec, status = job["metadata"], job["spec"], job["status"]
        limit = spec.get("activeDeadlineSeconds")
        if not limit or spec.get("suspend") or _finished(status):
            return
        resumed = find_condition(status, conditions.SUSPENDED)
        start = resumed["lastTransitionTime"] if resumed else metadata["creationTimestamp"]
        left = seconds(start) + limit - self.now
        if left > 0:
            self.enqueue((metadata["namespace"], metadata["name"]), left)
            return
        conditions.put(status, conditions.FAILED, True, *_DEADLINE, self.api.timestamp())
        where = (names.JOBSETS, metadata["namespace"], metadata["name"])
        if self.api.store.raw(*where) is not None:
            self.api.delete(*where)


def find_runtime(
    get: Callable[[str, str, str], Object], namespace: str, reference: Object
) -> Object:
    """The runtime that a TrainJob names.

    Args:
        get: reads an object, or raises.
        namespace: of the TrainJob.
        reference: its ``runtimeRef``, of a kind that there is.

    Raises:
        StatusError: 404: there is no such runtime.
    """
    kind, name = reference["kind"], reference["name"]
    space = namespace if kind == "TrainingRuntime" else ""
    try:
        found = get(names.RUNTIME_KINDS[kind], space, name)
    except StatusError as error:
        # The controller's cache names the kind where the API server names the resource.
        missing = f'{kind}.{names.GROUP} "{name}" not found'
        raise StatusError(error.code, error.reason, missing) from error
    found.setdefault("spec", {})
    return found


def _finished(status: Object) -> bool:
    return conditions.holds(status, conditions.COMPLETE, conditions.FAILED)


def _take_over(made: Object) -> Callable[[Object], None]:
    """How a JobSet that is or becomes suspended is changed."""

    def change(found: Object) -> None:
        found["spec"]["suspend"] = made["spec"]["suspend"]
        wanted = {each["name"]: each for each in made["spec"]["replicatedJobs"]}
        for each in found["spec"]["replicatedJobs"]:
            new = wanted[each["name"]]["template"]["spec"]["template"]
            old = each["template"]["spec"]["template"]
            for part, source, target in (
                ("metadata", new, old),
                *((part, new["spec"], old["spec"]) for part in _MUTABLE),
            ):
                if part in source:
                    target[part] = source[part]
                else:
                    target.pop(part, None)

    return change
