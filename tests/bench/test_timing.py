"""Timing, on the processor that every machine has, and what it refuses."""

from __future__ import annotations

import time
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from mlk8s.bench import timing
from mlk8s.errors import UsageError

Run = Callable[..., CompletedProcess[str]]


def test_a_call_of_known_length() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        time.sleep(0.002)

    found = timing.time_calls(call, "cpu", min_time_s=0.1)
    assert 2.0 <= found.median_ms < 10.0  # a sleep is never shorter, and longer under load
    assert found.p5_ms <= found.median_ms <= found.p95_ms
    assert found.blocks >= 10
    assert found.calls % found.blocks == 0
    assert calls > found.calls, "it was warmed up"
    # A block is long against the clock's resolution: some calls of 2 ms in 5 ms.
    assert found.calls / found.blocks in (2, 3)


def test_the_asked_time_is_measured() -> None:
    begin = time.perf_counter()
    found = timing.time_calls(lambda: time.sleep(0.001), "cpu", min_time_s=0.2)
    passed = time.perf_counter() - begin
    assert found.calls * found.median_ms * 1e-3 == pytest.approx(0.2, rel=0.3)
    assert passed >= 0.2
    assert 0 < found.warmup_s <= 2.5  # ten times as long at most


def test_a_processor_has_no_gpu_readings() -> None:
    found = timing.time_calls(lambda: None, "cpu", min_time_s=0.01)
    assert found.sm_clock_mhz is None and found.power_w is None and found.power_capped is None
    assert found.reasons == "not a GPU"
    assert found.median_ms > 0


def test_steady_is_said_only_of_what_was_seen_for_a_second() -> None:
    found = timing.time_calls(lambda: None, "cpu", min_time_s=0.02)
    assert (found.steady, found.warmup_s < 1.0) == (False, True)


@pytest.mark.parametrize("device", ["tpu", "", "cuda:0", "CPU"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(UsageError, match=f"There is no device {device!r}") as caught:
        timing.time_calls(lambda: None, device)
    assert caught.value.next_step == "use 'cuda' or 'cpu'."


def test_the_error_of_a_call_goes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        timing.time_calls(lambda: 1 / 0, "cpu", min_time_s=0.01)


REFUSED = """
import os
import torch
from mlk8s.bench import timing
from mlk8s.errors import GpuUnavailable
torch.cuda.is_available = lambda: False  # whatever this machine really has
print(torch.__version__, torch.version.cuda)
for _ in range(2):
    try:
        timing.require("cuda")
    except GpuUnavailable as error:
        print(error.problem, error.next_step, sep="|")
    os.environ["FAKE_INIT"] = "0"
"""


def test_a_gpu_that_pytorch_cannot_use(without_gpu: Run) -> None:
    done = without_gpu("-c", REFUSED)
    assert done.returncode == 0, done.stderr
    torch_is, *messages = done.stdout.splitlines()
    without_driver, with_driver = (line.split("|") for line in messages)
    # Where the driver is what is missing, it is what is named.
    assert "`nvidia` is not loaded" in without_driver[0]
    version, cuda = torch_is.split()
    why = "is the CPU build" if cuda == "None" else f"was built for CUDA {cuda}"
    assert with_driver[0] == (
        f"PyTorch {version} {why} and sees no CUDA device, though the driver does."
    )
    assert "`mlk8s doctor`" in with_driver[1] and "`make setup`" in with_driver[1]
