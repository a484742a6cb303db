"""What NVIDIA's GPUs are on paper: dense peaks, memory, clocks, each with its source.

A peak is ``SMs × FMA per SM and clock × 2 × clock``, and the tests recompute every figure so. The
data is ``catalogue.json``. A value that no source text confirms is kept apart in
:attr:`Gpu.unverified`; it never answers for the verified one. What a GPU *does* is measured, in
:mod:`mlk8s.bench`; what this machine's GPU *is* comes from :mod:`mlk8s.gpu.probe`.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlk8s.errors import UnknownGpu, UsageError
from mlk8s.provenance import Device, Kind, Provenance, Scalar, Table

#: Number formats the catalogue knows. ``fp32`` is without tensor cores, all others are with.
DTYPES = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4")

_METHOD = "vendor's dense figures; each recomputed as SMs × FMA per SM and clock × 2 × clock"
_ALIASES = {
    "float32": "fp32",
    "tensorfloat32": "tf32",
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
}


@dataclass(frozen=True)
class Unverified:
    """A value that circulates and that no source text confirms.

    Attributes:
        value: what circulates, in the field's unit.
        why: what speaks against relying on it.
    """

    value: int | float | str
    why: str


@dataclass(frozen=True)
class Gpu:
    """One catalogue entry: a part, not a chip, since one chip is sold at several clocks.

    Attributes:
        id: short name, such as ``h100-sxm``.
        name: the vendor's name with form factor and memory.
        nvml_names: what the driver calls it.
        architecture: key of the rates per SM.
        compute_capability: ``major.minor``.
        figures: verified values by field, unit in the name (GB, GB/s, MB, MHz, W). NVLink is the
            total of both directions, 0 where there is none.
        tflops: verified dense peaks by number format, TFLOP/s (TOP/s for ``int8``).
        fma: fused multiply-adds per SM and clock by number format.
        unverified: values kept apart, by field; peaks are named ``bf16_tflops`` and so on.
        circular: formats whose check by clock proves nothing, as the clock came from the figure.
        note: what tables commonly get wrong about this part.
        source: where the figures were read.
        read: ISO date on which they were read.
    """

    id: str
    name: str
    nvml_names: tuple[str, ...]
    architecture: str
    compute_capability: str
    figures: Mapping[str, int | float | str] = field(repr=False, hash=False)
    tflops: Mapping[str, float] = field(repr=False, hash=False)
    fma: Mapping[str, int] = field(repr=False, hash=False)
    unverified: Mapping[str, Unverified] = field(repr=False, hash=False)
    circular: tuple[str, ...] = field(repr=False)
    note: str = field(repr=False)
    source: str = field(repr=False)
    read: str = field(repr=False)

    def figure(self, name: str) -> float:
        """A verified number.

        Args:
            name: a field with its unit, such as ``memory_bandwidth_gbs``, ``l2_mb``, ``tdp_w``.

        Raises:
            UsageError: the field is unverified, unknown for this part, or not a number.
        """
        self._require_figures()
        value = self.figures.get(name)
        if isinstance(value, int | float):
            return value
        if name in self.unverified:
            kept = self.unverified[name]
            raise UsageError(
                f"The catalogue has no verified {name} for {self.name}: {kept.why}",
                f"measure it, or name it as unverified: get({self.id!r}).unverified[{name!r}].",
            )
        numbers = [k for k, v in self.figures.items() if not isinstance(v, str)]
        raise UsageError(
            f"The catalogue has no number {name} for {self.name}.",
            f"use one of: {', '.join(numbers)}.",
        )

    @property
    def sm_count(self) -> int:
        """Streaming multiprocessors of the whole GPU; MIG leaves fewer."""
        return int(self.figure("sm_count"))

    @property
    def memory_bandwidth_gbs(self) -> float:
        """Theoretical memory bandwidth, GB/s (decimal)."""
        return self.figure("memory_bandwidth_gbs")

    def dense_tflops(self, dtype: str) -> float:
        """The published dense peak, TFLOP/s (TOP/s for ``int8``): no sparsity, FP32 accumulate.

        Args:
            dtype: one of :data:`DTYPES`, or PyTorch's name for it.

        Raises:
            UsageError: the format is unknown, the GPU has no units for it, or no source that was
                read prints a dense figure.
        """
        key = self._supported(dtype)
        if key not in self.tflops:
            kept = self.unverified.get(f"{key}_tflops")
            reason = kept.why if kept else "no source with a dense figure was found."
            raise UsageError(
                f"The catalogue has no verified {key} peak for {self.name}: {reason}",
                "measure it with mlk8s.bench.matmul, or use a GPU whose figure is verified.",
            )
        return self.tflops[key]

    def peak_tflops(self, dtype: str, sm_clock_mhz: float | None = None) -> float:
        """The peak recomputed: SMs × FMA per SM and clock × 2 × clock, TFLOP/s.

        Args:
            dtype: one of :data:`DTYPES`, or PyTorch's name for it.
            sm_clock_mhz: the clock, MHz, such as one sampled while a benchmark ran; by default
                the boost clock for ``fp32`` and the tensor boost clock for all else. On Hopper
                these two differ, and one clock for both invents a peak no table prints.

        Raises:
            UsageError: the format is unknown or not supported, or the clock is unverified.
        """
        key = self._supported(dtype)
        if sm_clock_mhz is None:
            sm_clock_mhz = self.figure("boost_clock_mhz" if key == "fp32" else "tensor_clock_mhz")
        return self.sm_count * self.fma[key] * 2 * sm_clock_mhz * 1e6 / 1e12

    def ridge(self, dtype: str) -> float:
        """The arithmetic intensity at which compute and memory bind alike, FLOP/byte.

        Args:
            dtype: one of :data:`DTYPES`, or PyTorch's name for it.

        Raises:
            UsageError: the peak or the bandwidth is unknown or unverified.
        """
        return self.dense_tflops(dtype) * 1e12 / (self.memory_bandwidth_gbs * 1e9)

    def _supported(self, dtype: str) -> str:
        """The catalogue's name of a format that this architecture has units for."""
        key = dtype.lower().removeprefix("torch.")
        key = _ALIASES.get(key, key)
        if key not in DTYPES:
            raise UsageError(
                f"The catalogue does not know the number format {dtype!r}.",
                f"use one of {', '.join(DTYPES)}.",
            )
        self._require_figures()
        if key not in self.fma:
            raise UsageError(
                f"{self.name} (compute capability {self.compute_capability}) has no {key} units.",
                f"use one of {', '.join(self.fma)}.",
            )
        return key

    def _require_figures(self) -> None:
        """Refuse what :func:`unlisted` made."""
        if not self.figures:
            raise UsageError(
                f"The catalogue does not hold {self.name}, so it has no figure for it.",
                "measure it with mlk8s.bench, or add the part with its source to catalogue.json.",
            )

    def provenance(self) -> Provenance:
        """Vendor figures of this part, with where and when they were read."""
        return Provenance(
            Kind.SPEC,
            _METHOD,
            date=self.read,
            device=Device(self.name, self.id),
            source=self.source,
        )

    def _repr_html_(self) -> str:
        return table(self.id)._repr_html_()


@functools.cache
def entries() -> tuple[Gpu, ...]:
    """All GPUs of the catalogue, oldest architecture first within each market."""
    text = Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8")
    data = json.loads(text)
    return tuple(_parse(item, data["architectures"], data["read"]) for item in data["gpus"])


def _parse(item: Mapping[str, Any], architectures: Mapping[str, Any], read: str) -> Gpu:
    figures = dict(item["figures"])
    tflops = figures.pop("dense_tflops")
    return Gpu(
        id=item["id"],
        name=item["name"],
        nvml_names=tuple(item["nvml_names"]),
        architecture=item["architecture"],
        compute_capability=item["compute_capability"],
        figures=MappingProxyType(figures),
        tflops=MappingProxyType(tflops),
        fma=MappingProxyType(architectures[item["architecture"]]["fma_per_sm_per_clock"]),
        unverified=MappingProxyType({k: Unverified(**v) for k, v in item["unverified"].items()}),
        circular=tuple(item["circular"]),
        note=item["note"],
        source=item["source"],
        read=read,
    )


def get(id: str) -> Gpu:
    """The entry with this id, case ignored.

    Raises:
        UnknownGpu: there is none; the message names the nearest.
    """
    for gpu in entries():
        if gpu.id == id.strip().lower():
            return gpu
    raise _unknown(f"the id {id!r}", id)


def unlisted(name: str) -> Gpu:
    """An entry without figures, for a device that the catalogue does not hold.

    It lets a program go on without paper figures: asking it for one raises, as for any other
    figure that is not known.

    Args:
        name: what NVML calls the device.
    """
    nothing: Mapping[str, Any] = MappingProxyType({})
    return Gpu(
        id="unlisted",
        name=name,
        nvml_names=(name,),
        architecture="unknown",
        compute_capability="unknown",
        figures=nothing,
        tflops=nothing,
        fma=nothing,
        unverified=nothing,
        circular=(),
        note="",
        source="not in the catalogue",
        read=entries()[0].read,
    )


def find(
    *,
    name: str | None = None,
    compute_capability: str | tuple[int, int] | None = None,
    sm_count: int | None = None,
) -> Gpu:
    """The one entry that agrees with all that is given.

    Args:
        name: what NVML calls the device, whole, case ignored; a driver too old to say "NVIDIA"
            first is understood. Part of a name is no match: an L40S is not an L40.
        compute_capability: ``"9.0"`` or ``(9, 0)``.
        sm_count: streaming multiprocessors of the whole GPU.

    Raises:
        UnknownGpu: no entry agrees, or several do; never another GPU's figures instead.
        UsageError: nothing was given.
    """
    if name is None and compute_capability is None and sm_count is None:
        raise UsageError(
            "find() was given nothing to look for.",
            "pass a name, a compute capability or an SM count, or use get() with an id.",
        )
    if isinstance(compute_capability, tuple):
        compute_capability = ".".join(map(str, compute_capability))
    asked = {"name": name, "compute capability": compute_capability, "SM count": sm_count}
    wanted = " and ".join(f"{label} {value!r}" for label, value in asked.items() if value)
    found = [
        gpu
        for gpu in entries()
        if (name is None or _plain(name) in {_plain(known) for known in gpu.nvml_names})
        and compute_capability in (None, gpu.compute_capability)
        and sm_count in (None, gpu.figures.get("sm_count"))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownGpu(
            f"{len(found)} catalogue entries have {wanted}: {', '.join(g.id for g in found)}.",
            "pass the name that NVML reports as well, or choose one with get().",
        )
    raise _unknown(f"a GPU with {wanted}", name or "", compute_capability, sm_count)


def _plain(name: str) -> str:
    """A device name for comparison: case, spacing and a leading NVIDIA do not count."""
    return " ".join(name.lower().split()).removeprefix("nvidia ")


def _unknown(
    asked: str, text: str, compute_capability: str | None = None, sm_count: int | None = None
) -> UnknownGpu:
    """The error for a look-up without result, with what comes nearest."""
    names = {_plain(n): g.id for g in entries() for n in (g.id, *g.nvml_names)}
    plain = _plain(text)
    near = [id for known, id in names.items() if plain and plain in known]
    near += [names[m] for m in difflib.get_close_matches(plain, names, n=4, cutoff=0.5)]
    near += [
        gpu.id
        for gpu in entries()
        if sm_count == gpu.figures.get("sm_count", -1)
        or (sm_count is None and compute_capability == gpu.compute_capability)
    ]
    hint = f"the nearest are {', '.join(dict.fromkeys(near))}" if near else "nothing comes near"
    return UnknownGpu(
        f"The catalogue does not hold {asked}; {hint}.",
        "entries() lists all it holds; add the part with its source to catalogue.json, or go on "
        "without paper figures.",
    )


def table(*ids: str) -> Table:
    """Parts side by side, verified figures only; a dash is *unverified* or *not supported*.

    The table of one part says what tables commonly get wrong about it.

    Args:
        ids: catalogue ids; none means all.

    Raises:
        UnknownGpu: an id is not in the catalogue.
    """
    gpus = [get(id) for id in ids] if ids else list(entries())
    # One badge for each part stays readable for a few; for many, the method once.
    provenance = (
        [gpu.provenance() for gpu in gpus]
        if len(gpus) <= 4
        else [
            Provenance(
                Kind.SPEC,
                _METHOD,
                date=gpus[0].read,
                source="per part: mlk8s.gpu.catalogue.get(id).source",
            )
        ]
    )
    title = "GPUs on paper, dense figures"
    if len(gpus) == 1:
        title = f"{gpus[0].name} on paper, dense figures. {gpus[0].note}"
    return Table([_row(gpu) for gpu in gpus], *provenance, title=title)


def _row(gpu: Gpu) -> dict[str, Scalar]:
    row: dict[str, Scalar] = {
        "GPU": gpu.name,
        "compute capability": gpu.compute_capability,
        "SMs": gpu.figures.get("sm_count"),
        "memory [GB]": gpu.figures.get("memory_gb"),
        "bandwidth [GB/s]": gpu.figures.get("memory_bandwidth_gbs"),
        "L2 [MB]": gpu.figures.get("l2_mb"),
        "NVLink, both ways [GB/s]": gpu.figures.get("nvlink_gbs"),
        "power [W]": gpu.figures.get("tdp_w"),
    }
    row |= {f"{d} [T{'OP' if d == 'int8' else 'FLOP'}/s]": gpu.tflops.get(d) for d in DTYPES}
    known = "bf16" in gpu.tflops and "memory_bandwidth_gbs" in gpu.figures
    row["ridge bf16 [FLOP/byte]"] = gpu.ridge("bf16") if known else None
    return row
