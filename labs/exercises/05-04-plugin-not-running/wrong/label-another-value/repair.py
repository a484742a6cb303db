"""Label the node: kubectl label node h100-0 --overwrite nvidia.com/gpu.deploy.device-plugin=yes."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.course.exercises.repairs import label


def repair(k: Connection) -> None:
    """Let the DaemonSet of the device plugin select the node again."""
    label(k, "h100-0", "nvidia.com/gpu.deploy.device-plugin", "yes")
