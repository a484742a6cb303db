"""Copies between host and GPU: pageable against pinned memory, both ways at once, and hidden ones.

A GPU's copy engine reads host memory by physical address, so the pages must not move: *pinned*
memory is locked for that. From *pageable* memory the driver first copies into a pinned buffer of
its own, and the calling thread waits meanwhile. All of this needs a GPU; what one GPU does to
another is :mod:`mlk8s.bench.collective`.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from typing import Any

from mlk8s.bench import timing
from mlk8s.bench.device import require_free
from mlk8s.errors import UsageError
from mlk8s.gpu import catalogue, source
from mlk8s.gpu.source import measured
from mlk8s.provenance import Provenance, Table

#: A stream, and what enqueues work on the current stream.
Job = tuple[Any, Callable[[], Any]]

#: ``h2d``: host to device. ``d2h``: device to host.
DIRECTIONS = ("h2d", "d2h")
SIZES = tuple(2**power for power in range(12, 31, 2))  # 4 KiB to 1 GiB
#: Transfers a second and lane, 10⁹, by generation, of one bit each; 128 of 130 bits are data
#: (PCI Express Base Specification 3.0, 4.0 and 5.0).
GIGATRANSFERS = {"3.0": 8, "4.0": 16, "5.0": 32}
#: How the copies of :func:`overlap` are enqueued: which memory, and what comes first.
ORDERS = (("pinned", "copy"), ("pageable", "copy"), ("pageable", "products"))


def measure(
    direction: str = "h2d",
    size_bytes: int = 2**28,
    *,
    pinned: bool = True,
    min_time_s: float = 0.5,
) -> Table:
    """Measure the rate of copies of one size between host and GPU.

    Args:
        direction: ``h2d`` (host to device) or ``d2h``.
        size_bytes: bytes of one copy.
        pinned: whether the host's memory is page-locked.
        min_time_s: least measured time, s.

    Returns:
        One row; see :func:`sweep` for its columns.

    Raises:
        UsageError: a direction or size that cannot be used, or too little free memory.
        GpuUnavailable: live on a machine where PyTorch has no CUDA device.
        RecordingError: recorded, and the recording does not hold this copy.
    """
    return sweep([size_bytes], [direction], [pinned], min_time_s=min_time_s)


def sweep(
    sizes: Sequence[int] = SIZES,
    directions: Sequence[str] = DIRECTIONS,
    pinned: Sequence[bool] = (False, True),
    *,
    min_time_s: float = 0.2,
) -> Table:
    """Measure copies of each size, in each direction, of each kind of host memory.

    Args:
        sizes: bytes of one copy.
        directions: some of :data:`DIRECTIONS`.
        pinned: ``False`` for pageable memory, ``True`` for pinned.
        min_time_s: least measured time of a row, s, after a warm-up of up to ten times as long.

    Returns:
        A row for each. "time [µs]" is that of one copy: pinned copies run back to back between
        CUDA events; a pageable one is timed by the host's clock until PyTorch's blocking copy
        returns, which synchronizes. "of PCIe peak [%]" is the part of what the link of the
        catalogue's GPU carries in one direction (:func:`link_gbs`), packet headers included.

    Raises:
        UsageError, GpuUnavailable, RecordingError: see :func:`measure`.
        Interrupted: on Ctrl-C, with the rows so far.
    """
    for direction in directions:
        if direction not in DIRECTIONS:
            raise UsageError(
                f"There is no direction {direction!r}.", "use 'h2d' (host to device) or 'd2h'."
            )
    for size in sizes:
        _require_size(size)
    calls = list(product(directions, pinned, sizes))
    if not calls:
        raise UsageError("There is nothing to measure.", "name a size, a direction and a memory.")
    origins: list[Provenance] = []

    def rows() -> Iterator[dict[str, Any]]:
        for done, (direction, locked, size) in enumerate(calls):
            kind = "pinned" if locked else "pageable"
            timing.step(f"{direction}, {kind}, {size / 2**10:g} KiB", done, len(calls))
            table = _on_gpu(direction, size, locked, min_time_s)
            origins.append(table.provenance[0])
            yield _row(direction, size, locked, table[0], table.provenance[0])

    return Table(timing.collected(rows()), *origins, title="Copies between host and GPU")


def both_ways(size_bytes: int = 2**28, *, min_time_s: float = 0.5) -> Table:
    """Measure pinned copies in each direction, and in both at once on two streams.

    Args:
        size_bytes: bytes of one copy.
        min_time_s: least measured time of a row, s.

    Returns:
        Three rows: each direction alone, and both, whose rate is the sum of both directions. PCIe
        has wires of its own for each direction, so the sum may reach that of the two alone.

    Raises:
        UsageError, GpuUnavailable, RecordingError: see :func:`measure`.
    """
    _require_size(size_bytes)
    timing.step("both ways at once", 0, 1)
    table = _both_ways_on_gpu(size_bytes, min_time_s)
    rates = [row["bytes"] / row["median_ms"] * 1e-6 for row in table[:]]
    rows = [
        {
            "transfer": row["transfer"],
            "copied [MiB]": row["bytes"] / 2**20,
            "time [ms]": round(row["median_ms"], 4),
            "GB/s": round(rate, 2),
            "of h2d + d2h alone [%]": round(100 * rate / (rates[0] + rates[1]), 1),
            "flags": timing.Timing.of(row).flags,
        }
        for row, rate in zip(table[:], rates, strict=True)
    ]
    return Table(rows, *table.provenance, title="Pinned copies in both directions at once")


def overlap(size_bytes: int = 2**28, *, n: int = 8192, min_time_s: float = 0.5) -> Table:
    """Measure how much of a copy to the GPU is hidden behind matrix products on another stream.

    Products of n×n bf16 matrices are repeated until they take about as long alone as the pinned
    copy. Each row enqueues both, in the order that it names, and waits for neither. The call that
    enqueues a pageable copy returns when the copy is all but done: what is enqueued after it
    starts late, and what was enqueued before it runs meanwhile.

    Args:
        size_bytes: bytes of the copy, host to device.
        n: size of the matrices.
        min_time_s: least measured time of a row, s.

    Returns:
        A row for each of :data:`ORDERS`: each part alone, both together, and "host blocked [ms]",
        the time that the call of the copy takes to return. Copy, products and both take turns, so
        that what slows the machine slows all three. "hidden [%]" is :func:`hidden_share`.

    Raises:
        UsageError, GpuUnavailable, RecordingError: see :func:`measure`.
    """
    _require_size(size_bytes)
    if not 1 <= n <= 65536:
        raise UsageError(f"n = {n} is not a matrix size.", "use 1 to 65536.")
    if source.is_live():
        timing.require("cuda")
        require_free(2 * size_bytes, "cpu", "A copy from pinned and from pageable memory")
        require_free(size_bytes + 8 * n * n, "cuda", "A copy beside matrix products")
    timing.step("copies beside matrix products", 0, 1)
    table = _overlap_on_gpu(size_bytes, n, min_time_s)
    rows = [
        {
            "memory": row["memory"],
            "enqueued first": row["first"],
            "copied [MiB]": row["bytes"] / 2**20,
            "products": row["products"],
            "copy alone [ms]": round(row["copy_ms"], 3),
            "products alone [ms]": round(row["products_ms"], 3),
            "together [ms]": round(row["together_ms"], 3),
            "hidden [%]": round(
                100 * hidden_share(row["copy_ms"], row["products_ms"], row["together_ms"]), 1
            ),
            "host blocked [ms]": round(row["blocked_ms"], 3),
            "flags": row["flags"],
        }
        for row in table[:]
    ]
    return Table(rows, *table.provenance, title="A copy to the GPU beside matrix products")


def link_gbs(link: str) -> float | None:
    """What a PCIe link carries in one direction, GB/s, before packet headers are taken off.

    Args:
        link: generation and lanes as in the catalogue, such as ``5.0 x16``.

    Returns:
        GT/s × lanes × 128/130 / 8, or ``None`` for a link that is none of :data:`GIGATRANSFERS`.
    """
    found = re.fullmatch(r"(\d\.\d) x(\d+)", link)
    if found is None or found[1] not in GIGATRANSFERS:
        return None
    return GIGATRANSFERS[found[1]] * int(found[2]) * 128 / 130 / 8


def hidden_share(one_ms: float, other_ms: float, together_ms: float) -> float:
    """How much of the shorter of two operations is hidden behind the longer one.

    Args:
        one_ms: time of one alone.
        other_ms: time of the other alone.
        together_ms: time of both, enqueued on two streams.

    Returns:
        1 if both take no longer than the longer one, 0 if they take as long as one after the
        other; under 0 if they hinder each other.
    """
    return (one_ms + other_ms - together_ms) / min(one_ms, other_ms)


def _require_size(size: int) -> None:
    if not isinstance(size, int) or size < 1:
        raise UsageError(
            f"size_bytes = {size} is not the size of a copy.", "use a whole number of bytes."
        )


def _row(
    direction: str, size: int, pinned: bool, value: Mapping[str, Any], origin: Provenance
) -> dict[str, Any]:
    found = timing.Timing.of(value)
    gbs = size / found.median_ms * 1e-6
    part = origin.device.part if origin.device else "unknown"
    link = "" if part == "unknown" else str(catalogue.get(part).figures.get("pcie", ""))
    peak = link_gbs(link)
    return {
        "direction": direction,
        "memory": "pinned" if pinned else "pageable",
        "size [KiB]": size / 2**10,
        "time [µs]": round(found.median_ms * 1e3, 3),
        "GB/s": round(gbs, 3),
        "of PCIe peak [%]": None if peak is None else round(100 * gbs / peak, 1),
        "flags": found.flags,
    }


@measured(
    "bench/transfer",
    "Tensor.copy_ between a host and a GPU tensor: pinned, blocks of copies back to back between "
    "CUDA events; pageable, each copy by the host's clock until the blocking call has "
    "synchronized; median of blocks",
)
def _on_gpu(direction: str, size_bytes: int, pinned: bool, min_time_s: float) -> dict[str, Any]:
    host, device = _buffers(size_bytes, pinned)
    to, origin = (device, host) if direction == "h2d" else (host, device)
    if pinned:
        found = timing.time_calls(lambda: to.copy_(origin, non_blocking=True), "cuda", min_time_s)
    else:
        found = timing.time_calls(lambda: to.copy_(origin), "cpu", min_time_s)
    return asdict(found)


@measured(
    "bench/transfer-both-ways",
    "pinned copies, one each way on two streams that start together and are joined, blocks of "
    "such pairs between CUDA events, median of blocks",
)
def _both_ways_on_gpu(size_bytes: int, min_time_s: float) -> list[dict[str, Any]]:
    import torch

    up, down = (_buffers(size_bytes, pinned=True, copies=2) for _ in DIRECTIONS)
    h2d = (torch.cuda.Stream(), lambda: up[1].copy_(up[0], non_blocking=True))
    d2h = (torch.cuda.Stream(), lambda: down[0].copy_(down[1], non_blocking=True))
    what = {"h2d alone": [h2d], "d2h alone": [d2h], "both at once": [h2d, d2h]}
    return [
        {
            "transfer": name,
            "bytes": size_bytes * len(jobs),
            **asdict(timing.time_calls(_together(jobs), "cuda", min_time_s)),
        }
        for name, jobs in what.items()
    ]


@measured(
    "bench/transfer-overlap",
    "a host-to-device copy (copy_ with non_blocking=True) on one stream and bf16 products on "
    "another, started together and joined, between CUDA events; copy, products and both take "
    "turns, median of the rounds",
)
def _overlap_on_gpu(size_bytes: int, n: int, min_time_s: float) -> list[dict[str, Any]]:
    import torch

    pinned, target = _buffers(size_bytes, pinned=True)
    hosts = {"pinned": pinned, "pageable": pinned.clone()}
    a, b = (torch.randn(n, n, device="cuda").bfloat16() for _ in range(2))
    c = torch.empty_like(a)
    looks = [partial(target.copy_, pinned, non_blocking=True), partial(torch.mm, a, b, out=c)]
    copy_time, product_time = (timing.time_rested(look, bursts=1) for look in looks)
    count = max(1, round(copy_time.median_ms / product_time.median_ms))

    def multiply() -> None:
        for _ in range(count):
            torch.mm(a, b, out=c)

    streams = torch.cuda.Stream(), torch.cuda.Stream()
    work: Job = (streams[0], multiply)
    rows = []
    for memory, first in ORDERS:
        copy: Job = (streams[1], partial(target.copy_, hosts[memory], non_blocking=True))
        jobs = {"copy": [copy], "products": [work]}
        jobs["together"] = [copy, work] if first == "copy" else [work, copy]
        times: dict[str, list[float]] = {name: [] for name in jobs}
        blocked: list[float] = []
        begin = time.perf_counter()
        while len(blocked) < 10 or time.perf_counter() - begin < min_time_s:
            for name, group in jobs.items():
                on_gpu, on_host = _once(_together(group))
                times[name].append(on_gpu)
                if name == "copy":
                    blocked.append(on_host)
        # The first round pays for what is loaded and allocated late.
        found = {k: timing.from_blocks(v[1:], len(v) - 1) for k, v in times.items()}
        rows.append(
            {
                "memory": memory,
                "first": first,
                "bytes": size_bytes,
                "products": count,
                **{f"{name}_ms": part.median_ms for name, part in found.items()},
                "blocked_ms": statistics.median(blocked) * 1e3,
                "flags": "; ".join(f"{k}: {part.flags}" for k, part in found.items() if part.flags),
            }
        )
    return rows


def _once(enqueue: Callable[[], None]) -> tuple[float, float]:
    """Seconds that the GPU took, and that the host took to enqueue it."""
    import torch

    event: Any = torch.cuda.Event
    start, stop = event(enable_timing=True), event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    begin = time.perf_counter()
    enqueue()
    on_host = time.perf_counter() - begin
    stop.record()
    torch.cuda.synchronize()
    return start.elapsed_time(stop) * 1e-3, on_host


def _buffers(size_bytes: int, pinned: bool, copies: int = 1) -> tuple[Any, Any]:
    """A host and a GPU tensor of bytes, written to, so that every page exists.

    Args:
        size_bytes: bytes of each.
        pinned: whether the host's is page-locked.
        copies: how many such pairs the caller makes; all have to fit.
    """
    import torch

    timing.require("cuda")
    for device in ("cuda", "cpu"):
        require_free(size_bytes * copies, device, "A copy between host and GPU")
    host = torch.ones(size_bytes, dtype=torch.uint8, pin_memory=pinned)
    return host, torch.ones(size_bytes, dtype=torch.uint8, device="cuda")


def _together(jobs: Sequence[Job]) -> Callable[[], None]:
    """What enqueues jobs on streams of their own that start together and are waited for.

    Args:
        jobs: enqueued in this order.
    """
    import torch

    def call() -> None:
        main = torch.cuda.current_stream()
        for stream, _ in jobs:
            stream.wait_stream(main)
        for stream, enqueue in jobs:
            with torch.cuda.stream(stream):
                enqueue()
        for stream, _ in jobs:
            main.wait_stream(stream)

    return call
