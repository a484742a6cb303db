"""Trials that are stopped for what they print: the rule, as Katib v0.19.0 has it."""

from __future__ import annotations

from typing import Any

from mlk8s.sim.addons.katib.medianstop import MedianStop, StopRules
from mlk8s.sim.addons.katib.metrics import Metric

from ..lab import HOME
from .lab import JOBS, KatibLab, X, experiment, parameter, settings, template

MEDIAN = {
    "algorithmName": "medianstop",
    "algorithmSettings": settings(min_trials_required=1, start_step=2),
}
# The values of x: the first Trial is good, the second is not.
GRID = {
    "algorithm": {"algorithmName": "grid", "algorithmSettings": settings(random_state=0)},
    "parameters": [parameter("x", "int", min="1", max="2")],
    "maxTrialCount": 2,
    "parallelTrialCount": 1,
}


def reported(**values: list[float]) -> list[tuple[str, list[Metric]]]:
    return [(name, [Metric("loss", str(each)) for each in given]) for name, given in values.items()]


def test_the_rule_is_the_mean_of_averages() -> None:
    given = {"algorithmName": "medianstop", "algorithmSettings": settings(start_step=2)}
    rule = MedianStop(experiment("a", earlyStopping=given))
    told = reported(a=[4, 2, 0], b=[9, 9])
    # Three Trials have to succeed by default.
    assert rule.rules(told) == []
    [found] = rule.rules(reported(c=[3]))
    assert found == {"name": "loss", "value": "5.0", "comparison": "greater", "startStep": 2}
    objective = {"type": "maximize", "objectiveMetricName": "loss"}
    rule = MedianStop(experiment("a", earlyStopping=MEDIAN, objective=objective))
    assert rule.rules(told)[0]["comparison"] == "less"


def stops(*values: float, **rule: Any) -> list[bool]:
    wanted = {"name": "loss", "value": "5", "comparison": "greater", "startStep": 2, **rule}
    rules = StopRules([wanted], {"type": "minimize", "objectiveMetricName": "loss"})
    return [rules.report("loss", value) for value in values]


def test_a_trial_is_judged_at_one_step_by_its_best_value() -> None:
    assert stops(9, 8) == [False, True]
    # The best value up to the step counts, and the step alone.
    assert stops(4, 8, 9) == [False, False, False]
    assert stops(9, 8, startStep=0) == [True, True]
    assert stops(5, 5, comparison="equal") == [False, True]
    assert stops(9, 8, name="other") == [False, False]


def test_a_trial_that_is_stopped(lab: KatibLab) -> None:
    first = one_is_stopped(lab, retain=True)
    status = lab.ends("a")
    assert (status["trialsSucceeded"], status["trialsEarlyStopped"]) == (1, 1)
    good, bad = lab.trials("a")
    assert "earlyStoppingRules" not in good["spec"]
    [rule] = bad["spec"]["earlyStoppingRules"]
    assert (rule["name"], float(rule["value"]), rule["startStep"]) == ("loss", float(first), 2)
    assert status["earlyStoppedTrialList"] == [bad["metadata"]["name"]]
    told = ("True", "TrialEarlyStopped", "Trial is early stopped")
    assert lab.told(bad)["EarlyStopped"] == told
    # What it had printed is known, and its Job counts as complete.
    lab.until(lambda: "observation" in lab.trials("a")[1]["status"])
    [metric] = lab.trials("a")[1]["status"]["observation"]["metrics"]
    assert metric["latest"] == bad["spec"]["parameterAssignments"][0]["value"]
    job = lab.get(f"{JOBS}/{bad['metadata']['name']}")
    assert "Complete" in lab.true(job)
    [pod] = lab.found(
        f"/api/v1{HOME}/pods",
        lambda pod: pod["metadata"]["labels"]["job-name"] == bad["metadata"]["name"],
    )
    log = lab.log(pod["metadata"]["name"], "metrics-logger-and-collector")
    assert "Training container is early stopped" in log and "Metrics reported" in log


def one_is_stopped(lab: KatibLab, **more: Any) -> str:
    """A grid of two values of which the first is the better one; gives that value."""
    lab.search("first", trialTemplate=template(), **GRID)
    lab.ends("first")
    first = lab.values("first")[0]
    objective = {
        "type": "minimize" if first == "1" else "maximize",
        "objectiveMetricName": "loss",
    }
    script = f"echo loss={X}; echo loss={X}; [ {X} = {first} ] || sleep 600"
    wanted = template(script, **more)
    lab.search("a", earlyStopping=MEDIAN, objective=objective, trialTemplate=wanted, **GRID)
    return first


def test_without_retain_its_metrics_are_lost(lab: KatibLab) -> None:
    """kubeflow/katib#1377: the Job is deleted before the observation is taken."""
    one_is_stopped(lab)
    lab.ends("a")
    lab.wait(40)
    stopped = lab.trials("a")[1]
    assert "EarlyStopped" in lab.true(stopped)
    assert "observation" not in stopped["status"]
    assert lab.found(JOBS) == []
