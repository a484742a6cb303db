"""The flavors that a workload gets, and how Kueue tells of them.

The texts are those of ``pkg/scheduler/flavorassigner``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction

from mlk8s.sim.addons.kueue.model import Amounts, PodSet, shown
from mlk8s.sim.status import Object


class Mode(IntEnum):
    """What it takes to use a flavor; more is better."""

    NO_FIT = 0
    NO_CANDIDATES = 1
    PREEMPT = 2
    RECLAIM = 3
    FIT = 4


# As the event of an admission names them.
_MODES = {
    Mode.NO_FIT: "NoFit",
    Mode.NO_CANDIDATES: "preemptionMode=NoCandidates",
    Mode.PREEMPT: "preemptionMode=Preempt",
    Mode.RECLAIM: "preemptionMode=Reclaim",
    Mode.FIT: "Fit",
}


@dataclass
class Attempt:
    """What came of one flavor."""

    mode: Mode
    borrow: int = 0
    reasons: list[str] = field(default_factory=list)


@dataclass
class Assigned:
    """A resource's flavor."""

    flavor: str
    mode: Mode
    borrow: int


@dataclass
class PodSetAssignment:
    """The flavors of one pod set."""

    pod_set: PodSet
    requests: dict[str, Fraction]
    flavors: dict[str, Assigned] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    attempts: dict[str, Attempt] = field(default_factory=dict)

    @property
    def mode(self) -> Mode:
        """The worst of its flavors."""
        if not self.reasons:
            return Mode.FIT
        return min((each.mode for each in self.flavors.values()), default=Mode.NO_FIT)


@dataclass
class Assignment:
    """The flavors of a workload."""

    pod_sets: list[PodSetAssignment] = field(default_factory=list)
    usage: Amounts = field(default_factory=dict)

    @property
    def mode(self) -> Mode:
        """The worst of its pod sets."""
        return min((each.mode for each in self.pod_sets), default=Mode.NO_FIT)

    @property
    def borrow(self) -> int:
        """0 when its ClusterQueue's own quota is enough."""
        found = (a.borrow for each in self.pod_sets for a in each.flavors.values())
        return max(found, default=0)

    @property
    def message(self) -> str:
        """Why it cannot be admitted now."""
        return "; ".join(
            f"couldn't assign flavors to pod set {each.pod_set.name}: "
            + ", ".join(sorted(each.reasons))
            for each in self.pod_sets
            if each.reasons
        )

    @property
    def considered(self) -> str:
        """The flavors that were not simply taken, for the event of the admission."""
        found = []
        for each in self.pod_sets:
            told = [
                _told(flavor, attempt)
                for flavor, attempt in sorted(each.attempts.items())
                if attempt.mode is not Mode.FIT or attempt.borrow
            ]
            if told:
                found.append(f"{each.pod_set.name}: {', '.join(told)}")
        return " | ".join(found)

    @property
    def contested(self) -> set[tuple[str, str]]:
        """Of which others hold too much."""
        return {
            (assigned.flavor, resource)
            for each in self.pod_sets
            for resource, assigned in each.flavors.items()
            if Mode.NO_FIT < assigned.mode < Mode.FIT
        }

    def as_status(self, queue: str) -> Object:
        """``status.admission``."""
        return {
            "clusterQueue": queue,
            "podSetAssignments": [
                {
                    "name": each.pod_set.name,
                    "flavors": {name: a.flavor for name, a in sorted(each.flavors.items())},
                    "resourceUsage": {
                        name: shown(name, each.requests[name]) for name in sorted(each.flavors)
                    },
                    "count": each.pod_set.count,
                }
                for each in self.pod_sets
            ],
        }


def _told(flavor: str, attempt: Attempt) -> str:
    borrow = f";borrow={attempt.borrow}" if attempt.borrow else ""
    reasons = "".join(f";{reason}" for reason in sorted(set(attempt.reasons)))
    return f"{flavor}({_MODES[attempt.mode]}{borrow}{reasons})"
