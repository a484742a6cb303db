"""Which waiting requests run together, and when they may: none, static and continuous batching.

Nothing here computes or waits; :mod:`mlk8s.lm.engine` asks before each step. The two kinds are the
ones that Orca (Yu et al., OSDI 2022, section 3) compares: scheduling by request, where a batch is
formed once and ends as a whole, and scheduling by iteration, where it changes after each token.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

#: How long the oldest request of a static batch waits for others, s.
STATIC_WAIT_S = 0.02


class Kind(StrEnum):
    """How requests share the model."""

    NONE = "none"  # one after the other
    STATIC = "static"  # a batch is filled once, and ends when its longest request does
    CONTINUOUS = "continuous"  # requests join and leave after every token


class Job(Protocol):
    """What a batch knows of a request."""

    arrived: float
    ended: bool


J = TypeVar("J", bound=Job)


class Batcher(Generic[J]):
    """Continuous batching: what has ended leaves, and what waits joins, before every step.

    Requests join in the order of their arrival. One that finds no room in the KV cache waits, and
    so do those behind it.

    Args:
        size: requests that run together at most; 1 is no batching.
        reserve: takes the memory for a request; ``False`` where there is none now.
    """

    def __init__(self, size: int, reserve: Callable[[J], bool]) -> None:
        self.size = size
        self.waiting: deque[J] = deque()
        self.running: list[J] = []
        self._reserve = reserve

    def delay(self, now: float) -> float | None:
        """Seconds until :meth:`admit` has something new to say; ``None``: until a request comes."""
        return None

    def admit(self, now: float) -> list[J]:
        """Move what may start from waiting to running, and return it."""
        joined: list[J] = []
        while self.waiting and len(self.running) < self.size and self._reserve(self.waiting[0]):
            joined.append(self.waiting.popleft())
            self.running.append(joined[-1])
        return joined

    def rows(self) -> int:
        """Rows of the next step's batch."""
        return sum(not job.ended for job in self.running)

    def release(self) -> list[J]:
        """Take out the requests whose answers are complete, and return them."""
        left = [job for job in self.running if job.ended]
        self.running = [job for job in self.running if not job.ended]
        return left


class StaticBatcher(Batcher[J]):
    """Static batching: wait a little, fill the batch once, run it until its longest request ends.

    A request that has ended stays in the batch: its row is computed as padding, its memory stays
    reserved, and its answer is complete when the batch is, as with one call of transformers'
    ``generate`` for the whole batch.

    Args:
        size: see :class:`Batcher`.
        reserve: see :class:`Batcher`.
        wait_s: how long the oldest request waits for a batch to fill, s.
    """

    def __init__(
        self, size: int, reserve: Callable[[J], bool], wait_s: float = STATIC_WAIT_S
    ) -> None:
        super().__init__(size, reserve)
        self._wait_s = wait_s

    def delay(self, now: float) -> float | None:
        """See :meth:`Batcher.delay`."""
        if not self.waiting:
            return None
        return max(0.0, self.waiting[0].arrived + self._wait_s - now)

    def admit(self, now: float) -> list[J]:
        """See :meth:`Batcher.admit`."""
        if self.running or (len(self.waiting) < self.size and self.delay(now) != 0.0):
            return []
        return super().admit(now)

    def rows(self) -> int:
        """See :meth:`Batcher.rows`."""
        return len(self.running)

    def release(self) -> list[J]:
        """See :meth:`Batcher.release`."""
        return super().release() if all(job.ended for job in self.running) else []


def batcher(
    kind: Kind, size: int, reserve: Callable[[J], bool], wait_s: float = STATIC_WAIT_S
) -> Batcher[J]:
    """The batcher of a kind; see :class:`Batcher` and :class:`StaticBatcher`."""
    if kind is Kind.STATIC:
        return StaticBatcher(size, reserve, wait_s)
    return Batcher(1 if kind is Kind.NONE else size, reserve)
