"""The plugin has read a right configuration; four pods share one GPU under a name of its own."""

from __future__ import annotations

from mlk8s.cluster import gpu_pod
from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong
from mlk8s.course.exercises.repairs import OPERANDS, PLUGIN, rolled

IMAGE, NODE = "registry.k8s.io/pause:3.10", "l4-0"
GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"
NOTEBOOKS = tuple(f"notebook-{number}" for number in range(4))
READ_S = 1.0


def check(work: Work) -> str:
    """See what the node offers, then let the notebooks come."""
    work.until(
        f"the device plugin of {NODE}",
        lambda: rolled(work.k, PLUGIN) and work.operands(PLUGIN, NODE),
    )
    # A plugin that has just started still has to be heard by the kubelet.
    work.until("its devices", lambda: _offers(work, SHARED) == 4, READ_S)
    shared, whole = _offers(work, SHARED), _offers(work, GPU)
    if complaint := _complaint(work):
        raise Wrong(f"The device plugin of {NODE} refuses its configuration: {complaint}.")
    if not shared and whole == 1:
        raise Wrong(
            f"{NODE} offers {GPU}: 1, as if nothing had been configured. The ConfigMap is one "
            "thing; when does the device plugin read it?"
        )
    if not shared:
        raise Wrong(
            f"{NODE} offers {GPU}: {whole}. The plugin has read the replicas, and has not renamed "
            "the resource. Does the key that should do it stand where the plugin looks for it?"
        )
    for name in NOTEBOOKS:
        work.remove("pod", name)
        work.k.apply(gpu_pod(name, IMAGE, resource=SHARED))
    for name, found in work.all_settled(*NOTEBOOKS).items():
        if found.state != "runs":
            raise Wrong(f"{NODE} offers {SHARED}: {shared}, and {name} does not run: {found.says}")
    return f"{NODE} offers {SHARED}: {shared} and {GPU}: {whole}; four notebooks share its L4."


def _complaint(work: Work) -> str:
    """What the plugin that runs now says of its configuration."""
    where = path("events", namespace=OPERANDS)
    pods = [pod["metadata"]["name"] for pod in work.operands(PLUGIN, NODE)]
    found = work.k.items(where, fieldSelector="reason=ConfigError")
    return next((e["message"] for e in found if e["involvedObject"]["name"] in pods), "")


def _offers(work: Work, resource: str) -> int:
    return int(work.node(NODE)["status"]["allocatable"].get(resource, "0"))
