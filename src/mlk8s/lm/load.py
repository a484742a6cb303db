"""How latency grows with load: a sweep over clients or arrival rates, as a table.

:func:`closed` answers how much a server can do, :func:`open_` how long users wait when they come at
a rate that does not slow down with the server. ``python -m mlk8s.lm.load --help`` does the same.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from mlk8s.bench import timing
from mlk8s.bench.sharing import latencies
from mlk8s.errors import Mlk8sError, UsageError
from mlk8s.gpu.source import software
from mlk8s.lm.load_client import (
    Run,
    Target,
    Workload,
    closed_loop,
    model_of,
    open_loop,
    run_to_end,
)
from mlk8s.provenance import Device, Kind, Provenance, Table

CLIENTS = (1, 2, 4, 8, 16)
METHOD = (
    "streaming completions of fixed lengths sent by asyncio clients in one process; times from "
    "when a request was due to the arrival of its events; time per token is the mean of a "
    "request's tokens after its first; percentiles over requests without an error"
)


@dataclass(frozen=True)
class Load:
    """A sweep.

    Attributes:
        runs: one for each level.
        provenance: where it was measured.
    """

    runs: tuple[Run, ...]
    provenance: Provenance

    def table(self) -> Table:
        """A row for each level; ``None`` where no request of a level was answered."""
        return Table(map(row, self.runs), self.provenance, title="Latency and throughput by load")


def row(run: Run) -> dict[str, Any]:
    """A level as a row of a table."""
    good = [sample for sample in run.samples if not sample.error]
    first = _ms([sample.first_s for sample in good])
    token = _ms([sample.token_s for sample in good])
    whole = _ms([sample.latency_s for sample in good])
    return {
        "loop": run.loop,
        "clients": int(run.offered) if run.loop == "closed" else None,
        "offered [1/s]": run.offered if run.loop == "open" else None,
        "requests": len(run.samples),
        "errors": len(run.samples) - len(good),
        "requests/s": round(len(good) / run.wall_s, 2),
        "output tokens/s": round(sum(sample.tokens for sample in good) / run.wall_s, 1),
        "first token p50 [ms]": first["p50_us"],
        "first token p95 [ms]": first["p95_us"],
        "per token p50 [ms]": token["p50_us"],
        "per token p95 [ms]": token["p95_us"],
        "latency p50 [ms]": whole["p50_us"],
        "latency p95 [ms]": whole["p95_us"],
        "latency p99 [ms]": whole["p99_us"],
    }


def closed(
    target: Target,
    workload: Workload | None = None,
    *,
    clients: Sequence[int] = CLIENTS,
    seconds: float = 5.0,
    device: Device | None = None,
) -> Load:
    """Measure with some clients, each of which sends when its last request has been answered.

    Args:
        target: the server.
        workload: what is asked for; ``None`` takes the defaults of :class:`Workload`.
        clients: one run for each number.
        seconds: how long each run sends requests, s.
        device: what the server computes on; ``None``: this machine's processor.

    Raises:
        UsageError: no server answers, or an argument cannot be used.
        Interrupted: on Ctrl-C, with the runs so far.
    """
    return _sweep(closed_loop, "clients", target, workload, clients, seconds, device)


def open_(
    target: Target,
    workload: Workload | None = None,
    *,
    rates: Sequence[float],
    seconds: float = 5.0,
    device: Device | None = None,
) -> Load:
    """Measure with requests that arrive at random, as a Poisson process.

    Args:
        target: see :func:`closed`.
        workload: see :func:`closed`; its seed fixes the arrivals.
        rates: mean arrivals a second; one run for each.
        seconds: how long requests arrive, s.
        device: see :func:`closed`.

    Raises:
        UsageError, Interrupted: see :func:`closed`.
    """
    return _sweep(open_loop, "requests a second", target, workload, rates, seconds, device)


def _sweep(
    loop: Any,
    unit: str,
    target: Target,
    workload: Workload | None,
    levels: Sequence[float],
    seconds: float,
    device: Device | None,
) -> Load:
    asked = workload or Workload()
    if not levels or min(levels) <= 0 or seconds <= 0 or not asked.prompts or not asked.max_tokens:
        raise UsageError(
            "A load needs levels and seconds over 0, and a workload with prompts and lengths.",
            "give at least one of each.",
        )
    model = run_to_end(model_of(target))

    def runs() -> Iterator[Run]:
        for done, level in enumerate(levels):
            timing.step(f"{level:g} {unit}", done, len(levels))
            yield run_to_end(loop(target, model, asked, level, seconds))

    return Load(tuple(timing.collected(runs())), _provenance(device))


def _provenance(device: Device | None) -> Provenance:
    import platform

    here = Device(f"{platform.machine()} CPU, {os.cpu_count()} cores", "cpu")
    versions = software("kserve", "torch", "transformers", "aiohttp")
    return Provenance(Kind.LIVE, METHOD, date.today().isoformat(), device or here, versions)


def _ms(times_s: Sequence[float | None]) -> dict[str, float | None]:
    """Percentiles in ms of times in s."""
    known = [round(time * 1e6) for time in times_s if time is not None]
    return {k: None if v is None else v / 1000 for k, v in latencies(known).items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure from a terminal.

    Args:
        arguments: the command line without the program's name; ``None`` takes this process's.

    Returns:
        0; 1 after an error, or where no request was answered; 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        target, workload = _asked(options)
        return _measure(target, workload, options)
    except Mlk8sError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _measure(target: Target, workload: Workload, options: argparse.Namespace) -> int:
    """Run the sweep under a progress bar and print its table."""
    from rich.console import Console

    from mlk8s.lm.progress import bar

    levels: list[float] = options.rates or options.clients
    status = 0
    with bar("load", 0, len(levels), shown=True) as moved:
        try:
            with timing.progress(lambda what, done, total: moved(done, what)):
                if options.rates:
                    load = open_(target, workload, rates=levels, seconds=options.seconds)
                else:
                    numbers = [int(level) for level in levels]
                    load = closed(target, workload, clients=numbers, seconds=options.seconds)
        except timing.Interrupted as stop:
            load = Load(tuple(stop.rows), _provenance(None))
            status = 130
    if status:
        print(f"interrupted: {len(load.runs)} of {len(levels)} levels measured", file=sys.stderr)
    if load.runs:
        Console(width=None if sys.stdout.isatty() else 200).print(load.table())
    errors = Counter(s.error for run in load.runs for s in run.samples if s.error)
    for text, count in errors.most_common():
        print(f"{count} requests failed: {text}", file=sys.stderr)
    answered = any(not sample.error for run in load.runs for sample in run.samples)
    return status or int(not answered)


def _asked(options: argparse.Namespace) -> tuple[Target, Workload]:
    headers = {}
    for text in options.header:
        name, colon, value = text.partition(":")
        if not colon:
            raise UsageError(f"The header {text!r} has no colon.", "write it as 'Name: value'.")
        headers[name.strip()] = value.strip()
    tls = None
    if options.cacert:
        import ssl

        try:
            tls = ssl.create_default_context(cafile=options.cacert)
        except OSError as error:
            raise UsageError(
                f"{options.cacert} cannot be read as certificates: {error}.", "give a PEM file."
            ) from error
    target = Target(options.url, options.model_name, headers, tls, options.timeout)
    prompts = tuple(options.prompt) or Workload.prompts
    return target, Workload(prompts, tuple(options.max_tokens), options.seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mlk8s.lm.load",
        description="Measure a completions server: time to the first token, time per token, "
        "latency and throughput, by load. With --rates requests arrive at random (open loop), else "
        "so many clients send one request after the other (closed loop).",
        epilog="Example: python -m mlk8s.lm.load http://127.0.0.1:8080 --clients 1 4 8 --seconds 5",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("url", help="what stands before /openai/v1, such as http://127.0.0.1:8080")
    add("--clients", type=int, nargs="+", default=list(CLIENTS), help="default: 1 2 4 8 16")
    add("--rates", type=float, nargs="+", help="arrivals a second, one run for each")
    add("--seconds", type=float, default=5.0, help="of each run (5)")
    add("--model_name", help="default: the first that the server lists")
    add("--prompt", action="append", default=[], help="may be repeated; taken in turn")
    add(
        "--max_tokens",
        type=int,
        nargs="+",
        default=list(Workload.max_tokens),
        help="lengths of answers; each request draws one (8 16 64)",
    )
    add("--seed", type=int, default=0, help="of lengths and arrivals (0)")
    add("--header", action="append", default=[], help="'Name: value'; may be repeated")
    add("--cacert", help="PEM file of the authorities to trust for https")
    add("--timeout", type=float, default=60.0, help="seconds for a request (60)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
