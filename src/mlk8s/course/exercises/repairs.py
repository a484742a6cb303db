"""What a repair does to a cluster, for ``repair.py`` and checks: change objects, restart parts."""

from __future__ import annotations

from typing import Any

from mlk8s.cluster import Connection
from mlk8s.cluster.wire import path

Object = dict[str, Any]

#: Where NVIDIA's parts run, each from a DaemonSet that has the name of its pods' label ``app``.
OPERANDS = "gpu-operator-resources"
PLUGIN = "nvidia-device-plugin-daemonset"
TOOLKIT = "nvidia-container-toolkit-daemonset"


def label(k: Connection, node: str, key: str, value: str) -> None:
    """Set a label of a node: ``kubectl label node --overwrite``."""
    k.patch("nodes", node, {"metadata": {"labels": {key: value}}})


def operands(k: Connection, app: str, node: str) -> list[Object]:
    """The pods of one of NVIDIA's parts that run on a node, all their containers with them."""
    found = k.items(path("pods", namespace=OPERANDS), labelSelector=f"app={app}")
    return [
        pod
        for pod in found
        if pod["spec"].get("nodeName") == node
        and pod["status"].get("phase") == "Running"
        and "deletionTimestamp" not in pod["metadata"]
        and all(each["ready"] for each in pod["status"]["containerStatuses"])
    ]


def rolled(k: Connection, app: str) -> bool:
    """Whether the pods of one of NVIDIA's parts are all as its DaemonSet says now, and ready."""
    found = k.request("GET", path("apps/v1/daemonsets", app, OPERANDS))
    status = found["status"]
    done = (status.get("updatedNumberScheduled"), status.get("numberReady"))
    return (
        status.get("observedGeneration") == found["metadata"]["generation"]
        and done == (status["desiredNumberScheduled"],) * 2
    )


def restart(k: Connection, app: str, node: str) -> None:
    """Delete the pods of one of NVIDIA's parts on a node; the DaemonSet makes new ones."""
    found = k.items(path("pods", namespace=OPERANDS), labelSelector=f"app={app}")
    for pod in found:
        if pod["spec"].get("nodeName") == node:
            k.request("DELETE", path("pods", pod["metadata"]["name"], OPERANDS))
