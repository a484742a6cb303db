"""One small and one double instance are let in, a second small one and the large one are not."""

from __future__ import annotations

from mlk8s.cluster import gpu_pod
from mlk8s.course.exercises import Work, Wrong
from mlk8s.errors import ClusterError

IMAGE, PREFIX = "registry.k8s.io/pause:3.10", "nvidia.com/mig-"
#: Pod → profile, in the order in which they come, and whether it is let in.
PODS = {
    "first-small": ("1g.10gb", True),
    "double": ("2g.20gb", True),
    "second-small": ("1g.10gb", False),
    "large": ("3g.40gb", False),
}


def check(work: Work) -> str:
    """Apply the quota, then send the pods."""
    for name in PODS:
        work.remove("pod", name)
    work.apply("quota.yaml", "ResourceQuota")
    for name, (profile, allowed) in PODS.items():
        said = _refusal(work, name, profile)
        if said and allowed:
            raise Wrong(f"A pod with one {profile} is refused, and should be let in: {said}")
        if not said and not allowed:
            raise Wrong(
                f"A pod with {PREFIX}{profile} is let in, after one small and one double one. Does "
                "the quota name that resource?"
            )
    for name in ("first-small", "double"):
        work.running(name)
    return "One small and one double instance are in use; more are refused, and the large one is."


def _refusal(work: Work, name: str, profile: str) -> str:
    """What the server says against a pod; empty if it takes it."""
    try:
        work.k.apply(gpu_pod(name, IMAGE, resource=f"{PREFIX}{profile}"))
    except ClusterError as error:
        return error.problem
    return ""
