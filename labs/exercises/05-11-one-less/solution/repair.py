"""Restart the device plugin of the node: after Xid 94 the GPU is well."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.course.exercises.repairs import PLUGIN, restart


def repair(k: Connection) -> None:
    """The next pod of the plugin finds all devices healthy."""
    restart(k, PLUGIN, "t4x4-0")
