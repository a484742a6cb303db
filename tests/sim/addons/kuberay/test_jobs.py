"""RayJobs and RayServices up to where Ray itself has to answer: what they make, and their ends."""

from __future__ import annotations

from typing import Any

from .lab import (
    BATCH,
    CLUSTERS,
    CORE,
    JOBS,
    SERVICES,
    RayLab,
    answering,
    cluster,
    ends,
    workers,
)


def job(lab: RayLab, **spec: Any) -> None:
    lab.make("RayJob", "j", {"entrypoint": "python a.py", "rayClusterSpec": cluster(), **spec})


def test_a_job_gets_a_cluster_and_a_submitter(lab: RayLab) -> None:
    job(lab, runtimeEnvYAML="env_vars: {A: b}", metadata={"team": "x"}, entrypointNumCpus=0.5)
    status = lab.status(f"{JOBS}/j")
    assert status["jobDeploymentStatus"] == "Initializing"
    name, identity = status["rayClusterName"], status["jobId"]
    assert name.startswith("j-")
    assert identity.startswith("j-")
    lab.until(lambda: lab.status(f"{JOBS}/j")["jobDeploymentStatus"] == "Running")
    made = lab.get(f"{CLUSTERS}/{name}")["metadata"]
    assert made["labels"] == {
        "ray.io/job-submission-mode": "K8sJobMode",
        "ray.io/originated-from-cr-name": "j",
        "ray.io/originated-from-crd": "RayJob",
    }
    url = f"{name}-head-svc.default.svc.cluster.local:8265"
    assert lab.status(f"{JOBS}/j")["dashboardURL"] == url
    submitter = lab.get(f"{BATCH}/j")
    assert submitter["spec"]["backoffLimit"] == 2
    pod = submitter["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    [container] = pod["containers"]
    assert container["name"] == "ray-job-submitter"
    assert container["command"] == ["/bin/bash", "-ce", "--"]
    [line] = container["args"]
    assert line.endswith(
        f"then ray job submit --address http://{url} --no-wait "
        r'--runtime-env-json "{\"env_vars\":{\"A\":\"b\"}}" '
        r'--metadata-json "{\"team\":\"x\"}" '
        f"--submission-id {identity} --entrypoint-num-cpus 0.500000 -- python a.py ; fi ; "
        f"ray job logs --address http://{url} --follow {identity}"
    )


def test_columns(lab: RayLab) -> None:
    job(lab)
    names, [row] = lab.table(JOBS)
    assert names[:4] == ["NAME", "JOB STATUS", "DEPLOYMENT STATUS", "RAY CLUSTER NAME"]
    assert row[:3] == ["j", None, "Initializing"]
    names, _ = lab.table(SERVICES)
    assert names == ["NAME", "SERVICE STATUS", "NUM SERVE ENDPOINTS"]


def test_a_job_that_is_suspended_has_nothing(lab: RayLab) -> None:
    job(lab, shutdownAfterJobFinishes=True, suspend=True)
    lab.until(lambda: lab.status(f"{JOBS}/j")["jobDeploymentStatus"] == "Suspended")
    assert lab.get(CLUSTERS)["items"] == []
    assert lab.patch(f"{JOBS}/j", {"spec": {"suspend": False}}).status == 200
    lab.until(lambda: lab.status(f"{JOBS}/j")["jobDeploymentStatus"] == "Running")
    assert lab.patch(f"{JOBS}/j", {"spec": {"suspend": True}}).status == 200
    lab.until(lambda: lab.status(f"{JOBS}/j")["jobDeploymentStatus"] == "Suspended")
    assert lab.get(CLUSTERS)["items"] == lab.get(BATCH)["items"] == []
    assert "rayClusterName" not in lab.status(f"{JOBS}/j")


def test_a_job_whose_cluster_never_comes(lab: RayLab) -> None:
    job(
        lab,
        preRunningDeadlineSeconds=30,
        rayClusterSpec=cluster(
            workers(
                template={"spec": {"containers": [{"name": "ray", "image": "example.com/none:1"}]}}
            )
        ),
    )
    lab.wait(60)
    status = lab.status(f"{JOBS}/j")
    assert status["jobDeploymentStatus"] == "Failed"
    assert status["reason"] == "PreRunningDeadlineExceeded"
    assert status["message"].endswith("PreRunningDeadlineSeconds: 30")
    assert status["failed"] == 1


def test_a_job_that_cannot_be_submitted_is_tried_again(lab: RayLab) -> None:
    job(lab, backoffLimit=1, submitterPodTemplate=ends(1), submitterConfig={"backoffLimit": 0})
    first = lab.status(f"{JOBS}/j")["rayClusterName"]
    lab.until(lambda: lab.status(f"{JOBS}/j").get("jobDeploymentStatus") == "Failed", within_s=60)
    status = lab.status(f"{JOBS}/j")
    assert (status["failed"], status["reason"]) == (2, "SubmissionFailed")
    assert status["rayClusterName"] != first
    assert status["message"].startswith(
        "Job submission has failed. Reason: BackoffLimitExceeded. Message: "
    )


def answered(lab: RayLab, said: str, **spec: Any) -> Any:
    """The status of a job of which its head says this, at its end."""
    spec |= {"rayClusterSpec": cluster(head={"template": answering(said)})}
    job(lab, submitterPodTemplate=ends(0), **spec)

    def status() -> Any:
        found = lab.status(f"{JOBS}/j")
        return found if found["jobDeploymentStatus"] in ("Complete", "Failed") else None

    lab.until(status, within_s=60)
    return status()


def test_a_job_that_has_succeeded(lab: RayLab) -> None:
    status = answered(lab, "SUCCEEDED", shutdownAfterJobFinishes=True, ttlSecondsAfterFinished=100)
    assert (status["jobStatus"], status["jobDeploymentStatus"]) == ("SUCCEEDED", "Complete")
    assert (status["succeeded"], status["failed"]) == (1, 0)
    selector = lab.get(f"{CORE}/services/j-head-svc")["spec"]["selector"]
    assert selector["ray.io/cluster"] == status["rayClusterName"]
    lab.wait(60)
    assert len(lab.get(CLUSTERS)["items"]) == 1
    lab.wait(60)
    assert lab.get(CLUSTERS)["items"] == []
    assert lab.get(f"{BATCH}/j")["status"]["succeeded"] == 1
    assert ("Normal", "DeletedRayCluster") in [each[:2] for each in lab.events("j")]


def test_a_job_that_has_failed(lab: RayLab) -> None:
    status = answered(lab, "FAILED")
    assert (status["jobStatus"], status["jobDeploymentStatus"]) == ("FAILED", "Failed")
    assert (status["reason"], status["message"]) == ("AppFailed", "said by a stand-in")
    lab.wait(60)
    # Nobody has asked for its end.
    assert len(lab.get(CLUSTERS)["items"]) == 1


def test_a_job_that_was_stopped_has_ended(lab: RayLab) -> None:
    status = answered(lab, "STOPPED")
    assert (status["jobStatus"], status["jobDeploymentStatus"]) == ("STOPPED", "Complete")
    assert (status["succeeded"], status["failed"]) == (0, 0)


def test_a_cluster_that_is_selected_has_to_be_there(lab: RayLab) -> None:
    lab.make("RayJob", "j", {"entrypoint": "true", "clusterSelector": {"ray.io/cluster": "none"}})
    text = (
        "RayCluster default/none set in the clusterSelector is not found. It must be created "
        "manually"
    )
    assert ("Warning", "RayClusterNotFound", text) in lab.events("j")
    lab.ray(name="none")
    lab.until(lambda: lab.status(f"{JOBS}/j")["jobDeploymentStatus"] == "Running", within_s=60)
    assert lab.client("DELETE", f"{JOBS}/j").status == 200
    lab.wait(10)
    assert lab.ready("none")


def test_deleting_a_job_deletes_its_cluster(lab: RayLab) -> None:
    job(lab)
    lab.wait(20)
    assert lab.get(f"{JOBS}/j")["metadata"]["finalizers"] == ["ray.io/rayjob-finalizer"]
    assert lab.client("DELETE", f"{JOBS}/j").status == 200
    lab.wait(40)
    assert lab.get(JOBS)["items"] == lab.get(CLUSTERS)["items"] == []
    assert lab.get(f"{CORE}/pods")["items"] == []


def test_a_service_gets_a_cluster(lab: RayLab) -> None:
    lab.make("RayService", "s", {"serveConfigV2": "", "rayClusterConfig": cluster(workers())})
    status = lab.status(f"{SERVICES}/s")
    assert lab.conditions(f"{SERVICES}/s") == {
        "Ready": ("False", "Initializing"),
        "UpgradeInProgress": ("False", "Initializing"),
    }
    name = status["pendingServiceStatus"]["rayClusterName"]
    lab.until(lambda: len(lab.nodes(name=name)) == 2)
    [head] = lab.nodes("head", name)
    [worker] = lab.nodes("worker", name)
    assert head["metadata"]["labels"]["ray.io/serve"] == "false"
    assert worker["metadata"]["labels"]["ray.io/serve"] == "true"
    [_, _, command] = worker["spec"]["containers"][0]["readinessProbe"]["exec"]["command"]
    assert "http://localhost:8000/-/healthz" in command
    assert lab.client("DELETE", f"{SERVICES}/s").status == 200
    lab.wait(40)
    assert lab.get(SERVICES)["items"] == lab.get(CLUSTERS)["items"] == []
