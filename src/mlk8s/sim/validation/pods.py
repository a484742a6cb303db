"""Validation of new pods and of the templates that make them.

The order of the checks, which is the order of the messages, is that of ``ValidatePodSpec`` in
``pkg/apis/core/validation/validation.go``.
"""

from __future__ import annotations

from mlk8s.sim import quantity
from mlk8s.sim.status import (
    FieldError,
    Object,
    duplicate,
    forbidden,
    invalid,
    required,
    unsupported,
)
from mlk8s.sim.validation import (
    containers,
    gotypes,
    metadata,
    resources,
    rules,
    scheduling,
    security,
    volumes,
)
from mlk8s.sim.validation.probes import Around

_RESTART = ("Always", "OnFailure", "Never")
_DNS = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTION = ("PreemptLowerPriority", "Never")


def on_create(pod: Object) -> list[FieldError]:
    """Errors in a new pod; its metadata is checked by the caller."""
    spec = pod.get("spec") or {}
    errors = own(spec)
    if spec.get("ephemeralContainers"):
        errors.append(forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if spec.get("nodeName") and spec.get("schedulingGates"):
        text = "cannot be set until all schedulingGates have been cleared"
        errors.append(forbidden("spec.nodeName", text))
    return errors


def own(spec: Object) -> list[FieldError]:
    """A spec that is a pod's own, not a template's."""
    errors = validate_spec("spec", spec)
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(kind) or ()):
            errors += containers.image_only(f"spec.{kind}[{index}]", container)
    return errors


def template(path: str, found: Object) -> list[FieldError]:
    """``spec.template`` of a workload."""
    about = found.get("metadata") or {}
    spec = found.get("spec") or {}
    errors = rules.labels(f"{path}.labels", about.get("labels"))
    errors += metadata.annotation_map(f"{path}.annotations", about.get("annotations"))
    errors += validate_spec(f"{path}.spec", spec, in_template=True)
    if spec.get("ephemeralContainers"):
        text = "ephemeral containers not allowed in pod template"
        errors.append(forbidden(f"{path}.spec.ephemeralContainers", text))
    return errors


def validate_spec(path: str, spec: Object, in_template: bool = False) -> list[FieldError]:
    """A ``v1.PodSpec``."""
    grace = spec.get("terminationGracePeriodSeconds")
    errors = [] if grace is not None else [required(f"{path}.terminationGracePeriodSeconds")]
    found_volumes = spec.get("volumes") or []
    claims = spec.get("resourceClaims") or []
    around = Around(
        volumes={volume.get("name", ""): volume for volume in found_volumes},
        claims={claim["name"] for claim in claims if claim.get("name")},
        grace_period=grace,
        restart_policy=spec.get("restartPolicy", ""),
        host_users=spec.get("hostUsers", True),
    )
    ordinary = spec.get("containers") or []
    before = spec.get("initContainers") or []
    errors += volumes.validate(f"{path}.volumes", found_volumes)
    errors += _resource_claims(f"{path}.resourceClaims", claims)
    errors += containers.ordinary(f"{path}.containers", ordinary, around)
    errors += containers.init(f"{path}.initContainers", before, ordinary, around)
    errors += containers.ephemeral(
        f"{path}.ephemeralContainers",
        spec.get("ephemeralContainers") or [],
        [*ordinary, *before],
        around,
    )
    errors += _pod_resources(f"{path}.resources", spec)
    errors += _host_network(path, spec, in_template)
    errors += rules.choice(f"{path}.restartPolicy", spec.get("restartPolicy"), _RESTART)
    errors += rules.choice(f"{path}.dnsPolicy", spec.get("dnsPolicy"), _DNS)
    errors += rules.labels(f"{path}.nodeSelector", spec.get("nodeSelector"))
    errors += security.of_pod(f"{path}.securityContext", spec)
    errors += scheduling.affinity(f"{path}.affinity", spec.get("affinity"))
    errors += _dns(f"{path}.dnsConfig", spec)
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        where = f"{path}.readinessGates[{index}].conditionType"
        errors += rules.each(where, gate.get("conditionType", ""), rules.qualified_name)
    errors += _gates(f"{path}.schedulingGates", spec.get("schedulingGates") or [])
    errors += scheduling.spread(
        f"{path}.topologySpreadConstraints", spec.get("topologySpreadConstraints") or []
    )
    return errors + _scalars(path, spec)


def _scalars(path: str, spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for name, check in (
        ("serviceAccountName", rules.dns_subdomain),
        ("nodeName", rules.dns_subdomain),
    ):
        if value := spec.get(name):
            errors += rules.each(f"{path}.{name}", value, check)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= rules.MAX_INT32:
        text = rules.in_range(1, rules.MAX_INT32)
        errors.append(invalid(f"{path}.activeDeadlineSeconds", deadline, text))
    for name in ("hostname", "subdomain"):
        if value := spec.get(name):
            errors += rules.each(f"{path}.{name}", value, rules.dns_label)
    errors += scheduling.tolerations(f"{path}.tolerations", spec.get("tolerations") or [])
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        here = f"{path}.hostAliases[{index}]"
        errors += rules.ip_address(f"{here}.ip", alias.get("ip", ""))
        for at, name in enumerate(alias.get("hostnames") or ()):
            errors += rules.each(f"{here}.hostnames[{at}]", name, rules.dns_subdomain)
    for name in ("priorityClassName", "runtimeClassName"):
        if value := spec.get(name):
            errors += rules.each(f"{path}.{name}", value, rules.dns_subdomain)
    if (policy := spec.get("preemptionPolicy")) is not None:
        errors += rules.choice(f"{path}.preemptionPolicy", policy, _PREEMPTION)
    errors += resources.requirements(f"{path}.overhead", {"limits": spec.get("overhead") or {}}, ())
    if (system := spec.get("os")) is not None:
        if not system.get("name"):
            errors.append(required(f"{path}.os.name", "cannot be empty"))
        elif system["name"] not in ("linux", "windows"):
            errors.append(unsupported(f"{path}.os", system["name"], ("linux", "windows")))
    return errors


def _resource_claims(path: str, claims: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, claim in enumerate(claims):
        here, name = f"{path}[{index}]", claim.get("name", "")
        if not name:
            errors.append(required(f"{here}.name"))
        elif name in names:
            errors.append(duplicate(f"{here}.name", name))
        else:
            errors += rules.each(f"{here}.name", name, rules.dns_label)
            names.add(name)
        sources = [
            part
            for part in ("resourceClaimName", "resourceClaimTemplateName")
            if claim.get(part) is not None
        ]
        shown = gotypes.structure("PodResourceClaim", claim)
        if len(sources) > 1:
            text = (
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            )
            errors.append(gotypes.invalid(here, shown, text))
        elif not sources:
            text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(gotypes.invalid(here, shown, text))
        for part in sources:
            errors += rules.each(f"{here}.{part}", claim[part], rules.dns_subdomain)
    return errors


def _pod_resources(path: str, spec: Object) -> list[FieldError]:
    found = spec.get("resources")
    if not found:
        return []
    errors: list[FieldError] = []
    if found.get("claims"):
        text = "claims cannot be set for Resources at pod-level"
        errors.append(forbidden(f"{path}.claims", text))
    plain = {part: found.get(part) or {} for part in ("limits", "requests")}
    errors += resources.requirements(path, plain, (), resources.pod_name)
    names = {
        name
        for container in spec.get("containers") or ()
        for name in ((container.get("resources") or {}).get("requests") or {})
        if name in ("cpu", "memory") or resources.is_huge_pages(name)
    }
    for name in sorted(names):
        texts = [
            str(asked)
            for container in spec.get("containers") or ()
            if (asked := ((container.get("resources") or {}).get("requests") or {}).get(name))
            is not None
        ]
        total = sum((quantity.value(text) for text in texts), start=quantity.value("0"))
        most = str(plain["requests"].get(name, "0"))
        if total > quantity.value(most):
            shown = quantity.of(total, texts[0])
            text = f"must be greater than or equal to aggregate container requests of {shown}"
            where = f"{path}.requests[{name}]"
            errors.append(invalid(where, quantity.canonical(most), text))
    return errors


def _host_network(path: str, spec: Object, in_template: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if not spec.get("hostNetwork"):
        return errors
    for index, container in enumerate(spec.get("containers") or ()):
        for at, port in enumerate(container.get("ports") or ()):
            host = port.get("hostPort", 0)
            if (host or not in_template) and host != port.get("containerPort", 0):
                where = f"{path}.containers[{index}].ports[{at}].hostPort"
                text = "must match `containerPort` when `hostNetwork` is true"
                errors.append(invalid(where, host, text))
    return errors


def _dns(path: str, spec: Object) -> list[FieldError]:
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            return [required(path, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not config.get("nameservers"):
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [required(f"{path}.nameservers", text)]
    errors: list[FieldError] = []
    servers = (config or {}).get("nameservers") or []
    if len(servers) > 3:
        text = "must not have more than 3 nameservers"
        errors.append(invalid(f"{path}.nameservers", servers, text))
    for index, server in enumerate(servers):
        errors += rules.ip_address(f"{path}.nameservers[{index}]", server)
    for index, option in enumerate((config or {}).get("options") or ()):
        if not option.get("name"):
            errors.append(required(f"{path}.options[{index}]", "must not be empty"))
    return errors


def _gates(path: str, gates: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, gate in enumerate(gates):
        name = gate.get("name", "")
        errors += rules.each(f"{path}[{index}]", name, rules.qualified_name)
        if name in seen:
            errors.append(duplicate(f"{path}[{index}]", name))
        seen.add(name)
    return errors
