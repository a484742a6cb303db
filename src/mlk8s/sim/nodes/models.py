"""Which GPUs there are: what NVML reports of each, and its legal MIG profiles and placements.

The figures and where each comes from are in ``catalogue.json`` beside this module.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

# The driver branch of the course's recordings; CUDA as it reports.
DRIVER = "580.95.05"
CUDA = "13.0"


@dataclass(frozen=True)
class Profile:
    """A MIG profile: a GPU instance with one compute instance that fills it.

    Attributes:
        name: such as ``1g.10gb`` or ``1g.10gb+me``.
        id: of the GPU instance profile, as ``nvidia-smi mig -lgip`` numbers them.
        compute: compute slices.
        memory_mib: memory in MiB.
        most: how many of it one GPU can hold.
        size: memory slices that a placement takes.
        starts: memory slices at which a placement may begin.
    """

    name: str
    id: int
    compute: int
    memory_slices: int
    memory_mib: int
    sms: int
    copy: int
    decoder: int
    encoder: int
    jpeg: int
    ofa: int
    most: int
    size: int
    starts: tuple[int, ...]

    @property
    def resource(self) -> str:
        """The extended resource in strategy ``mixed``; ``+`` becomes ``.``."""
        return "nvidia.com/mig-" + self.name.replace("+", ".")


@dataclass(frozen=True)
class Host:
    """A machine; ``cores`` and memory (GiB) before what the kubelet reserves."""

    cores: int
    memory_gib: int
    ephemeral_gib: int
    machine: str


@dataclass(frozen=True)
class Model:
    """A GPU model.

    Attributes:
        name: as NVML reports it.
        memory_mib: total memory in MiB, as NVML reports it.
        compute: CUDA compute capability, such as ``9.0``.
        pci_class: ``0302`` is a 3D controller.
        watts: the power limit.
        memory_slices: of the MIG grid; 0 where the model has no MIG.
        host: a machine with one of them.
    """

    key: str
    name: str
    memory_mib: int
    compute: str
    architecture: str
    pci_class: str
    pci_device: str
    sms: int
    watts: int
    memory_slices: int
    compute_slices: int
    host: Host
    profiles: tuple[Profile, ...] = field(repr=False)

    @property
    def product(self) -> str:
        """The value of ``nvidia.com/gpu.product`` without suffixes."""
        return sanitise(self.name)

    @property
    def family(self) -> str:
        """``nvidia.com/gpu.family``, by compute capability (``internal/lm/resource.go``)."""
        major, minor = (int(part) for part in self.compute.split("."))
        if major == 8:
            return "ampere" if minor < 9 else "ada-lovelace"
        return {7: "volta" if minor < 5 else "turing", 9: "hopper"}[major]

    def profile(self, name: str) -> Profile | None:
        """The MIG profile of this name."""
        return next((each for each in self.profiles if each.name == name), None)


def sanitise(name: str) -> str:
    """A product name as a label value: spaces become ``-``, other characters are dropped."""
    return re.sub(r"[^A-Za-z0-9-_. ]", "", name).replace(" ", "-")


@cache
def _catalogue() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("catalogue.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@cache
def models() -> dict[str, Model]:
    """The GPU models by key, such as ``h100``."""
    found = {}
    for key, row in _catalogue()["gpus"].items():
        values = {k: v for k, v in row.items() if k not in ("source", "mig_source", "mig", "host")}
        profiles = tuple(
            Profile(**{**profile, "starts": tuple(profile["starts"])}) for profile in row["mig"]
        )
        found[key] = Model(key=key, host=Host(**row["host"]), profiles=profiles, **values)
    return found


@cache
def cpu_host() -> Host:
    """A machine without GPU."""
    return Host(**_catalogue()["cpu"])
