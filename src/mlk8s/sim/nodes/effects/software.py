"""Faults of what runs on a node: operator, plugin, runtime, exporters, DRA driver."""

from __future__ import annotations

from functools import partial
from typing import Any

import yaml

from mlk8s.sim.nodes import following
from mlk8s.sim.nodes.context import OPERANDS, PLUGIN, Context, has_plugin
from mlk8s.sim.nodes.labels import DEPLOY, MPS_CAPABLE
from mlk8s.sim.nodes.operator import (
    CONFIG_MAP,
    DEFAULT_KEY,
    MPS_APP,
    NAMESPACE,
    PLUGIN_APP,
    PLUGIN_LABEL,
    POLICIES,
    POLICY,
    TOOLKIT,
    TOOLKIT_APP,
)
from mlk8s.sim.nodes.plugin import running_operand
from mlk8s.sim.nodes.state import NodeState
from mlk8s.sim.status import Object, StatusError

_GPU = "nvidia.com/gpu"
_NEEDED = ("CONTAINERD_CONFIG", "CONTAINERD_SOCKET")
_SOCKET = "/var/snap/microk8s/common/run/containerd.sock"
_WAITING = ("waiting for nvidia container stack to be setup",) * 3


def plugin_not_running(context: Context) -> None:
    """The operator is told not to run the device plugin."""
    for state in context.states:
        context.label(state, {f"{DEPLOY}device-plugin": "false"})
        context.fleet.plugins.stop(state)


def operator_init(context: Context) -> None:
    """The validation of the driver does not pass, and all others wait for it."""
    hold_operands(context)


def hold_operands(context: Context) -> None:
    """Validator and toolkit wait for the driver in their init containers, the others for them."""
    context.interfere(
        "run",
        context.operand("nvidia-operator-validator", TOOLKIT_APP),
        lines=(
            "running command chroot with args [/run/nvidia/driver nvidia-smi]",
            "chroot: failed to run command 'nvidia-smi': No such file or directory",
            "command failed, retrying after 5 seconds",
        ),
        exit_code=None,
        container="driver-validation",
    )
    match = context.operand(*OPERANDS)
    context.interfere("run", match, lines=_WAITING, exit_code=None, container="toolkit-validation")
    for state in context.states:
        if has_plugin(state):
            context.break_plugin(state)
    context.restart(TOOLKIT_APP, *OPERANDS)


def no_nvidia_runtime(context: Context) -> None:
    """The toolkit is not told of MicroK8s' containerd, and extends another one's configuration."""

    def unknown(pod: Object) -> bool:
        if not context.nvidia_runtime(pod):
            return False
        told = context.toolkit(pod["spec"]["nodeName"])
        # The third variable matters only where another containerd is on the host.
        return any(told.get(key) != TOOLKIT[key] for key in _NEEDED)

    policy = context.api.find(POLICIES, "", POLICY)
    if policy is None:
        raise StatusError(
            409, "Conflict", f"there is no ClusterPolicy {POLICY} (yet), which this fault changes"
        )
    before = policy["spec"]["toolkit"].get("env")

    def tell(environment: list[Object] | None) -> None:
        def write(policy: Object) -> None:
            policy["spec"]["toolkit"]["env"] = environment or []

        context.api.change(POLICIES, "", POLICY, write)
        following.policy(context.api, context.fleet.plugins.first_strategy)

    tell(None)
    context.undo(lambda: tell(before))
    context.restart(TOOLKIT_APP)
    context.interfere(
        "create",
        unknown,
        "FailedCreatePodSandBox",
        "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox "
        'runtime: no runtime for "nvidia" is configured',
    )


def containerd_down(context: Context) -> None:
    """The node is not ready, and no sandbox can be made on it."""
    context.interfere(
        "create",
        context.anything,
        "FailedCreatePodSandBox",
        "Failed to create pod sandbox: rpc error: code = Unavailable desc = connection error: "
        f'desc = "transport: Error while dialing: dial unix {_SOCKET}: connect: connection '
        'refused"',
    )
    for state in context.states:
        _not_ready(context, state)


def _not_ready(context: Context, state: NodeState) -> None:
    """The kubelet says so itself; the taints that follow are the node controller's."""

    def set_ready(status: str, reason: str, message: str) -> None:
        now = context.api.timestamp()

        def write(node: Object) -> None:
            for each in node["status"]["conditions"]:
                if each["type"] == "Ready":
                    each |= {"status": status, "reason": reason, "message": message}
                    each |= {"lastTransitionTime": now, "lastHeartbeatTime": now}

        context.api.change("nodes", "", state.name, write, subresource="status")

    set_ready("False", "KubeletNotReady", "container runtime is down")
    context.undo(lambda: set_ready("True", "KubeletReady", "kubelet is posting ready status"))


def time_slicing_not_applied(context: Context) -> None:
    """The ConfigMap is edited, with a key in the wrong place, and nobody restarts the plugin."""
    # More than any of the nodes has, or nothing would be seen.
    configs = [state.devices.config.sharing for state in context.states if state.devices]
    replicas = max([4, *(2 * sharing.of(_GPU) for sharing in configs if sharing)])
    resource = {"name": _GPU, "replicas": replicas}
    edited = yaml.safe_dump(
        {
            "version": "v1",
            "flags": {"renameByDefault": True},
            "sharing": {"timeSlicing": {"resources": [resource]}},
        },
        sort_keys=False,
    )
    before: dict[str, Any] = {}

    def write(config_map: Object) -> None:
        before.update(config_map.get("data") or {})
        for state in context.states:
            node = context.api.find("nodes", "", state.name) or {"metadata": {}}
            labels = node["metadata"].get("labels") or {}
            key = labels.get(PLUGIN_LABEL) or DEFAULT_KEY
            config_map.setdefault("data", {})[key] = edited

    def restore(config_map: Object) -> None:
        config_map["data"] = dict(before)

    context.api.change("configmaps", NAMESPACE, CONFIG_MAP, write)

    def undo() -> None:
        context.api.change("configmaps", NAMESPACE, CONFIG_MAP, restore)
        # Where somebody has applied it.
        for state in context.states:
            context.fleet.restart(state.name, PLUGIN_APP)

    context.undo(undo)


def mps_daemon_not_ready(context: Context) -> None:
    """The control daemon is not deployed, and the plugin does not start without it."""
    plugin = context.operand(PLUGIN_APP)

    def alone(node: str) -> bool:
        return running_operand(context.api, node, MPS_APP) is None

    context.interfere(
        "run",
        lambda pod: plugin(pod) and alone(pod["spec"]["nodeName"]),
        lines=(
            "I main.go:317] Retrieving plugins.",
            "E main.go:203] Failed to start one or more plugins. Retrying in 30s...",
            "E server.go:128] Failed to start plugin: error waiting for MPS daemon: error "
            "checking MPS daemon health: failed to send command to MPS daemon: exit status 1",
            "MPS daemon is not ready",
        ),
        container=PLUGIN,
    )
    for state in context.states:
        context.label(state, {MPS_CAPABLE: "false"})
        context.break_plugin(state, partial(alone, state.name))
    context.restart(MPS_APP, PLUGIN_APP)


def dcgm_no_pod_labels(context: Context) -> None:
    """The exporter's metrics name no pod."""
    lines = [
        "# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).",
        "# TYPE DCGM_FI_DEV_GPU_UTIL gauge",
    ]
    for state in context.states:
        assert state.devices is not None
        lines += [
            f'DCGM_FI_DEV_GPU_UTIL{{gpu="{gpu.index}",UUID="{gpu.uuid}",'
            f'modelName="{gpu.model.name}",Hostname="{state.name}",container="",namespace="",'
            'pod=""} 0'
            for gpu in state.devices.gpus
        ]
    context.interfere("log", context.operand("nvidia-dcgm-exporter"), lines=lines)
    context.restart("nvidia-dcgm-exporter")


def dra_no_slices(context: Context) -> None:
    """The DRA driver publishes no devices."""

    def hide(value: bool) -> None:
        for state in context.states:
            state.hidden = value
            context.fleet.publish(state)

    hide(True)
    context.undo(lambda: hide(False))


def daemonsets_desired_zero(context: Context) -> None:
    """Node Feature Discovery has not labeled the nodes."""
    for state in context.states:
        node = context.api.find("nodes", "", state.name) or {"metadata": {}}
        labels = node["metadata"].get("labels") or {}
        gone: dict[str, str | None] = {
            key: None for key in labels if key.startswith("feature.node.kubernetes.io/pci-")
        }
        if state.gfd.pop(MPS_CAPABLE, None):
            # The control daemon of MPS alone is selected by a label of GPU Feature Discovery.
            gone[MPS_CAPABLE] = None
        context.label(state, gone)
        following.features(context.api, state)
        context.fleet.plugins.stop(state)
