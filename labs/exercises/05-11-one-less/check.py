"""The Xid was read, and the plugin lists four healthy GPUs again, so the pod runs."""

from __future__ import annotations

from mlk8s.cluster import gpu_pod
from mlk8s.course.exercises import Work, Wrong
from mlk8s.course.exercises.repairs import PLUGIN, rolled

IMAGE, GPU = "registry.k8s.io/pause:3.10", "nvidia.com/gpu"
NODE, OTHER, XID = "t4x4-0", "t4x4-1", 94


def prepare(work: Work) -> None:
    """The other team, and the pod that waits; the fault is on already."""
    selector = {"kubernetes.io/hostname": OTHER}
    work.k.apply(gpu_pod("other-team", IMAGE, gpus=4, node_selector=selector))
    work.running("other-team")
    work.k.apply(gpu_pod("train", IMAGE, gpus=4))
    work.settled("train")


def check(work: Work) -> str:
    """The answer first; then what was done about it."""
    xid = work.number("xid", "the Xid's number")
    if xid != XID:
        raise Wrong(
            f"answer.yaml: the Xid of {NODE} is not {xid:g}. It stands in the log of the program "
            "that called the GPU unhealthy. (If that log is gone: the exercise's reset and start.)"
        )
    work.until(
        f"the device plugin of {NODE}",
        lambda: rolled(work.k, PLUGIN) and work.operands(PLUGIN, NODE),
    )
    train = work.settled("train")
    if train.state == "waits":
        amounts = work.node(NODE)["status"]
        raise Wrong(
            f"The Xid is right, and train still waits: {NODE} has {amounts['capacity'][GPU]} {GPU} "
            f"and {amounts['allocatable'][GPU]} allocatable. Who has to be asked again whether the "
            "GPU is well, and when does it look?"
        )
    if train.state != "runs":
        raise Wrong(
            f"Pod train is {train.says.rstrip('.')}. The scheduler was told of four GPUs and the "
            "kubelet of three: whatever allocatable says, only the device plugin can give them."
        )
    return f"Xid {XID} was read; the plugin lists four GPUs of {train.node} again, and train runs."
