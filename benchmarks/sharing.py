"""Processes that share a GPU: by turns (time-slicing) and side by side (MPS).

There is no peer. The conditions are what the chapter on sharing says of the figures: which of the
two ways is faster for which work, that turns cost what a change of context costs, and whom a
neighbor takes along.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from _common import conclude, conditions, run, verdict

from mlk8s.bench import sharing, sharing_neighbor, timing
from mlk8s.gpu import source
from mlk8s.provenance import Table

#: Largest distance of the model of turns from what was measured.
MODEL = 0.1
#: Least fairness among processes that do the same.
FAIR = 0.95


def change_of_context(shared: Table, processes: int = 4) -> float:
    """The model of turns: what a turn costs before its first kernel, µs.

    Args:
        shared: what ``sharing.sweep`` gave.
        processes: of the rows that it is read from.
    """
    one: float = 1e6 / _row(shared, "time-sliced", processes, "kernel")["rate [1/s]"]
    hundred: float = 100e6 / _row(shared, "time-sliced", processes, "kernels")["rate [1/s]"]
    return one - (hundred - one) / 99


def verdicts(shared: Table, beside: Mapping[tuple[str, str], Table]) -> list[dict[str, Any]]:
    """The conditions on rates, on the model, on fairness, and on the neighbors."""
    rows = []
    for workload in ("kernel", "kernels", "inference"):
        ratio = _ratio(shared, workload)
        rows.append(verdict(f"{workload}, 4 processes, MPS / by turns", ratio, "> 1", ratio > 1))

    change_us = change_of_context(shared)
    copy_us = _row(shared, "time-sliced", 1, "memory")["p50 [µs]"]
    predicted = 1e6 / (change_us + copy_us)
    copies = _row(shared, "time-sliced", 4, "memory")["rate [1/s]"]
    off = abs(copies / predicted - 1)
    figure = "copies by turns [1/s], from the change of context"
    rows.append(verdict(figure, copies, f"within {MODEL:.0%}", off <= MODEL, "model", predicted))

    fairness: list[Any] = [row["fairness"] for row in shared if row["workload"] != "mix"]
    least = min(fairness)
    rows.append(verdict("least fairness among equals", least, f"≥ {FAIR}", least >= FAIR))
    for kind in sharing_neighbor.NEIGHBORS:
        # MPS is not asked: its guide calls what a killed client leaves behind undefined.
        error = beside["time-sliced", kind][0]["error"] or "none"
        figure = f"error beside a neighbor by turns, {kind}"
        rows.append(verdict(figure, error, "none", error == "none"))
    return rows


def _row(shared: Table, mode: str, processes: int, workload: str) -> Mapping[str, Any]:
    rows: Sequence[Any] = shared.where(sharing=mode, processes=processes, workload=workload)
    found: Mapping[str, Any] = rows[0]
    return found


def _ratio(shared: Table, workload: str) -> float:
    rates = [_row(shared, mode, 4, workload)["rate [1/s]"] for mode in ("mps", "time-sliced")]
    return float(rates[0] / rates[1])


def compare() -> list[Table]:
    """Everything measured, and the conditions last."""
    shared = sharing.sweep()
    quarters = sharing.measure("mps-quarter", 4)
    beside = {
        (mode, kind): sharing_neighbor.measure(mode, kind)
        for kind in sharing_neighbor.NEIGHBORS
        for mode in ("time-sliced", "mps", "mps-quarter")
    }
    neighbors = [dict(table[0]) for table in beside.values()]
    origins = [origin for table in beside.values() for origin in table.provenance]
    return [
        shared,
        quarters,
        Table(neighbors, *origins, title="Beside a neighbor that misbehaves"),
        conditions("Sharing", verdicts(shared, beside), shared, *beside.values()),
    ]


def main() -> int:
    """Measure, print the tables, and return the exit status."""
    argparse.ArgumentParser(
        description=__doc__,
        epilog="""\
on this machine's GPU, some four minutes:
  MLK8S_GPU=live python benchmarks/sharing.py
what was recorded on an H200, without a GPU:
  MLK8S_GPU=h200-sxm python benchmarks/sharing.py

Exit status: 0 all conditions are met, 1 it could not run, 3 a condition is not met.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    if source.is_live():
        timing.require("cuda")
    return conclude(*compare())


if __name__ == "__main__":
    run(main)
