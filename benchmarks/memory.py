"""Rates of device memory and of pinned transfers, beside NVIDIA's nvbandwidth.

nvbandwidth counts the bytes of a copy once; the memory of the device moves them twice, once read
and once written. The rates of ``mlk8s.bench.memory`` count that traffic, so nvbandwidth's
``device_local_copy`` is doubled before the two are compared.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
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
    "build https://github.com/NVIDIA/nvbandwidth (cmake . && make; it needs a CUDA toolkit and "
    "boost's program_options) and give the program to --nvbandwidth."
)
#: Each array and buffer on both sides: twenty times the L2 of an H100.
MIB = 1024
#: Working set that fits into the L2 of a data center GPU; it must not be reported as its memory.
CACHED_MIB = 8
#: Our operation → nvbandwidth's test of it by copy engine, and our bytes for one of its bytes.
TESTS = {
    "copy": ("device_local_copy", 2),
    "h2d": ("host_to_device_memcpy_ce", 1),
    "d2h": ("device_to_host_memcpy_ce", 1),
}
#: Least share of the peer's rate, and largest variation, %.
LEAST = 0.97
VARIATION = 0.5
#: Least rate of a part, GB/s.
FLOORS = {"h100-sxm": {"copy": 2950.0, "read": 3020.0, "h2d": 54.0, "d2h": 54.0}}


def parse(text: str) -> dict[str, float]:
    """Read what ``nvbandwidth -j`` printed.

    Args:
        text: its standard output.

    Returns:
        Test → rate of the first GPU, GB/s by its own count of bytes.

    Raises:
        Mlk8sError: it is no report of nvbandwidth, or a test did not pass.
    """
    advice = "run it by hand with -j and repair what it says."
    try:
        report = json.loads(text)["nvbandwidth"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise Mlk8sError(
            f"nvbandwidth printed something else than its JSON report: {text[:80].strip()!r}.",
            "check that --nvbandwidth names nvbandwidth 0.5 or later; " + advice,
        ) from error
    if "error" in report:
        raise Mlk8sError(f"nvbandwidth reports: {report['error'].strip()}", advice)
    rates = {}
    for test in report["testcases"]:
        # A test that fails is listed twice, as running and with its error.
        if test["status"] != "Passed":
            raise Mlk8sError(f"nvbandwidth's {test['name']} ended as {test['status']!r}.", advice)
        # One row, one column for each GPU; the figures are text.
        rates[test["name"]] = float(test["bandwidth_matrix"][0][0])
    return rates


def peer(program: Path | None) -> Callable[[int, bool], Table]:
    """Make a measurement of nvbandwidth. The path is no argument of it: a recording has none."""

    @measured(
        "peers/nvbandwidth",
        "nvbandwidth, tests by copy engine: 4 untimed and 16 timed copies of the buffer behind a "
        "blocking kernel, median of 3 samples; the whole program run after run",
    )
    def rates(runs: int, affinity: bool) -> list[dict[str, Any]]:
        tests = [test for test, _ in TESTS.values()]
        options = ["-j", "-b", str(MIB), *([] if affinity else ["-d"])]
        rows = []
        for number in range(1, runs + 1):
            timing.step("nvbandwidth", number - 1, runs)
            text = output("nvbandwidth", [str(program), *options, "-t", *tests], 60, 1)
            found = parse(text)
            rows += [{"run": number, "test": test, "GB/s": found[test]} for test in tests]
        return rows

    return rates


@measured(
    "peers/memory",
    "mlk8s.bench.memory and mlk8s.bench.transfer with pinned host memory, run after run in one "
    "process",
)
def bandwidths(runs: int) -> list[dict[str, Any]]:
    """Our rates, GB/s; those of the device's memory count every byte that it reads or writes."""
    from mlk8s.bench import memory, transfer

    rows: list[dict[str, Any]] = []

    def note(run: int, operation: str, row: Mapping[str, Any], level: str) -> None:
        what = {"run": run, "operation": operation, "GB/s": row["GB/s"], "level": level}
        rows.append({**what, "flags": row["flags"]})

    for number in range(1, runs + 1):
        for operation in ("copy", "read"):
            row = memory.measure(operation, memory.ARRAYS[operation] * MIB * 2**20)[0]
            note(number, operation, row, row["level"])
        for direction in transfer.DIRECTIONS:
            row = transfer.measure(direction, MIB * 2**20, pinned=True, min_time_s=2)[0]
            note(number, direction, row, "PCIe")
    row = memory.measure("copy", CACHED_MIB * 2**20)[0]
    note(1, f"copy, {CACHED_MIB} MiB", row, row["level"])
    return rows


def verdicts(ours: Table, theirs: Table) -> list[dict[str, Any]]:
    """The conditions on each operation: against the peer, against the floor, on its variation."""
    device = ours.provenance[0].device
    floors = FLOORS.get(device.part if device else "", {})
    rows = []
    *operations, cached = dict.fromkeys(ours.column("operation"))
    for operation in operations:
        rates = ours.where(operation=operation).column("GB/s")
        rate = statistics.median(rates)
        if operation in TESTS:
            test, factor = TESTS[operation]
            other = factor * statistics.median(theirs.where(test=test).column("GB/s"))
            name = f"nvbandwidth, {test}" + (f" × {factor}" if factor > 1 else "")
            needed = f"≥ {LEAST} of the peer"
            met = rate >= LEAST * other
            rows.append(verdict(f"{operation} [GB/s]", rate, needed, met, name, other))
        if operation in floors:
            floor = floors[operation]
            rows.append(verdict(f"{operation} [GB/s]", rate, f"≥ {floor:.0f}", rate >= floor))
        if len(rates) > 1:
            spread = variation(rates)
            figure = f"{operation}, coefficient of variation over {len(rates)} runs [%]"
            rows.append(verdict(figure, spread, f"≤ {VARIATION}", spread <= VARIATION))
    (level,) = ours.where(operation=cached).column("level")
    rows.append(verdict(f"{cached}, reported as the rate of", level, "L2", level == "L2"))
    return rows


def compare(path: Path | None = None, runs: int = 5, affinity: bool = True) -> list[Table]:
    """Everything measured, and the conditions last.

    Args:
        path: nvbandwidth; a recorded run needs none.
        runs: repeats of both sides.
        affinity: whether nvbandwidth binds itself to the GPU's processors.
    """
    theirs, ours = peer(path)(runs, affinity), bandwidths(runs)
    return [
        Table(theirs, *theirs.provenance, title="nvbandwidth"),
        Table(ours, *ours.provenance, title="mlk8s"),
        conditions("Memory and transfers", verdicts(ours, theirs), ours, theirs),
    ]


def main() -> int:
    """Measure, print the tables, and return the exit status."""
    options = parser(__doc__, "memory.py", "--nvbandwidth PATH/nvbandwidth", GET)
    options.add_argument("--nvbandwidth", type=Path, metavar="PATH", help="the program")
    options.add_argument(
        "--runs", type=count, default=5, help="repeats of both sides, for the variation (5)"
    )
    options.add_argument(
        "--no-affinity",
        action="store_true",
        help="nvbandwidth -d: do not bind it to the GPU's processors, which some virtual machines "
        "refuse",
    )
    arguments = options.parse_args()
    if source.is_live():
        require_file("nvbandwidth", arguments.nvbandwidth, "--nvbandwidth", GET)
        timing.require("cuda")
    return conclude(*compare(arguments.nvbandwidth, arguments.runs, not arguments.no_affinity))


if __name__ == "__main__":
    run(main)
