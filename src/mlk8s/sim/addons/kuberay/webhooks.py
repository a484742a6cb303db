"""What this model refuses: parts of KubeRay that it does not carry out, and unreadable pods.

KubeRay itself refuses nothing but what its schemas do; see
:mod:`mlk8s.sim.addons.kuberay.validation` for what it tells in events.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlk8s.sim.addons.base import Hook, denied
from mlk8s.sim.addons.kuberay import names
from mlk8s.sim.addons.refusals import refuse, unmodeled
from mlk8s.sim.api import Api
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import FieldError, Object, StatusError

_WEBHOOK = "kuberay.mlk8s.dev"
_ADDON = "kuberay"
_CLUSTER_PARTS = (
    "gcsFaultToleranceOptions",
    "historyServerOptions",
    "networkPolicy",
    "tlsOptions",
)
_HEAD_PARTS = ("enableIngress", "ingressOptions", "headService")
_INCREMENTAL = "NewClusterWithIncrementalUpgrade"
_SUBMISSION = "K8sJobMode"


class RefusalHook(Hook):
    """Refuses RayClusters, RayJobs and RayServices that this model would not treat truly.

    Args:
        api: knows the types of Kubernetes.
    """

    def __init__(self, api: Api) -> None:
        self.api = api

    def validate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Refuse an object with such a part, or with a pod template that is none."""
        if resource.key not in (names.CLUSTERS, names.JOBS, names.SERVICES):
            return
        spec: Any = obj.get("spec")
        if spec is None:
            raise denied(_WEBHOOK, "spec: Required value")
        found: list[FieldError] = [*_annotated(obj)]
        templates: list[tuple[str, Object]] = []
        if resource.key == names.CLUSTERS:
            found += _cluster("spec", spec)
            templates += _templates("spec", spec)
        elif resource.key == names.JOBS:
            found += _job(spec)
            if cluster := spec.get("rayClusterSpec"):
                found += _cluster("spec.rayClusterSpec", cluster)
                templates += _templates("spec.rayClusterSpec", cluster)
            if template := spec.get("submitterPodTemplate"):
                templates.append(("spec.submitterPodTemplate", template))
        else:
            found += _service(spec)
            found += _cluster("spec.rayClusterConfig", spec["rayClusterConfig"])
            templates += _templates("spec.rayClusterConfig", spec["rayClusterConfig"])
        refuse(_WEBHOOK, found)
        for path, template in templates:
            self._check(path, template)

    def _check(self, path: str, template: Object) -> None:
        """Refuse what Kubernetes could not read as a pod, unknown fields included."""
        body: Object = {"apiVersion": "v1", "kind": "Pod", **template}
        try:
            self.api.schemas.decode(self.api.registry.of_key("pods"), body, "Strict", [])
        except StatusError as error:
            raise denied(_WEBHOOK, f"{path}: {error.message}") from error


def _annotated(obj: Object) -> Iterator[FieldError]:
    annotations = obj["metadata"].get("annotations") or {}
    if annotations.get(names.FAULT_TOLERANT):
        yield unmodeled(f"metadata.annotations[{names.FAULT_TOLERANT}]", _ADDON)


def _cluster(path: str, spec: Object) -> Iterator[FieldError]:
    for part in _CLUSTER_PARTS:
        if spec.get(part):
            yield unmodeled(f"{path}.{part}", _ADDON)
    if (spec.get("authOptions") or {}).get("enableK8sTokenAuth"):
        yield unmodeled(f"{path}.authOptions.enableK8sTokenAuth", _ADDON, "use mode token")
    for part in _HEAD_PARTS:
        if spec["headGroupSpec"].get(part):
            yield unmodeled(f"{path}.headGroupSpec.{part}", _ADDON)
    for number, group in enumerate(spec.get("workerGroupSpecs") or ()):
        if group["numOfHosts"] > 1:
            where = f"{path}.workerGroupSpecs[{number}].numOfHosts"
            yield unmodeled(where, _ADDON, "use replicas of one host")


def _job(spec: Object) -> Iterator[FieldError]:
    if spec["submissionMode"] != _SUBMISSION:
        yield unmodeled("spec.submissionMode", _ADDON, f"use {_SUBMISSION}")
    if spec.get("deletionStrategy"):
        instead = "use shutdownAfterJobFinishes and ttlSecondsAfterFinished"
        yield unmodeled("spec.deletionStrategy", _ADDON, instead)


def _service(spec: Object) -> Iterator[FieldError]:
    if (spec.get("upgradeStrategy") or {}).get("type") == _INCREMENTAL:
        yield unmodeled("spec.upgradeStrategy.type", _ADDON, "use NewCluster or None")
    for part in ("serveService", "suspend"):
        if spec.get(part):
            yield unmodeled(f"spec.{part}", _ADDON)


def _templates(path: str, spec: Object) -> Iterator[tuple[str, Object]]:
    yield f"{path}.headGroupSpec.template", spec["headGroupSpec"]["template"]
    for number, group in enumerate(spec.get("workerGroupSpecs") or ()):
        yield f"{path}.workerGroupSpecs[{number}].template", group["template"]
