"""Queues that are missing, stopped or wrong, what they count, and what their webhooks refuse.

The texts are those of Kueue 0.19.2: ``pkg/controller/core``, ``pkg/webhooks`` and the definitions.
"""

from __future__ import annotations

from typing import Any

import pytest

from .lab import GPU, HOME, KUEUE, Lab

HELD = {"spec": {"stopPolicy": "Hold"}}
DRAINED = {"spec": {"stopPolicy": "HoldAndDrain"}}
OPEN = {"spec": {"stopPolicy": "None"}}
CLUSTER = f"{KUEUE}/clusterqueues/gpu"
LOCAL = f"{KUEUE}{HOME}/localqueues/team"


def blocked(lab: Lab, job: str) -> str:
    """Why a Job's queue does not take it."""
    status, reason, message = lab.condition(job, "QuotaReserved") or ("", "", "")
    assert (status, reason) == ("False", "Inadmissible")
    return message


def test_a_local_queue_that_does_not_exist(lab: Lab) -> None:
    lab.job("a", queue="nowhere")
    lab.wait()
    assert blocked(lab, "a") == "LocalQueue nowhere doesn't exist"
    lab.queue(local="nowhere")
    lab.wait()
    assert lab.admitted("a") == [True]


def test_a_cluster_queue_that_does_not_exist(lab: Lab) -> None:
    lab.create("LocalQueue", "team", {"clusterQueue": "gpu"}, namespaced=True)
    lab.job("a")
    lab.wait()
    assert blocked(lab, "a") == "ClusterQueue gpu doesn't exist"
    assert lab.active("namespaces/default/localqueues/team") == (
        "False",
        "ClusterQueueDoesNotExist",
        "Can't submit new workloads to clusterQueue",
    )
    lab.queue(local="other")
    lab.wait()
    assert lab.admitted("a") == [True]
    assert lab.active("namespaces/default/localqueues/team") == (
        "True",
        "Ready",
        "Can submit new workloads to localQueue",
    )


def test_a_stopped_cluster_queue_admits_nobody_new(lab: Lab) -> None:
    lab.queue()
    lab.job("a")
    lab.wait()
    lab.patch(CLUSTER, HELD)
    lab.job("b")
    lab.wait()
    assert lab.active("clusterqueues/gpu") == (
        "False",
        "Stopped",
        "Can't admit new workloads: is stopped.",
    )
    assert lab.active("namespaces/default/localqueues/team")[1] == "ClusterQueueIsInactive"
    assert lab.admitted("a") == [True]
    assert blocked(lab, "b") == "ClusterQueue gpu is inactive"
    lab.patch(CLUSTER, OPEN)
    lab.wait()
    assert lab.admitted("b") == [True]


def test_a_stopped_local_queue_admits_nobody_new(lab: Lab) -> None:
    lab.queue()
    lab.patch(LOCAL, HELD)
    lab.job("a")
    lab.wait()
    assert lab.active("namespaces/default/localqueues/team") == (
        "False",
        "Stopped",
        "LocalQueue is stopped",
    )
    assert blocked(lab, "a") == "LocalQueue team is inactive"
    lab.patch(LOCAL, OPEN)
    lab.wait()
    assert lab.admitted("a") == [True]


@pytest.mark.parametrize(
    ("path", "kind"), [(CLUSTER, "ClusterQueue"), (LOCAL, "LocalQueue")], ids=["cluster", "local"]
)
def test_a_drained_queue_sends_its_jobs_away_until_it_is_open(
    lab: Lab, path: str, kind: str
) -> None:
    lab.queue()
    lab.job("a")
    lab.wait()
    lab.patch(path, DRAINED)
    lab.wait(60)
    assert lab.suspended("a")
    assert lab.pods("a") == []
    reason, message = f"{kind}Stopped", f"The {kind} is stopped"
    assert lab.condition("a", "Evicted") == ("True", reason, message)
    assert lab.condition("a", "Requeued") == ("False", reason, message)
    assert ("Normal", f"EvictedDueTo{reason}", message) in lab.workload_events("a")
    lab.patch(path, OPEN)
    lab.wait()
    assert lab.condition("a", "Requeued") == (
        "True",
        f"{kind}Restarted",
        f"The {kind} was restarted after being stopped",
    )
    assert lab.admitted("a") == [True]


def test_a_namespace_that_the_queue_is_not_open_to(lab: Lab) -> None:
    lab.queue(namespaceSelector={"matchLabels": {"team": "ml"}})
    lab.job("a")
    lab.wait()
    assert lab.condition("a", "QuotaReserved") == (
        "False",
        "Pending",
        "workload namespace doesn't match ClusterQueue selector",
    )
    lab.patch("/api/v1/namespaces/default", {"metadata": {"labels": {"team": "ml"}}})
    lab.wait()
    assert lab.admitted("a") == [True]
    lab.patch("/api/v1/namespaces/default", {"metadata": {"labels": {"team": None}}})


def test_more_quota_admits_who_waits(lab: Lab) -> None:
    lab.queue(quota=0)
    lab.job("a")
    lab.wait()
    assert lab.admitted("a") == [False]
    quota = {"name": GPU, "nominalQuota": 1}
    group = {"coveredResources": [GPU], "flavors": [{"name": "any", "resources": [quota]}]}
    lab.patch(CLUSTER, {"spec": {"resourceGroups": [group]}})
    lab.wait()
    assert lab.admitted("a") == [True]


def test_queues_count_who_waits_and_who_holds_what(lab: Lab) -> None:
    lab.queue(quota=4)
    lab.create("LocalQueue", "other", {"clusterQueue": "gpu"}, namespaced=True)
    lab.job("a", pods=3)
    lab.job("b", pods=3)
    lab.job("c", queue="other")
    lab.wait()
    cluster = lab.get(CLUSTER)["status"]
    counts = ("pendingWorkloads", "reservingWorkloads", "admittedWorkloads")
    assert [cluster[name] for name in counts] == [1, 2, 2]
    usage = [{"name": "any", "resources": [{"name": GPU, "total": "4", "borrowed": "0"}]}]
    assert cluster["flavorsReservation"] == cluster["flavorsUsage"] == usage
    local = lab.get(LOCAL)["status"]
    assert [local[name] for name in counts] == [1, 1, 1]
    assert local["flavorsUsage"] == [{"name": "any", "resources": [{"name": GPU, "total": "3"}]}]


def test_a_check_that_the_model_does_not_have_keeps_the_queue_closed(lab: Lab) -> None:
    checks = {"admissionChecks": [{"name": "budget"}]}
    lab.queue(admissionChecksStrategy=checks)
    lab.wait()
    assert lab.active("clusterqueues/gpu") == (
        "False",
        "AdmissionCheckNotFound",
        "Can't admit new workloads: references missing AdmissionCheck(s): budget.",
    )


def cluster_queue(flavors: list[dict[str, Any]], covered: list[str], **spec: Any) -> dict[str, Any]:
    group = {"coveredResources": covered, "flavors": flavors}
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ClusterQueue",
        "metadata": {"name": "wrong"},
        "spec": {"namespaceSelector": {}, "resourceGroups": [group], **spec},
    }


def row(name: str = GPU, nominal: Any = 1, **limits: Any) -> dict[str, Any]:
    return {"name": name, "nominalQuota": nominal, **limits}


WHERE = "spec.resourceGroups[0].flavors[0].resources[0]"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            cluster_queue([{"name": "f", "resources": [row("cpu")]}], [GPU]),
            f'{WHERE}.name: Invalid value: "cpu": must match the name in coveredResources',
        ),
        (
            cluster_queue([{"name": "f", "resources": [row(nominal=-1)]}], [GPU]),
            f'{WHERE}.nominalQuota: Invalid value: "-1": must be greater than or equal to 0',
        ),
        (
            cluster_queue([{"name": "f", "resources": [row()]}] * 1, [GPU, GPU]),
            "flavors must have the same number of resources as the coveredResources",
        ),
        (
            cluster_queue([{"name": "f", "resources": [row(lendingLimit=1)]}], [GPU]),
            f'{WHERE}.lendingLimit: Invalid value: "1": must be nil when cohort is empty',
        ),
        (
            cluster_queue([{"name": "f", "resources": [row(borrowingLimit=1)]}], [GPU]),
            "borrowingLimit must be nil when cohort is empty",
        ),
        (
            cluster_queue(
                [{"name": "f", "resources": [row(lendingLimit=2)]}], [GPU], cohortName="lab"
            ),
            f'{WHERE}.lendingLimit: Invalid value: "2": must be less than or equal to the '
            "nominalQuota",
        ),
        (
            cluster_queue(
                [{"name": "f", "resources": [row()]}],
                [GPU],
                preemption={"borrowWithinCohort": {"policy": "LowerPriority"}},
            ),
            "reclaimWithinCohort=Never and borrowWithinCohort.Policy!=Never",
        ),
        (
            cluster_queue(
                [{"name": "f", "resources": [row()]}],
                [GPU],
                flavorFungibility={"preference": "PreemptionOverBorrowing"},
            ),
            "preference can only be set when both whenCanBorrow and whenCanPreempt are "
            "TryNextFlavor",
        ),
        (
            cluster_queue([{"name": "f", "resources": [row()]}], [GPU], queueingStrategy="LIFO"),
            'spec.queueingStrategy: Unsupported value: "LIFO": supported values: "StrictFIFO", '
            '"BestEffortFIFO"',
        ),
    ],
    ids=lambda value: value[-30:] if isinstance(value, str) else "",
)
def test_a_cluster_queue_that_contradicts_itself(lab: Lab, body: dict[str, Any], why: str) -> None:
    answer = lab.post(f"{KUEUE}/clusterqueues", body)
    assert answer.status in (403, 422)
    assert why in answer.message


def test_a_selector_that_is_none(lab: Lab) -> None:
    body = cluster_queue([{"name": "f", "resources": [row()]}], [GPU])
    expression = {"key": "team", "operator": "Like", "values": ["ml"]}
    body["spec"]["namespaceSelector"] = {"matchExpressions": [expression]}
    answer = lab.post(f"{KUEUE}/clusterqueues", body)
    assert answer.status == 403
    assert answer.message.endswith(
        'spec.namespaceSelector.matchExpressions[0].operator: Invalid value: "Like": not a valid '
        "selector operator"
    )


def test_a_webhook_names_itself(lab: Lab) -> None:
    body = cluster_queue([{"name": "f", "resources": [row("cpu")]}], [GPU])
    answer = lab.post(f"{KUEUE}/clusterqueues", body)
    assert answer.status == 403
    assert answer.message == (
        'admission webhook "vclusterqueue.kb.io" denied the request: '
        f'{WHERE}.name: Invalid value: "cpu": must match the name in coveredResources'
    )


def test_several_refusals_are_listed(lab: Lab) -> None:
    flavors = [{"name": "f", "resources": [row(nominal=-1)]}] * 2
    body = cluster_queue([flavors[0]], [GPU])
    other = {"coveredResources": [GPU], "flavors": [flavors[1]]}
    body["spec"]["resourceGroups"].append(other)
    answer = lab.post(f"{KUEUE}/clusterqueues", body)
    assert answer.status == 403
    why = answer.message.partition("denied the request: ")[2]
    assert why == (
        f'[{WHERE}.nominalQuota: Invalid value: "-1": must be greater than or equal to 0, '
        f'spec.resourceGroups[1].coveredResources[0]: Duplicate value: "{GPU}", '
        "spec.resourceGroups[1].flavors[0].resources[0].nominalQuota: Invalid value: "
        '"-1": must be greater than or equal to 0, '
        'spec.resourceGroups[1].flavors[0].name: Duplicate value: "f"]'
    )


def test_a_local_queue_keeps_its_cluster_queue(lab: Lab) -> None:
    lab.queue()
    answer = lab.patch(LOCAL, {"spec": {"clusterQueue": "other"}})
    assert answer.status == 422
    assert "field is immutable" in answer.message
