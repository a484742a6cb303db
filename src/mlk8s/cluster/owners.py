"""The pods of a workload, or why it has none: Jobs, Deployments and what else makes pods."""

from __future__ import annotations

from typing import Any, NamedTuple

from mlk8s.cluster import refusals, selectors
from mlk8s.cluster.connection import Connection
from mlk8s.cluster.placed import Found
from mlk8s.cluster.wire import path
from mlk8s.errors import ClusterError

Object = dict[str, Any]

RESOURCES = {
    "pod": "pods",
    "job": "batch/v1/jobs",
    "deployment": "apps/v1/deployments",
    "replicaset": "apps/v1/replicasets",
    "statefulset": "apps/v1/statefulsets",
    "daemonset": "apps/v1/daemonsets",
}
_SHORT = {"po": "pod", "deploy": "deployment", "rs": "replicaset", "sts": "statefulset"}
_SHORT |= {"ds": "daemonset"}
_KUEUE = "kueue.x-k8s.io/queue-name"


class Reference(NamedTuple):
    """What a text names."""

    namespace: str
    kind: str
    name: str

    def __str__(self) -> str:
        kind = "" if self.kind == "pod" else f"{self.kind}/"
        return f"{self.namespace}/{kind}{self.name}"


def reference(text: str, namespace: str) -> Reference:
    """Read ``name``, ``namespace/name``, ``kind/name`` or ``namespace/kind/name``.

    Args:
        text: what a reader wrote.
        namespace: where none is written.

    Raises:
        ClusterError: it is none of these.
    """

    def kind_of(part: str) -> str:
        part = part.lower()
        part = _SHORT.get(part, part)
        return part if part in RESOURCES else part.removesuffix("s")

    match text.split("/"):
        case [name] if name:
            return Reference(namespace, "pod", name)
        case [kind, name] if name and kind_of(kind) in RESOURCES:
            return Reference(namespace, kind_of(kind), name)
        case [own, name] if own and name:
            return Reference(own, "pod", name)
        case [own, kind, name] if own and name and kind_of(kind) in RESOURCES:
            return Reference(own, kind_of(kind), name)
    raise ClusterError(
        f"{text!r} names no pod.",
        f"write NAME, NAMESPACE/NAME, KIND/NAME or NAMESPACE/KIND/NAME; kinds: "
        f"{', '.join(RESOURCES)}.",
    )


def read(wanted: Reference, connection: Connection) -> Object:
    """The object that is named.

    Raises:
        ClusterError: there is none.
    """
    found = connection.find(path(RESOURCES[wanted.kind], wanted.name, wanted.namespace))
    if found is None:
        raise ClusterError(
            f"There is no {wanted.kind} {wanted.name!r} in namespace {wanted.namespace!r}.",
            f"list them: kubectl get {wanted.kind}s -n {wanted.namespace}.",
        )
    return found


def worst_pod(wanted: Reference, owner: Object, connection: Connection) -> Object | None:
    """The pod of a workload that needs an explanation most; ``None`` when it has no pods.

    Pending before failed, failed before the rest.
    """
    selector = owner["spec"].get("selector")
    if not selector:
        return None
    pods = connection.items(
        path("pods", namespace=wanted.namespace), labelSelector=selectors.query(selector)
    )
    order = {"Pending": 0, "Failed": 1, "Unknown": 2, "Running": 3}

    def rank(pod: Object) -> tuple[bool, int, str]:
        status = pod["status"]
        trouble = any(
            (each.get("state") or {}).get("waiting")
            for each in status.get("containerStatuses") or ()
        )
        phase = order.get(status.get("phase", ""), 4)
        return (not (phase == 0 or trouble), phase, pod["metadata"]["name"])

    return min(pods, key=rank, default=None)


def state(wanted: Reference, owner: Object, connection: Connection) -> Found | None:
    """What a workload says about itself; ``None`` when it is up to its pods."""
    spec, status = owner["spec"], owner.get("status") or {}
    conditions = {
        each["type"]: each for each in status.get("conditions") or () if each["status"] == "True"
    }
    if wanted.kind == "job":
        if "Complete" in conditions:
            return Found("done", "all its pods ended well.", "read their logs.")
        if failed := conditions.get("Failed"):
            return _failed_job(wanted, failed)
        if spec.get("suspend"):
            return _suspended(wanted, owner)
    if spec.get("replicas") == 0:
        return Found(
            "held back",
            "it asks for 0 replicas.",
            f"scale it: kubectl scale {wanted.kind} {wanted.name} -n {wanted.namespace} "
            "--replicas=1.",
        )
    return None


def _failed_job(wanted: Reference, failed: Object) -> Found:
    reason, message = failed.get("reason", ""), failed.get("message", "")
    steps = {
        "BackoffLimitExceeded": f"read the log of a pod: kubectl logs job/{wanted.name} "
        f"-n {wanted.namespace}; retries are counted by backoffLimit.",
        "DeadlineExceeded": "raise activeDeadlineSeconds, or make the work shorter.",
    }
    return Found(
        "fails",
        f"the job ended with {reason}: {message.rstrip('.')}.",
        steps.get(reason, "correct what the message names, and create the job again."),
        (("condition Failed", f"{reason}: {message}"),),
    )


def _suspended(wanted: Reference, job: Object) -> Found:
    queue = (job["metadata"].get("labels") or {}).get(_KUEUE)
    if queue:
        return Found(
            "held back",
            f"it is suspended until Kueue admits it from the queue {queue!r}.",
            f"see what the queue lacks: kubectl describe workloads -n {wanted.namespace}.",
        )
    return Found(
        "held back",
        "it is suspended (spec.suspend), so it gets no pods.",
        f"let it go: kubectl patch job {wanted.name} -n {wanted.namespace} --type merge "
        '-p \'{"spec":{"suspend":false}}\'.',
    )


def refused(wanted: Reference, owner: Object, connection: Connection) -> Found | None:
    """Why a workload's controller could not make its pods, as its events say; else ``None``."""
    makers = {owner["metadata"]["uid"]}
    if wanted.kind == "deployment":
        sets = connection.items(
            path(RESOURCES["replicaset"], namespace=wanted.namespace),
            labelSelector=selectors.query(owner["spec"]["selector"]),
        )
        makers |= {each["metadata"]["uid"] for each in sets}
    events = [
        event
        for event in connection.items(
            path("events", namespace=wanted.namespace), fieldSelector="reason=FailedCreate"
        )
        if event["involvedObject"].get("uid") in makers
    ]
    if not events:
        return None
    message = max(events, key=lambda event: event.get("lastTimestamp") or "")["message"]
    refusal = refusals.of_controller(message)
    return Found(
        "held back",
        refusal.because,
        refusal.next_step,
        (("event FailedCreate", message),),
    )
