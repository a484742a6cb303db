"""kubectl prints and returns what it did on Kubernetes 1.36.2, and works with the kubelet."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from . import kubectl
from .suites import Score, kubectl_is_missing

pytestmark = pytest.mark.skipif(
    kubectl_is_missing(), reason="kubectl is not installed: its commands are not compared"
)


def test_the_commands_that_kubernetes_was_given(conforms: Callable[[str], Score]) -> None:
    assert conforms("kubectl").of == 64


def test_the_events_that_differ_are_among_those_that_were_recorded(
    conforms: Callable[[str], Score],
) -> None:
    ours, real = (
        next(one["stdout"] for one in answers if one["command"].startswith("get events"))
        for answers in (conforms("kubectl").answers, kubectl.RECORDED["commands"])
    )
    assert len(ours.splitlines()) > 1
    assert set(ours.splitlines()) <= set(real.splitlines())


def test_the_commands_that_need_a_kubelet(conforms: Callable[[str], Score]) -> None:
    assert conforms("kubectl, with a kubelet").of == 6
