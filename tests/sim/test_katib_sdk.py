"""The Kubeflow SDK, unmodified, searches on the embedded cluster, in real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubeflow.common.types import KubernetesBackendConfig
from kubeflow.optimizer import (
    Objective,
    OptimizationJob,
    OptimizerClient,
    RandomSearch,
    Search,
    TrialConfig,
)
from kubeflow.optimizer.types.optimization_types import Direction
from kubeflow.trainer import CustomTrainer
from kubeflow.trainer.types.types import TrainJobTemplate
from kubernetes import client, config

from mlk8s.sim import Cluster

# One node; its GPUs are limited to two by the quota below.
NODES = "h100x8"
GPUS = 2
LABEL = "katib.kubeflow.org/metrics-collector-injection"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(NODES, addons=["trainer", "katib"], seed=1) as found:
        core = core_of(found)
        core.patch_namespace("default", {"metadata": {"labels": {LABEL: "enabled"}}})
        hard = {"requests.nvidia.com/gpu": str(GPUS)}
        quota = client.V1ResourceQuota(
            metadata=client.V1ObjectMeta(name="gpus"), spec=client.V1ResourceQuotaSpec(hard=hard)
        )
        core.create_namespaced_resource_quota("default", quota)
        yield found
        log = (found.directory / "server.log").read_text()
        assert "Traceback" not in log, log


def core_of(cluster: Cluster) -> client.CoreV1Api:
    return client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))


@pytest.fixture
def optimizer(cluster: Cluster, gone: Callable[[Cluster], None]) -> Iterator[OptimizerClient]:
    """A client; what a test leaves is deleted, and then no pods are there."""
    where = KubernetesBackendConfig(config_file=str(cluster.kubeconfig), namespace="default")
    found = OptimizerClient(backend_config=where)
    yield found
    for job in found.list_jobs():
        found.delete_job(job.name)
    gone(cluster)


# The SDK sends the source: it imports what it needs.


def train(lr: str, size: str) -> None:
    import os

    print(f"gpus={len(os.environ['NVIDIA_VISIBLE_DEVICES'].split(','))}")
    for step in range(2):
        print(f"loss={(float(lr) - 0.1) ** 2 + 1 / int(size) + 1 - step}")


def fail(lr: str) -> None:
    raise ValueError(f"no such learning rate: {lr}")


def optimize(optimizer: OptimizerClient, func: Any, **more: Any) -> str:
    """Search with a function that gets one GPU."""
    trainer = CustomTrainer(func=func, resources_per_node={"gpu": 1})
    template = TrainJobTemplate(trainer=trainer, runtime=more.pop("runtime", None))
    return str(optimizer.optimize(template, **more))


def test_four_trials_two_at_a_time(
    cluster: Cluster, optimizer: OptimizerClient, gone: Callable[[Cluster], None]
) -> None:
    objectives = [Objective(metric="loss", direction=Direction.MINIMIZE), Objective(metric="gpus")]
    name = optimize(
        optimizer,
        train,
        search_space={"lr": Search.loguniform(0.01, 1.0), "size": Search.choice([2, 4])},
        trial_config=TrialConfig(num_trials=4, parallel_trials=2, max_failed_trials=1),
        objectives=objectives,
        algorithm=RandomSearch(random_state=7),
    )
    most = 0

    def watch(job: OptimizationJob) -> None:
        nonlocal most
        most = max(most, sum(trial.trainjob.status == "Running" for trial in job.trials))

    done = optimizer.wait_for_job_status(name, timeout=120, polling_interval=1, callbacks=[watch])
    assert done.status == "Complete" and most <= 2
    assert done.algorithm == RandomSearch(random_state=7)
    assert [trial.trainjob.status for trial in done.trials] == ["Complete"] * 4
    for trial in done.trials:
        found = {metric.name: metric for metric in trial.metrics}
        lr, size = float(trial.parameters["lr"]), int(trial.parameters["size"])
        assert 0.01 <= lr <= 1 and size in (2, 4)
        loss = (lr - 0.1) ** 2 + 1 / size
        assert [float(found["loss"].min), float(found["loss"].max)] == pytest.approx(
            [loss, loss + 1]
        )
        assert found["gpus"].latest == "1"
    best = optimizer.get_best_results(name)
    losses = {
        float(metric.min): trial.parameters
        for trial in done.trials
        for metric in trial.metrics
        if metric.name == "loss"
    }
    assert best is not None and best.parameters == losses[min(losses)]
    # The collector's log has the output, each line behind a head of its own.
    log = [line.partition("] ")[2] for line in optimizer.get_job_logs(name)]
    assert log[0].startswith("Trial Name: ") and log[1] == "gpus=1"
    assert float(log[3].removeprefix("loss=")) == min(losses)
    assert [job.name for job in optimizer.list_jobs()] == [name]
    assert optimizer.get_job(name).trials[0].name == done.trials[0].name
    reasons = {event.reason for event in optimizer.get_job_events(name)}
    assert {"JobCreated", "JobRunning", "JobSucceeded"} <= reasons
    optimizer.delete_job(name)
    assert optimizer.list_jobs() == []
    gone(cluster)


def test_a_function_that_fails(
    cluster: Cluster, optimizer: OptimizerClient, runtime_once: Callable[..., None]
) -> None:
    runtime_once(cluster, "plain", "python:3.11")
    name = optimize(
        optimizer,
        fail,
        runtime="once",
        search_space={"lr": Search.uniform(0, 1)},
        trial_config=TrialConfig(num_trials=2, parallel_trials=1, max_failed_trials=1),
    )
    with pytest.raises(RuntimeError, match=f"OptimizationJob {name} is Failed"):
        optimizer.wait_for_job_status(name, timeout=60, polling_interval=1)
    assert optimizer.get_best_results(name) is None
    log = "\n".join(optimizer.get_job_logs(name))
    assert "ValueError: no such learning rate" in log


def test_a_namespace_that_katib_does_not_know(cluster: Cluster) -> None:
    space = client.V1Namespace(metadata=client.V1ObjectMeta(name="other"))
    core_of(cluster).create_namespace(space)
    where = KubernetesBackendConfig(config_file=str(cluster.kubeconfig), namespace="other")
    found = OptimizerClient(backend_config=where)
    with pytest.raises(RuntimeError, match="Failed to create OptimizationJob") as error:
        optimize(found, fail, search_space={"lr": Search.uniform(0, 1)})
    assert f'the namespace lacks label \\"{LABEL}: enabled\\"' in str(error.value.__cause__)
