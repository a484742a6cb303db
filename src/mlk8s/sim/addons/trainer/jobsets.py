"""JobSets: Jobs that start, are suspended, fail and start anew together, and find each other.

The rules and texts are those of JobSet v0.12.0: ``pkg/controllers/{jobset_controller,
failure_policy,success_policy,ttl_after_finished}.go``.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable

from mlk8s.sim.addons.base import Setting
from mlk8s.sim.addons.objects import owner_keys, write_status
from mlk8s.sim.addons.trainer import conditions, names
from mlk8s.sim.addons.trainer.children import (
    Children,
    applies,
    failed_at,
    merge,
    missing,
    part_of,
    subdomain,
)
from mlk8s.sim.api import DeleteOptions, Request
from mlk8s.sim.clock import seconds
from mlk8s.sim.controllers.base import Controller, find_condition, owner_reference
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

_OWNED = (names.JOBS, "services")
_RESTART = "RestartJobSet"


class JobSets(Controller):
    """The JobSet controller."""

    name = names.JOBSET_CONTROLLER
    watch = (names.JOBSETS,)

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting.api, setting.recorder, setting.pods)

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The JobSet, or the JobSet of a Job or a Service."""
        if change.key == names.JOBSETS:
            return ((change.namespace, change.name),)
        return owner_keys(change, "JobSet") if change.key in _OWNED else ()

    def sync(self, namespace: str, name: str) -> None:
        """Bring the Jobs of a JobSet to where they should be, and report."""
        jobset = self.api.find(names.JOBSETS, namespace, name)
        if jobset is None or "deletionTimestamp" in jobset["metadata"]:
            return
        if jobset["spec"].get("managedBy", names.JOBSET_MANAGER) != names.JOBSET_MANAGER:
            return
        status = jobset.setdefault("status", {})
        before = copy.deepcopy(status)
        status.setdefault("restarts", 0)
        turn = _Turn(self, jobset)
        turn.run()
        if status != before:
            write_status(self.api, names.JOBSETS, jobset, status)
            for event in turn.events:
                self.event(jobset, *event)


class _Turn:
    """One look at a JobSet.

    Args:
        controller: whose it is.
        jobset: the JobSet; its status is changed in place.

    Attributes:
        events: to be told of once the status is written.
    """

    def __init__(self, controller: JobSets, jobset: Object) -> None:
        self.controller = controller
        self.api = controller.api
        self.jobset = jobset
        self.spec, self.status = jobset["spec"], jobset["status"]
        self.namespace: str = jobset["metadata"]["namespace"]
        self.events: list[tuple[str, str, str]] = []
        owned = self.api.store.owned(jobset["metadata"]["uid"])
        jobs = [self.api.get(*each) for each in sorted(owned) if each[0] == names.JOBS]
        self.children = Children.of(jobs, self.status["restarts"])

    def run(self) -> None:
        """Decide and act.

        Raises:
            StatusError: a Job or the Service cannot be made; an event has told of it.
        """
        children = self.children
        counts = children.counts(self.jobset)
        self.status["replicatedJobsStatus"] = counts
        if conditions.holds(self.status, conditions.COMPLETED, conditions.FAILED):
            self._delete(children.active)
            self._expire()
            return
        self._delete(children.previous)
        suspended = bool(self.spec.get("suspend"))
        wanted = sum(each["replicas"] for each in self.spec["replicatedJobs"])
        if not suspended and wanted == sum(each["ready"] + each["succeeded"] for each in counts):
            self._condition(conditions.RESTARTING, False, "JobsReady", "all jobs are ready")
        if children.failed:
            self._judge_failure()
        elif not (children.succeeded and self._complete()):
            self._provide_names()
            self._start()
            if suspended:
                self._suspend()
            else:
                self._resume()

    # -- Jobs and their Service ------------------------------------------------------------------

    def _start(self) -> None:
        for job in missing(self.jobset, self.children):
            try:
                # Their template is what somebody has written: it is read like a request's body.
                self.api.create(names.JOBS, job, self.namespace, Request())
            except StatusError as error:
                name = job["metadata"]["name"]
                text = f'job "{name}" creation failed with error: {error.message}'
                self.controller.event(self.jobset, "Warning", "JobCreationFailed", text)
                raise

    def _delete(self, jobs: list[Object]) -> None:
        for job in jobs:
            metadata = job["metadata"]
            if "deletionTimestamp" not in metadata:
                options = DeleteOptions(propagation="Foreground", uid=metadata["uid"])
                self.api.delete(names.JOBS, self.namespace, metadata["name"], options)

    def _provide_names(self) -> None:
        """Make the headless Service under which pods have names."""
        network = self.spec["network"]
        name = subdomain(self.jobset)
        if not network["enableDNSHostnames"] or self.api.store.raw(
            "services", self.namespace, name
        ):
            return
        service: Object = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "ownerReferences": [owner_reference(self.jobset)]},
            "spec": {
                "clusterIP": "None",
                "selector": {names.JOBSET_NAME: self.jobset["metadata"]["name"]},
                "publishNotReadyAddresses": network["publishNotReadyAddresses"],
            },
        }
        try:
            self.api.create("services", service, self.namespace)
        except StatusError as error:
            reason = "HeadlessServiceCreationFailed"
            self.controller.event(self.jobset, "Warning", reason, error.message)
            raise

    def _suspend(self) -> None:
        for job in self.children.active:
            if not job["spec"].get("suspend"):
                where = (names.JOBS, self.namespace, job["metadata"]["name"])
                self.api.change(*where, lambda found: found["spec"].update(suspend=True))
        text = "jobset is suspended"
        self._condition(conditions.SUSPENDED, True, "SuspendedJobs", text)
        self._condition(conditions.RESTARTING, False, "JobSetSuspended", text)

    def _resume(self) -> None:
        """Start suspended Jobs, with what has changed in their pods meanwhile."""
        templates = {
            each["name"]: each["template"]["spec"]["template"]
            for each in self.spec["replicatedJobs"]
        }
        for job in self.children.active:
            if not job["spec"].get("suspend"):
                continue
            where = (names.JOBS, self.namespace, job["metadata"]["name"])
            # The template of a Job that has started does not change.
            self.api.change(
                *where,
                lambda found: found.get("status", {}).pop("startTime", None),
                subresource="status",
            )
            template = templates[part_of(job)]

            def change(found: Object, template: Object = template) -> None:
                found["spec"]["suspend"] = False
                merge(found["spec"]["template"], template)

            self.api.change(*where, change)
        self._condition(conditions.SUSPENDED, False, "ResumeJobs", "jobset is resumed")

    # -- the end ---------------------------------------------------------------------------------

    def _complete(self) -> bool:
        policy = self.spec["successPolicy"]
        targets = policy.get("targetReplicatedJobs")
        done = sum(not targets or part_of(job) in targets for job in self.children.succeeded)
        wanted = 1
        if policy["operator"] == "All":
            wanted = sum(
                each["replicas"]
                for each in self.spec["replicatedJobs"]
                if not targets or each["name"] in targets
            )
        if done < wanted:
            return False
        text = "jobset completed successfully"
        self._condition(conditions.COMPLETED, True, "AllJobsCompleted", text)
        self._condition(conditions.RESTARTING, False, "JobSetCompleted", text)
        self.status["terminalState"] = conditions.COMPLETED
        return True

    def _judge_failure(self) -> None:
        policy = self.spec.get("failurePolicy")
        first = min(self.children.failed, key=failed_at)
        if policy is None:
            self._fail("FailedJobs", "jobset failed due to one or more job failures", first)
            return
        action, cause = _RESTART, "DefaultFailurePolicy"
        for rule in policy.get("rules") or ():
            if matching := [job for job in self.children.failed if applies(rule, job)]:
                first = min(matching, key=failed_at)
                action, cause = rule["action"], f"FailurePolicy_{rule['name']}"
                break
        said = f"applying {action} failure policy action"
        if action == "FailJobSet":
            self._fail("FailJobSetFailurePolicyAction", said, first)
            return
        counted = self.status.get("restartsCountTowardsMax", 0)
        if action == _RESTART and counted >= policy.get("maxRestarts", 0):
            text = "jobset failed due to reaching max number of restarts"
            self._fail("ReachedMaxRestarts", text, first)
            return
        self.status["restarts"] += 1
        if action == _RESTART:
            self.status["restartsCountTowardsMax"] = counted + 1
        message = _naming(said, first)
        self._condition(conditions.RESTARTING, True, cause, message)
        self.events.append(("Warning", f"{action}FailurePolicyAction", message))

    def _fail(self, reason: str, text: str, first: Object) -> None:
        self._condition(conditions.FAILED, True, reason, _naming(text, first))
        self._condition(conditions.RESTARTING, False, "JobSetFailed", "jobset failed")
        self.status["terminalState"] = conditions.FAILED

    def _expire(self) -> None:
        """Delete a finished JobSet when its time to live is over."""
        lives = self.spec.get("ttlSecondsAfterFinished")
        if lives is None:
            return
        metadata = self.jobset["metadata"]
        end = find_condition(self.status, self.status["terminalState"])
        assert end is not None
        left = seconds(end["lastTransitionTime"]) + lives - self.controller.now
        if left > 0:
            self.controller.enqueue((self.namespace, metadata["name"]), left)
            return
        options = DeleteOptions(propagation="Foreground", uid=metadata["uid"])
        self.api.delete(names.JOBSETS, self.namespace, metadata["name"], options)

    def _condition(self, type: str, value: bool, reason: str, message: str) -> None:
        if conditions.put(self.status, type, value, reason, message, self.api.timestamp()):
            bad = value and type in (conditions.FAILED, conditions.RESTARTING)
            self.events.append(("Warning" if bad else "Normal", reason, message))


def _naming(text: str, job: Object) -> str:
    return f"{text} (first failed job: {job['metadata']['name']})"
