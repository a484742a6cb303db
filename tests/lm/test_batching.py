"""Which requests run together: decided without a model."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mlk8s.lm.batching import Batcher, Kind, StaticBatcher, batcher


@dataclass(eq=False)
class Job:
    arrived: float = 0.0
    ended: bool = False


def always(job: Job) -> bool:
    return True


def test_continuous_fills_the_place_of_what_has_ended() -> None:
    batch: Batcher[Job] = batcher(Kind.CONTINUOUS, 2, always)
    first, second, third = Job(), Job(), Job()
    batch.waiting.extend([first, second, third])
    assert batch.admit(0.0) == [first, second]
    assert batch.release() == []
    assert batch.admit(0.0) == []
    second.ended = True
    assert batch.rows() == 1
    assert batch.release() == [second]
    assert batch.admit(0.0) == [third]
    assert batch.running == [first, third]


def test_none_is_one_after_the_other() -> None:
    batch: Batcher[Job] = batcher(Kind.NONE, 8, always)
    batch.waiting.extend([Job(), Job()])
    assert len(batch.admit(0.0)) == 1
    assert batch.admit(0.0) == []


def test_what_finds_no_memory_waits_and_so_do_those_behind_it() -> None:
    big, small = Job(), Job()
    batch: Batcher[Job] = batcher(Kind.CONTINUOUS, 8, lambda job: job is not big)
    batch.waiting.extend([big, small])
    assert batch.admit(0.0) == []
    assert list(batch.waiting) == [big, small]


def test_static_waits_for_others_and_then_for_the_longest() -> None:
    batch: Batcher[Job] = StaticBatcher(3, always, wait_s=0.5)
    first, second, late = Job(arrived=1.0), Job(arrived=1.2), Job(arrived=1.6)
    batch.waiting.extend([first, second])
    assert batch.admit(1.25) == []
    assert batch.delay(1.25) == pytest.approx(0.25)
    assert batch.admit(1.5) == [first, second]
    batch.waiting.append(late)
    first.ended = True
    assert batch.release() == []
    assert batch.admit(9.0) == [], "a static batch is not refilled"
    assert batch.rows() == 2, "what has ended is computed as padding"
    second.ended = True
    assert batch.release() == [first, second]
    assert batch.admit(9.0) == [late]


def test_a_full_static_batch_does_not_wait() -> None:
    batch: Batcher[Job] = StaticBatcher(2, always, wait_s=60.0)
    batch.waiting.extend([Job(), Job(), Job()])
    assert len(batch.admit(0.0)) == 2
