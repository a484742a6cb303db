"""kubectl label namespace NAMESPACE katib.kubeflow.org/metrics-collector-injection=enabled."""

from __future__ import annotations

from mlk8s.cluster import Connection

LABEL = "katib.kubeflow.org/metrics-collector-injection"


def repair(k: Connection) -> None:
    """Ask for the collector in this namespace."""
    k.patch("namespaces", k.namespace, {"metadata": {"labels": {LABEL: "enabled"}}})
