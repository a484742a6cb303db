"""Jobs that change while they wait or run, and what their webhook refuses.

The rules and texts are those of Kueue 0.19.2: ``pkg/controller/jobframework``,
``pkg/controller/jobs/job`` and ``pkg/controller/core/workload_controller.go``.
"""

from __future__ import annotations

import pytest

from .lab import GPU, HOME, JOBS, KUEUE, Lab

QUEUE = "kueue.x-k8s.io/queue-name"
PRIORITY = "kueue.x-k8s.io/priority-class"


def label(name: str, value: str | None) -> dict[str, object]:
    return {"metadata": {"labels": {name: value}}}


def test_a_job_is_suspended_from_its_first_moment(lab: Lab) -> None:
    lab.queue(quota=0)
    assert lab.job("a")["spec"]["suspend"] is True
    lab.wait()
    assert lab.pods("a") == []


def test_a_job_that_is_edited_while_it_waits(lab: Lab) -> None:
    lab.queue(quota=2)
    lab.job("a", pods=3)
    lab.wait()
    before = lab.workload("a")["metadata"]
    lab.patch(f"{JOBS}/a", {"spec": {"parallelism": 2}})
    lab.wait()
    assert lab.workload("a")["metadata"]["uid"] == before["uid"]
    assert lab.workload("a")["spec"]["podSets"][0]["count"] == 2
    assert lab.admitted("a") == [True]
    message = f"Updated not matching Workload for suspended job: default/{before['name']}"
    assert ("Normal", "UpdatedWorkload", message) in lab.events("a")


def test_a_job_that_grows_while_it_runs_has_to_queue_again(lab: Lab) -> None:
    lab.queue(quota=2)
    lab.job("a", parallelism=1, completions=3)
    lab.wait()
    assert lab.admitted("a") == [True]
    before = lab.workload("a")["metadata"]
    lab.patch(f"{JOBS}/a", {"spec": {"parallelism": 3}})
    lab.wait(60)
    assert lab.suspended("a")
    assert lab.workload("a")["metadata"]["uid"] != before["uid"]
    _, _, message = lab.condition("a", "QuotaReserved") or ("", "", "")
    assert message.endswith("current podset request (3) > maximum capacity (2)")
    told = [(reason, text) for _, reason, text in lab.events("a")]
    where = f"default/{before['name']}"
    assert ("DeletedWorkload", f"Deleted not matching Workload: {where}") in told
    text = "No matching Workload; restoring pod templates according to existent Workload"
    assert ("Stopped", text) in told


def test_a_job_asks_for_no_more_pods_than_it_completes(lab: Lab) -> None:
    lab.queue(quota=2)
    lab.job("a", parallelism=4, completions=2)
    lab.wait()
    assert lab.admitted("a") == [True]
    assert lab.workload("a")["spec"]["podSets"][0]["count"] == 2


def test_nobody_starts_a_job_but_kueue(lab: Lab) -> None:
    lab.queue(quota=0)
    lab.job("a")
    lab.wait()
    lab.patch(f"{JOBS}/a", {"spec": {"suspend": False}})
    lab.wait(60)
    assert lab.suspended("a")
    assert lab.pods("a") == []
    assert ("Normal", "Stopped", "Not admitted by cluster queue") in lab.events("a")


def test_a_job_that_waits_may_change_its_queue(lab: Lab) -> None:
    lab.queue("full", 0, local="full")
    lab.queue("free", 1, local="free")
    lab.job("a", queue="full")
    lab.wait()
    assert lab.admitted("a") == [False]
    assert lab.patch(f"{JOBS}/a", label(QUEUE, "free")).status == 200
    lab.wait()
    assert lab.workload("a")["status"]["admission"]["clusterQueue"] == "free"


def test_a_job_that_runs_keeps_its_queue(lab: Lab) -> None:
    lab.queue()
    lab.job("a")
    lab.wait()
    answer = lab.patch(f"{JOBS}/a", label(QUEUE, "other"))
    assert answer.status == 403
    assert answer.message == (
        'admission webhook "vjob.kb.io" denied the request: metadata.labels[kueue.x-k8s.io/'
        'queue-name]: Invalid value: "other": field is immutable'
    )


def test_the_name_of_a_queue_is_that_of_an_object(lab: Lab) -> None:
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "a", "labels": {QUEUE: "My_Team"}},
        "spec": {
            "template": {
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
            }
        },
    }
    answer = lab.post(JOBS, job)
    assert answer.status == 403
    assert answer.message.startswith(
        'admission webhook "vjob.kb.io" denied the request: metadata.labels[kueue.x-k8s.io/'
        'queue-name]: Invalid value: "My_Team": a lowercase RFC 1123 subdomain must consist of'
    )


def test_a_namespace_with_a_default_queue_queues_every_job(lab: Lab) -> None:
    lab.queue(local="default")
    lab.job("a", queue="")
    lab.wait()
    assert lab.read_job("a")["metadata"]["labels"][QUEUE] == "default"
    assert lab.admitted("a") == [True]
    lab.patch(f"{KUEUE}{HOME}/localqueues/default", {"spec": {"stopPolicy": "HoldAndDrain"}})
    lab.wait(60)
    answer = lab.patch(f"{JOBS}/a", label(QUEUE, None))
    assert answer.status == 403
    assert answer.message.endswith(
        'Invalid value: "": queue-name must not be empty in namespace with default queue'
    )


def test_a_deactivated_workload_stops_until_it_is_active_again(lab: Lab) -> None:
    lab.queue(quota=1)
    lab.job("a")
    lab.job("b")
    lab.wait()
    path = f"{KUEUE}{HOME}/workloads/{lab.workload('a')['metadata']['name']}"
    assert lab.patch(path, {"spec": {"active": False}}).status == 200
    lab.wait(60)
    assert lab.suspended("a")
    assert lab.condition("a", "Evicted") == ("True", "Deactivated", "The workload is deactivated")
    told = lab.workload_events("a")
    assert ("Normal", "EvictedDueToDeactivated", "The workload is deactivated") in told
    assert lab.admitted("a", "b") == [False, True]
    lab.client("DELETE", f"{JOBS}/b?propagationPolicy=Background")
    lab.wait()
    assert lab.admitted("a") == [False]
    lab.patch(path, {"spec": {"active": True}})
    lab.wait()
    assert lab.condition("a", "Requeued") == (
        "True",
        "Reactivated",
        "The workload was reactivated",
    )
    assert lab.admitted("a") == [True]


def test_the_priority_of_a_pod_is_the_workloads_unless_the_job_names_another(lab: Lab) -> None:
    path = "/apis/scheduling.k8s.io/v1/priorityclasses"
    body = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "course"},
        "value": 500,
    }
    assert lab.post(path, body).status == 201
    lab.priority("queue", 7)
    lab.queue()
    lab.job("a", pod={"priorityClassName": "course"})
    lab.job("b", pod={"priorityClassName": "course"}, labels={PRIORITY: "queue"})
    lab.wait()
    specs = [lab.workload(name)["spec"] for name in ("a", "b")]
    assert [spec["priority"] for spec in specs] == [500, 7]
    assert [spec["priorityClassRef"]["kind"] for spec in specs] == [
        "PriorityClass",
        "WorkloadPriorityClass",
    ]
    assert lab.client("DELETE", f"{path}/course").status == 200


def test_the_priority_of_a_job_that_waits_may_change(lab: Lab) -> None:
    lab.priority("low", 1)
    lab.priority("high", 9)
    lab.queue(quota=1)
    for name in ("runs", "first", "second"):
        lab.job(name, labels={PRIORITY: "low"})
        lab.wait(2)
    assert lab.patch(f"{JOBS}/second", label(PRIORITY, "high")).status == 200
    lab.wait()
    workload = lab.workload("second")
    assert workload["spec"]["priority"] == 9
    message = f"Updated workload priority class: default/{workload['metadata']['name']}"
    assert ("Normal", "UpdatedWorkload", message) in lab.events("second")
    lab.client("DELETE", f"{JOBS}/runs?propagationPolicy=Background")
    lab.wait()
    assert lab.admitted("first", "second") == [False, True]


def test_a_priority_class_is_neither_removed_nor_given_too_late(lab: Lab) -> None:
    lab.priority("low", 1)
    lab.queue()
    lab.job("a", labels={PRIORITY: "low"})
    lab.job("b")
    lab.wait()
    where = (
        'admission webhook "vjob.kb.io" denied the request: metadata.labels[kueue.x-k8s.io/'
        "priority-class]: Invalid value: "
    )
    answer = lab.patch(f"{JOBS}/a", label(PRIORITY, None))
    assert (answer.status, answer.message) == (
        403,
        f'{where}"": WorkloadPriorityClass cannot be removed from a workload',
    )
    answer = lab.patch(f"{JOBS}/b", label(PRIORITY, "low"))
    assert (answer.status, answer.message) == (
        403,
        f'{where}"low": WorkloadPriorityClass cannot be added to a non-suspended workload',
    )


def test_a_job_waits_for_its_priority_class_to_exist(lab: Lab) -> None:
    lab.queue()
    lab.job("a", labels={PRIORITY: "later"})
    lab.wait(3)
    assert lab.get(f"{KUEUE}{HOME}/workloads")["items"] == []
    lab.priority("later", 5)
    lab.wait(60)
    assert lab.workload("a")["spec"]["priority"] == 5
    assert lab.admitted("a") == [True]


def test_a_limit_is_a_request_and_init_containers_count_at_their_peak(lab: Lab) -> None:
    lab.queue()
    init = {"name": "check", "image": "busybox:1.37", "resources": {"limits": {GPU: "4"}}}
    lab.job("a", gpus=2, pod={"initContainers": [init]})
    lab.wait(0)
    [assignment] = lab.workload("a")["status"]["admission"]["podSetAssignments"]
    assert assignment["resourceUsage"] == {GPU: "4"}


def test_a_workload_that_waits_may_be_deactivated(lab: Lab) -> None:
    lab.queue(quota=0)
    lab.job("a")
    lab.wait()
    path = f"{KUEUE}{HOME}/workloads/{lab.workload('a')['metadata']['name']}"
    lab.patch(path, {"spec": {"active": False}})
    lab.wait()
    assert (lab.condition("a", "Evicted") or ("",))[0] == "True"
    # It held nothing, so nobody is told of an eviction.
    assert "EvictedDueToDeactivated" not in [reason for _, reason, _ in lab.workload_events("a")]
    assert lab.get(f"{KUEUE}/clusterqueues/gpu")["status"]["pendingWorkloads"] == 0


@pytest.mark.parametrize("propagation", ["Foreground", "Background"])
def test_a_workload_goes_with_its_job(lab: Lab, propagation: str) -> None:
    lab.queue()
    lab.job("a")
    lab.wait()
    lab.client("DELETE", f"{JOBS}/a?propagationPolicy={propagation}")
    lab.wait(60)
    assert lab.client("GET", f"{JOBS}/a").status == 404
    assert lab.get(f"{KUEUE}{HOME}/workloads")["items"] == []


def test_finalizers_of_others_stay_on_a_workload(lab: Lab) -> None:
    lab.queue()
    lab.job("a")
    lab.wait()
    metadata = lab.workload("a")["metadata"]
    path = f"{KUEUE}{HOME}/workloads/{metadata['name']}"
    finalizers = [*metadata["finalizers"], "example.com/mine"]
    lab.patch(path, {"metadata": {"finalizers": finalizers}})
    lab.client("DELETE", f"{JOBS}/a?propagationPolicy=Background")
    lab.wait(2)
    assert lab.get(path)["metadata"]["finalizers"] == ["example.com/mine"]
    lab.patch(path, {"metadata": {"finalizers": []}})
    assert lab.client("GET", path).status == 404
