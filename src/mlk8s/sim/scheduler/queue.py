"""Pods that wait to be scheduled: which comes next, and what has to happen before another try.

``pkg/scheduler/backend/queue``: the active queue by priority and age; pods that were turned down
stay apart until something happens that could help, and are then tried again after a back-off,
or sooner when nobody else waits.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

_FIRST_BACKOFF_S = 1.0
_LAST_BACKOFF_S = 10.0
# DefaultPodMaxInUnschedulablePodsDuration.
FORGOTTEN_S = 300.0
# Turned down by nobody in particular: whatever happens may help.
ANY = "*"


class Place(Enum):
    """Where a pod waits."""

    ACTIVE = "active"
    BACKOFF = "backoff"
    PARKED = "parked"
    GATED = "gated"
    FLYING = "flying"


# What a heap orders by, a number for ties, and the pod.
_Heap = list[tuple[tuple[float, float], int, "Entry"]]


@dataclass(eq=False)
class Entry:
    """A pod in the queue.

    Attributes:
        priority: ``spec.priority``.
        claims: whether it has resource claims.
        since: when it came, or was last tried.
        attempts: how often it was tried.
        plugins: who turned it down last.
        said: the message last recorded for it, how often, and when.
    """

    uid: str
    namespace: str
    name: str
    priority: int = 0
    claims: bool = False
    since: float = 0.0
    attempts: int = 0
    plugins: frozenset[str] = frozenset()
    said: tuple[str, int, float] = ("", 0, 0.0)
    place: Place = Place.GATED
    ticket: int = field(default=0, repr=False)

    @property
    def backoff(self) -> float:
        """Seconds that it rests after its last attempt."""
        return min(_FIRST_BACKOFF_S * float(2 ** max(self.attempts - 1, 0)), _LAST_BACKOFF_S)


class Queue:
    """All pods that wait.

    Args:
        now: the present time in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.entries: dict[str, Entry] = {}
        self._active: _Heap = []
        self._resting: _Heap = []
        self._parked: dict[str, dict[str, Entry]] = {}
        self._gated: dict[str, Entry] = {}
        self._tickets = itertools.count(1)
        # What happened while a pod was being tried, so that it is not missed.
        self._missed: dict[str, set[str]] = {}

    def activate(self, entry: Entry) -> None:
        """Let a pod be tried as soon as it is its turn."""
        self._leave(entry)
        self.entries[entry.uid] = entry
        entry.place = Place.ACTIVE
        entry.ticket = next(self._tickets)
        heapq.heappush(self._active, ((-entry.priority, entry.since), entry.ticket, entry))

    def gate(self, entry: Entry) -> None:
        """Keep a pod from being tried until it is activated."""
        self._leave(entry)
        self.entries[entry.uid] = entry
        entry.place = Place.GATED
        self._gated[entry.uid] = entry

    def gated(self) -> list[Entry]:
        """The pods that may not be tried yet."""
        return list(self._gated.values())

    def pop(self) -> Entry | None:
        """The pod that is next; one that still rests when no other waits."""
        entry = self._top(self._active, Place.ACTIVE) or self._top(self._resting, Place.BACKOFF)
        if entry is None:
            return None
        heapq.heappop(self._active if entry.place is Place.ACTIVE else self._resting)
        entry.place = Place.FLYING
        entry.attempts += 1
        entry.since = self._now()
        self._missed[entry.uid] = set()
        return entry

    @property
    def ready(self) -> bool:
        """Whether there is a pod to try."""
        return bool(
            self._top(self._active, Place.ACTIVE) or self._top(self._resting, Place.BACKOFF)
        )

    def park(self, entry: Entry, plugins: Iterable[str]) -> None:
        """Put a pod aside that was turned down, until something happens that may help."""
        missed = self._missed.pop(entry.uid, set())
        if entry.uid not in self.entries:
            return
        entry.plugins = frozenset(plugins) or frozenset((ANY,))
        entry.place = Place.PARKED
        for plugin in entry.plugins:
            self._parked.setdefault(plugin, {})[entry.uid] = entry
        if missed & entry.plugins or (missed and ANY in entry.plugins):
            self._rest(entry)

    def take_back(self, entry: Entry) -> None:
        """A pod that seemed to be done is being tried once more."""
        entry.place = Place.FLYING
        self.entries[entry.uid] = entry
        self._missed[entry.uid] = set()

    def flying(self) -> list[Entry]:
        """The pods that are being tried just now."""
        return [self.entries[uid] for uid in self._missed if uid in self.entries]

    def remove(self, uid: str) -> None:
        """Forget a pod."""
        entry = self.entries.pop(uid, None)
        if entry is not None:
            self._leave(entry)
        self._missed.pop(uid, None)

    def move(self, plugins: Iterable[str]) -> bool:
        """Something happened that may help pods turned down by these; whether there are any."""
        plugins = (*plugins, ANY)
        for missed in self._missed.values():
            missed.update(plugins)
        moved = {
            uid: entry for plugin in plugins for uid, entry in self._parked.get(plugin, {}).items()
        }
        for entry in moved.values():
            self._rest(entry)
        return bool(moved)

    def retry(self, entry: Entry) -> None:
        """Try one pod again when it has rested."""
        if entry.place is Place.PARKED:
            self._rest(entry)

    def missed(self, entry: Entry, plugin: str) -> None:
        """Note for a pod that is being tried just now that something happened."""
        if entry.uid in self._missed:
            self._missed[entry.uid].add(plugin)

    def parked(self, plugin: str = "") -> list[Entry]:
        """The pods put aside: those that a plugin turned down, or all."""
        if plugin:
            return list(self._parked.get(plugin, {}).values())
        return [entry for entry in self.entries.values() if entry.place is Place.PARKED]

    def _rest(self, entry: Entry) -> None:
        """Let a pod be tried when its rest is over; at once, and by priority, when it is."""
        if entry.since + entry.backoff <= self._now():
            self.activate(entry)
            return
        self._leave(entry)
        entry.place = Place.BACKOFF
        entry.ticket = next(self._tickets)
        heapq.heappush(self._resting, ((entry.since + entry.backoff, 0.0), entry.ticket, entry))

    def _leave(self, entry: Entry) -> None:
        """Take a pod from where it waits; the heaps forget it when it comes up."""
        entry.ticket = 0
        self._gated.pop(entry.uid, None)
        if entry.place is Place.PARKED:
            for plugin in entry.plugins:
                of_plugin = self._parked.get(plugin, {})
                of_plugin.pop(entry.uid, None)
                if not of_plugin:
                    self._parked.pop(plugin, None)

    @staticmethod
    def _top(heap: _Heap, place: Place) -> Entry | None:
        while heap:
            _, ticket, entry = heap[0]
            if entry.place is place and entry.ticket == ticket:
                return entry
            heapq.heappop(heap)
        return None
