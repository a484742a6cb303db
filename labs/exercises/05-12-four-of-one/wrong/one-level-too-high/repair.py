"""Put the key beside timeSlicing."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.course.exercises.repairs import OPERANDS, PLUGIN, restart

CONFIG = """\
version: v1
sharing:
  renameByDefault: true
  timeSlicing:
    resources:
    - name: nvidia.com/gpu
      replicas: 4
"""


def repair(k: Connection) -> None:
    """Nearer, and still not there."""
    k.patch("configmaps", "device-plugin-config", {"data": {"default": CONFIG}}, namespace=OPERANDS)
    restart(k, PLUGIN, "l4-0")
