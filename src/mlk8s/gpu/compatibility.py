"""What runs on what: CUDA against drivers, compiled code against devices, PTX against drivers.

The data is ``compatibility.json``, each part with its source. ``mlk8s doctor`` judges a machine by
it, and the book shows it. Nothing here looks at a machine.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from mlk8s.errors import UsageError
from mlk8s.provenance import Kind, Provenance, Table

_VERSION = re.compile(r"\d+(\.\d+)*")
_IMAGE = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")


class Fit(StrEnum):
    """How a program built with one version of CUDA gets on with a driver."""

    FULL = "full"  # the driver came with this CUDA or a later one
    MINOR = "minor version"  # the same major version, an older driver: most things work
    NONE = "none"  # the driver is older than any of this major version


@dataclass(frozen=True)
class Family:
    """A major version of CUDA.

    Attributes:
        major: of CUDA.
        driver: the oldest driver that runs programs built with any release of it.
    """

    major: int
    driver: str


@dataclass(frozen=True)
class Toolkit:
    """A release of the CUDA toolkit.

    Attributes:
        cuda: ``major.minor``.
        driver: the driver that came with it, which has all of its functions.
        ptx: the version of PTX that its compiler writes; ``None`` where no source was read.
    """

    cuda: str
    driver: str
    ptx: str | None


@dataclass(frozen=True)
class Architecture:
    """A compute capability.

    Attributes:
        capability: ``major.minor``.
        name: the architecture's.
        parts: some GPUs of it.
        first: the first toolkit that compiles for it.
        last: the last one; ``None`` while there is no end.
    """

    capability: str
    name: str
    parts: str
    first: str
    last: str | None


@functools.cache
def _data() -> dict[str, Any]:
    text = Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def families() -> tuple[Family, ...]:
    """The major versions of CUDA, newest first."""
    return tuple(Family(**row) for row in _data()["families"])


def toolkits() -> tuple[Toolkit, ...]:
    """The releases of the toolkit, newest first."""
    return tuple(Toolkit(**row) for row in _data()["toolkits"])


def architectures() -> tuple[Architecture, ...]:
    """The compute capabilities, oldest first."""
    return tuple(Architecture(**row) for row in _data()["architectures"])


def provenance(part: str) -> Provenance:
    """Where a part of the data was read.

    Args:
        part: ``families``, ``toolkits``, ``ptx``, ``nvcc`` or ``clang``.
    """
    data = _data()
    return Provenance(Kind.SPEC, "read in the source", data["read"], source=data["sources"][part])


def least_driver(cuda: str) -> str:
    """The oldest driver on which a program built with this CUDA starts.

    Args:
        cuda: ``major.minor``.

    Raises:
        UsageError: the matrix has no such major version.
    """
    major = _numbers(cuda)[0]
    for family in families():
        if family.major == major:
            return family.driver
    known = ", ".join(str(family.major) for family in families())
    raise UsageError(
        f"The matrix has no CUDA {major}; it knows {known}.",
        "look into the release notes of that toolkit, and add a row to compatibility.json.",
    )


def fit(cuda: str, highest: str) -> Fit:
    """How a program built with one CUDA gets on with a driver.

    Args:
        cuda: what the program was built with, ``major.minor``.
        highest: the driver's highest CUDA, as ``nvidia-smi`` and NVML report it.
    """
    wanted, offered = _numbers(cuda)[:2], _numbers(highest)[:2]
    if offered >= wanted:
        return Fit.FULL
    return Fit.MINOR if offered[0] == wanted[0] else Fit.NONE


def highest_cuda(driver: str) -> str | None:
    """The highest CUDA that a driver has, ``None`` for a driver older than the matrix.

    Args:
        driver: such as ``580.159.04``.
    """
    version = _numbers(driver)
    return next((t.cuda for t in toolkits() if _numbers(t.driver) <= version), None)


def runs(image: str, capability: str) -> bool:
    """Whether code compiled for a target runs on a device.

    Args:
        image: ``sm_80`` for machine code, ``compute_80`` for PTX, which the driver compiles; with
            ``a`` for the features of one device, ``f`` for those of a family.
        capability: of the device, ``major.minor``.

    Raises:
        UsageError: that is no target.
    """
    found = _IMAGE.fullmatch(image)
    if found is None:
        raise UsageError(
            f"{image!r} is no target of a CUDA compiler.", "write it like sm_90 or compute_90."
        )
    target, device = (int(found[2]), int(found[3])), _numbers(capability)[:2]
    if found[4] == "a":
        return target == device
    if found[1] == "sm" or found[4] == "f":
        return target[0] == device[0] and target[1] <= device[1]
    return target <= device


def loads_ptx(version: str, highest: str) -> bool:
    """Whether a driver can compile PTX of a version.

    Args:
        version: of the ``.version`` line, such as ``9.0``.
        highest: the driver's highest CUDA.

    Raises:
        UsageError: the driver is newer than the newest toolkit whose PTX the matrix knows, and
            the PTX too.
    """
    known = [(_numbers(t.cuda), _numbers(t.ptx)) for t in toolkits() if t.ptx]
    if any(_numbers(version) <= ptx for cuda, ptx in known if cuda <= _numbers(highest)):
        return True
    if _numbers(highest) > known[0][0]:
        raise UsageError(
            f"The matrix does not know the PTX of CUDA {highest}.",
            "look into the release history of the PTX ISA, and add it to compatibility.json.",
        )
    return False


def toolkit_table() -> Table:
    """Toolkits with the drivers that they need."""
    rows = [
        {
            "CUDA toolkit": t.cuda,
            "starts with driver": f"≥ {least_driver(t.cuda)}",
            "has everything with": f"≥ {t.driver}",
            "writes PTX": t.ptx,
        }
        for t in toolkits()
    ]
    return Table(rows, provenance("families"), provenance("toolkits"), provenance("ptx"))


def architecture_table() -> Table:
    """Compute capabilities with the toolkits that compile for them."""
    rows = [
        {
            "compute capability": a.capability,
            "architecture": a.name,
            "for example": a.parts,
            "first toolkit": a.first,
            "last toolkit": a.last,
        }
        for a in architectures()
    ]
    return Table(rows, provenance("nvcc"), provenance("clang"))


def _numbers(version: str) -> tuple[int, ...]:
    if not _VERSION.fullmatch(version):
        raise UsageError(f"{version!r} is no version.", "write it like 13.0 or 580.159.04.")
    numbers = tuple(int(part) for part in version.split("."))
    return numbers if len(numbers) > 1 else (*numbers, 0)
