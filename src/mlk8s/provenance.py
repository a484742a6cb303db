"""Where a number comes from, and the table that carries the answer with it.

A :class:`Table` is what every measurement, recording and look-up returns: rows of plain values and
the :class:`Provenance` of each. It is not a data frame; :meth:`Table.frame` makes one.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mlk8s.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

Scalar = str | int | float | bool | None


class Kind(StrEnum):
    """The four things a figure can be."""

    LIVE = "live"  # measured now, on the reader's device
    RECORDED = "recorded"  # measured once, on the device that is named
    SIMULATED = "simulated"  # computed by a model of the hardware or the cluster
    SPEC = "spec"  # the vendor's figure, or arithmetic on vendor figures alone


@dataclass(frozen=True)
class Device:
    """The hardware behind a measurement. Serial numbers, UUIDs and host names have no field here.

    Attributes:
        name: what the driver or the operating system calls it.
        part: catalogue id (``h100-sxm``), ``cpu``, or ``unknown``.
        driver: NVIDIA driver version.
        cuda: the highest CUDA version that the driver supports.
        max_sm_clock_mhz: maximum clock of the streaming multiprocessors, MHz.
        power_limit_w: enforced power limit, W.
        mig_mode: ``enabled``, ``disabled`` or ``not supported``.
    """

    name: str
    part: str
    driver: str | None = None
    cuda: str | None = None
    max_sm_clock_mhz: int | None = None
    power_limit_w: float | None = None
    mig_mode: str | None = None


@dataclass(frozen=True)
class Provenance:
    """The origin of a value.

    Attributes:
        kind: one of the four kinds.
        method: how the value was obtained, one sentence.
        date: ISO date of the measurement, or of the look-up for a vendor's figure.
        device: the hardware, for what was measured.
        software: (name, version) pairs of what took part; a mapping is accepted.
        source: where a vendor's figure is published.
    """

    kind: Kind
    method: str
    date: str | None = None
    device: Device | None = None
    software: Mapping[str, str] | tuple[tuple[str, str], ...] = ()
    source: str | None = None

    def __post_init__(self) -> None:
        # Pairs, so that a provenance can be hashed and equal ones shown once.
        object.__setattr__(self, "software", tuple(sorted(dict(self.software).items())))

    @property
    def label(self) -> str:
        """One line: kind, device, date."""
        parts = [str(self.kind)]
        if self.device:
            parts.append(self.device.name)
        elif self.source:
            parts.append(self.source)
        if self.date:
            parts.append(self.date)
        return " · ".join(parts)

    def details(self) -> dict[str, str]:
        """All that is known, as label → text, for the opened badge."""
        out = {"method": self.method}
        if self.device:
            units = {"max_sm_clock_mhz": "MHz", "power_limit_w": "W"}
            for key, value in asdict(self.device).items():
                if value is not None:
                    name = key.removesuffix("_mhz").removesuffix("_w").replace("_", " ")
                    out[name] = f"{value} {units[key]}" if key in units else str(value)
        out.update(dict(self.software))
        if self.source:
            out["source"] = self.source
        return out

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, for ``--json`` outputs."""
        return {**asdict(self), "software": dict(self.software)}

    def __str__(self) -> str:
        return f"[{self.label}]"

    def _repr_html_(self) -> str:
        return badges([self])


def badges(provenance: Iterable[Provenance]) -> str:
    """The origins as HTML: one badge for each label, which opens to all that is behind it.

    A table that mixes measurements of one machine and day has one badge with all their methods.
    """
    grouped: dict[tuple[Kind, str], dict[str, list[str]]] = {}
    for origin in provenance:
        known = grouped.setdefault((origin.kind, origin.label), {})
        for name, text in origin.details().items():
            values = known.setdefault(name, [])
            if text not in values:
                values.append(text)
    out = []
    for (kind, label), known in grouped.items():
        rows = "".join(
            f"<dt>{html.escape(name)}</dt>" + "".join(f"<dd>{html.escape(v)}</dd>" for v in values)
            for name, values in known.items()
        )
        out.append(
            f'<details class="mlk8s-badge mlk8s-{kind}"><summary>{html.escape(label)}'
            f"</summary><dl>{rows}</dl></details>"
        )
    return "".join(out)


def labels(provenance: Iterable[Provenance]) -> list[str]:
    """The origins as text, each label once."""
    return list(dict.fromkeys(str(origin) for origin in provenance))


class Table(Sequence[Mapping[str, Scalar]]):
    """Rows of plain values with the provenance of each figure in them.

    Column names carry their unit (``"time [ms]"``). A table is immutable, compares by its rows,
    and shows itself in a notebook (HTML), a terminal (rich) and as text.

    Args:
        rows: mappings with the same keys in the same order; one mapping is a one-row table.
        provenance: where the rows come from; several where a row mixes sources.
        title: what the table answers, one line.

    Raises:
        UsageError: there is no provenance, or the rows have different columns.
    """

    def __init__(
        self,
        rows: Mapping[str, Scalar] | Iterable[Mapping[str, Scalar]],
        *provenance: Provenance,
        title: str = "",
    ) -> None:
        listed = [rows] if isinstance(rows, Mapping) else list(rows)
        if not provenance:
            raise UsageError(
                f"The table {title or (list(listed[0]) if listed else '')!r} says nothing about "
                "where its figures come from.",
                "pass the Provenance of the measurement or of the source.",
            )
        for row in listed:
            if list(row) != list(listed[0]):
                raise UsageError(
                    f"A row has the columns {list(row)}, the first row has {list(listed[0])}.",
                    "give every row the same columns in the same order.",
                )
        # Read-only views, so that a row taken from a table cannot change what the table shows.
        self._rows = tuple(MappingProxyType(dict(row)) for row in listed)
        self.provenance = tuple(dict.fromkeys(provenance))
        self.title = title

    @property
    def columns(self) -> list[str]:
        """Column names, in order."""
        return list(self._rows[0]) if self._rows else []

    def column(self, name: str) -> list[Any]:
        """The values of one column, top to bottom."""
        return [row[name] for row in self._rows]

    def where(self, **equal: Scalar) -> Table:
        """The rows in which each named column has the given value."""
        kept = [row for row in self._rows if all(row[k] == v for k, v in equal.items())]
        return Table(kept, *self.provenance, title=self.title)

    def select(self, *columns: str, title: str | None = None) -> Table:
        """The same rows with these columns only, in this order."""
        kept = [{name: row[name] for name in columns} for row in self._rows]
        return Table(kept, *self.provenance, title=self.title if title is None else title)

    def frame(self) -> pd.DataFrame:
        """The rows as a pandas data frame (imports pandas)."""
        import pandas as pd

        return pd.DataFrame(list(self._rows), columns=self.columns)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Mapping[str, Scalar]]:
        return iter(self._rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self._rows == other._rows

    def __hash__(self) -> int:
        # Equal rows may differ in the order of their columns.
        return hash(tuple(frozenset(row.items()) for row in self._rows))

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """Header and body as text; a one-row table with many columns is turned on its side."""
        if len(self._rows) == 1 and len(self.columns) > 6:
            return ["field", "value"], [[k, show(v)] for k, v in self._rows[0].items()]
        return self.columns, [[show(v) for v in row.values()] for row in self._rows]

    def __repr__(self) -> str:
        header, body = self._cells()
        widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
        right = [_is_number(row[i] for row in body) for i in range(len(header))]

        def line(cells: Sequence[str]) -> str:
            padded = (
                c.rjust(w) if r else c.ljust(w)
                for c, w, r in zip(cells, widths, right, strict=True)
            )
            return "  ".join(padded).rstrip()

        lines = [self.title] if self.title else []
        lines += [line(header), *(line(row) for row in body), *labels(self.provenance)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        header, body = self._cells()
        right = [_is_number(row[i] for row in body) for i in range(len(header))]

        def cells(tag: str, values: Sequence[str]) -> str:
            return "".join(
                f"<{tag}{' class=num' if r else ''}>{html.escape(v)}</{tag}>"
                for v, r in zip(values, right, strict=True)
            )

        caption = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        rows = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in body)
        return (
            f'<div class="mlk8s-table"><table>{caption}<thead><tr>{cells("th", header)}</tr>'
            f"</thead><tbody>\n{rows}\n</tbody></table>{badges(self.provenance)}</div>"
        )

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        header, body = self._cells()
        # Text, not str: rich would read a name in square brackets as markup.
        table = RichTable(title=Text(self.title) if self.title else None, title_justify="left")
        for i, name in enumerate(header):
            right = _is_number(row[i] for row in body)
            # Folded, not cut: a narrow terminal shows every digit.
            table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
        for row in body:
            table.add_row(*(Text(cell) for cell in row))
        return Group(table, *(Text(t, style="dim") for t in labels(self.provenance)))


class Finding:
    """A sentence with figures in it, read back from a measurement: prose that a cell prints.

    Args:
        text: plain text.
        provenance: where its figures come from.
    """

    def __init__(self, text: str, *provenance: Provenance) -> None:
        if not provenance:
            raise UsageError(f"The sentence {text[:40]!r}… has no source.", "pass its provenance.")
        self.text = text
        self.provenance = tuple(dict.fromkeys(provenance))

    def __repr__(self) -> str:
        return "\n".join([self.text, *labels(self.provenance)])

    def _repr_html_(self) -> str:
        # A percent sign stays with its number.
        text = html.escape(self.text).replace(" %", "&nbsp;%")
        return f'<div class="mlk8s-finding"><p>{text}</p>{badges(self.provenance)}</div>'


def show(value: Scalar) -> str:
    """A value as a reader wants it: thousands separated, four significant digits, no ``None``."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value == 0:
            return "0"
        digits = 0 if abs(value) >= 1000 else 4
        return f"{value:,.0f}" if digits == 0 else f"{value:.{digits}g}"
    return str(value)


def _is_number(values: Iterable[str]) -> bool:
    """Whether a column holds figures only, with a unit at most, and so is set flush right."""
    listed = [v for v in values if v != "–"]
    # A sentence that starts with a figure is a sentence.
    return bool(listed) and all(re.match(r"-?\d\S*( \S+)?$", v) for v in listed)
