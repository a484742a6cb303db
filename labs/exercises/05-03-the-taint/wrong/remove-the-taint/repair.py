"""Take the taint away: kubectl taint node h100-0 nvidia.com/gpu-."""

from __future__ import annotations

from mlk8s.cluster import Connection


def repair(k: Connection) -> None:
    """What the task forbids."""
    k.patch("nodes", "h100-0", {"spec": {"taints": None}})
