"""Why a pod waits, in plain words: never fits here, or busy until something ends.

The scheduler says it in two half sentences that count nodes. :func:`why` reads the pod, the nodes
and who occupies them, says the same about each node, and keeps the message as evidence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mlk8s.cluster import requests
from mlk8s.cluster.connect import NAMESPACE, Connection, connect
from mlk8s.cluster.fitting import Fit, NodeState, Reason, fit
from mlk8s.errors import ClusterError
from mlk8s.provenance import Finding, Provenance, Table, labels

Object = dict[str, Any]


class Verdict(StrEnum):
    """What to make of a pod."""

    RUNS = "runs"
    DONE = "done"
    NEVER = "never fits here"
    BUSY = "busy"
    HELD = "held back"
    STARTING = "starting"
    FAILS = "fails"


@dataclass(frozen=True)
class Answer:
    """One answer, with what it rests on.

    Attributes:
        verdict: the class of the answer.
        because: the reason, one sentence.
        next_step: what to do about it, one sentence.
        nodes: what each node says, when the pod is not placed.
        evidence: (what, text) as the cluster wrote it: conditions, events, quotas.
    """

    pod: str
    verdict: Verdict
    because: str
    next_step: str
    nodes: tuple[Fit, ...] = ()
    evidence: tuple[tuple[str, str], ...] = ()
    provenance: tuple[Provenance, ...] = field(default=(), compare=False)

    @property
    def text(self) -> str:
        """The answer in one line."""
        return f"{self.pod}: {self.verdict}, because {self.because} Next: {self.next_step}"

    def table(self) -> Table:
        """What each node says."""
        rows = [
            {"node": node.name, "verdict": str(node.outcome), "because": "; ".join(node.because)}
            for node in self.nodes
        ]
        return Table(rows, *self.provenance, title="Node by node")

    def as_json(self) -> Object:
        """The same as JSON values."""
        return {
            "pod": self.pod,
            "verdict": str(self.verdict),
            "because": self.because,
            "next": self.next_step,
            "nodes": [
                {"node": n.name, "verdict": str(n.outcome), "because": list(n.because)}
                for n in self.nodes
            ],
            "evidence": [{"what": what, "text": text} for what, text in self.evidence],
        }

    def __repr__(self) -> str:
        lines = [self.text]
        if self.nodes:
            table = repr(self.table()).splitlines()
            lines += [f"  {line}" for line in table[: -len(labels(self.provenance))]]
        lines += [f"  {what}: {text}" for what, text in self.evidence]
        return "\n".join([*lines, *labels(self.provenance)])

    def _repr_html_(self) -> str:
        parts = [Finding(self.text, *self.provenance)._repr_html_()]
        if self.nodes:
            parts.append(self.table()._repr_html_())
        if self.evidence:
            rows = [{"evidence": what, "as the cluster wrote it": t} for what, t in self.evidence]
            parts.append(Table(rows, *self.provenance)._repr_html_())
        return "".join(parts)

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = [Text(self.text)]
        if self.nodes:
            parts.append(self.table())
        parts += [Text(f"{what}: {text}", style="dim") for what, text in self.evidence]
        return Group(*parts)


def why(pod: str, connection: Connection | None = None) -> Answer:
    """Explain the present state of a pod, or of the pods that a workload cannot get.

    Args:
        pod: ``name`` (in the labs' namespace), ``namespace/name``, or ``job/name``,
            ``deployment/name``, ``namespace/job/name``: then its first pod that does not run, or
            why it has none.
        connection: the cluster; :func:`connect` when not given.

    Raises:
        ClusterError: there is no such object.
    """
    connection = connection or connect()
    namespace, kind, name = _reference(pod)
    if kind == "pod":
        found = connection.find(connection.core.read_namespaced_pod, name, namespace)
        if found is None:
            raise ClusterError(
                f"There is no pod {name!r} in namespace {namespace!r}.",
                f"list them: kubectl get pods -n {namespace}.",
            )
        return _explain(found, connection)
    return _of_workload(kind, namespace, name, connection)


def _reference(text: str) -> tuple[str, str, str]:
    parts = text.split("/")
    short = {"po": "pod", "pods": "pod", "deploy": "deployment", "jobs": "job"}
    kinds = {"pod", "job", "deployment", "replicaset", "statefulset", "daemonset"}

    def is_kind(part: str) -> bool:
        return short.get(part, part) in kinds

    match parts:
        case [name]:
            return NAMESPACE, "pod", name
        case [kind, name] if is_kind(kind):
            return NAMESPACE, short.get(kind, kind), name
        case [namespace, name]:
            return namespace, "pod", name
        case [namespace, kind, name] if is_kind(kind):
            return namespace, short.get(kind, kind), name
    raise ClusterError(
        f"{text!r} names no pod.", "write NAME, NAMESPACE/NAME, job/NAME or NAMESPACE/job/NAME."
    )


def _of_workload(kind: str, namespace: str, name: str, connection: Connection) -> Answer:
    """Its first pod that is not running; without pods, what its controller says."""
    owners = {name}
    waiting = None
    for pod in connection.pages(connection.core.list_namespaced_pod, namespace):
        owner = next(iter(pod["metadata"].get("ownerReferences") or ()), {"name": ""})
        # A Deployment's pods belong to its ReplicaSets, which are named after it.
        if owner["name"] not in owners and not (
            kind == "deployment" and owner["name"].rpartition("-")[0] == name
        ):
            continue
        if pod["status"].get("phase") == "Pending":
            return _explain(pod, connection)
        waiting = waiting or pod
    refused = [
        event
        for event in _events(connection, namespace)
        if event["reason"] == "FailedCreate"
        and (event["involvedObject"]["name"] == name or kind == "deployment")
        and event["involvedObject"]["name"].startswith(name)
    ]
    if refused:
        message = refused[-1]["message"]
        because, step = _refusal(message)
        return Answer(
            f"{namespace}/{kind}/{name}",
            Verdict.HELD,
            because,
            step,
            evidence=(("event FailedCreate", message),),
            provenance=(connection.provenance,),
        )
    if waiting is not None:
        return _explain(waiting, connection)
    raise ClusterError(
        f"{kind} {name!r} in namespace {namespace!r} has no pods, and no event says why.",
        f"look at it: kubectl describe {kind} {name} -n {namespace}.",
    )


def _refusal(message: str) -> tuple[str, str]:
    """The API server's refusal of a pod, in words."""
    if found := re.search(
        r"exceeded quota: (\S+), requested: (.+), used: (.+), limited: (.+)", message
    ):
        quota, asked, used, limited = found.groups()
        return (
            f"the namespace's quota {quota!r} allows {limited}, {used} is in use, and one more pod "
            f"asks for {asked}.",
            "wait until a pod of the namespace finishes, ask for less, or have the quota raised.",
        )
    return (
        f"the API server refuses its pods: {message}",
        "correct what the message names.",
    )


def _events(connection: Connection, namespace: str) -> list[Object]:
    return list(connection.pages(connection.core.list_namespaced_event, namespace))


def _explain(pod: Object, connection: Connection) -> Answer:
    metadata, status = pod["metadata"], pod["status"]
    name = f"{metadata['namespace']}/{metadata['name']}"
    origin = connection.provenance
    phase = status.get("phase")
    if phase == "Succeeded":
        return Answer(
            name, Verdict.DONE, "its containers ended well.", "read its logs.", provenance=(origin,)
        )
    if phase == "Failed":
        return _failed(pod, name, origin)
    if pod["spec"].get("nodeName"):
        return _on_a_node(pod, name, connection)
    return _unscheduled(pod, name, connection)


def _failed(pod: Object, name: str, origin: Provenance) -> Answer:
    status = pod["status"]
    if reason := status.get("reason"):
        steps = {
            "UnexpectedAdmissionError": "delete the pod so that its controller makes a new one; "
            "the kubelet admitted it before the device plugin had devices to give.",
            "Evicted": "see the node's conditions; the pod's controller makes a new one.",
            "DeadlineExceeded": "raise activeDeadlineSeconds, or make the work shorter.",
        }
        message = status.get("message", "")
        return Answer(
            name,
            Verdict.FAILS,
            f"the node ended it with {reason}: {message}".rstrip(": ") + ".",
            steps.get(reason, "correct what the message names, and create the pod again."),
            evidence=(("status", f"{reason}: {message}"),),
            provenance=(origin,),
        )
    for container in status.get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            return Answer(
                name,
                Verdict.FAILS,
                f"container {container['name']!r} ended with exit code {ended['exitCode']} "
                f"({ended.get('reason', 'Error')}).",
                f"read its log: kubectl logs {pod['metadata']['name']} "
                f"-n {pod['metadata']['namespace']}.",
                provenance=(origin,),
            )
    return Answer(
        name, Verdict.FAILS, "the node says no reason.", "see its events.", provenance=(origin,)
    )


_WAITING = {
    "ErrImagePull": "its image cannot be pulled.",
    "ImagePullBackOff": "its image cannot be pulled.",
    "InvalidImageName": "the name of its image is not valid.",
    "CreateContainerConfigError": "something that it refers to does not exist.",
    "RunContainerError": "the container runtime cannot start it.",
    "CrashLoopBackOff": "it starts and ends with an error, again and again.",
}
_STEPS = {
    "ErrImagePull": "check the image's name and the node's way to the registry.",
    "ImagePullBackOff": "check the image's name and the node's way to the registry.",
    "CrashLoopBackOff": "read the log of the last attempt: kubectl logs --previous.",
    "RunContainerError": "read the message: a missing `nvidia` runtime needs the GPU Operator's "
    "container toolkit, or another runtimeClassName.",
}


def _on_a_node(pod: Object, name: str, connection: Connection) -> Answer:
    status = pod["status"]
    node = pod["spec"]["nodeName"]
    origin = (connection.provenance,)
    for container in [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason in _WAITING:
            message = waiting.get("message", "")
            return Answer(
                name,
                Verdict.FAILS,
                f"container {container['name']!r} on node {node} is in {reason}: "
                f"{_WAITING[reason]}",
                _STEPS.get(reason, "correct what the message names."),
                evidence=((reason, message),) if message else (),
                provenance=origin,
            )
    if status.get("phase") == "Running":
        return Answer(name, Verdict.RUNS, f"it is on node {node}.", "nothing.", provenance=origin)
    return Answer(
        name,
        Verdict.STARTING,
        f"node {node} has been chosen and its kubelet has not started it yet.",
        f"wait; if it lasts, look at the node: kubectl describe node {node}.",
        provenance=origin,
    )


def _unscheduled(pod: Object, name: str, connection: Connection) -> Answer:
    metadata, spec = pod["metadata"], pod["spec"]
    origin = (connection.provenance,)
    condition: Object = next(
        (c for c in pod["status"].get("conditions") or () if c["type"] == "PodScheduled"), {}
    )
    message = condition.get("message", "")
    evidence = [("PodScheduled", message)] if message else []
    if gates := spec.get("schedulingGates"):
        listed = ", ".join(gate["name"] for gate in gates)
        return Answer(
            name,
            Verdict.HELD,
            f"it has the scheduling gate {listed}: the scheduler does not look at it.",
            "whoever set the gate (a quota or queue controller) removes it; see that controller.",
            evidence=tuple(evidence),
            provenance=origin,
        )
    scheduler = spec.get("schedulerName", "default-scheduler")
    if not condition and scheduler != "default-scheduler":
        return Answer(
            name,
            Verdict.HELD,
            f"it asks for the scheduler {scheduler!r}, and that one has said nothing.",
            "check that it runs, or take schedulerName out.",
            provenance=origin,
        )
    states = _states(connection, metadata["uid"])
    fits = tuple(fit(pod, state) for state in states)
    if claim := _claim_problem(pod, connection):
        because, step, verdict = claim
        return Answer(name, verdict, because, step, fits, tuple(evidence), origin)
    if not fits:
        return Answer(
            name,
            Verdict.NEVER,
            "the cluster has no nodes.",
            "join a node to the cluster.",
            evidence=tuple(evidence),
            provenance=origin,
        )
    if any(found.outcome is Reason.FITS for found in fits):
        free = next(found.name for found in fits if found.outcome is Reason.FITS)
        return Answer(
            name,
            Verdict.STARTING,
            f"node {free} has what it asks for; the scheduler has not placed it yet"
            + (
                ", or something that this explanation does not look at stands in the way."
                if message
                else "."
            ),
            "wait a moment; if it lasts, the scheduler's own words below are right.",
            fits,
            tuple(evidence),
            origin,
        )
    busy = [found for found in fits if found.outcome is Reason.BUSY]
    if busy:
        because, step = _busy(pod, busy)
        return Answer(name, Verdict.BUSY, because, step, fits, tuple(evidence), origin)
    because, step = _never(pod, fits)
    return Answer(name, Verdict.NEVER, because, step, fits, tuple(evidence), origin)


def _states(connection: Connection, but: str) -> list[NodeState]:
    """Each node with what its pods ask for; ``but`` is the uid of the pod in question."""
    states = {
        node["metadata"]["name"]: NodeState(node)
        for node in connection.pages(connection.core.list_node)
    }
    for pod in connection.pages(connection.core.list_pod_for_all_namespaces):
        state = states.get(pod["spec"].get("nodeName", ""))
        if state is not None and requests.holds(pod) and pod["metadata"]["uid"] != but:
            state.add(pod)
    return list(states.values())


def _busy(pod: Object, fits: list[Fit]) -> tuple[str, str]:
    lacking = sorted({name for found in fits for name in found.lacking})
    holders = [holder for found in fits for holder in found.holders]
    listed = ", ".join(holders[:5]) + (f" and {len(holders) - 5} more" if len(holders) > 5 else "")
    where = _names([found.name for found in fits])
    what = " and ".join(lacking)
    because = f"{where} would do, and all {what} there is taken"
    because += f" by {listed}." if listed else "."
    if all(found.holders_wait for found in fits):
        until = "one of them ends"
    else:
        until = "one of them ends or is deleted: a service does not end by itself"
    step = f"wait until {until}, ask for less, add a node, or give this pod a higher priority."
    return because, step


def _never(pod: Object, fits: Iterable[Fit]) -> tuple[str, str]:
    """The reasons with the most promising first: what one change of the pod would mend."""
    listed = list(fits)
    best = min(listed, key=lambda found: len(found.because))
    groups: dict[str, list[str]] = {}
    for found in listed:
        groups.setdefault("; ".join(found.because), []).append(found.name)
    parts = [f"{_names(names)}: {because}" for because, names in groups.items()]
    return ". ".join(parts) + ".", best.next_step


def _names(names: list[str]) -> str:
    if len(names) == 1:
        return f"node {names[0]}"
    if len(names) <= 4:
        return f"nodes {', '.join(names[:-1])} and {names[-1]}"
    return f"nodes {', '.join(names[:3])} and {len(names) - 3} more"


def _claim_problem(pod: Object, connection: Connection) -> tuple[str, str, Verdict] | None:
    """What stands between a pod and the devices that it claims; ``None`` if nothing does."""
    wanted = pod["spec"].get("resourceClaims") or []
    if not wanted:
        return None
    namespace = pod["metadata"]["namespace"]
    claims = {c["metadata"]["name"]: c for c in connection.claims("resourceclaims", namespace)}
    templates = {
        t["metadata"]["name"] for t in connection.claims("resourceclaimtemplates", namespace)
    }
    classes = {c["metadata"]["name"] for c in connection.claims("deviceclasses")}
    made = {
        s["name"]: s.get("resourceClaimName")
        for s in pod["status"].get("resourceClaimStatuses") or ()
    }
    for entry in wanted:
        template = entry.get("resourceClaimTemplateName")
        if template and template not in templates:
            return (
                f"its ResourceClaimTemplate {template!r} does not exist in namespace "
                f"{namespace!r}.",
                "create the template, or correct the name.",
                Verdict.HELD,
            )
        name = entry.get("resourceClaimName") or made.get(entry["name"])
        if name is None:
            continue
        claim = claims.get(name)
        if claim is None:
            return (
                f"its ResourceClaim {name!r} does not exist in namespace {namespace!r}.",
                "create the claim, or correct the name.",
                Verdict.HELD,
            )
        if (claim.get("status") or {}).get("allocation"):
            continue
        for request in claim["spec"]["devices"].get("requests") or ():
            exactly = request.get("exactly") or {}
            needed = exactly.get("deviceClassName")
            if needed and needed not in classes:
                return (
                    f"its claim {name!r} asks for the device class {needed!r}, which does not "
                    "exist.",
                    f"install the driver that defines it, or use one of: "
                    f"{', '.join(sorted(classes)) or 'none there'}.",
                    Verdict.NEVER,
                )
        return _no_device(name, claim, claims.values(), connection)
    return None


def _no_device(
    name: str, claim: Object, claims: Iterable[Object], connection: Connection
) -> tuple[str, str, Verdict]:
    published = sum(
        len(piece["spec"].get("devices") or ()) for piece in connection.claims("resourceslices")
    )
    users = sorted(
        user["name"]
        for other in claims
        for user in (other.get("status") or {}).get("reservedFor") or ()
    )
    expressions = [
        selector["cel"]["expression"]
        for request in claim["spec"]["devices"].get("requests") or ()
        for selector in (request.get("exactly") or {}).get("selectors") or ()
        if "cel" in selector
    ]
    if not published:
        return (
            f"its claim {name!r} needs a device, and no driver has published any.",
            "check the DRA driver's pods and `kubectl get resourceslices`.",
            Verdict.NEVER,
        )
    selecting = f" and meets {' and '.join(expressions)}" if expressions else ""
    return (
        f"its claim {name!r} finds no free device{selecting}; drivers publish {published}"
        + (f", and pods hold some: {', '.join(users)}." if users else ", and no pod holds one."),
        "loosen the claim's selectors."
        if expressions and not users
        else "wait until a holder ends, or loosen the claim.",
        Verdict.BUSY if users else Verdict.NEVER,
    )
