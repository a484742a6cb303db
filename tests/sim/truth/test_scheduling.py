"""The scenarios end as on Kubernetes 1.36.2; ``compare`` says what is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from . import play
from .suites import SCHEDULING, Scenarios, Score, a_cluster


@pytest.fixture(scope="module")
def scenarios() -> Iterator[Scenarios]:
    with a_cluster("none", manual_clock=True) as cluster:
        yield Scenarios(cluster)


@pytest.mark.parametrize("name", play.scenarios())
def test_a_scenario_ends_as_on_kubernetes(scenarios: Scenarios, name: str) -> None:
    assert scenarios.differences(name) == []


def test_the_recorded_score_is_this_one(
    scenarios: Scenarios, matches_record: Callable[[str, Score], None]
) -> None:
    assert set(scenarios.all) == set(SCHEDULING["scenarios"])
    matches_record("scheduling scenarios", scenarios.score())


def test_a_scenario_leaves_nothing_behind(scenarios: Scenarios) -> None:
    core = scenarios.player.core
    before = [one.metadata.name for one in core.list_namespace().items]
    scenarios.player.play(scenarios.all["dra"])
    assert [one.metadata.name for one in core.list_namespace().items] == before
    assert core.list_node().items == []
