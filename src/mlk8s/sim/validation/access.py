"""Validation of the RBAC kinds, which the cluster stores and does not enforce."""

from __future__ import annotations

from mlk8s.sim.status import FieldError, Object, invalid, required, unsupported
from mlk8s.sim.validation import gotypes


def role(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a Role or a ClusterRole."""
    errors: list[FieldError] = []
    for index, rule in enumerate(obj.get("rules") or ()):
        here = f"rules[{index}]"
        if not rule.get("verbs"):
            errors.append(required(f"{here}.verbs", "verbs must contain at least one value"))
        if rule.get("nonResourceURLs"):
            if obj.get("kind") == "Role":
                text = "namespaced rules cannot apply to non-resource URLs"
                errors.append(invalid(f"{here}.nonResourceURLs", rule["nonResourceURLs"], text))
            continue
        for part, text in (
            ("apiGroups", "resource rules must supply at least one api group"),
            ("resources", "resource rules must supply at least one resource"),
        ):
            if not rule.get(part):
                errors.append(required(f"{here}.{part}", text))
    return errors


def role_binding(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a RoleBinding or a ClusterRoleBinding."""
    reference = obj.get("roleRef") or {}
    group, kind = reference.get("apiGroup", ""), reference.get("kind", "")
    errors: list[FieldError] = []
    if old is not None and reference != old.get("roleRef"):
        shown = {"APIGroup": group, "Kind": kind, "Name": reference.get("name", "")}
        errors.append(gotypes.invalid("roleRef", shown, "cannot change roleRef"))
    domain = "rbac.authorization.k8s.io"
    if group != domain:
        errors.append(unsupported("roleRef.apiGroup", group, (domain,)))
    kinds = ("ClusterRole",) if obj.get("kind") == "ClusterRoleBinding" else ("ClusterRole", "Role")
    if kind not in kinds:
        errors.append(unsupported("roleRef.kind", kind, kinds))
    if not reference.get("name"):
        errors.append(required("roleRef.name"))
    for index, subject in enumerate(obj.get("subjects") or ()):
        here = f"subjects[{index}]"
        if not subject.get("name"):
            errors.append(required(f"{here}.name"))
        subjects = ("Group", "ServiceAccount", "User")
        if subject.get("kind", "") not in subjects:
            errors.append(unsupported(f"{here}.kind", subject.get("kind", ""), subjects))
        elif subject["kind"] == "ServiceAccount" and not (
            subject.get("namespace") or obj["metadata"].get("namespace")
        ):
            errors.append(required(f"{here}.namespace"))
    return errors
