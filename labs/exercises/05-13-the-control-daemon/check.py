"""The MPS control daemon runs, so the plugin serves shares, and both models run at once."""

from __future__ import annotations

from mlk8s.cluster import gpu_pod
from mlk8s.course.exercises import Work, Wrong
from mlk8s.course.exercises.repairs import PLUGIN

IMAGE, NODE, GPU = "registry.k8s.io/pause:3.10", "h100-mps-0", "nvidia.com/gpu"
DAEMON, LABEL = "nvidia-device-plugin-mps-control-daemon", "nvidia.com/mps.capable"
MODELS = ("chat", "search")
# The kubelet's back-off of a container that has failed twice.
BACK_OFF_S = 30.0


def prepare(work: Work) -> None:
    """The models that wait; the fault is on already."""
    for name in MODELS:
        work.k.apply(gpu_pod(name, IMAGE))
    work.all_settled(*MODELS)


def check(work: Work) -> str:
    """The daemon, the plugin, the models."""
    if work.node(NODE)["metadata"]["labels"].get(LABEL) == "true":
        work.until("the control daemon", lambda: work.operands(DAEMON, NODE))
    if not work.operands(DAEMON, NODE):
        raise Wrong(
            f"No MPS control daemon runs on {NODE}, so the device plugin does not start: "
            f"allocatable is {work.node(NODE)['status']['allocatable'][GPU]}. What does its "
            "DaemonSet ask of a node? kubectl get ds -n gpu-operator-resources"
        )
    work.until("the device plugin to try again", lambda: _serves(work), BACK_OFF_S)
    for name in MODELS:
        work.running(name)
    return f"The control daemon and the plugin run on {NODE}; chat and search share its H100."


def _serves(work: Work) -> bool:
    return bool(work.operands(PLUGIN, NODE)) and all(
        work.pod(name)["spec"].get("nodeName") for name in MODELS
    )
