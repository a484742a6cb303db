"""The right variable with the wrong value."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.cluster.wire import path


def repair(k: Connection) -> None:
    """It asks whether to accept, not whether to refuse."""
    policy = k.request("GET", path("nvidia.com/v1/clusterpolicies", "cluster-policy"))
    name = "ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED"
    listed = [*policy["spec"]["toolkit"]["env"], {"name": name, "value": "true"}]
    change = {"spec": {"toolkit": {"env": listed}}}
    k.patch("clusterpolicies", "cluster-policy", change)
