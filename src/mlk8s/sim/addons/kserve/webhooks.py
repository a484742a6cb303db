"""KServe's admission webhooks: how InferenceServices are completed, and when they are refused.

Sources at v0.20.0: ``pkg/apis/serving/v1beta1/inference_service_{defaults,validation}.go`` and
``component.go``. What this model does not carry out is refused too, in sentences that name it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from mlk8s.sim.addons.base import Hook, denied
from mlk8s.sim.addons.kserve import names
from mlk8s.sim.addons.kserve.predictor import FORMATS, container_part, pod_part, source
from mlk8s.sim.addons.kserve.schemas import check_container, check_pod
from mlk8s.sim.addons.refusals import refuse, unmodeled
from mlk8s.sim.api import Api
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import FieldError, Object

_WEBHOOK = "inferenceservice.kserve-webhook-server.validator"
_NAME = "[a-z]([-a-z0-9]*[a-z0-9])?"
_KINDS = (
    "Name, SKLearn, XGBoost, Tensorflow, PyTorch, Triton, ONNX, HuggingFace, PMML, LightGBM, "
    "Paddle, Model, StorageUris, StorageContainerName, WorkerSpec, PodSpec"
)
# What setResourceRequirementDefaults gives to a container of the user's own.
_RESOURCES = {"cpu": "1", "memory": "2Gi"}
_SPEAKS_V2 = ("triton", "onnx", "huggingface")
_CLASSES = ("hpa", "external", "keda", "none")
_PROTOCOLS = ("v1", "v2")
_METRICS = ("cpu", "memory")
_PREDICTOR = "spec.predictor"
_UNMODELLED = ("workerSpec", "storageUris", "storageContainerName", "logger", "batcher")


class ServiceHook(Hook):
    """The webhooks for InferenceServices.

    Args:
        api: knows the types of Kubernetes.
    """

    def __init__(self, api: Api) -> None:
        self.api = api

    def mutate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Complete an InferenceService; one that its schema will refuse is left as it is."""
        if resource.key != names.SERVICES:
            return
        metadata = obj["metadata"]
        annotations = {**(metadata.get("annotations") or {})}
        mode = annotations.get(names.MODE, names.STANDARD)
        annotations[names.MODE] = names.LEGACY_MODES.get(mode, mode)
        spec = obj.get("spec")
        predictor = spec.get("predictor") if isinstance(spec, dict) else None
        if isinstance(predictor, dict):
            _name_model(predictor)
            if format := _format(predictor):
                annotations.setdefault(names.MODEL_FORMAT, format)
            elif isinstance(predictor.get("containers"), list):
                _complete_server(predictor["containers"])
        metadata["annotations"] = annotations

    def validate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Refuse an InferenceService that KServe refuses, or that this model does not serve."""
        if resource.key != names.SERVICES:
            return
        predictor = obj["spec"]["predictor"]
        # The first mistake is told, and what follows may rely on its absence.
        for wrong in chain(_named(obj, old), _own_pods(obj), _scaled(obj)):
            raise denied(_WEBHOOK, wrong)
        refuse(_WEBHOOK, [*_beyond(obj)])
        if "model" in predictor:
            check_container(
                self.api, _WEBHOOK, f"{_PREDICTOR}.model", container_part(predictor["model"])
            )
        check_pod(self.api, _WEBHOOK, _PREDICTOR, pod_part(predictor))


def _name_model(predictor: Object) -> None:
    """``sklearn: {…}`` and its like become ``model: {modelFormat: {name: sklearn}, …}``."""
    for format in FORMATS:
        if isinstance(predictor.get(format), dict) and "model" not in predictor:
            told = predictor.pop(format)
            if format in _SPEAKS_V2:
                told.setdefault("protocolVersion", "v2")
            predictor["model"] = {"modelFormat": {"name": format}, **told}
            return


def _format(predictor: Object) -> str:
    model = predictor.get("model")
    format = model.get("modelFormat") if isinstance(model, dict) else None
    return str(format.get("name") or "") if isinstance(format, dict) else ""


def _complete_server(containers: list[Any]) -> None:
    first = containers[0] if containers and isinstance(containers[0], dict) else None
    if first is None:
        return
    if len(containers) == 1 or not first.get("name"):
        first["name"] = names.SERVER
    resources = first.get("resources") or {}
    if isinstance(resources, dict):
        first["resources"] = {
            **resources,
            "limits": _RESOURCES | (resources.get("limits") or {}),
            "requests": _RESOURCES | (resources.get("requests") or {}),
        }


def _named(obj: Object, old: Object | None) -> Iterator[str]:
    name, annotations = obj["metadata"]["name"], obj["metadata"].get("annotations") or {}
    before = ((old or {}).get("status") or {}).get("deploymentMode")
    if before and annotations.get(names.MODE, before) != before:
        yield (
            f"update rejected: deploymentMode cannot be changed from '{before}' to "
            f"'{annotations[names.MODE]}'"
        )
    if old is not None:
        predictor, previous = obj["spec"]["predictor"], old["spec"]["predictor"]
        renamed = predictor.get("name", "") != previous.get("name", "")
        if renamed and source(predictor) == source(previous):
            yield "predictor.name change requires a model change (e.g. storageUri)"
    if not re.fullmatch(_NAME, name):
        yield (
            f'the InferenceService "{name}" is invalid: a InferenceService name must consist of '
            "lower case alphanumeric characters or '-', and must start with alphabetical "
            'character. (e.g. "my-name" or "abc-123", regex used for validation is '
            f"'{_NAME}')"
        )
    kind = annotations.get(names.AUTOSCALER_CLASS)
    if kind is not None and kind not in _CLASSES:
        yield f"[{kind}] is not a supported autoscaler class type"


def _own_pods(obj: Object) -> Iterator[str]:
    name, predictor = obj["metadata"]["name"], obj["spec"]["predictor"]
    model = predictor.get("model")
    containers = predictor.get("containers") or []
    every = [*containers, *(predictor.get("initContainers") or ()), *([model] if model else ())]
    for container in every:
        for variable in container.get("env") or ():
            if variable.get("name") == "PYTHONPATH":
                yield (
                    f'the InferenceService "{name}" is invalid: setting PYTHONPATH in container '
                    f'"{container.get("name", "")}" is not allowed for security reasons'
                )
    if model is not None and model.get("name"):
        yield "the 'name' field is not allowed in standard predictor"
    servers = [each for each in containers if each.get("name") == names.SERVER]
    kinds = sum(each in predictor for each in ("model", *FORMATS)) + len(servers)
    if kinds == 0 and containers:
        kinds = 1
    if kinds != 1:
        yield f"exactly one of [{_KINDS}] must be specified in PredictorSpec"
    if model is None:
        for variable in containers[0].get("env") or ():
            value = variable.get("value", "")
            if variable.get("name") == names.PROTOCOL_VARIABLE and value not in _PROTOCOLS:
                yield f"invalid protocol {', '.join(_PROTOCOLS)}. Must be one of [{value}]"
        if not servers:
            yield f"predictor has no container {names.SERVER}"


def _scaled(obj: Object) -> Iterator[str]:
    predictor, annotations = obj["spec"]["predictor"], obj["metadata"].get("annotations") or {}
    least, most = predictor.get("minReplicas", 1), predictor.get("maxReplicas", 0)
    if predictor.get("containerConcurrency", 0) < 0:
        yield "parallelism cannot be less than 0"
    if least < 0:
        yield "'MinReplicas' cannot be less than 0"
    if most < 0:
        yield "'MaxReplicas' cannot be less than 0"
    if most and least > most:
        yield "'MinReplicas' cannot be greater than MaxReplicas"
    if annotations.get(names.AUTOSCALER_CLASS) != "hpa":
        return
    metric, target = predictor.get("scaleMetric", "cpu"), predictor.get("scaleTarget")
    if metric not in _METRICS:
        yield f"[{metric}] is not a supported metric"
    # As it stands there: memory has the upper bound too.
    if target is not None and ((metric == "cpu" and target < 1) or target > 100):
        yield "the target utilization percentage should be a [1-100] integer"
    if target is not None and metric == "memory" and target < 1:
        yield "the target memory should be greater than 1 MiB"


def _beyond(obj: Object) -> Iterator[FieldError]:
    spec, annotations = obj["spec"], obj["metadata"].get("annotations") or {}
    predictor = spec["predictor"]
    model = predictor.get("model") or {}
    if annotations.get(names.MODE) != names.STANDARD:
        yield _unmodeled(f"metadata.annotations[{names.MODE}]", "use Standard")
    if annotations.get(names.AUTOSCALER_CLASS) == "keda":
        yield _unmodeled(f"metadata.annotations[{names.AUTOSCALER_CLASS}]", "use hpa or none")
    for part in ("transformer", "explainer", "canary"):
        if spec.get(part):
            yield _unmodeled(f"spec.{part}")
    for part in _UNMODELLED:
        if predictor.get(part):
            yield _unmodeled(f"{_PREDICTOR}.{part}")
    for part in ("storage", "confidential"):
        if model.get(part):
            yield _unmodeled(f"{_PREDICTOR}.model.{part}")
    for number, each in enumerate((predictor.get("autoScaling") or {}).get("metrics") or ()):
        if each.get("type") != "Resource" or "resource" not in each:
            where = f"{_PREDICTOR}.autoScaling.metrics[{number}]"
            yield _unmodeled(where, "use type Resource")
    place = source(predictor)
    if place and not place.startswith(names.CLAIM):
        where = f"{_PREDICTOR}.model.storageUri" if model else f"{_PREDICTOR}.containers[0].env"
        yield _unmodeled(where, "there is no network to load from; use pvc://CLAIM/PATH")


def _unmodeled(path: str, instead: str = "") -> FieldError:
    return unmodeled(path, "kserve", instead)
