"""kubectl patch --type=merge with a list of one entry."""

from __future__ import annotations

from mlk8s.cluster import Connection


def repair(k: Connection) -> None:
    """The others are gone."""
    name = "ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED"
    listed = [{"name": name, "value": "false"}]
    change = {"spec": {"toolkit": {"env": listed}}}
    k.patch("clusterpolicies", "cluster-policy", change)
