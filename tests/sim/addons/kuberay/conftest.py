"""A cluster with KubeRay for each test, on one server for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlk8s.sim import Cluster

from .lab import CORE, RayLab


@pytest.fixture
def lab(running: Cluster) -> Iterator[RayLab]:
    """KubeRay, freshly enabled; after the test it and all that the test made are gone."""
    running.enable("kuberay")
    found = RayLab(running)
    yield found
    found.clear()
    # Processes end in their own time.
    found.until(lambda: not found.get(f"{CORE}/pods")["items"], within_s=30)
    running.disable("kuberay")
