"""A pod against a node: pure arithmetic, with the rules of Kubernetes' documentation."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from mlk8s.cluster import fitting, requests
from mlk8s.cluster.fitting import NodeState, Outcome

Object = dict[str, Any]


def pod(**spec: Any) -> Object:
    return {
        "metadata": {"name": "p", "namespace": "x"},
        "spec": {"containers": [{"resources": {"limits": {"cpu": "1"}}}], **spec},
        "status": {},
    }


def node(taints: list[Object] | None = None, **labels: str) -> NodeState:
    amounts = {"cpu": "4", "pods": "110", "nvidia.com/gpu": "2"}
    return NodeState(
        {
            "metadata": {"name": "n", "labels": labels},
            "spec": {"taints": taints or []},
            "status": {"allocatable": amounts, "capacity": amounts},
        }
    )


TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


# https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "nvidia.com/gpu", "operator": "Exists"}, True),
        ({"key": "nvidia.com/gpu", "value": "present"}, True),
        ({"key": "nvidia.com/gpu", "operator": "Equal", "value": "other"}, False),
        ({"key": "amd.com/gpu", "operator": "Exists"}, False),
        ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_tolerations(toleration: Object, fits: bool) -> None:
    found = fitting.fit(pod(tolerations=[toleration]), node([TAINT]))
    assert (found.outcome is Outcome.FITS) == fits
    assert found.says == (() if fits else ("node(s) had untolerated taint(s)",))


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ({"key": "zone", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "zone", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "other", "operator": "NotIn", "values": ["a"]}, True),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "other", "operator": "DoesNotExist"}, True),
        ({"key": "memory", "operator": "Gt", "values": ["40000"]}, True),
        ({"key": "memory", "operator": "Lt", "values": ["40000"]}, False),
        ({"key": "zone", "operator": "Gt", "values": ["1"]}, False),
    ],
)
def test_node_affinity(expression: Object, fits: bool) -> None:
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    rule = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    found = fitting.fit(pod(affinity=rule), node(zone="a", memory="81559"))
    assert (found.outcome is Outcome.FITS) == fits


def test_what_is_taken_and_by_whom() -> None:
    state = node()
    holder = pod(containers=[{"resources": {"limits": {"nvidia.com/gpu": "2"}}}])
    holder["metadata"]["name"] = "holder"
    state.add(holder)
    asking = pod(containers=[{"resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "4"}}}])
    found = fitting.fit(asking, state)
    assert found.outcome is Outcome.BUSY
    (lack,) = found.lacks
    assert lack.text == "0 of 2 nvidia.com/gpu free" and lack.holders == ("x/holder",)
    assert found.says == ("Insufficient nvidia.com/gpu",)


def container(gpus: int, **more: Any) -> Object:
    return {"resources": {"limits": {"nvidia.com/gpu": str(gpus)}}, **more}


@pytest.mark.parametrize(
    ("spec", "gpus"),
    [
        ({"containers": [container(1), container(2)]}, 3),
        ({"containers": [container(1)], "initContainers": [container(2), container(3)]}, 3),
        # A sidecar stays: it counts beside the containers, and beside later init containers.
        (
            {
                "containers": [container(1)],
                "initContainers": [container(1, restartPolicy="Always"), container(2)],
            },
            3,
        ),
        (
            {
                "containers": [container(4)],
                "initContainers": [container(1, restartPolicy="Always")],
            },
            5,
        ),
    ],
)
def test_what_a_pod_asks_for(spec: Object, gpus: int) -> None:
    assert requests.effective({"spec": spec})["nvidia.com/gpu"] == Decimal(gpus)


def test_resources_of_the_pod_cover_its_containers() -> None:
    asked = {"resources": {"requests": {"cpu": "3"}}, "overhead": {"cpu": "250m"}}
    assert requests.effective(pod(**asked))["cpu"] == Decimal("3.25")
