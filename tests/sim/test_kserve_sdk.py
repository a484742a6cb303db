"""KServe's own model server and classes, unmodified, on the embedded cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from kserve import (  # type: ignore[import-untyped]
    V1beta1InferenceService,
    V1beta1InferenceServiceSpec,
    V1beta1ModelFormat,
    V1beta1ModelSpec,
    V1beta1PredictorSpec,
)
from kubernetes import client, config

from mlk8s.sim import Cluster

RESOURCE = ("serving.kserve.io", "v1beta1", "default", "inferenceservices")
# A model server that adds a number; on a cluster it would be the entrypoint of an image.
SERVER = """
import argparse
from kserve import Model, ModelServer, model_server

class Adder(Model):
    def __init__(self, name, number):
        super().__init__(name)
        self.number, self.ready = number, True

    def predict(self, payload, headers=None, response_headers=None):
        return {"predictions": [each + self.number for each in payload["instances"]]}

parser = argparse.ArgumentParser(parents=[model_server.parser])
parser.add_argument("--number", type=int)
found, _ = parser.parse_known_args()
server = ModelServer(http_port=found.http_port, enable_grpc=False)
server.start([Adder(found.model_name, found.number)])
"""
GPU = "nvidia.com/gpu"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("h100x8", addons=["kserve"]) as found:
        yield found
        log = (found.directory / "server.log").read_text()
        assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> client.ApiClient:
    return config.new_client_from_config(str(cluster.kubeconfig))


def service(name: str, predictor: V1beta1PredictorSpec) -> V1beta1InferenceService:
    return V1beta1InferenceService(
        api_version="serving.kserve.io/v1beta1",
        kind="InferenceService",
        metadata=client.V1ObjectMeta(name=name),
        spec=V1beta1InferenceServiceSpec(predictor=predictor),
    )


def adder(name: str, number: int, gpus: int = 0) -> V1beta1InferenceService:
    container = client.V1Container(
        name="kserve-container",
        image="mlk8s/course",
        command=["python", "-c", SERVER],
        args=["--http_port=8080", f"--model_name={name}", f"--number={number}"],
        resources=client.V1ResourceRequirements(limits={GPU: str(gpus)} if gpus else {}),
    )
    return service(name, V1beta1PredictorSpec(containers=[container], min_replicas=1))


def condition(api: client.ApiClient, name: str, type: str) -> dict[str, Any]:
    found = client.CustomObjectsApi(api).get_namespaced_custom_object(*RESOURCE, name)
    said = found.get("status", {}).get("conditions", [])
    return next((each for each in said if each["type"] == type), {})


def until_ready(api: client.ApiClient, name: str) -> None:
    deadline = time.monotonic() + 60
    while condition(api, name, "Ready").get("status") != "True":
        assert time.monotonic() < deadline, f"{name} is not ready"
        time.sleep(0.2)


def predict(api: client.ApiClient, name: str, *numbers: int) -> list[int]:
    """A prediction through the API server; the path is the same on a real cluster."""
    where = f"/api/v1/namespaces/default/services/{name}-predictor:80/proxy"
    answer, status, _ = api.call_api(
        f"{where}/v1/models/{name}:predict",
        "POST",
        body={"instances": numbers},
        header_params={"Content-Type": "application/json"},
        response_type="object",
        auth_settings=["BearerToken"],
    )
    assert status == 200
    return list(answer["predictions"])


def test_two_services_predict_at_once(api: client.ApiClient) -> None:
    objects, core = client.CustomObjectsApi(api), client.CoreV1Api(api)
    numbers = {"one": 1, "ten": 10}
    for name, number in numbers.items():
        objects.create_namespaced_custom_object(*RESOURCE, adder(name, number, gpus=4))
    for name, number in numbers.items():
        until_ready(api, name)
        assert predict(api, name, 1, 2) == [1 + number, 2 + number]
        found = core.connect_get_namespaced_service_proxy_with_path(
            f"{name}-predictor:80", "default", "v2/health/ready", _preload_content=False
        )
        assert (found.status, found.data) == (200, b'{"ready":true}')
    # The node's eight GPUs are given away: a third one waits.
    objects.create_namespaced_custom_object(*RESOURCE, adder("late", 0, gpus=1))
    deadline = time.monotonic() + 20
    while not (waiting := pods(core, "late")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert waiting[0].status.phase == "Pending"
    assert predict(api, "one", 3) == [4]
    for name in (*numbers, "late"):
        objects.delete_namespaced_custom_object(*RESOURCE, name)
    deadline = time.monotonic() + 40
    while any(pods(core, name) for name in (*numbers, "late")):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def pods(core: client.CoreV1Api, name: str) -> list[Any]:
    selector = f"serving.kserve.io/inferenceservice={name}"
    return list(core.list_namespaced_pod("default", label_selector=selector).items)


def test_a_format_without_a_runtime(api: client.ApiClient) -> None:
    objects = client.CustomObjectsApi(api)
    model = V1beta1ModelSpec(model_format=V1beta1ModelFormat(name="pmml"))
    objects.create_namespaced_custom_object(
        *RESOURCE, service("none", V1beta1PredictorSpec(model=model))
    )
    deadline = time.monotonic() + 10
    while not (found := failure(objects, "none")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found == {
        "reason": "NoSupportingRuntime",
        "message": "No runtime found to support specified framework/version",
    }
    objects.delete_namespaced_custom_object(*RESOURCE, "none")


def failure(objects: client.CustomObjectsApi, name: str) -> dict[str, str]:
    found = objects.get_namespaced_custom_object(*RESOURCE, name)
    model = (found.get("status") or {}).get("modelStatus") or {}
    return dict(model.get("lastFailureInfo") or {})
