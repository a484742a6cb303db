"""Both servers are drained in turn, and a ready pod of the service is there at each moment."""

from __future__ import annotations

import time
from typing import Any

from mlk8s.cluster.wire import path, status
from mlk8s.course.exercises import Work, Wrong
from mlk8s.errors import ClusterError

NODES = ("t4x4-0", "t4x4-1")
# kubectl drain asks again after five seconds; nobody has to wait for that here.
ASK_AGAIN_S, DRAINED_WITHIN_S = 0.1, 7.0


def check(work: Work) -> str:
    """Apply, drain the one, open it, drain the other."""
    clean(work)
    bodies = work.apply("serving.yaml", "Deployment", "PodDisruptionBudget")
    if not any(body["kind"] == "PodDisruptionBudget" for body in bodies):
        raise Wrong("serving.yaml has no budget any more. It has to protect chat from drains.")
    work.until("chat to be available", lambda: _ready(work) == _wanted(work) > 0)
    wanted = _wanted(work)
    if not 0 < _ready(work) == wanted:
        raise Wrong(f"Of {wanted} pods of chat {_ready(work)} became ready: kubectl get pods")
    if wanted > 2:
        raise Wrong(f"chat uses {wanted} GPUs in normal operation; two are allowed.")
    first = _pods(work)[0]["spec"]["nodeName"]
    for node in (first, *(each for each in NODES if each != first)):
        try:
            _drain(work, node)
        finally:
            clean(work)
    return f"Both servers were drained; at each moment at least one of {wanted} pods was ready."


def clean(work: Work) -> None:
    """Uncordon the servers."""
    for node in NODES:
        work.k.patch("nodes", node, {"spec": {"unschedulable": None}})


def _drain(work: Work, node: str) -> None:
    """Cordon a server and ask for evictions until no pod of the service is there."""
    work.k.patch("nodes", node, {"spec": {"unschedulable": True}})
    deadline, said = time.monotonic() + DRAINED_WITHIN_S, ""
    while here := [pod for pod in _pods(work) if pod["spec"].get("nodeName") == node]:
        if time.monotonic() > deadline:
            raise Wrong(f"The drain of {node} stands still. For its pod the server says: {said}")
        for pod in here:
            if "deletionTimestamp" not in pod["metadata"]:
                said = _evict(work, pod["metadata"]["name"]) or said
        if not _ready(work):
            raise Wrong(
                f"While {node} was drained no pod of chat was ready. What must be there before the "
                "old pod goes?"
            )
        time.sleep(ASK_AGAIN_S)
    work.until("the new pods", lambda: _ready(work) == _wanted(work))


def _evict(work: Work, pod: str) -> str:
    """Ask for an eviction; what the server says against it."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": work.namespace},
    }
    try:
        work.k.request("POST", path("pods", pod, work.namespace, "eviction"), body)
    except ClusterError as error:
        if status(error) not in (404, 429):
            raise
        return error.problem
    return ""


def _pods(work: Work) -> list[dict[str, Any]]:
    where = path("pods", namespace=work.namespace)
    return list(work.k.items(where, labelSelector="app=chat"))


def _ready(work: Work) -> int:
    conditions = [
        pod["status"].get("conditions") or ()
        for pod in _pods(work)
        if "deletionTimestamp" not in pod["metadata"]
    ]
    return sum(
        any(each["type"] == "Ready" and each["status"] == "True" for each in found)
        for found in conditions
    )


def _wanted(work: Work) -> int:
    found = work.k.find(path("apps/v1/deployments", "chat", work.namespace))
    return int(found["spec"]["replicas"]) if found else 0
