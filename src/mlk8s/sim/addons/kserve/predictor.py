"""From an InferenceService and its runtime to the pods of its predictor.

The rules are those of KServe v0.20.0: ``buildPredictorResources`` in
``pkg/controller/v1beta1/inferenceservice/components/predictor.go``, the merging in
``inferenceservice/utils/utils.go``, ``createRawDefaultDeployment`` in
``reconcilers/deployment/deployment_reconciler.go``.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass

from mlk8s.sim.addons.kserve import names
from mlk8s.sim.addons.kserve.runtimes import Runtime, Unsuitable
from mlk8s.sim.decoding import read
from mlk8s.sim.patch import strategic_merge
from mlk8s.sim.schema import named
from mlk8s.sim.status import Object

CONTAINER = "io.k8s.api.core.v1.Container"
POD = "io.k8s.api.core.v1.PodSpec"
#: The fields of ``spec.predictor`` that are not those of a pod.
FORMATS = (
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
)
_OWN = (
    *FORMATS,
    "model",
    "name",
    "storageUris",
    "storageContainerName",
    "workerSpec",
    "minReplicas",
    "maxReplicas",
    "scaleTarget",
    "scaleMetric",
    "scaleMetricType",
    "autoScaling",
    "containerConcurrency",
    "timeout",
    "canaryTrafficPercent",
    "logger",
    "batcher",
    "labels",
    "annotations",
    "deploymentStrategy",
)
#: The fields of ``spec.predictor.model`` that are not those of a container.
_MODEL = (
    "modelFormat",
    "runtime",
    "storageUri",
    "runtimeVersion",
    "protocolVersion",
    "storage",
    "confidential",
)
# What of a runtime goes into the pod beside its containers.
_POD_PARTS = (
    "nodeSelector",
    "affinity",
    "tolerations",
    "volumes",
    "imagePullSecrets",
    "schedulerName",
)
# Servers whose image for GPUs is the same with another ending (UpdateImageTag).
_GPU_IMAGES = ("tensorflow-serving", "torchserve", "huggingfaceserver")
_TAG = re.compile(r":[\w.\-]*$")
_PLACEHOLDER = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")
_FIELD = re.compile(r"\.(Name|Namespace|(?:Labels|Annotations)\.(\w+))")


@dataclass(frozen=True)
class Plan:
    """What a predictor is to be like.

    Attributes:
        name: of its Deployment, Service and autoscaler.
        labels: of all of them and of the pods; the pods are selected by one of them.
        pod: the spec of the pods.
    """

    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    pod: Object


def pod_part(predictor: Object) -> Object:
    """What ``spec.predictor`` says of the pod itself."""
    return {key: value for key, value in predictor.items() if key not in _OWN}


def container_part(model: Object) -> Object:
    """What ``spec.predictor.model`` says of the container itself."""
    return {key: value for key, value in model.items() if key not in _MODEL}


def source(predictor: Object) -> str:
    """Where the model is; empty where nobody says so."""
    if "model" in predictor:
        return str(predictor["model"].get("storageUri") or "")
    for container in predictor.get("containers") or ():
        if container.get("name") == names.SERVER:
            for variable in container.get("env") or ():
                if variable["name"] == names.STORAGE_VARIABLE:
                    return str(variable.get("value") or "")
    return ""


def plan(service: Object, runtime: Runtime | None) -> Plan:
    """What the predictor of an InferenceService is to be like.

    Args:
        service: the InferenceService.
        runtime: of its model; ``None`` for containers of its own.

    Raises:
        Unsuitable: the runtime's containers do not fit.
    """
    metadata, predictor = service["metadata"], service["spec"]["predictor"]
    if runtime is None:
        pod = read(POD, copy.deepcopy(pod_part(predictor)))
        _own_server_first(pod["containers"])
    else:
        pod = _from_runtime(service, runtime)
    for container in pod["containers"]:
        _put_variable(container, names.NAME_VARIABLE, metadata["name"])
        _probe(container)
    name = names.predictor(metadata["name"], predictor.get("name", ""))
    spec = runtime.spec if runtime is not None else {}
    labels = {
        **(spec.get("labels") or {}),
        **(metadata.get("labels") or {}),
        **(predictor.get("labels") or {}),
        names.SERVICE_LABEL: metadata["name"],
        names.COMPONENT_LABEL: names.PREDICTOR,
        names.APP_LABEL: f"isvc.{name}",
    }
    annotations = {
        **_passed_on(spec.get("annotations")),
        **_passed_on(metadata.get("annotations")),
        **({names.SOURCE: source(predictor)} if source(predictor) else {}),
        **_passed_on(predictor.get("annotations")),
    }
    return Plan(name, labels, annotations, pod)


def _passed_on(annotations: dict[str, str] | None) -> dict[str, str]:
    found = (annotations or {}).items()
    return {key: text for key, text in found if key not in names.NOT_PASSED_ON}


def _own_server_first(containers: list[Object]) -> None:
    for container in containers:
        if container["name"] == names.SERVER:
            containers.remove(container)
            containers.insert(0, container)
            return


def _from_runtime(service: Object, runtime: Runtime) -> Object:
    predictor = service["spec"]["predictor"]
    model, mine = predictor["model"], pod_part(predictor)
    offered = {each["name"]: each for each in read_containers(runtime.spec)}
    if names.SERVER not in offered:
        said = f"failed to find {names.SERVER} in ServingRuntime containers"
        raise Unsuitable(said, "InvalidPredictorSpec", said)
    server = _merge(offered.pop(names.SERVER), container_part(model))
    server = _filled(server, service, runtime)
    _retag(server, model, runtime)
    added = {
        each["name"]: each for each in (read(POD, copy.deepcopy(mine)).get("containers") or ())
    }
    transformer = offered.pop(names.TRANSFORMER, None)
    own_transformer = added.pop(names.TRANSFORMER, None)
    if transformer is not None and own_transformer is not None:
        transformer = _merge(transformer, own_transformer)
    transformer = transformer or own_transformer
    containers = [server]
    if transformer is not None:
        containers.append(_filled(transformer, service, runtime))
    base = {key: copy.deepcopy(runtime.spec[key]) for key in _POD_PARTS if key in runtime.spec}
    rest = {key: value for key, value in mine.items() if key != "containers"}
    pod = strategic_merge(read(POD, base), copy.deepcopy(rest), named(POD))
    pod["containers"] = [*containers, *offered.values(), *added.values()]
    return pod


def read_containers(spec: Object) -> list[Object]:
    """The containers of a runtime."""
    return [read(CONTAINER, copy.deepcopy(each)) for each in spec["containers"]]


def _merge(container: Object, patch: Object) -> Object:
    """A runtime's container with what an InferenceService says; its arguments are added."""
    arguments = [*(container.get("args") or ()), *(patch.get("args") or ())]
    wanted = {key: value for key, value in copy.deepcopy(patch).items() if key != "args"}
    merged = strategic_merge(container, wanted, named(CONTAINER))
    if arguments:
        merged["args"] = arguments
    return merged


def _filled(container: Object, service: Object, runtime: Runtime) -> Object:
    """A container with its placeholders replaced, which are Go templates over the metadata.

    Raises:
        Unsuitable: there is one of another kind than the plain fields.
    """
    metadata = service["metadata"]
    known = {"Name": metadata["name"], "Namespace": metadata["namespace"]}

    def put(found: re.Match[str]) -> str:
        field = _FIELD.fullmatch(found[1])
        if field is None:
            said = (
                f"failed to replace placeholders in serving runtime {runtime.name} Container "
                f"{container['name']}"
            )
            raise Unsuitable(said, "InvalidPredictorSpec", said)
        if field[2] is None:
            value = known[field[1]]
        else:
            part = field[1].partition(".")[0].lower()
            value = (metadata.get(part) or {}).get(field[2], "<no value>")
        return json.dumps(value)[1:-1]

    filled: Object = json.loads(_PLACEHOLDER.sub(put, json.dumps(container)))
    return filled


def _retag(container: Object, model: Object, runtime: Runtime) -> None:
    """The image in the version that is asked for, or in that for GPUs."""
    image = str(container.get("image") or "")
    if "@sha256:" in image:
        return
    if version := model.get("runtimeVersion"):
        container["image"] = f"{_TAG.sub('', image)}:{version}"
        return
    limits = (container.get("resources") or {}).get("limits") or {}
    has_gpu = any(name.endswith("/gpu") for name in limits)
    if has_gpu and runtime.server_type in _GPU_IMAGES and _TAG.search(image):
        container["image"] = image if image.endswith("-gpu") else f"{image}-gpu"


def _put_variable(container: Object, name: str, value: str) -> None:
    variables = container.setdefault("env", [])
    for each in variables:
        if each["name"] == name:
            each["value"] = value
            return
    variables.append({"name": name, "value": value})


def _probe(container: Object) -> None:
    """A server is ready when something listens on its first port."""
    if container["name"] in (names.SERVER, names.TRANSFORMER) and "readinessProbe" not in container:
        container["readinessProbe"] = {
            "tcpSocket": {"port": first_port(container)},
            "timeoutSeconds": 1,
            "periodSeconds": 10,
            "successThreshold": 1,
            "failureThreshold": 3,
        }


def first_port(container: Object) -> int:
    """Where a server listens: the first port that it declares, or 8080."""
    ports = container.get("ports") or ()
    return int(ports[0]["containerPort"]) if ports else names.PORT
