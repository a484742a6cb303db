"""An InferenceService becomes a Deployment, a Service, an autoscaler and an Ingress."""

from __future__ import annotations

import pytest

from ..lab import GPU
from .lab import AUTOSCALERS, CORE, INGRESSES, SERVICES, ServingLab

ADDRESS = "http://m-predictor.default.svc.cluster.local"


def test_before_it_is_ready(lab: ServingLab) -> None:
    late = {"tcpSocket": {"port": 8080}, "initialDelaySeconds": 10}
    lab.own("m", container={"readinessProbe": late})
    lab.wait(3)
    assert lab.conditions("m") == {
        "IngressReady": ("False", "Predictor ingress not created"),
        "PredictorReady": ("False", "MinimumReplicasUnavailable"),
        "Ready": ("False", "Predictor ingress not created"),
        "Stopped": ("False", ""),
    }
    status = lab.service("m")["status"]
    assert status["modelStatus"] == {
        "copies": {"failedCopies": 0},
        "states": {"activeModelState": "", "targetModelState": "Pending"},
        "transitionStatus": "InProgress",
    }
    assert "url" not in status


def test_a_server_of_ones_own(lab: ServingLab) -> None:
    lab.own("m")
    lab.wait(5)
    assert lab.conditions("m") == {
        "IngressReady": ("True", ""),
        "PredictorReady": ("True", "NewReplicaSetAvailable"),
        "Ready": ("True", ""),
        "Stopped": ("False", ""),
    }
    status = lab.service("m")["status"]
    assert status["url"] == "http://m-default.example.com"
    assert status["address"] == {"url": ADDRESS}
    assert status["components"] == {
        "predictor": {"url": "http://m-predictor-default.example.com"},
    }
    assert status["deploymentMode"] == "Standard"
    assert status["modelStatus"] == {
        "copies": {"failedCopies": 0, "totalCopies": 1},
        "states": {"activeModelState": "Loaded", "targetModelState": "Loaded"},
        "transitionStatus": "UpToDate",
    }
    reason = ("Normal", "InferenceServiceReady", "InferenceService [m] is Ready")
    assert reason in lab.events("m")
    container = lab.container("m")
    assert container["name"] == "kserve-container"
    amounts = {"cpu": "1", "memory": "2Gi"}
    assert container["resources"] == {"limits": amounts, "requests": amounts}
    assert container["readinessProbe"]["tcpSocket"] == {"port": 8080}
    assert {"name": "INFERENCE_SERVICE_NAME", "value": "m"} in container["env"]
    labels = {
        "app": "isvc.m-predictor",
        "component": "predictor",
        "serving.kserve.io/inferenceservice": "m",
    }
    [pod] = lab.predictors("m")
    assert labels.items() <= pod["metadata"]["labels"].items()
    service = lab.get(f"{CORE}/services/m-predictor")["spec"]
    assert service["selector"] == {"app": "isvc.m-predictor"}
    [port] = service["ports"]
    assert (port["port"], port["targetPort"]) == (80, 8080)
    rules = lab.get(f"{INGRESSES}/m")["spec"]["rules"]
    hosts = ["m-default.example.com", "m-predictor-default.example.com"]
    assert [each["host"] for each in rules] == hosts


def test_columns(lab: ServingLab) -> None:
    lab.own("m")
    lab.wait(5)
    names, [row] = lab.table(SERVICES)
    assert names[:4] == ["NAME", "URL", "READY", "PREV"]
    assert row[:4] == ["m", "http://m-default.example.com", "True", None]


def test_ports_of_a_container(lab: ServingLab) -> None:
    ports = [{"containerPort": 9000, "name": "http1"}, {"containerPort": 9001, "name": "grpc"}]
    lab.own("m", container={"ports": ports})
    found = lab.get(f"{CORE}/services/m-predictor")["spec"]["ports"]
    assert [(each["name"], each["port"], each["targetPort"]) for each in found] == [
        ("http1", 80, 9000),
        ("grpc", 9001, 9001),
    ]
    assert found[1]["appProtocol"] == "kubernetes.io/h2c"
    assert lab.container("m")["readinessProbe"]["tcpSocket"] == {"port": 9000}


@pytest.mark.parametrize(
    ("wanted", "least", "most"),
    [({}, 1, 1), ({"minReplicas": 0, "maxReplicas": 3}, 1, 3), ({"minReplicas": 2}, 2, 2)],
)
def test_bounds_of_the_autoscaler(
    lab: ServingLab, wanted: dict[str, int], least: int, most: int
) -> None:
    lab.own("m", **wanted)
    spec = lab.get(f"{AUTOSCALERS}/m-predictor")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (least, most)
    assert spec["scaleTargetRef"]["name"] == "m-predictor"
    target = {"type": "Utilization", "averageUtilization": 80}
    assert spec["metrics"] == [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]


def test_what_is_scaled_by(lab: ServingLab) -> None:
    lab.own("m", scaleMetric="memory", scaleTarget=70, maxReplicas=4)
    [metric] = lab.get(f"{AUTOSCALERS}/m-predictor")["spec"]["metrics"]
    target = {"type": "Utilization", "averageUtilization": 70}
    assert metric["resource"] == {"name": "memory", "target": target}


def test_without_an_autoscaler(lab: ServingLab) -> None:
    none = {"serving.kserve.io/autoscalerClass": "none"}
    lab.own("m", none, minReplicas=2)
    assert not lab.there(f"{AUTOSCALERS}/m-predictor")
    assert lab.deployment("m")["spec"]["replicas"] == 2
    lab.patch(f"{SERVICES}/m", {"spec": {"predictor": {"minReplicas": 0}}})
    lab.wait()
    assert lab.deployment("m")["spec"]["replicas"] == 0


def test_a_change_rolls_out(lab: ServingLab) -> None:
    lab.own("m")
    lab.wait(5)
    assert lab.get(f"{AUTOSCALERS}/m-predictor")["spec"]["maxReplicas"] == 1
    before = lab.deployment("m")["metadata"]["generation"]
    lab.wait(30)
    # Nothing is written where nothing changes.
    assert lab.deployment("m")["metadata"]["generation"] == before
    container = {"name": "kserve-container", "image": "registry.k8s.io/pause:3.9"}
    lab.patch(f"{SERVICES}/m", {"spec": {"predictor": {"containers": [container]}}})
    lab.wait(5)
    assert lab.container("m")["image"] == "registry.k8s.io/pause:3.9"
    lab.wait(35)
    [pod] = lab.predictors("m")
    assert pod["spec"]["containers"][0]["image"] == "registry.k8s.io/pause:3.9"
    lab.client("DELETE", f"{CORE}/services/m-predictor")
    lab.wait()
    assert lab.there(f"{CORE}/services/m-predictor")


def test_a_server_that_crashes(lab: ServingLab) -> None:
    script = "echo no such model > /dev/termination-log; exit 3"
    crashing = {"image": "busybox", "command": ["sh", "-c", script]}
    lab.own("m", container=crashing)

    def failed() -> bool:
        status = lab.service("m")["status"]
        return bool(status["modelStatus"]["transitionStatus"] == "BlockedByFailedLoad")

    lab.until(failed)
    model = lab.service("m")["status"]["modelStatus"]
    assert model["states"] == {"activeModelState": "", "targetModelState": "FailedToLoad"}
    assert model["lastFailureInfo"] == {
        "reason": "ModelLoadFailed",
        "message": "no such model\n",
        "exitCode": 3,
    }
    assert lab.conditions("m")["Ready"][0] == "False"


def test_gpus_are_scheduled_and_counted(lab: ServingLab) -> None:
    quota = {"metadata": {"name": "gpus"}, "spec": {"hard": {f"requests.{GPU}": "2"}}}
    assert lab.post(f"{CORE}/resourcequotas", quota).status == 201
    lab.own("m", container={"resources": {"limits": {GPU: "2"}}})
    lab.wait(5)
    assert lab.conditions("m")["Ready"] == ("True", "")
    assert lab.get(f"{CORE}/resourcequotas/gpus")["status"]["used"] == {f"requests.{GPU}": "2"}
    lab.own("more", container={"resources": {"limits": {GPU: "1"}}})
    lab.wait(5)
    status, reason = lab.conditions("more")["PredictorReady"]
    assert (status, reason) == ("False", "FailedCreate")
    [message] = [
        each["message"]
        for each in lab.service("more")["status"]["conditions"]
        if each["type"] == "PredictorReady"
    ]
    assert f"exceeded quota: gpus, requested: requests.{GPU}=1" in message


def test_stopping(lab: ServingLab) -> None:
    lab.own("m")
    lab.wait(5)
    stop = {"metadata": {"annotations": {"serving.kserve.io/stop": "true"}}}
    lab.patch(f"{SERVICES}/m", stop)
    lab.wait(40)
    assert lab.predictors("m") == []
    for path in (f"{CORE}/services/m-predictor", f"{AUTOSCALERS}/m-predictor", f"{INGRESSES}/m"):
        assert not lab.there(path)
    assert lab.conditions("m") == {
        "IngressReady": ("False", "Stopped"),
        "PredictorReady": ("False", "Stopped"),
        "Ready": ("False", "Stopped"),
        "Stopped": ("True", ""),
    }
    lab.patch(f"{SERVICES}/m", {"metadata": {"annotations": {"serving.kserve.io/stop": None}}})
    lab.wait(5)
    assert lab.conditions("m")["Ready"] == ("True", "")


def test_only_in_the_cluster(lab: ServingLab) -> None:
    body = lab.body("m", {"containers": [{"image": "registry.k8s.io/pause:3.10"}]})
    body["metadata"]["labels"] = {"networking.kserve.io/visibility": "cluster-local"}
    assert lab.post(SERVICES, body).status == 201
    lab.wait(5)
    assert lab.conditions("m")["Ready"] == ("True", "")
    assert not lab.there(f"{INGRESSES}/m")


def test_deleting_takes_everything_along(lab: ServingLab) -> None:
    lab.own("m")
    lab.wait(5)
    lab.client("DELETE", f"{SERVICES}/m")
    lab.wait(40)
    assert lab.predictors("m") == []
    for path in (f"{CORE}/services/m-predictor", f"{AUTOSCALERS}/m-predictor", f"{INGRESSES}/m"):
        assert not lab.there(path)


def test_disabling_removes_what_it_made(lab: ServingLab) -> None:
    lab.own("m")
    lab.wait(5)
    lab.cluster.disable("kserve")
    lab.wait(40)
    assert lab.get(f"{CORE}/pods")["items"] == []
    assert not lab.there(f"{CORE}/services/m-predictor")
    lab.cluster.enable("kserve")
