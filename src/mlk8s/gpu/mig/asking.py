"""A layout in the words of those who make it: nvidia-smi, mig-parted, and who asks for it in a pod.

Checked against NVIDIA's sources: mig-parted bd7160f (api/spec/v1), k8s-device-plugin 1b826ac
(README, internal/lm/mig-strategy.go), k8s-dra-driver-gpu 2240711 (cmd/gpu-kubelet-plugin/mig.go).
Nothing is run here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mlk8s.errors import UsageError
from mlk8s.gpu.mig.layout import Layout
from mlk8s.gpu.mig.profiles import Profile
from mlk8s.gpu.mig.steps import Change

GPU = "nvidia.com/gpu"
STRATEGIES = ("mixed", "single")


def nvidia_smi(change: Change, gpu: int = 0) -> list[str]:
    """Commands for the host that make a change, instances with a compute instance each.

    The driver numbers its instances itself, so what is destroyed is named by its place: look for
    its number with ``nvidia-smi mig -lgi`` and put it in.

    Args:
        change: what to destroy and to create, on a GPU in MIG mode.
        gpu: its index.
    """
    commands = []
    for instance in change.destroy:
        number = f"'<GPU instance ID of {instance}>'"
        commands.append(f"sudo nvidia-smi mig -i {gpu} -dci -gi {number}")
        commands.append(f"sudo nvidia-smi mig -i {gpu} -dgi -gi {number}")
    if change.create:
        places = ",".join(f"{i.profile.id}:{i.start}" for i in change.create)
        commands.append(f"sudo nvidia-smi mig -i {gpu} -cgi {places} -C")
    return commands


def mig_parted(name: str, layouts: Sequence[Layout]) -> dict[str, Any]:
    """A configuration for mig-parted and the MIG manager.

    It counts instances and names no place: mig-parted looks for an order in which they fit.

    Args:
        name: the value of the node's label ``nvidia.com/mig.config``.
        layouts: one for each GPU of the node; equal ones are written once.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, layout in enumerate(layouts):
        groups.setdefault(layout.names, []).append(index)
    rows = [
        {"devices": indices, "mig-enabled": True, "mig-devices": dict(Counter(names))}
        for names, indices in groups.items()
    ]
    return {"version": "v1", "mig-configs": {name: rows}}


def resources(layouts: Sequence[Layout], strategy: str = "mixed") -> dict[str, int]:
    """What the device plugin counts on a node, by resource name.

    Args:
        layouts: of its GPUs, all in MIG mode.
        strategy: ``mixed`` names each profile; ``single`` calls them all ``nvidia.com/gpu``, and
            needs one profile on the whole node.

    Raises:
        UsageError: another strategy, or profiles that differ under ``single``.
    """
    if strategy not in STRATEGIES:
        raise UsageError(
            f"There is no strategy {strategy!r} that names MIG devices.",
            f"use one of: {', '.join(STRATEGIES)}.",
        )
    counts = Counter(name for layout in layouts for name in layout.names)
    if strategy == "mixed":
        return {resource(name): count for name, count in sorted(counts.items())}
    bare = any(not layout.instances for layout in layouts)
    if len(counts) > 1 or bare:
        have = [*counts, *(["no instance on a GPU"] if bare else [])]
        raise UsageError(
            "Strategy single needs the same profile on every GPU of the node, and these have "
            f"{', '.join(have)}: the plugin would offer none, and the product label would end "
            "in -MIG-INVALID.",
            "cut all GPUs alike, or use strategy mixed.",
        )
    return {GPU: counts.total()}


def resource(profile: str) -> str:
    """The resource name of a profile under strategy mixed; Kubernetes allows no ``+`` in it."""
    return f"nvidia.com/mig-{profile.replace('+', '.')}"


def selector(profile: Profile) -> str:
    """A CEL selector for a claim of class ``mig.nvidia.com``: exactly this profile."""
    return f"device.attributes['gpu.nvidia.com'].profile == '{profile.name}'"
