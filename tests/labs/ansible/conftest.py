"""Networks of test machines, and machines on them that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from .machine import Machine
from .network import Site

New = Callable[..., Machine]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    found = Site(tmp_path_factory.mktemp("site"))
    yield found
    found.close()


@pytest.fixture
def new(site: Site) -> Iterator[New]:
    """Start a new machine; it is switched off after the test."""
    with ExitStack() as machines:

        def start(name: str = "gpu-0", release: str = "24.04", **state: Any) -> Machine:
            return machines.enter_context(Machine(site, name, release, **state))

        yield start
