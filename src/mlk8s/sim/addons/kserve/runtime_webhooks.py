"""KServe's admission webhooks for runtimes: priorities must tell two of them apart.

Source at v0.20.0: ``pkg/webhook/admission/servingruntime/servingruntime_webhook.go``.
"""

from __future__ import annotations

from collections.abc import Iterator

from mlk8s.sim.addons.base import Hook, denied
from mlk8s.sim.addons.kserve import names
from mlk8s.sim.addons.kserve.runtimes import Runtime, runtimes
from mlk8s.sim.addons.kserve.schemas import check_container
from mlk8s.sim.addons.refusals import refuse, unmodeled
from mlk8s.sim.api import Api
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object


class RuntimeHook(Hook):
    """The webhooks for ServingRuntimes and ClusterServingRuntimes.

    Args:
        api: where the other runtimes are.
    """

    def __init__(self, api: Api) -> None:
        self.api = api

    def validate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Refuse a runtime that could not be chosen for sure, or cannot run."""
        if resource.key not in (names.RUNTIMES, names.CLUSTER_RUNTIMES):
            return
        webhook = f"{resource.kind.lower()}.kserve-webhook-server.validator"
        spec = obj["spec"]
        if spec.get("workerSpec"):
            refuse(webhook, [unmodeled("spec.workerSpec", "kserve")])
        for number, each in enumerate(spec["containers"]):
            check_container(self.api, webhook, f"spec.containers[{number}]", each)
        if spec.get("disabled"):
            return
        for wrong in (*self._ambiguous(resource, obj), *_blocked(resource, obj)):
            raise denied(webhook, wrong)

    def _ambiguous(self, resource: Resource, obj: Object) -> Iterator[str]:
        name, namespace = obj["metadata"]["name"], obj["metadata"].get("namespace", "")
        plural = f"{resource.plural.removesuffix('s')}s"
        others = list(runtimes(self.api, namespace))
        # Nothing is compared where there is no runtime yet, its own priorities neither.
        for format in _unsteady(obj["spec"]) if others else ():
            yield (
                f"different priorities assigned for the model format {format} under the "
                f"{resource.kind.lower()} {name}"
            )
        for other in others:
            if other.name == name or other.spec.get("disabled"):
                continue
            for format in _shared(obj["spec"], other):
                where = f" in namespace {namespace}" if namespace else ""
                yield (
                    f"same priority assigned for the model format {format} in the {plural} "
                    f"{other.name} and {name}{where}"
                )


def _chosen(spec: Object) -> list[Object]:
    formats = spec.get("supportedModelFormats") or ()
    return [each for each in formats if each.get("autoSelect")]


def _unsteady(spec: Object) -> Iterator[str]:
    """Formats with different priorities for their versions."""
    known: dict[str, int | None] = {}
    for each in _chosen(spec):
        first = known.setdefault(each["name"], each.get("priority"))
        if first is not None and each.get("priority") not in (None, first):
            yield each["name"]


def _shared(spec: Object, other: Runtime) -> Iterator[str]:
    """Formats that two runtimes serve with the same priority over the same protocol."""
    if bool(spec.get("multiModel")) != bool(other.spec.get("multiModel")):
        return
    spoken = other.spec.get("protocolVersions") or ()
    if not set(spoken) & set(spec.get("protocolVersions") or ()):
        return
    for theirs in _chosen(other.spec):
        for mine in _chosen(spec):
            same = theirs["name"].lower() == mine["name"].lower()
            same = same and theirs.get("version") == mine.get("version")
            if same and "priority" in mine and theirs.get("priority") == mine["priority"]:
                yield mine["name"]


def _blocked(resource: Resource, obj: Object) -> Iterator[str]:
    for container in obj["spec"]["containers"]:
        for variable in container.get("env") or ():
            if variable.get("name") == "PYTHONPATH":
                yield (
                    f'the {resource.kind} "{obj["metadata"]["name"]}" is invalid: setting '
                    f'PYTHONPATH in container "{container["name"]}" is not allowed for security '
                    "reasons"
                )
