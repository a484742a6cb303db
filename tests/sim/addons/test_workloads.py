"""Workloads that somebody makes or edits by hand."""

from __future__ import annotations

from typing import Any

import pytest

from .lab import GPU, HOME, KUEUE, Lab

WORKLOADS = f"{KUEUE}{HOME}/workloads"


def workload(*pod_sets: Any, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"name": "mine"},
        "spec": {"queueName": "team", "podSets": list(pod_sets), **spec},
    }


def pods(name: str = "main", gpus: Any = 1, count: int = 1, **spec: Any) -> dict[str, Any]:
    resources = {"requests": {GPU: gpus}}
    containers = [{"name": "c", "image": "i", "resources": resources}]
    return {
        "name": name,
        "count": count,
        "template": {"spec": {"containers": containers, **spec}},
    }


def test_pod_sets_share_the_quota(lab: Lab) -> None:
    lab.queue(quota=4)
    assert lab.post(WORKLOADS, workload(pods("driver"), pods("workers", 1, 3))).status == 201
    lab.wait()
    status = lab.get(f"{WORKLOADS}/mine")["status"]
    assert [
        (each["name"], each["resourceUsage"]) for each in status["admission"]["podSetAssignments"]
    ] == [("driver", {GPU: "1"}), ("workers", {GPU: "3"})]


def test_the_second_pod_set_counts_on_what_the_first_one_takes(lab: Lab) -> None:
    lab.queue(quota=4)
    lab.post(WORKLOADS, workload(pods("driver", 2), pods("workers", 1, 3)))
    lab.wait()
    [condition] = lab.get(f"{WORKLOADS}/mine")["status"]["conditions"]
    assert condition["message"] == (
        "couldn't assign flavors to pod set workers: insufficient quota for nvidia.com/gpu in "
        "flavor any, previously considered podsets requests (2) + current podset request (3) > "
        "maximum capacity (4)"
    )


def test_its_priority_counts(lab: Lab) -> None:
    lab.queue(quota=1, preemption={"withinClusterQueue": "LowerPriority"})
    lab.post(WORKLOADS, workload(pods(), priority=-5))
    lab.wait()
    assert lab.get(f"{WORKLOADS}/mine")["status"]["admission"]
    lab.job("a")
    lab.wait()
    assert lab.condition("a", "Admitted") is None
    evicted = {
        each["type"]: each["status"]
        for each in lab.get(f"{WORKLOADS}/mine")["status"]["conditions"]
    }
    # Nobody but its owner can stop it, and it has none.
    assert (evicted["Evicted"], evicted["Admitted"]) == ("True", "True")
    assert lab.client("DELETE", f"{WORKLOADS}/mine").status == 200
    lab.wait()
    assert lab.admitted("a") == [True]


def test_a_job_whose_workload_was_edited_gets_it_back(lab: Lab) -> None:
    lab.queue(quota=0)
    lab.job("a")
    lab.wait()
    path = f"{WORKLOADS}/{lab.workload('a')['metadata']['name']}"
    kept = lab.get(path)["spec"]["podSets"][0]
    answer = lab.patch(path, {"spec": {"podSets": [kept, {**kept, "name": "more"}]}})
    assert answer.status == 200, answer.message
    lab.wait()
    assert lab.workload("a")["spec"]["podSets"] == [kept]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({**workload(), "spec": {}}, "spec.podSets: Required value"),
        (workload(), "spec.podSets in body should have at least 1 items"),
        (workload({"template": {}}), "spec.podSets[0].template.spec: Required value"),
        (
            workload({"template": {"spec": {}}}),
            "spec.podSets[0].template.spec.containers: Required value",
        ),
        (
            workload(pods(gpus="many")),
            "spec.podSets[0].template.spec.containers[0].resources.requests.nvidia.com/gpu: "
            'Invalid value: "many"',
        ),
        (workload(pods(overhead={"cpu": "x"})), "template.spec.overhead.cpu: Invalid value"),
        (
            workload(pods(), priorityClassRef={"group": "x", "kind": "y", "name": "z"}),
            'spec.priorityClassRef.group: Unsupported value: "x"',
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_workload_that_says_too_little_or_nonsense(
    lab: Lab, body: dict[str, Any], why: str
) -> None:
    answer = lab.post(WORKLOADS, body)
    assert answer.status == 422
    assert why in answer.message
    assert lab.get(WORKLOADS)["items"] == []
