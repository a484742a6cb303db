"""What a process notices of a neighbor on the same GPU that misbehaves.

Long kernels, a memory hog, a program error, a kill: each beside a process that serves requests, by
turns (time-slicing) and side by side (MPS).
"""

from __future__ import annotations

import time
from typing import Any

from mlk8s.bench import timing
from mlk8s.bench.device import cpu_provenance
from mlk8s.bench.sharing import ANSWER_S, START_S, WARMUP_S, latencies
from mlk8s.bench.sharing_modes import require, require_clients, sharing
from mlk8s.bench.sharing_processes import Worker, ask_all, workers
from mlk8s.bench.sharing_tasks import perform
from mlk8s.errors import UsageError
from mlk8s.gpu.source import measured
from mlk8s.provenance import Table

#: What a neighbor does: kernels of many milliseconds; take all memory; an index past the end; be
#: killed with work in flight.
NEIGHBORS = ("long", "memory", "fault", "kill")
#: What the one beside it asks for in the end.
MORE_MIB = 1024

METHOD = (
    "a process repeats a request and waits for each; the neighbor misbehaves from the middle on; "
    "rates and latencies of the answered calls before and after"
)


def measure(
    mode: str = "mps", kind: str = "fault", *, device: str = "cuda", seconds: float = 1.0
) -> Table:
    """Measure what a process notices of a neighbor that misbehaves.

    One process serves requests (the task ``inference``). After ``seconds`` the neighbor, idle
    until then, does what ``kind`` says, and for as long again the first process goes on. A third
    process opens the device afterwards, when those that failed have ended.

    Args:
        mode: one of :data:`~mlk8s.bench.sharing_modes.MODES`.
        kind: one of :data:`NEIGHBORS`. A processor knows ``long`` and ``kill`` only.
        device: see :func:`mlk8s.bench.sharing.measure`.
        seconds: how long before and after, s.

    Returns:
        One row: rate and latencies of the first process before and after, its error if it got
        one, what became of the neighbor, whether the first could then allocate another GiB, and
        whether the third process could open the device. Latencies count calls that were answered.

    Raises:
        UsageError, Mlk8sError, GpuUnavailable, RecordingError: see
            :func:`mlk8s.bench.sharing.measure`.
    """
    require(mode, 3, device)
    known = NEIGHBORS if device == "cuda" else ("long", "kill")
    if kind not in known:
        raise UsageError(
            f"There is no neighbor {kind!r} on {device}.", f"use one of: {', '.join(known)}."
        )
    timing.step(f"beside a neighbor ({kind}), {mode}", 0, 1)
    if device == "cuda":
        table = _neighbor_on_gpu(mode=mode, kind=kind, seconds=seconds)
    else:
        found = _beside(device, mode, kind, seconds)
        table = Table(found, cpu_provenance(METHOD, 2))
    (row,) = table[:]
    require_clients(mode, 2, row["clients"])
    before, after = row["before"], row["after"]
    shown = {
        "sharing": mode,
        "neighbor": kind,
        "before [1/s]": before["rate"],
        "after [1/s]": after["rate"],
        "p99 before [µs]": before["p99_us"],
        "p99 after [µs]": after["p99_us"],
        "longest before [µs]": before["max_us"],
        "longest after [µs]": after["max_us"],
        "last answer [ms]": row["last_ms"],
        "error": row["error"] or "none",
        "the neighbor": row["neighbor"],
        "one more GiB": row["more"],
        "a newcomer": row["newcomer"],
    }
    return Table(shown, *table.provenance, title="Beside a neighbor that misbehaves")


@measured("bench/sharing-neighbor", METHOD)
def _neighbor_on_gpu(mode: str, kind: str, seconds: float) -> dict[str, Any]:
    return _beside("cuda", mode, kind, seconds)


def _beside(device: str, mode: str, kind: str, seconds: float) -> dict[str, Any]:
    """One process, its neighbor that misbehaves from the middle on, and a newcomer at the end."""
    with (
        sharing(mode) as (environment, service),
        workers(perform, device, [environment] * 3) as (first, other, newcomer),
    ):
        pair = (first, other)
        # PyTorch takes seconds to import, and the newcomer's turn is at the end.
        ask_all((first, other, newcomer), "load", START_S)
        ask_all(pair, "open", START_S)
        tasks = ("inference", "long" if kind in ("long", "kill") else "kernels")
        ask_all(pair, "prepare", START_S, [{"task": task} for task in tasks])
        clients = service and len(service.clients() & {worker.pid for worker in pair})
        begin = time.monotonic() + WARMUP_S
        change = begin + seconds
        end = change + seconds
        first.tell("run", begin=begin, end=end)
        became = _misbehave(other, kind, change, end)
        answer = first.answer(ANSWER_S)
        ran = answer.value or {"ends": [], "took": [], "error": answer.error}
        if ran["error"]:
            first.close()
            more = None
        else:
            more = first.ask("allocate", ANSWER_S, mib=MORE_MIB).error or "yes"
        if kind != "memory":
            other.close()
        opened = newcomer.ask("open", ANSWER_S)
    calls = list(zip(ran["ends"], ran["took"], strict=True))
    middle = seconds * 1e6
    parts = ([t for e, t in calls if e < middle], [t for e, t in calls if e >= middle])
    before, after = ({"rate": round(len(part) / seconds, 1), **latencies(part)} for part in parts)
    return {
        "clients": clients,
        "before": before,
        "after": after,
        "last_ms": round((ran["ends"][-1] - middle) / 1e3, 1) if calls else None,
        "error": ran["error"],
        "neighbor": became,
        "more": more,
        "newcomer": opened.error or "works",
    }


def _misbehave(other: Worker, kind: str, change: float, end: float) -> str:
    """Have the neighbor misbehave from a moment on, and say what became of it."""
    patience = end - time.monotonic() + ANSWER_S
    if kind == "long":
        answer = other.ask("run", patience, at=change, begin=change, end=end)
        return answer.error or answer.value["error"] or f"{len(answer.value['ends'])} kernels"
    if kind == "memory":
        answer = other.ask("hog", patience, at=change)
        return (
            answer.error or f"{answer.value['mib'] / 1024:.1f} GiB, then: {answer.value['error']}"
        )
    if kind == "fault":
        return other.ask("fault", patience, at=change).error or "no error"
    other.tell("flood", at=change, end=end)
    time.sleep(max(0.0, (change + end) / 2 - time.monotonic()))
    other.kill()
    return "killed with kernels in flight"
