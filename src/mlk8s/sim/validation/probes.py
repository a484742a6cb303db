"""Validation of probes and lifecycle handlers, and what a pod offers to its containers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mlk8s.sim.status import FieldError, Object, forbidden, invalid, required, unsupported
from mlk8s.sim.validation import rules

PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


@dataclass(frozen=True)
class Around:
    """What a pod offers to its containers.

    Attributes:
        volumes: its volumes by name.
        claims: the names of its resource claims.
        grace_period: seconds.
        restart_policy: of the pod.
        host_users: whether it shares the host's user namespace.
    """

    volumes: Mapping[str, Object]
    claims: Collection[str]
    grace_period: int | None
    restart_policy: str
    host_users: bool


def validate(path: str, container: Object, around: Around) -> list[FieldError]:
    """``lifecycle`` and the three probes."""
    errors: list[FieldError] = []
    lifecycle = container.get("lifecycle") or {}
    for part in ("postStart", "preStop"):
        if (handler := lifecycle.get(part)) is not None:
            errors += _handler(f"{path}.lifecycle.{part}", handler, around)
    for name in PROBES:
        if (probe := container.get(name)) is None:
            continue
        here = f"{path}.{name}"
        errors += _handler(here, probe, around)
        errors += rules.nonnegative_each(
            here,
            probe,
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        )
        grace = probe.get("terminationGracePeriodSeconds")
        if grace is not None and grace <= 0:
            text = "must be greater than 0"
            errors.append(invalid(f"{here}.terminationGracePeriodSeconds", grace, text))
        if name == "readinessProbe":
            if grace is not None:
                text = "must not be set for readinessProbes"
                errors.append(invalid(f"{here}.terminationGracePeriodSeconds", grace, text))
        elif (threshold := probe.get("successThreshold", 0)) != 1:
            errors.append(invalid(f"{here}.successThreshold", threshold, "must be 1"))
    return errors


def _handler(path: str, handler: Object, around: Around) -> list[FieldError]:
    errors: list[FieldError] = []
    kinds = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
    given = [kind for kind in kinds if handler.get(kind) is not None]
    if not given:
        return [required(path, "must specify a handler type")]
    for kind in given[1:]:
        text = "may not specify more than 1 handler type"
        errors.append(forbidden(f"{path}.{kind}", text))
    here, action = f"{path}.{given[0]}", handler[given[0]]
    if given[0] == "exec" and not action.get("command"):
        errors.insert(0, required(f"{here}.command"))
    elif given[0] == "httpGet":
        errors = _http(here, action) + errors
    elif given[0] in ("tcpSocket", "grpc"):
        errors = rules.port_or_name(f"{here}.port", action.get("port")) + errors
    elif given[0] == "sleep" and around.grace_period is not None:
        seconds = action.get("seconds", 0)
        if not 0 <= seconds <= around.grace_period:
            text = (
                "must be non-negative and less than terminationGracePeriodSeconds "
                f"({around.grace_period})"
            )
            errors.insert(0, invalid(here, seconds, text))
    return errors


def _http(path: str, action: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if not action.get("path"):
        errors.append(required(f"{path}.path"))
    errors += rules.port_or_name(f"{path}.port", action.get("port"))
    scheme = action.get("scheme", "")
    if scheme not in ("HTTP", "HTTPS"):
        errors.append(unsupported(f"{path}.scheme", scheme, ("HTTP", "HTTPS")))
    for header in action.get("httpHeaders") or ():
        errors += rules.each(f"{path}.httpHeaders", header.get("name", ""), rules.header_name)
    return errors
