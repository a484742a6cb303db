"""One scheduling cycle: which nodes can take a pod, and which of them is best.

Nothing is written here; ``pkg/scheduler/schedule_one.go`` and ``framework/runtime``.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from mlk8s.sim.scheduler.cache import Cache
from mlk8s.sim.scheduler.framework import (
    Code,
    NodeInfo,
    Plugin,
    State,
    Verdict,
    clone_state,
)
from mlk8s.sim.scheduler.podinfo import PodInfo
from mlk8s.sim.status import Object

# schedule_one.go: up to here every node is looked at, and never fewer than this are found.
_FEW = 100
_LOWEST_PERCENTAGE = 5
_Filter = tuple[str, Callable[[State, Object, NodeInfo], Verdict | None]]


@dataclass
class Diagnosis:
    """Why a pod fits nowhere.

    Attributes:
        verdicts: the first rejection of each node, by name.
        pre_filter: what turned the pod down before any node was looked at.
        plugins: the names of all that turned it down.
        post_filter: what was tried to make room, as text.
    """

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    pre_filter: Verdict | None = None
    plugins: set[str] = field(default_factory=set)
    post_filter: str = ""

    def message(self, nodes: int) -> str:
        """``0/4 nodes are available: …`` as ``FitError.Error`` words it."""
        text = f"0/{nodes} nodes are available:"
        if self.pre_filter is not None:
            if self.pre_filter.message:
                text += f" {self.pre_filter.message}."
        elif reasons := summary(self.verdicts.values()):
            text += f" {reasons}."
        return f"{text} {self.post_filter}" if self.post_filter else text


def summary(verdicts: Iterable[Verdict]) -> str:
    """Each reason with how many nodes have it, in the order of the text."""
    counts = Counter(reason for verdict in verdicts for reason in verdict.reasons)
    return ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))


@dataclass
class Nominations:
    """Pods that wait on a node for their victims to go, by node and uid."""

    pods: dict[str, dict[str, PodInfo]] = field(default_factory=dict)
    _where: dict[str, str] = field(default_factory=dict)

    def set(self, info: PodInfo, node: str) -> None:
        """Nominate a pod for a node; an empty name takes it back."""
        previous = self._where.pop(info.uid, None)
        if previous is not None:
            del self.pods[previous][info.uid]
            if not self.pods[previous]:
                del self.pods[previous]
        if node:
            self._where[info.uid] = node
            self.pods.setdefault(node, {})[info.uid] = info

    def of(self, info: PodInfo) -> str:
        """The node that a pod is nominated for, or nothing."""
        return self._where.get(info.uid, "")


@dataclass
class Scores:
    """One plugin's scores, by node.

    Attributes:
        raw: as the plugin gave them.
        normalized: from 0 to 100.
        weight: what they count in the total.
    """

    raw: dict[str, int]
    normalized: dict[str, int]
    weight: int


class Cycle:
    """The plugins, and how they are asked.

    Args:
        plugins: in the order of the profile.
        cache: the cluster.
        nominations: pods to be reckoned with although they are on no node yet.
        rng: chooses among equal nodes.
    """

    def __init__(
        self,
        plugins: list[Plugin],
        cache: Cache,
        nominations: Nominations,
        rng: random.Random,
    ) -> None:
        self.plugins = plugins
        self.cache = cache
        self.nominations = nominations
        self._random = rng
        self._start = 0
        self._filtering = _overriding(plugins, "filter")
        self._preparing = _overriding(plugins, "pre_filter")
        self._updating = _overriding(plugins, "add_pod")
        self._scoring = [plugin for plugin in plugins if plugin.weight]

    def begin(self, pod: Object) -> State:
        """The state of a new cycle."""
        return {"pod": PodInfo(pod), "skip": set()}

    def pre_filter(self, state: State, pod: Object) -> tuple[Diagnosis, list[NodeInfo]]:
        """Ask all plugins about the pod; gives the nodes that are left to look at."""
        diagnosis = Diagnosis()
        nodes = self.cache.ordered()
        allowed: frozenset[str] | None = None
        narrowing = []
        for plugin in self._preparing:
            verdict = plugin.pre_filter(state, pod, nodes)
            if verdict is None:
                continue
            if verdict.code is Code.SKIP:
                state["skip"].add(plugin.name)
            elif verdict.rejected:
                verdict = _named(verdict, plugin.name)
                diagnosis.pre_filter = verdict
                diagnosis.plugins.add(plugin.name)
                diagnosis.verdicts = dict.fromkeys(self.cache.nodes, verdict)
                return diagnosis, []
            elif verdict.nodes is not None:
                allowed = verdict.nodes if allowed is None else allowed & verdict.nodes
                narrowing.append(plugin.name)
        if allowed is None:
            return diagnosis, nodes
        listed = f"[{' '.join(sorted(narrowing))}]"
        diagnosis.plugins.update(narrowing)
        if not allowed:
            diagnosis.pre_filter = Verdict(
                Code.UNRESOLVABLE, (f"node(s) didn't satisfy plugin(s) {listed} simultaneously",)
            )
            diagnosis.verdicts = dict.fromkeys(self.cache.nodes, diagnosis.pre_filter)
            return diagnosis, []
        state["elsewhere"] = Verdict(
            Code.UNRESOLVABLE, (f"node(s) didn't satisfy plugin(s) {listed}",), narrowing[0]
        )
        known = self.cache.nodes
        return diagnosis, [known[name] for name in sorted(allowed) if name in known]

    def filters(self, state: State) -> list[_Filter]:
        """The filters, by plugin, of those that have something to say about the pod."""
        skip = state["skip"]
        return [
            (plugin.name, plugin.filter) for plugin in self._filtering if plugin.name not in skip
        ]

    def fits(
        self, state: State, pod: Object, node: NodeInfo, filters: list[_Filter]
    ) -> Verdict | None:
        """The first rejection; also with the pods nominated for the node in place."""
        if node.name in self.nominations.pods:
            rejection = self._with_nominated(state, pod, node, filters)
            if rejection is not None:
                return rejection
        for name, check in filters:
            verdict = check(state, pod, node)
            if verdict is not None:
                return _named(verdict, name)
        return None

    def _with_nominated(
        self, state: State, pod: Object, node: NodeInfo, filters: list[_Filter]
    ) -> Verdict | None:
        info: PodInfo = state["pod"]
        others = [
            other
            for other in self.nominations.pods[node.name].values()
            if other.priority >= info.priority and other.uid != info.uid
        ]
        if not others:
            return None
        state, node = clone_state(state), node.clone()
        for other in others:
            self.assume(state, pod, other, node)
        for name, check in filters:
            verdict = check(state, pod, node)
            if verdict is not None:
                return _named(verdict, name)
        return None

    def assume(self, state: State, pod: Object, other: PodInfo, node: NodeInfo) -> None:
        """Put another pod on a copied node, in a copied state."""
        node.add_pod(other)
        for plugin in self._updating:
            if plugin.name not in state["skip"]:
                plugin.add_pod(state, pod, other, node)

    def dismiss(self, state: State, pod: Object, other: PodInfo, node: NodeInfo) -> None:
        """Take another pod from a copied node, in a copied state."""
        node.remove_pod(other.uid)
        for plugin in self._updating:
            if plugin.name not in state["skip"]:
                plugin.remove_pod(state, pod, other, node)

    def feasible(
        self, state: State, pod: Object, everywhere: bool = False
    ) -> tuple[list[NodeInfo], Diagnosis]:
        """The nodes that can take the pod, and why others cannot.

        Args:
            state: of this cycle.
            pod: the pod.
            everywhere: do not stop at enough nodes, nor at the one it is nominated for.
        """
        diagnosis, nodes = self.pre_filter(state, pod)
        if diagnosis.pre_filter is not None:
            return [], diagnosis
        filters = self.filters(state)
        nominated = self.cache.nodes.get(self.nominations.of(state["pod"]))
        if (
            nominated is not None
            and not everywhere
            and self.fits(state, pod, nominated, filters) is None
        ):
            return [nominated], diagnosis
        found: list[NodeInfo] = []
        verdicts = diagnosis.verdicts
        count = len(nodes)
        wanted = count + 1 if everywhere else _enough(count)
        fits, watched = self.fits, self.nominations.pods
        for offset in range(count):
            node = nodes[(self._start + offset) % count]
            if node.name in watched:
                verdict = fits(state, pod, node, filters)
            else:
                # The same as fits, without a call for each of thousands of nodes.
                verdict = None
                for name, check in filters:
                    verdict = check(state, pod, node)
                    if verdict is not None:
                        verdict = _named(verdict, name)
                        break
            if verdict is not None:
                verdicts[node.name] = verdict
                continue
            found.append(node)
            if len(found) >= wanted:
                break
        if not everywhere:
            self._start = (self._start + len(found) + len(verdicts)) % len(self.cache.nodes)
        if not found and "elsewhere" in state:
            elsewhere: Verdict = state["elsewhere"]
            diagnosis.verdicts = {**dict.fromkeys(self.cache.nodes, elsewhere), **verdicts}
        diagnosis.plugins.update(verdict.plugin for verdict in verdicts.values())
        return found, diagnosis

    def scores(
        self, state: State, pod: Object, nodes: list[NodeInfo]
    ) -> tuple[dict[str, int], dict[str, Scores]]:
        """The total of each node, and what it is made of, by plugin."""
        totals = {node.name: 0 for node in nodes}
        details: dict[str, Scores] = {}
        for plugin in self._scoring:
            if plugin.name in state["skip"] and type(plugin).pre_score is Plugin.pre_score:
                continue
            verdict = plugin.pre_score(state, pod, nodes)
            if verdict is not None and verdict.code is Code.SKIP:
                continue
            score = plugin.score
            raw = {node.name: score(state, pod, node) for node in nodes}
            scores = dict(raw)
            plugin.normalize(state, pod, scores)
            weight = plugin.weight
            for name, normalized in scores.items():
                totals[name] += normalized * weight
            details[plugin.name] = Scores(raw, scores, weight)
        return totals, details

    def pick(self, state: State, pod: Object, nodes: list[NodeInfo]) -> NodeInfo:
        """The best node; one of the best at random."""
        if len(nodes) == 1:
            return nodes[0]
        totals, _ = self.scores(state, pod, nodes)
        highest = max(totals.values())
        best = [node for node in nodes if totals[node.name] == highest]
        return best[0] if len(best) == 1 else self._random.choice(best)

    def post_filter(self, state: State, pod: Object, verdicts: Mapping[str, Verdict]) -> list[str]:
        """What plugins say that they did to make room; preemption comes after it."""
        texts = (plugin.post_filter(state, pod, verdicts) for plugin in self.plugins)
        return [text for text in texts if text is not None]


def _enough(nodes: int) -> int:
    """``numFeasibleNodesToFind``: half of them, less of many, never fewer than 100."""
    if nodes < _FEW:
        return max(nodes, 1)
    percentage = max(50 - nodes // 125, _LOWEST_PERCENTAGE)
    return max(nodes * percentage // 100, _FEW)


def _named(verdict: Verdict, plugin: str) -> Verdict:
    return verdict if verdict.plugin else replace(verdict, plugin=plugin)


def _overriding(plugins: list[Plugin], method: str) -> list[Plugin]:
    return [
        plugin for plugin in plugins if getattr(type(plugin), method) is not getattr(Plugin, method)
    ]
