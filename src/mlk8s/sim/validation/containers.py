"""Validation of containers: what each holds, and what init and ordinary ones may hold.

The rules and their order are those of ``validateContainerCommon`` and its callers in
``pkg/apis/core/validation/validation.go``.
"""

from __future__ import annotations

from mlk8s.sim.status import (
    FieldError,
    Object,
    duplicate,
    forbidden,
    invalid,
    required,
    unsupported,
)
from mlk8s.sim.validation import environment, probes, resources, rules, security
from mlk8s.sim.validation.probes import Around
from mlk8s.sim.validation.volumes import local_path

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
# What an ephemeral container may not have: it comes and goes beside the pod's own work.
_NOT_EPHEMERAL = (
    "ports",
    "resources",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resizePolicy",
    "restartPolicy",
)


def ordinary(path: str, containers: list[Object], around: Around) -> list[FieldError]:
    """``spec.containers``."""
    if not containers:
        return [required(path)]
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, container in enumerate(containers):
        here, name = f"{path}[{index}]", container.get("name", "")
        errors += _common(here, container, around)
        if name in names:
            errors.append(duplicate(f"{here}.name", name))
        names.add(name)
        errors += probes.validate(here, container, around)
        errors += _restart_policy(f"{here}.restartPolicy", container)
    return errors + _host_ports(path, containers)


def init(
    path: str, containers: list[Object], others: list[Object], around: Around
) -> list[FieldError]:
    """``spec.initContainers``; with ``restartPolicy: Always`` they are sidecars."""
    errors: list[FieldError] = []
    names = {container.get("name", "") for container in others}
    for index, container in enumerate(containers):
        here, name = f"{path}[{index}]", container.get("name", "")
        errors += _common(here, container, around)
        errors += _restart_policy(f"{here}.restartPolicy", container)
        if name in names:
            errors.append(duplicate(f"{here}.name", name))
        elif name:
            names.add(name)
        errors += _host_ports(path, [container])
        if container.get("restartPolicy") == "Always":
            errors += probes.validate(here, container, around)
            continue
        text = "may not be set for init containers without restartPolicy=Always"
        errors += [
            forbidden(f"{here}.{part}", text)
            for part in ("lifecycle", *probes.PROBES)
            if container.get(part) is not None
        ]
    return errors


def ephemeral(
    path: str, containers: list[Object], others: list[Object], around: Around
) -> list[FieldError]:
    """``spec.ephemeralContainers``."""
    errors: list[FieldError] = []
    lasting = {container.get("name", "") for container in others}
    names = set(lasting)
    for index, container in enumerate(containers):
        here, name = f"{path}[{index}]", container.get("name", "")
        errors += _common(here, container, around) + image_only(here, container)
        if name in names:
            errors.append(duplicate(f"{here}.name", name))
        names.add(name)
        target = container.get("targetContainerName")
        if target and target not in lasting:
            errors.append(rules.not_found(f"{here}.targetContainerName", target))
        errors += [
            forbidden(f"{here}.{part}", "cannot be set for an Ephemeral Container")
            for part in _NOT_EPHEMERAL
            if container.get(part)
        ]
        for at, mount in enumerate(container.get("volumeMounts") or ()):
            errors += [
                forbidden(
                    f"{here}.volumeMounts[{at}].{part}", "cannot be set for an Ephemeral Container"
                )
                for part in ("subPath", "subPathExpr")
                if mount.get(part)
            ]
    return errors


def image_only(path: str, container: Object) -> list[FieldError]:
    """What holds for the containers of a pod but not for those of a template."""
    image = container.get("image", "")
    if image == image.strip():
        return []
    return [invalid(f"{path}.image", image, "must not have leading or trailing whitespace")]


def _common(path: str, container: Object, around: Around) -> list[FieldError]:
    errors: list[FieldError] = []
    if name := container.get("name"):
        errors += rules.each(f"{path}.name", name, rules.dns_label)
    else:
        errors.append(required(f"{path}.name"))
    if not container.get("image"):
        errors.append(required(f"{path}.image"))
    errors += rules.choice(
        f"{path}.terminationMessagePolicy",
        container.get("terminationMessagePolicy"),
        ("File", "FallbackToLogsOnError"),
    )
    mounts, devices = container.get("volumeMounts") or [], container.get("volumeDevices") or []
    errors += _ports(f"{path}.ports", container.get("ports") or [])
    errors += environment.variables(f"{path}.env", container.get("env") or [])
    errors += environment.sources(f"{path}.envFrom", container.get("envFrom") or [])
    errors += _mounts(f"{path}.volumeMounts", mounts, devices, container, around)
    errors += _devices(f"{path}.volumeDevices", devices, mounts, around)
    errors += rules.choice(
        f"{path}.imagePullPolicy", container.get("imagePullPolicy"), _PULL_POLICIES
    )
    errors += resources.requirements(
        f"{path}.resources", container.get("resources") or {}, around.claims
    )
    errors += _resize(f"{path}.resizePolicy", container.get("resizePolicy") or [], around)
    errors += security.of_container(
        f"{path}.securityContext", container.get("securityContext"), around.host_users
    )
    return errors


def _restart_policy(path: str, container: Object) -> list[FieldError]:
    policy = container.get("restartPolicy")
    if policy is None:
        return []
    # ContainerRestartRules is on since 1.35: an ordinary container may have a policy too.
    return rules.choice(path, policy, ("Always", "Never", "OnFailure"))


def _ports(path: str, ports: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        here = f"{path}[{index}]"
        if name := port.get("name"):
            if texts := rules.port_name(name):
                errors += [invalid(f"{here}.name", name, text) for text in texts]
            elif name in names:
                errors.append(duplicate(f"{here}.name", name))
            names.add(name)
        if not port.get("containerPort"):
            errors.append(required(f"{here}.containerPort"))
        else:
            errors += rules.port_number(f"{here}.containerPort", port["containerPort"])
        if host := port.get("hostPort"):
            errors += rules.port_number(f"{here}.hostPort", host)
        errors += rules.choice(f"{here}.protocol", port.get("protocol"), _PROTOCOLS)
    return errors


def _host_ports(path: str, containers: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    taken: set[str] = set()
    for index, container in enumerate(containers):
        for at, port in enumerate(container.get("ports") or ()):
            if not (number := port.get("hostPort")):
                continue
            key = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{number}"
            if key in taken:
                errors.append(duplicate(f"{path}[{index}].ports[{at}].hostPort", key))
            taken.add(key)
    return errors


def _mounts(
    path: str, mounts: list[Object], devices: list[Object], container: Object, around: Around
) -> list[FieldError]:
    errors: list[FieldError] = []
    taken: set[str] = set()
    device_names = {device.get("name") for device in devices}
    device_paths = {device.get("devicePath") for device in devices}
    for index, mount in enumerate(mounts):
        here = f"{path}[{index}]"
        name, where = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            errors.append(required(f"{here}.name"))
        if name not in around.volumes:
            errors.append(rules.not_found(f"{here}.name", name))
        if not where:
            errors.append(required(f"{here}.mountPath"))
        if where in taken:
            errors.append(invalid(f"{here}.mountPath", where, "must be unique"))
        taken.add(where)
        if name in device_names:
            text = "must not already exist in volumeDevices"
            errors.append(invalid(f"{here}.name", name, text))
        if where in device_paths:
            text = "must not already exist as a path in volumeDevices"
            errors.append(invalid(f"{here}.mountPath", where, text))
        if sub := mount.get("subPath"):
            errors += local_path(f"{path}.subPath", sub)
        if expression := mount.get("subPathExpr"):
            if sub:
                text = "subPathExpr and subPath are mutually exclusive"
                errors.append(invalid(f"{here}.subPathExpr", expression, text))
            errors += local_path(f"{path}.subPathExpr", expression)
        errors += _propagation(f"{path}.mountPropagation", mount, container)
    return errors


def _propagation(path: str, mount: Object, container: Object) -> list[FieldError]:
    if (mode := mount.get("mountPropagation")) is None:
        return []
    if mode not in ("Bidirectional", "HostToContainer", "None"):
        return [unsupported(path, mode, ("Bidirectional", "HostToContainer", "None"))]
    privileged = (container.get("securityContext") or {}).get("privileged")
    if mode == "Bidirectional" and not privileged:
        text = "Bidirectional mount propagation is available only to privileged containers"
        return [forbidden(path, text)]
    return []


def _devices(
    path: str, devices: list[Object], mounts: list[Object], around: Around
) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    paths: set[str] = set()
    mounted = {mount.get("name") for mount in mounts}
    mount_paths = {mount.get("mountPath") for mount in mounts}
    for index, device in enumerate(devices):
        here = f"{path}[{index}]"
        name, where = device.get("name", ""), device.get("devicePath", "")
        volume = around.volumes.get(name)
        if not name:
            errors.append(required(f"{here}.name"))
        if name in names:
            errors.append(invalid(f"{here}.name", name, "must be unique"))
        if volume is None:
            errors.append(rules.not_found(f"{here}.name", name))
        elif "persistentVolumeClaim" not in volume and "ephemeral" not in volume:
            text = (
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block "
                "mode"
            )
            errors.append(invalid(f"{here}.name", name, text))
        if not where:
            errors.append(required(f"{here}.devicePath"))
        if where in paths:
            errors.append(invalid(f"{here}.devicePath", where, "must be unique"))
        if ".." in where.split("/"):
            errors.append(invalid(f"{here}.devicePath", where, "can not contain backsteps ('..')"))
        if name in mounted:
            text = "must not already exist in volumeMounts"
            errors.append(invalid(f"{here}.name", name, text))
        if where in mount_paths:
            text = "must not already exist as a path in volumeMounts"
            errors.append(invalid(f"{here}.devicePath", where, text))
        names.add(name)
        paths.add(where)
    return errors


def _resize(path: str, policies: list[Object], around: Around) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, policy in enumerate(policies):
        name, restart = policy.get("resourceName", ""), policy.get("restartPolicy", "")
        if name in seen:
            errors.append(duplicate(f"{path}[{index}]", name))
        seen.add(name)
        errors += rules.choice(path, name, ("cpu", "memory"))
        errors += rules.choice(path, restart, ("NotRequired", "RestartContainer"))
        if around.restart_policy == "Never" and restart != "NotRequired":
            text = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            errors.append(invalid(path, restart, text))
    return errors
