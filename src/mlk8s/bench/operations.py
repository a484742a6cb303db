"""The operations that a transformer is made of, each timed with its FLOPs and bytes beside it.

This module measures; what the figures say about the device is in :mod:`mlk8s.bench.roofline`. On
a GPU an operation is captured in a CUDA graph, so that neither Python nor the allocator is in the
measured time, and it works on inputs that no cache holds from the call before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mlk8s.bench import flops, timing
from mlk8s.bench.device import cpu_provenance, require_free
from mlk8s.bench.flops import Work
from mlk8s.errors import UsageError
from mlk8s.gpu.source import measured
from mlk8s.provenance import Table

Call = Callable[[], Any]

#: Data type → (storage in PyTorch, bytes per element): the types that have fused attention.
DTYPES: Mapping[str, tuple[str, int]] = {
    "bf16": ("bfloat16", 2),
    "fp16": ("float16", 2),
    "tf32": ("float32", 4),
    "fp32": ("float32", 4),
}
#: The products of which the best is the compute ceiling: (m, n, k).
LARGE: Mapping[str, list[tuple[int, ...]]] = {
    "cuda": [(2048, 4096, 13312), (4096, 8192, 8192), (8192, 8192, 8192)],
    "cpu": [(1024, 1024, 1024), (2048, 1024, 2048)],
}
#: Bytes that the copy behind the memory ceiling reads and writes.
COPY_BYTES: Mapping[str, int] = {"cuda": 2**29, "cpu": 2**28}
#: Successive calls cycle through tensors of this many bytes at least, and of four L2 caches; small
#: operations stop at a number of sets, since they are not bound by memory.
WORKING_SET = 2**28
MAX_SETS = 256
#: Least number of calls in a CUDA graph: replaying it costs some µs, once for all of them.
NODES = 16


@dataclass(frozen=True)
class Operation:
    """One call of PyTorch, with what it costs on paper.

    Attributes:
        name: what the field calls it.
        shape: its sizes.
        work: FLOPs and least bytes.
        inputs: shapes of its tensors.
        output: shape of a preallocated result; ``None`` where PyTorch accepts none.
        run: enqueues it once: ``run(torch, result, *inputs)``.
    """

    name: str
    shape: str
    work: Work
    inputs: tuple[tuple[int, ...], ...]
    output: tuple[int, ...] | None
    run: Callable[..., Any]


def operations(scale: float = 1.0, dtype: str = "bf16") -> list[Operation]:
    """What a transformer is made of, about in the order of arithmetic intensity.

    At scale 1 those bound by memory move 0.5 to 1.1 GB in bf16, ten times an H100's L2 cache and
    more.

    *Attention, decode* is one step for 64 sequences with 4096 cached positions and 8 KV heads,
    each shared by 4 query heads (the heads of Llama 3 8B). The 4 queries of a KV head are passed
    as 4 rows over the same keys: the same arithmetic, and what kernels for decoding do. Passed as
    32 heads, some of PyTorch's backends would first write the cache out four times.

    Args:
        scale: share of the work, FLOPs or bytes, of sizes for a data-center GPU. Sizes are
            rounded to multiples of 8, so a very small scale shrinks them less.
        dtype: one of :data:`DTYPES`; decides the bytes.

    Raises:
        UsageError: a scale that is not a positive number, or an unknown type.
    """
    _, item = require_dtype(dtype)
    if not 0 < scale < math.inf:
        raise UsageError(
            f"The scale {scale} is not a positive number.",
            "use 1 for the sizes of a data-center GPU and less for smaller ones.",
        )

    def size(full: int, dimensions: int = 1) -> int:
        """One of several dimensions that shrink together."""
        share: float = scale ** (1 / dimensions)
        return max(8, 8 * round(full * share / 8))

    wide = 4096  # a model's width, which a row of activations keeps at any scale
    rows = size(32768)
    m = size(16384, 2)
    tokens, sequences, cached = size(2048, 2), size(64, 2), size(4096, 2)
    x = (rows, wide)

    def per_row(name: str, work: Work, weights: int, run: Callable[..., Any]) -> Operation:
        return Operation(name, f"{rows}×{wide}", work, (x, *weights * [(wide,)]), None, run)

    def each(name: str, inputs: int, flops_each: int, run: Callable[..., Any]) -> Operation:
        work = flops.elementwise(rows * wide, inputs=inputs, flops_each=flops_each, itemsize=item)
        return Operation(name, f"{rows}×{wide}", work, inputs * (x,), x, run)

    return [
        _copy("copy", rows * wide, item),
        each("add", 2, 1, lambda torch, out, x, y: torch.add(x, y, out=out)),
        Operation(
            "GEMV", f"{m}×{m}", flops.gemv(m, m, itemsize=item), ((m, m), (m,)), (m,),
            lambda torch, out, a, x: torch.mv(a, x, out=out),
        ),
        per_row(
            "RMS norm", flops.rms_norm(rows, wide, itemsize=item), 1,
            lambda torch, _, x, w: torch.nn.functional.rms_norm(x, w.shape, w, 1e-5),
        ),
        Operation(
            "softmax", f"{rows}×{wide}", flops.softmax(rows, wide, item), (x,), x,
            lambda torch, out, x: torch.softmax(x, -1, out=out),
        ),
        per_row(
            "layer norm", flops.layer_norm(rows, wide, itemsize=item), 2,
            lambda torch, _, x, w, b: torch.nn.functional.layer_norm(x, w.shape, w, b),
        ),
        each(
            "GELU", 1, flops.GELU_FLOPS,
            lambda torch, out, x: torch.ops.aten.gelu.out(x, approximate="tanh", out=out),
        ),
        Operation(
            "attention, decode", f"{sequences}×32×1×{cached}×128, 8 KV heads",
            flops.attention(sequences, 32, 1, cached, 128, kv_heads=8, itemsize=item),
            ((sequences, 8, 4, 128), *2 * ((sequences, 8, cached, 128),)), None,
            lambda torch, _, *qkv: torch.nn.functional.scaled_dot_product_attention(*qkv),
        ),
        Operation(
            "GEMM, batch 16", f"16×{m}×{m}", flops.matmul(16, m, m, itemsize=item),
            ((16, m), (m, m)), (16, m),
            # A linear layer keeps its weight as (outputs, inputs).
            lambda torch, out, x, w: torch.mm(x, w.T, out=out),
        ),
        _product("GEMM, small", 3 * (size(512, 3),), item),
        Operation(
            "attention, prefill", f"1×32×{tokens}×{tokens}×128, causal",
            flops.attention(1, 32, tokens, tokens, 128, causal=True, itemsize=item),
            3 * ((1, 32, tokens, 128),), None,
            lambda torch, _, *qkv: torch.nn.functional.scaled_dot_product_attention(
                *qkv, is_causal=True
            ),
        ),
        _product("GEMM, medium", 3 * (size(2048, 3),), item),
        _product("GEMM, large", 3 * (size(8192, 3),), item),
    ]  # fmt: skip


def _product(name: str, shape: tuple[int, ...], item: int) -> Operation:
    m, n, k = shape
    return Operation(
        name, f"{m}×{n}×{k}", flops.matmul(m, n, k, itemsize=item), ((m, k), (k, n)), (m, n),
        lambda torch, out, a, b: torch.mm(a, b, out=out),
    )  # fmt: skip


def _copy(name: str, count: int, item: int) -> Operation:
    return Operation(
        name, f"{count}", flops.copy(count, item), ((count,),), (count,),
        lambda torch, out, x: out.copy_(x),
    )  # fmt: skip


def build(operation: Operation, device: str, dtype: str = "bf16", sets: int = 1) -> list[Call]:
    """Allocate an operation's tensors, and return what enqueues it.

    Args:
        operation: one of :func:`operations` of the same ``dtype``.
        device: where PyTorch is to put its tensors.
        dtype: one of :data:`DTYPES`.
        sets: how many calls to make, each on tensors of its own.

    Returns:
        A call for each set; it returns the result.

    Raises:
        UsageError: an unknown type.
    """
    import torch

    kind = getattr(torch, require_dtype(dtype)[0])
    first = [torch.randn(shape, dtype=kind, device=device) for shape in operation.inputs]

    def on(inputs: list[Any]) -> Call:
        shape = operation.output
        result = None if shape is None else torch.empty(shape, dtype=kind, device=device)
        return lambda: operation.run(torch, result, *inputs)

    return [on(first), *(on([tensor.clone() for tensor in first]) for _ in range(sets - 1))]


def default_dtype(device: str) -> str:
    """``bf16`` on a GPU, ``fp32`` on a processor: many have no instructions for bf16."""
    return "fp32" if device == "cpu" else "bf16"


def require_dtype(dtype: str) -> tuple[str, int]:
    """PyTorch's name of a type, and the bytes of an element.

    Raises:
        UsageError: not one of :data:`DTYPES`.
    """
    if dtype not in DTYPES:
        raise UsageError(f"There is no data type {dtype!r}.", f"use one of {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def evidence(
    dtype: str, device: str, *, scale: float, min_time_s: float, ceilings_only: bool = False
) -> Table:
    """Time what the ceilings are made of, and the operations, in one run.

    Args:
        dtype: one of :data:`DTYPES`.
        device: ``cuda`` measures this machine's GPU or reads the recording, as ``MLK8S_GPU``
            says; ``cpu`` measures this machine's processor, always.
        scale: see :func:`operations`.
        min_time_s: least measured time for each, s; warming up takes a second more.
        ceilings_only: leave the operations out.

    Returns:
        A row for each: ``role`` (``compute``, ``memory`` or ``launch`` for what a ceiling is made
        of, else ``operation``), ``operation``, ``shape``, ``FLOPs``, ``bytes``, ``time [µs]``
        (median), its 5th and 95th percentile, ``SM clock [MHz]``, ``power [W]``,
        ``clocks limited by``, ``flags``.

    Raises:
        UsageError: a type, device or scale that cannot be used, or too little memory.
        GpuUnavailable: live on a machine where PyTorch has no CUDA device.
        RecordingError: recorded, and the recording does not hold these.
        timing.Interrupted: Ctrl-C, with the rows measured until then.
    """
    operations(scale, dtype)  # refuses what it cannot make before anything is measured
    if device == "cuda":
        return _on_gpu(dtype, scale, min_time_s, ceilings_only)
    timing.require(device)
    rows = timing.collected(_rows(dtype, scale, min_time_s, ceilings_only, device))
    method = (
        "each operation on tensors that together are 256 MiB, blocks of calls timed by the wall "
        "clock after a warm-up, median of blocks; ceilings: the best of two products, a copy of "
        "256 MiB read and written, one element"
    )
    return Table(rows, cpu_provenance(method))


@measured(
    "bench/roofline",
    "each operation on tensors that together are at least four times the L2 cache, 16 calls and "
    "more in a CUDA graph, replays between CUDA events after a warm-up to steady state, median of "
    "blocks; ceilings: the best of three products, a copy of 512 MiB read and written, one element",
)
def _on_gpu(
    dtype: str, scale: float, min_time_s: float, ceilings_only: bool
) -> list[dict[str, Any]]:
    return timing.collected(_rows(dtype, scale, min_time_s, ceilings_only, "cuda"))


def _rows(
    dtype: str, scale: float, min_time_s: float, ceilings_only: bool, device: str
) -> Iterator[dict[str, Any]]:
    """Measure the ceilings, then the operations; a row for each as soon as it is there."""
    timing.require(device)
    _, item = require_dtype(dtype)
    element = flops.elementwise(1, itemsize=item)
    todo = [
        *(("compute", _product("matrix product", shape, item)) for shape in LARGE[device]),
        ("memory", _copy("large copy", COPY_BYTES[device] // (2 * item), item)),
        ("launch", Operation("one element", "1", element, ((1,),), (1,), _negate)),
    ]
    if not ceilings_only:
        todo += [("operation", operation) for operation in operations(scale, dtype)]
    working_set = _working_set(device)
    sets = [min(MAX_SETS, math.ceil(working_set / op.work.bytes)) for _, op in todo]
    largest = max(n * op.work.bytes for n, (_, op) in zip(sets, todo, strict=True))
    require_free(largest, device, "The largest operation")
    for done, (role, operation) in enumerate(todo):
        timing.step(f"{operation.name} {operation.shape}", done, len(todo))
        found, calls = _time(operation, device, dtype, min_time_s, sets[done])
        yield {
            "role": role,
            "operation": operation.name,
            "shape": operation.shape,
            "FLOPs": operation.work.flops,
            "bytes": operation.work.bytes,
            "time [µs]": found.median_ms * 1e3 / calls,
            "p5 [µs]": found.p5_ms * 1e3 / calls,
            "p95 [µs]": found.p95_ms * 1e3 / calls,
            "SM clock [MHz]": found.sm_clock_mhz,
            "power [W]": found.power_w,
            "clocks limited by": found.reasons,
            "flags": found.flags,
        }


def _negate(torch: Any, out: Any, x: Any) -> Any:
    return torch.neg(x, out=out)


def _working_set(device: str) -> int:
    """Bytes to cycle through, so that no cache holds what the next call reads."""
    if device == "cpu":
        return WORKING_SET
    import torch

    cache: int = torch.cuda.get_device_properties(0).L2_cache_size
    return max(WORKING_SET, 4 * cache)


def _time(
    operation: Operation, device: str, dtype: str, min_time_s: float, sets: int
) -> tuple[timing.Timing, int]:
    """Time an operation. Returns the timing, and how many calls it times at once."""
    calls = build(operation, device, dtype, sets)
    with _tf32(dtype == "tf32"):
        if device == "cpu":
            turn = itertools.cycle(calls)
            return timing.time_calls(lambda: next(turn)(), device, min_time_s), 1
        calls *= math.ceil(NODES / sets)
        return timing.time_calls(_captured(calls), device, min_time_s), len(calls)


def _captured(calls: list[Call]) -> Call:
    """The calls as one CUDA graph, one after the other without Python in between."""
    import torch

    # Once outside the capture, where libraries may still load kernels and allocate workspaces.
    aside: Any = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for call in calls:
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph: Any = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    replay: Call = graph.replay
    return replay


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Whether tensor cores may round float32 to TF32, for the block only."""
    import torch

    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
