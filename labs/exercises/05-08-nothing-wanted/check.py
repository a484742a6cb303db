"""The operator takes the node for a GPU node, its whole stack runs there, and the pod runs."""

from __future__ import annotations

from mlk8s.cluster import gpu_pod
from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong
from mlk8s.course.exercises.repairs import OPERANDS, PLUGIN, TOOLKIT

NODE, GOOD = "h100-0", "a30-mig-0"
STACK = (
    TOOLKIT,
    PLUGIN,
    "gpu-feature-discovery",
    "nvidia-dcgm-exporter",
    "nvidia-operator-validator",
)


def prepare(work: Work) -> None:
    """The pod that waits; the fault is on already."""
    work.k.apply(gpu_pod("train", "registry.k8s.io/pause:3.10"))
    work.settled("train")


def check(work: Work) -> str:
    """The stack first, then the pod."""
    work.until(f"NVIDIA's stack on {NODE}", lambda: not _coming(work))
    missing = _missing(work)
    if len(missing) == len(STACK):
        raise Wrong(
            f"No part of NVIDIA's stack runs on {NODE}: the operator takes it for a node without "
            f"a GPU. What does {GOOD} have that {NODE} has not? kubectl get node {NODE} "
            f"{GOOD} --show-labels"
        )
    if missing:
        raise Wrong(
            f"Something of NVIDIA's stack runs on {NODE}. Missing: {', '.join(missing)}. One part "
            "was told to run; who tells all of them, and what does it go by?"
        )
    pod = work.running("train")
    if pod["spec"]["nodeName"] != NODE:
        raise Wrong(f"Pod train runs on {pod['spec']['nodeName']}; {NODE} is to be repaired.")
    return f"All {len(STACK)} parts of NVIDIA's stack run on {NODE}, and so does train."


def _missing(work: Work) -> list[str]:
    return [app for app in STACK if not work.operands(app, NODE)]


def _coming(work: Work) -> list[str]:
    """Parts that are missing, and that a label of the node asks for or soon will."""
    labels = work.node(NODE)["metadata"]["labels"]
    if any("/pci-" in key and value == "true" for key, value in labels.items()):
        return _missing(work)
    found = work.k.items(path("apps/v1/daemonsets", namespace=OPERANDS))
    wanted = [
        each["metadata"]["name"]
        for each in found
        if each["spec"]["template"]["spec"]["nodeSelector"].items() <= labels.items()
    ]
    return [app for app in _missing(work) if app in wanted]
