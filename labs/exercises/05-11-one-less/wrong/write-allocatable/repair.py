"""Write the amount into the node's status by hand."""

from __future__ import annotations

from mlk8s.cluster import Connection


def repair(k: Connection) -> None:
    """What the kubelet would report, without the device behind it."""
    change = {"status": {"allocatable": {"nvidia.com/gpu": "4"}}}
    k.patch("node", "t4x4-0", change, subresource="status")
