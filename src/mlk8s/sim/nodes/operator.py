"""The objects that the GPU Operator and the DRA driver keep in the cluster.

Names, selectors, containers and commands are those of the operator's ``assets/state-*`` (26.7) as
the MicroK8s addon installs it, in namespace ``gpu-operator-resources`` with the host's driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mlk8s.sim.nodes.config import PluginConfig
from mlk8s.sim.nodes.labels import DEPLOY
from mlk8s.sim.status import Object

NAMESPACE = "gpu-operator-resources"
POLICY = "cluster-policy"
POLICIES = "clusterpolicies.nvidia.com"
CONFIG_MAP = "device-plugin-config"
DEFAULT_KEY = "default"
PLUGIN_APP = "nvidia-device-plugin-daemonset"
PLUGIN_LABEL = "nvidia.com/device-plugin.config"
TOOLKIT_APP = "nvidia-container-toolkit-daemonset"
MPS_APP = "nvidia-device-plugin-mps-control-daemon"
DRIVER_APP = "nvidia-driver-daemonset"
# Where MicroK8s keeps what the toolkit must extend; the addon passes these (its script "enable").
TOOLKIT = {
    "CONTAINERD_CONFIG": "/var/snap/microk8s/current/args/containerd-template.toml",
    "CONTAINERD_SOCKET": "/var/snap/microk8s/common/run/containerd.sock",
    "RUNTIME_CONFIG_SOURCE": "file=/var/snap/microk8s/current/args/containerd.toml",
}

_OPERATOR = "nvcr.io/nvidia/gpu-operator:v26.7.0"
_DRIVER = "nvcr.io/nvidia/driver:580.95.05-ubuntu22.04"
_PLUGIN = "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"
_WAIT = (
    "until [ -f /run/nvidia/validations/toolkit-ready ]; do echo waiting for nvidia container "
    "stack to be setup; sleep 5; done"
)
# name → (app label, selector label, image, container, init containers)
_DAEMON_SETS: dict[str, tuple[str, str, str, str, tuple[str, ...]]] = {
    TOOLKIT_APP: (
        TOOLKIT_APP,
        f"{DEPLOY}container-toolkit",
        "nvcr.io/nvidia/k8s/container-toolkit:v1.19.0",
        "nvidia-container-toolkit-ctr",
        ("driver-validation",),
    ),
    "nvidia-device-plugin-daemonset": (
        PLUGIN_APP,
        f"{DEPLOY}device-plugin",
        _PLUGIN,
        "nvidia-device-plugin",
        ("toolkit-validation", "config-manager-init"),
    ),
    MPS_APP: (
        MPS_APP,
        "nvidia.com/mps.capable",
        _PLUGIN,
        "mps-control-daemon-ctr",
        ("toolkit-validation", "config-manager-init"),
    ),
    "gpu-feature-discovery": (
        "gpu-feature-discovery",
        f"{DEPLOY}gpu-feature-discovery",
        _PLUGIN,
        "gpu-feature-discovery",
        ("toolkit-validation", "config-manager-init"),
    ),
    "nvidia-dcgm-exporter": (
        "nvidia-dcgm-exporter",
        f"{DEPLOY}dcgm-exporter",
        "nvcr.io/nvidia/k8s/dcgm-exporter:4.5.2-4.8.1-distroless",
        "nvidia-dcgm-exporter",
        ("toolkit-validation",),
    ),
    "nvidia-mig-manager": (
        "nvidia-mig-manager",
        f"{DEPLOY}mig-manager",
        "nvcr.io/nvidia/cloud-native/k8s-mig-manager:v0.15.0",
        "nvidia-mig-manager",
        ("toolkit-validation",),
    ),
    "nvidia-operator-validator": (
        "nvidia-operator-validator",
        f"{DEPLOY}operator-validator",
        _OPERATOR,
        "nvidia-operator-validator",
        ("driver-validation", "toolkit-validation", "cuda-validation", "plugin-validation"),
    ),
}
INIT_CONTAINERS = tuple(dict.fromkeys(name for row in _DAEMON_SETS.values() for name in row[4]))
CONFIGURED = ("nvidia-device-plugin-daemonset", "gpu-feature-discovery")


def daemon_sets(strategy: str) -> list[Object]:
    """The operator's DaemonSets."""
    return [_daemon_set(name, *row, strategy=strategy) for name, row in _DAEMON_SETS.items()]


def _daemon_set(
    name: str,
    app: str,
    selector: str,
    image: str,
    container: str,
    inits: tuple[str, ...],
    strategy: str,
) -> Object:
    main: Object = {"name": container, "image": image, "securityContext": {"privileged": True}}
    if name in CONFIGURED:
        main["env"] = configuration(strategy, CONFIG_MAP, DEFAULT_KEY)
    if name == TOOLKIT_APP:
        main["env"] = environment(TOOLKIT)
    labels = {"app": app}
    if name == "nvidia-operator-validator":
        main["command"] = ["sh", "-c"]
        main["args"] = ["echo all validations are successful; sleep infinity"]
        labels["app.kubernetes.io/part-of"] = "gpu-operator"
    # What brings the runtime nvidia cannot need it.
    runtime = {} if name in (TOOLKIT_APP, DRIVER_APP) else {"runtimeClassName": "nvidia"}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {**labels, "app.kubernetes.io/managed-by": "gpu-operator"},
        },
        "spec": {
            "selector": {"matchLabels": dict(labels)},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": {**labels, "app.kubernetes.io/managed-by": "gpu-operator"}},
                "spec": {
                    "nodeSelector": {selector: "true"},
                    "priorityClassName": "system-node-critical",
                    **runtime,
                    "tolerations": [
                        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
                    ],
                    **({"initContainers": [_init(e, image) for e in inits]} if inits else {}),
                    "containers": [main],
                },
            },
        },
    }


def driver_daemon_set() -> Object:
    """The driver in a container, which is not deployed where the host has one."""
    row = (DRIVER_APP, f"{DEPLOY}driver", _DRIVER, "nvidia-driver-ctr", ())
    return _daemon_set(DRIVER_APP, *row, strategy="")


def _init(name: str, image: str) -> Object:
    made: Object = {"name": name, "image": _OPERATOR, "securityContext": {"privileged": True}}
    if name == "config-manager-init":
        return {"name": name, "image": image, "command": ["config-manager"]}
    if name == "toolkit-validation" and image != _OPERATOR:
        return made | {"command": ["sh", "-c"], "args": [_WAIT]}
    component = {"name": "COMPONENT", "value": name.removesuffix("-validation")}
    wait = {"name": "WITH_WAIT", "value": "true" if name == "driver-validation" else "false"}
    return made | {"command": ["sh", "-c"], "args": ["nvidia-validator"], "env": [wait, component]}


def configuration(strategy: str, config_map: str, default: str) -> list[Object]:
    """The environment through which the operator configures plugin and feature discovery."""
    values = {"MIG_STRATEGY": strategy, "CONFIG_MAP": config_map, "DEFAULT_CONFIG": default}
    return environment(values)


def environment(values: Mapping[str, str]) -> list[Object]:
    """Variables as they stand in a container, and in the ClusterPolicy."""
    return [{"name": name, "value": value} for name, value in values.items()]


def key_of(config: PluginConfig) -> str:
    """The ConfigMap key under which a starting node's sharing stands."""
    sharing = config.sharing
    if sharing is None:
        return DEFAULT_KEY
    parts = [sharing.kind]
    for name, replicas in sharing.replicas:
        short = name.removeprefix("nvidia.com/")
        parts.append(str(replicas) if short == "gpu" else f"{short}-{replicas}")
    flags = {"renamed": sharing.rename, "single": sharing.fail_above_one, "packed": config.packed}
    return "-".join([*parts, *(flag for flag, is_set in flags.items() if is_set)])


def config_map(configs: Iterable[PluginConfig]) -> Object:
    """The device plugin's ConfigMap with what the starting nodes need."""
    data = {DEFAULT_KEY: PluginConfig().text()}
    data |= {key_of(config): config.text() for config in configs if config.sharing}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP, "namespace": NAMESPACE},
        "data": data,
    }


def runtime_class() -> Object:
    """RuntimeClass ``nvidia``."""
    return {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "nvidia", "labels": {"app.kubernetes.io/component": "gpu-operator"}},
        "handler": "nvidia",
    }


def storage_class() -> Object:
    """MicroK8s' default StorageClass."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "microk8s-hostpath",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "microk8s.io/hostpath",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def device_classes() -> list[Object]:
    """The DRA driver's DeviceClasses; that of whole GPUs also serves ``nvidia.com/gpu``."""
    rows: tuple[tuple[str, str, str], ...] = (
        ("gpu.nvidia.com", "gpu.nvidia.com", "gpu"),
        ("mig.nvidia.com", "gpu.nvidia.com", "mig"),
        ("vfio.gpu.nvidia.com", "gpu.nvidia.com", "vfio"),
        ("compute-domain-daemon.nvidia.com", "compute-domain.nvidia.com", "daemon"),
        ("compute-domain-default-channel.nvidia.com", "compute-domain.nvidia.com", "channel"),
    )
    classes = []
    for name, driver, kind in rows:
        expression = (
            f"device.driver == '{driver}' && device.attributes['{driver}'].type == '{kind}'"
        )
        spec: Object = {"selectors": [{"cel": {"expression": expression}}]}
        if name == "gpu.nvidia.com":
            spec["extendedResourceName"] = "nvidia.com/gpu"
        classes.append(
            {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "DeviceClass",
                "metadata": {"name": name},
                "spec": spec,
            }
        )
    return classes


def policy(strategy: str) -> Object:
    """The ClusterPolicy, without status."""
    enabled = {"enabled": True}
    return {
        "apiVersion": "nvidia.com/v1",
        "kind": "ClusterPolicy",
        "metadata": {"name": POLICY, "labels": {"app.kubernetes.io/managed-by": "Helm"}},
        "spec": {
            "operator": {"runtimeClass": "nvidia"},
            "daemonsets": {"priorityClassName": "system-node-critical"},
            "driver": {"enabled": False},
            "toolkit": {**enabled, "env": environment(TOOLKIT)},
            "cdi": dict(enabled),
            "devicePlugin": {**enabled, "config": {"name": CONFIG_MAP, "default": DEFAULT_KEY}},
            "gfd": dict(enabled),
            "dcgm": {"enabled": False},
            "dcgmExporter": dict(enabled),
            "mig": {"strategy": strategy},
            "migManager": {**enabled, "config": {"name": "", "default": "all-disabled"}},
            "validator": {"plugin": {"env": []}},
        },
    }


def policy_definition() -> Object:
    """The CustomResourceDefinition of ClusterPolicy, with the fields that are looked at here."""
    loose: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    text = {"type": "string"}
    config = {"type": "object", "properties": {"name": text, "default": text}}
    plugin = {**loose, "properties": {"enabled": {"type": "boolean"}, "config": config}}
    strategy = {"type": "string", "enum": ["none", "single", "mixed"]}
    mig = {"type": "object", "properties": {"strategy": strategy}}
    manager = {**loose, "properties": {"enabled": {"type": "boolean"}, "config": config}}
    spec = {**loose, "properties": {"devicePlugin": plugin, "mig": mig, "migManager": manager}}
    schema = {
        "type": "object",
        "properties": {"apiVersion": text, "kind": text, "spec": spec, "status": dict(loose)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": POLICIES},
        "spec": {
            "group": "nvidia.com",
            "scope": "Cluster",
            "names": {
                "kind": "ClusterPolicy",
                "listKind": "ClusterPolicyList",
                "plural": "clusterpolicies",
                "singular": "clusterpolicy",
            },
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": "Status", "type": "string", "jsonPath": ".status.state"},
                        {
                            "name": "Age",
                            "type": "string",
                            "jsonPath": ".metadata.creationTimestamp",
                        },
                    ],
                }
            ],
        },
    }
