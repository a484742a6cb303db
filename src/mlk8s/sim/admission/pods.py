"""Admission of pods: priority, default tolerations and what a RuntimeClass adds.

After ``plugin/pkg/admission/{priority,defaulttolerationseconds}`` and
``plugin/pkg/admission/runtimeclass``.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import orjson

from mlk8s.sim.admission.errors import refused
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object
from mlk8s.sim.validation.policy import SYSTEM_PRIORITIES

if TYPE_CHECKING:
    from mlk8s.sim.api import Api

_CLASSES = "priorityclasses.scheduling.k8s.io"
_RUNTIMES = "runtimeclasses.node.k8s.io"
_PREEMPT = "PreemptLowerPriority"
# Seconds that a pod stays on a node that has become unreachable or not ready.
_TOLERATION_SECONDS = 300
_TOLERATED = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def tolerate(pod: Object) -> None:
    """DefaultTolerationSeconds: a node may fail for a while before its pods are evicted."""
    found = pod["spec"].get("tolerations") or []
    for key in _TOLERATED:
        covered = any(
            toleration.get("key", "") in ("", key)
            and toleration.get("effect", "") in ("", "NoExecute")
            for toleration in found
        )
        if not covered:
            found.append(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": _TOLERATION_SECONDS,
                }
            )
    pod["spec"]["tolerations"] = found


def prioritize(resource: Resource, pod: Object, api: Api) -> None:
    """Priority: the class's value, and whether it may preempt.

    Raises:
        StatusError: 403, there is no such class, or the pod names another value itself.
    """
    spec = pod["spec"]
    name = spec.get("priorityClassName")
    if name:
        found = api.store.get(_CLASSES, "", name)
        if found is None and name in SYSTEM_PRIORITIES:
            found = {"value": SYSTEM_PRIORITIES[name]}
        if found is None:
            raise refused(resource, pod, f"no PriorityClass with name {name} was found")
    else:
        found = default_class(api) or {}
        if found:
            spec["priorityClassName"] = found["metadata"]["name"]
    value, policy = found.get("value", 0), found.get("preemptionPolicy", _PREEMPT)
    for field, wanted, begin in (
        ("priority", value, "the integer value of priority"),
        ("preemptionPolicy", policy, "the string value of PreemptionPolicy"),
    ):
        given = spec.get(field)
        if given is not None and given != wanted:
            text = (
                f"{begin} ({given}) must not be provided in pod spec; priority admission "
                f"controller computed {wanted} from the given PriorityClass name"
            )
            raise refused(resource, pod, text)
        spec[field] = wanted


def default_class(api: Api) -> Object | None:
    """The PriorityClass of pods that name none; the lowest, should there be several."""
    found: Object | None = None
    for raw in api.store.raws(_CLASSES):
        if b'"globalDefault":true' in raw:
            one: Object = orjson.loads(raw)
            if found is None or one["value"] < found["value"]:
                found = one
    return found


def one_default_class(op: str, resource: Resource, obj: Object, api: Api) -> None:
    """Refuse a second PriorityClass for pods that name none.

    Raises:
        StatusError: 403.
    """
    if not obj.get("globalDefault"):
        return
    found = default_class(api)
    if found is None or (op == "UPDATE" and found["metadata"]["name"] == obj["metadata"]["name"]):
        return
    name = found["metadata"]["name"]
    text = f"PriorityClass {name} is already marked as default. Only one default can exist"
    raise refused(resource, obj, text)


def add_runtime(resource: Resource, pod: Object, api: Api) -> None:
    """RuntimeClass: its overhead, node selector and tolerations.

    Raises:
        StatusError: 403, there is no such class, or the pod contradicts it.
    """
    spec = pod["spec"]
    name = spec.get("runtimeClassName")
    if not name:
        if spec.get("overhead"):
            text = (
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            )
            raise refused(resource, pod, text)
        return
    found = api.store.get(_RUNTIMES, "", name)
    if found is None:
        raise refused(resource, pod, f'pod rejected: RuntimeClass "{name}" not found')
    overhead = (found.get("overhead") or {}).get("podFixed")
    given = spec.get("overhead")
    if given and given != overhead:
        what = "does not match" if overhead else "set without corresponding"
        tail = "RuntimeClass's defined Overhead" if overhead else "RuntimeClass defined Overhead"
        begin = "Pod's Overhead doesn't match" if overhead else f"Pod Overhead {what}"
        raise refused(resource, pod, f"pod rejected: {begin} {tail}")
    if overhead:
        spec["overhead"] = dict(overhead)
    placing = found.get("scheduling") or {}
    for key, value in (placing.get("nodeSelector") or {}).items():
        selector = spec.setdefault("nodeSelector", {})
        if selector.get(key, value) != value:
            text = (
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                f"pod.spec.nodeSelector[{key}] = {selector[key]}"
            )
            raise refused(resource, pod, text)
        selector[key] = value
    tolerations = spec.setdefault("tolerations", [])
    for toleration in placing.get("tolerations") or ():
        if toleration not in tolerations:
            tolerations.append(copy.deepcopy(toleration))
    if not tolerations:
        del spec["tolerations"]
