"""What an installation brings, against the models of the package ``kubeflow_trainer_api``."""

from __future__ import annotations

import types
import typing
from typing import Any

import pytest
from kubeflow_trainer_api import models  # type: ignore[import-untyped]
from pydantic import BaseModel

from mlk8s.sim import Cluster

from ..lab import HOME
from .lab import CLUSTER_RUNTIMES, GROUP, JOBSETS, RUNTIMES, TRAIN_JOBS, TrainerLab, runtime

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
KINDS: dict[str, type[BaseModel]] = {
    f"trainjobs.{GROUP}": models.TrainerV1alpha1TrainJob,
    f"trainingruntimes.{GROUP}": models.TrainerV1alpha1TrainingRuntime,
    f"clustertrainingruntimes.{GROUP}": models.TrainerV1alpha1ClusterTrainingRuntime,
    "jobsets.jobset.x-k8s.io": models.JobsetV1alpha2JobSet,
}


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model of a field, of its items or of its values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in typing.get_args(annotation):
        if part is not types.NoneType and (found := model_in(part)):
            return found
    return None


def differences(schema: Any, model: type[BaseModel], path: str) -> list[str]:
    """Where a schema has other fields, or requires others, than a model; not below what is open."""
    schema = schema.get("items", schema)
    if "properties" not in schema or schema.get("x-kubernetes-preserve-unknown-fields"):
        return []
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    found = [f"{path}: {name}" for name in sorted(set(fields) ^ set(schema["properties"]))]
    required = {name for name, field in fields.items() if field.is_required()}
    if required != set(schema.get("required", ())):
        found.append(f"{path}: requires {sorted(required)}")
    for name in set(fields) & set(schema["properties"]):
        below = model_in(fields[name].annotation)
        if below is not None and not below.__name__.startswith("IoK8s"):
            found += differences(schema["properties"][name], below, f"{path}.{name}")
    return found


@pytest.mark.parametrize("name", KINDS)
def test_a_definition_has_the_fields_of_the_api(lab: TrainerLab, name: str) -> None:
    definition = lab.get(f"{CRDS}/{name}")
    [version] = definition["spec"]["versions"]
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    fields = KINDS[name].model_fields
    for part in set(fields) & {"spec", "status"}:
        model = model_in(fields[part].annotation)
        assert model is not None
        assert differences(properties[part], model, part) == []
    assert definition["metadata"]["annotations"]["mlk8s.dev/model"] == (
        "trainer 2.3.0 (2026-08-06), modeled by mlk8s from github.com/kubeflow/trainer; "
        "not the project's own software"
    )


def test_the_runtime_for_pytorch(lab: TrainerLab) -> None:
    [found] = lab.get(CLUSTER_RUNTIMES)["items"]
    read = models.TrainerV1alpha1ClusterTrainingRuntime.from_dict(found)
    assert read is not None and read.metadata is not None and read.spec is not None
    assert read.metadata.name == "torch-distributed"
    assert read.metadata.labels == {f"{GROUP}/framework": "torch"}
    [node] = found["spec"]["template"]["spec"]["replicatedJobs"]
    [container] = node["template"]["spec"]["template"]["spec"]["containers"]
    assert container == {
        "name": "node",
        "image": "pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime",
    }
    assert found["spec"]["mlPolicy"] == {"numNodes": 1, "torch": {}}


def test_what_is_made_can_be_read_with_the_models(lab: TrainerLab) -> None:
    lab.train("a", {"numNodes": 2, "resourcesPerNode": {"limits": {"nvidia.com/gpu": 1}}})
    job = models.TrainerV1alpha1TrainJob.from_dict(lab.read("a"))
    assert job is not None and job.status is not None and job.status.jobs_status is not None
    assert [(each.name, each.ready) for each in job.status.jobs_status] == [("node", 1)]
    jobset = models.JobsetV1alpha2JobSet.from_dict(lab.jobset("a"))
    assert jobset is not None and jobset.spec is not None and jobset.spec.replicated_jobs
    template = jobset.spec.replicated_jobs[0].template.spec
    assert template is not None and template.completions == 2


def test_the_tables(lab: TrainerLab) -> None:
    lab.train("a", suspend=True)
    names, [[name, state, _]] = lab.table(TRAIN_JOBS)
    assert (names, name, state) == (["NAME", "STATE", "AGE"], "a", "Suspended")
    names, [[name, *cells, _]] = lab.table(JOBSETS)
    assert names == ["NAME", "TERMINALSTATE", "RESTARTS", "COMPLETED", "SUSPENDED", "AGE"]
    assert cells == [None, "0", None, "true"]


def test_a_client_can_ask_for_the_version(lab: TrainerLab) -> None:
    path = "/api/v1/namespaces/kubeflow-system/configmaps/kubeflow-trainer-public"
    assert lab.get(path)["data"] == {"kubeflow_trainer_version": "v2.3.0"}


def test_disabling_removes_all_of_it_and_enabling_starts_anew(running: Cluster) -> None:
    lab = TrainerLab(running)
    running.enable("trainer")
    lab.runtime("mine")
    lab.train("a", {"numNodes": 2})
    assert lab.phases("a") == ["Running", "Running"]
    running.disable("trainer")
    lab.wait(60)
    left = {each["metadata"]["name"] for each in lab.get(CRDS)["items"]}
    assert not left & set(KINDS)
    for path in ("/api/v1{}/pods", "/apis/batch/v1{}/jobs"):
        assert lab.get(path.format(HOME))["items"] == []
    services = [each["metadata"]["name"] for each in lab.get(f"/api/v1{HOME}/services")["items"]]
    assert services == ["kubernetes"]
    public = "/api/v1/namespaces/kubeflow-system/configmaps/kubeflow-trainer-public"
    assert lab.client("GET", public).status == 404
    running.enable("trainer")
    try:
        assert lab.get(TRAIN_JOBS)["items"] == lab.get(RUNTIMES)["items"] == []
        lab.train("a")
        assert lab.phases("a") == ["Running"]
    finally:
        running.disable("trainer")
        lab.wait(60)


def test_a_runtime_that_no_trainjob_can_be_made_from(lab: TrainerLab) -> None:
    def refusal(**more: Any) -> str:
        body = runtime("bad", **more)
        answer = lab.post(RUNTIMES, body)
        assert answer.status == 403, answer.body
        webhook = f"validator.trainingruntime.{GROUP}"
        start = f'admission webhook "{webhook}" denied the request: '
        return answer.message.removeprefix(start)

    path = "spec.template.spec.replicatedJobs[0]"
    assert refusal(job={"backofLimit": 1}) == (
        f'{path}.template: Job in version "v1" cannot be handled as a Job: strict decoding error: '
        'unknown field "spec.backofLimit"'
    )
    containers = f"{path}.template.spec.template.spec.containers"
    assert refusal(pod={"containers": []}) == f"{containers}: Required value"
    other = [{"name": "main", "image": "busybox"}]
    assert refusal(pod={"containers": other}) == (
        f'{containers}: Invalid value: [{{"image":"busybox","name":"main"}}]: must contain the '
        "required container for the ancestor: trainer"
    )
    body = runtime("bad")
    body["spec"]["template"]["spec"]["replicatedJobs"][0]["replicas"] = 2
    assert (
        f"{path}.replicas: Invalid value: 2: always must be 1" in lab.post(RUNTIMES, body).message
    )
    body = runtime("bad")
    body["spec"]["mlPolicy"]["mpi"] = {}
    assert "Only one of the policy can be configured" in lab.post(RUNTIMES, body).message
