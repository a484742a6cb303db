"""Metrics in what a Trial prints, and what comes of them.

Sources, of Katib at v0.19.0: ``parseLogsInTextFormat`` and ``newObservationLog`` in
``pkg/metricscollector/v1beta1/file-metricscollector``, the filter in
``pkg/metricscollector/v1beta1/common/const.go``, ``getMetrics`` in
``pkg/controller.v1beta1/trial/trial_controller_util.go``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mlk8s.sim.addons.katib import names
from mlk8s.sim.status import Object

#: Finds a metric's name and its value, as in ``loss=0.3`` or ``Score=-7.53e-05``.
DEFAULT_FILTER = r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)"
# time.Time{} of Go: the time of a line that begins with none.
_NO_TIME = "0001-01-01T00:00:00Z"
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
# strconv.ParseFloat: Python's float() also takes spaces and underscores.
_FLOAT = re.compile(
    r"[+-]?((\d+(\.\d*)?|\.\d+)([Ee][+-]?\d+)?|inf(inity)?|nan)", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True)
class Metric:
    """A metric that was reported once.

    Attributes:
        name: of the metric.
        value: as it was printed.
        time: when, in RFC 3339; year 1 where the line does not say.
    """

    name: str
    value: str
    time: str = _NO_TIME

    @property
    def moment(self) -> datetime:
        """The time, to compare with others."""
        # Go knows nanoseconds, Python microseconds.
        text = re.sub(r"(\.\d{6})\d+", r"\1", self.time)
        return datetime.fromisoformat(text).astimezone(UTC)


def number(text: str) -> float | None:
    """A number as Go reads it; ``None`` where it is none."""
    return float(text) if _FLOAT.fullmatch(text) else None


def wanted(objective: Object) -> list[str]:
    """The metrics that are collected for an objective: its own first."""
    additional = objective.get("additionalMetricNames") or ()
    return [objective["objectiveMetricName"], *additional]


def filters(collector: Object) -> list[re.Pattern[str]]:
    """The expressions that find metrics.

    Args:
        collector: ``spec.metricsCollector`` of a Trial.
    """
    source = collector.get("source") or {}
    formats = (source.get("filter") or {}).get("metricsFormat") or [DEFAULT_FILTER]
    return [re.compile(each, re.ASCII) for each in formats]


def matches(line: str, found_by: Iterable[re.Pattern[str]]) -> Iterator[tuple[str, str]]:
    """Name and value of each metric in a line, whatever its name."""
    for pattern in found_by:
        for match in pattern.finditer(line):
            name, value, *_ = match.groups()
            yield (name or "").strip(), (value or "").strip()


def in_line(
    line: str, metrics: Sequence[str], found_by: Iterable[re.Pattern[str]]
) -> Iterator[Metric]:
    """The metrics that a line reports."""
    if not any(metric in line for metric in metrics):
        return
    first, space, _ = line.partition(" ")
    time = first if space and _RFC3339.fullmatch(first) else _NO_TIME
    for name, value in matches(line, found_by):
        if name in metrics:
            yield Metric(name, value, time)


def collected(found: list[Metric], objective: str) -> list[Metric]:
    """What the collector reports: the metrics, or that the objective's was not printed."""
    if any(each.name == objective for each in found):
        return found
    return [Metric(objective, names.UNAVAILABLE)]


def observation(found: Iterable[Metric], strategies: Iterable[Object]) -> Object:
    """The smallest, largest and latest value of each metric that has a strategy."""
    told = {
        each["name"]: dict.fromkeys(("min", "max", "latest"), names.UNAVAILABLE)
        for each in strategies
    }
    newest: dict[str, datetime] = {}
    for metric in found:
        if metric.name not in told:
            continue
        values, value = told[metric.name], number(metric.value)
        if value is not None:
            if values["min"] == names.UNAVAILABLE:
                values["min"] = values["max"] = metric.value
            elif value < float(values["min"]):
                values["min"] = metric.value
            elif value > float(values["max"]):
                values["max"] = metric.value
        if metric.name not in newest or newest[metric.name] <= metric.moment:
            newest[metric.name] = metric.moment
            values["latest"] = metric.value
    return {"metrics": [{"name": name, **values} for name, values in told.items()]}


def value_of(trial: Object, metric: str) -> str:
    """The value of a metric of a Trial by its strategy; ``unavailable`` where there is none.

    Source: ``getObjectiveMetricValue`` in
    ``pkg/controller.v1beta1/experiment/util/status_util.go``.
    """
    objective = trial["spec"]["objective"]
    strategies = {each["name"]: each["value"] for each in objective["metricStrategies"]}
    observed = (trial.get("status") or {}).get("observation") or {}
    for each in observed.get("metrics") or ():
        if each["name"] == metric:
            found = str(each[strategies.get(metric, "latest")])
            return str(each["latest"]) if found == names.UNAVAILABLE else found
    return names.UNAVAILABLE


def available(trial: Object) -> bool:
    """Whether the objective's metric of a Trial is known."""
    metric = trial["spec"]["objective"]["objectiveMetricName"]
    observed = (trial.get("status") or {}).get("observation") or {}
    return any(
        each["name"] == metric and each["latest"] != names.UNAVAILABLE
        for each in observed.get("metrics") or ()
    )
