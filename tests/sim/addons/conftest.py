"""A cluster with Kueue for each test, on one server for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlk8s.sim import Cluster

from .lab import Lab


@pytest.fixture(scope="session")
def running() -> Iterator[Cluster]:
    with Cluster("h100x8", manual_clock=True, seed=1) as cluster:
        cluster.advance(30)
        yield cluster
        log = (cluster.directory / "server.log").read_text()
        assert "Traceback" not in log, log


@pytest.fixture
def lab(running: Cluster) -> Iterator[Lab]:
    """Kueue, freshly enabled; after the test it and the test's Jobs are gone."""
    running.enable("kueue")
    found = Lab(running)
    yield found
    running.disable("kueue")
    found.clear()
