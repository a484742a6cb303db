"""The labels that GPU Feature Discovery and the GPU Operator put on a node.

GPU Feature Discovery 0.20 (k8s-device-plugin ``internal/lm``), GPU Operator 26.7
(``controllers/state_manager.go``). A node without GPUs gets none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from mlk8s.sim.nodes.config import MPS, Sharing
from mlk8s.sim.nodes.devices import GPU, Devices
from mlk8s.sim.nodes.models import CUDA, DRIVER, Model, Profile

STAMP = "nvidia.com/gfd.timestamp"
DEPLOY = "nvidia.com/gpu.deploy."
PRESENT = "nvidia.com/gpu.present"
MPS_CAPABLE = "nvidia.com/mps.capable"
PAUSED = "paused-for-mig-change"
# Those by which the operator knows a node with a GPU: vendor 10de, class display or 3D.
_FOUND = tuple(f"feature.node.kubernetes.io/pci-{x}10de.present" for x in ("", "0302_", "0300_"))
# What mig-manager stops while it changes a node (mig-parted pkg/mig/reconfigure).
CLIENTS = ("device-plugin", "gpu-feature-discovery", "dcgm-exporter", "dcgm", "nvsm")
_OPERANDS = (
    "container-toolkit",
    "dcgm",
    "dcgm-exporter",
    "device-plugin",
    "gpu-feature-discovery",
    "node-status-exporter",
    "operator-validator",
)


def discovered(devices: Devices, machine: str, now: float) -> dict[str, str]:
    """GPU Feature Discovery's labels.

    Args:
        devices: of the node.
        machine: the DMI product name.
        now: seconds since the epoch.
    """
    driver, runtime = DRIVER.split("."), CUDA.split(".")
    model, config = devices.model, devices.config
    labels = {
        STAMP: str(int(now)),
        "nvidia.com/cuda.driver.major": driver[0],
        "nvidia.com/cuda.driver.minor": driver[1],
        "nvidia.com/cuda.driver.rev": driver[2],
        "nvidia.com/cuda.runtime.major": runtime[0],
        "nvidia.com/cuda.runtime.minor": runtime[1],
        "nvidia.com/cuda.driver-version.major": driver[0],
        "nvidia.com/cuda.driver-version.minor": driver[1],
        "nvidia.com/cuda.driver-version.revision": driver[2],
        "nvidia.com/cuda.driver-version.full": DRIVER,
        "nvidia.com/cuda.runtime-version.major": runtime[0],
        "nvidia.com/cuda.runtime-version.minor": runtime[1],
        "nvidia.com/cuda.runtime-version.full": CUDA,
        "nvidia.com/gpu.machine": machine,
        "nvidia.com/gpu.mode": "compute" if model.pci_class == "0302" else "graphics",
        "nvidia.com/mig.capable": str(bool(model.profiles)).lower(),
        MPS_CAPABLE: str(_mps_capable(devices)).lower(),
    }
    labels |= _whole(devices)
    # With strategy none GFD writes nothing about MIG (internal/lm/mig-strategy.go).
    if config.strategy != "none":
        labels["nvidia.com/mig.strategy"] = config.strategy
        labels |= _mig(devices)
    return labels


def _mps_capable(devices: Devices) -> bool:
    sharing = devices.config.sharing
    enabled = any(gpu.instances is not None for gpu in devices.gpus)
    return sharing is not None and sharing.kind == MPS and not enabled


def _whole(devices: Devices) -> dict[str, str]:
    """Labels of the full GPUs; where all have MIG enabled, without anything of sharing."""
    model = devices.model
    full = any(gpu.instances is None for gpu in devices.gpus) or devices.config.strategy == "none"
    major, minor = model.compute.split(".")
    labels = _base(GPU, model.product, len(devices.gpus), devices.config.sharing if full else None)
    if not full:
        labels[f"{GPU}.replicas"] = "0"
    return labels | {
        f"{GPU}.memory": str(model.memory_mib),
        f"{GPU}.family": model.family,
        f"{GPU}.compute.major": major,
        f"{GPU}.compute.minor": minor,
    }


def _mig(devices: Devices) -> dict[str, str]:
    present = [each for gpu in devices.gpus for each in gpu.instances or ()]
    single = devices.config.strategy == "single"
    if single and devices.invalid:
        return {
            f"{GPU}.product": f"{devices.model.product}-MIG-INVALID",
            f"{GPU}.count": "0",
            f"{GPU}.replicas": "0",
            f"{GPU}.sharing-strategy": "",
            f"{GPU}.memory": "0",
        }
    labels: dict[str, str] = {}
    counts = Counter(each.profile for each in present)
    for profile, count in counts.items():
        resource = GPU if single else profile.resource
        labels |= _of_profile(resource, devices.model, profile, count, devices.config.sharing)
    return labels


def _of_profile(
    resource: str, model: Model, profile: Profile, count: int, sharing: Sharing | None
) -> dict[str, str]:
    # "+" is not a label character; GFD drops it as from any product name.
    product = f"{model.product}-MIG-{profile.name.replace('+', '')}"
    values = {
        "memory": profile.memory_mib,
        "multiprocessors": profile.sms,
        "slices.gi": profile.compute,
        "slices.ci": profile.compute,
        "engines.copy": profile.copy,
        "engines.decoder": profile.decoder,
        "engines.encoder": profile.encoder,
        "engines.jpeg": profile.jpeg,
        "engines.ofa": profile.ofa,
    }
    labels = _base(resource, product, count, sharing)
    return labels | {f"{resource}.{key}": str(value) for key, value in values.items()}


def _base(resource: str, product: str, count: int, sharing: Sharing | None) -> dict[str, str]:
    replicas = sharing.of(resource) if sharing else 1
    shared = sharing is not None and replicas > 1
    if sharing is not None and shared and not sharing.rename:
        product += "-SHARED"
    return {
        f"{resource}.product": product,
        f"{resource}.count": str(count),
        f"{resource}.replicas": str(replicas),
        f"{resource}.sharing-strategy": sharing.kind if sharing and shared else "none",
    }


def found_by_nfd(model: Model | None, kernel: str) -> dict[str, str]:
    """What Node Feature Discovery adds: for all nodes, and the PCI vendor that starts it all."""
    prefix = "feature.node.kubernetes.io/"
    labels = {
        f"{prefix}kernel-version.full": kernel,
        f"{prefix}system-os_release.ID": "ubuntu",
        f"{prefix}system-os_release.VERSION_ID": "22.04",
    }
    if model is not None:
        labels |= {
            f"{prefix}pci-10de.present": "true",
            f"{prefix}pci-{model.pci_class}_10de.present": "true",
        }
    return labels


def found(labels: Mapping[str, str]) -> bool:
    """Whether Node Feature Discovery's labels tell the operator of a GPU."""
    return any(labels.get(key) == "true" for key in _FOUND)


def deployed(model: Model, dra: bool) -> dict[str, str]:
    """The operator's labels: what it deploys on the node, and that it is a GPU node."""
    labels = {PRESENT: "true", f"{DEPLOY}driver": "pre-installed"}
    labels |= {f"{DEPLOY}{operand}": "true" for operand in _OPERANDS}
    if model.profiles and not dra:
        labels[f"{DEPLOY}mig-manager"] = "true"
    if dra:
        # Plugin and DRA driver must not both advertise a GPU.
        labels |= {f"{DEPLOY}device-plugin": "false", f"{DEPLOY}dra-driver": "true"}
    return labels
