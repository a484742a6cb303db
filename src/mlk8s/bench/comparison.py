"""What a benchmark command measures, and the recorded machine's figures beside it.

A call's recorded counterpart is the same call of the library, answered by the default recording.
How long a row was measured for is no part of what it measures, so any recorded time will do; where
it is (a product sustained for some seconds), the counterpart has the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlk8s import recordings
from mlk8s.errors import Mlk8sError
from mlk8s.gpu import source
from mlk8s.provenance import Scalar, Table

Rows = list[dict[str, Scalar]]


@dataclass(frozen=True)
class View:
    """How one of the tables that a call returns is compared and shown.

    Attributes:
        keys: columns by which a row finds its recorded counterpart.
        figure: the column that is compared.
        hidden: columns that the screen has no room for; JSON has all.
    """

    keys: tuple[str, ...]
    figure: str
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """One call of the library.

    Attributes:
        what: what is measured, for the progress.
        measure: makes the call; returns a table for each view of its part.
        recorded: the same call on a GPU, given the least measured time, s, or ``None`` for the
            library's own; ``None`` where no recorded machine can have made it.
        entry: the name of the measurement, where any time that it was recorded with will do.
        rows: makes rows of a table from what an interrupted call had measured.
    """

    what: str
    measure: Callable[[], Sequence[Table]]
    recorded: Callable[[float | None], Sequence[Table]] | None = None
    entry: str = ""
    rows: Callable[[Sequence[Any]], Rows] = list


@dataclass(frozen=True)
class Part:
    """Calls whose tables belong together.

    Attributes:
        device: ``cuda`` or ``cpu``.
        views: one for each table that a call returns.
        calls: made in this order; their tables are joined.
    """

    device: str
    views: tuple[View, ...]
    calls: tuple[Call, ...]


def one(tables: Sequence[Table]) -> Table:
    """One table of the rows of several."""
    titles = dict.fromkeys(table.title for table in tables if table.title)
    origins = [origin for table in tables for origin in table.provenance]
    return Table([row for table in tables for row in table], *origins, title="; ".join(titles))


def made(call: Call, device: str) -> Sequence[Table]:
    """Make a call: live, or answered by the recording that ``MLK8S_GPU`` chooses.

    Raises:
        Mlk8sError: as the library.
    """
    kept = source.recording() if device == "cuda" and call.recorded else None
    found = _recorded(call, kept.name) if kept else None
    # Where the recording holds nothing, the library says so, and what it does hold.
    return call.measure() if found is None else found


def compared(
    finished: Sequence[tuple[Part, Sequence[Sequence[Table]]]], problems: list[BaseException]
) -> tuple[list[Table], list[str]]:
    """Lay the figures beside those that the default recording holds for the same calls.

    Args:
        finished: parts with the tables of each call that was made.
        problems: where an error or an interruption is added; what was compared by then is kept.

    Returns:
        A table for each view that has recorded rows, and the names of the calls that have none.
    """
    tables_beside: list[Table] = []
    missing: list[str] = []
    for part, found in finished:
        kept: list[list[Table]] = []
        for call, tables in zip(part.calls, found, strict=False):  # an error leaves some without
            if call.recorded is None:
                continue
            try:
                reference = _recorded(call, recordings.DEFAULT)
            except (Mlk8sError, KeyboardInterrupt) as error:  # what was measured is not lost
                problems.append(error)
                return tables_beside, missing
            if reference and set(reference[0].provenance) <= set(tables[0].provenance):
                continue  # what came from that recording is not compared with itself
            pairs = zip(tables, reference or (), part.views, strict=False)
            beside = [_beside(here, there, view) for here, there, view in pairs]
            if any(map(len, beside)):
                kept.append(beside)
            else:
                missing.append(call.what)
        for i in range(len(part.views)):
            if same := [tables[i] for tables in kept if len(tables[i])]:
                tables_beside.append(one(same))
    return tables_beside, missing


def _recorded(call: Call, machine: str) -> Sequence[Table] | None:
    """What a recording has for a call, with the library's own time first; ``None`` if nothing.

    Raises:
        RecordingError: there is no such recording, or it is damaged.
    """
    assert call.recorded is not None
    entries = recordings.load(machine).entries
    times = {e.params["min_time_s"] for e in entries if call.entry and e.name == call.entry}
    for seconds in (None, *sorted(times, reverse=True)):
        found = source.recorded_by(machine, partial(call.recorded, seconds))
        if found is not None:
            return found
    return None


def _beside(here: Table, there: Table, view: View) -> Table:
    """The rows that both tables have, with both figures and their ratio."""
    device = there.provenance[0].device
    name = device.name if device else recordings.DEFAULT
    rows = []
    for mine in here:
        for other in there:
            if all(mine[key] == other[key] for key in view.keys):
                rows.append(
                    {
                        **{key: mine[key] for key in view.keys},
                        view.figure: mine[view.figure],
                        f"{view.figure}, recorded": other[view.figure],
                        "of recorded [%]": _percent(mine[view.figure], other[view.figure]),
                        "flags, recorded": other.get("flags", ""),
                    }
                )
    origins = dict.fromkeys([*here.provenance, *there.provenance])
    return Table(rows, *origins, title=f"Beside the recorded {name}")


def _percent(part: Any, whole: Any) -> float | None:
    """A share in percent; ``None`` of nothing."""
    return round(100 * part / whole, 1) if whole else None
