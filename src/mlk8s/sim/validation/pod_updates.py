"""Validation of changes of pods: most of a spec stays as it was created.

After ``ValidatePodUpdate`` and ``ValidatePodStatusUpdate`` in
``pkg/apis/core/validation/validation.go``.
"""

from __future__ import annotations

import copy

from mlk8s.sim.status import FieldError, Object, forbidden, invalid, required
from mlk8s.sim.validation import gotypes, pods, rules, scheduling

_KINDS = ("initContainers", "containers")
_CHANGEABLE = ",".join(
    (
        "`spec.containers[*].image`",
        "`spec.initContainers[*].image`",
        "`spec.activeDeadlineSeconds`",
        "`spec.tolerations` (only additions to existing tolerations)",
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously "
        "negative)",
    )
)
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def on_update(pod: Object, old: Object) -> list[FieldError]:
    """Errors in a change of a pod's spec."""
    new, before = pod["spec"], old["spec"]
    if new == before:
        return []
    errors = pods.own(new)
    for kind in ("containers", "initContainers"):
        if len(new.get(kind) or ()) != len(before.get(kind) or ()):
            text = "pod updates may not add or remove containers"
            return [*errors, forbidden(f"spec.{kind}", text)]
        for index, container in enumerate(new.get(kind) or ()):
            if not container.get("image"):
                errors.append(required(f"spec.{kind}[{index}].image"))
    where = "spec.activeDeadlineSeconds"
    deadline, previous = new.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    if deadline is not None:
        if not 0 <= deadline <= rules.MAX_INT32:
            text = rules.in_range(0, rules.MAX_INT32)
            return [*errors, invalid(where, deadline, text)]
        if previous is not None and previous < deadline:
            text = "must be less than or equal to previous value"
            return [*errors, invalid(where, deadline, text)]
    elif previous is not None:
        text = "must not update from a positive integer to nil value"
        errors.append(invalid(where, None, text))
    errors += _added_tolerations(new.get("tolerations") or [], before.get("tolerations") or [])
    errors += _removed_gates(new.get("schedulingGates") or [], before.get("schedulingGates") or [])
    munged = _munged(new, before)
    if before.get("schedulingGates"):
        errors += _gated(munged, before)
    if munged != before:
        changes = gotypes.diff("PodSpec", before, munged)
        text = f"pod updates may not change fields other than {_CHANGEABLE}\n{changes}"
        errors.append(forbidden("spec", text))
    return errors


def _munged(new: Object, before: Object) -> Object:
    """The new spec with all that may change set back to what it was."""
    munged = copy.deepcopy(new)
    for kind in _KINDS:
        for container, was in zip(munged.get(kind) or (), before.get(kind) or (), strict=True):
            container["image"] = was.get("image", "")
    names = ["activeDeadlineSeconds", "schedulingGates", "tolerations"]
    if (
        before.get("terminationGracePeriodSeconds", 0) < 0
        and munged.get("terminationGracePeriodSeconds") == 1
    ):
        names.append("terminationGracePeriodSeconds")
    for name in names:
        if name in before:
            munged[name] = copy.deepcopy(before[name])
        else:
            munged.pop(name, None)
    # An empty list or map is the same as none.
    for name in [name for name, value in munged.items() if value in ([], {})]:
        if name not in before:
            del munged[name]
    return munged


def _added_tolerations(new: list[Object], old: list[Object]) -> list[FieldError]:
    def key(toleration: Object) -> Object:
        return {name: value for name, value in toleration.items() if name != "tolerationSeconds"}

    kept = [key(toleration) for toleration in new]
    if any(key(toleration) not in kept for toleration in old):
        text = "existing toleration can not be modified except its tolerationSeconds"
        return [forbidden("spec.tolerations", text)]
    return scheduling.tolerations("spec.tolerations", new)


def _removed_gates(new: list[Object], old: list[Object]) -> list[FieldError]:
    known = {gate["name"] for gate in old}
    return [
        forbidden(
            f"spec.schedulingGates[{index}].name",
            f"only deletion is allowed, but found new scheduling gate '{gate['name']}'",
        )
        for index, gate in enumerate(new)
        if gate["name"] not in known
    ]


def _gated(munged: Object, before: Object) -> list[FieldError]:
    """What may be narrowed while scheduling gates hold a pod; sets it back in ``munged``."""
    errors: list[FieldError] = []
    selector, was = munged.get("nodeSelector") or {}, before.get("nodeSelector") or {}
    if any(selector.get(key) != value for key, value in was.items()):
        text = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        errors.append(invalid("spec.nodeSelector", selector, text))
    _set_back(munged, before, "nodeSelector")
    affinity = munged.get("affinity") or {}
    node, node_was = (spec.get("affinity", {}).get("nodeAffinity") for spec in (munged, before))
    if node != node_was:
        errors += _narrowed(node or {}, node_was or {})
        affinity = {name: value for name, value in affinity.items() if name != "nodeAffinity"}
        if node_was is not None:
            affinity["nodeAffinity"] = node_was
        if affinity or "affinity" in before:
            munged["affinity"] = affinity
        else:
            munged.pop("affinity", None)
    return errors


def _set_back(munged: Object, before: Object, name: str) -> None:
    if name in before:
        munged[name] = before[name]
    else:
        munged.pop(name, None)


def _narrowed(node: Object, was: Object) -> list[FieldError]:
    old_terms = (was.get(_REQUIRED) or {}).get("nodeSelectorTerms") or []
    terms = (node.get(_REQUIRED) or {}).get("nodeSelectorTerms") or []
    path = f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms"
    if not old_terms:
        return []
    if len(old_terms) != len(terms):
        text = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        shown = [gotypes.structure("NodeSelectorTerm", term) for term in terms]
        return [gotypes.invalid(path, shown or None, text)]
    errors: list[FieldError] = []
    for index, (term, old) in enumerate(zip(terms, old_terms, strict=True)):
        had = [old.get(part) or [] for part in ("matchExpressions", "matchFields")]
        has = [term.get(part) or [] for part in ("matchExpressions", "matchFields")]
        extended = all(now[: len(then)] == then for now, then in zip(has, had, strict=True))
        if not extended or (not any(had) and any(has)):
            text = "only additions are allowed (no mutations or deletions)"
            shown_term = gotypes.structure("NodeSelectorTerm", term)
            errors.append(gotypes.invalid(f"{path}[{index}]", shown_term, text))
    return errors


def on_status(pod: Object, old: Object) -> list[FieldError]:
    """Errors in a change of a pod's status."""
    errors: list[FieldError] = []
    status, before = pod.get("status") or {}, old.get("status") or {}
    nominated = status.get("nominatedNodeName")
    if nominated and nominated != before.get("nominatedNodeName"):
        errors += rules.each("status.nominatedNodeName", nominated, rules.dns_subdomain)
    if status.get("qosClass", "") != before.get("qosClass", ""):
        shown = status.get("qosClass", "")
        errors.append(invalid("status.qosClass", shown, rules.IMMUTABLE))
    policy = old["spec"].get("restartPolicy")
    sidecars = {
        container["name"]
        for container in old["spec"].get("initContainers") or ()
        if container.get("restartPolicy") == "Always"
    }
    for part in ("containerStatuses", "initContainerStatuses"):
        now = {one["name"]: one for one in status.get(part) or ()}
        for index, one in enumerate(before.get(part) or ()):
            ended = (one.get("state") or {}).get("terminated")
            if policy == "Always" or not ended or one["name"] in sidecars:
                continue
            if ended.get("exitCode") and policy == "OnFailure":
                continue
            later = now.get(one["name"])
            if later is not None and not (later.get("state") or {}).get("terminated"):
                where = f"status.{part}[{index}].state"
                text = "may not be transitioned to non-terminated state"
                errors.append(forbidden(where, text))
    return errors
