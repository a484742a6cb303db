"""Trainer's admission webhooks: what a runtime and a TrainJob have to be like.

Sources: ``pkg/webhooks`` and the ``Validate`` methods of the plug-ins at v2.3.0. What this model
does not carry out is refused here too, in sentences that name the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlk8s.sim.addons.base import Hook, denied
from mlk8s.sim.addons.refusals import refuse
from mlk8s.sim.addons.trainer import names, plan
from mlk8s.sim.addons.trainer.refusals import (
    REPLICATED,
    check_templates,
    listed,
    unmodeled,
)
from mlk8s.sim.addons.trainer.trainjobs import find_runtime
from mlk8s.sim.api import Api
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import FieldError, Object, StatusError, forbidden, invalid

_PATCHES = "spec.runtimePatches"
_CONTAINERS = {names.TRAINER: names.NODE} | {
    each: each for each in ("dataset-initializer", "model-initializer")
}
_POLICIES = ("mpi", "flux", "jax", "xgboost")


class TrainJobHook(Hook):
    """The webhooks for TrainJobs.

    Args:
        api: where runtimes are.
    """

    webhook = "validator.trainjob.trainer.kubeflow.org"

    def __init__(self, api: Api) -> None:
        self.api = api

    def mutate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Note when each patch was made or changed."""
        if resource.key != names.TRAIN_JOBS:
            return
        before = {each["manager"]: each for each in listed(old or {}, "runtimePatches")}
        for patch in listed(obj, "runtimePatches"):
            known = before.get(str(patch.get("manager")))
            if known is not None and _timeless(known) == _timeless(patch):
                patch["time"] = known["time"]
            elif known is not None or not patch.get("time"):
                patch["time"] = self.api.timestamp()

    def validate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Refuse a TrainJob that does not fit its runtime."""
        if resource.key != names.TRAIN_JOBS:
            return
        reference = obj["spec"]["runtimeRef"]
        if reference["apiGroup"] != names.GROUP or reference["kind"] not in names.RUNTIME_KINDS:
            kind = f"{reference['kind']}.{reference['apiGroup']}"
            raise denied(self.webhook, f"unsupported runtime: {kind}")
        try:
            runtime = find_runtime(self.api.get, obj["metadata"]["namespace"], reference)
        except StatusError as error:
            cluster = reference["kind"] == "ClusterTrainingRuntime"
            kind = "clusterTrainingRuntime" if cluster else "trainingRuntime"
            path = "spec.RuntimeRef" if cluster else "spec.runtimeRef"
            text = f"specified {kind} must be created before the TrainJob is created"
            message = str(invalid(path, reference, f"{error.message}: {text}"))
            raise denied(self.webhook, message) from error
        refuse(
            self.webhook,
            [
                *_beyond(obj, runtime),
                *_reserved(obj, runtime),
                *self._patches(obj, old, runtime),
            ],
        )

    def _patches(self, obj: Object, old: Object | None, runtime: Object) -> Iterator[FieldError]:
        found = obj["spec"].get("runtimePatches")
        if old is not None and old["spec"].get("runtimePatches") != found:
            yield from self._late(obj, old)
        template = runtime["spec"].get("template") or {}
        jobs = {each["name"]: each for each in plan.patched_jobs(template)}
        for patch in plan.patches(obj):
            for each in plan.patched_jobs(patch):
                if each["name"] not in jobs:
                    text = "must not have replicated job that doesn't exist in the runtime job "
                    yield invalid(_PATCHES, found, f"{text}template")
                    continue
                for part, kind in (
                    ("initContainers", "initContainer"),
                    ("containers", "container"),
                ):
                    yield from _unknown(each, jobs[each["name"]], part, kind, found)

    def _late(self, obj: Object, old: Object) -> Iterator[FieldError]:
        """Patches change while nothing of the TrainJob runs."""
        if not old["spec"].get("suspend") and not obj["spec"].get("suspend"):
            yield forbidden(
                _PATCHES,
                "RuntimePatches can only be modified when the TrainJob is suspended before or "
                "after the update",
            )
            return
        where = obj["metadata"]
        jobset = self.api.find(names.JOBSETS, where["namespace"], where["name"]) or {}
        for each in (jobset.get("status") or {}).get("replicatedJobsStatus") or ():
            if each["active"] > 0:
                yield forbidden(
                    _PATCHES,
                    f"RuntimePatches cannot be modified when the JobSet's ReplicatedJob "
                    f"{each['name']} is still active",
                )


class RuntimeHook(Hook):
    """The webhooks for TrainingRuntimes and ClusterTrainingRuntimes.

    Args:
        api: knows the types of Kubernetes.
    """

    def __init__(self, api: Api) -> None:
        self.api = api

    def validate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Refuse templates that TrainJobs cannot be made from."""
        if resource.key not in (names.RUNTIMES, names.CLUSTER_RUNTIMES):
            return
        webhook = f"validator.{resource.kind.lower()}.{names.GROUP}"
        path = f"spec.template.{REPLICATED}"
        jobs = plan.patched_jobs((obj.get("spec") or {}).get("template") or {})
        check_templates(self.api, webhook, path, jobs)
        errors = []
        for index, each in enumerate(jobs):
            ancestor = plan.ancestor(each)
            if ancestor not in _CONTAINERS:
                continue
            if each["replicas"] != 1:
                where = f"{path}[{index}].replicas"
                errors.append(invalid(where, each["replicas"], "always must be 1"))
            found = plan.containers(each)
            if all(container.get("name") != _CONTAINERS[ancestor] for container in found):
                where = f"{path}[{index}].template.spec.template.spec.containers"
                text = f"must contain the required container for the ancestor: {ancestor}"
                errors.append(invalid(where, found, text))
        refuse(webhook, errors)


def _beyond(job: Object, runtime: Object) -> Iterator[FieldError]:
    if job["spec"].get("initializer"):
        yield unmodeled("spec.initializer")
    for policy in _POLICIES:
        if policy in (runtime["spec"].get("mlPolicy") or {}):
            yield unmodeled(f"spec.mlPolicy.{policy}")
    if ((runtime["spec"].get("mlPolicy") or {}).get("torch") or {}).get("envInjection"):
        yield unmodeled("spec.mlPolicy.torch.envInjection")
    if runtime["spec"].get("podGroupPolicy"):
        yield unmodeled("spec.podGroupPolicy")


def _reserved(job: Object, runtime: Object) -> Iterator[FieldError]:
    if "torch" not in (runtime["spec"].get("mlPolicy") or {}):
        return
    variables = (job["spec"].get("trainer") or {}).get("env") or []
    if taken := sorted({each["name"] for each in variables} & set(names.RESERVED)):
        text = f"must not have reserved envs, invalid envs configured: [{' '.join(taken)}]"
        yield invalid("spec.trainer.env", variables, text)


def _unknown(
    patched: Object, known: Object, part: str, kind: str, patches: Any
) -> Iterator[FieldError]:
    there = {each.get("name") for each in plan.containers(known, part)}
    for each in plan.containers(patched, part):
        if each["name"] not in there:
            text = f"must not have {kind} that doesn't exist in the runtime job {patched['name']}"
            yield invalid(_PATCHES, patches, text)
        elif each.get("env") and each["name"] in _CONTAINERS.values():
            text = "must not have envs for the dataset-initializer, model-initializer, node "
            yield invalid(_PATCHES, patches, f"{text}containers")


def _timeless(patch: Object) -> Object:
    return {key: value for key, value in patch.items() if key != "time"}
