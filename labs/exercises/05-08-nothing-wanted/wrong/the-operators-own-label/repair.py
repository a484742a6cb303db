"""kubectl label node h100-0 --overwrite nvidia.com/gpu.present=true."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.course.exercises.repairs import label


def repair(k: Connection) -> None:
    """Write what the operator writes; it takes it back."""
    label(k, "h100-0", "nvidia.com/gpu.present", "true")
