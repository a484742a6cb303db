"""Two pods with two GPUs, in each of which torchrun would start two processes."""

from __future__ import annotations

import re

from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong

NAME, NODES, EACH, GPU = "train", 2, 2, "nvidia.com/gpu"
LABEL = f"jobset.sigs.k8s.io/jobset-name={NAME}"
PRINTED = re.compile(r"node \d of (\d+) runs (\d+) processes")


def check(work: Work) -> str:
    """Run it, and read what the pods got and have printed."""
    work.remove("trainjob", NAME)
    work.until("the last training to be gone", lambda: not _pods(work))
    (job, *_) = work.apply("train.yaml", "TrainJob")
    wanted = job.get("spec", {}).get("trainer", {}).get("numNodes", 1)
    work.until("its pods", lambda: len(_pods(work)) == wanted)
    found = sorted(_pods(work))
    if not found:
        raise Wrong(f"train.yaml makes no pod of a TrainJob {NAME}; keep its name.")
    for pod in found:
        work.running(pod)
    if len(found) != NODES:
        raise Wrong(f"The training has {len(found)} of {NODES} nodes; a node is a pod.")
    for pod in found:
        (container,) = work.pod(pod)["spec"]["containers"]
        gpus = int(container["resources"].get("limits", {}).get(GPU, 0))
        printed = PRINTED.search(_log(work, pod))
        if printed is None:
            raise Wrong("The command does not print what torchrun reads any more; let it stay.")
        processes = int(printed[2])
        if processes != gpus:
            raise Wrong(
                f"A node runs {processes} processes and has {GPU}: {gpus}. Each process wants a "
                "GPU of its own, and finds those of its own pod only."
            )
        if gpus != EACH:
            raise Wrong(f"A node has {GPU}: {gpus}; the task wants {EACH}.")
    return f"{NODES} pods with {EACH} GPUs and {EACH} processes each: four ranks, two on each node."


def _pods(work: Work) -> list[str]:
    found = work.k.items(path("pods", namespace=work.namespace), labelSelector=LABEL)
    return [pod["metadata"]["name"] for pod in found]


def _log(work: Work, pod: str) -> str:
    work.until(f"{pod} to end", lambda: work.settled(pod).state in ("done", "failed"))
    return work.k.logs(pod).text
