"""PodDisruptionBudgets: how many pods may be evicted now.

Source of the rules: pkg/controller/disruption/disruption.go and pkg/registry/core/pod/storage/
eviction.go.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from mlk8s.sim.api import Api
from mlk8s.sim.clock import seconds
from mlk8s.sim.controllers.base import Controller, find_condition, scaled
from mlk8s.sim.controllers.indexes import SelectorIndex
from mlk8s.sim.controllers.pods import PodFacts, PodIndex, controller_of
from mlk8s.sim.events import Recorder
from mlk8s.sim.matching import Selector
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

_BUDGETS = "poddisruptionbudgets.policy"
# An eviction that was allowed and did not delete its pod is forgotten after this long.
_EVICTION_S = 120.0
_SCALABLE = {
    "ReplicaSet": "replicasets.apps",
    "ReplicationController": "replicationcontrollers",
    "StatefulSet": "statefulsets.apps",
    "Deployment": "deployments.apps",
}


class DisruptionBudgets(Controller):
    """The disruption controller."""

    name = "controllermanager"
    watch = (_BUDGETS,)

    def __init__(self, api: Api, recorder: Recorder, pods: PodIndex) -> None:
        super().__init__(api, recorder, pods)
        self._selectors = SelectorIndex()

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The budget, or those that a pod counts for."""
        if change.key == _BUDGETS:
            gone = change.type == "DELETED"
            selector = None if gone else change.object["spec"].get("selector")
            self._selectors.put(change.namespace, change.name, selector)
            return () if gone else ((change.namespace, change.name),)
        if change.key != "pods":
            return ()
        return [(change.namespace, name) for name in self._selectors.touched(change)]

    def sync(self, namespace: str, name: str) -> None:
        """Count the pods and write how many may go."""
        budget = self.api.find(_BUDGETS, namespace, name)
        if budget is None:
            return
        pods = self.pods.select(namespace, Selector(budget["spec"].get("selector")))
        if not pods:
            self.event(budget, "Normal", "NoPods", "No matching pods found")
        expected, desired = self._targets(budget, pods)
        evicted = self._evicted(budget, pods)
        healthy = sum(
            pod.ready and not pod.deleting and not pod.finished and pod.name not in evicted
            for pod in pods
        )
        allowed = max(healthy - desired, 0) if expected > 0 else 0

        def mutate(found: Object) -> None:
            status = found.setdefault("status", {})
            status["expectedPods"], status["desiredHealthy"] = expected, desired
            status["currentHealthy"], status["disruptionsAllowed"] = healthy, allowed
            if evicted:
                status["disruptedPods"] = evicted
            else:
                status.pop("disruptedPods", None)
            status["observedGeneration"] = found["metadata"].get("generation", 1)
            note_allowed(found, self.api.timestamp())

        self.api.change(_BUDGETS, namespace, name, mutate, subresource="status")

    def _targets(self, budget: Object, pods: list[PodFacts]) -> tuple[int, int]:
        """How many pods there should be, and how many of them have to be healthy."""
        spec = budget["spec"]
        if (most := spec.get("maxUnavailable")) is not None:
            expected = self._scale(pods)
            return expected, max(expected - scaled(most, expected, round_up=True), 0)
        least = spec.get("minAvailable", 1)
        if isinstance(least, str):
            expected = self._scale(pods)
            return expected, scaled(least, expected, round_up=True)
        return len(pods), int(least)

    def _scale(self, pods: list[PodFacts]) -> int:
        """How many pods the controllers of these pods ask for; pods without one do not count."""
        owners: dict[str, int] = {}
        for pod in pods:
            if not pod.owner or pod.owner in owners:
                continue
            full = self.api.find("pods", pod.namespace, pod.name)
            owner = controller_of(full) if full is not None else None
            found = self._find(owner, pod.namespace)
            above = self._find(controller_of(found), pod.namespace) if found is not None else None
            found = above or found
            owners[pod.owner] = 0
            if found is not None:
                owners[pod.owner] = 0
                owners[found["metadata"]["uid"]] = found["spec"].get("replicas", 1)
        return sum(owners.values())

    def _find(self, reference: Object | None, namespace: str) -> Object | None:
        key = _SCALABLE.get(reference["kind"]) if reference else None
        if reference is None or key is None:
            return None
        return self.api.find(key, namespace, reference["name"])

    def _evicted(self, budget: Object, pods: list[PodFacts]) -> dict[str, str]:
        """The evictions that were allowed and have not been carried out yet."""
        told = (budget.get("status") or {}).get("disruptedPods") or {}
        by_name = {pod.name: pod for pod in pods}
        waiting = {}
        for name, moment in told.items():
            pod = by_name.get(name)
            left = seconds(moment) + _EVICTION_S - self.now
            if pod is None or pod.deleting or left <= 0:
                continue
            waiting[name] = moment
            metadata = budget["metadata"]
            self.enqueue((metadata["namespace"], metadata["name"]), left)
        return waiting


def note_allowed(budget: Object, moment: str) -> None:
    """Set the condition DisruptionAllowed from the budget's numbers."""
    status = budget["status"]
    enough = status["disruptionsAllowed"] > 0
    value, reason = ("True", "SufficientPods") if enough else ("False", "InsufficientPods")
    known = find_condition(status, "DisruptionAllowed")
    generation = budget["metadata"].get("generation", 1)
    if known is None:
        known = {"type": "DisruptionAllowed", "lastTransitionTime": moment, "message": ""}
        status.setdefault("conditions", []).append(known)
    elif known["status"] != value:
        known["lastTransitionTime"] = moment
    known |= {"status": value, "reason": reason, "observedGeneration": generation}


def may_evict(api: Api, pod: Object, dry_run: bool = False) -> None:
    """Allow an eviction, and count it against the pod's budget.

    Args:
        api: the cluster.
        pod: the pod.
        dry_run: decide, and count nothing.

    Raises:
        StatusError: 429 when the budget does not allow it, 500 when there are two budgets.
    """
    metadata, status = pod["metadata"], pod.get("status") or {}
    if status.get("phase", "Pending") != "Running" or "deletionTimestamp" in metadata:
        return
    labels = metadata.get("labels") or {}
    budgets = [
        budget
        for budget in api.store.items(_BUDGETS, metadata["namespace"])
        if Selector(budget["spec"].get("selector")).matches(labels)
    ]
    if not budgets:
        return
    if len(budgets) > 1:
        raise StatusError(
            500,
            "InternalError",
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does "
            "not support.",
        )
    budget = budgets[0]
    name, numbers = budget["metadata"]["name"], budget.get("status") or {}
    if numbers.get("observedGeneration", 0) < budget["metadata"].get("generation", 1):
        raise _refusal(f"The disruption budget {name} is still being processed by the server.", 10)
    healthy, desired = numbers.get("currentHealthy", 0), numbers.get("desiredHealthy", 0)
    condition = find_condition(status, "Ready")
    ready = condition is not None and condition["status"] == "True"
    always = budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow"
    if not ready and (always or (healthy >= desired and desired > 0)):
        return
    if numbers.get("disruptionsAllowed", 0) <= 0:
        raise _refusal(
            f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
        )
    if dry_run:
        return

    def mutate(found: Object) -> None:
        found["status"]["disruptionsAllowed"] -= 1
        found["status"].setdefault("disruptedPods", {})[metadata["name"]] = api.timestamp()
        note_allowed(found, api.timestamp())

    api.change(_BUDGETS, metadata["namespace"], name, mutate, subresource="status")


def _refusal(cause: str, retry_after: int = 0) -> StatusError:
    details: Object = {"causes": [{"reason": "DisruptionBudget", "message": cause}]}
    if retry_after:
        details["retryAfterSeconds"] = retry_after
    return StatusError(
        429,
        "TooManyRequests",
        "Cannot evict pod as it would violate the pod's disruption budget.",
        details,
    )
