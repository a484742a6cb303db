"""What the Kubeflow SDK gets from a cluster that serves its runtimes: two calls, as JSON.

usage: python kubeflow_client.py KUBECONFIG

The custom resources have the fields of ``kubeflow_trainer_api.models`` that the runtime below
uses; all below a pod template is left open.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from kubeflow.common.types import KubernetesBackendConfig
from kubeflow.trainer import TrainerClient
from kubernetes import client, config

GROUP, VERSION = "trainer.kubeflow.org", "v1alpha1"
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def fields(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    """The schema of an object."""
    found = {"type": "object", "properties": properties}
    return found | ({"required": required} if required else {})


TEXT = {"type": "string"}
NUMBER = {"type": "integer", "format": "int32"}
PER_NODE = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
REPLICATED_JOB = fields(
    ["name", "template"], name=TEXT, replicas={**NUMBER, "default": 1}, template=OPEN
)
SPEC = fields(
    ["template"],
    mlPolicy=fields(numNodes={**NUMBER, "default": 1}, torch=fields(numProcPerNode=PER_NODE)),
    template=fields(
        metadata=OPEN,
        spec=fields(replicatedJobs={"type": "array", "items": REPLICATED_JOB}),
    ),
)


def definition(kind: str, scope: str) -> dict[str, Any]:
    """A CustomResourceDefinition of the Trainer."""
    plural = kind.lower() + "s"
    schema = fields(apiVersion=TEXT, kind=TEXT, metadata={"type": "object"}, spec=SPEC)
    version = {"name": VERSION, "served": True, "storage": True}
    return {
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural},
            "versions": [version | {"schema": {"openAPIV3Schema": schema}}],
        },
    }


def runtime(gpus: int) -> dict[str, Any]:
    """A ClusterTrainingRuntime for PyTorch, shaped as the Trainer's own ``torch-distributed``."""
    step = {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    node = {
        "name": "node",
        "image": "pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime",
        "resources": {"limits": {"nvidia.com/gpu": gpus}},
    }
    template = {
        "metadata": {"labels": step},
        "spec": {"template": {"spec": {"containers": [node]}}},
    }
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "ClusterTrainingRuntime",
        "metadata": {
            "name": "torch-distributed",
            "labels": {"trainer.kubeflow.org/framework": "torch"},
        },
        "spec": {
            "mlPolicy": {"numNodes": 2, "torch": {"numProcPerNode": "auto"}},
            "template": {"spec": {"replicatedJobs": [{"name": "node", "template": template}]}},
        },
    }


def install(kubeconfig: str) -> None:
    """Put on the cluster what the Trainer's own manifests would: two resources and a runtime."""
    api = config.new_client_from_config(kubeconfig)
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": "kubeflow-system"}})
    core.create_namespaced_config_map(
        "kubeflow-system",
        {
            "metadata": {"name": "kubeflow-trainer-public"},
            "data": {"kubeflow_trainer_version": "2.3.0"},
        },
    )
    definitions = client.ApiextensionsV1Api(api)
    for kind, scope in (("ClusterTrainingRuntime", "Cluster"), ("TrainingRuntime", "Namespaced")):
        definitions.create_custom_resource_definition(definition(kind, scope))
    custom = client.CustomObjectsApi(api)
    while True:
        try:
            custom.create_cluster_custom_object(
                GROUP, VERSION, "clustertrainingruntimes", runtime(gpus=1)
            )
        except client.ApiException as error:
            if error.status != 404:  # until it is served
                raise
            time.sleep(0.05)
        else:
            return


def shown(found: Any) -> dict[str, Any]:
    """What is noted of a runtime."""
    return {
        "name": found.name,
        "framework": found.trainer.framework,
        "nodes": found.trainer.num_nodes,
        "device": found.trainer.device,
        "devices": found.trainer.device_count,
    }


def main() -> None:
    """List the runtimes, and get one."""
    install(sys.argv[1])
    trainer = TrainerClient(
        backend_config=KubernetesBackendConfig(config_file=sys.argv[1], namespace="default")
    )
    calls = {
        "list_runtimes": [shown(one) for one in trainer.list_runtimes()],
        "get_runtime": shown(trainer.get_runtime("torch-distributed")),
    }
    print(json.dumps({"calls": calls}))


if __name__ == "__main__":
    main()
