"""Set the variables in the DaemonSet: kubectl set env ds/…."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.cluster.wire import path
from mlk8s.course.exercises.repairs import OPERANDS, TOOLKIT


def repair(k: Connection) -> None:
    """What the operator owns, it writes again."""
    environment = {
        "CONTAINERD_CONFIG": "/var/snap/microk8s/current/args/containerd-template.toml",
        "CONTAINERD_SOCKET": "/var/snap/microk8s/common/run/containerd.sock",
        "RUNTIME_CONFIG_SOURCE": "file=/var/snap/microk8s/current/args/containerd.toml",
    }
    listed = [{"name": name, "value": value} for name, value in environment.items()]
    daemon_set = k.request("GET", path("apps/v1/daemonsets", TOOLKIT, OPERANDS))
    (container,) = daemon_set["spec"]["template"]["spec"]["containers"]
    template = {"spec": {"containers": [{**container, "env": listed}]}}
    k.patch("daemonsets", TOOLKIT, {"spec": {"template": template}}, namespace=OPERANDS)
