"""The device plugin runs on the node again, so its GPU is allocatable and the pod runs."""

from __future__ import annotations

from mlk8s.cluster import gpu_pod
from mlk8s.course.exercises import Work, Wrong
from mlk8s.course.exercises.repairs import OPERANDS, PLUGIN

NODE, GPU = "h100-0", "nvidia.com/gpu"
LABEL = "nvidia.com/gpu.deploy.device-plugin"


def prepare(work: Work) -> None:
    """The pod that waits; the fault is on already."""
    work.k.apply(gpu_pod("train", "registry.k8s.io/pause:3.10"))
    work.settled("train")


def check(work: Work) -> str:
    """Look at the pod first, then at what has to stand behind it."""
    if work.node(NODE)["metadata"]["labels"].get(LABEL) == "true":
        work.until(f"the device plugin to report the GPU of {NODE}", lambda: _serves(work))
    train = work.settled("train")
    amounts = work.node(NODE)["status"]
    there, free = amounts["capacity"].get(GPU, "0"), amounts["allocatable"].get(GPU, "0")
    if train.state == "missing":
        raise Wrong(
            "Pod train is gone. Have it made again, as it was: the exercise's reset and start."
        )
    if train.state == "waits":
        raise Wrong(
            f"Pod train has no node: {train.says.partition(' no new claims')[0].rstrip('.')}. On "
            f"{NODE} the capacity is {there} {GPU} and allocatable is {free}: look for who reports "
            "healthy devices to the kubelet, and whether it runs there."
        )
    if not work.operands(PLUGIN, NODE):
        raise Wrong(
            f"Pod train is {train.says}, and still no device plugin runs on {NODE}: whatever "
            "allocatable says, nobody hands out its GPU. Look at: kubectl get pods -o wide "
            f"-n {OPERANDS}"
        )
    pod = work.running("train")
    if pod["spec"]["nodeName"] != NODE:
        raise Wrong(f"Pod train runs on {pod['spec']['nodeName']}; {NODE} is to be repaired.")
    return f"The device plugin runs on {NODE}, {free} of {there} {GPU} is allocatable, train runs."


def _serves(work: Work) -> bool:
    status = work.node(NODE)["status"]
    healthy = status["allocatable"].get(GPU) == status["capacity"].get(GPU)
    return healthy and bool(work.operands(PLUGIN, NODE))
