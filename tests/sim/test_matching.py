"""Selectors of objects, node affinity and tolerations, by the rules of the Kubernetes API."""

from __future__ import annotations

from typing import Any

import pytest

from mlk8s.sim.amounts import exact, pod_total
from mlk8s.sim.matching import NodeSelection, Selector, tolerated_for, tolerates

LABELS = {"app": "web", "tier": "2"}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "3"}}, False),
        ({"matchExpressions": [expression("app", "In", "db", "web")]}, True),
        ({"matchExpressions": [expression("none", "In", "web")]}, False),
        ({"matchExpressions": [expression("app", "NotIn", "web")]}, False),
        ({"matchExpressions": [expression("none", "NotIn", "web")]}, True),
        ({"matchExpressions": [expression("app", "Exists")]}, True),
        ({"matchExpressions": [expression("app", "DoesNotExist")]}, False),
        ({"matchExpressions": [expression("app", "Unknown", "web")]}, False),
        ({"matchLabels": {"app": "web"}, "matchExpressions": [expression("x", "Exists")]}, False),
    ],
)
def test_label_selectors(selector, selected):
    assert Selector(selector).matches(LABELS) is selected


def test_labels_that_have_to_be_equal_or_to_differ_besides():
    assert Selector({}, {"tier": "2"}, {"app": "db"}).matches(LABELS)
    assert not Selector({}, {"tier": "3"}).matches(LABELS)
    assert not Selector({}, None, {"app": "web"}).matches(LABELS)
    assert Selector({}).everything
    assert not Selector(None).everything


def required(*terms: Any) -> Any:
    wanted = {"nodeSelectorTerms": list(terms)}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": wanted}}


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({}, True),
        ({"nodeSelector": {"app": "web"}}, True),
        ({"nodeSelector": {"app": "db"}}, False),
        ({"affinity": required()}, False),
        ({"affinity": required({})}, False),
        ({"affinity": required({"matchExpressions": [expression("tier", "Gt", "1")]})}, True),
        ({"affinity": required({"matchExpressions": [expression("tier", "Gt", "2")]})}, False),
        ({"affinity": required({"matchExpressions": [expression("tier", "Lt", "3")]})}, True),
        ({"affinity": required({"matchExpressions": [expression("app", "Lt", "3")]})}, False),
        ({"affinity": required({"matchExpressions": [expression("tier", "Lt", "x")]})}, False),
        ({"affinity": required({"matchFields": [expression("metadata.name", "In", "n1")]})}, True),
        ({"affinity": required({"matchFields": [expression("metadata.name", "In", "n2")]})}, False),
        (
            {"affinity": required({}, {"matchExpressions": [expression("app", "Exists")]})},
            True,
        ),
        (
            {
                "nodeSelector": {"tier": "2"},
                "affinity": required({"matchExpressions": [expression("app", "In", "db")]}),
            },
            False,
        ),
    ],
)
def test_what_a_pod_requires_of_its_node(spec, fits):
    assert NodeSelection(spec).matches(LABELS, "n1") is fits


TAINT = {"key": "gpu", "value": "5", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("toleration", "covered"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}, False),
        ({"key": "gpu", "value": "5"}, True),
        ({"key": "gpu", "operator": "Equal", "value": "6"}, False),
        ({"value": "5"}, False),
        ({"key": "cpu", "operator": "Exists"}, False),
        ({"key": "gpu", "operator": "Gt", "value": "4"}, True),
        ({"key": "gpu", "operator": "Gt", "value": "5"}, False),
        ({"key": "gpu", "operator": "Lt", "value": "6"}, True),
        ({"key": "gpu", "operator": "Lt", "value": "many"}, False),
    ],
)
def test_tolerations(toleration, covered):
    assert tolerates([toleration], TAINT) is covered


def test_the_shortest_toleration_counts():
    anything = {"operator": "Exists"}
    assert tolerated_for([], TAINT) == 0
    assert tolerated_for([anything], TAINT) is None
    assert tolerated_for([anything, {**anything, "tolerationSeconds": 30}], TAINT) == 30
    assert tolerated_for([{**anything, "tolerationSeconds": -1}], TAINT) == 0


def container(cpu: str, limit: str | None = None, **more: Any) -> Any:
    limits = {"limits": {"cpu": limit}} if limit else {}
    return {"resources": {"requests": {"cpu": cpu}, **limits}, **more}


def cpu(spec: Any, part: str = "requests") -> Any:
    found = pod_total(spec, part, exact).get("cpu")
    return None if found is None else float(found)


def test_what_a_pod_as_a_whole_asks_for():
    # KEP-753: the sidecar runs beside what comes after it, not beside what came before.
    spec: Any = {
        "initContainers": [
            container("2"),
            container("1", restartPolicy="Always"),
            container("3"),
        ],
        "containers": [container("500m"), container("1")],
    }
    assert cpu(spec) == 4.0
    spec["containers"].append(container("2"))
    assert cpu(spec) == 4.5
    spec["overhead"] = {"cpu": "250m"}
    assert cpu(spec) == 4.75
    assert cpu(spec, "limits") is None
    spec["resources"] = {"requests": {"cpu": "6", "nvidia.com/gpu": "1"}, "limits": {"cpu": "7"}}
    assert cpu(spec) == 6.25
    assert cpu(spec, "limits") == 7.25
    assert "nvidia.com/gpu" not in pod_total(spec, "requests", exact)
