"""CEL's points in time and durations: ``timestamp('2026-01-02T03:04:05Z') + duration('1h')``."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mlk8s.sim.cel.overloads import Form
from mlk8s.sim.cel.values import DURATION, INT, STRING, TIMESTAMP, CelError

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1,
    "m": 60,
    "h": 3600,
}


def timestamp(text: str) -> datetime:
    """A point in time, written as in RFC 3339; finer than a microsecond is cut off.

    Raises:
        CelError: it is none.
    """
    try:
        if _MOMENT.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass  # such as a month 13: no point in time either
    raise CelError(f'invalid timestamp "{text}"')


def duration(text: str) -> timedelta:
    """A length of time such as ``1h30m``, in the syntax of Go's ``time.ParseDuration``.

    Raises:
        CelError: it is none.
    """
    sign, rest = (text[0], text[1:]) if text[:1] in ("-", "+") else ("", text)
    if rest == "0":
        return timedelta()
    if not rest or not re.fullmatch(f"({_PART.pattern})+", rest):
        raise CelError(f'time: invalid duration "{text}"')
    try:
        total = timedelta(seconds=sum(float(n) * _SECONDS[u] for n, u in _PART.findall(rest)))
    except OverflowError:
        raise CelError(f'time: invalid duration "{text}"') from None
    return -total if sign == "-" else total


def text(value: datetime | timedelta) -> str:
    """What ``string()`` makes of a point in time, or of a duration."""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
    return value.isoformat().replace("+00:00", "Z")


def _zone(name: str) -> tzinfo:
    if match := re.fullmatch(r"([+-]?)(\d\d):(\d\d)", name):
        sign, hours, minutes = match.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-offset if sign == "-" else offset)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise CelError(f"unknown time zone {name}") from None


def _parts(part: Callable[[datetime], int]) -> tuple[Form, Form]:
    def at(moment: datetime, zone: str) -> int:
        return part(moment.astimezone(_zone(zone)))

    return ("m", (TIMESTAMP,), INT, part), ("m", (TIMESTAMP, STRING), INT, at)


def _of_duration(size: float) -> Form:
    return ("m", (DURATION,), INT, lambda length: int(length.total_seconds() / size))


FUNCTIONS: list[tuple[str, tuple[Form, ...]]] = [
    (
        "timestamp",
        (
            ("g", (STRING,), TIMESTAMP, timestamp),
            ("g", (TIMESTAMP,), TIMESTAMP, lambda moment: moment),
            ("g", (INT,), TIMESTAMP, lambda number: datetime.fromtimestamp(number, UTC)),
        ),
    ),
    (
        "duration",
        (
            ("g", (STRING,), DURATION, duration),
            ("g", (DURATION,), DURATION, lambda length: length),
        ),
    ),
    ("getFullYear", _parts(lambda moment: moment.year)),
    # Months and days count from 0, but for getDate.
    ("getMonth", _parts(lambda moment: moment.month - 1)),
    ("getDate", _parts(lambda moment: moment.day)),
    ("getDayOfMonth", _parts(lambda moment: moment.day - 1)),
    ("getDayOfWeek", _parts(lambda moment: moment.isoweekday() % 7)),
    ("getDayOfYear", _parts(lambda moment: moment.timetuple().tm_yday - 1)),
    ("getHours", (*_parts(lambda moment: moment.hour), _of_duration(3600))),
    ("getMinutes", (*_parts(lambda moment: moment.minute), _of_duration(60))),
    ("getSeconds", (*_parts(lambda moment: moment.second), _of_duration(1))),
    (
        "getMilliseconds",
        (
            *_parts(lambda moment: moment.microsecond // 1000),
            ("m", (DURATION,), INT, lambda length: length.microseconds // 1000),
        ),
    ),
]
