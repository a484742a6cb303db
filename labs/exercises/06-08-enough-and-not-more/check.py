"""The claim gets the middle instance, and waits while that is taken."""

from __future__ import annotations

from mlk8s.cluster import gpu_claim_template, gpu_pod
from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong

IMAGE, POD = "registry.k8s.io/pause:3.10", "serve"
CLAIMS = "resource.k8s.io/v1/resourceclaims"
MIDDLE = "device.attributes['gpu.nvidia.com'].profile == '2g.20gb'"
NAMES = ("profile", "uuid", "2g", "3g", "1g")


def check(work: Work) -> str:
    """While another pod has the middle instance, then alone."""
    for name in (POD, "other"):
        work.remove("pod", name)
    template = gpu_claim_template("other", "mig.nvidia.com", selectors=[MIDDLE])
    work.k.apply(template)
    work.k.apply(gpu_pod("other", IMAGE, claim_template=template))
    work.running("other")
    bodies = work.apply("claim.yaml", "ResourceClaimTemplate", "Pod")
    found = work.settled(POD)
    if found.state == "missing":
        raise Wrong(f"claim.yaml makes no pod {POD}; keep its name.")
    if found.state != "waits":
        raise Wrong(
            f"The middle instance was taken, and {POD} went to {_device(work)}. Your condition is "
            "true of an instance that it must not have."
        )
    work.remove("pod", "other")
    found = work.settled(POD)
    if found.state != "runs":
        raise Wrong(
            f"The middle instance is free, and {POD} still waits: {found.says.rstrip('.')}. "
            "Compare your condition with what the devices publish: kubectl get resourceslices "
            "-o yaml"
        )
    text = str(next(each["spec"] for each in bodies if each["kind"] != "Pod"))
    if named := next((name for name in NAMES if name in text), ""):
        raise Wrong(f"The claim says {named!r}. Next month's GPUs have other profiles.")
    return f"{POD} runs with {_device(work)}, and waited while that was taken."


def _device(work: Work) -> str:
    for claim in work.k.items(path(CLAIMS, namespace=work.namespace)):
        owners = claim["metadata"].get("ownerReferences", ())
        allocation = claim.get("status", {}).get("allocation")
        if allocation and any(owner["name"] == POD for owner in owners):
            return str(allocation["devices"]["results"][0]["device"])
    return "no device"
