"""Making room for a pod by deleting pods of lower priority.

``pkg/scheduler/framework/preemption`` and the plugin ``DefaultPreemption``: on each node where it
could help, as few and as unimportant victims as possible; of these nodes the one that hurts least.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from mlk8s.sim.api import Api
from mlk8s.sim.events import Recorder
from mlk8s.sim.matching import Selector
from mlk8s.sim.scheduler.cycle import Cycle, Diagnosis, summary
from mlk8s.sim.scheduler.framework import Code, NodeInfo, State, Verdict, clone_state
from mlk8s.sim.scheduler.podinfo import PodInfo
from mlk8s.sim.status import Object

PLUGIN = "DefaultPreemption"
_BUDGETS = "poddisruptionbudgets.policy"
_NO_VICTIMS = Verdict(Code.UNRESOLVABLE, ("No preemption victims found for incoming pod",), PLUGIN)
_NOT_HELPFUL = Verdict(Code.UNRESOLVABLE, ("Preemption is not helpful for scheduling",), PLUGIN)
# DefaultPreemptionArgs: how many nodes are tried at least, of all that could do.
_CANDIDATE_PERCENTAGE = 10
_CANDIDATES = 100
# Added to each priority so that no sum of few is above one of many (MaxInt32 + 1).
_ABOVE_ZERO = 2**31


@dataclass(frozen=True)
class Candidate:
    """A node, and who has to leave it.

    Attributes:
        node: its name.
        victims: the most important first.
        violations: how many of them a disruption budget protects.
    """

    node: str
    victims: tuple[PodInfo, ...]
    violations: int


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        node: where the pod is nominated; empty when nothing can be done; ``None`` when its
            nomination stays as it is.
        text: why not.
    """

    node: str | None
    text: str = ""


class Preemption:
    """Finds victims, and deletes them.

    Args:
        api: the cluster.
        recorder: tells victims why.
        cycle: answers whether a pod would fit.
        rng: where among many nodes to begin.
    """

    def __init__(self, api: Api, recorder: Recorder, cycle: Cycle, rng: random.Random) -> None:
        self._api = api
        self._recorder = recorder
        self._cycle = cycle
        self._random = rng

    def run(self, state: State, pod: Object, diagnosis: Diagnosis) -> Outcome:
        """Make room for a pod that fits nowhere, when that is possible and allowed."""
        outcome, candidates = self.plan(state, pod, diagnosis)
        if outcome.node:
            best = next(one for one in candidates if one.node == outcome.node)
            for victim in best.victims:
                if not victim.terminating:
                    self._evict(pod, victim, best.node)
            self._withdraw(state["pod"], best.node)
        return outcome

    def plan(
        self, state: State, pod: Object, diagnosis: Diagnosis
    ) -> tuple[Outcome, list[Candidate]]:
        """What :meth:`run` would come to, and among which nodes it would choose."""
        refusal = self._refusal(pod, state["pod"], diagnosis)
        if refusal:
            return Outcome(None, refusal), []
        candidates, verdicts = self.candidates(state, pod, diagnosis)
        if candidates:
            return Outcome(choose(candidates).node), candidates
        nodes = self._cycle.cache.nodes
        reasons = summary(verdicts.get(name, _NOT_HELPFUL) for name in nodes)
        return Outcome("", f"0/{len(nodes)} nodes are available: {reasons}."), []

    def _refusal(self, pod: Object, info: PodInfo, diagnosis: Diagnosis) -> str:
        """Why this pod may not preempt, if so (``PodEligibleToPreemptOthers``)."""
        if pod["spec"].get("preemptionPolicy") == "Never":
            return "not eligible due to preemptionPolicy=Never."
        nominated = (pod.get("status") or {}).get("nominatedNodeName")
        node = self._cycle.cache.nodes.get(nominated) if nominated else None
        if node is None:
            return ""
        verdict = diagnosis.verdicts.get(node.name)
        if verdict is not None and verdict.code is Code.UNRESOLVABLE:
            return ""
        for other in node.pods.values():
            if other.priority < info.priority and other.terminating and self._preempted(other):
                return "not eligible due to a terminating pod on the nominated node."
        return ""

    def _preempted(self, info: PodInfo) -> bool:
        pod = self._api.find("pods", info.namespace, info.name)
        return pod is not None and any(
            condition["type"] == "DisruptionTarget"
            and condition.get("reason") == "PreemptionByScheduler"
            for condition in (pod.get("status") or {}).get("conditions") or ()
        )

    def candidates(
        self, state: State, pod: Object, diagnosis: Diagnosis
    ) -> tuple[list[Candidate], dict[str, Verdict]]:
        """The nodes where preemption makes room, and why not of others that were tried."""
        nodes = self._cycle.cache.nodes
        info: PodInfo = state["pod"]
        potential = [
            nodes[name]
            for name, verdict in diagnosis.verdicts.items()
            if verdict.code is Code.UNSCHEDULABLE and name in nodes
        ]
        if not potential:
            return [], {}
        if not any(priority < info.priority for priority in self._cycle.cache.priorities):
            return [], {node.name: _NO_VICTIMS for node in potential}
        budgets = list(self._api.store.items(_BUDGETS))
        wanted = min(
            max(len(potential) * _CANDIDATE_PERCENTAGE // 100, _CANDIDATES), len(potential)
        )
        offset = self._random.randrange(len(potential))
        safe: list[Candidate] = []
        violating: list[Candidate] = []
        verdicts: dict[str, Verdict] = {}
        for index in range(len(potential)):
            node = potential[(offset + index) % len(potential)]
            found = self._victims(state, pod, node, budgets)
            if isinstance(found, Verdict):
                verdicts[node.name] = found
                continue
            (violating if found.violations else safe).append(found)
            if safe and len(safe) + len(violating) >= wanted:
                break
        return safe + violating, verdicts

    def _victims(
        self, state: State, pod: Object, node: NodeInfo, budgets: list[Object]
    ) -> Candidate | Verdict:
        """The fewest pods that have to leave a node (``SelectVictimsOnNode``)."""
        cycle = self._cycle
        info: PodInfo = state["pod"]
        lower = [other for other in node.pods.values() if other.priority < info.priority]
        if not lower:
            return _NO_VICTIMS
        node, state = node.clone(), clone_state(state)
        filters = cycle.filters(state)
        for other in lower:
            cycle.dismiss(state, pod, other, node)
        rejection = cycle.fits(state, pod, node, filters)
        if rejection is not None:
            return rejection
        lower.sort(key=importance)
        protected, others = _by_budgets(lower, budgets)
        victims: list[PodInfo] = []
        violations = 0
        for group in (protected, others):
            for other in group:
                # Reprieve it if the pod fits all the same.
                cycle.assume(state, pod, other, node)
                if cycle.fits(state, pod, node, filters) is not None:
                    cycle.dismiss(state, pod, other, node)
                    victims.append(other)
                    violations += group is protected
        victims.sort(key=importance)
        return Candidate(node.name, tuple(victims), violations)

    def _evict(self, preemptor: Object, victim: PodInfo, node: str) -> None:
        pod = self._api.find("pods", victim.namespace, victim.name)
        if pod is None or pod["metadata"]["uid"] != victim.uid:
            return
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": self._api.timestamp(),
            "reason": "PreemptionByScheduler",
            "message": f"{preemptor['spec']['schedulerName']}: preempting to accommodate a higher "
            "priority pod",
            "observedGeneration": pod["metadata"].get("generation", 1),
        }

        def mutate(obj: Object) -> None:
            conditions = obj.setdefault("status", {}).setdefault("conditions", [])
            conditions[:] = [one for one in conditions if one["type"] != condition["type"]]
            conditions.append(condition)

        self._api.change("pods", victim.namespace, victim.name, mutate, subresource="status")
        self._api.delete("pods", victim.namespace, victim.name)
        self._recorder.event(
            pod,
            "Normal",
            "Preempted",
            f"Preempted by pod {preemptor['metadata']['uid']} on node {node}",
            "default-scheduler",
            action="Preempting",
            series=True,
            related=preemptor,
        )

    def _withdraw(self, preemptor: PodInfo, node: str) -> None:
        """Take back the nominations of less important pods for the same node."""
        nominated = self._cycle.nominations.pods.get(node, {})
        for other in list(nominated.values()):
            if other.priority < preemptor.priority:
                self._api.change(
                    "pods",
                    other.namespace,
                    other.name,
                    lambda obj: obj.get("status", {}).pop("nominatedNodeName", None),
                    subresource="status",
                )


def importance(info: PodInfo) -> tuple[int, str]:
    """A key that sorts the most important pod first: by priority, then by age."""
    return -info.priority, info.started or "~"


def choose(candidates: list[Candidate]) -> Candidate:
    """The node that hurts least (``pickOneNodeForPreemption``); the first of equal ones."""
    left = candidates
    for criterion in (
        lambda candidate: candidate.violations,
        lambda candidate: candidate.victims[0].priority,
        lambda candidate: sum(victim.priority + _ABOVE_ZERO for victim in candidate.victims),
        lambda candidate: len(candidate.victims),
    ):
        lowest = min(criterion(candidate) for candidate in left)
        left = [candidate for candidate in left if criterion(candidate) == lowest]
        if len(left) == 1:
            return left[0]
    return max(left, key=lambda candidate: _earliest(candidate.victims))


def _earliest(victims: Iterable[PodInfo]) -> str:
    victims = list(victims)
    return min(
        victim.started or "~" for victim in victims if victim.priority == victims[0].priority
    )


def _by_budgets(pods: list[PodInfo], budgets: list[Object]) -> tuple[list[PodInfo], list[PodInfo]]:
    """Those whose deletion a disruption budget does not allow, and the others, in their order."""
    allowed = [(budget.get("status") or {}).get("disruptionsAllowed", 0) for budget in budgets]
    selectors = [Selector(budget["spec"].get("selector")) for budget in budgets]
    protected: list[PodInfo] = []
    others: list[PodInfo] = []
    for info in pods:
        violated = False
        for index, budget in enumerate(budgets):
            disrupted = (budget.get("status") or {}).get("disruptedPods") or {}
            if (
                not info.labels
                or budget["metadata"]["namespace"] != info.namespace
                or selectors[index].everything
                or not selectors[index].matches(info.labels)
                or info.name in disrupted
            ):
                continue
            allowed[index] -= 1
            violated = violated or allowed[index] < 0
        (protected if violated else others).append(info)
    return protected, others
