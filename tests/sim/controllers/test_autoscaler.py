"""Horizontal pod autoscalers keep bounds, and follow what processes use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client, config

from mlk8s.sim import Cluster

BUSY = "while :; do :; done"


@pytest.fixture(scope="module")
def api() -> Iterator[client.ApiClient]:
    with Cluster("h100x8") as cluster:
        yield config.new_client_from_config(str(cluster.kubeconfig))
        log = (cluster.directory / "server.log").read_text()
        assert "Traceback" not in log, log


def deploy(api: client.ApiClient, name: str, script: str, cpu: str | None, **spec: Any) -> None:
    """A Deployment of one pod that runs a script, and its autoscaler."""
    container: dict[str, Any] = {
        "name": "main",
        "image": "busybox",
        "command": ["sh", "-c", script],
    }
    if cpu is not None:
        container["resources"] = {"requests": {"cpu": cpu}}
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }
    wanted = {"selector": {"matchLabels": labels}, "template": template}
    body = {"metadata": {"name": name}, "spec": wanted}
    client.AppsV1Api(api).create_namespaced_deployment("default", body)
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    scaler = {"metadata": {"name": name}, "spec": {"scaleTargetRef": reference, **spec}}
    scalers = client.AutoscalingV2Api(api)
    scalers.create_namespaced_horizontal_pod_autoscaler("default", scaler)


def replicas(api: client.ApiClient, name: str) -> int:
    found = client.AppsV1Api(api).read_namespaced_deployment(name, "default")
    return int(found.spec.replicas)


def scaler(api: client.ApiClient, name: str) -> Any:
    scalers = client.AutoscalingV2Api(api)
    return scalers.read_namespaced_horizontal_pod_autoscaler(name, "default")


def conditions(api: client.ApiClient, name: str) -> dict[str, tuple[str, str]]:
    found = scaler(api, name).status.conditions or []
    return {each.type: (each.status, each.reason) for each in found}


def until(true: Callable[[], Any], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)


def messages(api: client.ApiClient, name: str) -> list[str]:
    found = client.CoreV1Api(api).list_namespaced_event("default").items
    kind = "HorizontalPodAutoscaler"
    return [
        each.message
        for each in found
        if (each.involved_object.kind, each.involved_object.name) == (kind, name)
    ]


def test_use_and_bounds(api: client.ApiClient) -> None:
    # One core at most is used of a tenth that is asked for.
    deploy(api, "busy", BUSY, "100m", minReplicas=1, maxReplicas=2)
    deploy(api, "idle", "sleep 600", "100m", minReplicas=2, maxReplicas=3)
    deploy(api, "unknown", "sleep 600", None, minReplicas=1, maxReplicas=3)
    deploy(api, "many", "sleep 600", "100m", minReplicas=1, maxReplicas=1)
    until(lambda: replicas(api, "idle") == 2)
    assert "New size: 2; reason: Current number of replicas below Spec.MinReplicas" in (
        messages(api, "idle")
    )
    client.AppsV1Api(api).patch_namespaced_deployment_scale(
        "many", "default", {"spec": {"replicas": 3}}
    )
    until(lambda: replicas(api, "busy") == 2)
    text = "New size: 2; reason: cpu resource utilization (percentage of request) above target"
    assert text in messages(api, "busy")
    status = scaler(api, "busy").status
    assert status.current_metrics[0].resource.current.average_utilization > 160
    assert conditions(api, "busy")["ScalingLimited"] == ("True", "TooManyReplicas")
    assert conditions(api, "busy")["ScalingActive"] == ("True", "ValidMetricFound")
    until(lambda: replicas(api, "many") == 1)
    assert "New size: 1; reason: Current number of replicas above Spec.MaxReplicas" in (
        messages(api, "many")
    )
    until(lambda: conditions(api, "unknown").get("ScalingActive", ("", ""))[0] == "False")
    assert conditions(api, "unknown")["ScalingActive"] == ("False", "FailedGetResourceMetric")
    until(
        lambda: any(
            "missing request for cpu in container main" in each for each in messages(api, "unknown")
        )
    )
    assert replicas(api, "unknown") == 1
    assert replicas(api, "idle") == 2
