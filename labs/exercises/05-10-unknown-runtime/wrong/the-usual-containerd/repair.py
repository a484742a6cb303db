"""The paths of a plain containerd."""

from __future__ import annotations

from mlk8s.cluster import Connection


def repair(k: Connection) -> None:
    """What NVIDIA's page says for other distributions."""
    environment = {
        "CONTAINERD_CONFIG": "/etc/containerd/config.toml",
        "CONTAINERD_SOCKET": "/run/containerd/containerd.sock",
    }
    listed = [{"name": name, "value": value} for name, value in environment.items()]
    change = {"spec": {"toolkit": {"env": listed}}}
    k.patch("clusterpolicies", "cluster-policy", change)
