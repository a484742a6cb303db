"""What an Experiment says of its Trials, and when it ends.

Source: ``pkg/controller.v1beta1/experiment/util/status_util.go`` of Katib at v0.19.0.
"""

from __future__ import annotations

from mlk8s.sim.addons.katib import conditions, names
from mlk8s.sim.addons.katib.metrics import number, value_of
from mlk8s.sim.addons.katib.validation import MAX_TRIALS_REACHED
from mlk8s.sim.addons.objects import holds
from mlk8s.sim.controllers.base import put
from mlk8s.sim.status import Object

# The first condition that a Trial has decides; the names of the list and of the count.
_STATES = (
    (names.KILLED, "killedTrialList", "trialsKilled"),
    (names.FAILED, "failedTrialList", "trialsFailed"),
    (names.SUCCEEDED, "succeededTrialList", "trialsSucceeded"),
    (names.EARLY_STOPPED, "earlyStoppedTrialList", "trialsEarlyStopped"),
    (names.RUNNING, "runningTrialList", "trialsRunning"),
    (names.METRICS_UNAVAILABLE, "metricsUnavailableTrialList", "trialMetricsUnavailable"),
    ("", "pendingTrialList", "trialsPending"),
)
_GOAL = ("ExperimentGoalReached", "Experiment has succeeded because Objective goal has reached")
_FAILED = ("ExperimentFailed", "Experiment has failed because max failed count has reached")
_DONE = (MAX_TRIALS_REACHED, "Experiment has succeeded because max trial count has reached")
_RUNS = ("ExperimentRunning", "Experiment is running")


def update(experiment: Object, trials: list[Object], when: str) -> None:
    """Count the Trials, find the best one, and set the conditions.

    Args:
        experiment: its status is changed in place.
        trials: all of its Trials; at least one.
        when: the present time.
    """
    status = experiment["status"]
    _count(status, trials)
    reached = _choose(experiment, trials)
    if holds(status, names.SUCCEEDED, names.FAILED):
        return
    if reached:
        _end(status, names.SUCCEEDED, *_GOAL, when)
        return
    spec = experiment["spec"]
    failed = count(status, "trialsFailed", "trialMetricsUnavailable")
    if "maxFailedTrialCount" in spec and failed and failed >= spec["maxFailedTrialCount"]:
        _end(status, names.FAILED, *_FAILED, when)
    elif "maxTrialCount" in spec and ended(status, unavailable=True) >= spec["maxTrialCount"]:
        _end(status, names.SUCCEEDED, *_DONE, when)
    else:
        conditions.put(status, names.RUNNING, True, *_RUNS, when)


def count(status: Object, *counts: str) -> int:
    """The sum of some of the counts."""
    return sum(status.get(each, 0) for each in counts)


def ended(status: Object, *, unavailable: bool) -> int:
    """How many Trials have ended; with those whose metrics are not available, or without."""
    counts = ["trialsSucceeded", "trialsFailed", "trialsKilled", "trialsEarlyStopped"]
    return count(status, *counts, *(["trialMetricsUnavailable"] if unavailable else []))


def _count(status: Object, trials: list[Object]) -> None:
    lists: dict[str, list[str]] = {listed: [] for _, listed, _ in _STATES}
    for trial in trials:
        said = trial.get("status") or {}
        listed = next(each for type, each, _ in _STATES if not type or holds(said, type))
        lists[listed].append(trial["metadata"]["name"])
    put(status, trials=len(trials))
    for _, listed, counted in _STATES:
        put(status, **{counted: len(lists[listed])})
        if lists[listed]:
            status[listed] = lists[listed]
        else:
            status.pop(listed, None)


def _choose(experiment: Object, trials: list[Object]) -> bool:
    """Find the best Trial; says whether the goal has been reached."""
    objective = experiment["spec"]["objective"]
    sign = 1.0 if objective["type"] == names.MAXIMIZE else -1.0
    best, top = None, 0.0
    reached = False
    for trial in trials:
        text = value_of(trial, objective["objectiveMetricName"])
        if text == names.UNAVAILABLE:
            continue
        value = number(text)
        if value is None:
            # Of values that are no numbers Katib takes the last.
            best = trial
            continue
        if best is None or sign * value > sign * top:
            best, top = trial, value
        goal = objective.get("goal")
        reached = reached or (goal is not None and sign * top >= sign * goal)
    status = experiment["status"]
    if best is not None:
        status["currentOptimalTrial"] = {
            "bestTrialName": best["metadata"]["name"],
            "parameterAssignments": best["spec"]["parameterAssignments"],
            "observation": {"metrics": best["status"]["observation"]["metrics"]},
        }
    return reached


def _end(status: Object, type: str, reason: str, message: str, when: str) -> None:
    conditions.end(status, type, reason, message, when)
    status["completionTime"] = when
