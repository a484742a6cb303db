"""While both H100 are taken the pod waits; when either becomes free it goes there."""

from __future__ import annotations

from functools import partial

from mlk8s.cluster import gpu_pod
from mlk8s.course.exercises import Work, Wrong

H100 = ("h100-0", "h100-1")
GPU = "nvidia.com/gpu"
PRODUCT = "nvidia.com/gpu.product"


def prepare(work: Work) -> None:
    """Another team takes both H100."""
    for node in H100:
        work.k.apply(
            gpu_pod(
                _holder(node),
                "registry.k8s.io/pause:3.10",
                node_selector={"kubernetes.io/hostname": node},
            )
        )
    for node in H100:
        # A GPU is taken when the scheduler has given it away; the container may come later.
        work.until(f"{_holder(node)} to have its GPU", partial(_placed, work, _holder(node)))


def check(work: Work) -> str:
    """Apply the pod while the H100 are taken, then let one of them become free."""
    work.remove("pod", "train")
    prepare(work)
    work.apply("pod.yaml", "Pod")
    pod = work.settled("train")
    if pod.state in ("runs", "done"):
        _too_early(work, pod.node)
    if pod.state == "failed":
        raise Wrong(
            f"Pod train did not wait: {pod.says.rstrip('.')}. It got to {pod.node} without the "
            "scheduler, which alone would have made it wait. Look at what in pod.yaml does that."
        )
    # The one that a pod with a machine's name in it does not wait for.
    _release(work, "h100-1")
    pod = work.settled("train")
    if pod.node == "h100-1":
        return (
            "While both H100 were taken, pod train waited, though an L4 was free; when h100-1 "
            "became free it ran there."
        )
    if pod.state in ("runs", "done"):
        _too_early(work, pod.node)
    _release(work, "h100-0")
    after = work.settled("train")
    if after.node:
        raise Wrong(
            f"h100-1 became free, and pod train went on waiting for {after.node}. It is tied to "
            "one machine. Look for a label that both H100 have: kubectl get nodes --show-labels"
        )
    raise Wrong(
        f"Both H100 are free, and pod train still has no node: {after.says.rstrip('.')}. Compare "
        "the value that it asks for with the node's, as it stands: "
        f"kubectl get nodes -L {PRODUCT}"
    )


def _too_early(work: Work, node: str) -> None:
    container = work.pod("train")["spec"]["containers"][0]
    if GPU not in (container["resources"].get("limits") or {}):
        raise Wrong(f"Pod train runs on {node} beside another team's job: it asks for no GPU.")
    product = work.node(node)["metadata"]["labels"].get(PRODUCT, "no GPU")
    raise Wrong(
        f"Both H100 were taken, and pod train went to {node} ({product}) instead of waiting. "
        f"Look at how the nodes differ: kubectl get nodes -L {PRODUCT}"
    )


def _holder(node: str) -> str:
    return f"other-team-{node}"


def _placed(work: Work, name: str) -> bool:
    return bool(work.pod(name).get("spec", {}).get("nodeName"))


def _release(work: Work, node: str) -> None:
    work.remove("pod", _holder(node))
