"""Benchmarks that a machine without a GPU cannot answer: not recorded, or live without a GPU."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from mlk8s.bench import memory, transfer
from mlk8s.errors import NotRecorded

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: memory.measure("copy", 2**17 + 48), "bench/memory"),
        (lambda: memory.access(table_bytes=2**23 + 4096), "bench/memory-access"),
        (lambda: transfer.measure("d2h", 4097), "bench/transfer"),
        (lambda: transfer.sweep([4097]), "bench/transfer"),
        (lambda: transfer.both_ways(4097), "bench/transfer-both-ways"),
        (lambda: transfer.overlap(4097), "bench/transfer-overlap"),
    ],
)
def test_what_was_not_recorded_is_refused(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any], name: str
) -> None:
    monkeypatch.setenv("MLK8S_GPU", "h100-sxm")
    with pytest.raises(NotRecorded, match=rf"does not hold {re.escape(name)}\b"):
        call()


LIVE = """
from mlk8s.bench import memory, transfer
from mlk8s.errors import GpuUnavailable
calls = (memory.measure, memory.sweep, memory.access,
         transfer.measure, transfer.sweep, transfer.both_ways, transfer.overlap)
for call in calls:
    try:
        call()
    except GpuUnavailable as error:
        print(error)
"""


def test_live_without_a_gpu_is_one_error_with_a_next_step(without_gpu: Run) -> None:
    done = without_gpu("-c", LIVE, MLK8S_GPU="live")
    assert done.returncode == 0, done.stderr
    messages = done.stdout.splitlines()
    assert len(messages) == 7
    for message in messages:
        problem, found, step = message.partition(" Next: ")
        assert found and "`nvidia` is not loaded" in problem and step.endswith(".")
