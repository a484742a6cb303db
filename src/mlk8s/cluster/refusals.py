"""What the API server says when it refuses a pod, in plain words with a next step."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """A refusal in plain words; both sentences go without a capital and with a period."""

    because: str
    next_step: str


# Messages of k8s.io/apiserver's and kube-apiserver's admission plugins and of validation, 1.36;
# in a replacement the groups of the expression.
_TABLE: tuple[tuple[str, str, str], ...] = (
    (
        r"exceeded quota: (?P<quota>\S+), requested: (?P<asked>\S+), used: (?P<used>\S+), "
        r"limited: (?P<limit>\S+)",
        "the quota {quota!r} of its namespace allows {limit}; {used} is in use, and this pod asks "
        "for {asked}.",
        "wait until a pod of the namespace ends, ask for less, or have the quota raised: "
        "kubectl describe quota {quota}.",
    ),
    (
        r"failed quota: (?P<quota>\S+?): must specify (?P<what>.+)",
        "the quota {quota!r} counts {what}, and the pod does not say how much it wants.",
        "write {what} into every container's resources, or give the namespace a LimitRange with "
        "defaults.",
    ),
    (
        r"maximum (?P<what>\S+) usage per (?P<scope>\w+) is (?P<limit>[^,\s]+), but "
        r"(?P<kind>limit|request) is (?P<asked>[^,\s\]]+)",
        "the LimitRange of its namespace allows a {scope} {limit} of {what} at most, and it asks "
        "for {asked}.",
        "ask for {limit} of {what} or less, or have the limit raised: kubectl describe limitrange.",
    ),
    (
        r"minimum (?P<what>\S+) usage per (?P<scope>\w+) is (?P<limit>[^,\s]+), but "
        r"(?P<kind>limit|request) is (?P<asked>[^,\s\]]+)",
        "the LimitRange of its namespace wants {limit} of {what} per {scope} at least, and it "
        "asks for {asked}.",
        "ask for {limit} of {what} or more.",
    ),
    (
        r"maximum (?P<what>\S+) usage per (?P<scope>\w+) is (?P<limit>\S+?)\.\s+No limit is "
        r"specified",
        "the LimitRange of its namespace allows a {scope} {limit} of {what} at most, and it sets "
        "no limit.",
        "set a limit of {limit} of {what} or less in every container.",
    ),
    (
        r"no PriorityClass with name (?P<name>\S+) was found",
        "the PriorityClass {name!r} does not exist.",
        "create it, or name one of: kubectl get priorityclasses.",
    ),
    (
        r"RuntimeClass \"(?P<name>[^\"]+)\" not found",
        "the RuntimeClass {name!r} does not exist.",
        "install what brings it (the GPU Operator brings nvidia), or take runtimeClassName out.",
    ),
    (
        r"error looking up service account (?P<name>\S+?): ",
        "its service account {name} does not exist.",
        "create the service account, or take serviceAccountName out.",
    ),
    (
        r"violates PodSecurity \"(?P<level>[^\"]+)\": (?P<what>.+)",
        "its namespace enforces the pod security level {level}, and the pod breaks it: {what}.",
        "change the pod as the message says, or have the namespace's label "
        "pod-security.kubernetes.io/enforce changed.",
    ),
    (
        r"(?P<field>\S*limits\[(?P<what>[^\]]+)\]): Invalid value: \"(?P<value>[^\"]+)\": must be "
        r"an integer",
        "{what} is counted in whole devices, and the pod asks for {value}.",
        "ask for 1; for a part of a GPU ask for a share or a MIG device by its own name: "
        "mlk8s cluster inventory.",
    ),
    (
        r"must be equal to (?P<what>\S+) limit of (?P<limit>\S+)",
        "request and limit of {what} differ: devices cannot be overcommitted.",
        "write the limit alone ({what}: {limit}); the request follows it.",
    ),
    (
        r"Limit must be set for non overcommitable resources",
        "it requests devices without a limit: devices cannot be overcommitted.",
        "write the number under limits; the request follows it.",
    ),
    (
        r"namespaces \"(?P<name>[^\"]+)\" not found",
        "the namespace {name!r} does not exist.",
        "create it: kubectl create namespace {name}.",
    ),
    (
        r"unable to create new content in namespace (?P<name>\S+) because it is being terminated",
        "the namespace {name} is being deleted.",
        "wait until it is gone, or take another namespace.",
    ),
    (
        r"Cannot evict pod as it would violate the pod's disruption budget",
        "a PodDisruptionBudget keeps it: too few pods of its set are healthy to lose one.",
        "have another replica ready on another node first, or the budget loosened: "
        "kubectl get poddisruptionbudgets.",
    ),
)
_COMPILED = tuple((re.compile(pattern), because, step) for pattern, because, step in _TABLE)


def explain(message: str) -> Refusal | None:
    """The refusal in plain words; ``None`` for one that is not known."""
    for pattern, because, step in _COMPILED:
        if found := pattern.search(message):
            groups = {name: text.rstrip(".") for name, text in found.groupdict().items()}
            return Refusal(because.format(**groups), step.format(**groups))
    return None


def of_controller(message: str) -> Refusal:
    """The same for the pods that a controller could not create."""
    return explain(message) or Refusal(
        f"the API server refuses its pods: {message.rstrip('.')}.",
        "correct what the message names.",
    )
