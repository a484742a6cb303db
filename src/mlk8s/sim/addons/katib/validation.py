"""What Katib's validating webhook refuses of an Experiment, besides its template.

Source: ``pkg/webhook/v1beta1/experiment/validator/validator.go`` of Katib at v0.19.0, whose order
and texts these are. The template is checked in :mod:`.template_validation`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlk8s.sim.addons.katib import names
from mlk8s.sim.addons.objects import holds
from mlk8s.sim.controllers.base import find_condition
from mlk8s.sim.status import FieldError, Object, forbidden, invalid, required

#: The algorithms that are served, and those for early stopping.
ALGORITHMS = ("random", "grid", "tpe", "multivariate-tpe")
EARLY_STOPPING = ("medianstop",)
#: The reason of an Experiment that has made all its Trials.
MAX_TRIALS_REACHED = "ExperimentMaxTrialsReached"

_CONFIG = "in ConfigMap: katib-config"
_SERVED = "the embedded cluster's add-on katib serves"
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_NAME_RULE = (
    "name must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and end with an alphanumeric character (e.g. 'my-name', or 'abc-123', regex used "
    "for validation is '^[a-z]([-a-z0-9]*[a-z0-9])?)') and may not be longer than 40 characters. "
)
_RESTART = (
    "Experiment can be restarted if it is in succeeded state by reaching max trials and "
    "spec.resumePolicy = LongRunning or spec.resumePolicy = FromVolume, when experiment is "
    "completed"
)
_EDITABLE = ("maxFailedTrialCount", "maxTrialCount", "parallelTrialCount")
_TYPES = ("int", "double", "categorical", "discrete", "unknown")
_DISTRIBUTIONS = ("uniform", "logUniform", "normal", "logNormal", "unknown")
# Two groups: a metric's name, and its value.
_TWO_GROUPS = re.compile(r".*\(.*\).*\(.*\).*")
_FILTER = "spec.metricsCollectorSpec.source.filter.metricsFormat"


def restartable(experiment: Object) -> bool:
    """Whether an Experiment that has ended goes on when it may make more Trials."""
    status = experiment.get("status") or {}
    ended = find_condition(status, names.SUCCEEDED)
    return (
        ended is not None
        and ended["status"] == "True"
        and ended["reason"] == MAX_TRIALS_REACHED
        and experiment["spec"].get("resumePolicy") in (names.LONG_RUNNING, names.FROM_VOLUME)
    )


def check(experiment: Object, old: Object | None) -> Iterator[FieldError]:
    """The mistakes of an Experiment, but for its objective and template.

    Args:
        experiment: with its defaults.
        old: as it is stored; ``None`` when it is new.
    """
    name = experiment["metadata"].get("name", "")
    # Katib's expression has no end: it looks at the beginning alone.
    if not _NAME.match(name) or len(name) > 40:
        yield invalid("metadata.name", name, _NAME_RULE)
    yield from _counts(experiment["spec"])
    if old is not None:
        yield from _changes(experiment["spec"], old)


def check_rest(spec: Object) -> Iterator[FieldError]:
    """The mistakes of algorithms and of the resume policy; Katib checks the template next."""
    yield from _algorithm(spec.get("algorithm"))
    yield from _early_stopping(spec.get("earlyStopping"))
    policy = spec["resumePolicy"]
    if policy not in (names.NEVER, names.LONG_RUNNING, names.FROM_VOLUME):
        yield invalid("spec.resumePolicy", policy, "invalid ResumePolicyType")


def check_objective(objective: Object | None) -> Iterator[FieldError]:
    """The mistakes of an objective; with any of them Katib looks no further."""
    path = "spec.objective"
    if objective is None:
        yield required(path, "must be specified")
        return
    kind, metric = objective.get("type", ""), objective.get("objectiveMetricName", "")
    if kind not in (names.MINIMIZE, names.MAXIMIZE):
        yield invalid(f"{path}.type", kind, f"must be {names.MINIMIZE} or {names.MAXIMIZE}")
    if not metric:
        yield required(f"{path}.objectiveMetricName", "must be specified")
    additional = objective.get("additionalMetricNames") or []
    if metric in additional:
        text = "should not contain spec.objective.objectiveMetricName"
        yield invalid(f"{path}.additionalMetricNames", additional, text)


def check_parameters(spec: Object) -> Iterator[FieldError]:
    """The mistakes of the search space."""
    parameters = spec.get("parameters") or []
    if not parameters and "nasConfig" not in spec:
        yield required("spec", "spec.parameters or spec.nasConfig must be specified")
    if parameters and "nasConfig" in spec:
        text = "only one of spec.parameters and spec.nasConfig can be specified"
        yield invalid("spec", spec, text)
    for index, parameter in enumerate(parameters):
        yield from _parameter(f"spec.parameters[{index}]", parameter)


def check_collector(spec: Object) -> Iterator[FieldError]:
    """The mistakes of the metrics collector's filter."""
    source = spec["metricsCollectorSpec"].get("source") or {}
    for text in (source.get("filter") or {}).get("metricsFormat") or ():
        try:
            re.compile(text)
        except re.error as error:
            yield invalid(_FILTER, text, f"invalid filter: error parsing regexp: {error}")
            continue
        if not _TWO_GROUPS.search(text):
            yield invalid(_FILTER, text, "two top subexpressions are required")


def _counts(spec: Object) -> Iterator[FieldError]:
    failed, most = spec.get("maxFailedTrialCount"), spec.get("maxTrialCount")
    parallel = spec["parallelTrialCount"]
    path_failed, path_parallel = "spec.maxFailedTrialCount", "spec.parallelTrialCount"
    if failed is not None and failed < 0:
        yield invalid(path_failed, failed, "should not be less than 0")
    if most is not None and most <= 0:
        yield invalid("spec.maxTrialCount", most, "must be greater than 0")
    if parallel <= 0:
        yield invalid(path_parallel, parallel, "must be greater than 0")
    text = "should be less than or equal to spec.maxTrialCount"
    if failed is not None and most is not None and failed > most:
        yield invalid(path_failed, failed, text)
    if most is not None and parallel > most:
        yield invalid(path_parallel, parallel, text)


def _changes(spec: Object, old: Object) -> Iterator[FieldError]:
    status = old.get("status") or {}
    restarts = spec != old["spec"]
    if restarts and holds(status, names.SUCCEEDED, names.FAILED) and not restartable(old):
        yield invalid("spec.resumePolicy", spec["resumePolicy"], _RESTART)
    most = spec.get("maxTrialCount")
    if restarts and most is not None and most <= status.get("trials", 0):
        yield invalid("spec.maxTrialCount", most, "must be greater than status.trials count")
    fixed = [
        {name: value for name, value in each.items() if name not in _EDITABLE}
        for each in (spec, old["spec"])
    ]
    if fixed[0] != fixed[1]:
        text = (
            "only spec.parallelTrialCount, spec.maxTrialCount and spec.maxFailedTrialCount are "
            "editable"
        )
        yield forbidden("spec", text)


def _algorithm(algorithm: Object | None) -> Iterator[FieldError]:
    path = "spec.algorithm"
    if algorithm is None:
        yield required(path, "must be specified")
        return
    name = algorithm.get("algorithmName", "")
    if not name:
        yield required(f"{path}.algorithmName", "must be specified")
    if name not in ALGORITHMS:
        text = (
            f"unable to get Suggestion config data for algorithm {name}: failed to find "
            f"suggestion config for algorithm: {name} {_CONFIG}; {_SERVED} "
            f"{', '.join(ALGORITHMS)}: choose one of them"
        )
        yield invalid(f"{path}.algorithmName", name, text)


def _early_stopping(said: Object | None) -> Iterator[FieldError]:
    if said is None:
        return
    path, name = "spec.earlyStopping.algorithmName", said.get("algorithmName", "")
    if not name:
        yield required(path, "must be specified")
    if name not in EARLY_STOPPING:
        text = (
            f"unable to get EarlyStopping config data for algorithm {name}: failed to find early "
            f"stopping config for algorithm: {name} {_CONFIG}; {_SERVED} "
            f"{', '.join(EARLY_STOPPING)}"
        )
        yield invalid(path, name, text)


def _parameter(path: str, parameter: Object) -> Iterator[FieldError]:
    kind, space = parameter.get("parameterType", ""), parameter["feasibleSpace"]
    if kind not in _TYPES:
        yield invalid(f"{path}.parameterType", kind, f"parameterType: {kind} is not supported")
    distribution = space["distribution"]
    if distribution not in _DISTRIBUTIONS:
        text = f"distribution: {distribution} is not supported"
        yield invalid(f"{path}.feasibleSpace.distribution", distribution, text)
    limits = [name for name in ("max", "min") if name in space]
    if kind in ("double", "int"):
        if "list" in space:
            text = f"feasibleSpace.list is not supported for parameterType: {kind}"
            yield invalid(f"{path}.feasibleSpace.list", space["list"], text)
        if len(limits) < 2:
            text = (
                "feasibleSpace.max or feasibleSpace.min must be specified for parameterType: "
                f"{kind}"
            )
            yield required(f"{path}.feasibleSpace.max", text)
    elif kind in ("categorical", "discrete") and (limits or "step" in space):
        text = f"feasibleSpace .max, .min and .step is not supported for parameterType: {kind}"
        yield invalid(f"{path}.feasibleSpace", space, text)
