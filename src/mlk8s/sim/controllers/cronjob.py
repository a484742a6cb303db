"""CronJobs: Jobs at the times that a schedule names.

Source of the rules: pkg/controller/cronjob (cronjob_controllerv2.go, utils.go).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Hashable, Iterable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from croniter.croniter import CroniterError

from mlk8s.sim.api import DeleteOptions
from mlk8s.sim.clock import seconds, stamp
from mlk8s.sim.controllers.base import Controller, find_condition, namespace_ends, owner_reference
from mlk8s.sim.controllers.pods import controller_of
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

_JOBS = "jobs.batch"
_CRONS = "cronjobs.batch"
_SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
# So many missed times are looked at before the schedule counts as lost (utils.go).
_MOST_MISSED = 100


class CronJobs(Controller):
    """The CronJob controller."""

    name = "cronjob-controller"
    watch = (_CRONS, _JOBS)

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The CronJob, or that of a Job."""
        if change.key == _CRONS:
            return ((change.namespace, change.name),)
        if change.key == _JOBS:
            owner = controller_of(change.object)
            if owner is not None and owner["kind"] == "CronJob":
                return ((change.namespace, owner["name"]),)
        return ()

    def sync(self, namespace: str, name: str) -> None:
        """Start the Job that is due, forget those that ended, and wait for the next time."""
        cron = self.api.find(_CRONS, namespace, name)
        if cron is None:
            return
        cron.setdefault("status", {})
        jobs = self._jobs(cron)
        self._note_ended(cron, jobs)
        try:
            if "deletionTimestamp" not in cron["metadata"] and not cron["spec"].get("suspend"):
                self._start_due(cron, jobs)
        finally:
            self._write(cron)
        self._forget_old(cron, jobs)

    def _jobs(self, cron: Object) -> list[Object]:
        found = []
        for key, namespace, name in self.api.store.owned(cron["metadata"]["uid"]):
            job = self.api.find(key, namespace, name) if key == _JOBS else None
            if job is not None:
                found.append(job)
        return found

    def _note_ended(self, cron: Object, jobs: list[Object]) -> None:
        """Take Jobs that ended, or are gone, out of ``status.active``."""
        status = cron["status"]
        active = status.get("active") or []
        known = {reference["uid"] for reference in active}
        for job in jobs:
            metadata, ended = job["metadata"], _end(job)
            if metadata["uid"] not in known:
                if ended is None and "deletionTimestamp" not in metadata:
                    message = "Saw a job that the controller did not create or forgot: "
                    self.event(cron, "Warning", "UnexpectedJob", message + metadata["name"])
            elif ended is not None:
                active = [reference for reference in active if reference["uid"] != metadata["uid"]]
                message = f"Saw completed job: {metadata['name']}, condition: {ended['type']}"
                self.event(cron, "Normal", "SawCompletedJob", message)
                finished = job["status"].get("completionTime")
                if ended["type"] == "Complete" and finished:
                    last = status.get("lastSuccessfulTime")
                    if last is None or seconds(last) < seconds(finished):
                        status["lastSuccessfulTime"] = finished
        present = {job["metadata"]["uid"] for job in jobs}
        for reference in list(active):
            if reference["uid"] not in present:
                message = f"Active job went missing: {reference['name']}"
                self.event(cron, "Normal", "MissingJob", message)
                active.remove(reference)
        if active:
            status["active"] = active
        else:
            status.pop("active", None)

    # -- starting --------------------------------------------------------------------------------

    def _start_due(self, cron: Object, jobs: list[Object]) -> None:
        """Start the Job of the last time that has passed.

        Raises:
            StatusError: the Job cannot be made.
        """
        spec, status, metadata = cron["spec"], cron["status"], cron["metadata"]
        try:
            due, upcoming = self._times(cron)
        except (CroniterError, ValueError) as error:
            message = f"unparseable schedule: {json.dumps(spec['schedule'])} : {error}"
            self.event(cron, "Warning", "UnparseableSchedule", message)
            return
        except ZoneInfoNotFoundError:
            zone = spec["timeZone"]
            message = f'invalid timeZone: "{zone}": unknown time zone {zone}'
            self.event(cron, "Warning", "UnknownTimeZone", message)
            return
        self.enqueue((metadata["namespace"], metadata["name"]), upcoming - self.now)
        if due is None:
            return
        limit = spec.get("startingDeadlineSeconds")
        if limit is not None and due + limit < self.now:
            when = datetime.fromtimestamp(due, UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
            message = f"Missed scheduled time to start a job: {when}"
            self.event(cron, "Warning", "MissSchedule", message)
            return
        name = f"{metadata['name']}-{int(due) // 60}"
        active = status.get("active") or []
        if any(job["metadata"]["name"] == name for job in jobs):
            return
        policy = spec.get("concurrencyPolicy", "Allow")
        if policy == "Forbid" and active:
            message = (
                "Not starting job because prior execution is running and concurrency policy is "
                "Forbid"
            )
            self.event(cron, "Normal", "JobAlreadyActive", message)
            return
        if policy == "Replace":
            for reference in active:
                self._delete(cron, reference["name"])
            active = []
        job = self._make(cron, name, due)
        made = job["metadata"]
        reference = {"kind": "Job", "namespace": made["namespace"], "name": made["name"]}
        reference |= {"uid": made["uid"], "apiVersion": "batch/v1"}
        reference["resourceVersion"] = made["resourceVersion"]
        status["active"] = [*active, reference]
        status["lastScheduleTime"] = stamp(due)

    def _times(self, cron: Object) -> tuple[float | None, float]:
        """The last time that has passed and was not served, and the next one."""
        spec, status = cron["spec"], cron["status"]
        zone = ZoneInfo(spec["timeZone"]) if spec.get("timeZone") else UTC
        earliest = seconds(status.get("lastScheduleTime") or cron["metadata"]["creationTimestamp"])
        if (limit := spec.get("startingDeadlineSeconds")) is not None:
            earliest = max(earliest, self.now - limit)
        moment = datetime.fromtimestamp(earliest, zone)
        times = croniter(spec["schedule"], moment)
        due: float | None = None
        missed = 0
        while (moment := times.get_next(datetime)).timestamp() <= self.now:
            due, missed = moment.timestamp(), missed + 1
            if missed > _MOST_MISSED:
                message = (
                    "too many missed start times. Set or decrease .spec.startingDeadlineSeconds "
                    "or check clock skew"
                )
                self.event(cron, "Warning", "TooManyMissedTimes", message)
                times = croniter(spec["schedule"], datetime.fromtimestamp(self.now + 1, zone))
                due = times.get_prev(datetime).timestamp()
                moment = times.get_next(datetime)
                break
        return due, moment.timestamp()

    def _make(self, cron: Object, name: str, due: float) -> Object:
        metadata, template = cron["metadata"], copy.deepcopy(cron["spec"]["jobTemplate"])
        told = template.get("metadata") or {}
        zone = ZoneInfo(cron["spec"]["timeZone"]) if cron["spec"].get("timeZone") else UTC
        scheduled = datetime.fromtimestamp(due, zone).isoformat().replace("+00:00", "Z")
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name,
                "namespace": metadata["namespace"],
                "labels": told.get("labels") or {},
                "annotations": (told.get("annotations") or {}) | {_SCHEDULED: scheduled},
                "ownerReferences": [owner_reference(cron)],
            },
            "spec": template["spec"],
        }
        try:
            made = self.api.create(_JOBS, job, metadata["namespace"])
        except StatusError as error:
            if not namespace_ends(error):
                message = f"Error creating job: {error.message}"
                self.event(cron, "Warning", "FailedCreate", message)
            raise
        self.event(cron, "Normal", "SuccessfulCreate", f"Created job {name}")
        return made

    # -- ending ----------------------------------------------------------------------------------

    def _delete(self, cron: Object, name: str) -> None:
        options = DeleteOptions(propagation="Background")
        try:
            self.api.delete(_JOBS, cron["metadata"]["namespace"], name, options)
        except StatusError as error:
            if error.code == 404:
                return
            self.event(cron, "Warning", "FailedDelete", f"Deleted job: {error.message}")
            raise
        self.event(cron, "Normal", "SuccessfulDelete", f"Deleted job {name}")

    def _forget_old(self, cron: Object, jobs: list[Object]) -> None:
        """Delete the oldest ended Jobs beyond the two history limits."""
        for type, limit, default in (
            ("Complete", "successfulJobsHistoryLimit", 3),
            ("Failed", "failedJobsHistoryLimit", 1),
        ):
            kept = cron["spec"].get(limit, default)
            ended = [
                job
                for job in jobs
                if (end := _end(job)) is not None
                and end["type"] == type
                and "deletionTimestamp" not in job["metadata"]
            ]
            ended.sort(
                key=lambda job: (job["status"].get("startTime", ""), job["metadata"]["name"])
            )
            for job in ended[: max(len(ended) - kept, 0)]:
                self._delete(cron, job["metadata"]["name"])

    def _write(self, cron: Object) -> None:
        metadata = cron["metadata"]

        def mutate(found: Object) -> None:
            found["status"] = cron["status"]

        self.api.change(_CRONS, metadata["namespace"], metadata["name"], mutate, "status")


def _end(job: Object) -> Object | None:
    """The condition that says that a Job is over."""
    status = job.get("status") or {}
    for type in ("Complete", "Failed"):
        condition = find_condition(status, type)
        if condition is not None and condition["status"] == "True":
            return condition
    return None
