"""Time in the embedded cluster: the machine's, or one that a test drives.

Everything in the cluster that waits, ages or expires asks a :class:`Clock`; nothing calls
``time`` or ``asyncio.sleep`` for a simulated duration.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Timer(Protocol):
    """A callback that has not run yet."""

    def cancel(self) -> None:
        """Forget it; harmless when it already ran."""


class Clock(Protocol):
    """Simulated time in seconds since the epoch, and callbacks at a time to come."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` on the event loop in ``delay`` simulated seconds."""


class RealClock:
    """The machine's time."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` on the event loop in ``delay`` seconds."""
        return asyncio.get_running_loop().call_later(delay, callback)


class _Entry:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Time that stands still until :meth:`advance`.

    Args:
        start: seconds since the epoch; the machine's present time when not given.
    """

    def __init__(self, start: float | None = None) -> None:
        self._now = float(int(time.time() if start is None else start))
        self._timers: list[tuple[float, int, _Entry]] = []
        self._count = itertools.count()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` when time has been advanced by ``delay`` seconds."""
        entry = _Entry(callback)
        heapq.heappush(self._timers, (self._now + max(delay, 0.0), next(self._count), entry))
        return entry

    async def advance(self, seconds: float, settle: Callable[[], bool]) -> None:
        """Let ``seconds`` pass, timer by timer, the cluster coming to rest after each.

        Args:
            seconds: how far.
            settle: says whether every component has finished what it was told so far.
        """
        end = self._now + seconds
        await _rest(settle)
        while self._timers and self._timers[0][0] <= end:
            when, _, entry = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            if entry.callback is not None:
                entry.callback()
                await _rest(settle)
        self._now = end
        await _rest(settle)


async def _rest(settle: Callable[[], bool]) -> None:
    quiet = 0
    while quiet < 3:
        await asyncio.sleep(0)
        quiet = quiet + 1 if settle() else 0


def stamp(seconds: float) -> str:
    """A ``metav1.Time``: ``2026-11-24T02:40:01Z``."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_stamp(seconds: float) -> str:
    """A ``metav1.MicroTime``: ``2026-11-24T02:40:01.250000Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(text: str) -> float:
    """Seconds since the epoch of a ``metav1.Time`` or ``MicroTime``."""
    return datetime.fromisoformat(text).timestamp()
