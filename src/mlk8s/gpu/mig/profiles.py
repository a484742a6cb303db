"""The MIG profiles of a GPU and where their instances may start: the driver's list, or the table.

The driver's own answer comes first, since names and sizes change with it (a B200's 1g.23gb had
22.00 GiB with one driver and 20.50 GiB with a later one). The table is ``profiles.json``.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlk8s.errors import UnknownGpu, UsageError
from mlk8s.gpu import catalogue, probe
from mlk8s.provenance import Kind, Provenance, Table


@dataclass(frozen=True)
class Profile:
    """One kind of GPU instance.

    Attributes:
        name: ``3g.40gb``: compute slices and memory, and what is special after ``+`` or ``-``.
        id: the driver's number for it.
        compute: compute slices.
        size: memory slices that an instance occupies, from its start.
        starts: memory slices at which an instance may begin.
        most: instances of it on one GPU.
        sm: streaming multiprocessors; ``None`` where no source says.
        memory_gib: memory as the driver prints it, GiB; ``None`` where no source says.
    """

    name: str
    id: int
    compute: int
    size: int
    starts: tuple[int, ...]
    most: int
    sm: int | None
    memory_gib: float | None

    @property
    def plain(self) -> bool:
        """Whether nothing is special about its media engines or graphics."""
        return "+" not in self.name and "-" not in self.name


@dataclass(frozen=True)
class Geometry:
    """How a GPU can be cut.

    Attributes:
        id: key of the table, or the part.
        name: the vendor's name.
        memory_slices: units of memory, in which instances are placed.
        compute_slices: units of compute, of which there may be fewer.
        sm: streaming multiprocessors of the whole GPU.
        profiles: small ones first.
        provenance: where all this comes from.
    """

    id: str
    name: str
    memory_slices: int
    compute_slices: int
    sm: int
    profiles: tuple[Profile, ...]
    provenance: Provenance

    @property
    def plain(self) -> tuple[Profile, ...]:
        """The profiles without variants."""
        return tuple(p for p in self.profiles if p.plain)

    def profile(self, name: str) -> Profile:
        """The profile of a name or of the driver's number.

        Args:
            name: ``1g.10gb``, ``MIG 1g.10gb``, ``1g.10gb.me`` as Kubernetes writes it, or ``19``.

        Raises:
            UsageError: this GPU has no such profile.
        """
        wanted = name.removeprefix("MIG ").strip()
        for profile in self.profiles:
            if wanted in (profile.name, profile.name.replace("+", ".", 1), str(profile.id)):
                return profile
        raise UsageError(
            f"{self.name} has no MIG profile {wanted!r}.",
            f"use one of: {', '.join(p.name for p in self.profiles)}.",
        )

    def table(self) -> Table:
        """The profiles, with the share of the GPU that each one is."""
        return Table(
            [
                {
                    "profile": p.name,
                    "id": p.id,
                    "SM": p.sm,
                    "of the SMs [%]": None if p.sm is None else round(100 * p.sm / self.sm, 1),
                    "memory [GiB]": p.memory_gib,
                    "of the memory slices": f"{p.size}/{self.memory_slices}",
                    "of the compute slices": f"{p.compute}/{self.compute_slices}",
                    "at most": p.most,
                    "may start at": ", ".join(map(str, p.starts)),
                }
                for p in self.profiles
            ],
            self.provenance,
            title=f"MIG profiles of {self.name}",
        )

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


@functools.cache
def known() -> tuple[Geometry, ...]:
    """The GPUs of the table."""
    return tuple(geometry for geometry, _ in _read())


def geometry(gpu: str) -> Geometry:
    """A GPU of the table.

    Args:
        gpu: its id, such as ``a100-40gb``, or a part of the catalogue, such as ``h200-sxm``.

    Raises:
        UnknownGpu: the table does not have it.
    """
    for found, parts in _read():
        if gpu.lower() in (found.id, *parts):
            return found
    raise UnknownGpu(
        f"The table of MIG profiles does not have {gpu!r}.",
        f"use one of: {', '.join(g.id for g in known())}; or read them on that machine, where the "
        "driver knows.",
    )


def here(index: int = 0) -> Geometry:
    """The GPU that answers now, live or recorded: as its driver lists it, else from the table.

    The driver lists profiles whether MIG is on or off, to those who may ask. The provenance says
    which of the two it was.

    Args:
        index: which GPU of the machine.

    Raises:
        UsageError: there is no such GPU.
        UnknownGpu: the driver lists no profile, and the table does not have this GPU.
    """
    devices = probe.gpus()
    if not 0 <= index < len(devices):
        raise UsageError(
            f"There is no GPU {index}: {len(devices)} answer.", "count from 0, as nvidia-smi does."
        )
    device = devices[index]
    name = str(device.identity.name)
    rows = device.mig.profiles
    if not rows or any(isinstance(row["placements"], str) for row in rows):
        return geometry(catalogue.find(name=name).id)
    profiles = sorted((_listed(row) for row in rows), key=_order)
    whole = profiles[-1]
    try:
        sm = catalogue.find(name=name).sm_count  # an A100's largest instance lacks 10 of 108
    except UnknownGpu:
        sm = whole.sm or 0
    return Geometry(
        id=name,
        name=name,
        memory_slices=whole.size,
        compute_slices=whole.compute,
        sm=sm,
        profiles=tuple(profiles),
        provenance=device.provenance,
    )


def _listed(row: Any) -> Profile:
    """A profile as NVML lists it."""
    places = row["placements"]
    return Profile(
        name=row["name"].removeprefix("MIG "),
        id=row["id"],
        compute=row["slices"],
        size=places[0]["size"],
        starts=tuple(sorted(place["start"] for place in places)),
        most=row["max_instances"],
        sm=row["sm"],
        memory_gib=round(row["memory_mib"] / 1024, 2),
    )


def _order(profile: Profile) -> tuple[int, int, bool, str]:
    return profile.size, profile.compute, not profile.plain, profile.name


@functools.cache
def _read() -> tuple[tuple[Geometry, tuple[str, ...]], ...]:
    data = json.loads(Path(__file__).with_name("profiles.json").read_text(encoding="utf-8"))
    found = []
    for item in data["gpus"]:
        profiles = [Profile(**{**row, "starts": tuple(row["starts"])}) for row in item["profiles"]]
        fields = {k: item[k] for k in ("id", "name", "memory_slices", "compute_slices", "sm")}
        origin = Provenance(
            Kind.SPEC, "the table of MIG profiles", data["read"], source=item["source"]
        )
        geometry = Geometry(
            **fields, profiles=tuple(sorted(profiles, key=_order)), provenance=origin
        )
        found.append((geometry, tuple(item["parts"])))
    return tuple(found)
