"""The bandwidth of memory: read, write, copy and triad from L2 to HBM; strided and random access.

Bytes are counted as STREAM counts them (McCalpin, "Memory Bandwidth and Machine Balance in Current
High Performance Computers", IEEE TCCA Newsletter, December 1995): those that the operation reads
plus those that it writes, without what a cache fetches besides. A copy of n bytes counts 2n.
NVIDIA's nvbandwidth counts the bytes of a copy once, so its ``device_local_copy`` is half of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from typing import Any

from mlk8s.bench import timing
from mlk8s.bench.device import cache_bytes, cpu_provenance, require_free
from mlk8s.bench.traffic import THREADS, VECTORS, WORDS, launch
from mlk8s.errors import UsageError
from mlk8s.gpu import catalogue
from mlk8s.gpu.source import measured
from mlk8s.provenance import Provenance, Table

OPERATIONS = ("read", "write", "copy", "triad")
#: Arrays of each operation, the one that is written first: their sizes add up to the working set.
#: Each is read or written once in a pass, so a pass counts as many bytes as the working set has.
ARRAYS = {"read": 1, "write": 1, "copy": 2, "triad": 3}
COUNTED = {
    "read": "n read",
    "write": "n written",
    "copy": "n read + n written",
    "triad": "2n read + n written",
}
SIZES = tuple(2**power for power in range(20, 33))  # 1 MiB to 4 GiB

PATTERNS = ("strided", "random")
STRIDES = (1, 2, 4, 8, 16, 32, 64)  # words of 4 bytes
ROWS = (4, 8, 16, 32, 64, 128, 512, 4096)  # bytes
WORD = 4
INDEX = 4  # bytes of an index
#: What memory moves at least: a sector of a GPU (NVIDIA, CUDA C++ Best Practices Guide, "Coalesced
#: Access to Global Memory"), a cache line of a processor (64 bytes on x86-64).
SECTOR = {"cuda": 32, "cpu": 64}

#: Elements of a GPU kernel, bytes: the widest load of a thread.
ELEMENT = 16
#: Under this the arrays of a triad have no whole piece.
LEAST_BYTES = 2**17
#: A table has a piece for every stride, and rows of 4 bytes that an int32 can number.
TABLE_BYTES = (2**22, 2**33)
#: Look-ups of a random row: this many rows, or rows of this many bytes if those are fewer.
LOOKUPS = {"cuda": (2**24, 2**28), "cpu": (2**20, 2**24)}


def measure(
    operation: str = "copy",
    size_bytes: int = 2**32,
    *,
    device: str = "cuda",
    min_time_s: float = 0.5,
) -> Table:
    """Measure the bandwidth of one operation on a working set of one size.

    Args:
        operation: ``read``, ``write`` (a constant), ``copy`` or ``triad`` (a = b + 3·c).
        size_bytes: the working set, all arrays of the operation together. It is rounded down so
            that the arrays have equal numbers of pieces of 32 KiB; the table has the real size.
        device: ``cuda`` measures this machine's GPU or reads the recording, as ``MLK8S_GPU``
            says; ``cpu`` measures this machine's processor, always.
        min_time_s: least measured time, s.

    Returns:
        One row; see :func:`sweep` for its columns.

    Raises:
        UsageError: an operation, size or device that cannot be used, or too little free memory.
        GpuUnavailable: live on a machine where PyTorch has no CUDA device.
        RecordingError: recorded, and the recording does not hold this measurement.
    """
    return sweep([operation], [size_bytes], device=device, min_time_s=min_time_s)


def sweep(
    operations: Sequence[str] = OPERATIONS,
    sizes: Sequence[int] = SIZES,
    *,
    device: str = "cuda",
    min_time_s: float = 0.2,
) -> Table:
    """Measure each operation on working sets from a cache's size to many times it.

    Args:
        operations: some of :data:`OPERATIONS`.
        sizes: working sets, bytes; see :func:`measure`.
        device: ``cuda`` or ``cpu``.
        min_time_s: least measured time of a row, s, after a warm-up of up to ten times as long.

    Returns:
        A row for each operation and size. "working set [MiB]" is the size of all arrays together.
        "GB/s" counts the bytes as "bytes counted" says, n being one array. "level" is what the
        rate belongs to: the cache where the working set is less than twice its size (L2 on a GPU,
        the last level of the first core on a processor), else the memory; ``unknown`` where the
        cache's size cannot be read. "of peak [%]" is the part of the catalogue's bandwidth, of
        memory alone, without MIG. "time [µs]" is that of one pass over the working set.

    Raises:
        UsageError, GpuUnavailable, RecordingError: see :func:`measure`.
        Interrupted: on Ctrl-C, with the rows so far.
    """
    for operation in operations:
        if operation not in OPERATIONS:
            raise UsageError(
                f"There is no operation {operation!r}.", f"use one of {', '.join(OPERATIONS)}."
            )
    for size in sizes:
        if not isinstance(size, int) or size < LEAST_BYTES:
            raise UsageError(
                f"size_bytes = {size} is not the size of a working set.",
                f"use a whole number of bytes, at least {LEAST_BYTES:,}.",
            )
    calls = [
        (f"{operation}, {size / 2**20:g} MiB", (operation, size, min_time_s))
        for operation, size in product(operations, sizes)
    ]
    title = "Memory bandwidth, bytes read plus bytes written"
    return _rows(calls, _on_gpu, _measure, _row, device, title)


def access(
    patterns: Sequence[str] = PATTERNS,
    *,
    device: str = "cuda",
    table_bytes: int = 2**32,
    min_time_s: float = 0.2,
) -> Table:
    """Measure how much of the traffic is of use when memory is not read in order.

    ``strided`` reads every 1st, 2nd, 4th … 64th word of 4 bytes. ``random`` gathers rows of 4 to
    4096 bytes at the places that an index says: the look-up of an embedding, or of the blocks of a
    paged KV cache.

    Args:
        patterns: some of :data:`PATTERNS`.
        device: ``cuda`` or ``cpu``; see :func:`measure`.
        table_bytes: what is read from, bytes, rounded down to whole rows of 4096.
        min_time_s: least measured time of a row, s.

    Returns:
        "useful GB/s" counts each byte that was asked for, once. "traffic GB/s" is computed, not
        measured: the whole sectors (cache lines on a processor) that hold those bytes, and the
        index that ``random`` reads.

    Raises:
        UsageError, GpuUnavailable, RecordingError: see :func:`measure`.
        Interrupted: on Ctrl-C, with the rows so far.
    """
    for pattern in patterns:
        if pattern not in PATTERNS:
            raise UsageError(
                f"There is no access pattern {pattern!r}.", f"use one of {', '.join(PATTERNS)}."
            )
    least, most = TABLE_BYTES
    if not isinstance(table_bytes, int) or not least <= table_bytes <= most:
        raise UsageError(
            f"table_bytes = {table_bytes} is not the size of a table.",
            f"use a whole number of bytes from {least:,} to {most:,}.",
        )
    sizes = {"strided": (STRIDES, "words apart"), "random": (ROWS, "bytes a row")}
    calls = [
        (f"{pattern}, {size} {sizes[pattern][1]}", (pattern, size, table_bytes, min_time_s))
        for pattern in patterns
        for size in sizes[pattern][0]
    ]
    title = "Bytes of use and sectors moved, by access pattern"
    return _rows(calls, _access_on_gpu, _access, _access_row, device, title)


def _rows(
    calls: Sequence[tuple[str, tuple[Any, ...]]],
    on_gpu: Callable[..., Table],
    on_device: Callable[..., Mapping[str, Any]],
    row: Callable[[Mapping[str, Any], Provenance], dict[str, Any]],
    device: str,
    title: str,
) -> Table:
    """Measure call after call, each with its name for the progress and its arguments."""
    if not calls:
        raise UsageError("There is nothing to measure.", "name an operation and a size.")
    if device != "cuda":  # recorded, none is needed
        timing.require(device)
    origins: list[Provenance] = []
    cpu = "PyTorch's sum, fill_, copy_, add and index_select, timed by the wall clock"

    def rows() -> Iterator[dict[str, Any]]:
        for done, (what, arguments) in enumerate(calls):
            timing.step(what, done, len(calls))
            if device == "cuda":
                table = on_gpu(*arguments)
                value, origin = table[0], table.provenance[0]
            else:
                value, origin = on_device(*arguments, device), cpu_provenance(cpu)
            origins.append(origin)
            yield row(value, origin)

    return Table(timing.collected(rows()), *origins, title=title)


def level(working_set: int, cache_bytes: int | None, names: tuple[str, str]) -> str:
    """What a rate belongs to: the cache, if less than twice its size was used, or the memory.

    Below twice the size a part of the data is still in the cache when it is needed again.

    Args:
        working_set: bytes.
        cache_bytes: size of the last cache before the memory; ``None`` if it cannot be read.
        names: what cache and memory are called.
    """
    if cache_bytes is None:
        return "unknown"
    return names[0] if working_set < 2 * cache_bytes else names[1]


def sector_bytes(pieces: int, piece: int, sector: int, distance: int | None = None) -> int:
    """Bytes of the whole sectors that hold some pieces, all sizes powers of two, pieces aligned.

    Args:
        pieces: how many.
        piece: size of one, bytes.
        sector: size of a sector, bytes.
        distance: from a piece to the next, bytes; ``None`` if each has sectors of its own.
    """
    alone = max(piece, sector)
    return pieces * (alone if distance is None else min(alone, distance))


def _row(value: Mapping[str, Any], origin: Provenance) -> dict[str, Any]:
    """A measurement as a row of the table."""
    time, size = timing.Timing.of(value), value["working_set"]
    gbs = value["bytes"] / time.median_ms * 1e-6
    where, peak = _level(size, value["cache_bytes"], origin)
    return {
        "operation": value["operation"],
        "working set [MiB]": size / 2**20,
        "GB/s": round(gbs, 2),
        "bytes counted": COUNTED[value["operation"]],
        "level": where,
        "of peak [%]": None if peak is None else round(100 * gbs / peak, 1),
        "time [µs]": round(size / gbs * 1e-3, 3),
        "SM clock [MHz]": None if time.sm_clock_mhz is None else round(time.sm_clock_mhz),
        "flags": time.flags,
    }


def _access_row(value: Mapping[str, Any], origin: Provenance) -> dict[str, Any]:
    time = timing.Timing.of(value)
    strided = value["pattern"] == "strided"
    return {
        "pattern": value["pattern"],
        "stride [words]": value["size"] if strided else None,
        "row [bytes]": WORD if strided else value["size"],
        "useful GB/s (bytes asked for)": round(value["bytes"] / time.median_ms * 1e-6, 2),
        "traffic GB/s (whole sectors, computed)": round(value["moved"] / time.median_ms * 1e-6, 2),
        "sector [bytes]": value["sector"],
        "level": _level(value["working_set"], value["cache_bytes"], origin)[0],
        "flags": time.flags,
    }


def _level(size: int, cache_bytes: int | None, origin: Provenance) -> tuple[str, float | None]:
    """The level of a working set, and the catalogue's bandwidth, GB/s, if that is its peak."""
    device = origin.device
    if device is None or device.part == "cpu":
        return level(size, cache_bytes, ("cache", "DRAM")), None
    figures = {} if device.part == "unknown" else catalogue.get(device.part).figures
    kind = str(figures.get("memory_type", "DRAM"))
    memory = next((name for name in ("HBM", "GDDR") if kind.startswith(name)), "DRAM")
    found, peak = level(size, cache_bytes, ("L2", memory)), figures.get("memory_bandwidth_gbs")
    whole = found == memory and device.mig_mode != "enabled"  # a MIG instance has a part of it
    return found, peak if whole and isinstance(peak, int | float) else None


@measured(
    "bench/memory",
    "a kernel that goes over the working set with loads of 16 bytes past L1, at least 1 GiB of "
    "traffic a launch, blocks of launches between CUDA events, median of blocks",
)
def _on_gpu(operation: str, size_bytes: int, min_time_s: float) -> dict[str, Any]:
    return _measure(operation, size_bytes, min_time_s, "cuda")


def _measure(operation: str, size_bytes: int, min_time_s: float, device: str) -> dict[str, Any]:
    """Time an operation. Returns Timing's fields, the working set and the bytes of a call."""
    import torch

    timing.require(device)
    require_free(size_bytes, device, f"A working set for {operation}")
    count = ARRAYS[operation]
    # Whole pieces of every array, so that no kernel has to look where it ends.
    elements = size_bytes // (count * ELEMENT)
    elements -= elements % (THREADS * VECTORS)
    arrays = [torch.rand(elements * ELEMENT // WORD, device=device) for _ in range(count)]
    a, b, c = (arrays * 3)[:3]
    call: Callable[[], Any]
    if device == "cuda":
        sink = torch.zeros(ELEMENT // WORD, device=device)  # for a sum that is never stored
        places = [t.data_ptr() for t in ((sink, a, a) if operation == "read" else (a, b, c))]
        call, done = launch(operation, places, elements, count * ELEMENT, VECTORS)
    else:
        done = elements
        call = {
            "read": lambda: torch.sum(a),
            "write": lambda: a.fill_(3),
            "copy": lambda: a.copy_(b),
            "triad": lambda: torch.add(b, c, alpha=3, out=a),
        }[operation]
    return {
        "operation": operation,
        "working_set": elements * count * ELEMENT,
        "bytes": done * count * ELEMENT,
        "cache_bytes": cache_bytes(device),
        **asdict(timing.time_calls(call, device, min_time_s)),
    }


@measured(
    "bench/memory-access",
    "a kernel that reads words past L1, strided or in rows that an int32 index says, blocks of "
    "launches between CUDA events, median of blocks",
)
def _access_on_gpu(pattern: str, size: int, table_bytes: int, min_time_s: float) -> dict[str, Any]:
    return _access(pattern, size, table_bytes, min_time_s, "cuda")


def _access(
    pattern: str, size: int, table_bytes: int, min_time_s: float, device: str
) -> dict[str, Any]:
    """Time a pattern. Returns Timing's fields, and the bytes that a call asks for and moves."""
    import torch

    timing.require(device)
    table_bytes -= table_bytes % max(ROWS)
    most_rows, most_bytes = LOOKUPS[device]
    looked_up = min(most_rows, min(most_bytes, table_bytes) // size)
    require_free(table_bytes + looked_up * (INDEX + size), device, "A table and its look-ups")
    table = torch.ones(table_bytes // WORD, device=device)
    index = torch.randint(table_bytes // size, (looked_up,), dtype=torch.int32, device=device)
    words = looked_up * size // WORD if pattern == "random" else len(table) // size
    call: Callable[[], Any]
    if device == "cuda":
        words -= words % (THREADS * WORDS)
        sink = torch.zeros(1, device=device)  # for a sum that is never stored
        arguments = [sink.data_ptr(), table.data_ptr()]
        if pattern == "random":
            arguments += [index.data_ptr(), (size // WORD).bit_length() - 1]
        else:
            arguments += [size]
        call, words = launch(pattern, arguments, words, WORD, WORDS)
    elif pattern == "random":
        rows = table.view(-1, size // WORD)
        call = partial(torch.index_select, rows, 0, index, out=torch.empty_like(rows[:looked_up]))
    else:
        call = partial(torch.sum, table[::size])
    if pattern == "random":
        count = words * WORD // size
        moved = sector_bytes(count, size, SECTOR[device]) + count * INDEX
        moved += count * size if device == "cpu" else 0  # index_select writes what it reads
    else:
        moved = sector_bytes(words, WORD, SECTOR[device], size * WORD)
    return {
        "pattern": pattern,
        "size": size,
        "working_set": table_bytes,
        "bytes": words * WORD,
        "moved": moved,
        "sector": SECTOR[device],
        "cache_bytes": cache_bytes(device),
        **asdict(timing.time_calls(call, device, min_time_s)),
    }
