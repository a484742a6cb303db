"""Which runtime serves a model, and what becomes of its containers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ..lab import GPU
from .lab import CORE, RUNTIMES, SERVICES, ServingLab, runtime


def test_the_runtimes_of_an_installation(lab: ServingLab) -> None:
    lab.serve("m", {"model": {"modelFormat": {"name": "huggingface"}}})
    assert lab.service("m")["status"]["clusterServingRuntimeName"] == "kserve-huggingfaceserver"
    container = lab.container("m")
    assert container["image"] == "kserve/huggingfaceserver:v0.20.0"
    assert container["args"] == ["--model_name=m"]
    assert container["readinessProbe"]["tcpSocket"] == {"port": 8080}
    annotations = lab.deployment("m")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.kserve.io/port"] == "8080"
    # Its own framework is noted, and not passed on.
    assert lab.service("m")["metadata"]["annotations"]["modelFormat"] == "huggingface"
    assert "modelFormat" not in annotations


def test_a_gpu_takes_the_image_for_gpus(lab: ServingLab) -> None:
    model = {"modelFormat": {"name": "huggingface"}, "resources": {"limits": {GPU: "1"}}}
    lab.serve("m", {"model": model})
    container = lab.container("m")
    assert container["image"] == "kserve/huggingfaceserver:v0.20.0-gpu"
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "2Gi", GPU: "1"}
    lab.serve("n", {"model": {**model, "runtimeVersion": "v0.19.0"}})
    assert lab.container("n")["image"] == "kserve/huggingfaceserver:v0.19.0"


def test_a_model_on_a_claim(lab: ServingLab) -> None:
    """The mount is the pod's alone; so is what this machine needs."""
    lab.serve(
        "m",
        {"model": {"modelFormat": {"name": "huggingface"}, "storageUri": "pvc://models/a/b"}},
    )
    template = lab.deployment("m")["spec"]["template"]
    source = "internal.serving.kserve.io/storage-initializer-sourceuri"
    assert template["metadata"]["annotations"][source] == "pvc://models/a/b"
    assert [each["name"] for each in template["spec"]["volumes"]] == ["devshm"]
    [pod] = lab.predictors("m")
    [container] = pod["spec"]["containers"]
    assert container["volumeMounts"][-1] == {
        "name": "kserve-pvc-source",
        "mountPath": "/mnt/models",
        "readOnly": True,
        "subPath": "a/b",
    }
    claim = {"claimName": "models"}
    assert pod["spec"]["volumes"][-1] == {
        "name": "kserve-pvc-source",
        "persistentVolumeClaim": claim,
    }
    assert "initContainers" not in pod["spec"]
    assert container["args"] == [
        "--model_name=m",
        "--http_port=$(MLK8S_PORT_8080)",
        "--model_dir=/mnt/models",
    ]
    annotations = pod["metadata"]["annotations"]
    changed = "ports,--http_port,--model_dir"
    assert annotations["mlk8s.dev/set-for-this-machine"] == changed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--http_port=8080"], ["--http_port=$(MLK8S_PORT_8080)"]),
        (["--http_port", "8080"], ["--http_port", "$(MLK8S_PORT_8080)"]),
        (["--workers=1"], ["--workers=1"]),
    ],
)
def test_a_server_learns_its_port(lab: ServingLab, words: list[str], expected: list[str]) -> None:
    lab.own("m", container={"image": "busybox", "command": ["sleep", "60"], "args": words})
    [pod] = lab.predictors("m")
    [container] = pod["spec"]["containers"]
    assert container["args"] == expected
    assert container["ports"] == [{"containerPort": 8080, "protocol": "TCP"}]
    assert lab.container("m")["args"] == words
    # One that is no process is left as it is.
    lab.own("n", container={"args": words})
    [pod] = lab.predictors("n")
    assert pod["spec"]["containers"][0]["args"] == words
    assert "mlk8s.dev/set-for-this-machine" not in pod["metadata"]["annotations"]


def test_the_server_is_reached_through_the_proxy(lab: ServingLab) -> None:
    script = (
        "import http.server, sys\n"
        "port = int(sys.argv[1].partition('=')[2])\n"
        "handler = http.server.SimpleHTTPRequestHandler\n"
        "http.server.HTTPServer(('127.0.0.1', port), handler).serve_forever()\n"
    )
    container = {"image": "python", "command": ["python", "-c", script]}
    lab.own("m", container={**container, "args": ["--http_port=8080"]})
    lab.until(lambda: lab.conditions("m")["Ready"][0] == "True", 20)
    [pod] = lab.predictors("m")
    ports = json.loads(pod["metadata"]["annotations"]["mlk8s.dev/ports"])
    assert list(ports) == ["kserve-container/8080"]
    # Endpoints follow a moment later.
    lab.wait()
    answer = lab.client("GET", f"{CORE}/services/m-predictor:80/proxy/")
    assert (answer.status, b"Directory listing" in answer.body) == (200, True)


def test_the_highest_priority_serves(lab: ServingLab) -> None:
    for name, priority in (("low", 1), ("high", 2)):
        formats = [{"name": "onnx", "version": "1", "autoSelect": True, "priority": priority}]
        lab.runtime(name, formats=formats)
    lab.runtime("none")
    lab.model("m")
    assert lab.service("m")["status"]["servingRuntimeName"] == "high"
    lab.model("versioned", modelFormat={"name": "onnx", "version": "1"})
    assert lab.service("versioned")["status"]["servingRuntimeName"] == "high"
    lab.model("named", runtime="low")
    assert lab.service("named")["status"]["servingRuntimeName"] == "low"


def test_merging(lab: ServingLab) -> None:
    lab.runtime(
        "r",
        container={
            "args": ["--model_name={{.Name}}", "--at={{ .Namespace }}/{{.Labels.team}}"],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}],
            "resources": {"limits": {"cpu": "1"}},
        },
        labels={"from": "runtime"},
        nodeSelector={"kubernetes.io/os": "linux"},
        volumes=[{"name": "scratch", "emptyDir": {}}],
    )
    model = {
        "modelFormat": {"name": "onnx"},
        "args": ["--more"],
        "env": [{"name": "B", "value": "2"}],
        "resources": {"limits": {"memory": "1Gi"}},
    }
    predictor = {"model": model, "labels": {"by": "predictor"}, "tolerations": [{"key": "x"}]}
    body = lab.body("m", {**predictor, "containers": [{"name": "side", "image": "busybox"}]})
    body["metadata"]["labels"] = {"team": "red", "from": "service"}
    assert lab.post(SERVICES, body).status == 201
    lab.wait()
    template = lab.deployment("m")["spec"]["template"]
    server, side = template["spec"]["containers"]
    assert server["args"] == ["--model_name=m", "--at=default/red", "--more"]
    values = {each["name"]: each["value"] for each in server["env"]}
    assert values == {"A": "1", "B": "2", "INFERENCE_SERVICE_NAME": "m"}
    assert server["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}
    assert side["name"] == "side"
    assert template["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert template["spec"]["tolerations"] == [{"key": "x"}]
    assert template["spec"]["volumes"] == [{"name": "scratch", "emptyDir": {}}]
    labels = template["metadata"]["labels"]
    assert (labels["from"], labels["by"], labels["team"]) == ("service", "predictor", "red")


@pytest.mark.parametrize(
    ("made", "model", "reason", "said", "event"),
    [
        (
            {"disabled": True},
            {"runtime": "r"},
            "RuntimeDisabled",
            "Specified runtime is disabled",
            "specified runtime r is disabled",
        ),
        (
            {"protocolVersions": ["v2"]},
            {"runtime": "r", "protocolVersion": "v1"},
            "NoSupportingRuntime",
            "Specified runtime does not support specified protocol version",
            "specified runtime r does not support specified protocol version",
        ),
        (
            {},
            {"runtime": "r", "modelFormat": {"name": "pmml"}},
            "NoSupportingRuntime",
            "Specified runtime does not support specified framework/version",
            "specified runtime r does not support specified framework/version",
        ),
        (
            {"multiModel": True},
            {},
            "NoSupportingRuntime",
            "No runtime found to support specified framework/version",
            "no runtime found to support predictor with model type: {onnx <nil>}",
        ),
        (
            {"container": {"args": ["{{ .Nothing }}"]}},
            {},
            "InvalidPredictorSpec",
            "failed to replace placeholders in serving runtime r Container kserve-container",
            "failed to replace placeholders in serving runtime r Container kserve-container",
        ),
    ],
)
def test_no_runtime_fits(
    lab: ServingLab,
    made: dict[str, Any],
    model: dict[str, Any],
    reason: str,
    said: str,
    event: str,
) -> None:
    lab.runtime("r", **made)
    lab.model("m", **model)
    status = lab.service("m")["status"]
    assert status["modelStatus"] == {
        "transitionStatus": "InvalidSpec",
        "states": {"activeModelState": "", "targetModelState": "FailedToLoad"},
        "lastFailureInfo": {"reason": reason, "message": said},
    }
    assert ("Warning", "InternalError", event) in lab.events("m")
    assert lab.conditions("m")["Ready"] == ("Unknown", "")


def test_a_runtime_that_comes_later(lab: ServingLab) -> None:
    lab.model("m", runtime="r")
    model = lab.service("m")["status"]["modelStatus"]
    assert model["lastFailureInfo"]["reason"] == "RuntimeNotRecognized"
    text = "No ServingRuntimes or ClusterServingRuntimes with the name: r"
    assert ("Warning", "InternalError", text) in lab.events("m")
    lab.runtime("r")
    lab.wait(30)
    assert lab.conditions("m")["Ready"] == ("True", "")


def test_a_changed_runtime_rolls_out(lab: ServingLab) -> None:
    lab.runtime("r")
    lab.model("m")
    lab.wait(5)
    container = {"name": "kserve-container", "image": "registry.k8s.io/pause:3.9"}
    lab.patch(f"{RUNTIMES}/r", {"spec": {"containers": [container]}})
    lab.wait(5)
    assert lab.container("m")["image"] == "registry.k8s.io/pause:3.9"


def test_runtimes_are_refused(lab: ServingLab) -> None:
    def refused(name: str, format: str = "onnx", **spec: object) -> str:
        answer = lab.post(RUNTIMES, runtime(name, format, **spec))
        assert answer.status == 403, answer.body
        return answer.message

    webhook = (
        'admission webhook "servingruntime.kserve-webhook-server.validator" denied the request: '
    )
    first = [{"name": "onnx", "autoSelect": True, "priority": 1}]
    lab.runtime("one", formats=first, protocolVersions=["v2"])
    assert refused("two", formats=first, protocolVersions=["v1", "v2"]) == (
        f"{webhook}same priority assigned for the model format onnx in the servingruntimes one and "
        "two in namespace default"
    )
    versions = [
        {"name": "pmml", "version": "1", "autoSelect": True, "priority": 1},
        {"name": "pmml", "version": "2", "autoSelect": True, "priority": 2},
    ]
    assert refused("two", formats=versions) == (
        f"{webhook}different priorities assigned for the model format pmml under the "
        "servingruntime two"
    )
    path = {"env": [{"name": "PYTHONPATH", "value": "/x"}]}
    assert refused("two", container=path) == (
        f'{webhook}the ServingRuntime "two" is invalid: setting PYTHONPATH in container '
        '"kserve-container" is not allowed for security reasons'
    )
    assert 'unknown field "spec.containers[0].arguments"' in (
        refused("two", container={"arguments": []})
    )
    assert "add-on kserve does not model this" in refused("two", workerSpec={"containers": []})
