"""The pod is accepted, asks for one GPU, and runs."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong

GPU = "nvidia.com/gpu"


def check(work: Work) -> str:
    """Apply the reader's pod."""
    work.apply("pod.yaml", "Pod")
    amounts = [
        (container["resources"].get("limits") or {}).get(GPU)
        for container in work.pod("half").get("spec", {}).get("containers", ())
    ]
    if amounts == [None]:
        raise Wrong(
            f"Pod half was accepted, but it asks for no GPU: {GPU} is not among its container's "
            "limits. So no device is given to it, and its program ends with an error.\n"
            f"Look at: kubectl logs half -n {work.namespace}"
        )
    pod = work.running("half")
    if amounts != ["1"]:
        raise Wrong(f"Pod half runs, and holds {amounts[0]} GPUs. The task says one.")
    return f"Pod half was accepted, and ran on {pod['spec']['nodeName']} with one {GPU}."
