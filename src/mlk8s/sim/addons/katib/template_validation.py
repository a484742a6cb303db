"""What Katib's validating webhook refuses of a trial template.

Source: ``validateTrialTemplate`` in ``pkg/webhook/v1beta1/experiment/validator/validator.go`` of
Katib at v0.19.0, whose order and texts these are.
"""

from __future__ import annotations

from collections.abc import Iterator

from mlk8s.sim.addons.katib import names
from mlk8s.sim.addons.katib.template import (
    PLACE,
    ConfigMapData,
    TemplateError,
    is_meta,
    parse,
    place,
    text_of,
)
from mlk8s.sim.api import Api
from mlk8s.sim.status import FieldError, Object, StatusError, invalid, required

_PATH = "spec.trialTemplate"
_PARAMETERS = f"{_PATH}.trialParameters"
_CONFIG_MAP = ("configMapName", "configMapNamespace", "templatePath")
_JOBS = "jobs.batch"


def check(api: Api, spec: Object, read: ConfigMapData) -> Iterator[FieldError]:
    """The mistakes of an Experiment's template.

    Args:
        api: knows the types of Kubernetes.
        spec: of the Experiment.
        read: as :func:`mlk8s.sim.addons.katib.template.text_of` wants it.
    """
    template = spec.get("trialTemplate")
    if template is None:
        yield required(_PATH, "must be specified")
        return
    if "primaryContainerName" not in template:
        yield required(f"{_PATH}.primaryContainerName", "must be specified")
    if "successCondition" not in template or "failureCondition" not in template:
        yield required(_PATH, "successCondition and failureCondition must be specified")
    if "trialParameters" not in template:
        yield required(_PARAMETERS, "must be specified")
        return
    if (wrong := _source(template)) is not None:
        yield wrong
        return
    try:
        text = text_of(template, read)
    except TemplateError as error:
        yield invalid(_PATH, "", f"unable to parse spec.trialTemplate: {error}")
        return
    filled, errors = _fill(spec, text)
    yield from errors
    if filled is not None:
        yield from _object(api, filled, template)


def _source(template: Object) -> FieldError | None:
    """What is wrong with where the template comes from."""
    inline, referred = "trialSpec" in template, "configMap" in template
    either = "spec.trialTemplate.trialSpec or spec.trialTemplate.configMap"
    if not inline and not referred:
        return required(f"{_PATH}.TrialSource", f"{either} must be specified")
    if inline and referred:
        return required(_PATH, f"only one of {either} can be specified")
    if referred and any(part not in template["configMap"] for part in _CONFIG_MAP):
        text = "configMapName, configMapNamespace and templatePath must be specified"
        return required(f"{_PATH}.configMap", text)
    return None


def _fill(spec: Object, text: str) -> tuple[str | None, list[FieldError]]:
    """Put a value into each place of the template.

    Returns:
        The text, or ``None`` where Katib looks no further; and what is wrong.
    """
    known = {each.get("name") for each in spec.get("parameters") or ()}
    given = spec["trialTemplate"]["trialParameters"]
    errors: list[FieldError] = []
    seen: dict[str, set[str]] = {"name": set(), "reference": set()}
    for index, parameter in enumerate(given):
        path = f"{_PARAMETERS}[{index}]"
        name, reference = parameter.get("name", ""), parameter.get("reference", "")
        if not name or not reference or "{" in name or "}" in name:
            told = "name and reference must be specified and name must not contain '{' or '}'"
            errors.append(invalid(path, "", told))
            continue
        twice = next((part for part in seen if parameter[part] in seen[part]), None)
        if twice is not None:
            told = (
                f"parameter {twice} {parameter[twice]} can't be duplicated in "
                f"spec.trialTemplate.trialParameters: {_shown(given)}"
            )
            errors.append(invalid(f"{path}.{twice}", parameter[twice], told))
            continue
        for part, values in seen.items():
            values.add(parameter[part])
        if known and not is_meta(reference) and reference not in known:
            told = (
                f"parameter reference {reference} does not exist in spec.parameters: "
                f"{sorted(known, key=str)}"
            )
            errors.append(invalid(f"{path}.reference", reference, told))
        if place(name) not in text:
            told = (
                f"parameter name: {name} in spec.trialParameters not found in "
                f"spec.trialTemplate: {text}"
            )
            errors.append(invalid(f"{path}.name", name, told))
            return None, errors
        text = text.replace(place(name), "test-value")
    if left := PLACE.findall(text):
        told = (
            f"parameters: [{' '.join(left)}] in spec.trialTemplate not found in "
            f"spec.trialParameters: {_shown(given)}"
        )
        errors.append(invalid(_PATH, "", told))
    return text, errors


def _object(api: Api, text: str, template: Object) -> Iterator[FieldError]:
    """The mistakes of the object that the template describes."""
    try:
        made = parse(text)
    except TemplateError:
        told = f"unable to convert spec.trialTemplate: {text} to unstructured"
        yield invalid(_PATH, "", told)
        return
    metadata = made.get("metadata") or {}
    if metadata.get("name") or metadata.get("namespace"):
        told = "metadata.name and metadata.namespace in spec.trialTemplate must be omitted"
        yield invalid(_PATH, "", told)
    kind = (made.get("apiVersion", ""), made.get("kind", ""))
    if not all(kind):
        yield required(_PATH, "APIVersion and Kind in spec.trialTemplate must be specified")
    elif kind == names.JOB:
        try:
            api.schemas.decode(api.registry.of_key(_JOBS), made, "Strict", [])
        except StatusError as error:
            told = f"unable to convert spec.TrialTemplate to Job: {error.message}"
            yield invalid(_PATH, "", f"invalid spec.trialTemplate: {told}")


def _shown(parameters: list[Object]) -> str:
    """Trial parameters as Go prints them."""
    parts = ("name", "description", "reference")
    listed = (" ".join(str(each.get(part, "")) for part in parts) for each in parameters)
    return f"[{' '.join(f'{{{each}}}' for each in listed)}]"
