"""Metrics in logs, templates and conditions: the parts that need no cluster."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mlk8s.sim.addons.katib.gjson import Condition, UnsupportedError
from mlk8s.sim.addons.katib.metrics import (
    DEFAULT_FILTER,
    Metric,
    collected,
    filters,
    in_line,
    observation,
)
from mlk8s.sim.addons.katib.template import TemplateError, render

from .lab import template


def found(line: str, *metrics: str, by: str = DEFAULT_FILTER) -> list[tuple[str, str]]:
    read = in_line(line, metrics or ("loss",), [re.compile(by)])
    return [(each.name, each.value) for each in read]


# The examples are those beside the filter in Katib's source.
@pytest.mark.parametrize(
    "value", ["0.3", ".98", "-7.53e-05", "-7.53e+05", "1E0", "1.23E10", "-3", "+2"]
)
def test_the_default_filter(value: str) -> None:
    assert found(f"loss={value}") == [("loss", value)]
    assert found(f"epoch 3: loss = {value}, done") == [("loss", value)]


def test_which_metrics_a_line_reports() -> None:
    line = "loss=0.5 accuracy=0.9 val-loss=0.7"
    assert found(line) == [("loss", "0.5")]
    assert found(line, "val-loss", "loss") == [("loss", "0.5"), ("val-loss", "0.7")]
    assert found("the loss is 0.5") == []
    assert found('{"loss": 0.5}', by=r'"(\w+)": ([\d.]+)') == [("loss", "0.5")]
    own = {"source": {"filter": {"metricsFormat": [r"(\w+)->(\d+)"]}}}
    [metric] = in_line("loss->7", ["loss"], filters(own))
    assert metric.value == "7"


def test_the_time_of_a_line() -> None:
    line = "2026-11-24T10:00:00.123456789Z loss=0.5"
    [metric] = in_line(line, ["loss"], filters({}))
    assert metric.time == "2026-11-24T10:00:00.123456789Z"
    [metric] = in_line("10:00 loss=0.5", ["loss"], filters({}))
    assert metric.time == "0001-01-01T00:00:00Z"


def observed(*metrics: Metric, **strategies: str) -> dict[str, tuple[str, str, str]]:
    wanted = [{"name": name, "value": value} for name, value in strategies.items()]
    made = observation(metrics, wanted)["metrics"]
    return {each["name"]: (each["min"], each["max"], each["latest"]) for each in made}


def test_least_most_and_latest() -> None:
    values = [Metric("loss", value) for value in ("3", "1", "1e1", "2")]
    assert observed(*values, loss="min") == {"loss": ("1", "1e1", "2")}
    early = Metric("loss", "9", "2026-11-24T10:00:00Z")
    late = Metric("loss", "8", "2026-11-24T13:00:01+02:00")
    assert observed(late, early, loss="min") == {"loss": ("8", "9", "8")}
    missing = ("unavailable", "unavailable", "unavailable")
    assert observed(Metric("speed", "1"), loss="min") == {"loss": missing}
    words = observed(Metric("loss", "low"), loss="latest")
    assert words == {"loss": ("unavailable", "unavailable", "low")}


def test_an_objective_that_was_not_printed() -> None:
    other = [Metric("accuracy", "0.9")]
    assert collected(other, "loss") == [Metric("loss", "unavailable")]
    assert collected(other, "accuracy") == other


ASSIGNED = [{"name": "x", "value": "0.5"}]


def rendered(wanted: Any, assigned: Any = ASSIGNED) -> Any:
    return render(wanted, assigned, "a-1", "team", lambda *_: None)


def test_a_template_with_the_trials_own_data() -> None:
    wanted = template("${trialParameters.x}")
    metadata = {"labels": {"team": "vision"}, "annotations": {"note": "none"}}
    keys = ("Name", "Namespace", "Kind", "APIVersion", "Labels[team]", "Annotations[note]")
    script = " ".join(f"${{trialParameters.p{index}}}" for index, _ in enumerate(keys))
    wanted["trialSpec"] |= {"metadata": metadata, "script": script}
    wanted["trialParameters"] += [
        {"name": f"p{index}", "reference": f"${{trialSpec.{key}}}"}
        for index, key in enumerate(keys)
    ]
    made = rendered(wanted)
    assert made["script"] == "a-1 team Job batch/v1 vision none"
    assert made["metadata"] == {**metadata, "name": "a-1", "namespace": "team"}
    [container] = made["spec"]["template"]["spec"]["containers"]
    assert container["command"][2] == "0.5"


def test_a_template_from_a_config_map() -> None:
    text = "apiVersion: batch/v1\nkind: Job\nspec:\n  backoffLimit: ${trialParameters.x}\n"
    source = {"configMapName": "t", "configMapNamespace": "ops", "templatePath": "job.yaml"}
    wanted = {"configMap": source, "trialParameters": [{"name": "x", "reference": "x"}]}
    held = {("ops", "t"): {"job.yaml": text}}
    made = render(wanted, [{"name": "x", "value": "2"}], "a-1", "team", lambda *at: held.get(at))
    assert made["spec"] == {"backoffLimit": 2}
    with pytest.raises(TemplateError, match="configMap not found"):
        rendered(wanted)


def test_templates_that_cannot_be_rendered() -> None:
    with pytest.raises(TemplateError, match=r"parameter: x, parameter assignment: map\[y:1\]"):
        rendered(template(), [{"name": "y", "value": "1"}])
    more = [*ASSIGNED, {"name": "y", "value": "1"}]
    with pytest.raises(TemplateError, match=r"parameter assignments: \[\{x 0.5\} \{y 1\}\], non-"):
        rendered(template(), more)
    with pytest.raises(TemplateError, match="failed to convert string to unstructured"):
        rendered(template(), [{"name": "x", "value": '"'}])
    wanted = template("${trialParameters.x} ${trialParameters.z}")
    wanted["trialParameters"] += [{"name": "z", "reference": "${trialSpec.Labels[team]}"}]
    with pytest.raises(TemplateError, match="failed to fetch Label: team"):
        rendered(wanted)


RUN = {
    "status": {
        "conditions": [
            {"type": "Suspended", "status": "True"},
            {"type": "Complete", "status": "True", "reason": "Done"},
            {"type": "Failed", "status": "False"},
        ]
    }
}


def test_conditions() -> None:
    complete = Condition.parse('status.conditions.#(type=="Complete")#|#(status=="True")#')
    assert complete.match(RUN) == RUN["status"]["conditions"][1]
    assert complete.match({}) is None and complete.match({"status": {"conditions": 1}}) is None
    failed = Condition.parse('status.conditions.#(type=="Failed")#|#(status=="True")#')
    assert failed.match(RUN) is None
    first = Condition.parse('status.conditions.#(status=="True")')
    assert first.match(RUN) == RUN["status"]["conditions"][0]


@pytest.mark.parametrize(
    "text",
    [
        "status.succeeded",
        'status.conditions.#(type=="Complete")|#(status=="True")#',
        "status.conditions.#(type==Complete)#",
        'status.conditions.#(type!="Complete")#',
        '#(type=="Complete")#',
    ],
)
def test_conditions_in_other_forms(text: str) -> None:
    with pytest.raises(UnsupportedError, match=re.escape(repr(text))):
        Condition.parse(text)
