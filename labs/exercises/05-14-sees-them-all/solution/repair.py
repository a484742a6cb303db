"""Tell NVIDIA's runtime to believe the variable of privileged containers alone."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.cluster.wire import path


def repair(k: Connection) -> None:
    """Add one variable to those of the toolkit."""
    policy = k.request("GET", path("nvidia.com/v1/clusterpolicies", "cluster-policy"))
    name = "ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED"
    listed = [*policy["spec"]["toolkit"]["env"], {"name": name, "value": "false"}]
    change = {"spec": {"toolkit": {"env": listed}}}
    k.patch("clusterpolicies", "cluster-policy", change)
