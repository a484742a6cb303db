"""Put the key where it belongs, and restart the device plugin."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.course.exercises.repairs import OPERANDS, PLUGIN, restart

CONFIG = """\
version: v1
sharing:
  timeSlicing:
    renameByDefault: true
    resources:
    - name: nvidia.com/gpu
      replicas: 4
"""


def repair(k: Connection) -> None:
    """Edit the ConfigMap, then have it read."""
    k.patch("configmaps", "device-plugin-config", {"data": {"default": CONFIG}}, namespace=OPERANDS)
    restart(k, PLUGIN, "l4-0")
