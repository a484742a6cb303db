"""What Katib's defaulting webhook completes in an Experiment.

Source: ``pkg/apis/controller/experiments/v1beta1/{experiment_defaults,constants}.go`` of Katib at
v0.19.0.
"""

from __future__ import annotations

from mlk8s.sim.addons.katib import names
from mlk8s.sim.status import Object

_PARALLEL = 3
_ENDED = 'status.conditions.#(type=="{}")#|#(status=="True")#'
_FAILURE = _ENDED.format("Failed")
# By the kind of a trial template.
_SUCCESS = {"Job": _ENDED.format("Complete"), "TrainJob": _ENDED.format("Complete")}
_PRIMARY_LABELS = {
    "TrainJob": {
        "jobset.sigs.k8s.io/replicatedjob-name": "node",
        "batch.kubernetes.io/job-completion-index": "0",
    }
}
_STRATEGIES = {names.MINIMIZE: "min", names.MAXIMIZE: "max"}
_STDOUT = "StdOut"


def complete(spec: Object) -> None:
    """Set what is not set.

    Args:
        spec: of an Experiment, as :mod:`.reading` gives it; changed in place.
    """
    spec.setdefault("parallelTrialCount", _PARALLEL)
    spec.setdefault("resumePolicy", names.NEVER)
    if "objective" in spec:
        _strategies(spec["objective"])
    if "trialTemplate" in spec:
        _template(spec["trialTemplate"])
    collector = spec.setdefault("metricsCollectorSpec", {})
    collector.setdefault("collector", {"kind": _STDOUT})
    for parameter in spec.get("parameters") or ():
        parameter.setdefault("feasibleSpace", {}).setdefault("distribution", "uniform")


def _strategies(objective: Object) -> None:
    strategies = objective.setdefault("metricStrategies", [])
    known = {each.get("name") for each in strategies}
    value = _STRATEGIES.get(objective.get("type", ""), "latest")
    wanted = [
        objective.get("objectiveMetricName", ""),
        *(objective.get("additionalMetricNames") or ()),
    ]
    strategies += [{"name": name, "value": value} for name in wanted if name not in known]


def _template(template: Object) -> None:
    kind = (template.get("trialSpec") or {}).get("kind")
    if kind not in _SUCCESS:
        return
    template.setdefault("successCondition", _SUCCESS[kind])
    template.setdefault("failureCondition", _FAILURE)
    if kind in _PRIMARY_LABELS:
        template.setdefault("primaryPodLabels", dict(_PRIMARY_LABELS[kind]))
