"""Validation of security contexts, of pods and of their containers."""

from __future__ import annotations

from mlk8s.sim.status import FieldError, Object, invalid, required, unsupported
from mlk8s.sim.validation import rules

_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")


def of_pod(path: str, spec: Object) -> list[FieldError]:
    """``spec.securityContext``."""
    context = spec.get("securityContext") or {}
    errors: list[FieldError] = []
    for name in ("fsGroup", "runAsUser", "runAsGroup"):
        errors += _identity(f"{path}.{name}", context.get(name))
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        errors += _identity(f"{path}.supplementalGroups[{index}]", group)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid(f"{path}.shareProcessNamespace", True, text))
    policies = ("Always", "OnRootMismatch")
    if (policy := context.get("fsGroupChangePolicy")) is not None and policy not in policies:
        errors.append(unsupported(f"{path}.fsGroupChangePolicy", policy, policies))
    return errors + _profiles(path, context)


def of_container(path: str, context: Object | None, host_users: bool) -> list[FieldError]:
    """``securityContext`` of a container."""
    if context is None:
        return []
    errors = _identity(f"{path}.runAsUser", context.get("runAsUser"))
    errors += _identity(f"{path}.runAsGroup", context.get("runAsGroup"))
    if (mount := context.get("procMount")) is not None:
        if mount not in ("Default", "Unmasked"):
            errors.append(unsupported(f"{path}.procMount", mount, ("Default", "Unmasked")))
        if host_users and mount == "Unmasked":
            text = "`hostUsers` must be false to use `Unmasked`"
            errors.append(invalid(f"{path}.procMount", mount, text))
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(invalid(path, context, text))
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            text = (
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` "
                "CAP_SYS_ADMIN"
            )
            errors.append(invalid(path, context, text))
    return errors + _profiles(path, context)


def _identity(path: str, number: int | None) -> list[FieldError]:
    if number is None or 0 <= number <= rules.MAX_INT32:
        return []
    return [invalid(path, number, rules.in_range(0, rules.MAX_INT32))]


def _profiles(path: str, context: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for name, title in (("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")):
        if (profile := context.get(name)) is None:
            continue
        here, kind = f"{path}.{name}", profile.get("type", "")
        if not kind:
            errors.append(required(f"{here}.type", f"type is required when {name} is set"))
        elif kind not in _PROFILES:
            errors.append(unsupported(f"{here}.type", kind, _PROFILES))
        local = profile.get("localhostProfile")
        if kind == "Localhost" and not local:
            text = f"must be set when {title} type is Localhost"
            errors.append(required(f"{here}.localhostProfile", text))
        elif kind != "Localhost" and local is not None:
            text = f"can only be set when {title} type is Localhost"
            errors.append(invalid(f"{here}.localhostProfile", local, text))
    return errors
