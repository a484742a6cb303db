"""Whether one pod fits on one node, and what stands in the way, in words: pure arithmetic.

Not a scheduler: it knows readiness, cordons, taints, node selectors and affinity, and resources,
which is what nearly all waiting GPU pods wait for. Each answer also says which reason the scheduler
would give, so that :mod:`mlk8s.cluster.why` sees when this is not the whole truth.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from mlk8s.cluster import messages, requests
from mlk8s.cluster.selectors import labels_differ

Object = dict[str, Any]


class Outcome(StrEnum):
    """What one node means for a pod."""

    FITS = "fits"
    BUSY = "busy"
    NEVER = "never"


@dataclass
class NodeState:
    """A node, and what the pods on it occupy."""

    node: Object
    requested: dict[str, Decimal] = field(default_factory=dict)
    holders: dict[str, list[tuple[str, bool]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The node's."""
        return str(self.node["metadata"]["name"])

    def add(self, pod: Object) -> None:
        """Count a pod that runs here, or that the scheduler keeps this place for."""
        asked = requests.effective(pod)
        requests.add(self.requested, {**asked, "pods": Decimal(1)})
        ends = pod["spec"].get("restartPolicy") != "Always"
        for resource, count in asked.items():
            if count:
                self.holders.setdefault(resource, []).append((requests.name(pod), ends))


@dataclass(frozen=True)
class Lack:
    """A resource that a node has and that is taken.

    Attributes:
        asked, free, there: in base units; ``free`` is below zero where devices were lost.
        broken: devices that the node has and cannot give.
        holders: the pods that hold it.
        ends: whether all of them end by themselves.
    """

    resource: str
    asked: Decimal
    free: Decimal
    there: Decimal
    broken: Decimal
    holders: tuple[str, ...]
    ends: bool

    @property
    def text(self) -> str:
        """``0 of 1 nvidia.com/gpu free``."""
        free = requests.amount(max(self.free, Decimal(0)), self.resource)
        there = requests.amount(self.there, self.resource)
        return f"{free} of {there} {self.resource} free{_unhealthy(self.broken)}"


@dataclass(frozen=True)
class Fit:
    """What one node says to one pod.

    Attributes:
        because: each thing that stands in the way.
        lacks: what is taken (``busy``).
        says: the reasons that the scheduler would give for this node.
        next_step: what would mend it.
        offers: how near its devices come: 3 as many of each as the pod asks for, 2 some
            or sick ones, 1 others of the same vendor, 0 none.
    """

    name: str
    outcome: Outcome
    because: tuple[str, ...] = ()
    lacks: tuple[Lack, ...] = ()
    says: tuple[str, ...] = ()
    next_step: str = ""
    offers: int = 3


def fit(pod: Object, state: NodeState, claimed: Set[str] = frozenset()) -> Fit:
    """Compare a pod with a node.

    Args:
        pod: the pod.
        state: the node.
        claimed: resources that a DRA driver serves where no device plugin does.
    """
    node = state.node
    status = node.get("status") or {}
    allocatable = requests.quantities(status.get("allocatable") or {})
    capacity = requests.quantities(status.get("capacity") or {})
    asked = {**requests.effective(pod), "pods": Decimal(1)}
    # In the order of the scheduler's filters: it stops at the first that says no.
    stages: list[tuple[str, list[tuple[str, str]]]] = [
        (messages.UNSCHEDULABLE, _cordon(pod, node)),
        (messages.UNTOLERATED, _taints(pod, node)),
        (messages.AFFINITY, labels_differ(pod, node)),
    ]
    never: list[tuple[str, str]] = []
    lacks: list[Lack] = []
    short: list[str] = []
    for resource, wanted in sorted(asked.items()):
        there = allocatable.get(resource, Decimal(0))
        if not wanted or (resource in claimed and not there):
            continue
        broken = max(capacity.get(resource, Decimal(0)) - there, Decimal(0))
        broken = broken if requests.is_device(resource) else Decimal(0)
        free = there - state.requested.get(resource, Decimal(0))
        if wanted > there:
            never.append(_too_little(resource, wanted, there, broken, allocatable, state))
        elif wanted > free:
            held = state.holders.get(resource, [])
            names = tuple(dict.fromkeys(name for name, _ in held))
            ends = all(ends for _, ends in held)
            lacks.append(Lack(resource, wanted, free, there, broken, names, ends))
        if wanted > free:
            short.append(_says(resource))
    before = [(reason, found) for reason, found in stages if found]
    says = (before[0][0],) if before else tuple(short)
    against = [each for _, found in before for each in found] + never
    wanted_devices = [name for name, count in asked.items() if count and requests.is_device(name)]
    enough = all(allocatable.get(name, 0) >= asked[name] for name in wanted_devices)
    domains = {name.partition("/")[0] for name in wanted_devices}
    # A sick device of the right name is nearer than a healthy one of another.
    some = any(allocatable.get(name) or capacity.get(name) for name in wanted_devices)
    other = any(count and name.partition("/")[0] in domains for name, count in allocatable.items())
    offers = 3 if enough else 2 if some else int(other)
    if against:
        texts = tuple(text for text, _ in against)
        return Fit(state.name, Outcome.NEVER, texts, (), says, against[0][1], offers)
    if lacks:
        texts = tuple(lack.text for lack in lacks)
        return Fit(state.name, Outcome.BUSY, texts, tuple(lacks), says)
    return Fit(state.name, Outcome.FITS)


def _says(resource: str) -> str:
    return messages.TOO_MANY_PODS if resource == "pods" else messages.insufficient(resource)


def _unhealthy(broken: Decimal) -> str:
    return f" ({int(broken)} more {'is' if broken == 1 else 'are'} unhealthy)" if broken else ""


def _too_little(
    resource: str,
    wanted: Decimal,
    there: Decimal,
    broken: Decimal,
    allocatable: dict[str, Decimal],
    state: NodeState,
) -> tuple[str, str]:
    if broken and wanted <= there + broken:
        return _broken(resource, there, broken, state.name)
    if there:
        amount = requests.amount(there, resource)
        free_devices = "".join(
            f"; {requests.amount(free, name)} {name} {'is' if free == 1 else 'are'} free"
            for name, count in sorted(allocatable.items())
            if requests.is_device(name)
            and not requests.is_device(resource)
            and (free := count - state.requested.get(name, 0)) > 0
        )
        return (
            f"it has {amount} {resource} in all{_unhealthy(broken)}, and the pod asks for "
            f"{requests.amount(wanted, resource)}{free_devices}",
            f"ask for at most {amount} {resource}, or split the work over several pods."
            if requests.is_device(resource)
            else f"ask for less {resource}: the pods of a node share {amount}.",
        )
    # The same GPUs under another name: shared, or cut into MIG devices.
    domain = resource.partition("/")[0]
    others = sorted(
        (other, count)
        for other, count in allocatable.items()
        if other != resource and other.startswith(f"{domain}/") and count
    )
    if requests.is_device(resource) and others:
        listed = ", ".join(f"{requests.amount(count, other)} {other}" for other, count in others)
        names = " or ".join(other for other, _ in others)
        step = f"ask for {names}"
        if ".mig-" in resource or "/mig-" in resource:
            step += ", or have the GPU cut anew (the node's label nvidia.com/mig.config)"
        return f"it offers no {resource}, but its GPUs by other names ({listed})", f"{step}."
    if requests.is_device(resource):
        return (
            f"it offers no {resource}",
            "add a node that offers it; a node with the GPU offers it once its device plugin runs: "
            "kubectl get pods -A -o wide.",
        )
    return f"it offers no {resource}", f"take {resource} out of the request."


def _broken(resource: str, there: Decimal, broken: Decimal, node: str) -> tuple[str, str]:
    total = int(there + broken)
    if there:
        return (
            f"it has {total} {resource}, of which {int(broken)} "
            f"{'is' if broken == 1 else 'are'} unhealthy, so it can give {int(there)}",
            f"look for Xid errors in the kernel log of {node}, drain it, reset or replace the GPU, "
            "and restart its device plugin.",
        )
    return (
        f"it has {total} {resource} and can give none of them now",
        f"see whether the device plugin's pod runs on {node} (kubectl get pods -A --field-selector "
        f"spec.nodeName={node}), then look for Xid errors in its kernel log.",
    )


def _cordon(pod: Object, node: Object) -> list[tuple[str, str]]:
    taint = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    spec = node.get("spec") or {}
    if not spec.get("unschedulable") or _tolerated(taint, pod):
        return []
    name = node["metadata"]["name"]
    return [("it is cordoned", f"uncordon it: kubectl uncordon {name}.")]


# https://kubernetes.io/docs/reference/labels-annotations-taints/
_TROUBLE = {
    "not-ready": "it is not ready",
    "unreachable": "it has stopped reporting",
    "memory-pressure": "it is short of memory",
    "disk-pressure": "it is short of disk space",
    "pid-pressure": "it runs too many processes",
    "network-unavailable": "it has no network yet",
    "out-of-service": "it was taken out of service",
}


def _taints(pod: Object, node: Object) -> list[tuple[str, str]]:
    name = node["metadata"]["name"]
    found: dict[str, str] = {}
    for taint in (node.get("spec") or {}).get("taints") or ():
        key, effect = taint["key"], taint["effect"]
        if effect == "PreferNoSchedule" or _tolerated(taint, pod):
            continue
        trouble = key.removeprefix("node.kubernetes.io/")
        if trouble == "unschedulable":
            continue
        if trouble in _TROUBLE and trouble != key:
            found[_TROUBLE[trouble]] = f"see what is wrong with it: kubectl describe node {name}."
            continue
        value = f"={taint['value']}" if taint.get("value") else ""
        found[f"it has the taint {key}{value}:{effect}, which the pod does not tolerate"] = (
            f"add the toleration {{key: {key}, operator: Exists, effect: {effect}}} to the pod."
        )
    return list(found.items())


def _tolerated(taint: Object, pod: Object) -> bool:
    for toleration in pod["spec"].get("tolerations") or ():
        if toleration.get("effect") not in (None, "", taint["effect"]):
            continue
        key, operator = toleration.get("key", ""), toleration.get("operator") or "Equal"
        if key not in ("", taint["key"]):
            continue
        if operator == "Exists" or (
            key and operator == "Equal" and toleration.get("value", "") == taint.get("value", "")
        ):
            return True
    return False
