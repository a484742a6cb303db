"""kubectl rollout restart ds -n gpu-operator-resources."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.course.exercises.repairs import OPERANDS, PLUGIN


def repair(k: Connection) -> None:
    """As if the DaemonSets were what is broken."""
    again = {"kubectl.kubernetes.io/restartedAt": "2026-11-01T12:00:00Z"}
    change = {"spec": {"template": {"metadata": {"annotations": again}}}}
    k.patch("daemonsets", PLUGIN, change, namespace=OPERANDS)
