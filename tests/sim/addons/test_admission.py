"""Jobs behind a queue: admitted whole or not at all, in order, and their quota given back.

The texts are those of Kueue 0.19.2 (``pkg/scheduler``, ``pkg/workload``, ``pkg/controller``).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .lab import GPU, HOME, JOBS, KUEUE, Lab

ENDS = "nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda12.5.0"


def test_a_job_is_admitted_whole_or_not_at_all(lab: Lab) -> None:
    lab.queue(quota=4)
    lab.job("a", pods=3)
    lab.job("b", pods=3)
    lab.wait()
    assert lab.admitted("a", "b") == [True, False]
    assert [lab.suspended("a"), lab.suspended("b")] == [False, True]
    assert [len(lab.pods("a")), len(lab.pods("b"))] == [3, 0]


def test_a_job_without_the_label_is_left_alone(lab: Lab) -> None:
    lab.queue(quota=0)
    lab.job("free", queue="")
    lab.wait()
    assert not lab.suspended("free")
    assert len(lab.pods("free")) == 1
    assert lab.get(f"{KUEUE}{HOME}/workloads")["items"] == []


def test_the_conditions_and_events_of_an_admission(lab: Lab) -> None:
    lab.queue()
    lab.job("a", pods=2)
    lab.wait()
    assert lab.condition("a", "QuotaReserved") == (
        "True",
        "QuotaReserved",
        "Quota reserved in ClusterQueue gpu",
    )
    assert lab.condition("a", "Admitted") == ("True", "Admitted", "The workload is admitted")
    workload = lab.workload("a")
    assert workload["status"]["admission"] == {
        "clusterQueue": "gpu",
        "podSetAssignments": [
            {"name": "main", "flavors": {GPU: "any"}, "resourceUsage": {GPU: "2"}, "count": 2}
        ],
    }
    name = workload["metadata"]["name"]
    assert sorted(lab.events(name), reverse=True) == [
        (
            "Normal",
            "QuotaReserved",
            "Quota reserved in ClusterQueue gpu, wait time since queued was 0s",
        ),
        (
            "Normal",
            "Admitted",
            "Admitted by ClusterQueue gpu, wait time since reservation was 0s",
        ),
    ]
    told = [(reason, message) for _, reason, message in lab.events("a")]
    assert ("CreatedWorkload", f"Created Workload: default/{name}") in told
    assert ("Started", "Admitted by clusterQueue gpu") in told


def test_the_workload_is_what_kueue_makes_of_a_job(lab: Lab) -> None:
    lab.queue()
    job = lab.job("a", pods=2)
    lab.wait()
    workload = lab.workload("a")
    uid = job["metadata"]["uid"]
    # GetWorkloadNameForOwnerWithGVK: kind, name and five digits of a hash.
    assert workload["metadata"]["name"].startswith("job-a-")
    assert len(workload["metadata"]["name"]) == len("job-a-") + 5
    assert workload["metadata"]["labels"] == {"kueue.x-k8s.io/job-uid": uid}
    assert workload["metadata"]["finalizers"] == ["kueue.x-k8s.io/resource-in-use"]
    [owner] = workload["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Job", uid, True)
    spec = workload["spec"]
    assert (spec["queueName"], spec["priority"], spec["active"]) == ("team", 0, True)
    [pod_set] = spec["podSets"]
    assert (pod_set["name"], pod_set["count"]) == ("main", 2)
    assert pod_set["template"]["metadata"]["labels"] == {"batch.kubernetes.io/job-name": "a"}


def test_pods_that_run_are_told_where_they_were_admitted(lab: Lab) -> None:
    lab.queue()
    lab.job("a")
    lab.wait()
    [pod] = lab.pods("a")
    labels = {k: v for k, v in pod["metadata"]["labels"].items() if "kueue" in k}
    assert labels == {
        "kueue.x-k8s.io/podset": "main",
        "kueue.x-k8s.io/local-queue-name": "team",
        "kueue.x-k8s.io/cluster-queue-name": "gpu",
    }
    name = lab.workload("a")["metadata"]["name"]
    assert pod["metadata"]["annotations"]["kueue.x-k8s.io/workload"] == name


def test_a_job_that_waits_says_how_much_is_missing(lab: Lab) -> None:
    lab.queue(quota=4)
    lab.job("a", pods=3)
    lab.job("b", pods=3)
    lab.wait()
    message = (
        "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in "
        "flavor any, 2 more needed"
    )
    assert lab.condition("b", "QuotaReserved") == ("False", "Pending", message)
    assert lab.condition("b", "Admitted") is None
    workload = lab.workload("b")
    assert workload["status"]["resourceRequests"] == [{"name": "main", "resources": {GPU: "3"}}]
    assert lab.events(workload["metadata"]["name"]) == [("Warning", "Pending", message)]


def test_a_condition_keeps_its_time_while_only_its_message_changes(lab: Lab) -> None:
    def reserved() -> dict[str, str]:
        [found] = lab.workload("b")["status"]["conditions"]
        return {part: found[part] for part in ("message", "lastTransitionTime")}

    lab.queue(quota=4)
    lab.job("a", pods=4)
    lab.job("b", pods=2)
    lab.wait(5)
    before = reserved()
    assert before["message"].endswith("2 more needed")
    quota = {"name": GPU, "nominalQuota": 5}
    group = {"coveredResources": [GPU], "flavors": [{"name": "any", "resources": [quota]}]}
    lab.patch(f"{KUEUE}/clusterqueues/gpu", {"spec": {"resourceGroups": [group]}})
    lab.wait(5)
    assert reserved()["message"].endswith("1 more needed")
    assert reserved()["lastTransitionTime"] == before["lastTransitionTime"]


def test_a_job_that_can_never_fit_says_so(lab: Lab) -> None:
    lab.queue(quota=4)
    lab.job("a", gpus=8)
    lab.wait()
    assert lab.condition("a", "QuotaReserved") == (
        "False",
        "Pending",
        "couldn't assign flavors to pod set main: insufficient quota for nvidia.com/gpu in flavor "
        "any, previously considered podsets requests (0) + current podset request (8) > maximum "
        "capacity (4)",
    )


def test_a_resource_that_the_queue_does_not_cover(lab: Lab) -> None:
    lab.queue()
    lab.job("a", resources={"requests": {"cpu": "1", GPU: "1"}})
    lab.wait()
    assert lab.condition("a", "QuotaReserved") == (
        "False",
        "Pending",
        "couldn't assign flavors to pod set main: resource cpu unavailable in ClusterQueue",
    )


def test_covered_memory_is_counted_in_powers_of_two(lab: Lab) -> None:
    lab.queue()
    rows = [{"name": "memory", "nominalQuota": "4Gi"}]
    group = {"coveredResources": ["memory"], "flavors": [{"name": "any", "resources": rows}]}
    spec = {"namespaceSelector": {}, "resourceGroups": [group]}
    lab.create("ClusterQueue", "memory", spec)
    lab.create("LocalQueue", "big", {"clusterQueue": "memory"}, namespaced=True)
    wanted = {"limits": {}, "requests": {"memory": "3Gi"}}
    lab.job("a", queue="big", resources=wanted)
    lab.job("b", queue="big", resources=wanted)
    lab.wait()
    [assignment] = lab.workload("a")["status"]["admission"]["podSetAssignments"]
    assert assignment["resourceUsage"] == {"memory": "3Gi"}
    status, _, message = lab.condition("b", "QuotaReserved") or ("", "", "")
    assert status == "False"
    assert message.endswith("insufficient unused quota for memory in flavor any, 2Gi more needed")


def test_quota_comes_back_when_a_job_ends(lab: Lab) -> None:
    lab.queue(quota=1)
    lab.job("a", image=ENDS)
    lab.job("b", image=ENDS)
    lab.wait(0.5)
    assert lab.admitted("a", "b") == [True, False]
    lab.wait(30)
    name = lab.workload("a")["metadata"]["name"]
    finished = ("True", "Succeeded", "Reached expected number of succeeded pods")
    assert lab.condition("a", "Finished") == finished
    assert lab.condition("b", "Finished") == finished
    assert "finalizers" not in lab.workload("a")["metadata"]
    told = [(reason, message) for _, reason, message in lab.events("a")]
    assert ("FinishedWorkload", f"Workload 'default/{name}' is declared finished") in told
    queue = lab.get(f"{KUEUE}/clusterqueues/gpu")["status"]
    assert (queue["pendingWorkloads"], queue["admittedWorkloads"]) == (0, 0)


def test_quota_comes_back_when_a_job_fails(lab: Lab) -> None:
    lab.queue(quota=1)
    lab.job("a", image=ENDS, gpus=0, backoffLimit=0, resources={"requests": {GPU: "0"}})
    lab.job("b")
    lab.wait(30)
    status, reason, message = lab.condition("a", "Finished") or ("", "", "")
    assert (status, reason) == ("True", "Failed")
    assert message == "Job has reached the specified backoff limit"
    assert lab.admitted("b") == [True]


def test_quota_comes_back_when_a_job_is_deleted(lab: Lab) -> None:
    lab.queue(quota=1)
    lab.job("a")
    lab.job("b")
    lab.wait()
    assert lab.admitted("a", "b") == [True, False]
    assert lab.client("DELETE", f"{JOBS}/a?propagationPolicy=Background").status == 200
    lab.wait()
    assert lab.admitted("b") == [True]
    assert len(lab.get(f"{KUEUE}{HOME}/workloads")["items"]) == 1


def test_quota_of_pods_that_have_succeeded_is_given_back_early(lab: Lab, tmp_path: Path) -> None:
    lab.queue(quota=3)
    go = tmp_path / "go"
    first_ends = f"until [ $JOB_COMPLETION_INDEX = 0 -a -e {go} ]; do sleep 0.05; done"
    command = ["sh", "-c", first_ends]
    lab.job("a", pods=3, completionMode="Indexed", image="busybox:1.37", command=command)
    lab.job("one")
    lab.job("another")
    assert lab.admitted("a", "one", "another") == [True, False, False]
    go.touch()
    lab.until(lambda: lab.read_job("a").get("status", {}).get("succeeded") == 1)
    lab.wait()
    assert lab.workload("a")["status"]["reclaimablePods"] == [{"name": "main", "count": 1}]
    assert lab.admitted("a", "one", "another") == [True, True, False]


def test_best_effort_lets_a_smaller_job_pass(lab: Lab) -> None:
    lab.queue(quota=4)
    for name, pods in (("first", 3), ("large", 3), ("small", 1)):
        lab.job(name, pods=pods)
    lab.wait()
    assert lab.admitted("first", "large", "small") == [True, False, True]


def test_strict_order_makes_a_smaller_job_wait(lab: Lab) -> None:
    lab.queue(quota=4, queueingStrategy="StrictFIFO")
    for name, pods in (("first", 3), ("large", 3), ("small", 1)):
        lab.job(name, pods=pods)
    lab.wait()
    assert lab.admitted("first", "large", "small") == [True, False, False]
    # Nobody has looked at it.
    assert "status" not in lab.workload("small")
    lab.client("DELETE", f"{JOBS}/first?propagationPolicy=Background")
    lab.wait()
    assert lab.admitted("large", "small") == [True, True]


@pytest.mark.parametrize("strategy", ["BestEffortFIFO", "StrictFIFO"])
def test_first_come_first_served_within_a_priority(lab: Lab, strategy: str) -> None:
    lab.queue(quota=1, queueingStrategy=strategy)
    lab.priority("urgent", 100)
    for name in ("running", "early", "late"):
        lab.job(name)
        lab.wait()
    lab.job("urgent", labels={"kueue.x-k8s.io/priority-class": "urgent"})
    lab.wait()
    spec = lab.workload("urgent")["spec"]
    assert spec["priority"] == 100
    assert spec["priorityClassRef"] == {
        "group": "kueue.x-k8s.io",
        "kind": "WorkloadPriorityClass",
        "name": "urgent",
    }
    order = []
    waiting = ["running", "early", "late", "urgent"]
    while waiting:
        [admitted] = [name for name in waiting if lab.admitted(name) == [True]]
        order.append(admitted)
        waiting.remove(admitted)
        lab.client("DELETE", f"{JOBS}/{admitted}?propagationPolicy=Background")
        lab.wait()
    assert order == ["running", "urgent", "early", "late"]
