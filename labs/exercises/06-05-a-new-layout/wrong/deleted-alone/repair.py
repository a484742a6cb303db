"""Delete the pod, and wait for the rest to happen."""

from __future__ import annotations

from mlk8s.cluster import Connection


def repair(k: Connection) -> None:
    """Nobody has asked for another layout."""
    k.delete("pod", "old-job")
