"""Validation of what limits and orders others: quotas, limit ranges, priorities, budgets.

ResourceQuota, LimitRange, PriorityClass, PodDisruptionBudget, RuntimeClass, StorageClass, Lease
and HorizontalPodAutoscaler.
"""

from __future__ import annotations

from mlk8s.sim import quantity
from mlk8s.sim.status import FieldError, Object, duplicate, forbidden, invalid, required
from mlk8s.sim.validation import gotypes, resources, rules, scheduling

SCOPES = (
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
)
_COMPUTE = {
    f"{prefix}{name}"
    for prefix in ("", "requests.", "limits.")
    for name in ("cpu", "memory", "ephemeral-storage")
}
_SCOPED = {
    "BestEffort": {"pods"},
    "VolumeAttributesClass": {"persistentvolumeclaims", "requests.storage"},
}
_CONFLICTS = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
# Above it only classes whose name begins with system- may be.
MAX_USER_PRIORITY = 1_000_000_000
SYSTEM_PRIORITIES = {
    "system-node-critical": 2_000_001_000,
    "system-cluster-critical": 2_000_000_000,
}


def quota(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a ResourceQuota."""
    spec = obj.get("spec") or {}
    hard = spec.get("hard") or {}
    errors = resources.amounts("spec.hard", hard, resources.quota_name)
    scopes = spec.get("scopes") or []
    for scope in scopes:
        if scope not in SCOPES:
            errors.append(invalid("spec.scopes", scopes, "unsupported scope"))
        for name in sorted(hard):
            if not _scope_fits(scope, name):
                text = "unsupported scope applied to resource"
                errors.append(invalid("spec.scopes", scopes, text))
    errors += _conflicts(scopes, spec)
    if (selector := spec.get("scopeSelector")) is not None:
        errors += _scope_selector(selector, hard, spec)
    if old is not None:
        before = (old.get("spec") or {}).get("scopes") or []
        if set(before) != set(scopes):
            errors.append(invalid("spec.scopes", scopes or None, rules.IMMUTABLE))
    return errors


def _scope_fits(scope: str, name: str) -> bool:
    if "/" in name or resources.quota_name("", name):
        return True
    allowed = _SCOPED.get(scope, _COMPUTE | {"pods"})
    return name in allowed or scope not in SCOPES


def _conflicts(scopes: list[str], spec: Object) -> list[FieldError]:
    return [
        invalid("spec.scopes", spec.get("scopes"), "conflicting scopes")
        for pair in _CONFLICTS
        if set(pair) <= set(scopes)
    ]


def _scope_selector(selector: Object, hard: Object, spec: Object) -> list[FieldError]:
    path = "spec.scopeSelector.matchExpressions"
    errors: list[FieldError] = []
    found = selector.get("matchExpressions") or []
    for one in found:
        scope, operator = one.get("scopeName", ""), one.get("operator", "")
        values = one.get("values") or []
        if scope not in SCOPES:
            errors.append(invalid(f"{path}.scopeName", scope, "unsupported scope"))
        if any(not _scope_fits(scope, name) for name in hard):
            text = "unsupported scope applied to resource"
            errors.append(invalid(path, selector, text))
        valued = ("PriorityClass", "VolumeAttributesClass")
        if scope in SCOPES and scope not in valued and operator != "Exists":
            text = (
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, "
                "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
                "ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
            )
            errors.append(invalid(f"{path}.operator", operator, text))
        if operator in ("In", "NotIn"):
            if not values:
                text = (
                    "must be at least one value when `operator` is 'In' or 'NotIn' for scope "
                    "selector"
                )
                errors.append(required(f"{path}.values", text))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                text = (
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope "
                    "selector"
                )
                errors.append(invalid(f"{path}.values", values, text))
        else:
            text = "not a valid selector operator"
            errors.append(invalid(f"{path}.operator", operator, text))
    return errors + _conflicts([one.get("scopeName", "") for one in found], spec)


def limit_range(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a LimitRange."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, limit in enumerate((obj.get("spec") or {}).get("limits") or ()):
        here, kind = f"spec.limits[{index}]", limit.get("type", "")
        syntax = rules.each(f"{here}.type", kind, rules.qualified_name)
        errors += syntax
        if (
            not syntax
            and "/" not in kind
            and kind not in ("Pod", "Container", "PersistentVolumeClaim")
        ):
            text = "must be a standard limit type or fully qualified"
            errors.append(invalid(f"{here}.type", kind, text))
        if kind in seen:
            errors.append(duplicate(f"{here}.type", kind))
        seen.add(kind)
        errors += _limit_names(here, kind, limit)
        names = {name for part in _LIMITS for name in limit.get(part) or ()}
        for name in sorted(names):
            errors += _limit_order(here, name, limit)
    return errors


_LIMITS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


def _limit_names(path: str, kind: str, limit: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for part in _LIMITS:
        found = limit.get(part) or {}
        if kind == "Pod" and part in ("default", "defaultRequest"):
            if found:
                text = "may not be specified when `type` is 'Pod'"
                errors.append(forbidden(f"{path}.{part}", text))
            continue
        for name in sorted(found):
            errors += resources.limit_range_name(f"{path}.{part}[{name}]", name, kind)
    if kind == "PersistentVolumeClaim" and not any(
        "storage" in (limit.get(part) or {}) for part in ("min", "max")
    ):
        text = "either minimum or maximum storage value is required, but neither was provided"
        errors.append(required(f"{path}.limits", text))
    return errors


def _limit_order(path: str, name: str, limit: Object) -> list[FieldError]:
    found = {part: (limit.get(part) or {}).get(name) for part in _LIMITS}
    errors: list[FieldError] = []

    def check(low: str, high: str, at: str, shown: str, text: str) -> None:
        lower, upper = found[low], found[high]
        if lower is None or upper is None:
            return
        if quantity.value(str(lower)) > quantity.value(str(upper)):
            detail = text.format(quantity.canonical(lower), quantity.canonical(upper))
            value = quantity.canonical(found[shown] or "0")
            errors.append(invalid(f"{path}.{at}[{name}]", value, detail))

    asked = "default request value"
    check("min", "max", "min", "min", "min value {} is greater than max value {}")
    check(
        "min",
        "defaultRequest",
        "defaultRequest",
        "defaultRequest",
        f"min value {{}} is greater than {asked} {{}}",
    )
    check(
        "defaultRequest",
        "max",
        "defaultRequest",
        "defaultRequest",
        f"{asked} {{}} is greater than max value {{}}",
    )
    check(
        "defaultRequest",
        "default",
        "defaultRequest",
        "defaultRequest",
        f"{asked} {{}} is greater than default limit value {{}}",
    )
    check("min", "default", "default", "min", "min value {} is greater than default value {}")
    check("default", "max", "default", "max", "default value {} is greater than max value {}")
    ratio = found["maxLimitRequestRatio"]
    if ratio is not None and quantity.value(str(ratio)) < 1:
        shown = quantity.canonical(ratio)
        where = f"{path}.maxLimitRequestRatio[{name}]"
        errors.append(invalid(where, shown, f"ratio {shown} is less than 1"))
    least, most = found["default"], found["defaultRequest"]
    if least is not None and most is not None and not resources.may_overcommit(name):
        first, second = quantity.canonical(least), quantity.canonical(most)
        if quantity.value(first) != quantity.value(second):
            text = f"default value {first} must equal to defaultRequest value {second} in {name}"
            errors.append(invalid(f"{path}.defaultRequest[{name}]", second, text))
    return errors


def priority_class(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a PriorityClass."""
    name, value = obj["metadata"].get("name", ""), obj.get("value", 0)
    errors: list[FieldError] = []
    if old is None:
        if name.startswith("system-"):
            if SYSTEM_PRIORITIES.get(name) != value:
                text = (
                    "priority class names with 'system-' prefix are reserved for system use only. "
                    "error: " + _system_error(name, value)
                )
                errors.append(forbidden("metadata.name", text))
        elif value > MAX_USER_PRIORITY:
            text = f"maximum allowed value of a user defined priority is {MAX_USER_PRIORITY}"
            errors.append(forbidden("value", text))
        if (policy := obj.get("preemptionPolicy")) is not None:
            errors += rules.choice("preemptionPolicy", policy, ("PreemptLowerPriority", "Never"))
        return errors
    if value != old.get("value", 0):
        errors.append(forbidden("value", "may not be changed in an update."))
    if obj.get("preemptionPolicy") != old.get("preemptionPolicy"):
        shown = obj.get("preemptionPolicy")
        errors.append(invalid("preemptionPolicy", shown, rules.IMMUTABLE))
    return errors


def _system_error(name: str, value: int) -> str:
    if name in SYSTEM_PRIORITIES:
        return f"value of {name} PriorityClass must be {SYSTEM_PRIORITIES[name]}"
    return f"{name} is not a known system priority class"


def budget(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a PodDisruptionBudget."""
    spec = obj.get("spec") or {}
    errors: list[FieldError] = []
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None and most is not None:
        text = "minAvailable and maxUnavailable cannot be both set"
        shown = {
            "MinAvailable": least,
            "Selector": gotypes.selector(spec.get("selector") or {}) or None,
            "MaxUnavailable": most,
            "UnhealthyPodEvictionPolicy": spec.get("unhealthyPodEvictionPolicy"),
        }
        errors.append(gotypes.invalid("spec", shown, text))
    for name, value in (("minAvailable", least), ("maxUnavailable", most)):
        if value is not None:
            errors += rules.number_or_percent(f"spec.{name}", value)
            if isinstance(value, str) and value[:-1].isdigit() and int(value[:-1]) > 100:
                text = "must not be greater than 100%"
                errors.append(invalid(f"spec.{name}", value, text))
    policies = ("AlwaysAllow", "IfHealthyBudget")
    errors += rules.choice(
        "spec.unhealthyPodEvictionPolicy",
        spec.get("unhealthyPodEvictionPolicy"),
        policies,
        needed=False,
    )
    return errors + rules.label_selector("spec.selector", spec.get("selector"))


def runtime_class(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a RuntimeClass."""
    handler = obj.get("handler", "")
    if old is not None:
        if handler == old.get("handler"):
            return []
        return [invalid("handler", handler, rules.IMMUTABLE)]
    errors = rules.each("handler", handler, rules.dns_label) if handler else [required("handler")]
    fixed = (obj.get("overhead") or {}).get("podFixed") or {}
    errors += resources.requirements("overhead.podFixed", {"limits": fixed}, ())
    placing = obj.get("scheduling") or {}
    errors += rules.labels("scheduling.nodeSelector", placing.get("nodeSelector"))
    return errors + scheduling.tolerations(
        "scheduling.tolerations", placing.get("tolerations") or []
    )


def storage_class(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a StorageClass."""
    errors: list[FieldError] = []
    if old is not None:
        for name, text in (
            ("parameters", "updates to parameters are forbidden."),
            ("provisioner", "updates to provisioner are forbidden."),
            ("reclaimPolicy", "updates to reclaimPolicy are forbidden."),
        ):
            if obj.get(name) != old.get(name):
                errors.append(forbidden(name, text))
        return errors
    if provisioner := obj.get("provisioner"):
        errors += rules.each("provisioner", provisioner.lower(), rules.qualified_name)
    else:
        errors.append(required("provisioner"))
    errors += rules.choice(
        "reclaimPolicy", obj.get("reclaimPolicy"), ("Delete", "Retain"), needed=False
    )
    modes = ("Immediate", "WaitForFirstConsumer")
    return errors + rules.choice("volumeBindingMode", obj.get("volumeBindingMode"), modes)


def lease(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a Lease."""
    spec = obj.get("spec") or {}
    errors: list[FieldError] = []
    if (seconds := spec.get("leaseDurationSeconds")) is not None and seconds <= 0:
        errors.append(invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    if (count := spec.get("leaseTransitions")) is not None and count < 0:
        text = "must be greater than or equal to 0"
        errors.append(invalid("spec.leaseTransitions", count, text))
    return errors


def autoscaler(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a HorizontalPodAutoscaler."""
    spec = obj.get("spec") or {}
    least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    errors: list[FieldError] = []
    if least is not None and least < 1:
        text = "must be greater than or equal to 1"
        errors.append(invalid("spec.minReplicas", least, text))
    if most < 1:
        errors.append(invalid("spec.maxReplicas", most, "must be greater than 0"))
    if least is not None and most < least:
        text = "must be greater than or equal to `minReplicas`"
        errors.append(invalid("spec.maxReplicas", most, text))
    target = spec.get("scaleTargetRef") or {}
    for part in ("kind", "name"):
        if not target.get(part):
            errors.append(required(f"spec.scaleTargetRef.{part}"))
        else:
            errors += rules.each(f"spec.scaleTargetRef.{part}", target[part], rules.path_segment)
    return errors
