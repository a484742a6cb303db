"""Early stopping by the median stopping rule, as Katib carries it out.

Katib compares with the mean of the earlier Trials' averages, although it calls it the median.
Sources, of Katib at v0.19.0: ``pkg/earlystopping/v1beta1/medianstop/service.py`` and
``updateStopRules`` in ``cmd/metricscollector/v1beta1/file-metricscollector/main.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlk8s.sim.addons.katib import names
from mlk8s.sim.addons.katib.metrics import Metric
from mlk8s.sim.status import Object

_DEFAULTS = {"min_trials_required": 3, "start_step": 4}


def mistake(settings: Iterable[Object]) -> str:
    """What is wrong with the settings, in Katib's words; empty where nothing is."""
    for setting in settings:
        name, text = setting.get("name", ""), setting.get("value", "")
        if name not in _DEFAULTS:
            return f"unknown setting {name} for algorithm medianstop"
        try:
            value = int(text)
        except ValueError as error:
            return f"failed to validate {name}({text}): {error}"
        if value < 1:
            rule = "must be greater than zero (>0)"
            if name == "start_step":
                rule = "must be greater or equal than one (>=1)"
            return f"{name} {rule}"
    return ""


class MedianStop:
    """The rule of one Experiment.

    Args:
        experiment: with its defaults.
    """

    def __init__(self, experiment: Object) -> None:
        spec = experiment["spec"]
        given = spec["earlyStopping"].get("algorithmSettings") or ()
        settings = _DEFAULTS | {each["name"]: int(each["value"]) for each in given}
        self._required = settings["min_trials_required"]
        self._start = settings["start_step"]
        objective = spec["objective"]
        self._metric: str = objective["objectiveMetricName"]
        self._comparison = "less" if objective["type"] == names.MAXIMIZE else "greater"
        self._averages: dict[str, float] = {}

    def rules(self, reported: Iterable[tuple[str, Sequence[Metric]]]) -> list[Object]:
        """The rules for Trials that are about to start; none while too few have succeeded.

        Args:
            reported: name and metrics, by time, of each Trial that has succeeded.
        """
        for name, found in reported:
            values = [float(each.value) for each in found if each.name == self._metric]
            first = values[: self._start]
            if name not in self._averages and first:
                self._averages[name] = sum(first) / len(first)
        if len(self._averages) < self._required:
            return []
        value = sum(self._averages.values()) / len(self._averages)
        rule: Object = {
            "name": self._metric,
            "value": str(value),
            "comparison": self._comparison,
            "startStep": self._start,
        }
        return [rule]


class StopRules:
    """The rules of one Trial while it runs.

    Args:
        rules: ``spec.earlyStoppingRules``.
        objective: ``spec.objective``.
    """

    def __init__(self, rules: Iterable[Object], objective: Object) -> None:
        self._rules = list(rules)
        self._left = {each["name"]: each["startStep"] for each in rules if each.get("startStep")}
        self._objective: str = objective["objectiveMetricName"]
        self._better = max if objective["type"] == names.MAXIMIZE else min
        self._best: float | None = None

    def report(self, metric: str, value: float) -> bool:
        """Take a value that the Trial has reported.

        Returns:
            Whether all rules have been met by now: the Trial is to stop.
        """
        for rule in [each for each in self._rules if each["name"] == metric]:
            found = value
            if metric == self._objective:
                self._best = value if self._best is None else self._better(self._best, value)
                found = self._best
            if metric in self._left:
                self._left[metric] -= 1
                # Katib's counter goes on below zero: the rule is applied at the step, once.
                if self._left[metric] != 0:
                    continue
            if _meets(found, rule["comparison"], float(rule["value"])):
                self._rules.remove(rule)
        return not self._rules


def _meets(value: float, comparison: str, limit: float) -> bool:
    match comparison:
        case "equal":
            return value == limit
        case "less":
            return value < limit
        case "greater":
            return value > limit
    return False
