"""Jobs under Kueue: suspended when they are made, started when they are admitted, stopped again.

A Job with the label ``kueue.x-k8s.io/queue-name`` gets a Workload that asks for all of its pods at
once. The rules are those of ``pkg/controller/jobframework`` and ``pkg/controller/jobs/job``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable

from mlk8s.sim.addons.base import Setting
from mlk8s.sim.addons.kueue import conditions, names, templates, wanted
from mlk8s.sim.addons.kueue.state import State
from mlk8s.sim.addons.kueue.workloads import release_object
from mlk8s.sim.controllers import job_policy
from mlk8s.sim.controllers.base import Controller, find_condition, owner_reference
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change

JOBS = "jobs.batch"
_UNSET = "Missing Workload; unable to restore pod templates"
_OTHER = "No matching Workload; restoring pod templates according to existent Workload"


class Jobs(Controller):
    """Gives every queued Job its Workload, and does to the Job what becomes of that."""

    name = names.JOB_CONTROLLER
    watch = (JOBS,)
    # A priority class that is missing may come.
    first_retry_s = 1.0

    def __init__(self, setting: Setting, state: State) -> None:
        super().__init__(setting.api, setting.recorder, setting.pods)
        self.state = state

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The Job, or the Job of a Workload."""
        if change.key == JOBS:
            return ((change.namespace, change.name),)
        if change.key == names.WORKLOADS:
            owners = change.object["metadata"].get("ownerReferences") or ()
            return [(change.namespace, each["name"]) for each in owners if each["kind"] == "Job"]
        return ()

    def sync(self, namespace: str, name: str) -> None:
        """Look at one Job and its Workload."""
        job = self.api.find(JOBS, namespace, name)
        if job is None or not wanted.queue_name(job):
            return
        workload = self._workload(job)
        if "deletionTimestamp" in job["metadata"]:
            if workload is not None:
                release_object(self.api, names.WORKLOADS, workload)
            return
        if workload is not None and conditions.holds(workload, conditions.FINISHED):
            release_object(self.api, names.WORKLOADS, workload)
            return
        if workload is not None and "deletionTimestamp" in workload["metadata"]:
            self._stop(job, workload, "Workload is deleted")
            release_object(self.api, names.WORKLOADS, workload)
            return
        end = _ended(job)
        if end is not None:
            if workload is not None:
                self._finish(job, workload, *end)
            return
        if workload is not None and not self._matches(job, workload):
            workload = self._mismatch(job, workload)
        if workload is None:
            self._make(job)
        elif not self._rank(job, workload) and not self._reclaim(job, workload):
            self._follow(job, workload)

    def _follow(self, job: Object, workload: Object) -> None:
        """Let the Job run or stop, as its Workload says."""
        evicted = find_condition(workload.get("status") or {}, conditions.EVICTED)
        admitted = conditions.holds(workload, conditions.ADMITTED)
        if evicted is not None and evicted["status"] == "True":
            self._stop(job, workload, evicted["message"])
            if not (job.get("status") or {}).get("active"):
                self._requeue(workload, evicted)
        elif job["spec"].get("suspend"):
            if admitted:
                self._start(job, workload)
            elif workload["spec"].get("queueName") != wanted.queue_name(job):
                self._write(
                    workload, lambda found: found["spec"].update(queueName=wanted.queue_name(job))
                )
        elif not admitted:
            self._stop(job, workload, "Not admitted by cluster queue")

    # -- the Workload ----------------------------------------------------------------------------

    def _workload(self, job: Object) -> Object | None:
        metadata = job["metadata"]
        for key, namespace, name in self.api.store.owned(metadata["uid"]):
            if key == names.WORKLOADS:
                return self.api.find(key, namespace, name)
        return None

    def _make(self, job: Object) -> None:
        metadata = job["metadata"]
        if not job["spec"].get("suspend"):
            self._stop(job, None, _UNSET)
            return
        if (job.get("status") or {}).get("active"):
            # Its pods have to end first.
            return
        name = wanted.workload_name(job)
        workload: Object = {
            "apiVersion": names.API_VERSION,
            "kind": "Workload",
            "metadata": {
                "name": name,
                "namespace": metadata["namespace"],
                "labels": {names.JOB_UID_LABEL: metadata["uid"]},
                "finalizers": [names.IN_USE],
                "ownerReferences": [owner_reference(job)],
            },
            "spec": wanted.spec_of(self.api, job),
        }
        self.api.create(names.WORKLOADS, workload, metadata["namespace"])
        where = f"{metadata['namespace']}/{name}"
        self.event(job, "Normal", "CreatedWorkload", f"Created Workload: {where}")

    def _matches(self, job: Object, workload: Object) -> bool:
        """Whether a Workload asks for what its Job would run."""
        pod_set, *others = workload["spec"]["podSets"]
        if others:
            return False
        expected = copy.deepcopy(pod_set["template"])
        running = not job["spec"].get("suspend")
        if running and conditions.holds(workload, conditions.QUOTA_RESERVED):
            [assignment] = workload["status"]["admission"]["podSetAssignments"]
            templates.merge(expected, templates.placement(self.state, workload, assignment))
        if pod_set["count"] != wanted.count(job):
            return False
        return wanted.compared(expected) == wanted.compared(job["spec"]["template"])

    def _mismatch(self, job: Object, workload: Object) -> Object | None:
        """Bring the Workload in line with a Job that was edited; ``None`` when it is deleted."""
        metadata = workload["metadata"]
        where = f"{metadata['namespace']}/{metadata['name']}"
        reserved = conditions.holds(workload, conditions.QUOTA_RESERVED)
        if job["spec"].get("suspend") and not reserved:
            spec = wanted.spec_of(self.api, job)
            self._write(workload, lambda found: found.update(spec=spec))
            message = f"Updated not matching Workload for suspended job: {where}"
            self.event(job, "Normal", "UpdatedWorkload", message)
            return self._workload(job)
        self._stop(job, workload, _OTHER)
        release_object(self.api, names.WORKLOADS, workload)
        self.api.delete(names.WORKLOADS, metadata["namespace"], metadata["name"])
        self.event(job, "Normal", "DeletedWorkload", f"Deleted not matching Workload: {where}")
        # Its deletion is looked at next, and makes a new one.
        self.enqueue((metadata["namespace"], job["metadata"]["name"]))
        return workload

    def _rank(self, job: Object, workload: Object) -> bool:
        """Follow a Job's label to another priority class; gives whether it names another."""
        name = wanted.label(job, names.PRIORITY_LABEL)
        known = workload["spec"].get("priorityClassRef")
        if known is None:
            # A Workload that has quota may not be given a class any more.
            fixed = conditions.holds(workload, conditions.QUOTA_RESERVED)
        else:
            fixed = known["kind"] != "WorkloadPriorityClass" or known["name"] == name
        if fixed or not name:
            return False
        reference, priority = wanted.priority_of(self.api, job)
        changes = {"priorityClassRef": reference, "priority": priority}
        self._write(workload, lambda found: found["spec"].update(changes))
        metadata = workload["metadata"]
        message = f"Updated workload priority class: {metadata['namespace']}/{metadata['name']}"
        self.event(job, "Normal", "UpdatedWorkload", message)
        return True

    def _finish(self, job: Object, workload: Object, success: bool, message: str) -> None:
        reason = "Succeeded" if success else "Failed"

        def mark(found: Object) -> None:
            conditions.put(found, conditions.FINISHED, True, reason, message, self.api)

        self._status(names.WORKLOADS, workload, mark)
        metadata = workload["metadata"]
        told = f"Workload '{metadata['namespace']}/{metadata['name']}' is declared finished"
        self.event(job, "Normal", "FinishedWorkload", told)

    def _requeue(self, workload: Object, evicted: Object) -> None:
        """Give the quota of a stopped Job back."""
        if not conditions.holds(workload, conditions.QUOTA_RESERVED):
            return
        reason, message = evicted["reason"], evicted["message"]

        def mark(found: Object) -> None:
            again = reason == conditions.PREEMPTED
            conditions.put(found, conditions.REQUEUED, again, reason, message, self.api)
            conditions.release(found, "Pending", message, self.api)

        self._status(names.WORKLOADS, workload, mark)

    def _reclaim(self, job: Object, workload: Object) -> bool:
        """Give back the quota of pods that will not run again; gives whether there was any."""
        parallelism = job["spec"].get("parallelism", 1)
        completions = job["spec"].get("completions", parallelism)
        status = job.get("status") or {}
        ended = status.get("succeeded", 0)
        if job["spec"].get("completionMode") == "Indexed":
            done = job_policy.indexes_of(status.get("completedIndexes"), completions)
            ended = len(done | job_policy.indexes_of(status.get("failedIndexes"), completions))
        free = 0
        if parallelism > 1 and ended:
            free = max(parallelism - max(completions - ended, 0), 0)
        free = min(free, workload["spec"]["podSets"][0]["count"])
        counts = [{"name": names.PODSET, "count": free}] if free else []
        if counts == ((workload.get("status") or {}).get("reclaimablePods") or []):
            return False

        def mark(found: Object) -> None:
            found.setdefault("status", {})["reclaimablePods"] = counts

        self._status(names.WORKLOADS, workload, mark)
        return True

    # -- the Job ---------------------------------------------------------------------------------

    def _start(self, job: Object, workload: Object) -> None:
        admission = workload["status"]["admission"]
        [assignment] = admission["podSetAssignments"]
        added = templates.placement(self.state, workload, assignment)

        def run(found: Object) -> None:
            found["spec"]["suspend"] = False
            templates.merge(found["spec"]["template"], added)

        self._write(job, run, JOBS)
        queue = admission["clusterQueue"]
        self.event(job, "Normal", "Started", f"Admitted by clusterQueue {queue}")

    def _stop(self, job: Object, workload: Object | None, message: str) -> None:
        """Suspend a Job and take out of its pod template what the admission had added."""
        if job["spec"].get("suspend"):
            return
        self._write(job, lambda found: found["spec"].update(suspend=True), JOBS)
        # Until it has no start time, a Job's template may not be changed.
        self._status(JOBS, job, lambda found: found["status"].pop("startTime", None))
        if workload is not None:
            original = workload["spec"]["podSets"][0]["template"]
            self._write(job, lambda found: templates.restore(found, original), JOBS)
        self.event(job, "Normal", "Stopped", message)

    # -- helpers ---------------------------------------------------------------------------------

    def _write(
        self, obj: Object, mutate: Callable[[Object], None], key: str = names.WORKLOADS
    ) -> None:
        metadata = obj["metadata"]
        self.api.change(key, metadata["namespace"], metadata["name"], mutate)

    def _status(self, key: str, obj: Object, mutate: Callable[[Object], object]) -> None:
        metadata = obj["metadata"]

        def change(found: Object) -> None:
            mutate(found)

        self.api.change(key, metadata["namespace"], metadata["name"], change, subresource="status")

    def event(self, about: Object, type: str, reason: str, message: str) -> None:
        """Record an event in the newer form, as Kueue does."""
        self.recorder.event(about, type, reason, message, self.name, action=reason, series=True)


def _ended(job: Object) -> tuple[bool, str] | None:
    for type, success in (("Complete", True), ("Failed", False)):
        found = find_condition(job.get("status") or {}, type)
        if found is not None and found["status"] == "True":
            return success, found.get("message", "")
    return None
