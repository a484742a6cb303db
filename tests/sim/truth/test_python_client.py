"""The Python client, old, present and new, gets what Kubernetes 1.36.2 gave it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .suites import Score


@pytest.mark.parametrize(
    "name", ["Python client 30", "Python client 37", "Python client, installed"]
)
def test_its_calls_give_what_kubernetes_gave(name: str, conforms: Callable[[str], Score]) -> None:
    assert conforms(name).of == 77
