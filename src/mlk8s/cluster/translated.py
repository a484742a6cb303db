"""The scheduler's message about a pod in plain words, with the pods that it is about."""

from __future__ import annotations

from typing import Any

from mlk8s.cluster import messages, requests
from mlk8s.cluster.claims import Problem, listed
from mlk8s.cluster.fitting import Fit, Outcome
from mlk8s.cluster.messages import Meaning, Said, Waits
from mlk8s.cluster.placed import Found
from mlk8s.cluster.selectors import selects

Object = dict[str, Any]

VERDICT = {Waits.NEVER: "never fits here", Waits.BUSY: "busy", Waits.HELD: "held back"}


def translate(
    pod: Object,
    said: Said,
    fits: tuple[Fit, ...],
    problem: Problem | None,
    pods: list[Object],
) -> Found:
    """The scheduler's reasons, translated one by one."""
    means = {reason: messages.meaning(reason) for reason in said.reasons}
    if problem is not None and any(messages.about_claims(reason) for reason in said.reasons):
        return Found(VERDICT[problem.waits], problem.because, problem.next_step)
    of_pod = [each for each in means.values() if each.of_pod]
    if of_pod:
        first = of_pod[0]
        return Found(VERDICT[first.waits or Waits.HELD], first.words, first.next_step)
    room = any(each.outcome is not Outcome.NEVER for each in fits) or bool(said.could_wait)
    waits = {_waits(each, room) for each in means.values()}
    decisive = next(w for w in (Waits.BUSY, Waits.HELD, Waits.NEVER) if w in waits)
    ordered = sorted(
        means.items(),
        key=lambda item: (_waits(item[1], room) is not decisive, -said.reasons[item[0]]),
    )
    parts = []
    for reason, each in ordered:
        count = said.reasons[reason]
        where = "on the one node" if said.nodes == 1 else f"on {count} of {said.nodes} nodes"
        if count == said.nodes > 1:
            where = "on both nodes" if count == 2 else f"on all {count} nodes"
        parts.append(f"{where} {each.words}{_culprits(pod, reason, pods, fits)}")
    text = "; ".join(parts)
    free = [each.name for each in fits if each.outcome is Outcome.FITS]
    computed = {messages.UNSCHEDULABLE, messages.UNTOLERATED, messages.AFFINITY}
    if free and all(r in computed or r.startswith("Insufficient ") for r in said.reasons):
        text += f"; that was its last look, and {nodes(free)} may do now"
    return Found(VERDICT[decisive], f"{text}.", ordered[0][1].next_step)


def _waits(meaning: Meaning, room: bool) -> Waits:
    return meaning.waits or (Waits.BUSY if room else Waits.NEVER)


def _culprits(pod: Object, reason: str, pods: list[Object], fits: tuple[Fit, ...]) -> str:
    """The pods that a reason is about, where it is about pods."""
    labels, namespace = pod["metadata"].get("labels") or {}, pod["metadata"]["namespace"]
    found: list[Object] = []
    if reason == messages.ANTI_AFFINITY:
        found = [
            other
            for other in pods
            if any(_keeps_off(rule, namespace, other) for rule in apart(pod))
        ]
    elif reason == messages.ANTI_AFFINITY_OF_OTHERS:
        me = {"metadata": {"namespace": namespace, "labels": labels}}
        found = [
            other
            for other in pods
            if any(_keeps_off(rule, other["metadata"]["namespace"], me) for rule in other["apart"])
        ]
    elif reason == messages.NO_PORTS:
        found = [other for other in pods if other["ports"] & ports(pod)]
    names = [requests.name(each) for each in found]
    for each in fits:
        for lack in each.lacks:
            names += lack.holders if reason == messages.insufficient(lack.resource) else ()
    return f" ({listed(list(dict.fromkeys(names)))})" if names else ""


def _keeps_off(rule: Object, home: str, other: Object) -> bool:
    namespaces = rule.get("namespaces") or [home]
    everywhere = rule.get("namespaceSelector") == {}
    metadata = other["metadata"]
    return (everywhere or metadata["namespace"] in namespaces) and selects(
        rule.get("labelSelector"), metadata.get("labels") or {}
    )


def ports(pod: Object) -> set[tuple[str, int]]:
    """The ports of its node that a pod takes: (protocol, number)."""
    return {
        (port.get("protocol", "TCP"), port["hostPort"])
        for container in pod["spec"]["containers"]
        for port in container.get("ports") or ()
        if port.get("hostPort")
    }


def apart(pod: Object) -> list[Object]:
    """The rules by which a pod keeps others off (required podAntiAffinity)."""
    rules = (pod["spec"].get("affinity") or {}).get("podAntiAffinity") or {}
    return list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())


def nodes(names: list[str]) -> str:
    """``node a``, ``nodes a and b``."""
    return f"node{'s' if len(names) > 1 else ''} {listed(names)}"
