"""Validation of Job and CronJob, after ``pkg/apis/batch/validation``."""

from __future__ import annotations

import copy
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mlk8s.sim.matching import Selector
from mlk8s.sim.status import FieldError, Object, invalid, required, unsupported
from mlk8s.sim.validation import cron, gotypes, pods, rules

# Older and newer names of the two labels that tie pods to their Job.
UID_LABELS = ("controller-uid", "batch.kubernetes.io/controller-uid")
NAME_LABELS = ("job-name", "batch.kubernetes.io/job-name")
_MODES = ("NonIndexed", "Indexed")
_MAX_PARALLEL_INDEXED = 100_000
# What may change in a template while the Job is suspended and has not started.
_DIRECTIVES = ("nodeSelector", "tolerations", "schedulingGates")


def job(obj: Object) -> list[FieldError]:
    """Errors in a new Job."""
    spec = obj.get("spec") or {}
    errors = _generated_selector(obj, spec)
    errors += _with_selector("spec", spec)
    completions = spec.get("completions")
    if spec.get("completionMode") == "Indexed" and completions:
        last = f"{obj['metadata'].get('name', '')}-{completions - 1}"
        if rules.dns_label(last):
            text = f"will not able to create pod with invalid DNS label: {last}"
            errors.append(invalid("metadata.name", obj["metadata"].get("name", ""), text))
    return errors


def _generated_selector(obj: Object, spec: Object) -> list[FieldError]:
    if spec.get("manualSelector") or spec.get("selector") is None:
        return []
    about = obj["metadata"]
    found = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    errors: list[FieldError] = []
    expected: dict[str, str] = {}
    for old, new in ((UID_LABELS[0], NAME_LABELS[0]), (UID_LABELS[1], NAME_LABELS[1])):
        for label, value in ((old, about.get("uid", "")), (new, about.get("name", ""))):
            expected[label] = value
            where = f"spec.template.metadata.labels[{label}]"
            if label not in found:
                errors.append(required(where, f"must be '{value}'"))
            elif found[label] != value:
                shown = dict(sorted(found.items()))
                errors.append(gotypes.invalid(where, shown, f"must be '{value}'"))
    if not Selector(spec["selector"]).matches(expected):
        shown = gotypes.selector(spec["selector"])
        errors.append(gotypes.invalid("spec.selector", shown, "`selector` not auto-generated"))
    return errors


def _with_selector(path: str, spec: Object) -> list[FieldError]:
    errors = _spec(path, spec)
    selector = spec.get("selector")
    if selector is None:
        errors.append(required(f"{path}.selector"))
    else:
        errors += rules.label_selector(f"{path}.selector", selector)
    found = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if not Selector(selector).matches(found):
        text = "`selector` does not match template `labels`"
        shown = dict(sorted(found.items())) if found else None
        errors.append(gotypes.invalid(f"{path}.template.metadata.labels", shown, text))
    return errors


def _spec(path: str, spec: Object) -> list[FieldError]:
    errors = rules.nonnegative_each(
        path,
        spec,
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    )
    errors += _mode(path, spec)
    errors += _replacement(path, spec)
    template = spec.get("template") or {}
    errors += pods.template(f"{path}.template", template)
    where = f"{path}.template.spec.restartPolicy"
    policy = (template.get("spec") or {}).get("restartPolicy", "")
    if policy == "Always":
        # It is the default, so a user who sees this most likely left it out.
        errors.append(required(where, 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        errors.append(unsupported(where, policy, ("OnFailure", "Never")))
    if spec.get("podFailurePolicy") is not None and policy != "Never":
        text = 'only "Never" is supported when podFailurePolicy is specified'
        errors.append(invalid(where, policy, text))
    return errors


def _mode(path: str, spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    mode = spec.get("completionMode")
    per_index, failed = spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes")
    completions, parallelism = spec.get("completions"), spec.get("parallelism")
    if mode is not None and mode not in _MODES:
        errors.append(unsupported(f"{path}.completionMode", mode, _MODES))
    if mode == "Indexed":
        if completions is None:
            errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
        if parallelism is not None and parallelism > _MAX_PARALLEL_INDEXED:
            text = (
                f"must be less than or equal to {_MAX_PARALLEL_INDEXED} when completion mode is "
                "Indexed"
            )
            errors.append(invalid(f"{path}.parallelism", parallelism, text))
        if completions is not None and failed is not None and failed > completions:
            text = "must be less than or equal to completions"
            errors.append(invalid(f"{path}.maxFailedIndexes", failed, text))
    else:
        for name, value in (("backoffLimitPerIndex", per_index), ("maxFailedIndexes", failed)):
            if value is not None:
                errors.append(invalid(f"{path}.{name}", value, "requires indexed completion mode"))
        if (policy := spec.get("successPolicy")) is not None:
            text = "requires indexed completion mode"
            errors.append(invalid(f"{path}.successPolicy", policy, text))
    if per_index is None and failed is not None:
        text = "when maxFailedIndexes is specified"
        errors.append(required(f"{path}.backoffLimitPerIndex", text))
    return errors


def _replacement(path: str, spec: Object) -> list[FieldError]:
    if (policy := spec.get("podReplacementPolicy")) is None:
        return []
    allowed = ("Failed",) if spec.get("podFailurePolicy") else ("Failed", "TerminatingOrFailed")
    if policy in allowed:
        return []
    return [unsupported(f"{path}.podReplacementPolicy", policy, allowed)]


def job_update(obj: Object, old: Object) -> list[FieldError]:
    """Errors in a change of a Job's spec."""
    spec, before = obj["spec"], old["spec"]
    if spec == before:
        return []
    errors = _with_selector("spec", spec)
    errors += _completions(spec, before)
    if spec.get("selector") != before.get("selector"):
        shown = gotypes.selector(spec.get("selector") or {})
        errors.append(gotypes.invalid("spec.selector", shown, rules.IMMUTABLE))
    template = _template_for_comparison(spec, before, old)
    if template != before["template"]:
        shown = gotypes.template(spec["template"])
        errors.append(gotypes.invalid("spec.template", shown, rules.IMMUTABLE))
    for name in (
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ):
        errors += _fixed(f"spec.{name}", spec.get(name), before.get(name))
    return errors


def _completions(spec: Object, before: Object) -> list[FieldError]:
    new, was = spec.get("completions"), before.get("completions")
    if new == was:
        return []
    if before.get("completionMode") != "Indexed" or new is None:
        return _fixed("spec.completions", new, was)
    if new != spec.get("parallelism"):
        text = "can only be modified in tandem with spec.parallelism"
        return [invalid("spec.completions", new, text)]
    return []


def _template_for_comparison(spec: Object, before: Object, old: Object) -> Object:
    """The new template with what may change set back."""
    template: Object = copy.deepcopy(spec["template"])
    status = old.get("status") or {}
    suspended = any(
        one.get("type") == "Suspended" and one.get("status") == "True"
        for one in status.get("conditions") or ()
    )
    stopped = suspended and before.get("suspend") and not status.get("active")
    if not before.get("suspend") or (status.get("startTime") and not stopped):
        return template
    was = before["template"]
    for part in ("labels", "annotations"):
        _copy(template.setdefault("metadata", {}), was.get("metadata") or {}, part)
    if not template["metadata"] and "metadata" not in was:
        del template["metadata"]
    for part in _DIRECTIVES:
        _copy(template["spec"], was["spec"], part)
    for kind in ("containers", "initContainers"):
        # A container more or less is told apart by the comparison that follows.
        pairs = zip(template["spec"].get(kind) or (), was["spec"].get(kind) or (), strict=False)
        for now, then in pairs:
            _copy(now, then, "resources")
    affinity = template["spec"].get("affinity") or {}
    node = (was["spec"].get("affinity") or {}).get("nodeAffinity")
    affinity = {name: value for name, value in affinity.items() if name != "nodeAffinity"}
    if node is not None:
        affinity["nodeAffinity"] = node
    if affinity or "affinity" in was["spec"]:
        template["spec"]["affinity"] = affinity
    else:
        template["spec"].pop("affinity", None)
    return template


def _copy(target: Object, source: Object, name: str) -> None:
    if name in source:
        target[name] = source[name]
    else:
        target.pop(name, None)


def _fixed(path: str, new: Any, was: Any) -> list[FieldError]:
    return [] if new == was else [invalid(path, new, rules.IMMUTABLE)]


def cron_job(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a CronJob."""
    spec = obj.get("spec") or {}
    errors: list[FieldError] = []
    name = obj["metadata"].get("name", "")
    if old is None and len(name) > 52:
        # Its Jobs' names are eleven characters longer, and theirs may have 63.
        text = "must be no more than 52 characters"
        errors.append(invalid("metadata.name", name, text))
    if not (schedule := spec.get("schedule")):
        errors.append(required("spec.schedule"))
    else:
        errors += _schedule(schedule)
    errors += rules.nonnegative("spec.startingDeadlineSeconds", spec.get("startingDeadlineSeconds"))
    if (zone := spec.get("timeZone")) is not None:
        errors += _zone(zone)
    policies = ("Allow", "Forbid", "Replace")
    errors += rules.choice("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), policies)
    inner = (spec.get("jobTemplate") or {}).get("spec") or {}
    path = "spec.jobTemplate.spec"
    errors += _spec(path, inner)
    if (selector := inner.get("selector")) is not None:
        text = "`selector` will be auto-generated"
        errors.append(gotypes.invalid(f"{path}.selector", gotypes.selector(selector), text))
    if inner.get("manualSelector"):
        where = f"{path}.manualSelector"
        errors.append(unsupported(where, True, ("nil", "false")))
    limits = ("successfulJobsHistoryLimit", "failedJobsHistoryLimit")
    return errors + rules.nonnegative_each("spec", spec, *limits)


def _schedule(schedule: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if error := cron.error_in(schedule):
        errors.append(invalid("spec.schedule", schedule, error))
    if "TZ" in schedule:
        text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        errors.append(invalid("spec.schedule", schedule, text))
    return errors


def _zone(zone: str) -> list[FieldError]:
    if not zone:
        return [invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")]
    if zone.lower() == "local":
        text = "timeZone must be an explicit time zone as defined in "
        return [invalid("spec.timeZone", zone, f"{text}https://www.iana.org/time-zones")]
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return [invalid("spec.timeZone", zone, f"unknown time zone {zone}")]
    return []
