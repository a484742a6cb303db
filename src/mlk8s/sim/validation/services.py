"""Validation of Service, after ``ValidateService`` in ``pkg/apis/core/validation``."""

from __future__ import annotations

import ipaddress

from mlk8s.sim.status import FieldError, Object, duplicate, forbidden, invalid, required
from mlk8s.sim.validation import gotypes, rules

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_POLICIES = ("Cluster", "Local")
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_MAX_AFFINITY = 86_400


def validate(obj: Object, old: Object | None) -> list[FieldError]:
    """Errors in a Service."""
    spec = obj.get("spec") or {}
    kind, ports = spec.get("type", ""), spec.get("ports") or []
    headless = spec.get("clusterIPs") == ["None"]
    errors = [] if old is None else _update(spec, old.get("spec") or {})
    if not ports and not headless and kind != "ExternalName":
        errors.append(required("spec.ports"))
    errors += _by_type(kind, spec, headless)
    errors += _ports(ports)
    errors += rules.labels("spec.selector", spec.get("selector"))
    errors += _affinity(spec)
    errors += _addresses(kind, spec, headless)
    errors += rules.choice("spec.type", kind, _TYPES)
    if kind == "ClusterIP":
        errors += [
            forbidden(f"spec.ports[{index}].nodePort", "may not be used when `type` is 'ClusterIP'")
            for index, port in enumerate(ports)
            if port.get("nodePort")
        ]
    errors += _unique(ports)
    return errors + _traffic(kind, spec)


def _by_type(kind: str, spec: Object, headless: bool) -> list[FieldError]:
    if kind in ("LoadBalancer", "NodePort") and headless:
        text = f"may not be set to 'None' for {kind} services"
        return [invalid("spec.clusterIPs[0]", "None", text)]
    if kind != "ExternalName":
        return []
    text = "may not be set for ExternalName services"
    errors = [
        forbidden(f"spec.{part}", text)
        for part in ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
        if spec.get(part)
    ]
    name = (spec.get("externalName") or "").removesuffix(".")
    if not name:
        return [*errors, required("spec.externalName")]
    return errors + rules.each("spec.externalName", name, rules.dns_subdomain)


def _ports(ports: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        here, name = f"spec.ports[{index}]", port.get("name", "")
        if not name:
            if len(ports) > 1:
                errors.append(required(f"{here}.name"))
        else:
            errors += rules.each(f"{here}.name", name, rules.dns_label)
            if name in names:
                errors.append(duplicate(f"{here}.name", name))
            names.add(name)
        errors += rules.port_number(f"{here}.port", port.get("port", 0))
        errors += rules.choice(f"{here}.protocol", port.get("protocol"), _PROTOCOLS)
        errors += rules.port_or_name(f"{here}.targetPort", port.get("targetPort"))
        if protocol := port.get("appProtocol"):
            errors += rules.each(f"{here}.appProtocol", protocol, rules.qualified_name)
    return errors


def _unique(ports: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    node_ports: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        if not (number := port.get("nodePort")):
            continue
        key = (port.get("protocol", ""), number)
        if key in node_ports:
            errors.append(duplicate(f"spec.ports[{index}].nodePort", number))
        node_ports.add(key)
    numbers: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        key = (port.get("protocol", ""), port.get("port", 0))
        if key in numbers:
            shown = {
                "Name": "",
                "Protocol": key[0],
                "AppProtocol": None,
                "Port": key[1],
                "TargetPort": 0,
                "NodePort": 0,
            }
            errors.append(gotypes.duplicate(f"spec.ports[{index}]", shown))
        numbers.add(key)
    return errors


def _affinity(spec: Object) -> list[FieldError]:
    kind = spec.get("sessionAffinity", "")
    errors = rules.choice("spec.sessionAffinity", kind, ("ClientIP", "None"))
    path, config = "spec.sessionAffinityConfig", spec.get("sessionAffinityConfig")
    if kind == "None" and config is not None:
        errors.append(forbidden(path, "must not be set when session affinity is None"))
    if kind == "ClientIP":
        seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
        where = f"{path}.clientIP.timeoutSeconds"
        if seconds is None:
            errors.append(required(where, "when session affinity type is ClientIP"))
        elif not 0 < seconds <= _MAX_AFFINITY:
            text = f"must be greater than 0 and less than {_MAX_AFFINITY}"
            errors.append(invalid(where, seconds, text))
    return errors


def _addresses(kind: str, spec: Object, headless: bool) -> list[FieldError]:
    if kind == "ExternalName":
        return []
    errors: list[FieldError] = []
    path = "spec.clusterIPs"
    one, several = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    if one and not several:
        errors.append(required(path))
    elif one and several[0] != one:
        errors.append(invalid(path, several, "first value must match `clusterIP`"))
    elif not one and several:
        text = "must be empty when `clusterIP` is not specified"
        errors.append(invalid(path, several, text))
    for index, family in enumerate(spec.get("ipFamilies") or ()):
        errors += rules.choice(f"spec.ipFamilies[{index}]", family, _FAMILIES)
    errors += rules.choice(
        "spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), _FAMILY_POLICIES, needed=False
    )
    if not headless:
        for index, address in enumerate(several):
            errors += rules.ip_address(f"{path}[{index}]", address)
    for index, address in enumerate(spec.get("externalIPs") or ()):
        errors += _external(f"spec.externalIPs[{index}]", address)
    return errors


def _external(path: str, address: str) -> list[FieldError]:
    if errors := rules.ip_address(path, address):
        return errors
    parsed = ipaddress.ip_address(address)
    if parsed.is_unspecified:
        return [invalid(path, address, f"may not be unspecified ({address})")]
    if parsed.is_loopback:
        text = "may not be in the loopback range (127.0.0.0/8, ::1/128)"
        return [invalid(path, address, text)]
    if parsed.is_link_local:
        text = "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        return [invalid(path, address, text)]
    return []


def _traffic(kind: str, spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    external = spec.get("externalTrafficPolicy", "")
    path = "spec.externalTrafficPolicy"
    if kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs")):
        errors += rules.choice(path, external, _POLICIES)
    elif external:
        text = "may only be set for externally-accessible services"
        errors.append(invalid(path, external, text))
    internal = spec.get("internalTrafficPolicy")
    needed = kind in ("ClusterIP", "NodePort", "LoadBalancer")
    return errors + rules.choice("spec.internalTrafficPolicy", internal, _POLICIES, needed)


def _update(spec: Object, old: Object) -> list[FieldError]:
    if "ExternalName" in (spec.get("type"), old.get("type")):
        return []
    now, then = spec.get("clusterIPs") or [], old.get("clusterIPs") or []
    if len(then) > len(now) and not now:
        return [invalid("spec.clusterIPs[0]", None, "primary clusterIP can not be unset")]
    return [
        invalid(f"spec.clusterIPs[{index}]", now, "may not change once set")
        for index, (new, was) in enumerate(zip(now, then, strict=False))
        if new != was
    ]
