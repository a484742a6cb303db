"""kubectl patch job kueue-demo -n default --type=merge -p '{"spec": {"suspend": false}}'."""

from __future__ import annotations

from mlk8s.cluster import Connection


def repair(k: Connection) -> None:
    """Kueue suspends it again."""
    k.patch("jobs", "kueue-demo", {"spec": {"suspend": False}}, namespace="default")
