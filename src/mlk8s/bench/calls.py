"""The calls of the library that the commands of :mod:`mlk8s.bench.commands` make.

Each function returns a part of a report: calls, each with its recorded counterpart, and how their
tables are compared. Without a time the library's own is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from functools import partial
from typing import Any

from mlk8s.bench import collective, matmul, memory, operations, roofline, transfer
from mlk8s.bench.comparison import Call, Part, Rows, View
from mlk8s.bench.rates import Matmul
from mlk8s.bench.timing import Timing
from mlk8s.provenance import Table

DETAILS = tuple(field.name for field in fields(Timing))
PRODUCT = View(("dtype", "shape", "data"), "TFLOP/s", hidden=DETAILS)
#: The shape is what a search finds, so it does not tell which row belongs to which.
FIGURE = View(("figure", "dtype", "data"), "TFLOP/s", hidden=DETAILS)
MEMORY = View(("operation", "working set [MiB]"), "GB/s")
ACCESS = View(("pattern", "stride [words]", "row [bytes]"), "useful GB/s (bytes asked for)")
COPY = View(("direction", "memory", "size [KiB]"), "GB/s")
BOTH_WAYS = View(("transfer", "copied [MiB]"), "GB/s")
OVERLAP = View(("memory", "enqueued first", "copied [MiB]"), "hidden [%]")
COLLECTIVE = View(("operation", "ranks", "size [B]"), "busbw [GB/s]")
CEILING = View(("ceiling",), "measured")
OPERATION = View(("operation", "shape"), "measured [µs]", hidden=("FLOPs", "bytes"))


def products(n: int, dtypes: Sequence[str], data: str, device: str, seconds: float | None) -> Part:
    """An n×n×n product of each data type; ``seconds`` is the least measured time of each."""
    calls = [_product(n, dtype, data, device, seconds) for dtype in dtypes]
    return Part(device, (PRODUCT,), tuple(calls))


def figures(
    n: int,
    dtypes: Sequence[str],
    device: str,
    *,
    search: bool,
    sustained: Sequence[tuple[str, float]],
) -> Part:
    """The figures that are never to be mixed, each under its name.

    Args:
        n: size of the sustained products.
        dtypes: data types; all figures are measured for each.
        device: ``cuda`` or ``cpu``.
        search: whether the peak-shape figure is among them.
        sustained: data (``random``, ``zeros``) and seconds of each sustained product.
    """
    calls = []
    for dtype in dtypes:
        if search:
            calls.append(_search(dtype, device))
        for data, seconds in sustained:
            name = "sustained" if data == "random" else f"sustained, {data}"
            calls.append(_product(n, dtype, data, device, seconds, name))
    return Part(device, (FIGURE,), tuple(calls))


def bandwidths(
    names: Sequence[str], sizes: Sequence[int], device: str, seconds: float | None
) -> Part:
    """Memory bandwidth of each operation on each working set, bytes."""
    calls = [
        _on(
            device,
            "bench/memory",
            f"{name}, {size / 2**20:g} MiB",
            partial(memory.sweep, [name], [size]),
            seconds,
        )
        for name in names
        for size in sizes
    ]
    return Part(device, (MEMORY,), tuple(calls))


def accesses(device: str, seconds: float | None) -> Part:
    """Strided and random reads."""
    calls = [
        _on(device, "bench/memory-access", f"{pattern} access", measure, seconds)
        for pattern in memory.PATTERNS
        for measure in [partial(memory.access, [pattern])]
    ]
    return Part(device, (ACCESS,), tuple(calls))


def copies(sizes: Sequence[int], seconds: float | None) -> Part:
    """Copies between host and GPU of each size, each way, pageable and pinned."""
    calls = [
        _call(
            "bench/transfer",
            f"{direction}, {'pinned' if pinned else 'pageable'}, {size / 2**10:g} KiB",
            partial(transfer.sweep, [size], [direction], [pinned]),
            seconds,
        )
        for direction in transfer.DIRECTIONS
        for pinned in (False, True)
        for size in sizes
    ]
    return Part("cuda", (COPY,), tuple(calls))


def both_ways(seconds: float | None) -> Part:
    """Copies in both directions at once."""
    entry, what = "bench/transfer-both-ways", "both ways at once"
    return Part("cuda", (BOTH_WAYS,), (_call(entry, what, transfer.both_ways, seconds),))


def overlap(seconds: float | None) -> Part:
    """Copies beside matrix products."""
    entry, what = "bench/transfer-overlap", "copies beside matrix products"
    return Part("cuda", (OVERLAP,), (_call(entry, what, transfer.overlap, seconds),))


def collectives(
    names: Sequence[str],
    backend: str,
    processes: int | None,
    sizes: Sequence[int] | None,
    seconds: float | None,
) -> Part:
    """Collective operations; those of gloo have no recorded counterpart."""
    calls = []
    for name in names:
        measure = partial(
            collective.measure, name, backend=backend, processes=processes, sizes=sizes
        )
        found = _call("bench/collective", name, measure, seconds)
        calls.append(found if backend == "nccl" else Call(name, found.measure))
    return Part("cuda" if backend == "nccl" else "cpu", (COLLECTIVE,), tuple(calls))


def roof(dtype: str | None, device: str, scale: float | None, seconds: float | None) -> Part:
    """The ceilings and the operations under them."""
    kind = dtype or operations.default_dtype(device)

    def tables(device: str, scale: float | None, seconds: float | None) -> list[Table]:
        found = roofline.measure(kind, device=device, scale=scale, **_least(seconds))
        return [found.ceilings.table(), found.table()]

    call = Call(
        "roofline",
        lambda: tables(device, scale, seconds),
        lambda seconds: tables("cuda", scale if device == "cuda" else None, seconds),
        "bench/roofline",
    )
    return Part(device, (CEILING, OPERATION), (call,))


def _call(entry: str, what: str, measure: Callable[..., Table], seconds: float | None) -> Call:
    return Call(
        what,
        lambda: [measure(**_least(seconds))],
        lambda seconds: [measure(**_least(seconds))],
        entry,
    )


def _on(
    device: str, entry: str, what: str, measure: Callable[..., Table], seconds: float | None
) -> Call:
    """A call on a device, whose recorded counterpart was made on a GPU."""
    return Call(
        what,
        lambda: [measure(device=device, **_least(seconds))],
        lambda seconds: [measure(device="cuda", **_least(seconds))],
        entry,
    )


def _least(seconds: float | None) -> dict[str, Any]:
    """The argument that asks for a least measured time; none leaves the library's own."""
    return {} if seconds is None else {"min_time_s": seconds}


def _product(
    n: int, dtype: str, data: str, device: str, seconds: float | None, figure: str = ""
) -> Call:
    """A product. One with the name of a figure is that for a certain time, recorded or not."""

    def measured(device: str, seconds: float | None) -> list[Table]:
        found = matmul.measure(n, dtype, data=data, device=device, **_least(seconds))
        return [Table(_product_row(found, figure), found.provenance)]

    return Call(
        f"{dtype} {n}×{n}×{n}" + (f", {figure}" if figure else ""),
        lambda: measured(device, seconds),
        lambda other: measured("cuda", seconds if figure else other),
        "" if figure else "bench/matmul",
    )


def _search(dtype: str, device: str) -> Call:
    def measured(device: str) -> list[Table]:
        found = matmul.search(dtype, device=device)
        title = (
            f"{dtype}: {len(found.trials)} trials in {found.seconds:.1f} s, ended by "
            f"{found.stopped}"
        )
        row = _product_row(found.best, "peak-shape, rested")
        return [Table(row, found.best.provenance, title=title)]

    return Call(
        f"{dtype}, search", lambda: measured(device), lambda _: measured("cuda"), rows=_trial_rows
    )


def _product_row(found: Matmul, figure: str) -> dict[str, Any]:
    """A product's row, under the name of its figure if it has one, with its timing behind it."""
    row = found.figure_row(figure) if figure else found.row()
    return {**row, **asdict(found.timing)}


def _trial_rows(trials: Sequence[dict[str, Any]]) -> Rows:
    """The trials of a search that did not reach its end."""
    columns = ("stage", "m", "n", "k", "waves", "TFLOP/s", "at [s]")
    return [
        {
            **{name: trial[name] for name in columns},
            "flags": Timing(**{name: trial[name] for name in DETAILS}).flags,
        }
        for trial in trials
    ]
