"""Whether a CronJob's schedule can be read, and what is wrong with it.

The messages are those of ``github.com/robfig/cron/v3``, whose ``ParseStandard`` the server uses;
when a schedule is due is worked out elsewhere.
"""

from __future__ import annotations

import re

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
# Of each field: least, most, and names that stand for numbers.
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    (0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_DESCRIPTORS = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"]
_DURATION = r"[-+]?(\d+(\.\d*)?(ns|us|µs|ms|s|m|h))+"


def error_in(schedule: str) -> str:
    """What is wrong with a schedule; empty when nothing is."""
    if schedule.startswith("@"):
        return _descriptor(schedule)
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        return f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]"
    try:
        for field, (least, most, names) in zip(fields, _FIELDS, strict=True):
            for part in field.split(","):
                if part:
                    _range(part, least, most, names)
    except ValueError as error:
        return str(error)
    return ""


def _descriptor(schedule: str) -> str:
    if schedule in _DESCRIPTORS:
        return ""
    every = "@every "
    if not schedule.startswith(every):
        return f"unrecognized descriptor: {schedule}"
    length = schedule.removeprefix(every)
    if re.fullmatch(_DURATION, length):
        return ""
    return f'failed to parse duration {schedule}: time: invalid duration "{length}"'


def _range(part: str, least: int, most: int, names: dict[str, int]) -> None:
    span, *steps = part.split("/")
    low, *high = span.split("-")
    if low in ("*", "?"):
        start, end = least, most
    else:
        start = _number(low, names)
        if len(high) > 1:
            raise ValueError(f"too many hyphens: {part}")
        end = _number(high[0], names) if high else start
    if len(steps) > 1:
        raise ValueError(f"too many slashes: {part}")
    step = _number(steps[0], {}) if steps else 1
    if steps and not high:
        end = most
    if start < least:
        raise ValueError(f"beginning of range ({start}) below minimum ({least}): {part}")
    if end > most:
        raise ValueError(f"end of range ({end}) above maximum ({most}): {part}")
    if start > end:
        raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {part}")
    if step == 0:
        raise ValueError(f"step of range should be a positive number: {part}")


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not re.fullmatch(r"[-+]?[0-9]+", text):
        raise ValueError(
            f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax'
        )
    number = int(text)
    if number < 0:
        raise ValueError(f"negative number ({number}) not allowed: {text}")
    return number
