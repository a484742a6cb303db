"""kr8s and the Kubeflow SDK, of which no answers are recorded: each call gives what it should."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .suites import Score


@pytest.mark.parametrize(("name", "calls"), [("kr8s", 15), ("Kubeflow SDK", 2)])
def test_its_calls_succeed(name: str, calls: int, conforms: Callable[[str], Score]) -> None:
    assert conforms(name).of == calls
