"""What KubeRay tells of a wrong spec in an event or a status, and what this model refuses."""

from __future__ import annotations

from typing import Any

import pytest

from .lab import CLUSTERS, JOBS, SERVICES, RayLab, cluster, template, workers

JOB = {"entrypoint": "true"}


@pytest.mark.parametrize(
    ("spec", "mistake"),
    [
        (
            cluster(workers(minReplicas=3, maxReplicas=1)),
            "worker group cpu has minReplicas 3 greater than maxReplicas 1",
        ),
        (
            cluster(workers(minReplicas=-1)),
            "worker group cpu has negative minReplicas -1",
        ),
        (
            cluster(head={"template": {"spec": {"containers": []}}}),
            "headGroupSpec should have at least one container",
        ),
        (
            cluster(workers(rayStartParams={"num-cpus": "1"}, resources={"CPU": "1"})),
            "resource fields should not be set in both rayStartParams and Resources for cpu group; "
            "please use only one",
        ),
        (
            cluster(head={"rayStartParams": {"labels": "a=b"}}),
            "rayStartParams['labels'] is not supported for Head group; please use the top-level "
            "Labels field instead",
        ),
        (
            cluster(authOptions={"mode": "token"}, rayVersion="2.51.0"),
            "authOptions.mode is 'token' but minimum Ray version is 2.52.0, got 2.51.0",
        ),
        (
            cluster(workers(priority=2)),
            "worker group cpu: priority is set to 2, but autoscaler v2 is not enabled. Priority is "
            "only supported with autoscaler v2 enabled",
        ),
        (
            cluster(
                workers(template=template(restartPolicy="Always")),
                head={"template": template(restartPolicy="Never")},
                enableInTreeAutoscaling=True,
                autoscalerOptions={"version": "v2"},
            ),
            "restartPolicy for worker group cpu should be Never or unset when using autoscaler V2",
        ),
    ],
)
def test_a_wrong_cluster(lab: RayLab, spec: Any, mistake: str) -> None:
    lab.make("RayCluster", "r", spec)
    text = f"The RayCluster spec is invalid default/r: {mistake}"
    assert ("Warning", "InvalidRayClusterSpec", text) in lab.events("r")
    assert lab.nodes() == []
    assert lab.status(f"{CLUSTERS}/r") == {}
    lab.make("RayJob", "j", {**JOB, "rayClusterSpec": spec})
    status = lab.status(f"{JOBS}/j")
    assert status["jobDeploymentStatus"] == status["reason"] == "ValidationFailed"
    assert status["message"] == f"The RayJob spec is invalid: {mistake}"
    lab.make("RayService", "s", {"serveConfigV2": "", "rayClusterConfig": spec})
    assert lab.conditions(f"{SERVICES}/s") == {"Ready": ("False", "ValidationFailed")}


@pytest.mark.parametrize(("name", "kind", "limit"), [("c", "RayCluster", 53), ("j", "RayJob", 47)])
def test_a_name_that_is_too_long(lab: RayLab, name: str, kind: str, limit: int) -> None:
    spec = cluster() if kind == "RayCluster" else {**JOB, "rayClusterSpec": cluster()}
    long = name * (limit + 1)
    lab.make(kind, long, spec)
    [(_, reason, text)] = lab.events(long)
    assert reason == f"Invalid{kind}Metadata"
    assert f"{kind} name should be no more than {limit} characters" in text


@pytest.mark.parametrize(
    ("spec", "mistake"),
    [
        ({}, "one of RayClusterSpec or ClusterSelector must be set"),
        (
            {"rayClusterSpec": cluster(), "ttlSecondsAfterFinished": 5},
            "a RayJob with shutdownAfterJobFinishes set to false cannot have "
            "TTLSecondsAfterFinished",
        ),
        (
            {"rayClusterSpec": cluster(), "suspend": True},
            "a RayJob with shutdownAfterJobFinishes set to false is not allowed to be suspended",
        ),
        (
            {"clusterSelector": {"ray.io/cluster": "r"}, "backoffLimit": 1},
            "BackoffLimit is incompatible with ClusterSelector mode",
        ),
        (
            {"rayClusterSpec": cluster(), "backoffLimit": -1},
            "backoffLimit must be a positive integer",
        ),
        (
            {"rayClusterSpec": cluster(), "activeDeadlineSeconds": 0},
            "activeDeadlineSeconds must be a positive integer",
        ),
    ],
)
def test_a_wrong_job(lab: RayLab, spec: Any, mistake: str) -> None:
    lab.make("RayJob", "j", {**JOB, **spec})
    status = lab.status(f"{JOBS}/j")
    assert status["jobDeploymentStatus"] == "ValidationFailed"
    assert status["message"] == f"The RayJob spec is invalid: {mistake}"
    text = f"default/j: The RayJob spec is invalid: {mistake}"
    assert ("Warning", "InvalidRayJobSpec", text) in lab.events("j")


def test_a_runtime_environment_that_is_no_yaml(lab: RayLab) -> None:
    lab.make("RayJob", "j", {**JOB, "rayClusterSpec": cluster(), "runtimeEnvYAML": "a: [b"})
    message = lab.status(f"{JOBS}/j")["message"]
    assert message.startswith("failed to unmarshal RuntimeEnvYAML: a: [b: ")


@pytest.mark.parametrize(
    ("kind", "spec", "field"),
    [
        ("RayCluster", cluster(tlsOptions={"enabled": True}), "spec.tlsOptions"),
        (
            "RayCluster",
            cluster(gcsFaultToleranceOptions={"redisAddress": "redis:6379"}),
            "spec.gcsFaultToleranceOptions",
        ),
        (
            "RayCluster",
            cluster(workers(numOfHosts=2)),
            "spec.workerGroupSpecs[0].numOfHosts",
        ),
        (
            "RayCluster",
            cluster(head={"enableIngress": True}),
            "spec.headGroupSpec.enableIngress",
        ),
        (
            "RayJob",
            {**JOB, "rayClusterSpec": cluster(), "submissionMode": "HTTPMode"},
            "spec.submissionMode",
        ),
        (
            "RayService",
            {
                "rayClusterConfig": cluster(),
                "upgradeStrategy": {"type": "NewClusterWithIncrementalUpgrade"},
            },
            "spec.upgradeStrategy.type",
        ),
    ],
)
def test_what_the_model_does_not_do(lab: RayLab, kind: str, spec: Any, field: str) -> None:
    told = lab.refused(kind, spec)
    assert f"{field}: Forbidden: the embedded cluster's add-on kuberay does not model this" in told


def test_a_template_that_is_no_pod(lab: RayLab) -> None:
    wrong = {"spec": {"containers": [{"name": "ray", "imagee": "x"}]}}
    told = lab.refused("RayCluster", cluster(workers(template=wrong)))
    assert "spec.workerGroupSpecs[0].template" in told
    assert 'unknown field "spec.containers[0].imagee"' in told
