"""The fault ``kueue-not-admitted``: a job that asks for more than its queue ever has."""

from __future__ import annotations

from typing import Any

from mlk8s.sim.addons.kueue import names
from mlk8s.sim.api import DeleteOptions, Request
from mlk8s.sim.nodes.context import Context
from mlk8s.sim.status import Object

_JOB = "kueue-demo"
_QUEUE = "gpu"
_GPU = "nvidia.com/gpu"
# As somebody sends them: with defaults, through webhooks and validation.
_SENT = Request(user="kubernetes-admin")


def install(context: Context) -> None:
    """Enable Kueue, and queue a Job of one GPU behind a quota of none.

    It is repaired as in a real cluster: give the ClusterQueue ``gpu`` a quota of one, and Kueue
    admits the Job. An add-on that was on before the fault stays on after it.
    """
    addons = context.api.addons
    assert addons is not None
    if "kueue" not in addons.active():
        addons.enable("kueue")
        context.undo(lambda: addons.disable("kueue"))
    flavor = _object("ResourceFlavor", {"nodeLabels": {"nvidia.com/gpu.present": "true"}})
    _create(context, names.FLAVORS, flavor)
    _create(context, names.CLUSTER_QUEUES, _object("ClusterQueue", _quota()))
    local = _object("LocalQueue", {"clusterQueue": _QUEUE}, "default")
    _create(context, names.LOCAL_QUEUES, local)
    _create(context, "jobs.batch", _job())


def _create(context: Context, key: str, obj: Object) -> None:
    """Make an object, unless the reader has one of its name; it goes with the fault."""
    metadata = obj["metadata"]
    namespace, name = metadata.get("namespace", ""), metadata["name"]
    if context.api.store.raw(key, namespace, name) is None:
        context.api.create(key, obj, namespace, _SENT)
        context.undo(lambda: _delete(context, key, namespace, name))


def _delete(context: Context, key: str, namespace: str, name: str) -> None:
    """Delete an object that may be gone, and what it owns."""
    if context.api.store.raw(key, namespace, name) is not None:
        context.api.delete(key, namespace, name, DeleteOptions(propagation="Background"))


def _object(kind: str, spec: dict[str, Any], namespace: str = "") -> Object:
    metadata = {"name": _QUEUE} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": names.API_VERSION,
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
    }


def _quota() -> Object:
    quota = {"name": _GPU, "nominalQuota": "0"}
    flavor = {"name": _QUEUE, "resources": [quota]}
    group = {"coveredResources": [_GPU], "flavors": [flavor]}
    return {"namespaceSelector": {}, "resourceGroups": [group]}


def _job() -> Object:
    container = {
        "name": "main",
        "image": "nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda12.5.0",
        "resources": {"limits": {_GPU: "1"}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": _JOB,
            "namespace": "default",
            "labels": {names.QUEUE_LABEL: _QUEUE},
        },
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }
