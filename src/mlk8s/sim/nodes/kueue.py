"""A job that Kueue 0.19 would not admit: the objects it would leave; Kueue itself is absent."""

from __future__ import annotations

from typing import Any

from mlk8s.sim.nodes.context import Context
from mlk8s.sim.nodes.setup import DEFINITIONS
from mlk8s.sim.status import Object

_GROUP = "kueue.x-k8s.io"
_VERSION = "v1beta2"
# (kind, plural, namespaced)
_KINDS = (
    ("ResourceFlavor", "resourceflavors", False),
    ("ClusterQueue", "clusterqueues", False),
    ("LocalQueue", "localqueues", True),
    ("Workload", "workloads", True),
)
_NAME = "kueue-demo"
# Seconds until the new resources are surely served; chosen.
_SERVED_S = 1.0

MESSAGE = (
    "couldn't assign flavors to pod set main: insufficient quota for nvidia.com/gpu in flavor "
    "gpu, previously considered podsets requests (0) + current podset request (8) > maximum "
    "capacity (4)"
)


def install(context: Context) -> None:
    """Make the definitions, then the queue, and a suspended job with its Workload."""
    for kind, plural, namespaced in _KINDS:
        context.create(DEFINITIONS, _definition(kind, plural, namespaced))

    def fill() -> None:
        if context.on:
            _fill(context)

    context.api.clock.call_later(_SERVED_S, fill)


def _fill(context: Context) -> None:
    api = context.api
    context.create(f"resourceflavors.{_GROUP}", _flavor())
    context.create(f"clusterqueues.{_GROUP}", _cluster_queue())
    context.create(
        f"localqueues.{_GROUP}", _object("LocalQueue", "gpu", {"clusterQueue": "gpu"}, "default")
    )
    context.create("jobs.batch", _job())
    job = api.get("jobs.batch", "default", _NAME)
    pod_sets = [{"name": "main", "count": 1, "template": job["spec"]["template"]}]
    workload = _object("Workload", f"job-{_NAME}", {"queueName": "gpu", "podSets": pod_sets})
    workload["metadata"] |= {
        "namespace": "default",
        "ownerReferences": [
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "name": _NAME,
                "uid": job["metadata"]["uid"],
                "controller": True,
            }
        ],
    }
    context.create(f"workloads.{_GROUP}", workload)
    condition = {
        "type": "QuotaReserved",
        "status": "False",
        "reason": "Pending",
        "message": MESSAGE,
        "lastTransitionTime": api.timestamp(),
    }

    def pending(found: Object) -> None:
        found["status"] = {"conditions": [condition]}

    changed = api.change(
        f"workloads.{_GROUP}", "default", f"job-{_NAME}", pending, subresource="status"
    )
    if changed is not None:
        context.recorder.event(changed, "Warning", "Pending", MESSAGE, "kueue-admission")


def _object(kind: str, name: str, spec: dict[str, Any], namespace: str = "") -> Object:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": f"{_GROUP}/{_VERSION}",
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
    }


def _flavor() -> Object:
    return _object("ResourceFlavor", "gpu", {"nodeLabels": {"nvidia.com/gpu.present": "true"}})


def _cluster_queue() -> Object:
    quota = {"name": "nvidia.com/gpu", "nominalQuota": "4"}
    group = {
        "coveredResources": ["nvidia.com/gpu"],
        "flavors": [{"name": "gpu", "resources": [quota]}],
    }
    return _object("ClusterQueue", "gpu", {"namespaceSelector": {}, "resourceGroups": [group]})


def _job() -> Object:
    container = {
        "name": "main",
        "image": "nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda12.5.0",
        "resources": {"limits": {"nvidia.com/gpu": "8"}, "requests": {"nvidia.com/gpu": "8"}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": _NAME,
            "namespace": "default",
            "labels": {f"{_GROUP}/queue-name": "gpu"},
        },
        "spec": {
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }


def _definition(kind: str, plural: str, namespaced: bool) -> Object:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{_GROUP}"},
        "spec": {
            "group": _GROUP,
            "scope": "Namespaced" if namespaced else "Cluster",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
            },
            "versions": [
                {
                    "name": _VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                }
            ],
        },
    }
