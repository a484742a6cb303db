"""kubectl label node h100-mig-0 --overwrite nvidia.com/mig.config=all-1g.10gb."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.course.exercises.repairs import label


def repair(k: Connection) -> None:
    """The pod is still there."""
    label(k, "h100-mig-0", "nvidia.com/mig.config", "all-1g.10gb")
