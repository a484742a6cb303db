"""MIG geometry: which instances fit on a GPU together, and where.

Pure. A GPU instance occupies memory slices ``[start, start + size)``; only the starts that the
driver lists are legal, instances do not overlap, and their compute slices do not exceed the
GPU's (NVIDIA MIG User Guide, "Supported MIG Profiles").
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from mlk8s.sim.nodes.models import Model, Profile


class LayoutError(ValueError):
    """A layout that does not exist or does not fit; the message is for mig-manager's log."""


@dataclass(frozen=True)
class Instance:
    """A MIG device.

    Attributes:
        uuid: ``MIG-…``.
        start: the first memory slice.
        gi: id of its GPU instance.
    """

    uuid: str
    profile: Profile
    start: int
    gi: int


# (profiles of one GPU); a GPU with MIG disabled is None.
Wanted = tuple[str, ...] | None


def fits(model: Model, placed: Iterable[tuple[Profile, int]], profile: Profile, start: int) -> bool:
    """Whether one more instance may be created at a memory slice."""
    placed = list(placed)
    if start not in profile.starts:
        return False
    taken = {slot for each, first in placed for slot in range(first, first + each.size)}
    if taken & set(range(start, start + profile.size)):
        return False
    if sum(each.name == profile.name for each, _ in placed) >= profile.most:
        return False
    return sum(each.compute for each, _ in placed) + profile.compute <= model.compute_slices


def place(
    model: Model, names: Sequence[str], placed: Sequence[tuple[Profile, int]] = ()
) -> list[tuple[Profile, int]]:
    """Find legal places for profiles beside those that exist.

    Larger profiles go first, each to its highest free start from which the rest still fits; the
    driver may choose others among the legal ones.

    Raises:
        LayoutError: the model lacks a profile, or they do not fit together.
    """
    profiles = []
    for name in names:
        profile = model.profile(name)
        if profile is None:
            raise LayoutError(
                f"error parsing MIG device type: unsupported profile '{name}' for {model.name}"
            )
        profiles.append(profile)
    profiles.sort(key=lambda each: (-each.size, -each.compute))
    found = _search(model, profiles, list(placed))
    if found is None:
        wanted = " ".join(f"{name}:{count}" for name, count in sorted(Counter(names).items()))
        raise LayoutError(f"no legal placement for map[{wanted}] on {model.name}")
    return found[len(placed) :]


def _search(
    model: Model, profiles: list[Profile], placed: list[tuple[Profile, int]]
) -> list[tuple[Profile, int]] | None:
    if not profiles:
        return placed
    profile, *rest = profiles
    for start in reversed(profile.starts):
        if fits(model, placed, profile, start):
            found = _search(model, rest, [*placed, (profile, start)])
            if found is not None:
                return found
    return None


def instance(parent: str, model: Model, profile: Profile, start: int) -> Instance:
    """The MIG device at a place; its UUID follows from its parent's, profile and place."""
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"mlk8s/{parent}/{profile.name}/{start}")
    return Instance(f"MIG-{identity}", profile, start, _gi(model, profile, start))


def _gi(model: Model, profile: Profile, start: int) -> int:
    """The id that the driver gives a GPU instance at this place (``nvidia-smi mig -lgi``)."""
    if profile.size == model.memory_slices:
        return 0
    if profile.size == 4:
        return 1 if start else 2
    return 3 + start // 2 if profile.size == 2 else 7 + start


def balanced(model: Model) -> tuple[str, ...]:
    """The profiles of ``all-balanced``: two of one slice, one of two, one of three if it fits."""
    plain = [each for each in model.profiles if "+" not in each.name]

    def of(compute: int) -> str:
        return next(p.name for p in plain if p.compute == compute and p.size in (1, 2, 4))

    if model.compute_slices == 4:
        return (of(1), of(1), of(2))
    return (of(1), of(1), of(2), of(3))


def layout(name: str, model: Model, gpus: int, custom: str = "") -> list[Wanted]:
    """The profiles of each GPU under a named configuration.

    Args:
        name: such as ``all-balanced``, ``all-1g.10gb``, ``all-disabled``, or a key of ``custom``.
        model: of the node's GPUs.
        gpus: how many the node has.
        custom: a mig-parted file (YAML with ``mig-configs``) that is looked into first.

    Raises:
        LayoutError: no such configuration for this model.
    """
    rows = _custom(custom).get(name)
    if rows is not None:
        return _of_rows(rows, model, gpus)
    if name == "all-disabled":
        return [None] * gpus
    if model.profiles:
        if name == "all-enabled":
            return [()] * gpus
        if name == "all-balanced":
            return [balanced(model)] * gpus
        profile = model.profile(name.removeprefix("all-").replace(".me", "+me"))
        if name.startswith("all-") and profile is not None:
            return [(profile.name,) * profile.most] * gpus
    raise LayoutError(f"error selecting config: selected mig-config not present: {name}")


def names(model: Model) -> list[str]:
    """The configurations that mig-manager generates for a model."""
    if not model.profiles:
        return []
    profiles = [f"all-{each.name.replace('+', '.')}" for each in model.profiles]
    return ["all-disabled", "all-enabled", "all-balanced", *profiles]


def _custom(text: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise LayoutError(f"error parsing config file: unmarshal error: {error}") from None
    configs = content.get("mig-configs") if isinstance(content, dict) else None
    return configs if isinstance(configs, dict) else {}


def _of_rows(rows: Any, model: Model, gpus: int) -> list[Wanted]:
    wanted: list[Wanted] = [None] * gpus
    if not isinstance(rows, list):
        raise LayoutError("error parsing config file: a mig-config is a list")
    for row in rows:
        device_filter = row.get("device-filter")
        filters = [device_filter] if isinstance(device_filter, str) else device_filter
        identity = f"0x{model.pci_device}10DE"
        if filters and identity.lower() not in [str(each).lower() for each in filters]:
            continue
        devices = row.get("devices", "all")
        indices = range(gpus) if devices == "all" else [int(each) for each in devices]
        profiles: list[str] = []
        for profile, count in (row.get("mig-devices") or {}).items():
            profiles += [str(profile)] * int(count)
        for index in indices:
            if index >= gpus:
                raise LayoutError(f"error getting device handle: no GPU {index} on this node")
            wanted[index] = tuple(profiles) if row.get("mig-enabled") else None
    return wanted
