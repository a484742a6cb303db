"""Tell the toolkit through the ClusterPolicy where MicroK8s keeps its containerd."""

from __future__ import annotations

from mlk8s.cluster import Connection


def repair(k: Connection) -> None:
    """The three variables that the MicroK8s add-on sets."""
    environment = {
        "CONTAINERD_CONFIG": "/var/snap/microk8s/current/args/containerd-template.toml",
        "CONTAINERD_SOCKET": "/var/snap/microk8s/common/run/containerd.sock",
        "RUNTIME_CONFIG_SOURCE": "file=/var/snap/microk8s/current/args/containerd.toml",
    }
    listed = [{"name": name, "value": value} for name, value in environment.items()]
    change = {"spec": {"toolkit": {"env": listed}}}
    k.patch("clusterpolicies", "cluster-policy", change)
