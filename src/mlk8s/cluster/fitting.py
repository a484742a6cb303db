"""Whether one pod fits on one node, and what stands in the way, in words: pure arithmetic.

Not a scheduler: it knows readiness, cordons, taints, node selectors and affinity, and resources,
which is what nearly all waiting GPU pods wait for. What it does not know (spreading, affinity to
other pods, volumes, host ports) the scheduler's message still says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from mlk8s.cluster import requests

Object = dict[str, Any]


class Reason(StrEnum):
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

    def add(self, pod: Object) -> None:
        """Count a pod that runs here."""
        asked = requests.effective(pod)
        requests.add(self.requested, {**asked, "pods": Decimal(1)})
        owners = pod["metadata"].get("ownerReferences") or ()
        ends = pod["spec"].get("restartPolicy") != "Always" or any(
            owner["kind"] == "Job" for owner in owners
        )
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for resource, count in asked.items():
            if count:
                self.holders.setdefault(resource, []).append((name, ends))


@dataclass(frozen=True)
class Fit:
    """What one node says to one pod.

    Attributes:
        because: each thing that stands in the way.
        lacking: the resources that are taken (``busy``).
        holders: pods that hold them.
        holders_wait: whether all of those end by themselves.
        next_step: what would mend the first reason.
    """

    name: str
    outcome: Reason
    because: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    holders_wait: bool = True
    next_step: str = ""


def fit(pod: Object, state: NodeState) -> Fit:
    """Compare a pod with a node."""
    node = state.node
    name = node["metadata"]["name"]
    never: list[tuple[str, str]] = []
    never += _closed(pod, node)
    never += _labels(pod, node)
    asked = requests.effective(pod)
    asked["pods"] = Decimal(1)
    allocatable = requests.quantities((node.get("status") or {}).get("allocatable") or {})
    busy: list[str] = []
    for resource, wanted in sorted(asked.items()):
        if not wanted:
            continue
        there = allocatable.get(resource, Decimal(0))
        if wanted > there:
            never.append(_too_little(resource, wanted, there, allocatable))
        elif wanted > there - state.requested.get(resource, 0):
            busy.append(resource)
    if never:
        return Fit(name, Reason.NEVER, tuple(t for t, _ in never), next_step=never[0][1])
    if busy:
        holders = [holder for resource in busy for holder in state.holders.get(resource, ())]
        texts = tuple(
            f"{requests.amount(asked[r], r)} {r} asked, "
            f"{requests.amount(allocatable[r] - state.requested[r], r)} of "
            f"{requests.amount(allocatable[r], r)} free"
            for r in busy
        )
        return Fit(
            name,
            Reason.BUSY,
            texts,
            tuple(busy),
            tuple(dict.fromkeys(name for name, _ in holders)),
            all(ends for _, ends in holders),
        )
    return Fit(name, Reason.FITS)


def _too_little(
    resource: str, wanted: Decimal, there: Decimal, allocatable: dict[str, Decimal]
) -> tuple[str, str]:
    if there:
        return (
            f"it has {requests.amount(there, resource)} {resource} in all, and the pod asks for "
            f"{requests.amount(wanted, resource)}",
            f"ask for at most {requests.amount(there, resource)}, or split the work over pods.",
        )
    # The same GPUs under another name: shared, or cut into MIG devices.
    domain = resource.partition("/")[0]
    others = sorted(
        other
        for other, count in allocatable.items()
        if other != resource and other.startswith(f"{domain}/") and count
    )
    if requests.is_device(resource) and others:
        listed = ", ".join(f"{requests.amount(allocatable[o], o)} {o}" for o in others)
        return (
            f"it offers no {resource}; its GPUs go by other names: {listed}",
            f"ask for one of the names that a node offers: {', '.join(others)}.",
        )
    if requests.is_device(resource):
        return (
            f"it offers no {resource}",
            "use a node that does; if this one has the GPU, check its device plugin's pod.",
        )
    return f"it offers no {resource}", f"take {resource} out of the request."


def _closed(pod: Object, node: Object) -> list[tuple[str, str]]:
    spec = node.get("spec") or {}
    name = node["metadata"]["name"]
    found = []
    tolerations = pod["spec"].get("tolerations") or []
    if spec.get("unschedulable") and not _tolerated(
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}, tolerations
    ):
        found.append(("it is cordoned", f"uncordon it: kubectl uncordon {name}."))
    for taint in spec.get("taints") or ():
        if taint["effect"] == "PreferNoSchedule" or _tolerated(taint, tolerations):
            continue
        if taint["key"] == "node.kubernetes.io/unschedulable":
            continue
        value = f"={taint['value']}" if taint.get("value") else ""
        text = f"the pod does not tolerate its taint {taint['key']}{value}:{taint['effect']}"
        if taint["key"].startswith("node.kubernetes.io/"):
            step = f"see what is wrong with the node: kubectl describe node {name}."
        else:
            step = (
                "add the toleration {key: "
                f"{taint['key']}, operator: Exists, effect: {taint['effect']}"
                "} to the pod."
            )
        found.append((text, step))
    return found


def _tolerated(taint: Object, tolerations: list[Object]) -> bool:
    for toleration in tolerations:
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


def _labels(pod: Object, node: Object) -> list[tuple[str, str]]:
    marks = node["metadata"].get("labels") or {}
    found = []
    for key, value in (pod["spec"].get("nodeSelector") or {}).items():
        if marks.get(key) != value:
            found.append(_mismatch(key, f"{value!r}", marks))
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or []
    if terms and not any(_meets(term, node) for term in terms):
        for expression in terms[0].get("matchExpressions") or ():
            if not _matches(expression, marks):
                wanted = f"{expression['operator']} {expression.get('values') or ''}".strip()
                found.append(_mismatch(expression["key"], wanted, marks))
    return found


def _mismatch(key: str, wanted: str, marks: dict[str, str]) -> tuple[str, str]:
    has = f"its label {key} is {marks[key]!r}" if key in marks else f"it has no label {key}"
    return (
        f"the pod wants {key} {wanted}, and {has}",
        f"select a value that a node has: kubectl get nodes -L {key}.",
    )


def _meets(term: Object, node: Object) -> bool:
    marks = node["metadata"].get("labels") or {}
    fields = {"metadata.name": node["metadata"]["name"]}
    return all(_matches(e, marks) for e in term.get("matchExpressions") or ()) and all(
        _matches(e, fields) for e in term.get("matchFields") or ()
    )


def _matches(expression: Object, marks: dict[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    has = marks.get(key)
    match expression["operator"]:
        case "In":
            return has in values
        case "NotIn":
            return has not in values
        case "Exists":
            return has is not None
        case "DoesNotExist":
            return has is None
        case operator:
            if has is None or not has.lstrip("-").isdigit():
                return False
            return int(has) > int(values[0]) if operator == "Gt" else int(has) < int(values[0])
