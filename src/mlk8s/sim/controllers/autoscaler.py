"""HorizontalPodAutoscalers: as many pods as keep their use of CPU or memory near a target.

Source of the rules: ``pkg/controller/podautoscaler/horizontal.go`` and ``replica_calculator.go``,
with the defaults of kube-controller-manager. Left out: metrics other than the utilization of a
resource, ``spec.behavior``, and guesses about pods that are not ready, which are not counted.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable

from mlk8s.sim.api import Api
from mlk8s.sim.controllers.base import Controller, find_condition
from mlk8s.sim.controllers.pods import PodIndex
from mlk8s.sim.events import Recorder
from mlk8s.sim.matching import Selector
from mlk8s.sim.quantity import value
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change

KEY = "horizontalpodautoscalers.autoscaling"
# --horizontal-pod-autoscaler-sync-period, -tolerance, -downscale-stabilization.
_PERIOD_S = 15.0
_TOLERANCE = 0.1
_STABLE_S = 300.0
# Scaled up at once by so much, or to twice as many (the default policies of scaling up).
_STEP = 4
_LIMITED = {
    "TooFewReplicas": "the desired replica count is less than the minimum replica count",
    "TooManyReplicas": "the desired replica count is more than the maximum replica count",
    "ScaleUpLimit": "the desired replica count is increasing faster than the maximum scale rate",
    "DesiredWithinRange": "the desired count is within the acceptable range",
}


class _NoMetric(Exception):
    """Why a metric cannot be had, in the controller's words."""


class Autoscalers(Controller):
    """The horizontal pod autoscaler.

    Args:
        api: the cluster.
        recorder: where its events go.
        pods: the facts of all pods.
        metrics: gives the ``PodMetrics`` of all pods that run.
    """

    name = "horizontal-pod-autoscaler"
    watch = (KEY,)

    def __init__(
        self,
        api: Api,
        recorder: Recorder,
        pods: PodIndex,
        metrics: Callable[[], list[Object]],
    ) -> None:
        super().__init__(api, recorder, pods)
        self._metrics = metrics
        # What was found before, by uid: (time, replicas), the oldest first.
        self._before: dict[str, deque[tuple[float, int]]] = {}

    def keys(self, change: Change) -> Iterable[Hashable]:
        """An autoscaler that is new or wants something else."""
        if change.key != KEY:
            return ()
        if change.type == "DELETED":
            self._before.pop(change.object["metadata"]["uid"], None)
            return ()
        same = change.old is not None and change.old["spec"] == change.object["spec"]
        return () if same else ((change.namespace, change.name),)

    def sync(self, namespace: str, name: str) -> None:
        """Look at what is used, and scale."""
        autoscaler = self.api.find(KEY, namespace, name)
        if autoscaler is None or "deletionTimestamp" in autoscaler["metadata"]:
            return
        self.enqueue((namespace, name), _PERIOD_S)
        status = copy.deepcopy(autoscaler.get("status") or {})
        self._scale(autoscaler, status)

        def put(found: Object) -> None:
            if found["metadata"]["uid"] == autoscaler["metadata"]["uid"]:
                found["status"] = status

        self.api.change(KEY, namespace, name, put, subresource="status")

    def _scale(self, autoscaler: Object, status: Object) -> None:
        namespace, spec = autoscaler["metadata"]["namespace"], autoscaler["spec"]
        reference = spec["scaleTargetRef"]
        resource = self.api.registry.of_kind(reference.get("apiVersion", ""), reference["kind"])
        target = None
        if resource is not None and "scale" in resource.subresources and not resource.custom:
            target = self.api.find(resource.key, namespace, reference["name"])
        if resource is None or target is None:
            text = (
                "the HPA controller was unable to get the target's current scale: "
                f'{reference["kind"].lower()}s "{reference["name"]}" not found'
            )
            self._put(status, "AbleToScale", "False", "FailedGetScale", text)
            return
        current = int(target["spec"].get("replicas", 1))
        status["currentReplicas"] = current
        least, most = spec.get("minReplicas", 1), spec["maxReplicas"]
        if current == 0:
            text = "scaling is disabled since the replica count of the target is zero"
            self._put(status, "ScalingActive", "False", "ScalingDisabled", text)
            status["desiredReplicas"] = 0
            return
        if current > most:
            wanted, reason = most, "Current number of replicas above Spec.MaxReplicas"
        elif current < least:
            wanted, reason = least, "Current number of replicas below Spec.MinReplicas"
        else:
            wanted, reason = self._proposed(autoscaler, target, current, status)
            wanted = self._limited(autoscaler, wanted, current, status)
        status["desiredReplicas"] = wanted
        if wanted == current:
            return

        def put(found: Object) -> None:
            found["spec"]["replicas"] = wanted

        self.api.change(resource.key, namespace, reference["name"], put)
        text = f"the HPA controller was able to update the target scale to {wanted}"
        self._put(status, "AbleToScale", "True", "SucceededRescale", text)
        status["lastScaleTime"] = self.api.timestamp()
        self.event(
            autoscaler, "Normal", "SuccessfulRescale", f"New size: {wanted}; reason: {reason}"
        )

    # -- how many ---------------------------------------------------------------------------------

    def _proposed(
        self, autoscaler: Object, target: Object, current: int, status: Object
    ) -> tuple[int, str]:
        """The replicas that the metrics ask for, the most of them, and why."""
        wanted, reason, found = 0, "All metrics below target", []
        for metric in autoscaler["spec"].get("metrics") or ():
            try:
                proposed, told = self._of_metric(metric, target, current)
            except _NoMetric as error:
                text = f"the HPA was unable to compute the replica count: {error}"
                kind = f"FailedGet{metric['type']}Metric"
                self._put(status, "ScalingActive", "False", kind, text)
                self.event(autoscaler, "Warning", kind, str(error))
                continue
            found.append(told)
            name = f"{metric['resource']['name']} resource utilization (percentage of request)"
            if proposed > wanted:
                wanted = proposed
                if proposed > current:
                    reason = f"{name} above target"
            text = f"the HPA was able to successfully calculate a replica count from {name}"
            self._put(status, "ScalingActive", "True", "ValidMetricFound", text)
        status["currentMetrics"] = found or None
        return (wanted if found else current), reason

    def _of_metric(self, metric: Object, target: Object, current: int) -> tuple[int, Object]:
        source = metric.get("resource") or {}
        percent = (source.get("target") or {}).get("averageUtilization")
        if not percent:
            raise _NoMetric("the simulated cluster knows the utilization of resources alone")
        name = source["name"]
        use, asked, count = self._use(name, target)
        utilization = math.floor(use * 100 / asked)
        told: Object = {
            "averageUtilization": utilization,
            "averageValue": _amount(name, use / count),
        }
        shown = {"type": "Resource", "resource": {"name": name, "current": told}}
        ratio = utilization / percent
        if abs(ratio - 1) <= _TOLERANCE:
            return current, shown
        return math.ceil(ratio * count), shown

    def _use(self, name: str, target: Object) -> tuple[float, float, int]:
        """What the ready pods of a target use and request together, and how many they are."""
        namespace = target["metadata"]["namespace"]
        failed = f"failed to get {name} utilization"
        ready = {
            each.name
            for each in self.pods.select(namespace, Selector(target["spec"].get("selector")))
            if each.active and each.ready
        }
        used = asked = 0.0
        count = 0
        for each in self._metrics():
            where = each["metadata"]
            if where["namespace"] != namespace or where["name"] not in ready:
                continue
            pod = self.api.find("pods", namespace, where["name"])
            for container in (pod or {"spec": {"containers": ()}})["spec"]["containers"]:
                request = ((container.get("resources") or {}).get("requests") or {}).get(name)
                if request is None:
                    raise _NoMetric(
                        f"{failed}: missing request for {name} in container {container['name']} of "
                        f"Pod {where['name']}"
                    )
                asked += float(value(str(request)))
            used += sum(float(value(part["usage"][name])) for part in each["containers"])
            count += 1
        if not count:
            raise _NoMetric(
                f"{failed}: did not receive metrics for targeted pods (pods might be unready)"
            )
        return used, asked, count

    def _limited(self, autoscaler: Object, wanted: int, current: int, status: Object) -> int:
        """Within bounds, up in steps, and down only when nothing asked for more for a while."""
        spec, uid = autoscaler["spec"], autoscaler["metadata"]["uid"]
        before = self._before.setdefault(uid, deque())
        before.append((self.now, wanted))
        while before[0][0] < self.now - _STABLE_S:
            before.popleft()
        stable = max(wanted, min(current, max(replicas for _, replicas in before)))
        if stable > wanted:
            text = (
                "recent recommendations were higher than current one, applying the highest recent "
                "recommendation"
            )
            self._put(status, "AbleToScale", "True", "ScaleDownStabilized", text)
        else:
            text = "recommended size matches current size"
            self._put(status, "AbleToScale", "True", "ReadyForNewScale", text)
        least, most = spec.get("minReplicas", 1), spec["maxReplicas"]
        step = max(2 * current, current + _STEP)
        found = min(max(stable, least), most, step)
        reason = "DesiredWithinRange"
        if stable < least:
            reason = "TooFewReplicas"
        elif found < stable:
            reason = "TooManyReplicas" if found == most else "ScaleUpLimit"
        limited = "False" if reason == "DesiredWithinRange" else "True"
        self._put(status, "ScalingLimited", limited, reason, _LIMITED[reason])
        return int(found)

    def _put(self, status: Object, type: str, value: str, reason: str, message: str) -> None:
        found = find_condition(status, type)
        if found is None:
            found = {"type": type, "status": ""}
            status["conditions"] = [*(status.get("conditions") or ()), found]
        if found["status"] != value:
            found["lastTransitionTime"] = self.api.timestamp()
        found |= {"status": value, "reason": reason, "message": message}


def _amount(name: str, each: float) -> str:
    return f"{math.ceil(each * 1000)}m" if name == "cpu" else str(math.ceil(each))
