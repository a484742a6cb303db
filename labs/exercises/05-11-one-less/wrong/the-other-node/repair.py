"""Restart the plugin of the other server."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.course.exercises.repairs import PLUGIN, restart


def repair(k: Connection) -> None:
    """The device plugin is one for each node."""
    restart(k, PLUGIN, "t4x4-1")
