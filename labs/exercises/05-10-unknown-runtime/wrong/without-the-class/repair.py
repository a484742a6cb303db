"""Make the pod again without its RuntimeClass."""

from __future__ import annotations

from mlk8s.cluster import Connection, gpu_pod


def repair(k: Connection) -> None:
    """It would start, and find no driver."""
    k.delete("pod", "train")
    k.apply(gpu_pod("train", "registry.k8s.io/pause:3.10", runtime_class=None))
