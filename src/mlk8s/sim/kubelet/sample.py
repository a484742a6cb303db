"""What process groups use, measured at most every 15 seconds of the cluster's time."""

from __future__ import annotations

from dataclasses import dataclass, field

# metrics-server's default resolution.
RESOLUTION_S = 15.0


@dataclass
class Sample:
    """One measurement.

    Attributes:
        at: when, in seconds since the epoch.
        cpu_seconds: CPU time used so far, by group.
        cores: CPU in use since the measurement before, by group.
        memory: resident bytes, by group.
    """

    at: float
    cpu_seconds: dict[int, float] = field(default_factory=dict)
    cores: dict[int, float] = field(default_factory=dict)
    memory: dict[int, int] = field(default_factory=dict)
