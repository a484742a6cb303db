"""``mlk8s bench``: the benchmarks from a terminal.

Each command turns its options into calls of the library; :mod:`mlk8s.bench.report` makes them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import typer

from mlk8s.errors import UsageError

app = typer.Typer(
    help="Measure this machine, with the recorded machine beside it. MLK8S_GPU chooses what "
    "answers: auto (this machine's GPU, or the recording), live, or the name of a recording.",
    no_args_is_help=True,
)

#: Prefix of a size → power of two.
UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
Where = Annotated[str, typer.Option("--device", help="cuda or cpu.")]
Time = Annotated[
    float | None,
    typer.Option(
        "--time",
        min=0.001,
        help="Seconds to measure each row for, at least; a recording answers with its own.",
    ),
]
Size = Annotated[
    str | None, typer.Option("--size", "-n", help="A size in bytes, KiB, MiB or GiB: 64MiB.")
]


@app.command("matmul", epilog="Example: mlk8s bench matmul -d bf16 -d fp8 --search --sustained 20")
def bench_matmul(
    n: Annotated[int, typer.Option("--size", "-n", help="n of an n×n×n product.")] = 8192,
    dtypes: Annotated[
        list[str] | None,
        typer.Option(
            "--dtype",
            "-d",
            help="fp64, fp32, tf32, fp16, bf16, fp8, fp8-fast (sums at lower precision), int8; "
            "may be repeated.",
        ),
    ] = None,
    data: Annotated[str, typer.Option(help="random or zeros; zeros flatter.")] = "random",
    device: Where = "cuda",
    search: Annotated[
        bool, typer.Option("--search", help="Find the shape with the highest rate, rested.")
    ] = False,
    sustained: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds back to back: the rate that a long job gets."),
    ] = None,
    time: Time = None,
    as_json: Json = False,
) -> None:
    """Rate of a matrix product by data type, with clocks, power and the share of the dense peak.

    An n×n×n product takes 2n³ operations; TFLOP/s is 10¹² of them a second at the median time. "of
    dense peak" compares with the vendor's figure without sparsity. "clocks limited by" is what
    NVML gives as the reason that the clock was not higher. "relative error" compares with float64.
    "flags" is empty where nothing disturbed the figure: else throttled, busy, not steady, spread.

    --search and --sustained give two figures that are never to be mixed: the best shape on a
    rested device, and a product back to back at steady state, often under the power cap.
    """
    from mlk8s.bench import calls, report

    chosen = dtypes or (["fp32"] if device == "cpu" else ["fp32", "tf32", "fp16", "bf16"])
    if search or sustained is not None:
        times = [] if sustained is None else [(data, sustained)]
        part = calls.figures(n, chosen, device, search=search, sustained=times)
    else:
        part = calls.products(n, chosen, data, device, time)
    report.run("matmul", [part], as_json=as_json)


@app.command("memory", epilog="Example: mlk8s bench memory --operation copy --sweep")
def bench_memory(
    operations: Annotated[
        list[str] | None,
        typer.Option("--operation", "-o", help="read, write, copy, triad; may be repeated."),
    ] = None,
    size: Size = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Working sets of 1 MiB to 4 GiB: the cache step.")
    ] = False,
    access: Annotated[
        bool, typer.Option("--access", help="Strided and random reads as well.")
    ] = False,
    device: Where = "cuda",
    time: Time = None,
    as_json: Json = False,
) -> None:
    """Bandwidth of reading, writing, copying and adding (triad), on 4 GiB (a processor: 256 MiB).

    "working set" is the size of all arrays together. GB/s counts the bytes as "bytes counted"
    says: those read plus those written, as STREAM does, so a copy of n bytes counts 2n where
    nvbandwidth counts n. "level" is what the rate belongs to: HBM, or L2 where the working set is
    less than twice its size. "of peak" is given for HBM alone. "flags" says what disturbed the
    figure.
    """
    from mlk8s.bench import calls, memory, report

    sizes = _sizes(size, sweep, memory.SIZES, 2**32 if device == "cuda" else 2**28)
    parts = [calls.bandwidths(operations or memory.OPERATIONS, sizes, device, time)]
    if access:
        parts.append(calls.accesses(device, time))
    report.run("memory", parts, as_json=as_json)


@app.command("transfer", epilog="Example: mlk8s bench transfer --size 1GiB --overlap")
def bench_transfer(
    size: Size = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Copies of 4 KiB to 1 GiB.")] = False,
    both_ways: Annotated[
        bool, typer.Option("--both-ways", help="Both directions at once as well.")
    ] = False,
    overlap: Annotated[
        bool, typer.Option("--overlap", help="Copies beside matrix products as well.")
    ] = False,
    time: Time = None,
    as_json: Json = False,
) -> None:
    """Rate of copies between host and GPU, from pageable and from pinned memory; needs a GPU.

    "direction" is h2d (host to device) or d2h. "time" is that of one copy, of 256 MiB unless told
    otherwise, and GB/s its size over that. "of PCIe peak" compares with what the link carries in
    one direction. With --overlap, "hidden" is the share of the shorter of copy and products that
    took no time of its own: 100 % where they ran side by side, 0 % one after the other.
    """
    from mlk8s.bench import calls, report, transfer

    parts = [calls.copies(_sizes(size, sweep, transfer.SIZES, 2**28), time)]
    if both_ways:
        parts.append(calls.both_ways(time))
    if overlap:
        parts.append(calls.overlap(time))
    report.run("transfer", parts, as_json=as_json)


@app.command(
    "collective", epilog="Example: mlk8s bench collective --backend gloo --processes 2 --size 1MiB"
)
def bench_collective(
    operations: Annotated[
        list[str] | None,
        typer.Option(
            "--operation",
            "-o",
            help="all_reduce (the default), all_gather, reduce_scatter, broadcast, send_recv; "
            "may be repeated.",
        ),
    ] = None,
    backend: Annotated[
        str, typer.Option(help="nccl between GPUs, gloo between processes on the CPU.")
    ] = "nccl",
    processes: Annotated[
        int | None, typer.Option(help="Ranks; all GPUs, or 2 processes, if not given.")
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option("--size", "-n", help="64MiB; may be repeated. Powers of two if not given."),
    ] = None,
    time: Time = None,
    as_json: Json = False,
) -> None:
    """Time and bandwidth of operations between GPUs, or between processes on the CPU.

    "size" counts as nccl-tests counts it, and so do the bandwidths: algbw is the size over the
    time, busbw what each link of a ring would have carried, which compares with the line rate of a
    link for any number of ranks. Every result is verified. One rank has no busbw and is refused.
    """
    from mlk8s.bench import calls, report

    listed = [_bytes(text) for text in sizes] if sizes else None
    part = calls.collectives(operations or ["all_reduce"], backend, processes, listed, time)
    report.run("collective", [part], as_json=as_json)


@app.command("roofline", epilog="Example: mlk8s bench roofline --device cpu --scale 0.01")
def bench_roofline(
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", "-d", help="bf16 (a GPU's default), fp16, tf32, fp32 (a CPU's)."),
    ] = None,
    device: Where = "cuda",
    scale: Annotated[
        float | None, typer.Option(help="Share of their sizes: 1 on a GPU, 1/64 on a CPU.")
    ] = None,
    time: Time = None,
    as_json: Json = False,
) -> None:
    """What this device reaches at best, and how long operations take that it should bound.

    First the ceilings: the best large matrix product, a large copy, and the time of an operation
    on one element. "ridge" is the intensity at which compute and memory bind alike. Then the
    operations of a transformer: "intensity" is FLOPs over least bytes, "bound" the ceiling that
    decides, "predicted" the time that it allows, and "error" how much of the measured time the
    model missed: negative where the operation was faster. FLOPs and bytes are in the JSON.
    """
    from mlk8s.bench import calls, report

    report.run("roofline", [calls.roof(dtype, device, scale, time)], as_json=as_json)


@app.command("all", epilog="Example: mlk8s bench all --json > machine.json")
def bench_all(
    quick: Annotated[
        bool, typer.Option("--quick", help="Short times, no search, nothing sustained.")
    ] = False,
    device: Where = "cuda",
    as_json: Json = False,
) -> None:
    """Measure all of it in a row: one report of this machine.

    Matrix products (the best shape of bf16, sustained for 20 s on random data and on zeros, then
    by data type), memory, transfer, collectives where there are several GPUs, and the roofline.
    The columns are those of the single commands. What fails is named at the end, and the rest is
    measured. On a CPU there is nothing to transfer, and the search and the sustained product are
    left out.
    """
    from mlk8s.bench import calls, memory, report
    from mlk8s.gpu import source

    on_gpu = device == "cuda"
    # Before the first minute is spent: is there anything to measure on?
    header = source.origin() if on_gpu else None
    time = 0.1 if quick else None
    parts = []
    if on_gpu and not quick:
        times = [("random", 20.0), ("zeros", 5.0)]
        parts.append(calls.figures(8192, ["bf16"], device, search=True, sustained=times))
    n, dtypes = (8192, ["fp32", "tf32", "fp16", "bf16"]) if on_gpu else (1024, ["fp32"])
    parts.append(calls.products(n, dtypes, "random", device, time))
    parts.append(calls.bandwidths(memory.OPERATIONS, [2**30], device, time))
    if on_gpu:
        parts.append(calls.copies([2**28], time))
        if not quick:
            parts += [calls.both_ways(time), calls.overlap(time)]
        if _several_gpus():
            parts.append(calls.collectives(["all_reduce"], "nccl", None, None, time))
    parts.append(calls.roof(None, device, None, time))
    report.run("all", parts, as_json=as_json, header=header)


def _sizes(size: str | None, sweep: bool, all_sizes: Sequence[int], usual: int) -> Sequence[int]:
    """The sizes that --size and --sweep ask for, bytes."""
    if size is not None and sweep:
        raise UsageError("--size names one size and --sweep takes several.", "use one of the two.")
    if sweep:
        return all_sizes
    return [usual if size is None else _bytes(size)]


def _bytes(text: str) -> int:
    """A size as people write it, in bytes."""
    found = re.fullmatch(r"(\d+)\s*(?:([KMGT])iB|B)?", text.strip())
    if found is None:
        raise UsageError(
            f"{text!r} is not a size.", "write whole bytes, KiB, MiB, GiB or TiB, such as 64MiB."
        )
    return int(found[1]) << UNITS[found[2] or ""]


def _several_gpus() -> bool:
    """Whether what answers has a collective: more than one GPU, or a recording of one."""
    from mlk8s.gpu import source

    kept = source.recording()
    if kept is not None:
        return any(entry.name == "bench/collective" for entry in kept.entries)
    import torch

    return torch.cuda.device_count() > 1
