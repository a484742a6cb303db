"""Tell the device plugin."""

from __future__ import annotations

from mlk8s.cluster import Connection


def repair(k: Connection) -> None:
    """It is not asked for such pods."""
    name = "ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED"
    listed = [{"name": name, "value": "false"}]
    change = {"spec": {"devicePlugin": {"env": listed}}}
    k.patch("clusterpolicies", "cluster-policy", change)
