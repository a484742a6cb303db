"""Guess a label of the usual family."""

from __future__ import annotations

from mlk8s.cluster import Connection
from mlk8s.course.exercises.repairs import label


def repair(k: Connection) -> None:
    """This DaemonSet is not selected by it."""
    label(k, "h100-mps-0", "nvidia.com/gpu.deploy.mps-control-daemon", "true")
