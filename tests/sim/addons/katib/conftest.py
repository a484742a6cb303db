"""A cluster with Katib for each test, on one server for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlk8s.sim import Cluster

from ..lab import HOME
from .lab import KatibLab


@pytest.fixture
def lab(running: Cluster) -> Iterator[KatibLab]:
    """Katib, freshly enabled; after the test it and all that the test made are gone."""
    running.enable("katib")
    found = KatibLab(running)
    found.inject("enabled")
    yield found
    found.client("DELETE", f"/api/v1{HOME}/resourcequotas")
    found.clear()
    found.client("DELETE", f"/api/v1{HOME}/events")
    running.disable("katib")
    found.inject(None)
    found.until(lambda: found.get(f"/api/v1{HOME}/pods")["items"] == [])
