"""How training ends, starts anew, waits and goes on.

Conditions and texts are those of Trainer v2.3.0 and JobSet v0.12.0.
"""

from __future__ import annotations

from typing import Any

import pytest

from ..lab import HOME, JOBS
from .lab import JOBSETS, PAUSE, RUNTIMES, TRAIN_JOBS, TrainerLab, runtime, shell

RANK = '"$PET_NODE_RANK"'
ONCE: dict[str, Any] = {"job": {"backoffLimit": 0}, "pod": {"restartPolicy": "Never"}}


def test_it_completes_when_all_nodes_have(lab: TrainerLab) -> None:
    lab.train("a", {"numNodes": 2, **shell(f"echo rank {RANK} of $PET_NNODES")})
    lab.until(lambda: lab.conditions("a"))
    assert lab.conditions("a") == {
        "Complete": ("True", "AllJobsCompleted", "jobset completed successfully")
    }
    assert lab.counts("a") == {"succeeded": 1}
    pods = lab.nodes("a")
    assert [pod["status"]["phase"] for pod in pods] == ["Succeeded", "Succeeded"]
    assert [lab.log(pod["metadata"]["name"]) for pod in pods] == ["rank 0 of 2\n", "rank 1 of 2\n"]
    assert lab.jobset("a")["status"]["terminalState"] == "Completed"
    assert lab.events("a", "JobSet") == [
        ("Normal", "AllJobsCompleted", "jobset completed successfully"),
    ]


def test_one_node_that_fails_fails_it_and_its_log_stays(lab: TrainerLab) -> None:
    lab.runtime("once", **ONCE)
    script = f"[ {RANK} = 0 ] && sleep 60; echo no such file >&2; exit 3"
    lab.train("a", {"numNodes": 2, **shell(script)}, "once")
    lab.until(lambda: "Failed" in lab.conditions("a"))
    lab.wait(40)
    message = "jobset failed due to one or more job failures (first failed job: a-node-0)"
    assert lab.conditions("a") == {"Failed": ("True", "FailedJobs", message)}
    assert lab.counts("a") == {"failed": 1}
    # The Job stops the node that still runs.
    [pod] = [pod for pod in lab.nodes("a") if pod["spec"]["hostname"] == "a-node-0-1"]
    assert lab.log(pod["metadata"]["name"]) == "no such file\n"
    assert ("Warning", "FailedJobs", message) in lab.events("a")


def test_by_default_a_node_starts_anew_in_place_until_the_jobs_limit(lab: TrainerLab) -> None:
    lab.train("a", shell("echo again; exit 1"))

    def restarts() -> int:
        [pod] = lab.nodes("a")
        return int(pod["status"]["containerStatuses"][0]["restartCount"])

    lab.until(lambda: restarts() == 1, within_s=60)
    assert lab.conditions("a") == {}
    for _ in range(40):
        lab.wait(60)
        if lab.conditions("a"):
            break
    assert lab.conditions("a")["Failed"][1] == "FailedJobs"
    failed = lab.told(f"/apis/batch/v1{HOME}/jobs/a-node-0")["Failed"]
    assert failed[1] == "BackoffLimitExceeded"
    # And its log with it: pods that restart in place are deleted when the Job fails.
    lab.wait(40)
    assert lab.nodes("a") == []


def failing(name: str, policy: dict[str, Any], **more: Any) -> dict[str, Any]:
    return runtime(name, failurePolicy=policy, **{**ONCE, **more})


def test_a_policy_makes_all_jobs_anew(lab: TrainerLab) -> None:
    assert lab.post(RUNTIMES, failing("retry", {"maxRestarts": 1})).status == 201
    lab.train("a", {"numNodes": 2, **shell("sleep 2; exit 1")}, "retry")
    first = {pod["metadata"]["uid"] for pod in lab.nodes("a")}
    lab.until(lambda: lab.jobset("a")["status"]["restarts"] == 1)
    lab.until(lambda: "Failed" in lab.conditions("a"))
    text = "jobset failed due to reaching max number of restarts (first failed job: a-node-0)"
    assert lab.conditions("a") == {"Failed": ("True", "ReachedMaxRestarts", text)}
    assert not first & {pod["metadata"]["uid"] for pod in lab.nodes("a")}
    assert (
        lab.read_job("a-node-0")["metadata"]["labels"]["jobset.sigs.k8s.io/restart-attempt"] == "1"
    )
    told = "applying RestartJobSet failure policy action (first failed job: a-node-0)"
    assert ("Warning", "RestartJobSetFailurePolicyAction", told) in lab.events("a")
    restarting = lab.told(f"{JOBSETS}/a")["RestartingJobSet"]
    assert restarting == ("False", "JobSetFailed", "jobset failed")


def test_a_rule_of_a_policy(lab: TrainerLab) -> None:
    on_exit = {"containerName": "node", "operator": "In", "values": [42]}
    rules = [{"action": "FailJob", "onExitCodes": on_exit}]
    job = {**ONCE["job"], "podFailurePolicy": {"rules": rules}}
    policy = {
        "maxRestarts": 5,
        "rules": [
            {"name": "bug", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]},
            {
                "name": "glitch",
                "action": "RestartJobSetAndIgnoreMaxRestarts",
                "onJobFailureMessagePatterns": ["specified backoff l[a-z]+"],
            },
        ],
    }
    assert lab.post(RUNTIMES, failing("rules", policy, job=job)).status == 201
    lab.train("bug", shell("exit 42"), "rules")
    lab.until(lambda: "Failed" in lab.conditions("bug"))
    assert lab.conditions("bug")["Failed"] == (
        "True",
        "FailJobSetFailurePolicyAction",
        "applying FailJobSet failure policy action (first failed job: bug-node-0)",
    )
    lab.train("glitch", shell("exit 1"), "rules")
    lab.until(lambda: lab.jobset("glitch")["status"]["restarts"] >= 1)
    assert "restartsCountTowardsMax" not in lab.jobset("glitch")["status"]
    assert "FailurePolicy_glitch" in [reason for _, reason, _ in lab.events("glitch")]


def two_jobs(lab: TrainerLab, name: str, **spec: Any) -> None:
    """A JobSet of a Job that fails after a moment, and of one that runs."""
    jobs = []
    for part, container in (
        ("fails", {"image": "busybox", "command": ["sh", "-c", "sleep 1; exit 1"]}),
        ("runs", {"image": PAUSE}),
    ):
        pod = {"restartPolicy": "Never", "containers": [{"name": "main", **container}]}
        template = {"spec": {"backoffLimit": 0, "template": {"spec": pod}}}
        jobs.append({"name": part, "template": template})
    body = {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": {"name": name}}
    answer = lab.post(JOBSETS, {**body, "spec": {"replicatedJobs": jobs, **spec}})
    assert answer.status == 201, answer.message
    lab.wait()


def attempts(lab: TrainerLab) -> dict[str, str]:
    """The Jobs, and in which attempt each was made."""
    label = "jobset.sigs.k8s.io/restart-attempt"
    found = lab.get(JOBS)["items"]
    return {job["metadata"]["name"]: job["metadata"]["labels"][label] for job in found}


def test_jobs_that_still_run_go_when_another_fails(lab: TrainerLab) -> None:
    two_jobs(lab, "a")
    lab.until(lambda: "Failed" in lab.told(f"{JOBSETS}/a"))
    lab.wait(40)
    assert attempts(lab) == {"a-fails-0": "0"}
    lab.client("DELETE", JOBSETS)


@pytest.mark.parametrize(
    ("strategy", "made"), [("Recreate", {"a-fails-0": "1"}), ("BlockingRecreate", {})]
)
def test_whether_new_jobs_wait_for_the_old_ones(
    lab: TrainerLab, strategy: str, made: dict[str, str]
) -> None:
    two_jobs(lab, "a", failurePolicy={"maxRestarts": 1, "restartStrategy": strategy})
    held = f"{JOBS}/a-runs-0"
    lab.patch(held, {"metadata": {"finalizers": ["example.com/held"]}})
    lab.until(lambda: lab.jobset("a")["status"]["restarts"] == 1)
    lab.wait(1)
    assert attempts(lab) == {"a-runs-0": "0", **made}
    lab.patch(held, {"metadata": {"finalizers": None}})
    lab.until(lambda: attempts(lab) == {"a-fails-0": "1", "a-runs-0": "1"})
    lab.client("DELETE", JOBSETS)


def test_suspended_from_the_start_and_resumed(lab: TrainerLab) -> None:
    lab.train("a", {"numNodes": 2}, suspend=True)
    assert lab.conditions("a") == {"Suspended": ("True", "Suspended", "TrainJob is suspended")}
    assert lab.counts("a") == {"suspended": 1}
    assert lab.nodes("a") == []
    assert lab.told(f"{JOBSETS}/a")["Suspended"] == ("True", "SuspendedJobs", "jobset is suspended")
    lab.patch(f"{TRAIN_JOBS}/a", {"spec": {"suspend": False}})
    lab.wait()
    assert lab.conditions("a") == {"Suspended": ("False", "Resumed", "TrainJob is resumed")}
    assert lab.phases("a") == ["Running", "Running"]
    assert lab.counts("a") == {"ready": 1, "active": 1}
    assert lab.told(f"{JOBSETS}/a")["Suspended"] == ("False", "ResumeJobs", "jobset is resumed")


def test_suspended_while_it_runs_and_resumed_with_new_pods(lab: TrainerLab) -> None:
    lab.train("a", {"numNodes": 2})
    before = {pod["metadata"]["uid"] for pod in lab.nodes("a")}
    lab.patch(f"{TRAIN_JOBS}/a", {"spec": {"suspend": True}})
    lab.wait(40)
    assert lab.nodes("a") == []
    assert lab.counts("a") == {"suspended": 1}
    lab.patch(f"{TRAIN_JOBS}/a", {"spec": {"suspend": False}})
    lab.wait()
    after = {pod["metadata"]["uid"] for pod in lab.nodes("a")}
    assert len(after) == 2
    assert not before & after


def test_a_deadline(lab: TrainerLab) -> None:
    lab.train("a", activeDeadlineSeconds=100)
    lab.wait(90)
    assert lab.phases("a") == ["Running"]
    lab.wait(60)
    failed = ("True", "DeadlineExceeded", "TrainJob exceeded its active deadline")
    assert lab.conditions("a") == {"Failed": failed}
    assert lab.nodes("a") == []
    assert lab.client("GET", f"{JOBSETS}/a").status == 404


def test_a_deadline_counts_from_the_resumption(lab: TrainerLab) -> None:
    lab.train("a", activeDeadlineSeconds=100, suspend=True)
    lab.wait(200)
    lab.patch(f"{TRAIN_JOBS}/a", {"spec": {"suspend": False}})
    lab.wait(90)
    assert lab.phases("a") == ["Running"]
    lab.wait(20)
    assert lab.conditions("a")["Failed"][1] == "DeadlineExceeded"


def test_a_time_to_live_takes_the_jobset_and_leaves_the_trainjob(lab: TrainerLab) -> None:
    lab.runtime("brief", ttlSecondsAfterFinished=60)
    lab.train("a", shell("true"), "brief")
    lab.until(lambda: "Complete" in lab.conditions("a"))
    lab.wait(50)
    assert len(lab.nodes("a")) == 1
    lab.wait(20)
    assert lab.nodes("a") == []
    assert lab.client("GET", f"{JOBSETS}/a").status == 404
    assert lab.conditions("a")["Complete"][0] == "True"


def test_a_service_that_somebody_deletes_is_made_anew(lab: TrainerLab) -> None:
    lab.train("a")
    path = f"/api/v1{HOME}/services/a"
    before = lab.get(path)["metadata"]["uid"]
    lab.client("DELETE", path)
    lab.wait()
    assert lab.get(path)["metadata"]["uid"] != before


def test_a_trainjob_of_another_manager_is_left_alone(lab: TrainerLab) -> None:
    lab.train("a", managedBy="kueue.x-k8s.io/multikueue")
    assert lab.client("GET", f"{JOBSETS}/a").status == 404
    assert lab.conditions("a") == {}
