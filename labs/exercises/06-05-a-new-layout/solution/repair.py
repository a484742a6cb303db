"""Delete the pod that is in the way, then ask for the layout."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.course.exercises.repairs import label


def repair(k: Connection) -> None:
    """In this order."""
    k.delete("pod", "old-job")
    label(k, "h100-mig-0", "nvidia.com/mig.config", "all-1g.10gb")
