"""What is refused, and in which words: Trainer's, JobSet's, Kubernetes' and the model's own."""

from __future__ import annotations

from typing import Any

from ..lab import HOME
from .lab import (
    GROUP,
    JOBSET,
    JOBSETS,
    PAUSE,
    RUNTIMES,
    TRAIN_JOBS,
    TrainerLab,
    gpus,
    patch,
    runtime,
)


def test_what_the_webhook_refuses(lab: TrainerLab) -> None:
    def says(*args: Any, **spec: Any) -> str:
        start = f'admission webhook "validator.trainjob.{GROUP}" denied the request: '
        return lab.refused("a", *args, **spec).removeprefix(start)

    reference = '{"apiGroup":"trainer.kubeflow.org","kind":"TrainingRuntime","name":"absent"}'
    assert says(runtime="absent") == (
        f"spec.runtimeRef: Invalid value: {reference}: TrainingRuntime.trainer.kubeflow.org "
        '"absent" not found: specified trainingRuntime must be created before the TrainJob is '
        "created"
    )
    env = [{"name": "PET_NNODES", "value": "9"}]
    assert says({"env": env}) == (
        'spec.trainer.env: Invalid value: [{"name":"PET_NNODES","value":"9"}]: must not have '
        "reserved envs, invalid envs configured: [PET_NNODES]"
    )
    told = says(runtimePatches=[patch("example.com/me", {}, "absent")])
    assert "must not have replicated job that doesn't exist in the runtime job template" in told
    absent = {"containers": [{"name": "absent"}]}
    told = says(runtimePatches=[patch("example.com/me", absent)])
    assert "must not have container that doesn't exist in the runtime job node" in told
    variables = {"containers": [{"name": "node", "env": [{"name": "A", "value": "b"}]}]}
    told = says(runtimePatches=[patch("example.com/me", variables)])
    assert "must not have envs for the dataset-initializer, model-initializer, node" in told
    body = lab.body("a")
    body["spec"]["runtimeRef"] |= {"kind": "Deployment", "apiGroup": "apps"}
    assert "unsupported runtime: Deployment.apps" in lab.post(TRAIN_JOBS, body).message


def test_what_the_model_does_not_do_is_refused(lab: TrainerLab) -> None:
    text = "Forbidden: the embedded cluster's add-on trainer does not model this"
    assert f"spec.initializer: {text}" in lab.refused("a", initializer={"model": {}})
    body = runtime("mpi")
    body["spec"]["mlPolicy"] = {"mpi": {}}
    assert lab.post(RUNTIMES, body).status == 201
    assert f"spec.mlPolicy.mpi: {text}" in lab.refused("a", runtime="mpi")
    # What only the JobSet shows is told as Trainer tells of it.
    lab.runtime("ordered", startupPolicy={"startupPolicyOrder": "InOrder"})
    lab.train("a", runtime="ordered")
    [(_, reason, message), *_] = lab.events("a")
    assert reason == "TrainJobResourcesCreationFailed"
    assert message == (
        'TrainJob resources reconciliation failed: admission webhook "vjobset.kb.io" denied the '
        f"request: spec.startupPolicy: {text}"
    )


def test_names_and_changes_that_the_api_refuses(lab: TrainerLab) -> None:
    body = lab.body("1st")
    assert (
        "metadata.name must match RFC 1035 DNS label format" in lab.post(TRAIN_JOBS, body).message
    )
    lab.train("a")
    answer = lab.patch(f"{TRAIN_JOBS}/a", {"spec": {"trainer": {"numNodes": 2}}})
    assert (answer.status, "field is immutable" in answer.message) == (422, True)
    lab.train("x" * 55)
    [(_, _, message), *_] = lab.events("x" * 55)
    assert "pod names generated for this JobSet will exceed 63 characters" in message


def test_objects_of_the_wrong_shape_are_refused_in_the_servers_words(lab: TrainerLab) -> None:
    jobset = {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": {"name": "a"}}
    for spec in (
        "no",
        {"replicatedJobs": "no"},
        {"replicatedJobs": ["no"]},
        {"replicatedJobs": [{"name": "a"}]},
        {"replicatedJobs": [{"name": "a", "template": "no"}]},
        {"replicatedJobs": [{"name": "a", "template": {"spec": {"template": 1}}}]},
        {"replicatedJobs": [{"name": "a", "template": {"spec": {"completions": None}}}]},
        {"network": 1},
        {"failurePolicy": "no"},
        {"failurePolicy": {"rules": [1]}},
    ):
        answer = lab.post(JOBSETS, {**jobset, "spec": spec})
        assert answer.status in (403, 422), (spec, answer.body)
    body = lab.body("a")
    wrong: list[Any] = ["no", ["no"], [{"manager": 1}], [{}]]
    wrong_containers: list[Any] = ["no", ["no"], [{}]]
    wrong += [[patch("example.com/me", {"containers": each})] for each in wrong_containers]
    for patches in wrong:
        body["spec"]["runtimePatches"] = patches
        assert lab.post(TRAIN_JOBS, body).status == 422, patches


def test_a_pod_that_only_looks_like_one_of_a_jobset(lab: TrainerLab) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}
    labels = {f"{JOBSET}/jobset-uid": "x"}
    for more in ({}, {f"{JOBSET}/jobset-name": "y"}):
        pod["metadata"] = {"name": "a", "labels": {**labels, **more}}
        for spec in ({}, {"containers": [{"env": [{"value": "b"}]}]}):
            answer = lab.post(f"/api/v1{HOME}/pods", {**pod, "spec": spec})
            assert answer.status == 422, answer.body


def test_nulls_in_a_template_mean_nothing(lab: TrainerLab) -> None:
    nothing = {"env": None, "ports": None, "resources": None}
    pod = {"containers": [{"name": "node", "image": PAUSE, **nothing}], "nodeSelector": None}
    lab.runtime("nulls", job={"parallelism": None, "template": {"metadata": None, "spec": pod}})
    lab.train("a", gpus(1), runtime="nulls")
    assert lab.phases("a") == ["Running"]
