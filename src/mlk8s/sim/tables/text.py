"""How a table writes what several kinds have in common: ages, labels, containers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mlk8s.sim import clock, selectors
from mlk8s.sim.status import Object, StatusError

NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"

_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400


def human_duration(seconds: float) -> str:
    """A duration with two or three significant figures: ``k8s.io/apimachinery/pkg/util/duration``.

    Args:
        seconds: how long; clocks may differ by less than two seconds.
    """
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    minutes, hours, days = whole // _MINUTE, whole // _HOUR, whole // _DAY
    if minutes < 10:
        return _two(minutes, "m", whole % _MINUTE, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 8 * 24:
        return _two(days, "d", hours % 24, "h")
    if whole < 2 * _YEAR:
        return f"{days}d"
    if whole < 8 * _YEAR:
        return _two(whole // _YEAR, "y", days % 365, "d")
    return f"{whole // _YEAR}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def since(stamp: str | None, now: float) -> str:
    """How long ago something was; ``<unknown>`` when it is not said."""
    return human_duration(now - clock.seconds(stamp)) if stamp else UNKNOWN


def age(obj: Object, now: float) -> str:
    """The age of an object."""
    return since(obj["metadata"].get("creationTimestamp"), now)


def at(obj: Any, *path: str) -> Any:
    """The value at a path, ``None`` where the path ends early."""
    for name in path:
        if not isinstance(obj, dict):
            return None
        obj = obj.get(name)
    return obj


def count(obj: Any, *path: str) -> int:
    """The number at a path, 0 when there is none."""
    return int(at(obj, *path) or 0)


def labels(found: Mapping[str, str] | None) -> str:
    """Labels in one line; ``<none>`` without any."""
    return ",".join(f"{key}={value}" for key, value in sorted((found or {}).items())) or NONE


def selector(found: Object | None) -> str:
    """A label selector in one line; ``<none>`` when it is empty or not set."""
    try:
        return str(selectors.from_object(found)) or NONE
    except StatusError:
        return "<error>"


def containers(found: Iterable[Object] | None) -> list[str]:
    """Two cells: the names and the images of containers."""
    listed = list(found or ())
    return [
        ",".join(container.get("name", "") for container in listed),
        ",".join(container.get("image", "") for container in listed),
    ]


def more(listed: list[str], total: int) -> str:
    """At most three of many, and how many are left out; ``<unset>`` when there are none."""
    text = ",".join(listed[:3])
    if total > 3:
        return f"{text} + {total - 3} more..."
    return text or UNSET


def condition(obj: Object, name: str) -> str | None:
    """The status of one of an object's conditions; ``None`` when it has no such condition."""
    for found in at(obj, "status", "conditions") or ():
        if found.get("type") == name:
            return str(found.get("status", ""))
    return None
