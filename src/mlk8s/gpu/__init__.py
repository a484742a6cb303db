"""What a GPU is: the catalogue of parts, the probe of this machine's, and the sampler over time."""

from mlk8s.gpu import catalogue, cdi, compatibility, host, mig, probe, source
from mlk8s.gpu.probe import gpus
from mlk8s.gpu.source import is_live, origin, recorded_by
from mlk8s.gpu.watch import watch

__all__ = [
    "catalogue",
    "cdi",
    "compatibility",
    "gpus",
    "host",
    "is_live",
    "mig",
    "origin",
    "probe",
    "recorded_by",
    "source",
    "watch",
]
