"""labs/ray/tune.py: ASHA stops trials, and what a search costs."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from mlk8s import raylocal
from mlk8s.errors import UsageError
from tests.labs.ray.conftest import lab


def report(trial: str, step: int, loss: float, spent: int) -> dict[str, Any]:
    """A row as a search gives it."""
    return {
        "trial": trial, "lr": 1e-3, "rank": 4, "step": step, "loss": loss,
        "spent": spent, "at": spent / 10,
    }  # fmt: skip


def test_asha_stops_bad_trials_and_keeps_to_the_budget(
    local: raylocal.Local, base: Path, tmp_path: Path
) -> None:
    tune = lab("tune")
    rows = tune["search"]("asha", base, tmp_path, budget=120, examples=100)
    assert 120 <= rows[-1]["spent"] <= 130
    assert [row["spent"] for row in rows] == [5 * (n + 1) for n in range(len(rows))]
    for row in rows:
        assert 3e-4 <= row["lr"] <= 1e-1
        assert row["rank"] in (4, 16, 64)
        assert row["step"] <= 30
    last = {row["trial"]: row["step"] for row in rows}
    # Four trials that run to their end would have spent it.
    assert len(last) > 4
    assert 5 in last.values() and 30 in last.values()
    # The next Ctrl-C is for whoever had it before.
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_searches_are_compared_at_the_worse_ones_quality() -> None:
    tune = lab("tune")
    found = tune["compare"](
        {
            "random": [report("a", 5, 2.0, 5), report("a", 30, 1.0, 30), report("b", 30, 1.5, 60)],
            "asha": [report("a", 5, 2.0, 5), report("b", 15, 0.9, 20), report("c", 30, 0.5, 60)],
        }
    )
    random, asha = found
    assert (random["trials"], random["to the end"], random["best loss"]) == (2, 2, 1.0)
    assert (asha["trials"], asha["to the end"], asha["best loss"]) == (3, 1, 0.5)
    assert (random["steps to 1.000"], asha["steps to 1.000"]) == (30, 20)
    assert (random["seconds to 1.000"], asha["seconds to 1.000"]) == (3.0, 2.0)


def test_a_search_that_is_unknown_and_a_base_that_is_missing_are_refused(
    base: Path, tmp_path: Path
) -> None:
    search = lab("tune")["search"]
    with pytest.raises(UsageError, match="no search 'grid'"):
        search("grid", base, tmp_path)
    with pytest.raises(UsageError, match="nowhere"):
        search("asha", tmp_path / "nowhere", tmp_path)
