"""Trials: each makes its Job or TrainJob, and takes over how it ends and what it has reported.

Source: ``pkg/controller.v1beta1/trial`` of Katib at v0.19.0.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable

from mlk8s.sim.addons.base import Setting
from mlk8s.sim.addons.katib import conditions, finalizers, metrics, names
from mlk8s.sim.addons.katib.gjson import Condition
from mlk8s.sim.addons.katib.observations import Observations
from mlk8s.sim.addons.objects import holds, owner_keys, write_status
from mlk8s.sim.api import DeleteOptions, Request
from mlk8s.sim.controllers.base import Controller, owner_reference
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object, StatusError, bad_request
from mlk8s.sim.store import Change

_CREATED = ("TrialCreated", "Trial is created")
_RUNS = ("TrialRunning", "Trial is running")
_SUCCEEDED = ("TrialSucceeded", "Trial has succeeded")
_FAILED = ("TrialFailed", "Trial has failed")
_NO_METRICS = ("MetricsUnavailable", "Metrics are not available")
# Seconds until a Trial is looked at again whose Job has ended and whose metrics are awaited.
_AGAIN_S = 1.0


class Trials(Controller):
    """The Trial controller.

    Args:
        setting: the cluster.
        observations: what Trials have reported.
    """

    name = names.TRIAL_CONTROLLER
    watch = (names.TRIALS,)

    def __init__(self, setting: Setting, observations: Observations) -> None:
        super().__init__(setting.api, setting.recorder, setting.pods)
        self.observations = observations
        observations.subscribe(lambda namespace, name: self.enqueue((namespace, name)))

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The Trial, or the Trial of a Job or TrainJob."""
        if change.key == names.TRIALS:
            if change.type == "DELETED":
                self.observations.forget(change.object["metadata"]["uid"])
            return ((change.namespace, change.name),)
        obj = change.object
        if (obj["apiVersion"], obj["kind"]) not in names.RUN_KINDS:
            return ()
        return owner_keys(change, names.KINDS[names.TRIALS])

    def sync(self, namespace: str, name: str) -> None:
        """Bring a Trial forward.

        Raises:
            StatusError: its Job cannot be made; an event has told of it.
        """
        trial = self.api.find(names.TRIALS, namespace, name)
        if trial is None:
            return
        held = finalizers.keep(self.api, names.TRIALS, trial, names.TRIAL_FINALIZER)
        if held or "deletionTimestamp" in trial["metadata"]:
            return
        status = trial.setdefault("status", {})
        before = copy.deepcopy(status)
        if not holds(status, names.CREATED):
            status.setdefault("startTime", self.api.timestamp())
            status.setdefault("completionTime", None)
            conditions.put(status, names.CREATED, True, *_CREATED, self.api.timestamp())
        else:
            try:
                self._reconcile(trial)
            except StatusError as error:
                told = f"Failed to reconcile: {error.message}"
                self.event(trial, "Warning", names.RECONCILE_ERROR, told)
                raise
        if status != before:
            write_status(self.api, names.TRIALS, trial, status)

    def _reconcile(self, trial: Object) -> None:
        run = self._realize(trial)
        status = trial["status"]
        stopped = holds(status, names.EARLY_STOPPED)
        if run is None or (conditions.completed(trial) and not stopped):
            return
        ended = Condition.parse(trial["spec"]["failureCondition"]).match(run)
        if ended is not None:
            self._fail(trial, run, ended)
            return
        ended = Condition.parse(trial["spec"]["successCondition"]).match(run)
        if ended is None and holds(status, names.RUNNING):
            return
        if ended is not None or stopped:
            self._observe(trial)
        if ended is not None:
            self._succeed(trial, run, ended)
        elif not stopped:
            conditions.put(status, names.RUNNING, True, *_RUNS, self.api.timestamp())
            self.event(trial, "Normal", "JobRunning", f"Job {_name(run)} is running")

    # -- the Job ---------------------------------------------------------------------------------

    def _realize(self, trial: Object) -> Object | None:
        """The Job or TrainJob: made where it is missing, deleted where the Trial has ended."""
        wanted = trial["spec"]["runSpec"]
        resource = self._resource(wanted)
        namespace, name = trial["metadata"]["namespace"], _name(wanted)
        found = self.api.find(resource.key, namespace, name)
        ended = conditions.completed(trial)
        if found is None:
            if ended:
                return None
            made = copy.deepcopy(wanted)
            made["metadata"]["ownerReferences"] = [owner_reference(trial)]
            # A template that somebody has written: it is read like a request's body.
            found = self.api.create(resource, made, namespace, Request())
            self.event(trial, "Normal", "JobCreated", f"Job {name} has been created")
        elif ended and not trial["spec"].get("retainRun"):
            if "deletionTimestamp" not in found["metadata"]:
                options = DeleteOptions(propagation="Foreground")
                self.api.delete(resource.key, namespace, name, options)
                self.event(trial, "Normal", "JobDeleted", f"Job {name} has been deleted")
            return None
        return found

    def _resource(self, run: Object) -> Resource:
        found = self.api.registry.of_kind(run["apiVersion"], run["kind"])
        if found is None:
            told = f'no matches for kind "{run["kind"]}" in version "{run["apiVersion"]}"'
            raise bad_request(told)
        return found

    # -- the end ---------------------------------------------------------------------------------

    def _observe(self, trial: Object) -> None:
        if found := self.observations.of(trial["metadata"]["uid"]):
            strategies = trial["spec"]["objective"]["metricStrategies"]
            trial["status"]["observation"] = metrics.observation(found, strategies)

    def _succeed(self, trial: Object, run: Object, ended: Object) -> None:
        metadata, status = trial["metadata"], trial["status"]
        if "observation" not in status:
            # The collector has not reported yet.
            self.enqueue((metadata["namespace"], metadata["name"]), _AGAIN_S)
            return
        if metrics.available(trial):
            if not holds(status, names.EARLY_STOPPED):
                self._end(trial, names.SUCCEEDED, _SUCCEEDED, ended)
                self.event(trial, "Normal", "JobSucceeded", f"Job {_name(run)} has succeeded")
            return
        self._end(trial, names.METRICS_UNAVAILABLE, _NO_METRICS, ended)
        told = f"Metrics are not available for Job {_name(run)}"
        self.event(trial, "Warning", "MetricsUnavailable", told)

    def _fail(self, trial: Object, run: Object, ended: Object) -> None:
        if holds(trial["status"], names.EARLY_STOPPED):
            self._observe(trial)
            return
        self._end(trial, names.FAILED, _FAILED, ended)
        told = f"Job {_name(run)} has failed"
        if ended.get("message") or ended.get("reason"):
            told += f". {ended.get('message', '')} {ended.get('reason', '')}"
        self.event(trial, "Normal", "JobFailed", told)

    def _end(self, trial: Object, type: str, told: tuple[str, str], ended: Object) -> None:
        """Set the condition with which the Trial ends, with what the Job says of its own end."""
        reason, message = told
        if ended.get("message"):
            message += f". Job message: {ended['message']}"
        if ended.get("reason"):
            reason += f". Job reason: {ended['reason']}"
        when = self.api.timestamp()
        conditions.end(trial["status"], type, reason, message, when)
        trial["status"]["completionTime"] = when


def _name(run: Object) -> str:
    return str(run["metadata"]["name"])
