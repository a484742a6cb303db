"""What the webhooks of InferenceServices complete, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from .lab import SERVICES, ServingLab

WEBHOOK = (
    'admission webhook "inferenceservice.kserve-webhook-server.validator" denied the request: '
)
OWN = {"containers": [{"image": "busybox"}]}
MODEL = {"modelFormat": {"name": "onnx"}}
EXACTLY_ONE = (
    "exactly one of [Name, SKLearn, XGBoost, Tensorflow, PyTorch, Triton, ONNX, HuggingFace, PMML, "
    "LightGBM, Paddle, Model, StorageUris, StorageContainerName, WorkerSpec, PodSpec] must be "
    "specified in PredictorSpec"
)


@pytest.mark.parametrize(
    ("predictor", "message"),
    [
        ({}, EXACTLY_ONE),
        ({"model": MODEL, "containers": [{"name": "kserve-container"}]}, EXACTLY_ONE),
        ({**OWN, "minReplicas": -1}, "'MinReplicas' cannot be less than 0"),
        ({**OWN, "maxReplicas": -1}, "'MaxReplicas' cannot be less than 0"),
        (
            {**OWN, "minReplicas": 3, "maxReplicas": 2},
            "'MinReplicas' cannot be greater than MaxReplicas",
        ),
        ({**OWN, "containerConcurrency": -1}, "parallelism cannot be less than 0"),
        (
            {"model": {**MODEL, "name": "x"}},
            "the 'name' field is not allowed in standard predictor",
        ),
        (
            {"containers": [{"image": "busybox", "env": [{"name": "PYTHONPATH", "value": "/x"}]}]},
            'the InferenceService "m" is invalid: setting PYTHONPATH in container '
            '"kserve-container" is not allowed for security reasons',
        ),
    ],
)
def test_kserve_refuses(lab: ServingLab, predictor: dict[str, Any], message: str) -> None:
    assert lab.refused(predictor) == WEBHOOK + message


@pytest.mark.parametrize(
    ("annotations", "predictor", "message"),
    [
        ({"autoscalerClass": "x"}, OWN, "[x] is not a supported autoscaler class type"),
        (
            {"autoscalerClass": "hpa"},
            {**OWN, "scaleMetric": "rps"},
            "[rps] is not a supported metric",
        ),
        (
            {"autoscalerClass": "hpa"},
            {**OWN, "scaleTarget": 101},
            "the target utilization percentage should be a [1-100] integer",
        ),
    ],
)
def test_autoscaling_is_checked(
    lab: ServingLab, annotations: dict[str, str], predictor: dict[str, Any], message: str
) -> None:
    told = {f"serving.kserve.io/{key}": text for key, text in annotations.items()}
    assert lab.refused(predictor, annotations=told) == WEBHOOK + message


def test_names(lab: ServingLab) -> None:
    message = lab.refused(OWN, name="1st")
    assert message.startswith(f'{WEBHOOK}the InferenceService "1st" is invalid: a InferenceService')
    assert message.endswith("regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')")


@pytest.mark.parametrize(
    ("predictor", "spec", "path"),
    [
        ({"model": {**MODEL, "storageUri": "s3://b/m"}}, {}, "spec.predictor.model.storageUri"),
        ({"model": {**MODEL, "storageUri": "hf://m"}}, {}, "spec.predictor.model.storageUri"),
        ({"model": {**MODEL, "storage": {"key": "x"}}}, {}, "spec.predictor.model.storage"),
        (OWN, {"transformer": OWN}, "spec.transformer"),
        (OWN, {"explainer": OWN}, "spec.explainer"),
        (OWN, {"canary": [{"trafficPercent": 10}]}, "spec.canary"),
        ({**OWN, "logger": {"mode": "all"}}, {}, "spec.predictor.logger"),
        ({**OWN, "workerSpec": {"tensorParallelSize": 2}}, {}, "spec.predictor.workerSpec"),
    ],
)
def test_what_is_not_modeled_says_so(
    lab: ServingLab, predictor: dict[str, Any], spec: dict[str, Any], path: str
) -> None:
    message = lab.refused(predictor, **spec)
    assert message.startswith(f"{WEBHOOK}{path}: Forbidden: ")
    assert "the embedded cluster's add-on kserve does not model this" in message


def test_other_modes(lab: ServingLab) -> None:
    mode = "serving.kserve.io/deploymentMode"
    for asked in ("Knative", "Serverless", "ModelMesh"):
        message = lab.refused(OWN, annotations={mode: asked})
        assert f"metadata.annotations[{mode}]: Forbidden: " in message
        assert message.endswith("does not model this: use Standard")
    lab.own("m", {mode: "RawDeployment"})
    assert lab.service("m")["metadata"]["annotations"][mode] == "Standard"


def test_pods_are_read_by_kubernetes(lab: ServingLab) -> None:
    message = lab.refused({**OWN, "minReplica": 2})
    assert 'unknown field "spec.predictor.minReplica"' in message
    message = lab.refused({"model": {**MODEL, "argument": []}})
    assert 'unknown field "spec.predictor.model.argument"' in message


def test_the_old_way_to_name_a_format(lab: ServingLab) -> None:
    lab.serve("m", {"huggingface": {"args": ["--x"]}})
    assert lab.service("m")["spec"]["predictor"] == {
        "model": {
            "modelFormat": {"name": "huggingface"},
            "protocolVersion": "v2",
            "args": ["--x"],
        }
    }
    assert lab.container("m")["args"] == ["--model_name=m", "--x"]


def test_a_variant_is_renamed_with_its_model_alone(lab: ServingLab) -> None:
    lab.own("m")
    answer = lab.patch(f"{SERVICES}/m", {"spec": {"predictor": {"name": "blue"}}})
    text = "predictor.name change requires a model change (e.g. storageUri)"
    assert (answer.status, answer.message) == (403, WEBHOOK + text)


def test_the_schema(lab: ServingLab) -> None:
    message = lab.refused({"model": {"runtime": "r"}})
    assert "spec.predictor.model.modelFormat: Required value" in message
    assert 'Unsupported value: "qps"' in lab.refused({**OWN, "scaleMetric": "qps"})
