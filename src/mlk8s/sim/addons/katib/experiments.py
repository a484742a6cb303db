"""Experiments: each asks its Suggestion for assignments, and makes a Trial of every one.

Source: ``pkg/controller.v1beta1/experiment`` of Katib at v0.19.0.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable

from mlk8s.sim.addons.base import Setting
from mlk8s.sim.addons.katib import conditions, experiment_status, finalizers, metrics, names
from mlk8s.sim.addons.katib.experiment_status import count, ended
from mlk8s.sim.addons.katib.template import TemplateError, render
from mlk8s.sim.addons.katib.validation import restartable
from mlk8s.sim.addons.katib.webhooks import config_map
from mlk8s.sim.addons.objects import holds, owner_keys, write_status
from mlk8s.sim.api import Api
from mlk8s.sim.controllers.base import (
    Controller,
    drop_condition,
    find_condition,
    owner_reference,
)
from mlk8s.sim.status import Object, StatusError, bad_request
from mlk8s.sim.store import Change

_OWNED = (names.SUGGESTIONS, names.TRIALS)
_CREATED = ("ExperimentCreated", "Experiment is created")
_RESTARTED = ("ExperimentRestarting", "Experiment is restarted")
_NO_SUGGESTION = ("ExperimentFailed", "Suggestion has failed")
_SUCCEEDED = "Experiment is succeeded"
_FINAL = "Suggestion is succeeded, can't be restarted"
# Parts of a trial template that a Trial takes over.
_TEMPLATE_PARTS = (
    "primaryPodLabels",
    "primaryContainerName",
    "successCondition",
    "failureCondition",
)


class Experiments(Controller):
    """The Experiment controller."""

    name = names.EXPERIMENT_CONTROLLER
    watch = (names.EXPERIMENTS,)

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting.api, setting.recorder, setting.pods)

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The Experiment, or the Experiment of a Suggestion or a Trial."""
        if change.key == names.EXPERIMENTS:
            return ((change.namespace, change.name),)
        return owner_keys(change, names.KINDS[names.EXPERIMENTS]) if change.key in _OWNED else ()

    def sync(self, namespace: str, name: str) -> None:
        """Bring an Experiment forward.

        Raises:
            StatusError: a Suggestion or a Trial cannot be made; an event has told of it.
        """
        experiment = self.api.find(names.EXPERIMENTS, namespace, name)
        if experiment is None:
            return
        held = finalizers.keep(self.api, names.EXPERIMENTS, experiment, names.EXPERIMENT_FINALIZER)
        if held or "deletionTimestamp" in experiment["metadata"]:
            return
        status = experiment.setdefault("status", {})
        before = copy.deepcopy(status)
        if holds(status, names.SUCCEEDED, names.FAILED) and not self._goes_on(experiment):
            return
        if not holds(status, names.CREATED):
            status.setdefault("startTime", self.api.timestamp())
            status.setdefault("completionTime", None)
            status.setdefault("currentOptimalTrial", {"observation": {}})
            conditions.put(status, names.CREATED, True, *_CREATED, self.api.timestamp())
        else:
            try:
                self._reconcile(experiment)
            except StatusError as error:
                told = f"Failed to reconcile: {error.message}"
                self.event(experiment, "Warning", names.RECONCILE_ERROR, told)
                raise
        if status != before:
            write_status(self.api, names.EXPERIMENTS, experiment, status)

    # -- the end, and after it -------------------------------------------------------------------

    def _goes_on(self, experiment: Object) -> bool:
        """Whether there is anything to do for an Experiment that has ended."""
        spec, status = experiment["spec"], experiment["status"]
        if spec["resumePolicy"] == names.NEVER:
            self._close_suggestion(experiment)
        most, made = spec.get("maxTrialCount"), status.get("trials", 0)
        if (restartable(experiment) and most is not None and most > made) or (
            most is None and made
        ):
            for type in (names.SUCCEEDED, names.FAILED):
                drop_condition(status, type)
            conditions.put(status, names.RESTARTING, True, *_RESTARTED, self.api.timestamp())
            return True
        return bool(status.get("trialsRunning"))

    def _close_suggestion(self, experiment: Object) -> None:
        """Say that nobody will ask the Suggestion again."""
        suggestion = self._suggestion(experiment)
        if suggestion is None:
            return
        status, when = suggestion.setdefault("status", {}), self.api.timestamp()
        if holds(status, names.SUCCEEDED, names.FAILED):
            return
        for type, message in (
            (names.RUNNING, "Suggestion is not running"),
            (names.DEPLOYMENT_READY, "Deployment is not ready"),
        ):
            if find_condition(status, type) is not None:
                told = "Suggestion is succeeded"
                conditions.put(status, type, False, told, message, when)
        conditions.put(status, names.SUCCEEDED, True, _SUCCEEDED, _FINAL, when)
        write_status(self.api, names.SUGGESTIONS, suggestion, status)

    # -- Trials ----------------------------------------------------------------------------------

    def _reconcile(self, experiment: Object) -> None:
        trials = trials_of(self.api, experiment)
        if any("deletionTimestamp" in trial["metadata"] for trial in trials):
            # Katib waits for Trials that it deletes; their end brings this Experiment up again.
            return
        status = experiment["status"]
        if trials:
            experiment_status.update(experiment, trials, self.api.timestamp())
        if holds(status, names.SUCCEEDED, names.FAILED):
            return
        spec = experiment["spec"]
        parallel = spec["parallelTrialCount"]
        active = count(status, "trialsPending", "trialsRunning")
        if active > parallel:
            self._delete(experiment, trials, active - parallel)
        elif active < parallel:
            wanted = parallel
            if "maxTrialCount" in spec:
                left = spec["maxTrialCount"] - ended(status, unavailable=False)
                wanted = min(left, parallel)
            if wanted > active:
                self._create(experiment, trials, wanted - active)

    def _create(self, experiment: Object, trials: list[Object], more: int) -> None:
        namespace = experiment["metadata"]["namespace"]
        for assignment in self._assignments(experiment, trials, more):
            name = assignment["name"]
            try:
                made = self._trial(experiment, assignment)
            except TemplateError as error:
                raise bad_request(str(error)) from error
            if self.api.store.raw(names.TRIALS, namespace, name) is None:
                self.api.create(names.TRIALS, made, namespace)

    def _assignments(self, experiment: Object, trials: list[Object], more: int) -> list[Object]:
        """Assignments that no Trial has been made of; asks for more where there are too few."""
        # No new ones are asked for while the metrics of Trials that were stopped are not known.
        unknown = sum(
            holds(trial.get("status") or {}, names.EARLY_STOPPED) and not metrics.available(trial)
            for trial in trials
        )
        requests = len(trials) + more - unknown
        suggestion = self._suggestion(experiment)
        if suggestion is None:
            self._suggest(experiment, requests)
            return []
        said = suggestion.get("status") or {}
        if holds(said, names.FAILED):
            status, when = experiment["status"], self.api.timestamp()
            conditions.end(status, names.FAILED, *_NO_SUGGESTION, when)
            return []
        known = {trial["metadata"]["name"] for trial in trials}
        suggestions = said.get("suggestions") or []
        found = [each for each in suggestions if each["name"] not in known]
        if suggestion["spec"].get("requests") != requests:
            self._request(experiment, requests)
        return found if len(suggestions) > len(trials) else []

    def _trial(self, experiment: Object, assignment: Object) -> Object:
        """A Trial as it is made.

        Raises:
            TemplateError: its object cannot be rendered.
        """
        spec = experiment["spec"]
        template, name = spec["trialTemplate"], assignment["name"]
        namespace = experiment["metadata"]["namespace"]
        parameters = assignment["parameterAssignments"]
        made: Object = {
            "objective": spec["objective"],
            "parameterAssignments": parameters,
            "runSpec": render(
                template,
                parameters,
                name,
                namespace,
                lambda *where: config_map(self.api, *where),
            ),
            "metricsCollector": spec["metricsCollectorSpec"],
        }
        if "earlyStopping" in spec and assignment.get("earlyStoppingRules"):
            made["earlyStoppingRules"] = assignment["earlyStoppingRules"]
        if template.get("retain"):
            made["retainRun"] = True
        made |= {part: template[part] for part in _TEMPLATE_PARTS if part in template}
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.KINDS[names.TRIALS],
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": labels(experiment),
                "ownerReferences": [owner_reference(experiment)],
            },
            "spec": made,
        }

    def _delete(self, experiment: Object, trials: list[Object], surplus: int) -> None:
        """Delete the newest Trials, whatever has become of them, and their assignments."""
        newest = sorted(
            trials, key=lambda trial: str(trial["metadata"]["creationTimestamp"]), reverse=True
        )
        gone = {trial["metadata"]["name"] for trial in newest[:surplus]}
        namespace = experiment["metadata"]["namespace"]
        for name in sorted(gone):
            self.api.delete(names.TRIALS, namespace, name)
        suggestion = self._suggestion(experiment)
        if suggestion is None:
            return
        status = suggestion.get("status") or {}
        left = [each for each in status.get("suggestions") or () if each["name"] not in gone]
        # The spec first: with as many requests as assignments nothing new is suggested.
        self._request(experiment, len(left))
        status |= {"suggestions": left, "suggestionCount": len(left)}
        write_status(self.api, names.SUGGESTIONS, suggestion, status)

    # -- the Suggestion --------------------------------------------------------------------------

    def _suggestion(self, experiment: Object) -> Object | None:
        metadata = experiment["metadata"]
        return self.api.find(names.SUGGESTIONS, metadata["namespace"], metadata["name"])

    def _suggest(self, experiment: Object, requests: int) -> None:
        spec, metadata = experiment["spec"], experiment["metadata"]
        made: Object = {
            "algorithm": spec["algorithm"],
            "requests": requests,
            "resumePolicy": spec["resumePolicy"],
        }
        if "earlyStopping" in spec:
            made["earlyStopping"] = spec["earlyStopping"]
        told = {part: metadata[part] for part in ("labels", "annotations") if metadata.get(part)}
        suggestion: Object = {
            "apiVersion": names.API_VERSION,
            "kind": names.KINDS[names.SUGGESTIONS],
            "metadata": {
                "name": metadata["name"],
                **told,
                "ownerReferences": [owner_reference(experiment)],
            },
            "spec": made,
        }
        self.api.create(names.SUGGESTIONS, suggestion, metadata["namespace"])

    def _request(self, experiment: Object, requests: int) -> None:
        metadata = experiment["metadata"]

        def ask(found: Object) -> None:
            found["spec"]["requests"] = requests

        self.api.change(names.SUGGESTIONS, metadata["namespace"], metadata["name"], ask)


def labels(experiment: Object) -> dict[str, str]:
    """The labels of an Experiment's Trials."""
    own = experiment["metadata"].get("labels") or {}
    return {**own, names.EXPERIMENT_LABEL: experiment["metadata"]["name"]}


def trials_of(api: Api, experiment: Object) -> list[Object]:
    """The Trials of an Experiment, by name."""
    metadata = experiment["metadata"]
    return [
        trial
        for trial in api.store.items(names.TRIALS, metadata["namespace"])
        if (trial["metadata"].get("labels") or {}).get(names.EXPERIMENT_LABEL) == metadata["name"]
    ]
