"""Validation of Ingress, NetworkPolicy and EndpointSlice."""

from __future__ import annotations

from mlk8s.sim.status import FieldError, Object, duplicate, invalid, required, unsupported
from mlk8s.sim.validation import rules


def ingress(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in an Ingress."""
    spec = obj.get("spec") or {}
    errors: list[FieldError] = []
    if not spec.get("rules") and spec.get("defaultBackend") is None:
        text = "either `defaultBackend` or `rules` must be specified"
        errors.append(invalid("spec", [], text))
    for index, rule in enumerate(spec.get("rules") or ()):
        here = f"spec.rules[{index}]"
        host = rule.get("host", "")
        if host and not host.startswith("*."):
            errors += rules.each(f"{here}.host", host, rules.dns_subdomain)
        paths = (rule.get("http") or {}).get("paths") or []
        if rule.get("http") is not None and not paths:
            errors.append(required(f"{here}.http.paths"))
        for at, path in enumerate(paths):
            errors += _ingress_path(f"{here}.http.paths[{at}]", path)
    return errors


def _ingress_path(path: str, found: Object) -> list[FieldError]:
    kinds = ("Exact", "ImplementationSpecific", "Prefix")
    kind, value = found.get("pathType"), found.get("path", "")
    errors: list[FieldError] = []
    if kind is None:
        errors.append(required(f"{path}.pathType", "pathType must be specified"))
    elif kind not in kinds:
        errors.append(unsupported(f"{path}.pathType", kind, kinds))
    elif kind != "ImplementationSpecific" and not value.startswith("/"):
        errors.append(invalid(f"{path}.path", value, "must be an absolute path"))
    service = (found.get("backend") or {}).get("service")
    if service is not None and not service.get("name"):
        errors.append(required(f"{path}.backend.service.name"))
    return errors


def network_policy(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a NetworkPolicy."""
    spec = obj.get("spec") or {}
    errors = rules.label_selector("spec.podSelector", spec.get("podSelector"))
    for index, kind in enumerate(spec.get("policyTypes") or ()):
        where = f"spec.policyTypes[{index}]"
        errors += rules.choice(where, kind, ("Egress", "Ingress"))
    return errors


def endpoint_slice(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in an EndpointSlice."""
    kinds = ("FQDN", "IPv4", "IPv6")
    kind = obj.get("addressType", "")
    errors = rules.choice("addressType", kind, kinds)
    if old is not None and kind != old.get("addressType"):
        errors.append(invalid("addressType", kind, rules.IMMUTABLE))
    names: set[str] = set()
    for index, port in enumerate(obj.get("ports") or ()):
        name = port.get("name") or ""
        if name in names:
            errors.append(duplicate(f"ports[{index}].name", name))
        names.add(name)
    return errors
