"""Write the label that Node Feature Discovery would write."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.course.exercises.repairs import label


def repair(k: Connection) -> None:
    """Tell the operator that an NVIDIA device is on the bus."""
    label(k, "h100-0", "feature.node.kubernetes.io/pci-10de.present", "true")
