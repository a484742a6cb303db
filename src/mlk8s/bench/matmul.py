"""The rate of a matrix product, by data type, with everything that decides it in the same row.

C = A·B with A of shape (m, k) and B of shape (k, n) takes 2·m·n·k floating-point operations: a
multiplication and an addition for each of the m·n·k terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from mlk8s import recordings
from mlk8s.bench import timing
from mlk8s.errors import UsageError
from mlk8s.gpu import catalogue
from mlk8s.gpu.source import measured, software
from mlk8s.provenance import Device, Kind, Provenance, Table

#: Data type → (storage in PyTorch, whether tensor cores may round float32 to TF32, unit roundoff
#: of a product of two elements). TF32 is FP32 storage with a 10-bit mantissa, so it has a name
#: of its own. Roundoff: half a unit in the last place of each format (IEEE 754; TF32 as FP16).
DTYPES: Mapping[str, tuple[str, bool, float]] = {
    "fp64": ("float64", False, 2.0**-53),
    "fp32": ("float32", False, 2.0**-24),
    "tf32": ("float32", True, 2.0**-11),
    "fp16": ("float16", False, 2.0**-11),
    "bf16": ("bfloat16", False, 2.0**-8),
}
DATA = ("random", "zeros")


@dataclass(frozen=True)
class Matmul:
    """One measured product.

    Attributes:
        m, n, k: shape; A is (m, k), B is (k, n).
        dtype: ``fp64``, ``fp32``, ``tf32``, ``fp16`` or ``bf16``.
        data: ``random`` (normal) or ``zeros``.
        timing: how long a call took, and the clocks meanwhile.
        error: ‖C − C₆₄‖ / ‖C₆₄‖ over 64 rows, C₆₄ computed in float64 from the same A and B.
        provenance: where it was measured.
    """

    m: int
    n: int
    k: int
    dtype: str
    data: str
    timing: timing.Timing
    error: float
    provenance: Provenance

    @property
    def flops(self) -> int:
        """Floating-point operations of one product: 2·m·n·k."""
        return 2 * self.m * self.n * self.k

    @property
    def tflops(self) -> float:
        """Rate, 10¹² operations a second, at the median time."""
        return self.flops / self.timing.median_ms * 1e-9

    def peak_tflops(self, at_observed_clock: bool = False) -> float | None:
        """The part's dense peak for this type, TFLOP/s; ``None`` for a CPU or an unknown part.

        Args:
            at_observed_clock: SM × FMA × 2 × the mean clock that was seen, in place of the
                vendor's figure.
        """
        device = self.provenance.device
        if device is None or device.part in ("cpu", "unknown"):
            return None
        entry = catalogue.get(device.part)
        if self.dtype not in entry.tflops:
            return None
        if at_observed_clock:
            clock = self.timing.sm_clock_mhz
            return None if clock is None else entry.peak_tflops(self.dtype, clock)
        return entry.dense_tflops(self.dtype)

    def row(self) -> dict[str, Any]:
        """The product as one row of a table."""
        peak = self.peak_tflops()
        t = self.timing
        return {
            "dtype": self.dtype,
            "shape": f"{self.m}×{self.n}×{self.k}",
            "data": self.data,
            "time [ms]": round(t.median_ms, 4),
            "TFLOP/s": round(self.tflops, 3),
            "of dense peak [%]": None if peak is None else round(100 * self.tflops / peak, 1),
            "SM clock [MHz]": None if t.sm_clock_mhz is None else round(t.sm_clock_mhz),
            "power [W]": None if t.power_w is None else round(t.power_w),
            "clocks limited by": t.reasons,
            "relative error": self.error,
        }

    def table(self) -> Table:
        """A one-row table with its provenance."""
        return Table(self.row(), self.provenance)

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def measure(
    n: int = 8192,
    dtype: str = "bf16",
    *,
    m: int | None = None,
    k: int | None = None,
    data: str = "random",
    device: str = "cuda",
    min_time_s: float = 2.0,
) -> Matmul:
    """Measure the rate of one matrix product.

    Args:
        n: columns of the result; also ``m`` and ``k`` where those are not given.
        dtype: one of :data:`DTYPES`.
        m: rows of the result.
        k: length of the sums.
        data: ``random`` or ``zeros``; zeros switch fewer transistors, draw less power and run
            faster, so they flatter.
        device: ``cuda`` measures this machine's GPU or reads the recording, as ``MLK8S_GPU``
            says; ``cpu`` measures this machine's processor, always.
        min_time_s: least measured time, s. NVML's power is a one-second average, so under two
            seconds it describes the time before.

    Raises:
        UsageError: a shape, type or device that cannot be used.
        GpuUnavailable: live on a machine where PyTorch has no CUDA device.
        RecordingError: recorded, and the recording does not hold this product.
    """
    shape = {"n": n, "m": n if m is None else m, "k": n if k is None else k}
    for name, size in shape.items():
        if not 1 <= size <= 65536:
            raise UsageError(f"{name} = {size} is not a matrix size.", "use 1 to 65536.")
    if dtype not in DTYPES:
        raise UsageError(f"There is no data type {dtype!r}.", f"use one of {', '.join(DTYPES)}.")
    if data not in DATA:
        raise UsageError(f"There is no data {data!r}.", f"use one of {', '.join(DATA)}.")
    if device == "cuda":
        table = _on_gpu(**shape, dtype=dtype, data=data, min_time_s=min_time_s)
        return _matmul({**shape, "dtype": dtype, "data": data}, table[0], table.provenance[0])
    timing.require(device)
    value = _measure(**shape, dtype=dtype, data=data, min_time_s=min_time_s, device=device)
    return _matmul({**shape, "dtype": dtype, "data": data}, value, _cpu_provenance())


def _matmul(call: Mapping[str, Any], value: Mapping[str, Any], origin: Provenance) -> Matmul:
    """The product from its arguments and what measuring it gave."""
    what = {name: call[name] for name in ("m", "n", "k", "dtype", "data")}
    times = {name: v for name, v in value.items() if name != "error"}
    return Matmul(**what, timing=timing.Timing(**times), error=value["error"], provenance=origin)


def recorded(n: int, dtypes: Sequence[str], data: str = "random") -> Table | None:
    """The default recording's products of this size, to compare with; ``None`` if it has none.

    Args:
        n: n of the n×n×n product.
        dtypes: which data types.
        data: ``random`` or ``zeros``.
    """
    found = [
        _matmul(entry.params, entry.value, entry.provenance)
        for entry in recordings.load().entries
        if entry.name == "bench/matmul"
        and {"m": n, "n": n, "k": n, "data": data}.items() <= entry.params.items()
        and entry.params["dtype"] in dtypes
    ]
    found.sort(key=lambda product: dtypes.index(product.dtype))
    return Table([r.row() for r in found], *(r.provenance for r in found)) if found else None


@measured(
    "bench/matmul",
    "torch.mm into a preallocated result, blocks of calls between CUDA events after a warm-up to "
    "steady state, median of blocks",
)
def _on_gpu(m: int, n: int, k: int, dtype: str, data: str, min_time_s: float) -> dict[str, Any]:
    return _measure(m, n, k, dtype, data, min_time_s, "cuda")


def _measure(
    m: int, n: int, k: int, dtype: str, data: str, min_time_s: float, device: str
) -> dict[str, Any]:
    """Time the product and compare it with float64. Returns Timing's fields and ``error``."""
    import torch

    timing.require(device)
    storage, tf32, _ = DTYPES[dtype]
    kind = getattr(torch, storage)
    generator = torch.Generator(device=device).manual_seed(0)

    def matrix(rows: int, columns: int) -> Any:
        if data == "zeros":
            return torch.zeros(rows, columns, dtype=kind, device=device)
        values = torch.randn(rows, columns, device=device, generator=generator)
        return values.to(kind)

    a, b = matrix(m, k), matrix(k, n)
    c = torch.empty(m, n, dtype=kind, device=device)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        measured_time = timing.time_calls(lambda: torch.mm(a, b, out=c), device, min_time_s)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    some = slice(0, min(m, 64))
    exact = a[some].double() @ b.double()
    size = exact.norm().item()
    error = (c[some].double() - exact).norm().item() / size if size else c.abs().max().item()
    return {**asdict(measured_time), "error": float(f"{error:.2g}")}


def _cpu_provenance() -> Provenance:
    """Provenance of a measurement on this machine's processor."""
    import platform

    import torch

    name = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return Provenance(
        Kind.LIVE,
        "torch.mm on the CPU, blocks of calls timed by the process clock",
        date.today().isoformat(),
        Device(name, "cpu"),
        software("torch"),
    )
