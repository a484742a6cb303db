"""The claim gets the GPU that is large enough, waits while that is taken, names no product."""

from __future__ import annotations

from typing import Any

from mlk8s.cluster import gpu_claim_template, gpu_pod
from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong

IMAGE, LARGE = "registry.k8s.io/pause:3.10", "h100-0"
CLAIMS = "resource.k8s.io/v1/resourceclaims"
HOLDER = "device.attributes['gpu.nvidia.com'].architecture == 'Hopper'"
NAMES = ("productName", "uuid", "h100", "H100", "Hopper", "Nvidia")


def check(work: Work) -> str:
    """While another pod has the large GPU, then alone."""
    for name in ("train", "other-team"):
        work.remove("pod", name)
    template = gpu_claim_template("other-team", selectors=[HOLDER])
    work.k.apply(template)
    work.k.apply(gpu_pod("other-team", IMAGE, claim_template=template))
    work.running("other-team")
    bodies = work.apply("claim.yaml", "ResourceClaimTemplate", "Pod")
    train = work.settled("train")
    if train.state == "missing":
        raise Wrong("claim.yaml makes no pod train; keep its name.")
    if train.state != "waits":
        raise Wrong(
            f"The large GPU was taken, and train went to {train.node} with {_device(work)}. Your "
            "condition is true of a GPU on which train would run out of memory."
        )
    work.remove("pod", "other-team")
    train = work.settled("train")
    if train.state != "runs":
        raise Wrong(
            f"The large GPU is free, and train still waits: {train.says.rstrip('.')}. Compare your "
            "condition with what that device publishes: kubectl get resourceslices -o yaml"
        )
    if train.node != LARGE:
        raise Wrong(f"train runs on {train.node}, with {_device(work)}, which is too small.")
    text = str(next(each["spec"] for each in bodies if each["kind"] != "Pod"))
    if named := next((name for name in NAMES if name in text), ""):
        raise Wrong(
            f"It works today, and your condition speaks of {named}: it would not find next year's "
            "GPU. Ask for what train needs."
        )
    return f"train waited while the large GPU was taken, and then got {_device(work)} of {LARGE}."


def _device(work: Work) -> str:
    """The device that the claim of train was given."""
    pod = work.pod("train")
    names = [each["resourceClaimName"] for each in pod["status"].get("resourceClaimStatuses") or ()]
    claims: list[dict[str, Any]] = [
        work.k.request("GET", path(CLAIMS, name, work.namespace)) for name in names
    ]
    results = [
        each["device"]
        for claim in claims
        for each in claim["status"]["allocation"]["devices"]["results"]
    ]
    return ", ".join(results) or "no device"
