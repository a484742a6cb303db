"""What a GPU is: the catalogue of parts, the probe of this machine's, and the sampler over time."""

from mlk8s.gpu import catalogue, host, probe, source
from mlk8s.gpu.probe import gpus
from mlk8s.gpu.source import is_live, origin, recorded_by
from mlk8s.gpu.watch import watch

__all__ = [
    "catalogue",
    "gpus",
    "host",
    "is_live",
    "origin",
    "probe",
    "recorded_by",
    "source",
    "watch",
]
