"""Validation of what a pod says about where it may run."""

from __future__ import annotations

from typing import Any

from mlk8s.sim.status import (
    FieldError,
    Object,
    duplicate,
    forbidden,
    invalid,
    required,
    unsupported,
)
from mlk8s.sim.validation import gotypes, rules

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def tolerations(path: str, found: list[Object]) -> list[FieldError]:
    """``spec.tolerations``."""
    errors: list[FieldError] = []
    for index, toleration in enumerate(found):
        here = f"{path}[{index}]"
        key, operator = toleration.get("key", ""), toleration.get("operator", "")
        value, effect = toleration.get("value", ""), toleration.get("effect", "")
        if key:
            errors += rules.each(f"{here}.key", key, rules.qualified_name)
        elif operator != "Exists":
            text = (
                'operator must be Exists when `key` is empty, which means "match all values and '
                'all keys"'
            )
            errors.append(invalid(f"{here}.operator", operator, text))
        if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
            text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            errors.append(invalid(f"{here}.effect", effect, text))
        if operator in ("Equal", ""):
            if texts := rules.label_value(value):
                errors.append(invalid(f"{here}.operator", value, ";".join(texts)))
        elif operator == "Exists":
            if value:
                text = "value must be empty when `operator` is 'Exists'"
                errors.append(invalid(f"{here}.operator", value, text))
        else:
            errors.append(unsupported(f"{here}.operator", operator, ("Equal", "Exists")))
        errors += rules.choice(f"{here}.effect", effect, EFFECTS, needed=False)
    return errors


def taints(path: str, found: list[Object]) -> list[FieldError]:
    """``spec.taints`` of a node."""
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(found):
        here = f"{path}[{index}]"
        key, effect = taint.get("key", ""), taint.get("effect", "")
        errors += rules.each(f"{here}.key", key, rules.qualified_name)
        if texts := rules.label_value(taint.get("value", "")):
            errors.append(invalid(f"{here}.value", taint["value"], ";".join(texts)))
        errors += rules.choice(f"{here}.effect", effect, EFFECTS)
        if (key, effect) in seen:
            error = gotypes.duplicate(here, _taint(taint))
            text = "taints must be unique by key and effect pair"
            errors.append(FieldError(here, error.kind, f"{error.detail}: {text}"))
        seen.add((key, effect))
    return errors


def _taint(taint: Object) -> Object:
    return {
        "Key": taint.get("key", ""),
        "Value": taint.get("value", ""),
        "Effect": taint.get("effect", ""),
        "TimeAdded": taint.get("timeAdded"),
    }


def affinity(path: str, found: Object | None) -> list[FieldError]:
    """``spec.affinity``."""
    found = found or {}
    errors: list[FieldError] = []
    if (node := found.get("nodeAffinity")) is not None:
        here = f"{path}.nodeAffinity"
        if (needed := node.get(_REQUIRED)) is not None:
            errors += node_selector(f"{here}.{_REQUIRED}", needed)
        for index, term in enumerate(node.get(_PREFERRED) or ()):
            at = f"{here}.{_PREFERRED}[{index}]"
            errors += _weight(at, term)
            errors += _node_term(f"{at}.preference", term.get("preference") or {}, False)
    for kind in ("podAffinity", "podAntiAffinity"):
        pods = found.get(kind) or {}
        here = f"{path}.{kind}"
        for index, term in enumerate(pods.get(_REQUIRED) or ()):
            errors += _pod_term(f"{here}.{_REQUIRED}[{index}]", term)
        for index, weighted in enumerate(pods.get(_PREFERRED) or ()):
            at = f"{here}.{_PREFERRED}[{index}]"
            errors += _weight(at, weighted)
            errors += _pod_term(f"{at}.podAffinityTerm", weighted.get("podAffinityTerm") or {})
    return errors


def _weight(path: str, term: Object) -> list[FieldError]:
    weight = term.get("weight", 0)
    return (
        []
        if 1 <= weight <= 100
        else [invalid(f"{path}.weight", weight, "must be in the range 1-100")]
    )


def node_selector(path: str, selector: Object) -> list[FieldError]:
    """A ``v1.NodeSelector``."""
    terms = selector.get("nodeSelectorTerms") or []
    if not terms:
        text = "must have at least one node selector term"
        return [required(f"{path}.nodeSelectorTerms", text)]
    errors: list[FieldError] = []
    for index, term in enumerate(terms):
        errors += _node_term(f"{path}.nodeSelectorTerms[{index}]", term, True)
    return errors


def _node_term(path: str, term: Object, strict: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, requirement in enumerate(term.get("matchExpressions") or ()):
        errors += _node_requirement(f"{path}.matchExpressions[{index}]", requirement, strict)
    for index, requirement in enumerate(term.get("matchFields") or ()):
        errors += _node_field(f"{path}.matchFields[{index}]", requirement)
    return errors


def _node_requirement(path: str, requirement: Object, strict: bool) -> list[FieldError]:
    operator, values = requirement.get("operator", ""), requirement.get("values") or []
    errors: list[FieldError] = []
    if operator in ("Gt", "Lt"):
        if len(values) != 1:
            text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required(f"{path}.values", text))
    else:
        errors += rules.selector_values(path, operator, values, ("In", "NotIn"))
    errors += rules.each(f"{path}.key", requirement.get("key", ""), rules.qualified_name)
    if strict:
        for index, value in enumerate(values):
            errors += rules.each(f"{path}.values[{index}]", value, rules.label_value)
    return errors


def _node_field(path: str, requirement: Object) -> list[FieldError]:
    operator, values = requirement.get("operator", ""), requirement.get("values") or []
    errors: list[FieldError] = []
    if operator not in ("In", "NotIn"):
        errors.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    elif len(values) != 1:
        text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        errors.append(required(f"{path}.values", text))
    key = requirement.get("key", "")
    if key != "metadata.name":
        errors.append(invalid(f"{path}.key", key, "not a valid field selector key"))
        return errors
    for index, value in enumerate(values):
        errors += rules.each(f"{path}.values[{index}]", value, rules.dns_subdomain)
    return errors


def _pod_term(path: str, term: Object) -> list[FieldError]:
    selector = term.get("labelSelector")
    errors = rules.label_selector(f"{path}.labelSelector", selector)
    errors += rules.label_selector(f"{path}.namespaceSelector", term.get("namespaceSelector"))
    for name in term.get("namespaces") or ():
        errors += rules.each(f"{path}.namespace", name, rules.dns_label)
    for part in ("matchLabelKeys", "mismatchLabelKeys"):
        keys = term.get(part) or []
        if keys and selector is None:
            text = "must not be specified when labelSelector is not set"
            errors.append(forbidden(f"{path}.{part}", text))
            continue
        for index, key in enumerate(keys):
            errors += rules.each(f"{path}.{part}[{index}]", key, rules.qualified_name)
    for index, key in enumerate(term.get("matchLabelKeys") or ()):
        if key in (term.get("mismatchLabelKeys") or ()):
            text = "exists in both matchLabelKeys and mismatchLabelKeys"
            errors.append(invalid(f"{path}.matchLabelKeys[{index}]", key, text))
    topology = term.get("topologyKey", "")
    if not topology:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    return errors + rules.each(f"{path}.topologyKey", topology, rules.qualified_name)


def spread(path: str, constraints: list[Object]) -> list[FieldError]:
    """``spec.topologySpreadConstraints``."""
    errors: list[FieldError] = []
    for index, constraint in enumerate(constraints):
        here = f"{path}[{index}]"
        skew, action = constraint.get("maxSkew", 0), constraint.get("whenUnsatisfiable", "")
        topology = constraint.get("topologyKey", "")
        if skew <= 0:
            errors.append(invalid(f"{here}.maxSkew", skew, rules.NOT_POSITIVE))
        if not topology:
            errors.append(required(f"{here}.topologyKey", "can not be empty"))
        actions = ("DoNotSchedule", "ScheduleAnyway")
        if action not in actions:
            errors.append(unsupported(f"{here}.whenUnsatisfiable", action, actions))
        pair = (topology, action)
        rest = constraints[index + 1 :]
        if any((one.get("topologyKey"), one.get("whenUnsatisfiable")) == pair for one in rest):
            where = f"{here}.{{topologyKey, whenUnsatisfiable}}"
            errors.append(duplicate(where, f"{{{topology}, {action}}}"))
        errors += _min_domains(here, constraint.get("minDomains"), action)
        for part in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            errors += rules.choice(
                f"{here}.{part}", constraint.get(part), ("Honor", "Ignore"), needed=False
            )
        errors += _label_keys(f"{here}.matchLabelKeys", constraint)
        errors += rules.label_selector(f"{here}.labelSelector", constraint.get("labelSelector"))
    return errors


def _min_domains(path: str, number: int | None, action: str) -> list[FieldError]:
    if number is None:
        return []
    here = f"{path}.minDomains"
    errors = [invalid(here, number, rules.NOT_POSITIVE)] if number <= 0 else []
    if action != "DoNotSchedule":
        text = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
        errors.append(invalid(here, number, text))
    return errors


def _label_keys(path: str, constraint: Object) -> list[FieldError]:
    if not (keys := constraint.get("matchLabelKeys")):
        return []
    errors: list[FieldError] = []
    selector: dict[str, Any] | None = constraint.get("labelSelector")
    if selector is None:
        text = "must not be specified when labelSelector is not set"
        errors.append(forbidden(path, text))
    selector = selector or {}
    used = set(selector.get("matchLabels") or ())
    used |= {expression.get("key") for expression in selector.get("matchExpressions") or ()}
    for index, key in enumerate(keys):
        errors += rules.each(f"{path}[{index}]", key, rules.qualified_name)
        if key in used:
            text = "exists in both matchLabelKeys and labelSelector"
            errors.append(invalid(f"{path}[{index}]", key, text))
    return errors
