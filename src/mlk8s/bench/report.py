"""Benchmarks as the command line shows them: progress, results, the recorded machine beside them.

A command of :mod:`mlk8s.bench.commands` says which calls of the library it makes; this module makes
them one after the other and keeps what was measured when one fails or the reader interrupts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mlk8s import recordings
from mlk8s.bench import comparison, timing
from mlk8s.bench.comparison import Part, View, made, one
from mlk8s.bench.device import cpu_provenance
from mlk8s.errors import Mlk8sError
from mlk8s.gpu import source
from mlk8s.provenance import Provenance, Table


def run(
    benchmark: str, parts: Sequence[Part], *, as_json: bool, header: Table | None = None
) -> None:
    """Make all calls and print what they gave, on standard output.

    An error ends its part, and the other parts go on. What was measured is printed first.

    Args:
        benchmark: name of the command, for JSON.
        parts: what to measure.
        as_json: JSON in place of tables.
        header: a table to show before the results.

    Raises:
        BaseExceptionGroup: the errors of the library, and a ``KeyboardInterrupt`` if it was
            interrupted.
    """
    shown: list[tuple[Table, View | None]] = [] if header is None else [(header, None)]
    finished: list[tuple[Part, list[Sequence[Table]]]] = []
    problems: list[BaseException] = []
    total = sum(len(part.calls) for part in parts)
    with _progress(total) as begin:
        for part in parts:
            first = sum(len(before.calls) for before, _ in finished)
            found: list[Sequence[Table]] = []
            finished.append((part, found))
            try:
                for number, call in enumerate(part.calls, first):
                    begin(number, call.what)
                    found.append(made(call, part.device))
            except Mlk8sError as error:
                # Several parts may miss the same thing, such as the GPU.
                if str(error) not in map(str, problems):
                    problems.append(error)
            except KeyboardInterrupt as stop:
                problems.append(KeyboardInterrupt())
                rows = call.rows(stop.rows) if isinstance(stop, timing.Interrupted) else []
                shown += _stopped(part, found, Table(rows, _live(part.device)) if rows else None)
                break
            shown += _joined(part, found)
    compared: list[Table] = []
    missing: list[str] = []
    if not _has_stopped(problems):
        compared, missing = comparison.compared(finished, problems)
    measured = len(shown) > (header is not None)
    if as_json and (measured or _has_stopped(problems)):
        value = _as_json(benchmark, shown, compared, missing, problems)
        print(json.dumps(value, indent=1, ensure_ascii=False))
    elif measured:
        _print(shown, compared, missing)
    if _has_stopped(problems) and not measured:
        _say("interrupted before anything was measured")
    if problems:
        raise BaseExceptionGroup(f"bench {benchmark}", problems)


def _has_stopped(problems: Sequence[BaseException]) -> bool:
    return any(isinstance(problem, KeyboardInterrupt) for problem in problems)


def _joined(part: Part, found: Sequence[Sequence[Table]]) -> list[tuple[Table, View | None]]:
    """The tables of all calls, one below the other."""
    return [(one([tables[i] for tables in found]), v) for i, v in enumerate(part.views) if found]


def _stopped(
    part: Part, found: Sequence[Sequence[Table]], partial: Table | None
) -> list[tuple[Table, View | None]]:
    """The same of an interrupted part, with the rows of the call in which it was interrupted."""
    joined = _joined(part, found)
    if partial is not None:
        if joined and joined[0][0].columns == partial.columns:
            joined[0] = (one([joined[0][0], partial]), part.views[0])
        else:
            joined.append((partial, None))
    return [(Table(t, *t.provenance, title=_interrupted(len(t))), view) for t, view in joined]


def _interrupted(rows: int) -> str:
    return f"interrupted: {rows} row{'' if rows == 1 else 's'} measured"


def _live(device: str) -> Provenance:
    """Provenance of what an interrupted call had measured."""
    method = "as the whole benchmark, which was interrupted"
    if device == "cuda":
        return source.live_provenance(method)
    return cpu_provenance(method)


def _as_json(
    benchmark: str,
    shown: Sequence[tuple[Table, View | None]],
    compared: Sequence[Table],
    missing: Sequence[str],
    problems: Sequence[BaseException],
) -> dict[str, Any]:
    def value(table: Table) -> dict[str, Any]:
        origins = [origin.as_json() for origin in table.provenance]
        return {"title": table.title, "rows": list(map(dict, table)), "provenance": origins}

    errors = [error for error in problems if isinstance(error, Mlk8sError)]
    return {
        "benchmark": benchmark,
        "interrupted": _has_stopped(problems),
        "results": [value(table) for table, _ in shown],
        "compared": [value(table) for table in compared],
        "not_compared": list(missing),
        "errors": [{"problem": e.problem, "next_step": e.next_step} for e in errors],
    }


def _print(
    shown: Sequence[tuple[Table, View | None]], compared: Sequence[Table], missing: Sequence[str]
) -> None:
    from rich.console import Console

    screen = Console()
    for table, view in shown:
        hidden = view.hidden if view else ()
        screen.print(table.select(*(name for name in table.columns if name not in hidden)))
    for table in compared:
        screen.print(table)
    if missing:
        held = f"The recording {recordings.DEFAULT!r} has nothing to compare with"
        _say(f"{held}: {'; '.join(missing)}.")


def _say(text: str) -> None:
    """A remark, beside the output."""
    from rich.console import Console

    screen = Console(stderr=True, soft_wrap=True)
    screen.print(text, style="dim", markup=False, highlight=False)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int, str], None]]:
    """A bar on standard error, which the steps of the library move; nothing off a terminal.

    Yields:
        A function to call before each call: with its number, and what it measures.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    screen = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[place]}"),
        TimeElapsedColumn(),
    )
    current = 0
    # Off a terminal nothing moves, and what would stay is an empty line.
    off = not screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=off) as bar:
        task = bar.add_task("", total=total, place="")

        def show(what: str, done: int, steps: int) -> None:
            # Several steps count themselves; a single one is a step of the whole.
            place = f"{done + 1} of {steps}" if steps > 1 else f"{current + 1} of {total}"
            completed = current + done / steps
            bar.update(task, description=what, completed=completed, place=place)

        def begin(number: int, what: str) -> None:
            nonlocal current
            current = number
            show(what, 0, 1)

        with timing.progress(show):
            yield begin
