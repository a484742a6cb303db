"""Suggestions: each answers the requests of its Experiment with assignments of parameters.

In a real cluster a Suggestion runs its algorithm in a Deployment and asks it over gRPC; here the
algorithm runs in a thread of the simulator. Source: ``pkg/controller.v1beta1/suggestion`` of Katib
at v0.19.0.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from mlk8s.sim.addons.base import Setting
from mlk8s.sim.addons.katib import conditions, engine, medianstop, metrics, names, settings
from mlk8s.sim.addons.katib.experiments import trials_of
from mlk8s.sim.addons.katib.observations import Observations
from mlk8s.sim.addons.objects import holds, write_status
from mlk8s.sim.controllers.base import Controller
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

_CREATED = ("SuggestionCreated", "Suggestion is created")
_RUNS = ("SuggestionRunning", "Suggestion is running")
_NOT_READY = ("DeploymentNotReady", "Deployment is not ready")
_READY = ("DeploymentReady", "Deployment is ready")
_FAILED = "SuggestionFailed"
_SUFFIX = 8


class _Service:
    """What stands for the Deployment of one Suggestion.

    Args:
        loading: ends when the algorithm can be asked.

    Attributes:
        engine: of the first answer on.
        stopping: the rule for early stopping, where there is one.
        asked: an answer that is awaited.
        rules: those that go with it.
        new: the names of the Trials that it is for.
    """

    def __init__(self, loading: Future[None]) -> None:
        self.loading = loading
        self.engine: engine.Engine | None = None
        self.stopping: medianstop.MedianStop | None = None
        self.asked: Future[list[list[Object]]] | None = None
        self.rules: list[Object] = []
        self.new: list[str] = []

    def answer(self, spec: Object, told: list[tuple[str, str]]) -> list[list[Object]]:
        """Ask the algorithm; called in the thread, one question at a time.

        Raises:
            ValueError: it cannot answer.
        """
        if self.engine is None:
            self.engine = engine.Engine(spec)
        return self.engine.ask(self.new, told)


class Suggestions(Controller):
    """The Suggestion controller.

    Args:
        setting: the cluster.
        observations: what Trials have reported.
    """

    name = names.SUGGESTION_CONTROLLER
    watch = (names.SUGGESTIONS,)

    def __init__(self, setting: Setting, observations: Observations) -> None:
        super().__init__(setting.api, setting.recorder, setting.pods)
        self.observations = observations
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="katib-suggestion")
        self._services: dict[str, _Service] = {}

    def stop(self) -> None:
        """End the thread; a question that is being answered is waited for."""
        self._thread.shutdown(cancel_futures=True)

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The Suggestion."""
        if change.key != names.SUGGESTIONS:
            return ()
        if change.type == "DELETED":
            self._services.pop(change.object["metadata"]["uid"], None)
        return ((change.namespace, change.name),)

    def sync(self, namespace: str, name: str) -> None:
        """Bring a Suggestion forward.

        Raises:
            StatusError: the algorithm has failed; an event has told of it.
        """
        suggestion = self.api.find(names.SUGGESTIONS, namespace, name)
        if suggestion is None or "deletionTimestamp" in suggestion["metadata"]:
            return
        status = suggestion.setdefault("status", {})
        if holds(status, names.SUCCEEDED, names.FAILED):
            self._services.pop(suggestion["metadata"]["uid"], None)
            return
        before = copy.deepcopy(status)
        if not holds(status, names.CREATED):
            status.setdefault("startTime", self.api.timestamp())
            conditions.put(status, names.CREATED, True, *_CREATED, self.api.timestamp())
        else:
            try:
                self._serve(suggestion)
            except StatusError as error:
                self.event(suggestion, "Warning", names.RECONCILE_ERROR, error.message)
                raise
        if status != before:
            write_status(self.api, names.SUGGESTIONS, suggestion, status)

    def _serve(self, suggestion: Object) -> None:
        metadata, status = suggestion["metadata"], suggestion["status"]
        when = self.api.timestamp()
        service = self._services.get(metadata["uid"])
        if service is None:
            service = _Service(self._submit(suggestion, engine.load))
            self._services[metadata["uid"]] = service
        if not service.loading.done():
            conditions.put(status, names.DEPLOYMENT_READY, False, *_NOT_READY, when)
            return
        service.loading.result()
        conditions.put(status, names.DEPLOYMENT_READY, True, *_READY, when)
        experiment = self.api.get(names.EXPERIMENTS, metadata["namespace"], metadata["name"])
        if not holds(status, names.RUNNING):
            if told := _mistake(experiment["spec"]):
                message = f"Validation failed: {told}"
                conditions.end(status, names.FAILED, _FAILED, message, when)
                return
            conditions.put(status, names.RUNNING, True, *_RUNS, when)
        self._assign(suggestion, experiment, service)

    def _assign(self, suggestion: Object, experiment: Object, service: _Service) -> None:
        """Ask for what is missing, or take the answer."""
        status = suggestion["status"]
        if service.asked is None:
            missing = suggestion["spec"].get("requests", 0) - status.get("suggestionCount", 0)
            if missing > 0:
                self._ask(suggestion, experiment, service, missing)
            return
        if not service.asked.done():
            return
        asked, service.asked = service.asked, None
        try:
            found = asked.result()
        except ValueError as error:
            told = f"rpc error: code = Unknown desc = Exception calling application: {error}"
            raise StatusError(500, "InternalError", told) from error
        assignments = status.setdefault("suggestions", [])
        for name, parameters in zip(service.new, found, strict=True):
            made: Object = {"name": name, "parameterAssignments": parameters}
            if service.rules:
                made["earlyStoppingRules"] = service.rules
            assignments.append(made)
        status["suggestionCount"] = len(assignments)

    def _ask(self, suggestion: Object, experiment: Object, service: _Service, missing: int) -> None:
        """Ask for assignments, with what is known now."""
        spec, name = experiment["spec"], suggestion["metadata"]["name"]
        trials = [trial for trial in trials_of(self.api, experiment) if _counts(trial)]
        if "earlyStopping" in spec:
            service.stopping = service.stopping or medianstop.MedianStop(experiment)
            service.rules = service.stopping.rules(
                (trial["metadata"]["name"], self.observations.of(trial["metadata"]["uid"]))
                for trial in trials
                if conditions.last(trial.get("status") or {}) == names.SUCCEEDED
            )
        metric = spec["objective"]["objectiveMetricName"]
        told = [
            (trial["metadata"]["name"], metrics.value_of(trial, metric))
            for trial in trials
            if (trial.get("status") or {}).get("observation")
        ]
        service.new = [f"{name}-{self.api.suffix(f'{name}-', _SUFFIX)}" for _ in range(missing)]
        service.asked = self._submit(suggestion, lambda: service.answer(spec, told))

    def _submit(self, suggestion: Object, call: Callable[[], Any]) -> Future[Any]:
        """Run something in the thread; the Suggestion is looked at again when it has ended."""
        loop = asyncio.get_running_loop()
        key = (suggestion["metadata"]["namespace"], suggestion["metadata"]["name"])
        future: Future[Any] = self._thread.submit(call)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self.enqueue, key))
        return future


def _mistake(spec: Object) -> str:
    """What is wrong with the settings of the algorithms; empty where nothing is."""
    if told := settings.mistake(spec):
        return f"ValidateAlgorithmSettings Error: {told}"
    stopping = spec.get("earlyStopping") or {}
    if told := medianstop.mistake(stopping.get("algorithmSettings") or ()):
        return f"ValidateEarlyStoppingSettings Error: {told}"
    return ""


def _counts(trial: Object) -> bool:
    """Whether the algorithm is told of a Trial."""
    status = trial.get("status") or {}
    if holds(status, names.METRICS_UNAVAILABLE):
        return False
    return metrics.available(trial) or not holds(status, names.EARLY_STOPPED)
