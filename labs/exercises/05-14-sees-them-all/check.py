"""A pod without a request sees no GPU; one with a request sees its own."""

from __future__ import annotations

import json

from mlk8s.cluster import gpu_pod
from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong
from mlk8s.course.exercises.repairs import OPERANDS, TOOLKIT, rolled

IMAGE, COMMAND = "nvidia/cuda:12.8.1-base-ubuntu24.04", ["nvidia-smi", "-L"]
FOUND = "mlk8s.dev/toolkit"
NODES = ("t4x4-0", "t4x4-1")
NEEDED = ("CONTAINERD_CONFIG", "CONTAINERD_SOCKET")


def check(work: Work) -> str:
    """Once the toolkit has rolled: one pod without a request on each node, and one with."""
    work.until("the operator to tell the toolkit", lambda: _told(work) == _policy(work))
    work.until("the toolkit's DaemonSet to roll", lambda: rolled(work.k, TOOLKIT))
    for node in NODES:
        seen = _seen(work, node, 0)
        if seen:
            raise Wrong(
                f"A pod on {node} that asks for no GPU still sees {seen}. Who puts devices into a "
                "container because of a variable, and what can it be told?"
            )
    seen = _seen(work, NODES[0], 1)
    if seen != 1:
        raise Wrong(f"A pod that asks for one GPU sees {seen}. The honest ones must lose nothing.")
    told = [each["name"] for each in _policy(work)]
    if missing := [name for name in NEEDED if name not in told]:
        raise Wrong(
            f"The door is closed, and the toolkit has lost {' and '.join(missing)}: at the next "
            "start of containerd nobody knows the runtime nvidia. Lists are replaced by a merge "
            "patch; put your variable beside the others."
        )
    return "Pods that ask for no GPU see none, on both nodes; one that asks for one sees one."


def prepare(work: Work) -> None:
    """Note what the toolkit is told, on the exercise's namespace."""
    note = {"metadata": {"annotations": {FOUND: json.dumps(_policy(work))}}}
    work.k.patch("namespaces", work.namespace, note)


def clean(work: Work) -> None:
    """Tell the toolkit again what it was told before."""
    home = work.k.request("GET", path("namespaces", work.namespace))
    found = (home["metadata"].get("annotations") or {}).get(FOUND)
    if found is not None:
        change = {"spec": {"toolkit": {"env": json.loads(found)}}}
        work.k.patch("clusterpolicies", "cluster-policy", change)


def _policy(work: Work) -> list[dict[str, str]]:
    found = work.k.request("GET", path("nvidia.com/v1/clusterpolicies", "cluster-policy"))
    told: list[dict[str, str]] = found["spec"]["toolkit"].get("env") or []
    return told


def _seen(work: Work, node: str, gpus: int) -> int:
    """How many GPUs a pod sees."""
    work.remove("pod", "nosy")
    selector = {"kubernetes.io/hostname": node}
    work.k.apply(gpu_pod("nosy", IMAGE, COMMAND, gpus=gpus, node_selector=selector))
    work.until("nvidia-smi to end", lambda: work.settled("nosy").state in ("done", "failed"))
    return work.k.logs("nosy").text.count("UUID: GPU-")


def _told(work: Work) -> list[dict[str, str]]:
    found = work.k.request("GET", path("apps/v1/daemonsets", TOOLKIT, OPERANDS))
    (container,) = found["spec"]["template"]["spec"]["containers"]
    told: list[dict[str, str]] = container.get("env") or []
    return told
