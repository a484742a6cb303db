"""The suites as tests, and the recorded scores, which the page about the embedded cluster shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

import pytest

from .suites import LEFT, REPOSITORY, SUITES, Score

RECORD = REPOSITORY / "benchmarks" / "conformance.json"


@pytest.fixture(scope="session")
def matches_record() -> Callable[[str, Score], None]:
    """Check that a suite's score is the one that was recorded."""
    record = json.loads(RECORD.read_text())

    def check(name: str, score: Score) -> None:
        (row,) = [one for one in record["scores"] if one["suite"] == name]
        assert (row["same"], row["of"]) == (score.same, score.of), (
            f"{RECORD.name} says {row}. Next: python benchmarks/conformance.py --record"
        )
        recorded = {
            one["case"]: one["reason"] for one in record["differences"] if one["suite"] == name
        }
        assert recorded == LEFT.get(name, {})

    return check


@pytest.fixture(scope="session")
def conforms(matches_record: Callable[[str, Score], None]) -> Callable[[str], Score]:
    """Run a suite, once, and check that only what is named differs, and the recorded score."""

    @cache
    def run(name: str) -> Score:
        score, left = SUITES[name](), LEFT.get(name, {})
        assert {case: how for case, how in score.differences.items() if case not in left} == {}
        assert list(score.differences) == list(left)
        matches_record(name, score)
        return score

    return run
