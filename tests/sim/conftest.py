"""What the tests of the Kubeflow SDK share: a runtime whose failures stay, the end of all pods."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client, config

from mlk8s.sim import Cluster


@pytest.fixture(scope="session")
def runtime_once() -> Callable[..., None]:
    """Make a runtime for a Job that is not tried again, so that its pod and log stay."""

    def make(cluster: Cluster, framework: str, image: str, **policy: Any) -> None:
        pod = {"restartPolicy": "Never", "containers": [{"name": "node", "image": image}]}
        template = {
            "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
            "spec": {"backoffLimit": 0, "template": {"spec": pod}},
        }
        labels = {"trainer.kubeflow.org/framework": framework}
        runtime = {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainingRuntime",
            "metadata": {"name": "once", "labels": labels},
            "spec": {
                "mlPolicy": {"numNodes": 1, **policy},
                "template": {"spec": {"replicatedJobs": [{"name": "node", "template": template}]}},
            },
        }
        api = client.CustomObjectsApi(config.new_client_from_config(str(cluster.kubeconfig)))
        where = ("trainer.kubeflow.org", "v1alpha1", "default", "trainingruntimes")
        api.create_namespaced_custom_object(*where, runtime)

    return make


@pytest.fixture(scope="session")
def gone() -> Callable[[Cluster], None]:
    """Wait until all pods have ended, within a grace period."""

    def wait(cluster: Cluster) -> None:
        core = client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))
        deadline = time.monotonic() + 35
        while left := [pod.metadata.name for pod in core.list_namespaced_pod("default").items]:
            assert time.monotonic() < deadline, f"{left} are still there"
            time.sleep(0.2)

    return wait
