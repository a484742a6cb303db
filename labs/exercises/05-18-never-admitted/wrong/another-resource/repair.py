"""Give the queue a quota of CPUs."""

from __future__ import annotations

from mlk8s.cluster import Connection


def repair(k: Connection) -> None:
    """The job waits for another resource."""
    quota = {"name": "cpu", "nominalQuota": "100"}
    flavors = [{"name": "gpu", "resources": [quota]}]
    group = {"coveredResources": ["cpu"], "flavors": flavors}
    k.patch("clusterqueues", "gpu", {"spec": {"resourceGroups": [group]}})
