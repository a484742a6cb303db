"""Delete the pod of the device plugin."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.course.exercises.repairs import PLUGIN, restart


def repair(k: Connection) -> None:
    """As if the plugin were what is broken."""
    restart(k, PLUGIN, "h100-mps-0")
