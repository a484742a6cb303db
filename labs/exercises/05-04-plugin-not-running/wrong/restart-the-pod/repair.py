"""Delete the waiting pod and make it again: kubectl replace --force."""

from __future__ import annotations

from mlk8s.cluster import Connection, gpu_pod


def repair(k: Connection) -> None:
    """As if the pod were what is broken."""
    k.delete("pod", "train")
    k.apply(gpu_pod("train", "registry.k8s.io/pause:3.10"))
