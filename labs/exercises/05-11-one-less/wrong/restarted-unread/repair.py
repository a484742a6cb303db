"""Restart first, and guess."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.course.exercises.repairs import PLUGIN, restart


def repair(k: Connection) -> None:
    """The log is gone with the pod."""
    restart(k, PLUGIN, "t4x4-0")
