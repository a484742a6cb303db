"""InferenceServices: each gets what serves its model, and reports what becomes of it.

The rules are those of KServe v0.20.0 in Standard mode:
``pkg/controller/v1beta1/inferenceservice/controller.go``.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable

from mlk8s.sim.addons.base import Setting
from mlk8s.sim.addons.kserve import names, state
from mlk8s.sim.addons.kserve.children import children, ingress
from mlk8s.sim.addons.kserve.conditions import (
    INGRESS_READY,
    PREDICTOR_READY,
    READY,
    STOPPED,
    Conditions,
)
from mlk8s.sim.addons.kserve.predictor import Plan, plan
from mlk8s.sim.addons.kserve.runtimes import Unsuitable, choose
from mlk8s.sim.addons.objects import owner_keys, write_status
from mlk8s.sim.api import Api, Request
from mlk8s.sim.controllers.base import Controller
from mlk8s.sim.matching import Selector
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

_OWNED = ("services", names.DEPLOYMENTS, names.AUTOSCALERS, names.INGRESSES)


class InferenceServices(Controller):
    """The InferenceService controller."""

    name = names.CONTROLLER
    watch = (names.SERVICES,)

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting.api, setting.recorder, setting.pods)

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The InferenceService of a change of it, of what it owns, of a pod or of its runtime."""
        if change.key == names.SERVICES:
            return ((change.namespace, change.name),)
        if change.key in _OWNED:
            return owner_keys(change, "InferenceService")
        if change.key == "pods":
            labels = change.object["metadata"].get("labels") or {}
            if name := labels.get(names.SERVICE_LABEL):
                return ((change.namespace, name),)
        elif change.key in (names.RUNTIMES, names.CLUSTER_RUNTIMES):
            return self._served_by(change)
        return ()

    def _served_by(self, change: Change) -> list[Hashable]:
        """The InferenceServices of a runtime whose spec has changed."""
        if change.type != "MODIFIED" or change.old is None:
            return []
        if change.old["spec"] == change.object["spec"]:
            return []
        cluster = change.key == names.CLUSTER_RUNTIMES
        part = "clusterServingRuntimeName" if cluster else "servingRuntimeName"
        return [
            (each["metadata"]["namespace"], each["metadata"]["name"])
            for each in self.api.store.items(names.SERVICES)
            if (each.get("status") or {}).get(part) == change.name
            and (cluster or each["metadata"]["namespace"] == change.namespace)
        ]

    def sync(self, namespace: str, name: str) -> None:
        """Make or change what serves, and report.

        Raises:
            StatusError: something cannot be made; an event has told of it.
        """
        service = self.api.find(names.SERVICES, namespace, name)
        if service is None or "deletionTimestamp" in service["metadata"]:
            return
        status = copy.deepcopy(service.get("status") or {})
        was_ready = Conditions(status, self.api.timestamp()).value(READY) == "True"
        failure = None
        if (service["metadata"].get("annotations") or {}).get(names.STOP) == "true":
            status = self._stop(service, status)
        else:
            Conditions(status, self.api.timestamp()).initialize()
            failure = self._serve(service, status)
        status["deploymentMode"] = names.STANDARD
        if status != service.get("status"):
            write_status(self.api, names.SERVICES, service, status)
            self._tell(service, status, was_ready)
        if failure is not None:
            raise failure

    def _serve(self, service: Object, status: Object) -> StatusError | None:
        """One turn for a service that is to run; gives what went wrong, which is tried again."""
        conditions = Conditions(status, self.api.timestamp())
        try:
            wanted = self._plan(service, status)
        except Unsuitable as error:
            state.refuse_model(status, error)
            return self._failed(service, str(error))
        try:
            deployment = self._realize(service, wanted)
        except StatusError as error:
            text = f"fails to reconcile predictor: {error.message}"
            conditions.put(PREDICTOR_READY, "False", "ReconcileFailed", text)
            return self._failed(service, text)
        metadata = service["metadata"]
        public = names.host(wanted.name, metadata["namespace"])
        state.follow_deployment(status, conditions, deployment, public)
        state.follow_pods(status, conditions, self._pods(metadata["namespace"], wanted))
        conditions.put(STOPPED, "False")
        self._expose(service, wanted, status, conditions)
        return None

    def _failed(self, service: Object, text: str) -> StatusError:
        self.event(service, "Warning", "InternalError", text)
        return StatusError(500, "InternalError", f"fails to reconcile component: {text}")

    def _plan(self, service: Object, status: Object) -> Plan:
        model = service["spec"]["predictor"].get("model")
        if model is None:
            return plan(service, None)
        found = choose(self.api, service["metadata"]["namespace"], model)
        part, other = "clusterServingRuntimeName", "servingRuntimeName"
        if not found.cluster:
            part, other = other, part
        status[part] = found.name
        status.pop(other, None)
        return plan(service, found)

    def _realize(self, service: Object, wanted: Plan) -> Object:
        """Make or change what stands for the predictor; gives its Deployment."""
        made = children(service, wanted)
        for key, obj in made.items():
            _put(self.api, key, obj, keep_replicas=names.AUTOSCALERS in made)
        for key in set(_OWNED) - {*made, names.INGRESSES}:
            self._remove(key, service)
        # A predictor that was renamed, or whose variant was.
        for key in made:
            self._remove(key, service, kept=wanted.name)
        return self.api.get(names.DEPLOYMENTS, service["metadata"]["namespace"], wanted.name)

    def _pods(self, namespace: str, wanted: Plan) -> list[Object]:
        labels = {names.APP_LABEL: wanted.labels[names.APP_LABEL]}
        facts = self.pods.select(namespace, Selector({"matchLabels": labels}))
        newest = sorted(facts, key=lambda each: each.created, reverse=True)
        found = (self.api.find("pods", namespace, each.name) for each in newest)
        return [pod for pod in found if pod is not None]

    def _expose(
        self, service: Object, wanted: Plan, status: Object, conditions: Conditions
    ) -> None:
        metadata = service["metadata"]
        labels = metadata.get("labels") or {}
        if labels.get(names.VISIBILITY) != names.CLUSTER_LOCAL:
            if conditions.value(PREDICTOR_READY) != "True":
                conditions.put(INGRESS_READY, "False", "Predictor ingress not created")
                return
            _put(self.api, names.INGRESSES, ingress(service, wanted))
        namespace = metadata["namespace"]
        status["url"] = f"http://{names.host(metadata['name'], namespace)}"
        status["address"] = {"url": f"http://{wanted.name}.{namespace}.svc.cluster.local"}
        conditions.put(INGRESS_READY, "True")

    def _stop(self, service: Object, status: Object) -> Object:
        """End all that serves."""
        for key in _OWNED:
            self._remove(key, service)
        kept = {"conditions": [*(status.get("conditions") or ())]}
        conditions = Conditions(kept, self.api.timestamp())
        conditions.initialize()
        conditions.put(PREDICTOR_READY, "False", STOPPED)
        conditions.put(INGRESS_READY, "False", STOPPED)
        conditions.put(STOPPED, "True")
        return kept

    def _remove(self, key: str, service: Object, kept: str = "") -> None:
        for owned, namespace, name in list(self.api.store.owned(service["metadata"]["uid"])):
            if owned == key and name != kept:
                self.api.delete(owned, namespace, name)

    def _tell(self, service: Object, status: Object, was_ready: bool) -> None:
        name, value = service["metadata"]["name"], Conditions(status, "").value(READY)
        if was_ready and value == "False":
            bad = [each["type"] for each in status["conditions"] if each["status"] == "False"]
            text = f"InferenceService [{name}] is no longer Ready because of: {', '.join(bad)}"
            self.event(service, "Warning", "InferenceServiceNotReady", text)
        elif not was_ready and value == "True":
            text = f"InferenceService [{name}] is Ready"
            self.event(service, "Normal", "InferenceServiceReady", text)


def _put(api: Api, key: str, wanted: Object, *, keep_replicas: bool = False) -> None:
    """Make an object, or change one that is there to what it should be."""
    metadata = wanted["metadata"]
    found = api.find(key, metadata["namespace"], metadata["name"])
    if found is None:
        api.create(key, wanted, metadata["namespace"], Request())
        return
    if keep_replicas and key == names.DEPLOYMENTS:
        wanted["spec"]["replicas"] = found["spec"]["replicas"]
    # A Deployment's controller keeps its revision in an annotation.
    annotations = {**(found["metadata"].get("annotations") or {})}
    annotations |= metadata.get("annotations") or {}
    found["metadata"] |= {key: value for key, value in metadata.items() if key != "annotations"}
    if annotations:
        found["metadata"]["annotations"] = annotations
    api.update(key, {**found, "spec": wanted["spec"]}, Request())
