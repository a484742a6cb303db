"""The arithmetic of a Deployment's rollout: how many pods where, and what its status says.

Nothing here reads or writes the cluster. Source: pkg/controller/deployment/util/
deployment_util.go, progress.go.
"""

from __future__ import annotations

import copy

from mlk8s.sim.clock import seconds, stamp
from mlk8s.sim.controllers.base import drop_condition, find_condition, put, scaled
from mlk8s.sim.status import Object

REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
HASH_LABEL = "pod-template-hash"
# A deadline of this many seconds means none.
_NEVER = 2**31 - 1
_NOT_COPIED = {
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
}


def replicas(obj: Object) -> int:
    """How many pods the object asks for."""
    return int(obj["spec"].get("replicas", 1))


def total(sets: list[Object]) -> int:
    """How many pods ReplicaSets ask for together."""
    return sum(map(replicas, sets))


def counted(sets: list[Object], what: str) -> int:
    """A count of the status, over several ReplicaSets."""
    return sum((each.get("status") or {}).get(what, 0) for each in sets)


def annotation(obj: Object, name: str) -> str:
    """An annotation, or ``""``."""
    return str((obj["metadata"].get("annotations") or {}).get(name, ""))


def revision(replica_set: Object) -> int:
    """The revision of a ReplicaSet; 0 when it has none."""
    text = annotation(replica_set, REVISION)
    return int(text) if text.isdigit() else 0


def age_order(replica_set: Object) -> tuple[str, int, str]:
    """Key that sorts the oldest first."""
    metadata = replica_set["metadata"]
    return metadata["creationTimestamp"], revision(replica_set), metadata["name"]


def rolling(deployment: Object) -> bool:
    """Whether old and new pods may run at the same time."""
    strategy = deployment["spec"].get("strategy") or {}
    return bool(strategy.get("type", "RollingUpdate") == "RollingUpdate")


def limits(deployment: Object) -> tuple[int, int]:
    """``maxSurge`` and ``maxUnavailable`` as numbers of pods; both 0 for ``Recreate``."""
    if not rolling(deployment):
        return 0, 0
    wanted = replicas(deployment)
    told = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    surge = scaled(told.get("maxSurge", "25%"), wanted, round_up=True)
    unavailable = scaled(told.get("maxUnavailable", "25%"), wanted, round_up=False)
    if surge == 0 and unavailable == 0:
        # A rollout that may neither add nor remove would never move.
        unavailable = 1
    return surge, min(unavailable, wanted)


def same_template(replica_set: Object, deployment: Object) -> bool:
    """Whether a ReplicaSet makes the pods that the Deployment wants now."""
    return plain_template(replica_set["spec"]["template"]) == plain_template(
        deployment["spec"]["template"]
    )


def plain_template(template: Object) -> Object:
    """A pod template without the label that tells ReplicaSets apart."""
    plain = copy.deepcopy(template)
    metadata = plain.get("metadata") or {}
    metadata.pop("creationTimestamp", None)
    if labels := metadata.get("labels"):
        labels.pop(HASH_LABEL, None)
    plain["metadata"] = {name: value for name, value in metadata.items() if value}
    return plain


def copied_annotations(deployment: Object) -> dict[str, str]:
    """The Deployment's annotations that its ReplicaSet carries too."""
    annotations = deployment["metadata"].get("annotations") or {}
    return {name: value for name, value in annotations.items() if name not in _NOT_COPIED}


def size_annotations(deployment: Object) -> dict[str, str]:
    """The annotations by which a change of the Deployment's scale is noticed."""
    wanted = replicas(deployment)
    return {DESIRED: str(wanted), MAXIMUM: str(wanted + limits(deployment)[0])}


def new_size(deployment: Object, sets: list[Object], current: int) -> int:
    """How many pods the new ReplicaSet may have now.

    Args:
        deployment: the Deployment.
        sets: all its ReplicaSets.
        current: how many the new one has.
    """
    wanted = replicas(deployment)
    if not rolling(deployment):
        return wanted
    room = wanted + limits(deployment)[0] - total(sets)
    return current if room <= 0 else current + min(room, wanted - current)


def shares(deployment: Object, sets: list[Object]) -> dict[str, int]:
    """New sizes of several active ReplicaSets when the Deployment was scaled amid a rollout.

    The change is spread in proportion to their sizes; what rounding leaves goes to the largest.

    Returns:
        Size by the ReplicaSet's name.
    """
    wanted = replicas(deployment)
    allowed = wanted + limits(deployment)[0] if wanted > 0 else 0
    have = total(sets)
    change = allowed - have
    # On a tie the newest grows first and the oldest shrinks first.
    ordered = sorted(sets, key=age_order, reverse=change > 0)
    ordered.sort(key=replicas, reverse=True)
    sizes, added = {}, 0
    for replica_set in ordered:
        size = replicas(replica_set)
        share = _share(deployment, replica_set, change, added, allowed) if change else 0
        sizes[replica_set["metadata"]["name"]] = size + share
        added += share
    if ordered:
        largest = ordered[0]["metadata"]["name"]
        sizes[largest] = max(sizes[largest] + change - added, 0)
    return sizes


def _share(deployment: Object, replica_set: Object, change: int, added: int, allowed: int) -> int:
    size = replicas(replica_set)
    if size == 0:
        return 0
    before = annotation(replica_set, MAXIMUM)
    basis = int(before) if before.isdigit() and int(before) else replicas(deployment)
    if allowed == 0:
        share = -size
    else:
        # Half away from zero, as Go's integer.RoundToInt32.
        exact = size * allowed / basis if basis else 0.0
        share = int(exact + 0.5) - size
    left = change - added
    return min(share, left) if change > 0 else max(share, left)


def complete(deployment: Object, status: Object) -> bool:
    """Whether the rollout is over: every pod is new and available."""
    wanted = replicas(deployment)
    return bool(
        status.get("updatedReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
        and status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 1)
    )


def deadline(deployment: Object) -> int | None:
    """Seconds without progress after which a rollout counts as failed."""
    told = deployment["spec"].get("progressDeadlineSeconds")
    return None if told is None or told == _NEVER else int(told)


def count(
    deployment: Object, status: Object, sets: list[Object], new: Object | None, now: float
) -> None:
    """Write counts and the Available condition into ``status``."""
    available = counted(sets, "availableReplicas")
    put(
        status,
        replicas=counted(sets, "replicas"),
        updatedReplicas=counted([new], "replicas") if new else 0,
        readyReplicas=counted(sets, "readyReplicas"),
        availableReplicas=available,
        unavailableReplicas=max(total(sets) - available, 0),
    )
    status["observedGeneration"] = deployment["metadata"].get("generation", 1)
    status["terminatingReplicas"] = counted(sets, "terminatingReplicas")
    if available >= replicas(deployment) - limits(deployment)[1]:
        told = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        told = (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    set_condition(status, "Available", *told, now)


def judge(deployment: Object, old: Object, status: Object, new: Object | None, now: float) -> None:
    """Write the Progressing condition into ``status``, whose counts are new; ``old`` has the last.

    Source: pkg/controller/deployment/progress.go, syncRolloutStatus.
    """
    limit = deadline(deployment)
    if limit is None:
        drop_condition(status, "Progressing")
        return
    known = find_condition(old, "Progressing")
    if (
        status.get("replicas", 0) == status.get("updatedReplicas", 0)
        and known is not None
        and known["reason"] == "NewReplicaSetAvailable"
    ):
        return
    name = deployment["metadata"]["name"]
    who = f'ReplicaSet "{new["metadata"]["name"]}"' if new else f'Deployment "{name}"'
    if complete(deployment, status):
        message = f"{who} has successfully progressed."
        set_condition(status, "Progressing", "True", "NewReplicaSetAvailable", message, now)
    elif _advanced(old, status):
        message = f"{who} is progressing."
        set_condition(status, "Progressing", "True", "ReplicaSetUpdated", message, now, renew=True)
    elif _timed_out(known, limit, now):
        message = f"{who} has timed out progressing."
        set_condition(status, "Progressing", "False", "ProgressDeadlineExceeded", message, now)


def _advanced(old: Object, new: Object) -> bool:
    def stale(status: Object) -> int:
        return int(status.get("replicas", 0) - status.get("updatedReplicas", 0))

    return (
        new.get("updatedReplicas", 0) > old.get("updatedReplicas", 0)
        or stale(new) < stale(old)
        or new.get("readyReplicas", 0) > old.get("readyReplicas", 0)
        or new.get("availableReplicas", 0) > old.get("availableReplicas", 0)
    )


def _timed_out(known: Object | None, limit: int, now: float) -> bool:
    if known is None or known["reason"] == "NewReplicaSetAvailable":
        return False
    if known["reason"] == "ProgressDeadlineExceeded":
        return True
    return seconds(known["lastUpdateTime"]) + limit < now


def set_condition(
    status: Object,
    type: str,
    value: str,
    reason: str,
    message: str,
    now: float,
    renew: bool = False,
) -> None:
    """Set a Deployment's condition; one of the same status and reason stays as it is.

    Args:
        status: the Deployment's status.
        type: such as ``Progressing``.
        value: ``True``, ``False`` or ``Unknown``.
        reason: one word.
        message: a sentence.
        now: in seconds since the epoch.
        renew: write it even when status and reason are the same, for a new ``lastUpdateTime``.
    """
    known = find_condition(status, type)
    if known and not renew and known["status"] == value and known["reason"] == reason:
        return
    moment = stamp(now)
    kept = known is not None and known["status"] == value
    condition = {
        "type": type,
        "status": value,
        "lastUpdateTime": moment,
        "lastTransitionTime": known["lastTransitionTime"] if known and kept else moment,
        "reason": reason,
        "message": message,
    }
    drop_condition(status, type)
    status.setdefault("conditions", []).append(condition)
