"""Let the DaemonSet of the control daemon select the node, and the plugin try again."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.course.exercises.repairs import PLUGIN, label, restart


def repair(k: Connection) -> None:
    """Set the label; the restart saves the back-off."""
    label(k, "h100-mps-0", "nvidia.com/mps.capable", "true")
    restart(k, PLUGIN, "h100-mps-0")
