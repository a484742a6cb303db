"""Why a pod runs where it runs, or nowhere: every plugin's word about every node.

Unlike the scheduler this asks all plugins, also after one has said no, and writes nothing.
"""

from __future__ import annotations

from typing import Any

from mlk8s.sim.scheduler.allocator import AllocationError
from mlk8s.sim.scheduler.framework import Code, NodeInfo, Plugin, State, Verdict
from mlk8s.sim.scheduler.scheduler import NO_NODES, Scheduler
from mlk8s.sim.status import Object


def explain(scheduler: Scheduler, namespace: str, name: str) -> dict[str, Any]:
    """How the scheduler would decide about a pod now, as if the pod were not there yet.

    Args:
        scheduler: the cluster's.
        namespace: the pod's.
        name: the pod's.

    Returns:
        What can be written as JSON: ``pod`` (namespace, name, phase, node, nominated, priority);
        ``condition`` (what PodScheduled says, or null); ``preFilter`` (verdicts about the pod as
        such); ``nodes`` (name; ``fits``; ``chosen``, where it is or would go; ``best``, whether
        none has a higher total; ``verdicts`` of all filters, ``decided`` on the one that counts;
        ``scores`` with raw, normalized, weight and weighted; ``total``); ``message`` (why no node
        would do now; empty when one would); ``preemption`` (``text``, and ``nodes`` where it would
        make room, with ``victims`` and budget ``violations``; null when it is not needed).

    Raises:
        StatusError: 404 without such a pod.
    """
    pod = scheduler.api.get("pods", namespace, name)
    uid = pod["metadata"]["uid"]
    placed = pod["spec"].pop("nodeName", None)
    cache = scheduler.cache
    counted, changes = cache.pod(uid), cache.changes
    cache.remove_pod(uid)
    try:
        found = _decide(scheduler, pod)
    except AllocationError as error:
        found = {"preFilter": [], "nodes": [], "message": str(error), "preemption": None}
    finally:
        if counted is not None:
            cache.add_pod(counted[1], counted[0])
        cache.changes = changes
    there = placed or (counted[0] if counted else None)
    for node in found["nodes"]:
        node["chosen"] = node["name"] == there
    status = pod.get("status") or {}
    condition = next(
        (one for one in status.get("conditions") or () if one["type"] == "PodScheduled"), None
    )
    return {
        "pod": {
            "namespace": namespace,
            "name": name,
            "phase": status.get("phase", "Pending"),
            "node": placed,
            "nominated": status.get("nominatedNodeName"),
            "priority": pod["spec"].get("priority", 0),
        },
        "condition": condition
        and {key: condition.get(key) for key in ("status", "reason", "message")},
        **found,
    }


def _decide(scheduler: Scheduler, pod: Object) -> dict[str, Any]:
    cycle = scheduler.cycle
    state = cycle.begin(pod)
    fitting, diagnosis = cycle.feasible(state, pod, everywhere=True)
    totals, details = cycle.scores(state, pod, fitting) if fitting else ({}, {})
    highest = max(totals.values(), default=0)
    every = cycle.begin(pod)
    before = _pre_filter(scheduler.plugins, every, pod, cycle.cache.ordered())
    nodes = []
    for node in cycle.cache.ordered():
        deciding = diagnosis.verdicts.get(node.name)
        nodes.append(
            {
                "name": node.name,
                "fits": node.name in totals,
                "best": node.name in totals and totals[node.name] == highest,
                "verdicts": [
                    {
                        **_shown(plugin, verdict),
                        "decided": deciding is not None and deciding.plugin == plugin,
                    }
                    for plugin, verdict in _filter(scheduler.plugins, every, pod, node, before)
                ],
                "scores": [
                    {
                        "plugin": plugin,
                        "raw": scores.raw[node.name],
                        "normalized": scores.normalized[node.name],
                        "weight": scores.weight,
                        "weighted": scores.normalized[node.name] * scores.weight,
                    }
                    for plugin, scores in details.items()
                    if node.name in totals
                ],
                "total": totals.get(node.name),
            }
        )
    preemption = None
    if not fitting and nodes:
        outcome, candidates = scheduler.preemption.plan(state, pod, diagnosis)
        if not outcome.node:
            diagnosis.post_filter = f"preemption: {outcome.text}"
        preemption = {
            "text": outcome.text,
            "nodes": [
                {
                    "name": candidate.node,
                    "best": candidate.node == outcome.node,
                    "victims": [f"{one.namespace}/{one.name}" for one in candidate.victims],
                    "violations": candidate.violations,
                }
                for candidate in candidates
            ],
        }
    message = ""
    if not fitting:
        message = diagnosis.message(len(nodes)) if nodes else NO_NODES
    return {
        "preFilter": [_shown(name, verdict) for name, verdict in before.items()],
        "nodes": nodes,
        "message": message,
        "preemption": preemption,
    }


def _pre_filter(
    plugins: list[Plugin], state: State, pod: Object, nodes: list[NodeInfo]
) -> dict[str, Verdict | None]:
    """What each plugin says of the pod, all of them asked."""
    return {
        plugin.name: plugin.pre_filter(state, pod, nodes)
        for plugin in plugins
        if type(plugin).pre_filter is not Plugin.pre_filter
    }


def _filter(
    plugins: list[Plugin],
    state: State,
    pod: Object,
    node: NodeInfo,
    before: dict[str, Verdict | None],
) -> list[tuple[str, Verdict | None]]:
    """What each plugin says of the node; one that turned the pod down says the same of each."""
    said: list[tuple[str, Verdict | None]] = []
    for plugin in plugins:
        if type(plugin).filter is Plugin.filter:
            continue
        verdict = before.get(plugin.name)
        if verdict is None or verdict.code is Code.SUCCESS:
            verdict = plugin.filter(state, pod, node)
        said.append((plugin.name, verdict))
    return said


def _shown(plugin: str, verdict: Verdict | None) -> dict[str, Any]:
    code = Code.SUCCESS if verdict is None else verdict.code
    return {
        "plugin": plugin,
        "code": code.value,
        "reasons": list(verdict.reasons) if verdict is not None else [],
    }
