"""Jobs; reasons and messages are those of pkg/controller/job of Kubernetes 1.36."""

from __future__ import annotations

from typing import Any

from mlk8s.sim.controllers.job_policy import backoff

from .cluster import CONTAINER, Cluster, condition, play

TRACKING = "batch.kubernetes.io/job-tracking"


def job(cluster: Cluster, name: str = "train", restart: str = "Never", **spec: Any) -> None:
    template = {"spec": {"restartPolicy": restart, "containers": [CONTAINER]}}
    cluster.create("jobs.batch", name, spec={"template": template, **spec})


def train(cluster: Cluster) -> Any:
    return cluster.get("jobs.batch", "train")


def test_pods_run_in_parallel_and_are_counted_once() -> None:
    async def story(cluster: Cluster) -> None:
        job(cluster, parallelism=2, completions=3)
        await cluster.settle()
        assert len(cluster.pods()) == 2
        assert cluster.events("Job") == [
            ("SuccessfulCreate", f"Created pod: {name}")
            for name in sorted(
                cluster.names("pods"),
                key=lambda n: int(cluster.get("pods", n)["metadata"]["resourceVersion"]),
            )
        ]
        assert train(cluster)["status"] == {
            "active": 2,
            "ready": 0,
            "terminating": 0,
            "startTime": "2027-01-15T08:00:00Z",
            "uncountedTerminatedPods": {},
        }
        assert all(p["metadata"]["finalizers"] == [TRACKING] for p in cluster.pods())
        await cluster.settle(5)
        for _ in range(2):
            cluster.run_all("Succeeded")
            await cluster.settle()
        found = train(cluster)
        assert found["status"]["succeeded"] == 3
        assert found["status"]["completionTime"] == "2027-01-15T08:00:05Z"
        reached = ("True", "CompletionsReached", "Reached expected number of succeeded pods")
        assert [c["type"] for c in found["status"]["conditions"]] == [
            "SuccessCriteriaMet",
            "Complete",
        ]
        assert condition(found, "SuccessCriteriaMet") == condition(found, "Complete") == reached
        assert cluster.events("Job")[-1] == ("Completed", "Job completed")
        assert len(cluster.pods()) == 3
        assert not any(p["metadata"].get("finalizers") for p in cluster.pods())

    play(story)


def test_failures_are_tried_again_later_each_time_up_to_the_limit() -> None:
    async def story(cluster: Cluster) -> None:
        job(cluster, backoffLimit=2)
        await cluster.settle()
        cluster.run_all("Failed")
        await cluster.settle(9)
        assert len(cluster.pods()) == 1
        await cluster.settle(1)
        assert len(cluster.pods()) == 2
        cluster.run_all("Failed")
        await cluster.settle(19)
        assert len(cluster.pods()) == 2
        await cluster.settle(1)
        assert len(cluster.pods()) == 3
        assert train(cluster)["status"]["failed"] == 2
        cluster.run_all("Failed")
        await cluster.settle()
        found = train(cluster)
        told = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        assert condition(found, "FailureTarget") == condition(found, "Failed") == ("True", *told)
        assert found["status"]["failed"] == 3
        assert "completionTime" not in found["status"]
        assert cluster.events("Job")[-1] == told

    play(story)


def test_restarts_in_place_count_too() -> None:
    async def story(cluster: Cluster) -> None:
        job(cluster, restart="OnFailure", backoffLimit=2)
        await cluster.settle()
        (name,) = cluster.names("pods")
        cluster.run_pod(name)

        def restart(pod: Any) -> None:
            pod["status"]["containerStatuses"][0]["restartCount"] = 2

        cluster.api.change("pods", "team", name, restart, subresource="status")
        await cluster.settle()
        found = train(cluster)
        assert condition(found, "FailureTarget") is not None
        # The pod has its grace; only then is the Job over.
        assert condition(found, "Failed") is None
        assert found["status"]["terminating"] == 1
        cluster.end_deleted()
        await cluster.settle()
        assert condition(train(cluster), "Failed") == (
            "True",
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        )
        assert train(cluster)["status"]["failed"] == 1

    play(story)


def test_the_deadline_stops_running_pods() -> None:
    async def story(cluster: Cluster) -> None:
        job(cluster, activeDeadlineSeconds=30)
        await cluster.settle()
        cluster.run_all()
        await cluster.settle(29)
        assert condition(train(cluster), "FailureTarget") is None
        await cluster.settle(1)
        cluster.end_deleted()
        await cluster.settle()
        told = ("DeadlineExceeded", "Job was active longer than specified deadline")
        assert condition(train(cluster), "Failed") == ("True", *told)
        assert cluster.events("Job")[-1] == told
        assert cluster.pods() == []

    play(story)


def test_suspend_and_resume() -> None:
    async def story(cluster: Cluster) -> None:
        job(cluster, suspend=True)
        await cluster.settle()
        assert cluster.pods() == []
        assert "startTime" not in train(cluster)["status"]
        assert condition(train(cluster), "Suspended") == ("True", "JobSuspended", "Job suspended")
        await cluster.settle(60)
        cluster.change("jobs.batch", "train", lambda j: j["spec"].update(suspend=False))
        await cluster.settle()
        assert len(cluster.pods()) == 1
        found = train(cluster)
        assert condition(found, "Suspended") == ("False", "JobResumed", "Job resumed")
        assert found["status"]["startTime"] == "2027-01-15T08:01:00Z"
        cluster.change("jobs.batch", "train", lambda j: j["spec"].update(suspend=True))
        await cluster.settle()
        assert cluster.pods() == []
        assert "failed" not in train(cluster)["status"]
        reasons = [reason for reason, _ in cluster.events("Job")]
        assert reasons.count("Suspended") == 1 and reasons.count("Resumed") == 1

    play(story)


def test_an_indexed_job_numbers_its_pods() -> None:
    async def story(cluster: Cluster) -> None:
        job(cluster, completionMode="Indexed", completions=4, parallelism=4)
        await cluster.settle()
        names = cluster.names("pods")
        assert [name.rsplit("-", 1)[0] for name in names] == [f"train-{i}" for i in range(4)]
        pod = cluster.get("pods", names[2])
        index = "batch.kubernetes.io/job-completion-index"
        assert pod["metadata"]["annotations"][index] == "2"
        assert pod["metadata"]["labels"][index] == "2"
        assert pod["spec"]["hostname"] == "train-2"
        (variable,) = pod["spec"]["containers"][0]["env"]
        assert variable == {
            "name": "JOB_COMPLETION_INDEX",
            "valueFrom": {
                "fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{index}']"}
            },
        }
        for number in (0, 1, 2):
            cluster.run_pod(names[number], "Succeeded")
        await cluster.settle()
        assert train(cluster)["status"]["completedIndexes"] == "0-2"
        cluster.run_pod(names[3], "Failed")
        await cluster.settle(10)
        cluster.run_all("Succeeded")
        await cluster.settle()
        assert train(cluster)["status"]["completedIndexes"] == "0-3"
        assert train(cluster)["status"]["failed"] == 1
        assert condition(train(cluster), "Complete") is not None

    play(story)


def test_a_limit_for_each_index_lets_the_others_go_on() -> None:
    async def story(cluster: Cluster) -> None:
        job(
            cluster,
            completionMode="Indexed",
            completions=2,
            parallelism=2,
            backoffLimitPerIndex=1,
        )
        await cluster.settle()
        first, second = cluster.names("pods")
        cluster.run_pod(first, "Failed")
        await cluster.settle(10)
        counts = [
            p["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"]
            for p in cluster.pods()
            if p["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "0"
        ]
        assert sorted(counts) == ["0", "1"]
        (again,) = [n for n in cluster.names("pods") if n not in (first, second)]
        cluster.run_pod(again, "Failed")
        await cluster.settle()
        found = train(cluster)
        assert found["status"]["failedIndexes"] == "0"
        assert condition(found, "FailureTarget") is None
        cluster.run_pod(second, "Succeeded")
        await cluster.settle()
        found = train(cluster)
        assert condition(found, "Failed") == ("True", "FailedIndexes", "Job has failed indexes")
        assert (found["status"]["completedIndexes"], found["status"]["failed"]) == ("1", 2)

    play(story)


def test_a_failure_policy_ends_the_job_or_forgives() -> None:
    rules = [
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]},
        },
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}},
    ]

    async def story(cluster: Cluster) -> None:
        job(cluster, backoffLimit=0, podFailurePolicy={"rules": rules})
        await cluster.settle()
        cluster.run_all("Failed", code=7)
        await cluster.settle(10)
        assert condition(train(cluster), "FailureTarget") is None
        assert "failed" not in train(cluster)["status"]
        (name,) = cluster.run_all("Failed", code=42)
        await cluster.settle()
        message = (
            f"Container main for pod team/{name} failed with exit code 42 matching FailJob "
            "rule at index 0"
        )
        assert condition(train(cluster), "Failed") == ("True", "PodFailurePolicy", message)
        assert cluster.events("Job")[-1] == ("PodFailurePolicy", message)

    play(story)


def test_a_success_policy_ends_the_job_early() -> None:
    async def story(cluster: Cluster) -> None:
        job(
            cluster,
            completionMode="Indexed",
            completions=3,
            parallelism=3,
            successPolicy={"rules": [{"succeededIndexes": "0"}]},
        )
        await cluster.settle()
        cluster.run_pod(cluster.names("pods")[0], "Succeeded")
        await cluster.settle()
        told = ("True", "SuccessPolicy", "Matched rules at index 0")
        assert condition(train(cluster), "Complete") == told
        assert len(cluster.pods()) == 1

    play(story)


def test_a_finished_job_is_deleted_with_its_pods_when_its_time_is_over() -> None:
    async def story(cluster: Cluster) -> None:
        job(cluster, ttlSecondsAfterFinished=100)
        await cluster.settle()
        cluster.run_all("Succeeded")
        await cluster.settle(99)
        assert cluster.names("jobs.batch") == ["train"]
        await cluster.settle(1)
        assert cluster.names("jobs.batch") == cluster.names("pods") == []

    play(story)


def test_deleting_a_job_takes_running_pods_along_or_leaves_them_free() -> None:
    async def story(cluster: Cluster) -> None:
        job(cluster, "one")
        job(cluster, "two")
        await cluster.settle()
        cluster.run_all()
        cluster.delete("jobs.batch", "one")
        cluster.delete("jobs.batch", "two", "Orphan")
        await cluster.settle()
        assert cluster.names("jobs.batch") == []
        one, two = cluster.pods()
        assert "deletionTimestamp" in one["metadata"] and "finalizers" not in one["metadata"]
        assert "deletionTimestamp" not in two["metadata"]
        assert "ownerReferences" not in two["metadata"] and "finalizers" not in two["metadata"]

    play(story)


def test_a_thousand_pods_finish() -> None:
    async def story(cluster: Cluster) -> None:
        job(cluster, parallelism=1000, completions=1000)
        await cluster.settle(3)
        assert len(cluster.pods()) == 1000
        before = cluster.api.store.revision
        cluster.run_all("Succeeded")
        await cluster.settle(3)
        assert train(cluster)["status"]["succeeded"] == 1000
        assert condition(train(cluster), "Complete") is not None
        # Bind, report and release each pod, and few writes of the Job's status.
        assert cluster.api.store.revision - before < 3200

    play(story)


def test_a_job_of_another_manager_is_left_alone() -> None:
    async def story(cluster: Cluster) -> None:
        job(cluster, managedBy="kueue.x-k8s.io/multikueue")
        await cluster.settle()
        assert cluster.pods() == []

    play(story)


def test_the_wait_after_failures_doubles_up_to_ten_minutes() -> None:
    # DefaultJobPodFailureBackOff and MaxJobPodFailureBackOff of job_controller.go.
    waits = [backoff(failures) for failures in (0, 1, 2, 6, 7, 100)]
    assert waits == [0, 10, 20, 320, 600, 600]
