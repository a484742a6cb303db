"""One GPU's state in sections: the shape of what the probe read, and how it shows itself.

Nothing here touches a device; :mod:`mlk8s.gpu.probe` fills these in from NVML or a recording.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints

from mlk8s.provenance import Provenance, Scalar, Table

#: A value, or the words ``not supported`` / ``no permission`` in its place.
Reading = int | float | str | bool


@dataclass(frozen=True)
class Identity:
    """Which part it is, and which driver speaks for it."""

    name: Reading
    architecture: Reading
    compute_capability: Reading
    cuda_cores: Reading
    vbios: Reading
    driver: Reading
    highest_cuda: Reading
    persistence_mode: Reading
    compute_mode: Reading


@dataclass(frozen=True)
class Clocks:
    """Frequencies now, and the highest that the part allows."""

    sm: Annotated[Reading, "MHz"]
    memory: Annotated[Reading, "MHz"]
    max_sm: Annotated[Reading, "MHz"]
    max_memory: Annotated[Reading, "MHz"]
    performance_state: Reading
    event_reasons: Reading


@dataclass(frozen=True)
class Power:
    """Draw (a one-second average on Ampere and later, GA100 excepted) and limits."""

    draw: Annotated[Reading, "W"]
    instant: Annotated[Reading, "W"]
    limit: Annotated[Reading, "W"]
    default_limit: Annotated[Reading, "W"]
    min_limit: Annotated[Reading, "W"]
    max_limit: Annotated[Reading, "W"]
    energy: Annotated[Reading, "J since the driver loaded"]


@dataclass(frozen=True)
class Thermal:
    """Temperatures, and those at which the hardware slows down and shuts off."""

    gpu: Annotated[Reading, "°C"]
    memory: Annotated[Reading, "°C"]
    slowdown: Annotated[Reading, "°C"]
    shutdown: Annotated[Reading, "°C"]
    fan: Annotated[Reading, "%"]


@dataclass(frozen=True)
class Memory:
    """Frame buffer: total = reserved by the driver + used + free."""

    total: Annotated[Reading, "GiB"]
    reserved: Annotated[Reading, "GiB"]
    used: Annotated[Reading, "GiB"]
    free: Annotated[Reading, "GiB"]
    bus_width: Annotated[Reading, "bit"]
    bar1_total: Annotated[Reading, "GiB"]
    bar1_used: Annotated[Reading, "GiB"]


@dataclass(frozen=True)
class Ecc:
    """Memory errors since the driver loaded (volatile) and since manufacture (aggregate)."""

    mode: Reading
    volatile_corrected: Reading
    volatile_uncorrected: Reading
    aggregate_corrected: Reading
    aggregate_uncorrected: Reading
    rows_remapped_corrected: Reading
    rows_remapped_uncorrected: Reading
    remapping_pending: Reading
    remapping_failed: Reading


@dataclass(frozen=True)
class Links:
    """The bus to the host and the links to other GPUs."""

    pci_bus_id: Reading
    pcie_generation: Reading
    pcie_max_generation: Reading
    pcie_width: Reading
    pcie_max_width: Reading
    pcie_replays: Reading
    nvlinks_active: Reading
    nvlink_version: Reading
    fabric: Reading


@dataclass(frozen=True)
class Activity:
    """What runs now. Utilization is a share of time in which any kernel ran, not of the device."""

    gpu_utilization: Annotated[Reading, "%"]
    memory_utilization: Annotated[Reading, "%"]
    compute_processes: Reading
    graphics_processes: Reading
    processes: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Mig:
    """Multi-instance GPU: the mode, and where each profile may be placed."""

    mode: Reading
    pending_mode: Reading
    max_instances: Reading
    profiles: tuple[Mapping[str, Any], ...]


SECTIONS: dict[str, type] = {
    "identity": Identity,
    "clocks": Clocks,
    "power": Power,
    "thermal": Thermal,
    "memory": Memory,
    "ecc": Ecc,
    "links": Links,
    "activity": Activity,
    "mig": Mig,
}


@dataclass(frozen=True)
class Gpu:
    """One device, section by section, with the provenance of the readings."""

    identity: Identity
    clocks: Clocks
    power: Power
    thermal: Thermal
    memory: Memory
    ecc: Ecc
    links: Links
    activity: Activity
    mig: Mig
    provenance: Provenance

    def section(self, name: str) -> Table:
        """One section as a two-column table.

        Args:
            name: ``identity``, ``clocks``, ``power``, ``thermal``, ``memory``, ``ecc``, ``links``,
                ``activity`` or ``mig``.
        """
        part = getattr(self, name)
        hints = get_type_hints(type(part), include_extras=True)
        rows = [
            {"reading": _label(f.name, hints[f.name]), "value": _text(getattr(part, f.name))}
            for f in fields(part)
            if f.name not in ("profiles", "processes")
        ]
        rows += [
            {
                "reading": f"process {p['pid']} ({p['kind']}) [GiB]",
                "value": _text(p["memory"]),
            }
            for p in getattr(part, "processes", ())
        ]
        rows += [
            {
                "reading": f"profile {p['name']}, starts",
                "value": ", ".join(str(place["start"]) for place in p["placements"])
                if isinstance(p["placements"], list)
                else p["placements"],
            }
            for p in getattr(part, "profiles", ())
        ]
        title = name.upper() if name in ("ecc", "mig") else name.capitalize()
        return Table(rows, self.provenance, title=title)

    def table(self) -> Table:
        """Every section in one table."""
        rows = [{"section": name, **row} for name in SECTIONS for row in self.section(name)]
        return Table(rows, self.provenance, title=str(self.identity.name))

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _label(name: str, hint: Any) -> str:
    """A field's name in words, with the unit that its annotation carries."""
    acronyms = {"gpu": "GPU", "pci": "PCI", "pcie": "PCIe", "sm": "SM", "cuda": "CUDA"}
    acronyms |= {"vbios": "VBIOS", "bar1": "BAR1", "id": "ID"}
    words = " ".join(acronyms.get(word, word) for word in name.split("_"))
    unit = getattr(hint, "__metadata__", ("",))[0]
    return f"{words} [{unit}]" if unit else words


def _text(value: Reading) -> Scalar:
    return round(value, 2) if isinstance(value, float) else value
