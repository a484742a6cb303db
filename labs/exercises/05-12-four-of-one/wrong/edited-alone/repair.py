"""Put the key where it belongs."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.course.exercises.repairs import OPERANDS

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
    """Nobody reads it."""
    k.patch("configmaps", "device-plugin-config", {"data": {"default": CONFIG}}, namespace=OPERANDS)
