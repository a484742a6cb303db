"""kubectl label node h100-0 nvidia.com/gpu.deploy.device-plugin=true."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.course.exercises.repairs import label


def repair(k: Connection) -> None:
    """Make one DaemonSet select the node."""
    label(k, "h100-0", "nvidia.com/gpu.deploy.device-plugin", "true")
