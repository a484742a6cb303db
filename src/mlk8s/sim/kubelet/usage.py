"""``metrics.k8s.io``: what pods and nodes use, as ``kubectl top`` shows it.

Containers that are processes are measured; those that are not have small constants.
"""

from __future__ import annotations

from mlk8s.sim.clock import stamp
from mlk8s.sim.kubelet.container import Container
from mlk8s.sim.kubelet.kubelet import Kubelet
from mlk8s.sim.kubelet.launch import Local
from mlk8s.sim.kubelet.sample import RESOLUTION_S, Sample
from mlk8s.sim.status import Object

# A container that is no process: an idle server's share.
IDLE_CORES = 0.001
IDLE_BYTES = 8 * 1024 * 1024
# A node without its pods: operating system, kubelet, container runtime.
SYSTEM_CORES = 0.05
SYSTEM_BYTES = 900 * 1024 * 1024
MARK = {"mlk8s.dev/simulated": "true"}
_VERSION = "metrics.k8s.io/v1beta1"


def pod_metrics(kubelet: Kubelet) -> list[Object]:
    """A ``PodMetrics`` of each pod that runs, in order of namespace and name."""
    sample = _sampled(kubelet)
    found = []
    for (namespace, name), worker in sorted(kubelet.workers.items()):
        running = [each for each in worker.containers if each.running]
        if not running:
            continue
        metadata = {"name": name, "namespace": namespace, "creationTimestamp": stamp(sample.at)}
        if labels := worker.pod["metadata"].get("labels"):
            metadata["labels"] = labels
        measured = all(isinstance(each.execution, Local) for each in running)
        found.append(
            {
                "kind": "PodMetrics",
                "apiVersion": _VERSION,
                "metadata": metadata | ({} if measured else {"annotations": MARK}),
                "timestamp": stamp(sample.at),
                "window": f"{RESOLUTION_S:g}s",
                "containers": [
                    {"name": each.name, "usage": _usage(*_of(each, sample))} for each in running
                ],
            }
        )
    return found


def node_metrics(kubelet: Kubelet) -> list[Object]:
    """A ``NodeMetrics`` of each node that has a kubelet, in order of name."""
    sample = _sampled(kubelet)
    cores: dict[str, float] = {}
    memory: dict[str, int] = {}
    for worker in kubelet.workers.values():
        for each in worker.containers:
            if each.running:
                used = _of(each, sample)
                cores[worker.node] = cores.get(worker.node, 0.0) + used[0]
                memory[worker.node] = memory.get(worker.node, 0) + used[1]
    return [
        {
            "kind": "NodeMetrics",
            "apiVersion": _VERSION,
            "metadata": {
                "name": name,
                "creationTimestamp": stamp(sample.at),
                "annotations": MARK,
            },
            "timestamp": stamp(sample.at),
            "window": f"{RESOLUTION_S:g}s",
            "usage": _usage(
                SYSTEM_CORES + cores.get(name, 0.0), SYSTEM_BYTES + memory.get(name, 0)
            ),
        }
        for _, name in kubelet.api.store.keys("nodes")
        if kubelet.fleet.serves(name)
    ]


def _usage(cores: float, memory: int) -> Object:
    return {"cpu": f"{round(cores * 1e9)}n", "memory": f"{memory // 1024}Ki"}


def _of(container: Container, sample: Sample) -> tuple[float, int]:
    run = container.execution
    if not isinstance(run, Local) or run.process is None:
        return IDLE_CORES, IDLE_BYTES
    pid = run.process.pid
    return sample.cores.get(pid, 0.0), sample.memory.get(pid, run.process.rss)


def _sampled(kubelet: Kubelet) -> Sample:
    """The last measurement, or a new one when it is old."""
    now = kubelet.api.clock.now()
    before = kubelet.sample
    if before is not None and now - before.at < RESOLUTION_S:
        return before
    sample = Sample(now, kubelet.processes.cpu_seconds(), {}, kubelet.processes.memory())
    for worker in kubelet.workers.values():
        for each in worker.containers:
            run = each.execution
            if not each.running or not isinstance(run, Local) or run.process is None:
                continue
            pid = run.process.pid
            used, since = sample.cpu_seconds.get(pid, 0.0), each.started_at
            if before is not None and pid in before.cpu_seconds:
                used, since = used - before.cpu_seconds[pid], before.at
            sample.cores[pid] = max(used, 0.0) / max(now - since, 0.1)
    kubelet.sample = sample
    return sample
