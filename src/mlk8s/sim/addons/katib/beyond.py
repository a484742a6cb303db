"""What Katib takes and this model does not carry out: refused, with what to do instead."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from mlk8s.sim.addons import refusals
from mlk8s.sim.addons.katib import names
from mlk8s.sim.addons.katib.gjson import Condition, UnsupportedError
from mlk8s.sim.addons.katib.template import ConfigMapData, TemplateError, parse, text_of
from mlk8s.sim.api import Api
from mlk8s.sim.status import FieldError, Object, forbidden, invalid

_COLLECTOR = "spec.metricsCollectorSpec"
_NOT_IN_OPTUNA = ("normal", "logNormal", "unknown")


def check(api: Api, spec: Object, read: ConfigMapData) -> Iterator[FieldError]:
    """What the model cannot do with an Experiment that Katib takes.

    Args:
        api: knows which kinds are served.
        spec: of the Experiment.
        read: as :func:`mlk8s.sim.addons.katib.template.text_of` wants it.
    """
    if find_spec("optuna") is None:
        told = "the embedded cluster's add-on katib needs the package optuna: pip install optuna"
        yield forbidden("spec.algorithm", told)
    if "nasConfig" in spec:
        yield _unmodeled("spec.nasConfig", "give spec.parameters")
    if spec["resumePolicy"] == names.FROM_VOLUME:
        yield _unmodeled("spec.resumePolicy", "choose Never or LongRunning")
    collector = spec["metricsCollectorSpec"]
    if collector["collector"].get("kind") != "StdOut":
        yield _unmodeled(
            f"{_COLLECTOR}.collector.kind", "choose StdOut, and print a line such as loss=0.3"
        )
    for part in ("httpGet", "fileSystemPath"):
        if part in (collector.get("source") or {}):
            yield _unmodeled(f"{_COLLECTOR}.source.{part}", "the collector reads the log")
    for index, parameter in enumerate(spec.get("parameters") or ()):
        path = f"spec.parameters[{index}]"
        if parameter["parameterType"] == "unknown":
            yield _unmodeled(f"{path}.parameterType", "name a type")
        if parameter["feasibleSpace"]["distribution"] in _NOT_IN_OPTUNA:
            # Katib's service for Optuna leaves such a parameter out of the search.
            told = "choose uniform or logUniform"
            yield _unmodeled(f"{path}.feasibleSpace.distribution", told)
    yield from _template(api, spec["trialTemplate"], read)


def _template(api: Api, template: Object, read: ConfigMapData) -> Iterator[FieldError]:
    for part in ("successCondition", "failureCondition"):
        try:
            Condition.parse(template[part])
        except UnsupportedError as error:
            yield invalid(f"spec.trialTemplate.{part}", template[part], str(error))
    path = "spec.trialTemplate.trialSpec"
    try:
        spec = template["trialSpec"] if "trialSpec" in template else parse(text_of(template, read))
    except TemplateError as error:
        # Katib fails later: it reads the template before it puts the parameters in.
        yield invalid(path, "", str(error))
        return
    kind = (spec["apiVersion"], spec["kind"])
    if kind not in names.RUN_KINDS:
        known = " and ".join(f"{version} {each}" for version, each in names.RUN_KINDS)
        yield _unmodeled(f"{path}.kind", f"the kinds that it runs are {known}")
    elif api.registry.of_kind(*kind) is None:
        told = "no TrainJobs are served: enable the add-on trainer first"
        yield forbidden(f"{path}.kind", told)


def _unmodeled(path: str, instead: str) -> FieldError:
    return refusals.unmodeled(path, "katib", instead)
