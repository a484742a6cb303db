"""The Kubeflow SDK, unmodified, trains on the embedded cluster, in real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from kubeflow.common.types import KubernetesBackendConfig
from kubeflow.trainer import CustomTrainer, TrainerClient
from kubernetes import client, config

from mlk8s.sim import Cluster

# One node, whose eight GPUs are asked for below.
NODES = "h100x8"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(NODES, addons=["trainer"]) as found:
        yield found
        log = (found.directory / "server.log").read_text()
        assert "Traceback" not in log, log


@pytest.fixture
def trainer(cluster: Cluster, gone: Callable[[Cluster], None]) -> Iterator[TrainerClient]:
    """A client; what a test leaves is deleted, and then no pods are there."""
    where = KubernetesBackendConfig(config_file=str(cluster.kubeconfig), namespace="default")
    found = TrainerClient(backend_config=where)
    yield found
    for job in found.list_jobs():
        found.delete_job(job.name)
    gone(cluster)


# The SDK sends the source of these: they import what they need.


def reduce_and_step(scale: float) -> None:
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    found = torch.tensor([scale * (rank + 1)])
    dist.all_reduce(found)
    print(f"rank {rank} of {dist.get_world_size()}: the sum is {found.item():g}")
    torch.manual_seed(0)
    model = DistributedDataParallel(torch.nn.Linear(1, 1, bias=False))
    model(torch.full((1, 1), rank + 1.0)).sum().backward()
    [weight] = model.parameters()
    assert weight.grad is not None
    print(f"rank {rank}: the mean gradient is {weight.grad.item():g}")
    dist.barrier()
    dist.destroy_process_group()


def fail() -> None:
    raise ValueError("no such data set")


def report_gpus() -> None:
    import os
    import sys

    # A line in one write: both processes of the pod write to the same log.
    sys.stdout.write(f"processes {os.environ['LOCAL_WORLD_SIZE']}\n")
    devices = os.environ["NVIDIA_VISIBLE_DEVICES"].split(",")
    sys.stdout.write(f"devices {len(devices)}\n")


def test_two_nodes_train_together(
    cluster: Cluster, trainer: TrainerClient, gone: Callable[[Cluster], None]
) -> None:
    [runtime] = trainer.list_runtimes()
    assert (runtime.name, runtime.trainer.framework) == ("torch-distributed", "torch")
    job = CustomTrainer(func=reduce_and_step, func_args={"scale": 10}, num_nodes=2)
    name = trainer.train(runtime=runtime, trainer=job)
    done = trainer.wait_for_job_status(name, timeout=120, polling_interval=1)
    assert (done.status, done.num_nodes) == ("Complete", 2)
    assert [(step.name, step.status) for step in done.steps] == [
        ("node-0", "Succeeded"),
        ("node-1", "Succeeded"),
    ]
    for rank in (0, 1):
        # Whoever leaves last may be told by c10d, at length, that the other has gone.
        log = trainer.get_job_logs(name, step=f"node-{rank}")
        assert [line for line in log if line.startswith("rank")] == [
            f"rank {rank} of 2: the sum is 30",
            f"rank {rank}: the mean gradient is 1.5",
        ]
    assert [found.name for found in trainer.list_jobs()] == [name]
    reasons = [event.reason for event in trainer.get_job_events(name)]
    assert "AllJobsCompleted" in reasons
    trainer.delete_job(name)
    assert trainer.list_jobs() == []
    gone(cluster)


def test_a_function_that_fails(
    cluster: Cluster,
    trainer: TrainerClient,
    runtime_once: Callable[..., None],
    gone: Callable[[Cluster], None],
) -> None:
    image = "pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime"
    runtime_once(cluster, "torch", image, torch={})
    name = trainer.train(runtime="once", trainer=CustomTrainer(func=fail))
    with pytest.raises(RuntimeError, match=f"TrainJob {name} is Failed"):
        trainer.wait_for_job_status(name, timeout=120, polling_interval=1)
    log = list(trainer.get_job_logs(name))
    assert "ValueError: no such data set" in "\n".join(log)
    trainer.delete_job(name)
    gone(cluster)


def test_gpus_of_a_node(trainer: TrainerClient) -> None:
    job = CustomTrainer(func=report_gpus, resources_per_node={"gpu": 2})
    name = trainer.train(trainer=job)
    done = trainer.wait_for_job_status(name, timeout=120, polling_interval=1)
    assert [(step.device, step.device_count) for step in done.steps] == [("gpu", "2")]
    # One process for each GPU, and each prints; torchrun has a warning of its own.
    log = [line for line in trainer.get_job_logs(name) if line.startswith(("devices", "proc"))]
    assert sorted(log) == ["devices 2", "devices 2", "processes 2", "processes 2"]


def test_more_gpus_than_there_are_wait(cluster: Cluster, trainer: TrainerClient) -> None:
    job = CustomTrainer(func=report_gpus, resources_per_node={"gpu": 9})
    name = trainer.train(trainer=job)
    with pytest.raises(TimeoutError):
        trainer.wait_for_job_status(name, timeout=3, polling_interval=1)
    found = trainer.get_job(name)
    assert found.status == "Created"
    assert [step.status for step in found.steps] == ["Pending"]
    core = client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))
    [condition] = core.read_namespaced_pod(found.steps[0].pod_name, "default").status.conditions
    assert "Insufficient nvidia.com/gpu" in condition.message
