"""One running cluster without nodes for all tests of the wire, and a connection to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mlk8s.sim import Cluster

from .client import Client


@contextmanager
def without_errors() -> Iterator[Cluster]:
    with Cluster("none") as running:
        yield running
        log = (running.directory / "server.log").read_text()
    assert "ERROR" not in log, log


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with without_errors() as running:
        yield running


@pytest.fixture
def client(cluster: Cluster) -> Client:
    return Client(cluster)
