"""The rate of a matrix product, by data type, with everything that decides it in the same row.

C = A·B with A of shape (m, k) and B of shape (k, n) takes 2·m·n·k floating-point operations: a
multiplication and an addition for each of the m·n·k terms.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from mlk8s.bench import timing, waves
from mlk8s.bench.device import cpu_provenance, free_bytes, require_free
from mlk8s.bench.rates import Matmul, Search
from mlk8s.bench.timing import Timing
from mlk8s.errors import UsageError
from mlk8s.gpu.source import measured
from mlk8s.provenance import Provenance, Table

#: Data type → (storage in PyTorch, whether tensor cores may round float32 to TF32, unit roundoff
#: of the result, lowest compute capability whose hardware and libraries compute it fast). TF32 is
#: FP32 storage with a 10-bit mantissa, so it has a name of its own. FP8 is E4M3 with the result in
#: BF16; ``fp8-fast`` lets the tensor core keep its sums at lower precision, which is faster. INT8
#: sums in INT32, exactly. Roundoff: half a unit in the last place (IEEE 754; TF32 as FP16).
#: Capabilities: CUDA C++ Programming Guide, arithmetic throughput by compute capability.
DTYPES: Mapping[str, tuple[str, bool, float, tuple[int, int]]] = {
    "fp64": ("float64", False, 2.0**-53, (6, 0)),
    "fp32": ("float32", False, 2.0**-24, (3, 0)),
    "tf32": ("float32", True, 2.0**-11, (8, 0)),
    "fp16": ("float16", False, 2.0**-11, (7, 0)),
    "bf16": ("bfloat16", False, 2.0**-8, (8, 0)),
    "fp8": ("float8_e4m3fn", False, 2.0**-8, (8, 9)),
    "fp8-fast": ("float8_e4m3fn", False, 2.0**-8, (8, 9)),
    "int8": ("int8", False, 0.0, (7, 5)),
}
#: Eight bits: both operands are read along k, and n and k come in multiples of 16.
NARROW = ("fp8", "fp8-fast", "int8")
DATA = ("random", "zeros")
CPU_METHOD = "torch.mm on the CPU, blocks of calls timed by the wall clock"
#: What is overwritten between rested products, so that none finds its operands in the cache: as
#: much as triton.testing.do_bench and mamf-finder overwrite, above the L2 of every GPU sold.
FLUSH_BYTES = 2**28
#: The search ends when this many shapes in a row are no faster than the best by this share.
PATIENCE = 24
GAIN = 0.003
REST_S = 1.0


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
    _check_dtype(dtype)
    if data not in DATA:
        raise UsageError(f"There is no data {data!r}.", f"use one of {', '.join(DATA)}.")
    if device == "cuda":
        table = _on_gpu(**shape, dtype=dtype, data=data, min_time_s=min_time_s)
        return _matmul({**shape, "dtype": dtype, "data": data}, table[0], table.provenance[0])
    timing.require(device)
    value = _measure(**shape, dtype=dtype, data=data, min_time_s=min_time_s, device=device)
    return _matmul({**shape, "dtype": dtype, "data": data}, value, cpu_provenance(CPU_METHOD))


def search(dtype: str = "bf16", *, device: str = "cuda", limit_s: float = 60.0) -> Search:
    """Find the shape with the highest rate, on a device that rests: the *peak-shape* figure.

    Tries shapes that fill whole waves (:func:`mlk8s.bench.waves.shapes`), each in one short burst,
    until :data:`PATIENCE` in a row were no faster by :data:`GAIN`; then measures the best four at
    length. A rested GPU holds its maximum clock, so the rates of two shapes can be compared; at the
    power cap they differ by what ran before.

    Args:
        dtype: one of :data:`DTYPES`.
        device: ``cuda`` or ``cpu``, as in :func:`measure`.
        limit_s: time after which the best so far counts, s.

    Raises:
        GpuUnavailable: live on a machine where PyTorch has no CUDA device.
        UsageError: a type or device that cannot be used, or no shape fits into memory.
        RecordingError: recorded, and the recording does not hold this search.
    """
    _check_dtype(dtype)
    if device == "cuda":
        table = _search_on_gpu(dtype=dtype, limit_s=limit_s)
        rows: Sequence[Mapping[str, Any]] = table
        origin = table.provenance[0]
    else:
        timing.require(device)
        rows, origin = _search(dtype, limit_s, device), cpu_provenance(CPU_METHOD)
    columns = ("stage", "m", "n", "k", "waves", "TFLOP/s", "at [s]")
    trials = Table([{name: row[name] for name in columns} for row in rows], origin)
    last = rows[-1]
    value = {name: last[name] for name in (*Timing.__dataclass_fields__, "error")}
    call = {"m": last["m"], "n": last["n"], "k": last["k"], "dtype": dtype, "data": "random"}
    return Search(_matmul(call, value, origin), trials, last["stopped"], last["at [s]"])


def figures(dtype: str = "bf16", n: int = 8192, seconds: float = 20.0) -> Table:
    """The three rates that go by the name of "TFLOPS", each under its own.

    *Peak-shape* is the best shape on a rested device; *sustained* is an n×n×n product back to back
    at steady state; *zeros* is the same on data that switches no transistor.

    Args:
        dtype: one of :data:`DTYPES`.
        n: size of the two sustained products.
        seconds: how long the sustained one is measured, s; zeros a quarter of it.
    """
    found = search(dtype)
    sustained = measure(n, dtype, min_time_s=seconds)
    zeros = measure(n, dtype, data="zeros", min_time_s=seconds / 4)
    named = {
        "peak-shape, rested": found.best,
        "sustained": sustained,
        "sustained, zeros": zeros,
    }
    rows = [product.figure_row(name) for name, product in named.items()]
    return Table(rows, *(product.provenance for product in named.values()))


def _matmul(call: Mapping[str, Any], value: Mapping[str, Any], origin: Provenance) -> Matmul:
    """The product from its arguments and what measuring it gave."""
    what = {name: call[name] for name in ("m", "n", "k", "dtype", "data")}
    times = {name: v for name, v in value.items() if name != "error"}
    return Matmul(**what, timing=Timing(**times), error=value["error"], provenance=origin)


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
    with prepared(m, n, k, dtype, data, device) as (call, error):
        return {**asdict(timing.time_calls(call, device, min_time_s)), "error": error()}


@measured(
    "bench/matmul-search",
    "torch.mm in bursts of 3 to 12, the L2 cache overwritten before each, idle time three times as "
    "long after each burst, CUDA events around each product, median of bursts",
)
def _search_on_gpu(dtype: str, limit_s: float) -> list[dict[str, Any]]:
    return _search(dtype, limit_s, "cuda")


def _search(dtype: str, limit_s: float, device: str) -> list[dict[str, Any]]:
    """All trials in order; the last is the winner's, with Timing's fields and ``error``."""
    import torch

    timing.require(device)
    if device == "cuda":
        units = torch.cuda.get_device_properties(0).multi_processor_count
        tile, shapes = waves.TILE, waves.shapes(units)
    else:
        # A processor has no waves; its few small shapes only have to show the method.
        units, tile = torch.get_num_threads(), (64, 64)
        shapes = waves.shapes(units, tile, (512, 256))[:PATIENCE]
    room = free_bytes(device) / 2
    smallest = min(shapes, key=lambda shape: _bytes(shape[0], shape[1], shape[2], dtype))
    require_free(2 * _bytes(*smallest, dtype), device, f"The smallest shape of a search in {dtype}")
    shapes = [shape for shape in shapes if _bytes(*shape, dtype) <= room]
    scratch = torch.empty(FLUSH_BYTES if device == "cuda" else 2**22, dtype=torch.uint8).to(device)

    def trial(shape: tuple[int, int, int], bursts: int, stage: str) -> dict[str, Any]:
        m, n, k = shape
        with prepared(m, n, k, dtype, "random", device) as (call, error):
            found = timing.time_rested(call, device, bursts=bursts, between=scratch.zero_)
            return {
                "stage": stage,
                "m": m,
                "n": n,
                "k": k,
                "waves": round(waves.waves(m, n, units, tile), 2),
                "TFLOP/s": 2 * m * n * k / found.median_ms * 1e-9,
                **asdict(found),
                "error": error(),
            }

    return timing.collected(_trials(trial, dtype, shapes, limit_s))


def _trials(
    trial: Callable[[tuple[int, int, int], int, str], dict[str, Any]],
    dtype: str,
    shapes: Sequence[tuple[int, int, int]],
    limit_s: float,
) -> Iterator[dict[str, Any]]:
    """The search itself: candidates until they gain nothing, finals, the winner once more."""
    # What ran before may have left the board at its power limit, which NVML averages over a second.
    time.sleep(REST_S)
    begin = time.perf_counter()

    def timed(shape: tuple[int, int, int], bursts: int, stage: str) -> dict[str, Any]:
        row = trial(shape, bursts, stage)
        return {**row, "at [s]": round(time.perf_counter() - begin, 2), "stopped": ""}

    tried: list[dict[str, Any]] = []
    best, since, stopped = 0.0, 0, "all shapes tried"
    for done, shape in enumerate(shapes):
        timing.step(f"{dtype} {shape[0]}×{shape[1]}×{shape[2]}", done, len(shapes))
        tried.append(timed(shape, 1, "candidate"))
        yield tried[-1]
        rate = tried[-1]["TFLOP/s"]
        since = 0 if rate > best * (1 + GAIN) else since + 1
        best = max(best, rate)
        if since >= PATIENCE:
            stopped = f"{PATIENCE} shapes in a row gained less than {100 * GAIN:g} %"
            break
        if tried[-1]["at [s]"] > limit_s:
            stopped = f"the limit of {limit_s:g} s"
            break
    tried.sort(key=lambda row: -float(row["TFLOP/s"]))
    finals = []
    for done, row in enumerate(tried[:4]):
        timing.step(f"{dtype} final", done, len(tried[:4]) + 1)
        finals.append(timed((row["m"], row["n"], row["k"]), 5, "final"))
        yield finals[-1]
    winner = max(finals, key=lambda row: float(row["TFLOP/s"]))
    timing.step(f"{dtype} winner", len(finals), len(finals) + 1)
    # Measured anew: the best of several is partly the luckiest of them.
    last = timed((winner["m"], winner["n"], winner["k"]), 20, "winner")
    yield {**last, "stopped": stopped}


@contextmanager
def prepared(
    m: int, n: int, k: int, dtype: str, data: str = "random", device: str = "cuda"
) -> Iterator[tuple[Callable[[], Any], Callable[[], float]]]:
    """The product ready to run: a function that enqueues it, and one that gives its error.

    While the block runs PyTorch may use TF32 where, and only where, ``dtype`` says so.

    Args:
        m: rows of A and C.
        n: columns of B and C.
        k: columns of A, rows of B.
        dtype: one of :data:`DTYPES`.
        data: ``random`` or ``zeros``.
        device: ``cuda`` or ``cpu``.

    Raises:
        GpuUnavailable: ``cuda`` without a CUDA device that PyTorch can use.
        UsageError: the device lacks the data type or the memory, or the type cannot have the shape.
    """
    import torch

    timing.require(device)
    storage, tf32, _, _ = DTYPES[dtype]
    _check_device(m, n, k, dtype, device)
    kind = getattr(torch, storage)
    generator = torch.Generator(device=device).manual_seed(0)

    def matrix(rows: int, columns: int) -> Any:
        if data == "zeros":
            return torch.zeros(rows, columns, dtype=kind, device=device)
        values = torch.randn(rows, columns, device=device, generator=generator)
        # Integers over the range of the type; ±4 standard deviations fill it.
        return (
            (values * 32).round().clamp(-128, 127).to(kind) if dtype == "int8" else values.to(kind)
        )

    narrow = dtype in NARROW
    a = matrix(m, k)
    # Tensor cores read the 8-bit types along k on both sides: B is stored transposed, as the
    # weight of a linear layer is.
    b = matrix(n, k).t() if narrow else matrix(k, n)
    result = {"fp8": "bfloat16", "fp8-fast": "bfloat16", "int8": "int32"}.get(dtype, storage)
    c = torch.empty(m, n, dtype=getattr(torch, result), device=device)
    one = torch.tensor(1.0, device=device)

    def call() -> Any:
        if dtype == "int8":
            return torch._int_mm(a, b, out=c)
        if narrow:
            fast = dtype == "fp8-fast"
            return torch._scaled_mm(a, b, one, one, out_dtype=c.dtype, out=c, use_fast_accum=fast)
        return torch.mm(a, b, out=c)

    def error() -> float:
        exact = a[:64].double() @ b[:, :64].double()
        size = exact.norm().item()
        corner = c[:64, :64].double()
        found = (corner - exact).norm().item() / size if size else corner.abs().max().item()
        return float(f"{found:.2g}")

    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        yield call, error
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise UsageError(f"There is no data type {dtype!r}.", f"use one of {', '.join(DTYPES)}.")


def _check_device(m: int, n: int, k: int, dtype: str, device: str) -> None:
    """Refuse what the device cannot hold or compute, before anything is allocated."""
    import torch

    least = DTYPES[dtype][3]
    if dtype in NARROW and (n % 16 or k % 16 or (dtype == "int8" and m < 17)):
        raise UsageError(
            f"{dtype} cannot compute {m}×{n}×{k}: PyTorch takes n and k in multiples of 16 there, "
            "and for int8 m above 16.",
            "round the shape up.",
        )
    if device == "cuda":
        capability = torch.cuda.get_device_capability()
        if capability < least:
            has = [name for name, (*_, floor) in DTYPES.items() if floor <= capability]
            raise UsageError(
                f"{torch.cuda.get_device_name()} does not compute {dtype}: its compute capability "
                f"is {capability[0]}.{capability[1]}, {dtype} needs {least[0]}.{least[1]}.",
                f"use one of {', '.join(has)}.",
            )
    require_free(_bytes(m, n, k, dtype), device, f"A {m}×{n}×{k} product in {dtype}")


def _bytes(m: int, n: int, k: int, dtype: str) -> int:
    """Memory for operands and result, and for one operand as float32 while it is drawn."""
    import torch

    size: int = getattr(torch, DTYPES[dtype][0]).itemsize
    return (m * k + k * n) * size + m * n * max(size, 4) + 4 * k * max(m, n)
