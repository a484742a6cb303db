"""Why a pod has no node: the nodes, who occupies them, and the scheduler's message put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from mlk8s.cluster import messages, requests
from mlk8s.cluster.claims import Claims, Problem, extended, listed
from mlk8s.cluster.connection import Connection
from mlk8s.cluster.fitting import Fit, NodeState, Outcome, fit
from mlk8s.cluster.messages import Waits
from mlk8s.cluster.placed import Found
from mlk8s.cluster.translated import VERDICT, apart, nodes, ports, translate
from mlk8s.cluster.wire import path

Object = dict[str, Any]

# More reasons than these make an answer that nobody reads; the table has all.
_GROUPS = 2


def explain(pod: Object, connection: Connection) -> tuple[Found, tuple[Fit, ...]]:
    """What is to be said about a pod without a node, and what each node says."""
    condition: Object = next(
        (c for c in pod["status"].get("conditions") or () if c["type"] == "PodScheduled"), {}
    )
    message = condition.get("message") or ""
    evidence = (("PodScheduled", message),) if message else ()
    if found := _not_tried(pod, condition):
        return found._replace(evidence=evidence), ()
    states, pods = _states(connection, pod)
    claims = Claims(connection) if _may_claim(pod, states) else None
    served = extended(claims.classes.values()) if claims else {}
    fits = tuple(fit(pod, state, served.keys()) for state in states)
    problem = _claim_problem(pod, claims, served, states)
    if node := pod["status"].get("nominatedNodeName"):
        return _preempting(node, pods)._replace(evidence=evidence), ()
    if not fits:
        return Found("never fits here", "the cluster has no nodes.", "add one.", evidence), ()
    said = messages.parse(message)
    expected = _expected(fits, problem)
    if problem is not None:
        outcome = Outcome.BUSY if problem.waits is Waits.BUSY else Outcome.NEVER
        fits = tuple(
            replace(each, outcome=outcome, because=("it has no device for the pod's claims",))
            if each.outcome is Outcome.FITS
            else each
            for each in fits
        )
    if said is None or said.reasons == expected:
        found = _computed(pod, fits, problem)
        if said is None and message and condition.get("reason") != "Unschedulable":
            found = Found(
                "held back",
                f"the scheduler met an error: {message.rstrip('.')}.",
                "it tries again by itself; correct what the message names.",
            )
    else:
        found = translate(pod, said, fits, problem, pods)
        # What this computes is not all that the scheduler looks at.
        fits = tuple(
            replace(each, because=("nothing that is compared here stands in the way",))
            if each.outcome is Outcome.FITS
            else each
            for each in fits
        )
    return found._replace(evidence=evidence), fits


def _not_tried(pod: Object, condition: Object) -> Found | None:
    """A pod that the scheduler does not look at."""
    spec = pod["spec"]
    if gates := spec.get("schedulingGates"):
        listed = " and ".join(gate["name"] for gate in gates)
        several = "s" if len(gates) > 1 else ""
        return Found(
            "held back",
            f"it has the scheduling gate{several} {listed}, so the scheduler does not look at it.",
            "the controller that set it (a quota or a queue) takes it off; see that controller.",
        )
    scheduler = spec.get("schedulerName") or "default-scheduler"
    if not condition and scheduler != "default-scheduler":
        return Found(
            "held back",
            f"it asks for the scheduler {scheduler!r}, which has said nothing about it.",
            "see whether that scheduler runs, or take schedulerName out.",
        )
    return None


def _states(connection: Connection, pod: Object) -> tuple[list[NodeState], list[Object]]:
    """Each node with what its pods ask for; and the pods that may stand in this one's way."""
    states = {node["metadata"]["name"]: NodeState(node) for node in connection.items(path("nodes"))}
    priority = pod["spec"].get("priority") or 0
    others = []
    for other in connection.items(path("pods")):
        if other["metadata"]["uid"] == pod["metadata"]["uid"]:
            continue
        nominated = other["status"].get("nominatedNodeName")
        where = other["spec"].get("nodeName")
        if not where and nominated and (other["spec"].get("priority") or 0) >= priority:
            where = nominated
        state = states.get(where or "")
        if state is not None and other["status"].get("phase") not in ("Succeeded", "Failed"):
            state.add(other)
            others.append(_slim(other))
    return list(states.values()), others


def _slim(pod: Object) -> Object:
    """What is still needed of a pod once its requests are counted: thousands of them are kept."""
    metadata, spec = pod["metadata"], pod["spec"]
    return {
        "metadata": {
            key: metadata[key]
            for key in ("name", "namespace", "labels", "deletionTimestamp")
            if key in metadata
        },
        "node": spec.get("nodeName", ""),
        "ports": ports(pod),
        "apart": apart(pod),
    }


def _may_claim(pod: Object, states: list[NodeState]) -> bool:
    if pod["spec"].get("resourceClaims"):
        return True
    devices = [name for name in requests.effective(pod) if requests.is_device(name)]
    return any(
        not (state.node.get("status") or {}).get("allocatable", {}).get(name)
        for name in devices
        for state in states
    )


def _claim_problem(
    pod: Object, claims: Claims | None, served: dict[str, str], states: list[NodeState]
) -> Problem | None:
    if claims is None:
        return None
    if found := claims.problem(pod):
        return found
    for resource, count in requests.effective(pod).items():
        plugged = any(
            requests.quantities((s.node.get("status") or {}).get("allocatable") or {}).get(resource)
            for s in states
        )
        if resource in served and not plugged:
            return claims.unserved(resource, int(count))
    return None


def _expected(fits: tuple[Fit, ...], problem: Problem | None) -> Counter[str]:
    """The reasons that the scheduler would give if this were all there is to it."""
    expected: Counter[str] = Counter()
    for each in fits:
        expected.update(each.says)
        if problem is not None and each.outcome is Outcome.FITS:
            expected[messages.NO_CLAIMS] += 1
    return expected


def _preempting(node: str, pods: list[Object]) -> Found:
    leaving = [
        requests.name(pod)
        for pod in pods
        if pod["node"] == node and "deletionTimestamp" in pod["metadata"]
    ]
    who = f": {listed(leaving)}" if leaving else ""
    return Found(
        "starting",
        f"node {node} is being cleared for it of pods with a lower priority{who}.",
        "wait until they have ended; they have their terminationGracePeriodSeconds for it.",
    )


def _computed(pod: Object, fits: tuple[Fit, ...], problem: Problem | None) -> Found:
    if problem is not None:
        unserved = any(each.outcome is not Outcome.FITS and not each.says for each in fits)
        if problem.waits is not Waits.BUSY or unserved:
            return Found(VERDICT[problem.waits], problem.because, problem.next_step)
    free = [each.name for each in fits if each.outcome is Outcome.FITS]
    if free:
        return Found(
            "starting",
            f"{nodes(free)} {'has' if len(free) == 1 else 'have'} what it asks for, and the "
            "scheduler has not placed it yet.",
            "wait a moment; if it lasts, see whether the scheduler runs.",
        )
    busy = [each for each in fits if each.outcome is Outcome.BUSY]
    return _busy(pod, busy) if busy else _never(fits)


def _busy(pod: Object, fits: list[Fit]) -> Found:
    lacks = [lack for each in fits for lack in each.lacks]
    asked = {lack.resource: lack.asked for lack in lacks}
    wants = " and ".join(f"{requests.amount(n, r)} {r}" for r, n in asked.items())
    holders = list(dict.fromkeys(holder for lack in lacks for holder in lack.holders))
    if len(fits) == 1:
        where = f"node {fits[0].name} has " + " and ".join(lack.text for lack in lacks)
    else:
        where = f"on {nodes([each.name for each in fits])} too little is free"
    held = f"; held by {listed(holders)}" if holders else ""
    because = f"it asks for {wants}, and {where}{held}."
    ends = all(lack.ends for lack in lacks)
    who = "that pod" if len(holders) == 1 else "enough of those pods"
    verb = "ends" if len(holders) == 1 else "end"
    step = f"wait until {who} {verb}" if ends else f"end {who} (some do not end by themselves)"
    if len(holders) == 1 and not ends:
        step = f"delete {holders[0]}, which does not end by itself"
    step += ", ask for less, or add a node"
    if pod["spec"].get("preemptionPolicy") == "Never":
        step += "; its preemptionPolicy Never keeps it from taking a place"
    return Found("busy", because, f"{step}.")


def _never(fits: Iterable[Fit]) -> Found:
    """What stands in the way, grouped, the most promising first: least to change."""
    # A node that the pod does not select is none that it waits for.
    ordered = sorted(
        fits, key=lambda each: (messages.AFFINITY in each.says, -each.offers, len(each.because))
    )
    groups: dict[tuple[str, ...], list[str]] = {}
    for each in ordered:
        groups.setdefault(each.because, []).append(each.name)
    parts = [_hindered(names, because) for because, names in list(groups.items())[:_GROUPS]]
    if rest := sum(len(names) for names in list(groups.values())[_GROUPS:]):
        nodes, have = ("node", "has") if rest == 1 else ("nodes", "have")
        parts.append(f"{rest} more {nodes} {have} other reasons (see the table)")
    return Found("never fits here", f"{'; '.join(parts)}.", ordered[0].next_step)


def _hindered(names: list[str], because: tuple[str, ...]) -> str:
    """``node gpu-0 is cordoned``; each reason begins with "it"."""
    texts = [text.removeprefix("it ") for text in because]
    subject = nodes(names) if len(names) == 1 else f"each of {nodes(names)}"
    return f"{subject} {', and '.join(texts)}"
