"""What each fault does: ``EFFECTS`` has the names of ``faults.yaml``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlk8s.sim.nodes import kueue
from mlk8s.sim.nodes.config import MPS
from mlk8s.sim.nodes.context import Context, has_plugin
from mlk8s.sim.nodes.effects import hardware, software
from mlk8s.sim.nodes.state import NodeState


@dataclass(frozen=True)
class Effect:
    """How a fault is put into effect, and which nodes it can happen to.

    Attributes:
        needs: those nodes in words.
    """

    apply: Callable[[Context], None]
    suits: Callable[[NodeState], bool]
    needs: str


def _gpu(state: NodeState) -> bool:
    return state.devices is not None


def _dra(state: NodeState) -> bool:
    return bool(state.spec.dra)


def _mps(state: NodeState) -> bool:
    sharing = state.devices.config.sharing if state.devices else None
    return sharing is not None and sharing.kind == MPS


def _mig(state: NodeState) -> bool:
    return has_plugin(state) and bool(state.spec.model and state.spec.model.profiles)


def _fabric(state: NodeState) -> bool:
    # NVSwitch machines: HGX boards of eight.
    return state.devices is not None and len(state.devices.gpus) >= 8


EFFECTS: dict[str, Effect] = {
    "plugin-not-running": Effect(
        software.plugin_not_running, has_plugin, "a node with a device plugin"
    ),
    "operator-init": Effect(software.operator_init, _gpu, "a node with a GPU"),
    "no-nvidia-runtime": Effect(software.no_nvidia_runtime, _gpu, "a node with a GPU"),
    "cuda-driver-insufficient": Effect(
        hardware.cuda_driver_insufficient, _gpu, "a node with a GPU"
    ),
    "containerd-down": Effect(software.containerd_down, _gpu, "a node with a GPU"),
    "nvml-unknown-error": Effect(hardware.nvml_unknown_error, _gpu, "a node with a GPU"),
    "driver-library-mismatch": Effect(hardware.driver_library_mismatch, _gpu, "a node with a GPU"),
    "device-unhealthy": Effect(hardware.device_unhealthy, _gpu, "a node with a GPU"),
    "unexpected-admission": Effect(
        hardware.unexpected_admission, has_plugin, "a node with a device plugin"
    ),
    "all-gpus-visible": Effect(hardware.all_gpus_visible, _gpu, "a node with a GPU"),
    "time-slicing-not-applied": Effect(
        software.time_slicing_not_applied, has_plugin, "a node with a device plugin"
    ),
    "mps-daemon-not-ready": Effect(
        software.mps_daemon_not_ready, _mps, "a node that shares by MPS, such as preset h100-mps"
    ),
    "mig-in-use": Effect(
        hardware.mig_in_use, _mig, "a node with MIG and a device plugin, such as preset h100-mig"
    ),
    "driver-module-rejected": Effect(hardware.driver_module_rejected, _gpu, "a node with a GPU"),
    "dcgm-no-pod-labels": Effect(software.dcgm_no_pod_labels, _gpu, "a node with a GPU"),
    "dra-no-slices": Effect(
        software.dra_no_slices, _dra, "a node under DRA, such as preset h100-dra"
    ),
    "kueue-not-admitted": Effect(kueue.install, _gpu, "a node with a GPU"),
    "daemonsets-desired-zero": Effect(software.daemonsets_desired_zero, _gpu, "a node with a GPU"),
    "fabric-manager-missing": Effect(
        hardware.fabric_manager_missing, _fabric, "a node of eight GPUs, such as preset h100x8"
    ),
}
