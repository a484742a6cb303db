"""Reading objects as Katib's webhooks and controllers do: by the types of its Go code.

The definitions have no schema, so a number where Katib wants text gets as far as the webhook, which
says so in the words of Go's ``encoding/json``. What Katib has no field for is dropped, as is what
is empty: the webhook answers with the object as it has read it. Types: ``pkg/apis/controller`` of
Katib at v0.19.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlk8s.sim.addons.katib import names
from mlk8s.sim.status import Object


class UnreadableError(Exception):
    """A value of another type than Katib's; the message is Go's."""


@dataclass(frozen=True)
class _Struct:
    """A struct of Go.

    Attributes:
        name: of the type.
        fields: the type of each: a name of a simple type, a struct, or a list of either.
    """

    name: str
    fields: dict[str, Any]


_TEXT, _COUNT, _NUMBER, _FLAG = "string", "int32", "float64", "bool"
_LABELS, _OPEN = "map[string]string", "map[string]interface {}"
_JSON: dict[type, str] = {list: "array", dict: "object"}
# Pointers: nothing differs from zero.
_KEPT = {"goal", "maxTrialCount", "maxFailedTrialCount", "parallelTrialCount"}


def _texts(name: str, *fields: str) -> _Struct:
    return _Struct(name, dict.fromkeys(fields, _TEXT))


def _algorithm(name: str, setting: str) -> _Struct:
    settings = [_texts(setting, "name", "value")]
    return _Struct(name, {"algorithmName": _TEXT, "algorithmSettings": settings})


_OBJECTIVE = _Struct(
    "ObjectiveSpec",
    {
        "type": _TEXT,
        "goal": _NUMBER,
        "objectiveMetricName": _TEXT,
        "additionalMetricNames": [_TEXT],
        "metricStrategies": [_texts("MetricStrategy", "name", "value")],
    },
)
_ALGORITHM = _algorithm("AlgorithmSpec", "AlgorithmSetting")
_EARLY_STOPPING = _algorithm("EarlyStoppingSpec", "EarlyStoppingSetting")
_SPACE = _Struct(
    "FeasibleSpace",
    {"max": _TEXT, "min": _TEXT, "list": [_TEXT], "step": _TEXT, "distribution": _TEXT},
)
_PARAMETER = _Struct(
    "ParameterSpec", {"name": _TEXT, "parameterType": _TEXT, "feasibleSpace": _SPACE}
)
_SOURCE = _Struct(
    "SourceSpec",
    {
        "httpGet": _OPEN,
        "fileSystemPath": _texts("FileSystemPath", "path", "kind", "format"),
        "filter": _Struct("FilterSpec", {"metricsFormat": [_TEXT]}),
    },
)
_COLLECTOR = _Struct(
    "MetricsCollectorSpec",
    {
        "source": _SOURCE,
        "collector": _Struct("CollectorSpec", {"kind": _TEXT, "customCollector": _OPEN}),
    },
)
_PRIMARY: dict[str, Any] = {
    "primaryPodLabels": _LABELS,
    "primaryContainerName": _TEXT,
    "successCondition": _TEXT,
    "failureCondition": _TEXT,
}
_CONFIG_MAP = ("configMapName", "configMapNamespace", "templatePath")
_TEMPLATE = _Struct(
    "TrialTemplate",
    {
        "retain": _FLAG,
        "trialSpec": _OPEN,
        "configMap": _texts("ConfigMapSource", *_CONFIG_MAP),
        "trialParameters": [_texts("TrialParameterSpec", "name", "description", "reference")],
        **_PRIMARY,
    },
)
_RULE = _Struct(
    "EarlyStoppingRule",
    {"name": _TEXT, "value": _TEXT, "comparison": _TEXT, "startStep": "int"},
)
_SPECS = {
    names.EXPERIMENTS: _Struct(
        "ExperimentSpec",
        {
            "parameters": [_PARAMETER],
            "objective": _OBJECTIVE,
            "algorithm": _ALGORITHM,
            "earlyStopping": _EARLY_STOPPING,
            "trialTemplate": _TEMPLATE,
            "parallelTrialCount": _COUNT,
            "maxTrialCount": _COUNT,
            "maxFailedTrialCount": _COUNT,
            "metricsCollectorSpec": _COLLECTOR,
            "nasConfig": _OPEN,
            "resumePolicy": _TEXT,
        },
    ),
    names.SUGGESTIONS: _Struct(
        "SuggestionSpec",
        {
            "algorithm": _ALGORITHM,
            "earlyStopping": _EARLY_STOPPING,
            "requests": _COUNT,
            "resumePolicy": _TEXT,
        },
    ),
    names.TRIALS: _Struct(
        "TrialSpec",
        {
            "objective": _OBJECTIVE,
            "parameterAssignments": [_texts("ParameterAssignment", "name", "value")],
            "earlyStoppingRules": [_RULE],
            "runSpec": _OPEN,
            "retainRun": _FLAG,
            "metricsCollector": _COLLECTOR,
            **_PRIMARY,
            "labels": _LABELS,
        },
    ),
}


def read_spec(key: str, obj: Object) -> Object:
    """The spec of an Experiment, a Suggestion or a Trial.

    Args:
        key: the resource.
        obj: the object.

    Raises:
        UnreadableError: a value has another type than Katib's.
    """
    struct = _SPECS[key]
    said = obj.get("spec")
    if said is None:
        return {}
    found = _read(said, struct, _Struct(names.KINDS[key], {}), "spec")
    assert isinstance(found, dict)
    return found


def _read(value: Any, wanted: Any, inside: _Struct, path: str) -> Any:
    if isinstance(wanted, _Struct):
        _require(isinstance(value, dict), value, f"v1beta1.{wanted.name}", inside, path)
        found = {}
        for name, type in wanted.fields.items():
            if value.get(name) is None:
                continue
            read = _read(value[name], type, wanted, f"{path}.{name}")
            if name in _KEPT or isinstance(type, _Struct) or read not in ("", 0, [], {}, False):
                found[name] = read
        return found
    if isinstance(wanted, list):
        [each] = wanted
        name = each if isinstance(each, str) else f"v1beta1.{each.name}"
        _require(isinstance(value, list), value, f"[]{name}", inside, path)
        return [_read(item, each, inside, path) for item in value if item is not None]
    _require(_fits(value, wanted), value, wanted, inside, path)
    if wanted == _LABELS:
        for item in value.values():
            _require(isinstance(item, str), item, "string", inside, path)
    return value


def _fits(value: Any, wanted: str) -> bool:
    match wanted:
        case "string":
            return isinstance(value, str)
        case "bool":
            return isinstance(value, bool)
        case "int32" | "int":
            return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31
        case "float64":
            return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, dict)


def _require(holds: bool, value: Any, wanted: str, inside: _Struct, path: str) -> None:
    if holds:
        return
    if isinstance(value, bool):
        kind = "bool"
    elif isinstance(value, int | float):
        kind = f"number {value}" if wanted.startswith("int") else "number"
    else:
        kind = "string" if isinstance(value, str) else _JSON[type(value)]
    raise UnreadableError(
        f"json: cannot unmarshal {kind} into Go struct field {inside.name}.{path} of type {wanted}"
    )
