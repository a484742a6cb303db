"""Kueue's objects as its scheduler sees them: queues with quotas, workloads with requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from mlk8s.sim import quantity
from mlk8s.sim.addons.kueue import conditions
from mlk8s.sim.addons.kueue.names import JOB_UID_LABEL
from mlk8s.sim.amounts import exact, pod_total
from mlk8s.sim.clock import seconds
from mlk8s.sim.controllers.base import find_condition, hash_of
from mlk8s.sim.matching import Selector
from mlk8s.sim.status import Object

#: (namespace, name)
Key = tuple[str, str]
#: (flavor, resource)
FlavorResource = tuple[str, str]
Amounts = dict[FlavorResource, Fraction]

# What of a pod's spec decides where it may go.
_SHAPE = (
    "nodeSelector",
    "affinity",
    "tolerations",
    "runtimeClassName",
    "priority",
    "topologySpreadConstraints",
    "overhead",
    "resourceClaims",
    "resources",
)


class Quota(NamedTuple):
    """What a ClusterQueue has of one resource in one flavor."""

    nominal: Fraction
    borrowing: Fraction | None
    lending: Fraction | None


class Group(NamedTuple):
    """A resource group: which resources its flavors provide."""

    resources: tuple[str, ...]
    flavors: tuple[str, ...]


@dataclass(frozen=True)
class Queue:
    """A ClusterQueue.

    Attributes:
        checks: names of its admission checks.
    """

    name: str
    cohort: str
    strict: bool
    groups: tuple[Group, ...]
    quotas: Mapping[FlavorResource, Quota]
    selector: Selector
    preemption: Mapping[str, Any]
    fungibility: Mapping[str, str]
    stop: str
    checks: tuple[str, ...]
    deleting: bool

    def group(self, resource: str) -> Group | None:
        """The group that covers a resource."""
        return next((each for each in self.groups if resource in each.resources), None)

    @property
    def flavors(self) -> list[str]:
        """All flavors, in order."""
        return [flavor for group in self.groups for flavor in group.flavors]

    @property
    def path(self) -> str:
        """Where it hangs, as preemption messages write it."""
        return f"/{self.cohort}/{self.name}" if self.cohort else f"/{self.name}"


def queue_of(obj: Object) -> Queue:
    """Read a ClusterQueue."""
    spec, metadata = obj.get("spec") or {}, obj["metadata"]
    groups, quotas = [], {}
    for group in spec.get("resourceGroups") or ():
        names = tuple(flavor["name"] for flavor in group["flavors"])
        groups.append(Group(tuple(group["coveredResources"]), names))
        for flavor in group["flavors"]:
            for each in flavor["resources"]:
                quotas[flavor["name"], each["name"]] = Quota(
                    quantity.value(str(each["nominalQuota"])),
                    _limit(each.get("borrowingLimit")),
                    _limit(each.get("lendingLimit")),
                )
    strategy = spec.get("admissionChecksStrategy") or {}
    return Queue(
        name=metadata["name"],
        cohort=spec.get("cohortName", ""),
        strict=spec.get("queueingStrategy") == "StrictFIFO",
        groups=tuple(groups),
        quotas=quotas,
        selector=Selector(spec.get("namespaceSelector")),
        preemption=spec.get("preemption") or {},
        fungibility=spec.get("flavorFungibility") or {},
        stop=spec.get("stopPolicy") or "None",
        checks=tuple(each["name"] for each in strategy.get("admissionChecks") or ()),
        deleting="deletionTimestamp" in metadata,
    )


def _limit(text: Any) -> Fraction | None:
    return None if text is None else quantity.value(str(text))


@dataclass(frozen=True)
class PodSet:
    """Equal pods of a workload.

    Attributes:
        requests: of all of them together.
    """

    name: str
    count: int
    requests: dict[str, Fraction]
    spec: Object


@dataclass(frozen=True)
class Info:
    """A Workload.

    Attributes:
        arrival: counts workloads in the order of their creation.
        cluster_queue: where it holds quota, or ``""``.
        usage: the quota that it holds.
        waits: whether it may be queued now.
        requeues: ``False`` while a stopped queue or a deactivation keeps it out.
        fingerprint: what has to change before it is worth another look.
    """

    key: Key
    uid: str
    job_uid: str
    queue: str
    priority: int
    created: str
    arrival: int
    cluster_queue: str
    admitted: bool
    evicted: bool
    waits: bool
    requeues: bool
    reserved_at: float
    pod_sets: tuple[PodSet, ...]
    usage: Amounts
    shape: str
    fingerprint: str

    @property
    def order(self) -> tuple[int, str, int]:
        """Higher priority first, then first come, first served.

        Kueue tells workloads of one second apart by their random uids; here the first to arrive
        goes first.
        """
        return (-self.priority, self.created, self.arrival)


def info_of(obj: Object, arrival: int) -> Info:
    """Read a Workload."""
    metadata, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    reclaimable = {each["name"]: each["count"] for each in status.get("reclaimablePods") or ()}
    admission = status.get("admission") or {}
    finished = conditions.holds(obj, conditions.FINISHED)
    reserved = find_condition(status, conditions.QUOTA_RESERVED) or {}
    active = spec.get("active", True)
    holds = reserved.get("status") == "True" and not finished and active
    requeued = find_condition(status, conditions.REQUEUED) or {}
    pod_sets = tuple(_pod_set(each, reclaimable.get(each["name"], 0)) for each in spec["podSets"])
    priority = spec.get("priority") or 0
    shape = hash_of([_shape(each) for each in spec["podSets"]] + [priority])
    evicted = find_condition(status, conditions.EVICTED)
    return Info(
        key=(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        job_uid=(metadata.get("labels") or {}).get(JOB_UID_LABEL, ""),
        queue=spec.get("queueName", ""),
        priority=priority,
        created=metadata["creationTimestamp"],
        arrival=arrival,
        cluster_queue=admission.get("clusterQueue", "") if holds else "",
        admitted=holds and conditions.holds(obj, conditions.ADMITTED),
        evicted=evicted is not None and evicted["status"] == "True",
        waits=active and not finished and reserved.get("status") != "True",
        requeues=requeued.get("status") != "False",
        reserved_at=seconds(reserved["lastTransitionTime"]) if holds else 0.0,
        pod_sets=pod_sets,
        usage=_usage(admission, pod_sets) if holds else {},
        shape=shape,
        fingerprint=hash_of([spec, status.get("reclaimablePods"), evicted, requeued]),
    )


def _pod_set(obj: Object, reclaimable: int) -> PodSet:
    count = max(obj["count"] - reclaimable, 0)
    spec = obj["template"]["spec"]
    one = pod_total(_with_requests(spec), "requests", exact)
    return PodSet(obj["name"], count, {name: n * count for name, n in one.items()}, spec)


def _with_requests(spec: Object) -> Object:
    """A container that names a limit and no request asks for its limit."""

    def complete(container: Object) -> Object:
        known = container.get("resources") or {}
        requests = {**(known.get("limits") or {}), **(known.get("requests") or {})}
        return {**container, "resources": {**known, "requests": requests}}

    parts = {
        part: [complete(each) for each in spec.get(part) or ()]
        for part in ("containers", "initContainers")
    }
    return {**spec, **parts}


def _shape(pod_set: Object) -> list[Any]:
    spec = pod_set["template"]["spec"]
    containers = [
        (each.get("resources") or {}).get("requests")
        for part in ("initContainers", "containers")
        for each in _with_requests(spec)[part]
    ]
    return [pod_set["name"], pod_set["count"], containers, *(spec.get(name) for name in _SHAPE)]


def _usage(admission: Object, pod_sets: tuple[PodSet, ...]) -> Amounts:
    counts = {each.name: each.count for each in pod_sets}
    found: Amounts = {}
    for each in admission.get("podSetAssignments") or ():
        flavors = each.get("flavors") or {}
        total = each.get("count") or 1
        for resource, text in (each.get("resourceUsage") or {}).items():
            share = Fraction(min(counts.get(each["name"], total), total), total)
            where = (flavors.get(resource, ""), resource)
            found[where] = found.get(where, Fraction(0)) + quantity.value(str(text)) * share
    return found


def shown(resource: str, number: Fraction) -> str:
    """An amount as Kueue writes it: memory in powers of two."""
    binary = resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-")
    return quantity.of(number, "1Ki" if binary else "")
