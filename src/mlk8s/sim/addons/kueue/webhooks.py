"""Kueue's admission webhooks: what they complete, and what they refuse.

The rules and texts are those of ``pkg/webhooks``, ``pkg/controller/jobframework`` and
``pkg/controller/jobs/job`` at v0.19.2.
"""

from __future__ import annotations

from mlk8s.sim import quantity
from mlk8s.sim.addons.base import Hook
from mlk8s.sim.addons.kueue import names
from mlk8s.sim.addons.kueue.jobs import JOBS
from mlk8s.sim.addons.kueue.state import State
from mlk8s.sim.addons.kueue.wanted import label, queue_name
from mlk8s.sim.addons.refusals import refuse
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import FieldError, Object, duplicate, invalid
from mlk8s.sim.validation import rules

_QUEUE = f"metadata.labels[{names.QUEUE_LABEL}]"
_PRIORITY = f"metadata.labels[{names.PRIORITY_LABEL}]"


class JobHook(Hook):
    """The webhooks for Jobs.

    Args:
        state: knows which namespaces have a default queue.
    """

    def __init__(self, state: State) -> None:
        self.state = state

    def mutate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Suspend a new Job that is to be queued."""
        if resource.key != JOBS or op != "CREATE":
            return
        if not queue_name(obj) and self._has_default(obj):
            labels = obj["metadata"].setdefault("labels", {})
            labels[names.QUEUE_LABEL] = names.DEFAULT_QUEUE
        if queue_name(obj):
            obj["spec"]["suspend"] = True

    def validate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Refuse a name that no queue can have, and changes that come too late."""
        if resource.key != JOBS:
            return
        errors: list[FieldError] = []
        if names.QUEUE_LABEL in (obj["metadata"].get("labels") or {}):
            errors += rules.each(_QUEUE, queue_name(obj), rules.dns_subdomain)
        if old is not None:
            errors += self._changed(obj, old)
        refuse("vjob.kb.io", errors)

    def _changed(self, obj: Object, old: Object) -> list[FieldError]:
        errors = []
        runs = not obj["spec"].get("suspend")
        queue, former = queue_name(obj), queue_name(old)
        if runs and queue != former:
            errors.append(invalid(_QUEUE, queue, rules.IMMUTABLE))
        if former and not queue and self._has_default(obj):
            text = "queue-name must not be empty in namespace with default queue"
            errors.append(invalid(_QUEUE, "", text))
        rank, before = label(obj, names.PRIORITY_LABEL), label(old, names.PRIORITY_LABEL)
        if runs and rank and not before:
            text = "WorkloadPriorityClass cannot be added to a non-suspended workload"
            errors.append(invalid(_PRIORITY, rank, text))
        if before and not rank:
            text = "WorkloadPriorityClass cannot be removed from a workload"
            errors.append(invalid(_PRIORITY, "", text))
        return errors

    def _has_default(self, obj: Object) -> bool:
        return (obj["metadata"]["namespace"], names.DEFAULT_QUEUE) in self.state.locals


class QueueHook(Hook):
    """The webhooks for ClusterQueues and ResourceFlavors."""

    def mutate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Hold flavors and queues until nobody uses them."""
        if op == "CREATE" and resource.key in (names.FLAVORS, names.CLUSTER_QUEUES):
            finalizers = obj["metadata"].setdefault("finalizers", [])
            if names.IN_USE not in finalizers:
                finalizers.append(names.IN_USE)

    def validate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Refuse quotas that contradict each other."""
        if resource.key == names.CLUSTER_QUEUES:
            refuse("vclusterqueue.kb.io", _check(obj.get("spec") or {}))


def _check(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    resources: set[str] = set()
    flavors: set[str] = set()
    for i, group in enumerate(spec.get("resourceGroups") or ()):
        path = f"spec.resourceGroups[{i}]"
        covered = group["coveredResources"]
        for j, name in enumerate(covered):
            if name in resources:
                errors.append(duplicate(f"{path}.coveredResources[{j}]", name))
            resources.add(name)
        for j, flavor in enumerate(group["flavors"]):
            where = f"{path}.flavors[{j}]"
            for k, quota in enumerate(flavor["resources"]):
                errors += _check_quota(
                    f"{where}.resources[{k}]", quota, covered[k], bool(spec.get("cohortName"))
                )
            if flavor["name"] in flavors:
                errors.append(duplicate(f"{where}.name", flavor["name"]))
            flavors.add(flavor["name"])
    return errors + rules.label_selector("spec.namespaceSelector", spec.get("namespaceSelector"))


def _check_quota(path: str, quota: Object, covered: str, cohort: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if quota["name"] != covered:
        errors.append(
            invalid(f"{path}.name", quota["name"], "must match the name in coveredResources")
        )
    nominal = quantity.value(str(quota["nominalQuota"]))
    for part in ("nominalQuota", "borrowingLimit", "lendingLimit"):
        if part not in quota:
            continue
        text = str(quota[part])
        if part != "nominalQuota" and not cohort:
            errors.append(invalid(f"{path}.{part}", text, "must be nil when cohort is empty"))
        if quantity.value(text) < 0:
            errors.append(invalid(f"{path}.{part}", text, rules.NEGATIVE))
        if part == "lendingLimit" and quantity.value(text) > nominal:
            message = "must be less than or equal to the nominalQuota"
            errors.append(invalid(f"{path}.{part}", text, message))
    return errors
