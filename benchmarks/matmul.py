"""The highest rate of a matrix product, beside stas00's mamf-finder.

mamf-finder times every shape of a grid; ``mlk8s.bench.matmul.search`` times the few that fill whole
waves of the device's multiprocessors. Both run on the same device, one after the other: bf16 and
fp8. TF32 and FP32 are measured alone, at their best shape and back to back, and held against what
the device can do.
"""

from __future__ import annotations

import math
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _common import (
    conclude,
    conditions,
    count,
    output,
    parser,
    require_file,
    run,
    variation,
    verdict,
)

from mlk8s.bench import timing
from mlk8s.errors import Mlk8sError
from mlk8s.gpu import source
from mlk8s.gpu.source import measured
from mlk8s.provenance import Table

GET = (
    "clone https://github.com/stas00/ml-engineering and give its "
    "compute/accelerator/benchmarks/mamf-finder.py to --mamf."
)
#: mamf-finder's arguments, 64 shapes each. They hold the best shapes that its README publishes for
#: Hopper (bf16: 2048×2048×13312, 1024×15360×4096; fp8: 1024×9216×14336, 1280×4096×12032,
#: 1024×14336×14336) and that of its bf16 grid seen on an H100, 2048×4096×13312.
GRIDS = {
    "bf16": {
        "m": (1024, 2048, 4096, 8192),
        "n": (2048, 4096, 8192, 15360),
        "k": (4096, 8192, 13312, 16384),
    },
    "fp8": {
        "m": (1024, 1280, 2048, 4096),
        "n": (4096, 8192, 9216, 14336),
        "k": (4096, 8192, 12032, 14336),
    },
}
#: What PyTorch, and so mamf-finder, calls them.
STORAGE = {"bf16": "bfloat16", "fp8": "float8_e4m3fn"}
#: Least share of mamf-finder's best mean, longest search, s, and largest variation, %.
LEAST = {"bf16": 0.97, "fp8": 0.95}
LONGEST_S = 60.0
VARIATION = 1.0
#: Where a rate has to lie, TFLOP/s: a TF32 rate under the name FP32, or the reverse, does not.
WINDOWS = {"h100-sxm": {"tf32": (350.0, 420.0), "fp32": (48.0, 60.0)}}

# A result of mamf-finder, as its benchmark_mm loop prints it:
#      1 |  700.1(mean)  701.2(median)  720.3(max) @ 2048x4096x13312       | best: …
_RESULT = re.compile(
    r"^ *\d+ \| +(?P<mean>[\d.]+)\(mean\) +(?P<median>[\d.]+)\(median\) +(?P<max>[\d.]+)\(max\)"
    r" @ (?P<m>\d+)x(?P<n>\d+)x(?P<k>\d+) ",
    re.MULTILINE,
)


def parse(text: str, shapes: int) -> list[dict[str, Any]]:
    """Read mamf-finder's report.

    Args:
        text: its output file.
        shapes: how many results it has to hold.

    Returns:
        Rows ``shape`` (m×n×k), ``mean [TFLOP/s]``, ``median [TFLOP/s]`` and ``max [TFLOP/s]``.

    Raises:
        Mlk8sError: another version of the method wrote it, or results are missing.
    """
    version = re.search(r"^- benchmark version: (.+)$", text, re.MULTILINE)
    if version is None or version[1].strip() != "2":
        raise Mlk8sError(
            f"mamf-finder reports benchmark version {version[1] if version else 'none'}, "
            "and this script compares with version 2.",
            "check out a commit of ml-engineering whose mamf-finder.py says benchmark_version = 2.",
        )
    rows = [
        {
            "shape": f"{found['m']}×{found['n']}×{found['k']}",
            "mean [TFLOP/s]": float(found["mean"]),
            "median [TFLOP/s]": float(found["median"]),
            "max [TFLOP/s]": float(found["max"]),
        }
        for found in _RESULT.finditer(text)
    ]
    if len(rows) != shapes:
        raise Mlk8sError(
            f"mamf-finder reports {len(rows)} of {shapes} shapes.",
            "run it by hand and look for its first unusual line.",
        )
    return rows


def finder(path: Path | None) -> Callable[[str], Table]:
    """Make a measurement of mamf-finder. The path is no argument of it: a recording has none."""

    @measured(
        "peers/mamf-finder",
        "mamf-finder.py of stas00/ml-engineering, benchmark version 2: 30 s of warm-up, then each "
        "shape of a grid 50 times untimed and 100 times timed, cache and result rewritten before "
        "each; the run's duration by the wall clock",
    )
    def rates(dtype: str) -> list[dict[str, Any]]:
        sizes = [(f"--{name}", *map(str, values)) for name, values in GRIDS[dtype].items()]
        arguments = [word for size in sizes for word in size]
        shapes = math.prod(len(values) for values in GRIDS[dtype].values())
        timing.step(f"mamf-finder, {dtype}: {shapes} shapes, some 45 s", 0, 1)
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "mamf.txt")
            options = ["--dtype", STORAGE[dtype], "--output_file", str(report), "--no-verbose"]
            begin = time.perf_counter()
            output("mamf-finder", [sys.executable, str(path), *arguments, *options], 240)
            seconds = round(time.perf_counter() - begin, 1)
            rows = parse(report.read_text(encoding="utf-8"), shapes)
        return [{**row, "whole run [s]": seconds} for row in rows]

    return rates


@measured("peers/matmul", "mlk8s.bench.matmul.search, run after run in one process")
def searches(dtype: str, runs: int) -> list[dict[str, Any]]:
    """The best product of each run of our search."""
    from mlk8s.bench import matmul

    rows = []
    for number in range(1, runs + 1):
        found = matmul.search(dtype)
        best = found.best
        rows.append(
            {
                "run": number,
                "shape": f"{best.m}×{best.n}×{best.k}",
                "TFLOP/s": round(best.tflops, 2),
                "search [s]": round(found.seconds, 1),
                "dense peak at the observed clock [TFLOP/s]": best.peak_tflops(True),
                "SM clock [MHz]": best.timing.sm_clock_mhz,
                "power [W]": best.timing.power_w,
                "clocks limited by": best.timing.reasons,
                "flags": best.timing.flags,
            }
        )
    return rows


def compared(dtype: str, ours: Table, theirs: Table) -> list[dict[str, Any]]:
    """The verdicts on a type that mamf-finder measured as well."""
    fastest = max(theirs.column("mean [TFLOP/s]"))
    shape = theirs.where(**{"mean [TFLOP/s]": fastest})[0]["shape"]
    rate = statistics.median(ours.column("TFLOP/s"))
    peer = f"mamf-finder, best mean of {len(theirs)} shapes, {shape}"
    slowest = max(ours.column("search [s]"))
    return [
        verdict(
            f"{dtype} peak-shape [TFLOP/s]",
            rate,
            f"≥ {LEAST[dtype]} of the peer",
            rate >= LEAST[dtype] * fastest,
            peer,
            fastest,
        ),
        verdict(
            f"{dtype} longest search [s]",
            slowest,
            f"≤ {LONGEST_S:.0f}",
            slowest <= LONGEST_S,
            "mamf-finder, the whole run",
            theirs.column("whole run [s]")[0],
        ),
    ]


def alone(dtype: str, ours: Table) -> list[dict[str, Any]]:
    """The verdicts that need no peer: repeatability, and the physical limit."""
    rates = ours.column("TFLOP/s")
    rows = []
    if len(rates) > 1:
        spread = variation(rates)
        figure = f"{dtype} coefficient of variation over {len(rates)} runs [%]"
        rows.append(verdict(figure, spread, f"≤ {VARIATION:.0f}", spread <= VARIATION))
    peaks = ours.column("dense peak at the observed clock [TFLOP/s]")
    if None not in peaks:
        share = max(100 * rate / peak for rate, peak in zip(rates, peaks, strict=True))
        figure = f"{dtype} of the dense peak at the observed clock [%]"
        rows.append(verdict(figure, share, "≤ 100", share <= 100))
    return rows


def sustained(dtype: str) -> tuple[list[dict[str, Any]], Table]:
    """TF32 and FP32 at length: in the window of their own type, or under the other's name."""
    from mlk8s.bench import matmul

    found = matmul.measure(8192, dtype)
    device = found.provenance.device
    window = WINDOWS.get(device.part if device else "", {}).get(dtype)
    rows = []
    if window:
        low, high = window
        met = low <= found.tflops <= high
        figure = f"{dtype} 8192³ back to back [TFLOP/s]"
        rows.append(verdict(figure, found.tflops, f"{low:.0f} to {high:.0f}", met))
    return rows, found.table()


def compare(path: Path | None = None, runs: int = 5) -> list[Table]:
    """Everything measured, and the conditions last.

    Args:
        path: mamf-finder.py; a recorded run needs none.
        runs: searches in bf16 and fp8.
    """
    rates = finder(path)
    rows: list[dict[str, Any]] = []
    tables: list[Table] = []
    for dtype in GRIDS:
        theirs, ours = rates(dtype), searches(dtype, runs)
        tables.append(Table(theirs, *theirs.provenance, title=f"mamf-finder, {dtype}"))
        tables.append(Table(ours, *ours.provenance, title=f"mlk8s, {dtype}"))
        rows += compared(dtype, ours, theirs) + alone(dtype, ours)
    for dtype in ("tf32", "fp32"):
        ours = searches(dtype, 1)
        found, table = sustained(dtype)
        rows += found + alone(dtype, ours)
        tables += [Table(ours, *ours.provenance, title=f"mlk8s, {dtype}"), table]
    return [*tables, conditions("Matrix products", rows, *tables)]


def main() -> int:
    """Measure, print the tables, and return the exit status."""
    options = parser(__doc__, "matmul.py", "--mamf PATH/mamf-finder.py", GET)
    options.add_argument("--mamf", type=Path, metavar="PATH", help="mamf-finder.py of a checkout")
    options.add_argument(
        "--runs", type=count, default=5, help="searches in bf16 and fp8, for the variation (5)"
    )
    arguments = options.parse_args()
    if source.is_live():
        require_file("mamf-finder", arguments.mamf, "--mamf", GET)
        timing.require("cuda")
    return conclude(*compare(arguments.mamf, arguments.runs))


if __name__ == "__main__":
    run(main)
