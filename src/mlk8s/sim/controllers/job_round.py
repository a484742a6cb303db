"""One look at a Job: what its pods are, and whether that ends it.

Nothing here reads or writes the cluster. Source: pkg/controller/job/job_controller.go, syncJob.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mlk8s.sim.clock import seconds
from mlk8s.sim.controllers import job_policy as policy
from mlk8s.sim.controllers.base import find_condition
from mlk8s.sim.controllers.pods import PodFacts
from mlk8s.sim.status import Object


@dataclass
class Round:
    """One look at a Job: what its pods are, and what follows from it.

    Attributes:
        finish: (``Complete`` or ``Failed``, reason, message) once the end is decided.
        failures: pods that failed since the last look, with the policy's action.
        retained: Indexed Jobs with a limit per index: the last failed pod of an index, whose
            count of failures its successor takes over.
    """

    job: Object
    pods: list[PodFacts]
    succeeded: int = 0
    failed: int = 0
    done: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)
    retained: dict[int, PodFacts] = field(default_factory=dict)
    finish: tuple[str, str, str] | None = None

    @property
    def spec(self) -> Object:
        """The desired state."""
        spec: Object = self.job["spec"]
        return spec

    @property
    def status(self) -> Object:
        """The status, which this look changes."""
        status: Object = self.job.setdefault("status", {})
        return status

    @property
    def indexed(self) -> bool:
        """Whether each pod has a number of its own."""
        return bool(self.spec.get("completionMode") == "Indexed")

    @property
    def per_index(self) -> bool:
        """Whether failures are limited for each index."""
        return self.spec.get("backoffLimitPerIndex") is not None

    @property
    def completions(self) -> int | None:
        """How many pods have to succeed; ``None`` for a work queue."""
        told: int | None = self.spec.get("completions")
        return told

    @property
    def suspended(self) -> bool:
        """Whether no pod may run now."""
        return bool(self.spec.get("suspend"))

    @property
    def replaces_failed(self) -> bool:
        """Whether a pod that is being deleted is replaced only when it is gone."""
        told = self.spec.get("podReplacementPolicy")
        return bool(told == "Failed" or (told is None and self.spec.get("podFailurePolicy")))

    @property
    def active(self) -> list[PodFacts]:
        """The pods that count as running."""
        return [pod for pod in self.pods if pod.active]

    def has_failed(self, pod: PodFacts) -> bool:
        """Whether a pod counts as failed; one being deleted does, unless it may still succeed."""
        if pod.phase == "Failed":
            return True
        return not self.replaces_failed and pod.deleting and pod.phase != "Succeeded"

    def counts(self, pod: PodFacts) -> bool:
        """Whether the pod is one of this Job's tries that has not been counted yet."""
        if not pod.tracked:
            return False
        return not self.indexed or 0 <= pod.index < (self.completions or 0)


def decide(turn: Round, now: float) -> float | None:
    """Set :attr:`Round.finish` when the Job is to end.

    Args:
        turn: the look, after its pods have been counted.
        now: in seconds since the epoch.

    Returns:
        Seconds until a deadline that has not passed yet, or ``None``.
    """
    status, spec = turn.status, turn.spec
    for type, end in (("SuccessCriteriaMet", "Complete"), ("FailureTarget", "Failed")):
        known = find_condition(status, type)
        if known is not None and known["status"] == "True":
            turn.finish = (end, known.get("reason", ""), known.get("message", ""))
    if turn.finish is not None:
        return None
    left = _left(turn, now)
    limit = spec.get("backoffLimit", 6)
    if turn.failed > limit or _restarted_too_often(turn, limit):
        turn.finish = (
            "Failed",
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        )
    elif left is not None and left <= 0:
        turn.finish = (
            "Failed",
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
        )
    elif turn.indexed:
        _decide_indexed(turn)
    return left if turn.finish is None else None


def _decide_indexed(turn: Round) -> None:
    completions = turn.completions or 0
    most = turn.spec.get("maxFailedIndexes")
    if turn.per_index and most is not None and len(turn.lost) > most:
        turn.finish = (
            "Failed",
            "MaxFailedIndexesExceeded",
            "Job has exceeded the specified maximal number of failed indexes",
        )
    elif turn.per_index and turn.lost and len(turn.lost | turn.done) >= completions:
        turn.finish = ("Failed", "FailedIndexes", "Job has failed indexes")
    else:
        met = policy.success_rule(turn.spec.get("successPolicy"), turn.done, completions)
        if met:
            turn.finish = ("Complete", "SuccessPolicy", met)


def _restarted_too_often(turn: Round, limit: int) -> bool:
    if turn.spec["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(pod.restarts for pod in turn.pods if pod.phase in ("Running", "Pending"))
    return restarts > 0 if limit == 0 else restarts >= limit


def _left(turn: Round, now: float) -> float | None:
    """Seconds until ``activeDeadlineSeconds`` have passed."""
    allowed, began = turn.spec.get("activeDeadlineSeconds"), turn.status.get("startTime")
    if allowed is None or began is None or turn.suspended:
        return None
    return float(seconds(began) + allowed - now)
