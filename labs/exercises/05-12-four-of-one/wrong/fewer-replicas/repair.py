"""Two replicas, renamed."""

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
      replicas: 2
"""


def repair(k: Connection) -> None:
    """The key is right now, the number is not."""
    k.patch("configmaps", "device-plugin-config", {"data": {"default": CONFIG}}, namespace=OPERANDS)
    restart(k, PLUGIN, "l4-0")
