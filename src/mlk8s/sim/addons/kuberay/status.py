"""What a RayCluster says of itself: counts, resources, head, conditions.

Source at v1.7.0: ``calculateStatus`` in
``ray-operator/controllers/ray/raycluster_controller.go``, and ``utils/util.go``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from mlk8s.sim import quantity
from mlk8s.sim.addons.kuberay import conditions, names, start
from mlk8s.sim.addons.objects import holds
from mlk8s.sim.controllers.base import find_condition, put
from mlk8s.sim.status import Object

HEAD_READY, PROVISIONED = "HeadPodReady", "RayClusterProvisioned"
FAILURE, SUSPENDING, SUSPENDED = "ReplicaFailure", "RayClusterSuspending", "RayClusterSuspended"
READY = "ready"
_MOST = 2**31 - 1


def desired(group: Object) -> int:
    """How many pods a group of workers is to have: its replicas, within its bounds."""
    if group.get("suspend"):
        return 0
    least, most = int(group["minReplicas"]), int(group["maxReplicas"])
    return max(least, min(int(group.get("replicas", 0)), most))


def calculate(
    cluster: Object, pods: list[Object], service: Object | None, failure: tuple[str, str], when: str
) -> Object:
    """The status that a cluster should have.

    Args:
        cluster: with its present status.
        pods: all of its pods.
        service: the one before its head, where it has been made.
        failure: reason and message of what went wrong with its pods; empty where nothing did. A
            message without a reason is no failure that a condition tells of.
        when: the present time as ``metav1.Time``.
    """
    spec = cluster["spec"]
    status: Object = copy.deepcopy(cluster.get("status") or {})
    _tell_failure(status, failure, when)
    status["observedGeneration"] = cluster["metadata"]["generation"]
    groups = spec.get("workerGroupSpecs") or []
    _count(status, groups, pods)
    _measure(status, spec, groups)
    if not failure[1] and len(pods) == sum(map(desired, groups)) + 1 and _all_run(pods):
        status["state"] = READY
        status.pop("reason", None)
    _say_conditions(status, spec, pods, when)
    if spec.get("suspend") and not pods:
        status["state"] = "suspended"
    _tell_head(status, pods, service)
    return status


def stamp(status: Object, before: Object, when: str) -> bool:
    """Put the times into a status that is to be stored; says whether anything else is new."""
    untimed = ("lastUpdateTime", "observedGeneration", "stateTransitionTimes")
    if _without(status, untimed) == _without(before, untimed):
        return False
    status["lastUpdateTime"] = when
    state = status.get("state")
    if state and state != before.get("state"):
        status["stateTransitionTimes"] = {**(status.get("stateTransitionTimes") or {}), state: when}
    return True


def _without(status: Object, left_out: Iterable[str]) -> Object:
    return {key: each for key, each in status.items() if key not in left_out}


def _tell_failure(status: Object, failure: tuple[str, str], when: str) -> None:
    reason, message = failure
    if reason:
        conditions.put(status, FAILURE, "True", reason, message, when)
    elif not message and "conditions" in status:
        status["conditions"] = [each for each in status["conditions"] if each["type"] != FAILURE]


def _count(status: Object, groups: list[Object], pods: list[Object]) -> None:
    workers = [each for each in pods if _type(each) == names.WORKER]
    awake = [each for each in groups if not each.get("suspend")]
    put(
        status,
        readyWorkerReplicas=sum(_runs(each) and _is_ready(each) for each in workers),
        availableWorkerReplicas=sum(_runs(each) for each in workers),
        desiredWorkerReplicas=sum(map(desired, groups)),
        minWorkerReplicas=sum(each["minReplicas"] for each in awake),
        maxWorkerReplicas=min(_MOST, sum(each["maxReplicas"] for each in awake)),
    )


def _measure(status: Object, spec: Object, groups: list[Object]) -> None:
    """What all pods ask for together; of each group its replicas count as they stand there."""
    total: dict[str, tuple[Fraction, str]] = {}
    counted = [(spec["headGroupSpec"], 1)]
    counted += [(each, each.get("replicas", 0)) for each in groups if not each.get("suspend")]
    for group, times in counted:
        for container in group["template"]["spec"]["containers"]:
            resources = container.get("resources") or {}
            asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
            for name, text in asked.items():
                known, like = total.get(name, (Fraction(0), str(text)))
                total[name] = (known + times * quantity.value(str(text)), like)
    gpus = sum((amount for name, (amount, _) in total.items() if start.is_gpu(name)), Fraction(0))
    nothing = (Fraction(0), "")
    for field, name in (
        ("desiredCPU", "cpu"),
        ("desiredMemory", "memory"),
        ("desiredTPU", "google.com/tpu"),
    ):
        status[field] = quantity.of(*total.get(name, nothing))
    status["desiredGPU"] = quantity.of(gpus)


def _say_conditions(status: Object, spec: Object, pods: list[Object], when: str) -> None:
    def say(type: str, value: bool, reason: str, message: str = "") -> None:
        conditions.put(status, type, "True" if value else "False", reason, message, when)

    head = next((each for each in pods if _type(each) == names.HEAD), None)
    if head is None:
        say(HEAD_READY, False, "HeadPodNotFound", "Head Pod not found")
    else:
        conditions.put(status, HEAD_READY, *_head_ready(head), when)
    suspended, suspending = holds(status, SUSPENDED), holds(status, SUSPENDING)
    if not holds(status, PROVISIONED) and not suspended:
        if _all_run(pods):
            text = "All Ray Pods are ready for the first time"
            say(PROVISIONED, True, "AllPodRunningAndReadyFirstTime", text)
        else:
            text = "RayCluster Pods are being provisioned for first time"
            say(PROVISIONED, False, "RayClusterPodsProvisioning", text)
    wanted = bool(spec.get("suspend"))
    if suspending:
        if not pods:
            text = "RayCluster has been suspended"
            say(PROVISIONED, False, "RayClusterPodsProvisioning", text)
            say(SUSPENDING, False, SUSPENDING)
            say(SUSPENDED, True, SUSPENDED)
    elif suspended:
        if "suspend" in spec and not wanted:
            say(SUSPENDED, False, SUSPENDED)
    else:
        say(SUSPENDED, False, SUSPENDED)
        say(SUSPENDING, wanted, SUSPENDING)


def _head_ready(pod: Object) -> tuple[str, str, str]:
    """Value, reason and message of the condition, from what the head's pod says."""
    said = pod.get("status") or {}
    found = find_condition(said, "Ready")
    if found is None:
        return "False", "Unknown", ""
    value, message = str(found["status"]), str(found.get("message", ""))
    reason = found.get("reason") or ("HeadPodRunningAndReady" if value == "True" else "Unknown")
    if reason == "ContainersNotReady":
        for each in said.get("containerStatuses") or ():
            state: Any = each["state"].get("waiting") or each["state"].get("terminated")
            if state:
                reason = state.get("reason", reason)
                more = f"{each['name']}: {state.get('message', '')}"
                message = f"{message}; {more}" if message else more
                break
    return value, str(reason), message


def _tell_head(status: Object, pods: list[Object], service: Object | None) -> None:
    head: Object = {}
    pod = next((each for each in pods if _type(each) == names.HEAD), None)
    address = ((pod or {}).get("status") or {}).get("podIP", "")
    if pod is not None:
        head |= {"podName": pod["metadata"]["name"]} | ({"podIP": address} if address else {})
    if service is not None:
        head["serviceName"] = service["metadata"]["name"]
        own = service["spec"].get("clusterIP", "None")
        if found := address if own == "None" else own:
            head["serviceIP"] = found
        status["endpoints"] = {
            each["name"]: str(each.get("nodePort") or each["targetPort"])
            for each in service["spec"]["ports"]
        }
    status["head"] = head


def _all_run(pods: list[Object]) -> bool:
    return bool(pods) and all(_runs(each) and _is_ready(each) for each in pods)


def _runs(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") == "Running"


def _is_ready(pod: Object) -> bool:
    return holds(pod.get("status") or {}, "Ready")


def _type(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get(names.NODE_TYPE, ""))
