"""Chapter 7's objects of Kubeflow and KServe, by the Python models that the projects publish.

The embedded cluster judges the same files in ``test_manifests.py``; these models come from the
projects' own definitions, so they judge independently of it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kserve  # type: ignore[import-untyped]
import kubernetes_validate
import pytest
import yaml
from kubeflow_katib_api.models import V1beta1Experiment  # type: ignore[import-untyped]
from kubeflow_trainer_api.models import (  # type: ignore[import-untyped]
    TrainerV1alpha1TrainingRuntime,
)
from kubernetes.client import models as core

ROOT = Path(__file__).parents[2]
FILES = [*sorted((ROOT / "labs/manifests").glob("07-*.yaml")), ROOT / "labs/training/runtime.yaml"]

Document = dict[str, Any]
Judge = Callable[[Document], None]

#: Scalars by the names that the models use; a quantity is written as text or as a whole number.
SCALARS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "ResourceQuantity": (str, int),
}
#: Quantities that the Kubernetes client declares as text only.
QUANTITIES = {("V1ResourceRequirements", "limits"), ("V1ResourceRequirements", "requests")}


def round_trip(model: Any) -> Judge:
    """The check of a pydantic model: it takes the document, and gives all of it back."""

    def judge(body: Document) -> None:
        given_back = model.from_dict(body).to_dict()
        if given_back != body:
            raise ValueError(f"{model.__name__} gives back {given_back}, not {body}")

    return judge


def check(value: Any, kind: str, where: str) -> None:
    """Raise ``ValueError`` unless a value is what a KServe model says, to the last key.

    Args:
        value: of the document.
        kind: a type as ``openapi_types`` writes it, such as ``list[V1Container]``.
        where: path of the value, for the message.
    """
    if kind == "object":
        # Kubernetes' IntOrString, such as a probe's port.
        if type(value) not in (str, int):
            raise ValueError(f"{where} is {value!r}, not text or a number")
    elif kind in SCALARS:
        # By type(): True is an int for isinstance.
        if type(value) not in SCALARS[kind]:
            raise ValueError(f"{where} is {value!r}, not {kind}")
    elif found := re.fullmatch(r"list\[(.+)\]", kind):
        if type(value) is not list:
            raise ValueError(f"{where} is {value!r}, not a list")
        for index, each in enumerate(value):
            check(each, found[1], f"{where}[{index}]")
    elif type(value) is not dict:
        raise ValueError(f"{where} is {value!r}, not {kind}")
    elif found := re.fullmatch(r"dict\(str, (.+)\)", kind):
        for key, each in value.items():
            check(each, found[1], f"{where}.{key}")
    else:
        # Kubernetes' own classes are in its client.
        model = getattr(kserve, kind, None) or getattr(core, kind)
        names = {written: name for name, written in model.attribute_map.items()}
        for key, each in value.items():
            if key not in names:
                raise ValueError(f"{where}.{key} is not known to {kind}")
            wanted = model.openapi_types[names[key]]
            if (kind, key) in QUANTITIES:
                wanted = "dict(str, ResourceQuantity)"
            check(each, wanted, f"{where}.{key}")


def declared(kind: str) -> Judge:
    """The check of a KServe model, whose classes declare keys and types and check nothing."""
    return lambda body: check(body, kind, kind)


JUDGES: dict[tuple[str, str], Judge] = {
    ("trainer.kubeflow.org/v1alpha1", "TrainingRuntime"): round_trip(
        TrainerV1alpha1TrainingRuntime
    ),
    ("kubeflow.org/v1beta1", "Experiment"): round_trip(V1beta1Experiment),
    ("serving.kserve.io/v1beta1", "InferenceService"): declared("V1beta1InferenceService"),
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): declared("V1alpha1ServingRuntime"),
}
#: For each kind a whole number of its specification, which a broken copy writes as a list.
NUMBERS: dict[str, tuple[Any, ...]] = {
    "TrainingRuntime": ("mlPolicy", "numNodes"),
    "Experiment": ("maxTrialCount",),
    "InferenceService": ("predictor", "maxReplicas"),
    "ServingRuntime": ("containers", 0, "ports", 0, "containerPort"),
}
DOCUMENTS: dict[str, Document] = {
    f"{file.name}: {body['kind']}": body
    for file in FILES
    for body in yaml.safe_load_all(file.read_text())
    if "kubeflow" in body["apiVersion"] or "kserve" in body["apiVersion"]
}
each_document = pytest.mark.parametrize("body", DOCUMENTS.values(), ids=DOCUMENTS.keys())


def judge(body: Document) -> None:
    JUDGES[body["apiVersion"], body["kind"]](body)


def test_the_files_hold_every_kind_that_is_judged() -> None:
    found = {(body["apiVersion"], body["kind"]) for body in DOCUMENTS.values()}
    assert found == JUDGES.keys()


@each_document
def test_the_projects_own_model_takes_it(body: Document) -> None:
    judge(body)


@each_document
def test_an_unknown_key_or_a_wrong_type_is_refused(body: Document) -> None:
    *way, last = NUMBERS[body["kind"]]
    for name, value in (("maxTrails", 3), (last, [3])):
        broken = copy.deepcopy(body)
        place = broken["spec"]
        for step in way:
            place = place[step]
        place[name] = value
        # pydantic's ValidationError is a ValueError too.
        with pytest.raises(ValueError, match=str(name)):
            judge(broken)


@pytest.mark.parametrize(
    "body", [body for body in DOCUMENTS.values() if body["kind"] == "Experiment"]
)
def test_the_trial_of_a_search_is_an_object_of_kubernetes(body: Document) -> None:
    # Katib's model takes anything as a trial's template.
    trial = body["spec"]["trialTemplate"]["trialSpec"]
    kubernetes_validate.validate(trial, "1.37", strict=True)
