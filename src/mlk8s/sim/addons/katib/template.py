"""From a trial template and an assignment of parameters to the object that a Trial runs.

Source: ``pkg/controller.v1beta1/experiment/manifest/generator.go`` of Katib at v0.19.0, whose
messages these are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from mlk8s.sim.status import Object

_META = re.compile(r"\$\{trialSpec\.(.+?)\}")
_INDEXED = re.compile(r"(.+)\[(.+)]")
_META_KEYS = ("Name", "Namespace", "Kind", "APIVersion", "Annotations", "Labels")
#: A place for a parameter in a template.
PLACE = re.compile(r"\$\{trialParameters\..+?\}")

ConfigMapData = Callable[[str, str], dict[str, str] | None]


class TemplateError(Exception):
    """A template that cannot be rendered."""


def is_meta(reference: str) -> bool:
    """Whether a trial parameter refers to the Trial itself, as ``${trialSpec.Name}`` does."""
    found = _META.search(reference)
    if found is None:
        return False
    indexed = _INDEXED.search(found[1])
    return found[1] in _META_KEYS or (indexed is not None and indexed[1] in _META_KEYS)


def place(name: str) -> str:
    """Where the value of a trial parameter goes."""
    return f"${{trialParameters.{name}}}"


def text_of(template: Object, read: ConfigMapData) -> str:
    """The template as text.

    Args:
        template: ``spec.trialTemplate`` of an Experiment.
        read: gives the data of a ConfigMap by namespace and name; ``None`` where there is none.

    Raises:
        TemplateError: the ConfigMap or its key does not exist.
    """
    if "trialSpec" in template:
        return json.dumps(
            template["trialSpec"], ensure_ascii=False, sort_keys=True, separators=(",", ":")
        )
    source = template["configMap"]
    data = read(source["configMapNamespace"], source["configMapName"])
    if data is None:
        name = source["configMapName"]
        raise TemplateError(f'configMap not found: ConfigMap "{name}" not found')
    if source["templatePath"] not in data:
        told = f"TemplatePath: {source['templatePath']}, ConfigMap: {_map(data)}"
        raise TemplateError(f"unable to find trial template in ConfigMap: {told}")
    return data[source["templatePath"]]


def parse(text: str) -> Object:
    """The object that a template is.

    Raises:
        TemplateError: it is neither JSON nor YAML, or no object.
    """
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        told = f"failed to convert string to unstructured: {error}"
        raise TemplateError(told) from error
    if not isinstance(found, dict):
        raise TemplateError("failed to convert string to unstructured: no object")
    return found


def render(
    template: Object,
    assignments: Sequence[Object],
    name: str,
    namespace: str,
    read: ConfigMapData,
) -> Object:
    """The object of one Trial.

    Args:
        template: ``spec.trialTemplate`` of an Experiment.
        assignments: name and value of each parameter.
        name: of the Trial, and of the object.
        namespace: of both.
        read: as :func:`text_of` wants it.

    Raises:
        TemplateError: a parameter is missing, or is one too many, or the template is no object.
    """
    text = text_of(template, read)
    spec = template["trialSpec"] if "trialSpec" in template else parse(text)
    given = {each["name"]: each["value"] for each in assignments}
    values: dict[str, str] = {}
    count = 0
    for parameter in template["trialParameters"]:
        reference = parameter["reference"]
        found = _META.search(reference)
        if found is not None:
            values[parameter["name"]] = _metadata(found[1], reference, spec, name, namespace)
            continue
        if reference not in given:
            raise TemplateError(
                "unable to find non-meta parameter from TrialParameters in ParameterAssignment: "
                f"parameter: {reference}, parameter assignment: {_map(given)}"
            )
        values[parameter["name"]] = given[reference]
        count += 1
    if len(assignments) != count:
        listed = " ".join(f"{{{each['name']} {each['value']}}}" for each in assignments)
        raise TemplateError(
            "unable to find parameter from ParameterAssignment in TrialParameters: "
            f"parameter assignments: [{listed}], non-meta trial parameter count: {count}"
        )
    for parameter_name, value in values.items():
        text = text.replace(place(parameter_name), value)
    made = parse(text)
    metadata = made.get("metadata") or {}
    made["metadata"] = {**metadata, "name": name, "namespace": namespace}
    return made


def _metadata(key: str, reference: str, spec: Object, name: str, namespace: str) -> str:
    indexed = _INDEXED.search(key)
    index = ""
    if indexed is not None:
        key, index = indexed[1], indexed[2]
    match key:
        case "Name":
            return name
        case "Namespace":
            return namespace
        case "Kind":
            return str(spec.get("kind", ""))
        case "APIVersion":
            return str(spec.get("apiVersion", ""))
        case "Annotations" | "Labels":
            held = (spec.get("metadata") or {}).get(key.lower()) or {}
            if index not in held:
                raise TemplateError(
                    f"illegal reference of trial metadata: {reference}; failed to fetch "
                    f"{key.removesuffix('s')}: {index}"
                )
            return str(held[index])
    raise TemplateError(f"illegal reference of trial metadata: {reference}")


def _map(values: dict[str, Any]) -> str:
    """A map as Go prints it."""
    return f"map[{' '.join(f'{key}:{values[key]}' for key in sorted(values))}]"
