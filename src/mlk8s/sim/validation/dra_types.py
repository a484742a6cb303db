"""Specs of claims as the server itself holds them, for its message that they are immutable.

Its own structures of ``pkg/apis/resource`` have no JSON names, so that they are printed under the
names of their Go fields, in the order of declaration (see ``gotypes``).
"""

from __future__ import annotations

from typing import Any

from mlk8s.sim.status import Object


def claim_spec(spec: Object) -> Object:
    """A ``ResourceClaimSpec``."""
    devices = spec.get("devices") or {}
    return {
        "Devices": {
            "Requests": _each(devices.get("requests"), _request),
            "Constraints": _each(devices.get("constraints"), _constraint),
            "Config": _each(devices.get("config"), _config),
        }
    }


def template_spec(spec: Object) -> Object:
    """A ``ResourceClaimTemplateSpec``: the metadata's fields stand beside ``Spec``."""
    metadata = spec.get("metadata") or {}
    return {**metadata, "Spec": claim_spec(spec.get("spec") or {})}


def _each(values: list[Any] | None, of: Any) -> list[Any] | None:
    return [of(value) for value in values] if values else None


def _request(request: Object) -> Object:
    exactly = request.get("exactly")
    return {
        "Name": request.get("name", ""),
        "Exactly": None if exactly is None else _device(exactly, admin=True),
        "FirstAvailable": _each(
            request.get("firstAvailable"),
            lambda sub: {"Name": sub.get("name", ""), **_device(sub, admin=False)},
        ),
    }


def _device(spec: Object, admin: bool) -> Object:
    capacity = spec.get("capacity")
    shown: Object = {
        "DeviceClassName": spec.get("deviceClassName", ""),
        "Selectors": _each(
            spec.get("selectors"),
            lambda each: {"CEL": {"Expression": (each.get("cel") or {}).get("expression", "")}},
        ),
        "AllocationMode": spec.get("allocationMode", ""),
        "Count": spec.get("count", 0),
    }
    if admin:
        shown["AdminAccess"] = spec.get("adminAccess")
    shown["Tolerations"] = _each(spec.get("tolerations"), _toleration)
    shown["Capacity"] = None if capacity is None else {"Requests": capacity.get("requests")}
    return shown


def _toleration(toleration: Object) -> Object:
    shown = {
        name: toleration.get(name.lower(), "") for name in ("Key", "Operator", "Value", "Effect")
    }
    return {**shown, "TolerationSeconds": toleration.get("tolerationSeconds")}


def _constraint(constraint: Object) -> Object:
    return {
        "Requests": constraint.get("requests"),
        "MatchAttribute": constraint.get("matchAttribute"),
        "DistinctAttribute": constraint.get("distinctAttribute"),
    }


def _config(config: Object) -> Object:
    opaque = config.get("opaque")
    return {
        "Requests": config.get("requests"),
        "Opaque": None
        if opaque is None
        else {"Driver": opaque.get("driver", ""), "Parameters": opaque.get("parameters")},
    }
