#!/usr/bin/env python3
"""Speed-up from one worker to several, the serial fraction behind it, and what 1,000 would give.

The same work is done by 1, 2, 4 and 8 workers, in two kinds. Tasks that compute can only be
measured up to the number of cores. Tasks that wait, as those do that wait for a GPU, a store or
another service, leave the core to others, so more workers than cores are a fair measurement. Each
run ends with a serial part in the driver, of known length, and the fit has to find it again.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from mlk8s import raylocal
from mlk8s.errors import Mlk8sError, UsageError
from mlk8s.provenance import Kind, Provenance, Table

HOW = """\
  ./scale.py                        # all of it, some 30 s
  ./scale.py --serial-s 0.8         # a larger serial part: see the speed-up's limit sink
  ./scale.py --task-s 0.01 --tasks 200    # short tasks: Ray's own time grows beside them
  ./scale.py --mtbf-h 20000         # nodes that fail less often

How to read it:
  Amdahl (1967): with a serial fraction s, N workers are 1 / (s + (1 - s) / N) times as fast, and no
    number of workers makes it more than 1 / s. The fit takes all points at once.
  Karp and Flatt (1990): e = (1/S - 1/N) / (1 - 1/N) is the serial fraction that one point S(N)
    stands for. If e stays the same, the limit is a serial part: shorten it. If it grows with N, the
    limit is something that grows with N, such as scheduling, or cores that are shared.
  Gustafson (1988): with N times the work for N workers the speed-up is s + (1 - s) N. The serial
    part has to stay as long as it was.
Nothing of what is said about more workers than were measured has been measured; the column "kind"
tells the two apart.
"""
COMPUTES, WAITS = "computes", "waits"
#: Llama 3 405B: 419 unexpected interruptions in 54 days on 16,384 GPUs, 8 in a node.
MTBF_H = 54 * 24 * (16_384 / 8) / 419
_MTBF_SOURCE = "Grattafiori et al., The Llama 3 Herd of Models, arXiv:2407.21783, section 3.3.4"
#: A task of t s that costs o s more is (t / (t + o)) efficient: 90 % at t = 9 o.
_LEAST = 9


def options() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(
        description="Measure the speed-up of tasks, find the serial fraction, and project it.",
        epilog=HOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--workers", type=int, nargs="+", default=[1, 2, 4, 8], help="default: 1 2 4 8")
    add("--tasks", type=int, default=16, help="of a run (default 16)")
    add("--task-s", type=float, default=0.2, help="length of a task, s (default 0.2)")
    add("--serial-s", type=float, default=0.2, help="serial part of a run, s (default 0.2)")
    add("--repeats", type=int, default=2, help="runs of each; the fastest counts (default 2)")
    add("--nodes", type=int, nargs="+", default=[1, 10, 100, 1000], help="default: 1 10 100 1000")
    add("--mtbf-h", type=float, default=MTBF_H, help=f"of a node, h (default {MTBF_H:.0f})")
    return parser


def amdahl(serial: float, workers: float) -> float:
    """Speed-up of the same work (Amdahl, AFIPS 1967).

    Args:
        serial: fraction of the time on one worker that only one can do.
        workers: their number.
    """
    return 1 / (serial + (1 - serial) / workers)


def gustafson(serial: float, workers: float) -> float:
    """Speed-up of work that grows with the workers (Gustafson, CACM 31(5), 1988).

    Args:
        serial: fraction of the time on ``workers`` workers that only one can do; the law takes it
            to be the same on any number.
        workers: their number.
    """
    return serial + (1 - serial) * workers


def karp_flatt(speedup: float, workers: float) -> float:
    """The serial fraction that a measured speed-up stands for (Karp and Flatt, CACM 33(5), 1990).

    Args:
        speedup: measured, over one worker.
        workers: more than 1.

    Raises:
        UsageError: it is one worker, about which the metric says nothing.
    """
    if workers <= 1:
        raise UsageError("One worker has no serial fraction.", "give two workers or more.")
    return (1 / speedup - 1 / workers) / (1 - 1 / workers)


def fit(workers: Sequence[float], speedups: Sequence[float]) -> float:
    """The serial fraction with which Amdahl's law is nearest to all points.

    Least squares of 1/S, the time in units of that of one worker: 1/S - 1/N = s (1 - 1/N) is a line
    through 0. It is a mean of the Karp-Flatt metrics in which those of more workers count more.

    Args:
        workers: of each point.
        speedups: of each point, over one worker.

    Raises:
        UsageError: there is no point with more than one worker.
    """
    number, times = np.asarray(workers, float), 1 / np.asarray(speedups, float)
    across = 1 - 1 / number
    if not (across > 0).any():
        raise UsageError(
            "A serial fraction cannot be found from one worker.", "measure two workers or more."
        )
    return float(across @ (times - 1 / number) / (across @ across))


def availability(nodes: float, mtbf_h: float, checkpoint_s: float, restart_s: float) -> float:
    """Fraction of the time in which a job makes headway that any node's failure throws back.

    Failures are independent, so the job's mean time between them is M = ``mtbf_h`` / ``nodes``.
    With the best time between checkpoints of C s, sqrt(2 C M) (Young, CACM 17(9), 1974), writing
    them and doing again what was lost take sqrt(2 C / M) together, and restarts R / M. A first
    approximation, for C and R much smaller than M; 0 where it would be negative.

    Args:
        nodes: of the job.
        mtbf_h: mean time between the failures of one node, h.
        checkpoint_s: to write a checkpoint, s.
        restart_s: from a failure to the first new step, s.
    """
    mean_s = mtbf_h * 3600 / nodes
    return max(0.0, 1 - math.sqrt(2 * checkpoint_s / mean_s) - restart_s / mean_s)


def _spin(turns: int) -> int:
    """Compute, without a library that would use threads."""
    value = 1
    for _ in range(turns):
        value = (value * 1_103_515_245 + 12_345) & 0x7FFF_FFFF
    return value


def _turns(seconds: float) -> int:
    """Of :func:`_spin` that take so long here when nothing else runs."""
    trial, times = 100_000, []
    for _ in range(3):
        begun = time.perf_counter()
        _spin(trial)
        times.append(time.perf_counter() - begun)
    return max(1, round(seconds / min(times) * trial))


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _share(local: raylocal.Local, workers: int) -> float:
    """Logical CPUs of a task, so that as many as ``workers`` run at the same time.

    Ray counts in steps of 1/10,000.
    """
    return math.floor(local.head.machine.cpus / workers * 10_000) / 10_000


def _warmed(local: raylocal.Local, workers: int, within_s: float = 60) -> None:
    """Wait until so many worker processes are there: starting one takes longer than a task.

    Raises:
        Mlk8sError: there are not, since something else uses this Ray's CPUs.
    """
    import ray

    def meet(folder: str) -> bool:
        """Whether so many processes are in this function at the same time, before long."""
        (Path(folder) / str(os.getpid())).touch()
        deadline = time.monotonic() + within_s
        while len(os.listdir(folder)) < workers and time.monotonic() < deadline:
            time.sleep(0.02)
        return len(os.listdir(folder)) >= workers

    folder = tempfile.mkdtemp(prefix="workers-", dir=local.folder)
    run = ray.remote(num_cpus=_share(local, workers), max_retries=0)(meet)
    asked = [run.remote(folder) for _ in range(workers)]
    done, rest = ray.wait(asked, num_returns=workers, timeout=within_s)
    for reference in rest:
        ray.cancel(reference, force=True)
    if rest or not all(ray.get(done)):
        raise Mlk8sError(
            f"{workers} tasks did not run at the same time within {within_s:g} s.",
            "see whether other tasks or actors hold CPUs of this Ray.",
        )


def measure(
    local: raylocal.Local,
    *,
    workers: Sequence[int] = (1, 2, 4, 8),
    tasks: int = 16,
    task_s: float = 0.2,
    serial_s: float = 0.2,
    repeats: int = 2,
) -> Table:
    """Do the same work with several numbers of workers.

    Args:
        local: the Ray that runs. Of its logical CPUs each task gets such a share that the wanted
            number runs at the same time.
        workers: 1 and others, in any order. Tasks that compute run with those up to the number of
            cores.
        tasks: of a run; best a multiple of each number of workers, or some are idle in the end.
        task_s: length of a task, s. One that computes has as many turns as take so long.
        serial_s: length of what the driver computes after the tasks, s.
        repeats: runs of each, of which the fastest counts.

    Returns:
        A row for each kind of work and number of workers: the time of the run and of its serial
        part, s; speed-up over one worker; efficiency, the speed-up for each worker, %; and the
        Karp-Flatt metric, %.

    Raises:
        UsageError: one worker is not among them, or a number is not positive.
        Mlk8sError: so many tasks do not run at the same time.
    """
    counts = sorted(set(workers))
    if counts[:1] != [1] or min(tasks, task_s, repeats) <= 0 or serial_s < 0:
        raise UsageError(
            f"Workers {counts}, {tasks} tasks of {task_s:g} s, {serial_s:g} s and {repeats} "
            "repeats make no measurement.",
            "give one worker and others, and positive numbers.",
        )
    serial = _turns(serial_s)
    works: dict[str, tuple[Callable[[Any], object], Any, list[int]]] = {
        COMPUTES: (_spin, _turns(task_s), [n for n in counts if n <= _cores()]),
        WAITS: (time.sleep, task_s, counts),
    }
    rows = []
    for work, (function, argument, chosen) in works.items():
        alone = 0.0
        for count in chosen:
            _warmed(local, count)
            runs = [_once(local, function, argument, count, tasks, serial) for _ in range(repeats)]
            seconds, in_driver = min(runs)
            alone = alone or seconds
            speedup = alone / seconds
            rows.append(
                {
                    "work": work,
                    "workers": count,
                    "time [s]": round(seconds, 3),
                    "serial part [s]": round(in_driver, 3),
                    "speed-up": round(speedup, 3),
                    "efficiency [%]": round(100 * speedup / count, 1),
                    "Karp-Flatt [%]": (
                        round(100 * karp_flatt(speedup, count), 2) if count > 1 else None
                    ),
                }
            )
    method = f"wall clock of the driver, the fastest of {repeats} runs with worker processes up"
    return Table(
        rows,
        raylocal.provenance(method, "numpy"),
        title=f"{tasks} tasks of {task_s:g} s and {serial_s:g} s in the driver",
    )


def _once(
    local: raylocal.Local,
    function: Callable[[Any], object],
    argument: Any,
    workers: int,
    tasks: int,
    serial: int,
) -> tuple[float, float]:
    """One run: its seconds, and those of its serial part."""
    import ray

    # A function of this script has to travel by value: workers cannot import it.
    remote = ray.remote(num_cpus=_share(local, workers))(lambda value: function(value) and None)
    begun = time.perf_counter()
    ray.get([remote.remote(argument) for _ in range(tasks)])
    middle = time.perf_counter()
    if serial:
        _spin(serial)
    end = time.perf_counter()
    return end - begun, end - middle


def fitted(found: Table) -> Table:
    """The serial fraction of each kind of work, fitted and timed.

    Args:
        found: of :func:`measure`.

    Returns:
        A row for each kind of work with two numbers of workers or more: the fitted serial fraction
        and the driver's part of the time on one worker, %; the limit of the speed-up, ``None``
        where the fraction is not above 0; the Karp-Flatt metric at the fewest and the most
        workers, %.
    """
    rows = []
    for work in dict.fromkeys(found.column("work")):
        points = found.where(work=work)
        if len(points) < 2:
            continue
        serial = fit(points.column("workers"), points.column("speed-up"))
        rows.append(
            {
                "work": work,
                "workers": f"1 to {points[-1]['workers']}",
                "serial fraction, fitted [%]": round(100 * serial, 2),
                "serial part, timed [%]": round(
                    100 * points[0]["serial part [s]"] / points[0]["time [s]"], 2
                ),
                "speed-up at most": round(1 / serial, 1) if serial > 0 else None,
                "Karp-Flatt, fewest [%]": points[1]["Karp-Flatt [%]"],
                "Karp-Flatt, most [%]": points[-1]["Karp-Flatt [%]"],
            }
        )
    return Table(rows, *found.provenance, title="Amdahl's law, fitted by least squares")


def overhead(local: raylocal.Local, *, tasks: int = 500) -> Table:
    """What a task costs that does nothing, and how long one has to be for 90 % efficiency.

    Args:
        local: the Ray that runs.
        tasks: empty ones of a run.

    Returns:
        One row: ms from a call to its result, when one follows the other (median of 100); tasks
        that one worker does in a second, and one driver with as many workers as there are cores;
        the shortest sensible task, ms, which is 9 times what an empty one takes on one worker; and
        the efficiency that was measured with tasks of that length, %.
    """
    import ray

    def rate(workers: int, seconds: float, number: int) -> float:
        _warmed(local, workers)
        remote = ray.remote(num_cpus=_share(local, workers))(
            lambda value: time.sleep(value) if value else None
        )
        ray.get(remote.remote(0))
        begun = time.perf_counter()
        ray.get([remote.remote(seconds) for _ in range(number)])
        return number / (time.perf_counter() - begun)

    _warmed(local, 1)
    empty = ray.remote(num_cpus=_share(local, 1))(lambda: None)
    trips = []
    for _ in range(100):
        begun = time.perf_counter()
        ray.get(empty.remote())
        trips.append(time.perf_counter() - begun)
    one, driver = rate(1, 0, tasks), rate(_cores(), 0, tasks)
    least_s = _LEAST / one
    row = {
        "one task and its result [ms]": round(1000 * statistics.median(trips), 3),
        "one worker [tasks/s]": round(one),
        "one driver [tasks/s]": round(driver),
        "least task for 90 % [ms]": round(1000 * least_s, 2),
        "efficiency at it [%]": round(100 * least_s * rate(1, least_s, 50), 1),
    }
    method = f"wall clock of {tasks} empty tasks, all submitted at once, with worker processes up"
    return Table(row, raylocal.provenance(method), title="What a task costs")


def project(
    found: Table,
    costs: Table,
    nodes: Sequence[int] = (1, 10, 100, 1000),
    *,
    work: str = WAITS,
    task_s: float = 0.2,
    mtbf_h: float = MTBF_H,
    checkpoint_s: float = 60,
    restart_s: float = 300,
) -> Table:
    """What was measured, and what four laws make of it for more workers.

    Each law looks at one limit by itself; together they are worse.

    Args:
        found: of :func:`measure`.
        costs: of :func:`overhead`.
        nodes: numbers of nodes, each with one worker as they were measured.
        work: kind of work whose serial fraction is taken.
        task_s: length of a task that one driver submits, s.
        mtbf_h: mean time between failures of a node, h. The default is what Llama 3's training
            came to, where a node has 8 GPUs and every unexpected interruption counts.
        checkpoint_s: to write a checkpoint, s; an assumption.
        restart_s: from a failure to the first new step, s; an assumption.

    Returns:
        Rows of the kind ``measured``, then rows of the kind ``projected``: law, workers, speed-up,
        efficiency in %, and what has to hold for it.

    Raises:
        UsageError: there is no such work in the table, or with one worker only; or a parameter is
            not positive.
    """
    points = found.where(work=work)
    if min([*nodes, task_s, mtbf_h]) <= 0 or min(checkpoint_s, restart_s) < 0:
        raise UsageError(
            "Nodes, the length of a task and the time between failures have to be positive.",
            "correct the argument.",
        )
    serial = max(0.0, fit(points.column("workers"), points.column("speed-up")))
    busy = costs[0]["one driver [tasks/s]"] * task_s
    laws: dict[str, tuple[Callable[[float], float], str]] = {
        "Amdahl": (
            lambda n: amdahl(serial, n),
            f"the same work; {100 * serial:.2f} % of it stay serial; nothing else grows",
        ),
        "Gustafson": (
            lambda n: gustafson(serial, n),
            f"N times the work; the serial part stays at {100 * serial:.2f} % of the time",
        ),
        "one driver": (
            lambda n: min(n, busy),
            f"tasks of {task_s:g} s; the driver keeps up its {costs[0]['one driver [tasks/s]']:,} "
            f"tasks/s, which keep {busy:,.0f} workers busy",
        ),
        "failures": (
            lambda n: n * availability(n, mtbf_h, checkpoint_s, restart_s),
            f"a failure of one node, every {mtbf_h:,.0f} h of each, throws all back to the last "
            f"checkpoint; {checkpoint_s:g} s to write one, {restart_s:g} s to restart",
        ),
    }
    rows = [
        _row("measured", "–", row["workers"], row["speed-up"], "this machine") for row in points
    ]
    for law, (speedup, holds) in laws.items():
        rows += [_row("projected", law, n, speedup(n), holds) for n in nodes]
    method = (
        "arithmetic on the measured serial fraction and task rate: Amdahl 1967, Gustafson 1988, "
        "Young 1974; workers beyond those measured have not been run"
    )
    origin = [*found.provenance, *costs.provenance]
    origin.append(Provenance(Kind.SIMULATED, method, date.today().isoformat()))
    if mtbf_h == MTBF_H:
        interruptions = "419 unexpected interruptions in 54 days of 2,048 nodes"
        origin.append(Provenance(Kind.SPEC, interruptions, source=_MTBF_SOURCE))
    return Table(rows, *origin, title=f"Tasks of the kind '{work}' on many workers")


def _row(kind: str, law: str, workers: int, speedup: float, holds: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "law": law,
        "workers": workers,
        "speed-up": round(float(speedup), 2),
        "efficiency [%]": round(100 * speedup / workers, 1),
        "holds if": holds,
    }


def main() -> int:
    """The command."""
    chosen = options().parse_args()
    try:
        with raylocal.running(cpus=max(chosen.workers)) as local:
            found = measure(
                local,
                workers=chosen.workers,
                tasks=chosen.tasks,
                task_s=chosen.task_s,
                serial_s=chosen.serial_s,
                repeats=chosen.repeats,
            )
            print(found, end="\n\n", flush=True)
            costs = overhead(local)
        print(fitted(found), end="\n\n")
        print(costs, end="\n\n")
        print(project(found, costs, chosen.nodes, task_s=chosen.task_s, mtbf_h=chosen.mtbf_h))
    except Mlk8sError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; Ray has been stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
