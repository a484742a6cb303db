"""The pods of Trials: labels, a variable, and the container that collects their metrics.

Source: ``pkg/webhook/v1beta1/pod`` of Katib at v0.19.0, and ``katib-config.yaml`` with the defaults
in ``pkg/apis/config/v1beta1/defaults.go`` for the container. Katib also redirects the output of the
primary container into a file that both containers see; here it stays in that container's log, which
is what the collector reads.
"""

from __future__ import annotations

from mlk8s.sim.addons.base import Hook, denied
from mlk8s.sim.addons.katib import metrics, names
from mlk8s.sim.api import Api
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object

_WEBHOOK = "mutator.pod.katib.kubeflow.org"
_RESOURCES: Object = {
    "limits": {"cpu": "500m", "memory": "100Mi", "ephemeral-storage": "5Gi"},
    "requests": {"cpu": "50m", "memory": "10Mi", "ephemeral-storage": "500Mi"},
}


class PodHook(Hook):
    """The webhook for pods.

    Args:
        api: where the owners of pods are.
    """

    def __init__(self, api: Api) -> None:
        self.api = api

    def mutate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Complete a new pod of a Trial."""
        if op != "CREATE" or resource.key != "pods" or not self._injects(obj):
            return
        trial = self._trial(obj, obj["metadata"]["namespace"])
        if trial is None:
            return
        spec, metadata = trial["spec"], obj["metadata"]
        own = metadata.get("labels") or {}
        marks = {names.TRIAL_LABEL: trial["metadata"]["name"]}
        metadata["labels"] = {**own, **(trial["metadata"].get("labels") or {}), **marks}
        containers = obj["spec"]["containers"]
        primary = spec.get("primaryContainerName", "")
        found = next((each for each in containers if each["name"] == primary), None)
        if found is None:
            there = [each["name"] for each in containers]
            told = f"Unable to find primary container {primary} in mutated pod containers {there}"
            raise denied(_WEBHOOK, told, 400, "")
        path = f"metadata.labels['{names.TRIAL_LABEL}']"
        reference = {"apiVersion": "v1", "fieldPath": path}
        variable = {"name": names.TRIAL_NAME_VARIABLE, "valueFrom": {"fieldRef": reference}}
        found["env"] = [*(found.get("env") or ()), variable]
        wanted = spec.get("primaryPodLabels") or {}
        if all(own.get(key) == value for key, value in wanted.items()):
            containers.append(_collector(trial))

    def _injects(self, pod: Object) -> bool:
        namespace = self.api.find("namespaces", "", pod["metadata"]["namespace"]) or {}
        labels = (namespace.get("metadata") or {}).get("labels") or {}
        return bool(labels.get(names.INJECTION_LABEL) == names.INJECTION)

    def _trial(self, obj: Object, namespace: str) -> Object | None:
        """The Trial that owns an object, or owns its owner, and so on."""
        for owner in obj["metadata"].get("ownerReferences") or ():
            resource = self.api.registry.of_kind(owner["apiVersion"], owner["kind"])
            if resource is None:
                continue
            found = self.api.find(
                resource.key, namespace if resource.namespaced else "", owner["name"]
            )
            if found is None or found["metadata"]["uid"] != owner["uid"]:
                continue
            if resource.key != names.TRIALS:
                found = self._trial(found, namespace)
            if found is not None:
                return found
        return None


def _collector(trial: Object) -> Object:
    """The container that collects the metrics of a Trial."""
    spec = trial["spec"]
    objective = spec["objective"]
    arguments = ["-t", trial["metadata"]["name"], "-m", ";".join(metrics.wanted(objective))]
    arguments += ["-o-type", objective["type"], "-s-db", names.DB_MANAGER]
    arguments += ["-path", names.METRICS_FILE]
    source = spec["metricsCollector"].get("source") or {}
    if formats := (source.get("filter") or {}).get("metricsFormat"):
        arguments += ["-f", ";".join(formats)]
    arguments += ["-format", "TEXT"]
    for rule in spec.get("earlyStoppingRules") or ():
        step = rule.get("startStep", 0)
        told = (rule["name"], rule["value"], rule["comparison"], str(step))
        arguments += ["-stop-rule", ";".join(told)]
    return {
        "name": names.COLLECTOR,
        "image": names.COLLECTOR_IMAGE,
        "args": arguments,
        "resources": _RESOURCES,
        "imagePullPolicy": "IfNotPresent",
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }
