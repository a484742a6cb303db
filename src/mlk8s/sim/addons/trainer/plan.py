"""From a TrainJob and its runtime to a JobSet: what is patched, merged and added.

The order is that of Trainer: the runtime's template, the patches, the resources of a node, the
plug-in of the machine learning policy, the TrainJob's own trainer. Sources at v2.3.0:
``pkg/runtime/core/trainingruntime.go``, ``pkg/runtime/framework/plugins/{torch,plainml,jobset}``.
"""

from __future__ import annotations

import copy
from math import ceil
from typing import Any

from mlk8s.sim.addons.trainer import names
from mlk8s.sim.controllers.base import owner_reference
from mlk8s.sim.decoding import read
from mlk8s.sim.patch import strategic_merge
from mlk8s.sim.quantity import value
from mlk8s.sim.schema import named
from mlk8s.sim.status import Object, bad_request

#: The type of a replicated job's template.
JOB_TEMPLATE = "io.k8s.api.batch.v1.JobTemplateSpec"
_RANK = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def jobset(job: Object, runtime: Object) -> Object:
    """The JobSet of a TrainJob.

    Raises:
        StatusError: a patch cannot be merged.
    """
    spec = copy.deepcopy(runtime["spec"])
    template = spec.get("template") or {}
    made: Object = {"replicatedJobs": [], **(template.get("spec") or {})}
    metadata: Object = {
        "name": job["metadata"]["name"],
        "namespace": job["metadata"]["namespace"],
        "ownerReferences": [owner_reference(job)],
    }
    propagated = [template.get("metadata") or {}]
    for patch in patches(job):
        propagated.append(patch.get("metadata") or {})
        _merge(made, patch)
    for part in ("labels", "annotations"):
        found = {key: text for each in propagated for key, text in (each.get(part) or {}).items()}
        if found:
            metadata[part] = found
    for each in made["replicatedJobs"]:
        each["template"] = read(JOB_TEMPLATE, each["template"])
        _complete(each, job, spec.get("mlPolicy"))
    made["suspend"] = bool(job["spec"].get("suspend"))
    return {
        "apiVersion": names.JOBSET_API_VERSION,
        "kind": "JobSet",
        "metadata": metadata,
        "spec": made,
    }


def patches(job: Object) -> list[Object]:
    """What a TrainJob's patches say of the runtime's template."""
    said = (each.get("trainingRuntimeSpec") or {} for each in job["spec"].get("runtimePatches", ()))
    return [each["template"] for each in said if each.get("template")]


def patched_jobs(patch: Object) -> list[Object]:
    """What a patch says of the replicated jobs."""
    found: list[Object] = (patch.get("spec") or {}).get("replicatedJobs") or []
    return found


def containers(replicated: Object, part: str = "containers") -> list[Object]:
    """The containers of a replicated job's pods, or of what a patch says of them."""
    template = (replicated.get("template") or {}).get("spec") or {}
    found: list[Object] = ((template.get("template") or {}).get("spec") or {}).get(part) or []
    return found


def ancestor(replicated: Object) -> str:
    """Which part of a TrainJob a replicated job takes its values from; may be empty."""
    metadata = (replicated.get("template") or {}).get("metadata") or {}
    return str((metadata.get("labels") or {}).get(names.ANCESTOR, ""))


def upsert(variables: list[Object], *more: Object) -> None:
    """Put variables among others: one of the same name is replaced where it stands."""
    places = {each["name"]: index for index, each in enumerate(variables)}
    for each in more:
        if each["name"] in places:
            variables[places[each["name"]]] = each
        else:
            places[each["name"]] = len(variables)
            variables.append(each)


def gpus(resources: Object) -> int:
    """How many GPUs a container gets: its first resource with ``gpu`` in the name."""
    for part in ("requests", "limits"):
        for name, amount in (resources.get(part) or {}).items():
            if "gpu" in name.lower() and (count := ceil(value(str(amount)))):
                return count
    return 0


def _merge(spec: Object, patch: Object) -> None:
    mine = {each["name"]: each for each in spec["replicatedJobs"]}
    for each in patched_jobs(patch):
        if each.get("template"):
            target = mine.get(each["name"])
            if target is None:
                raise bad_request(f"the runtime has no replicated job {each['name']} to patch")
            wanted = copy.deepcopy(each["template"])
            target["template"] = strategic_merge(target["template"], wanted, named(JOB_TEMPLATE))


def _complete(replicated: Object, job: Object, policy: Object | None) -> None:
    """Put a TrainJob's values into one of the replicated jobs."""
    spec = replicated["template"].setdefault("spec", {})
    trainer: Object | None = job["spec"].get("trainer")
    count = spec.get("parallelism", 1)
    trains = ancestor(replicated) == names.TRAINER
    if trains:
        replicated["replicas"] = 1
        if policy is not None:
            count = policy.get("numNodes", 1)
        if trainer is not None:
            count = trainer.get("numNodes", count)
    spec |= {"parallelism": count, "completions": count}
    if not trains or trainer is None:
        return
    for container in containers(replicated):
        if container.get("name") != names.NODE:
            continue
        if policy is not None and "resourcesPerNode" in trainer:
            _merge_resources(container, trainer["resourcesPerNode"])
        own = copy.deepcopy(trainer.get("env") or [])
        variables = container.setdefault("env", [])
        upsert(variables, *own)
        if policy is not None and "torch" in policy:
            upsert(variables, *_torch(job, container, count))
            ports = container.setdefault("ports", [])
            if all(port["containerPort"] != names.PORT for port in ports):
                ports.append({"containerPort": names.PORT})
        container |= {key: trainer[key] for key in ("image", "command", "args") if key in trainer}
        if not variables:
            del container["env"]


def _merge_resources(container: Object, wanted: Object) -> None:
    resources = container.setdefault("resources", {})
    for part in ("limits", "requests"):
        if part in wanted:
            resources[part] = {**(resources.get(part) or {}), **wanted[part]}
    if "claims" in wanted:
        upsert(resources.setdefault("claims", []), *copy.deepcopy(wanted["claims"]))


def _torch(job: Object, container: Object, count: int) -> list[Object]:
    """The variables for torchrun: ``auto`` processes are one for each GPU, else for each CPU."""
    resources = container.get("resources") or {}
    processes: Any = job["spec"]["trainer"].get("numProcPerNode", "auto")
    if processes == "auto" and not gpus(resources):
        processes = max(1, _cpus(resources))
    name = job["metadata"]["name"]
    return [
        {"name": names.NUM_NODES, "value": str(count)},
        {"name": names.PROCESSES, "value": str(processes)},
        {"name": names.NODE_RANK, "valueFrom": {"fieldRef": {"fieldPath": _RANK}}},
        {"name": names.MASTER_ADDRESS, "value": f"{name}-{names.NODE}-0-0.{name}"},
        {"name": names.MASTER_PORT, "value": str(names.PORT)},
    ]


def _cpus(resources: Object) -> int:
    for part in ("requests", "limits"):
        if count := ceil(value(str((resources.get(part) or {}).get("cpu", "0")))):
            return count
    return 0
