"""Give the ClusterQueue a quota of one GPU."""

from __future__ import annotations

from mlk8s.cluster import Connection


def repair(k: Connection) -> None:
    """What the job asks for, once."""
    quota = {"name": "nvidia.com/gpu", "nominalQuota": "1"}
    flavors = [{"name": "gpu", "resources": [quota]}]
    group = {"coveredResources": ["nvidia.com/gpu"], "flavors": flavors}
    k.patch("clusterqueues", "gpu", {"spec": {"resourceGroups": [group]}})
