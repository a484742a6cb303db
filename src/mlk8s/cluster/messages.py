"""The scheduler's message taken apart, and each of its reasons in plain words."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum


class Waits(StrEnum):
    """What a reason means for the future of a pod."""

    NEVER = "never"  # the pod or the cluster has to change
    BUSY = "busy"  # it goes when another pod ends
    HELD = "held"  # something that has to exist first is missing


@dataclass(frozen=True)
class Said:
    """A message ``0/N nodes are available: …`` in parts.

    Attributes:
        nodes: N.
        reasons: how many nodes gave each reason; a reason about the pod as such counts all nodes.
        preemption: what the second half says; empty when it does not.
    """

    nodes: int
    reasons: Counter[str]
    preemption: str = ""

    @property
    def could_wait(self) -> int:
        """On how many nodes the removal of pods would be considered at all."""
        helpless = re.search(r"(\d+) Preemption is not helpful for scheduling", self.preemption)
        return self.nodes - (int(helpless.group(1)) if helpless else 0)


_SPLIT = re.compile(
    r"[.,]? (?=(?:no new claims to deallocate|still not schedulable|deallocation of ResourceClaim "
    r"completed|deletion of ResourceClaim completed|preemption:))"
)


def parse(message: str) -> Said | None:
    """Take a message apart; ``None`` if it is not of this form."""
    found = re.match(r"0/(\d+) nodes are available: (.+)", message, re.DOTALL)
    if found is None:
        return None
    nodes = int(found.group(1))
    body, *rest = _SPLIT.split(found.group(2), maxsplit=1)
    reasons: Counter[str] = Counter()
    for part in re.split(r", (?=\d+ )", body.rstrip(". ")):
        counted = re.match(r"(\d+) (.+)", part, re.DOTALL)
        if counted:
            reasons[_usual(counted.group(2))] += int(counted.group(1))
        else:
            reasons[part] += nodes
    return Said(nodes, reasons, rest[0].partition("preemption: ")[2] if rest else "")


def _usual(reason: str) -> str:
    # Until 1.34 the taint was named; the reason is the same.
    return re.sub(r"^node\(s\) had untolerated taint \{.*\}$", UNTOLERATED, reason)


UNTOLERATED = "node(s) had untolerated taint(s)"
UNSCHEDULABLE = "node(s) were unschedulable"
AFFINITY = "node(s) didn't match Pod's node affinity/selector"
TOO_MANY_PODS = "Too many pods"
NO_CLAIMS = "cannot allocate all claims"
ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
ANTI_AFFINITY_OF_OTHERS = "node(s) didn't satisfy existing pods anti-affinity rules"
NO_PORTS = "node(s) didn't have free ports for the requested pod ports"


def insufficient(resource: str) -> str:
    """The reason for a resource."""
    return f"Insufficient {resource}"


def about_claims(reason: str) -> bool:
    """Whether a reason is about the devices that a pod claims."""
    return reason == NO_CLAIMS or reason.startswith(("request ", "resourceclaim"))


@dataclass(frozen=True)
class Meaning:
    """A reason in plain words.

    Attributes:
        words: goes behind "on 2 nodes"; a reason about the pod as such stands alone.
        next_step: with a period.
        waits: ``None`` where it depends on whether pods occupy what is missing.
        of_pod: whether it is about the pod and not about a node.
    """

    words: str
    next_step: str
    waits: Waits | None
    of_pod: bool = False


# The texts of the filter plugins of kube-scheduler 1.36 (pkg/scheduler/framework/plugins); groups
# of the expression may stand in the words.
_N, _B, _H = Waits.NEVER, Waits.BUSY, Waits.HELD
_TABLE: tuple[tuple[str, str, str, Waits | None, bool], ...] = (
    (
        r"Insufficient (?P<what>.+)",
        "too little {what} is free",
        "ask for less {what}, wait until pods that hold it end, or add a node.",
        None,
        False,
    ),
    (
        TOO_MANY_PODS,
        "as many pods run as the kubelet takes",
        "wait until pods end, or add a node.",
        _B,
        False,
    ),
    (
        r"node\(s\) had untolerated taint\(s\)",
        "a taint keeps the pod away",
        "add a toleration, or remove the taint: kubectl describe nodes.",
        _N,
        False,
    ),
    (
        r"node\(s\) were unschedulable",
        "the node is cordoned",
        "uncordon it: kubectl uncordon NODE.",
        _N,
        False,
    ),
    (
        r"node\(s\) didn't match Pod's node affinity/selector|node\(s\) didn't satisfy plugin\(s\) "
        r"\[NodeAffinity\].*",
        "the labels are not those that the pod selects",
        "select labels that a node has: kubectl get nodes --show-labels.",
        _N,
        False,
    ),
    (
        r"node\(s\) didn't match the requested node name",
        "the name is not the one in the pod's spec.nodeName",
        "take spec.nodeName out, or correct it.",
        _N,
        False,
    ),
    (
        r"node\(s\) didn't have free ports for the requested pod ports",
        "the host port that the pod wants is in use",
        "take hostPort out (a Service does not need it), or wait until the other pod ends.",
        _B,
        False,
    ),
    (
        r"node\(s\) didn't match pod anti-affinity rules",
        "a pod runs that this one keeps apart from (podAntiAffinity)",
        "add a node, wait until one of those pods ends, or make the rule preferred instead of "
        "required.",
        _B,
        False,
    ),
    (
        r"node\(s\) didn't satisfy existing pods anti-affinity rules",
        "a pod runs that keeps pods such as this one away (its podAntiAffinity)",
        "add a node, wait until that pod ends, or change the labels that its rule selects.",
        _B,
        False,
    ),
    (
        r"node\(s\) didn't match pod affinity rules",
        "no pod runs that this one wants to be near (podAffinity)",
        "start the pod that the rule selects, or correct its labelSelector and topologyKey.",
        _H,
        False,
    ),
    (
        r"node\(s\) didn't match pod topology spread constraints",
        "one more pod would make the spread uneven beyond maxSkew (topologySpreadConstraints)",
        "make room where fewer of these pods run, add a node, or set whenUnsatisfiable: "
        "ScheduleAnyway.",
        _B,
        False,
    ),
    (
        r"node\(s\) didn't match pod topology spread constraints \(missing required label\)",
        "the label that pods are spread over (topologyKey) is missing",
        "label the nodes, or take a topologyKey that they have.",
        _N,
        False,
    ),
    (
        NO_CLAIMS,
        "no free devices meet the pod's claims",
        "loosen the claims, or wait until devices are free: kubectl get resourceclaims -A.",
        None,
        False,
    ),
    (
        r"resourceclaim not available on the node",
        "the devices that its claim has been given are not there",
        "let the pod run where its claim is allocated, or give it a claim of its own "
        "(resourceClaimTemplateName).",
        _N,
        False,
    ),
    (
        r"node\(s\) didn't find available persistent volumes to bind",
        "no persistent volume is free that its claim could bind",
        "create a PersistentVolume or a StorageClass that provisions one: kubectl get pv,pvc.",
        _H,
        False,
    ),
    (
        r"node\(s\) didn't match PersistentVolume's node affinity|node\(s\) had volume node "
        r"affinity conflict",
        "its volume cannot be reached, because it lives on another node or in another zone",
        "make room on the node that the volume belongs to: kubectl get pv -o yaml.",
        _N,
        False,
    ),
    (
        r"node\(s\) unavailable due to one or more pvc\(s\) bound to non-existent pv\(s\)",
        "the volume that its claim is bound to is gone",
        "recreate the PersistentVolumeClaim: kubectl get pvc.",
        _H,
        False,
    ),
    (
        r"node\(s\) had no available volume zone",
        "the zone is not that of its volume",
        "add a node in the volume's zone.",
        _N,
        False,
    ),
    (
        r"node\(s\) exceed max volume count",
        "as many volumes are attached as the driver allows",
        "wait until pods with volumes end, or add a node.",
        _B,
        False,
    ),
    (
        r"node\(s\) had no available disk|node has pod using PersistentVolumeClaim with the same "
        r"name and ReadWriteOncePod access mode",
        "another pod uses its volume, which takes one pod at a time",
        "wait until that pod ends, or use a volume with another access mode.",
        _B,
        False,
    ),
    (
        r"node\(s\) did not have enough free storage",
        "too little storage is left for its volume",
        "ask for a smaller volume, or add storage.",
        _N,
        False,
    ),
    (
        r"pod has unbound immediate PersistentVolumeClaims",
        "its PersistentVolumeClaim is not bound to a volume.",
        "see what it waits for: kubectl describe pvc.",
        _H,
        True,
    ),
    (
        r"persistentvolumeclaim \"(?P<what>[^\"]+)\" not found",
        "the PersistentVolumeClaim {what!r} does not exist.",
        "create it, or correct the pod's claimName.",
        _H,
        True,
    ),
    (
        r"persistentvolumeclaim \"(?P<what>[^\"]+)\" is being deleted",
        "the PersistentVolumeClaim {what!r} is being deleted.",
        "create it again once it is gone.",
        _H,
        True,
    ),
    (
        r"persistentvolumeclaim \"(?P<what>[^\"]+)\" bound to non-existent persistentvolume.*",
        "the volume of the PersistentVolumeClaim {what!r} is gone.",
        "delete the claim and create it again.",
        _H,
        True,
    ),
    (
        r"waiting for ephemeral volume controller to create the persistentvolumeclaim "
        r"\"(?P<what>[^\"]+)\"",
        "its volume claim {what!r} is being made.",
        "wait a moment.",
        _H,
        True,
    ),
    (
        r"pod affinity terms conflict|node\(s\) didn't satisfy plugin\(s\) \[.*\] simultaneously",
        "its own rules about nodes contradict each other.",
        "take one of its affinity terms out.",
        _N,
        True,
    ),
    (
        r"request (?P<request>\S+): device class (?P<what>\S+) does not exist",
        "its claim asks for the device class {what!r}, which does not exist.",
        "install the driver that brings it, or take one of: kubectl get deviceclasses.",
        _N,
        True,
    ),
    (
        r"waiting for minCount pods from a gang to appear in scheduling queue",
        "it starts together with the rest of its group, which is not complete.",
        "create the other pods of the group.",
        _H,
        True,
    ),
)
_COMPILED = tuple((re.compile(row[0]), *row[1:]) for row in _TABLE)


def meaning(reason: str) -> Meaning:
    """A reason in plain words; one that is not known keeps its own."""
    for pattern, words, step, waits, of_pod in _COMPILED:
        if found := pattern.fullmatch(reason):
            groups = found.groupdict()
            return Meaning(words.format(**groups), step.format(**groups), waits, of_pod)
    return Meaning(
        f"the scheduler says: {reason}",
        "see the pod's events: kubectl describe pod.",
        Waits.HELD,
        not reason.startswith("node"),
    )
