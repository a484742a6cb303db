"""Timing, on the processor that every machine has, and what it refuses."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess
from typing import Any

import pynvml
import pytest

from mlk8s.bench import timing
from mlk8s.bench.timing import Timing
from mlk8s.errors import UsageError
from mlk8s.gpu.probe import event_reasons

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
    # A block is long against the clock's resolution: 5 ms, of calls of 2 ms or, under load, more.
    assert 1 <= found.calls / found.blocks <= 3


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
    assert (found.reasons, found.others) == ("not a GPU", 0)
    assert found.median_ms > 0


def test_steady_is_said_only_of_what_was_seen_for_a_second() -> None:
    found = timing.time_calls(lambda: None, "cpu", min_time_s=0.02)
    assert (found.steady, found.warmup_s < 1.0) == (False, True)


@pytest.mark.parametrize("device", ["tpu", "", "cuda:0", "CPU"])
def test_an_unknown_device_is_refused(device: str) -> None:
    for measure in (timing.time_calls, timing.time_rested):
        with pytest.raises(UsageError, match=f"There is no device {device!r}") as caught:
            measure(lambda: None, device)
        assert caught.value.next_step == "use 'cuda' or 'cpu'."


def test_the_error_of_a_call_goes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        timing.time_calls(lambda: 1 / 0, "cpu", min_time_s=0.01)
    with pytest.raises(ZeroDivisionError):
        timing.time_rested(lambda: 1 / 0, "cpu")


# --- rested -------------------------------------------------------------------------------------


def test_a_rested_device_idles_most_of_the_time() -> None:
    spans: list[tuple[float, float]] = []

    def call() -> None:
        begin = time.perf_counter()
        time.sleep(0.001)
        spans.append((begin, time.perf_counter()))

    found = timing.time_rested(call, "cpu", bursts=3)
    end = time.perf_counter()
    assert found.blocks == 3 and found.calls in range(3 * 3, 3 * 12 + 1, 3)
    each = found.calls // 3
    timed = spans[-found.calls :]
    bursts = [timed[i * each : (i + 1) * each] for i in range(3)]
    busy = sum(burst[-1][1] - burst[0][0] for burst in bursts)
    idle = end - timed[0][0] - busy
    assert idle >= 2 * busy
    # After each burst, and not once at the end.
    for burst, then in zip(bursts, [bursts[1][0][0], bursts[2][0][0], end], strict=True):
        assert then - burst[-1][1] >= 2 * (burst[-1][1] - burst[0][0])


def test_what_comes_between_precedes_every_call_and_is_not_timed() -> None:
    done: list[str] = []

    def between() -> None:
        done.append("between")
        time.sleep(0.01)

    found = timing.time_rested(lambda: done.append("call"), "cpu", bursts=2, between=between)
    assert found.calls in range(2 * 3, 2 * 12 + 1, 2)
    assert len(done) > 2 * found.calls, "it was warmed up"
    assert done == ["between", "call"] * (len(done) // 2)
    assert found.p95_ms < 10, "shorter than what comes between"


def test_a_single_burst_has_no_spread() -> None:
    found = timing.time_rested(lambda: time.sleep(0.0005), "cpu", bursts=1)
    assert found.median_ms >= 0.5
    assert found.p5_ms == pytest.approx(found.median_ms) == found.p95_ms
    assert (found.blocks, found.steady, found.warmup_s) == (1, True, 0.0)
    assert 3 <= found.calls <= 12
    assert (found.flags, found.reasons) == ("", "not a GPU")


# --- flags --------------------------------------------------------------------------------------


def a_timing(**known: Any) -> Timing:
    """A timing without a fault, but for what is given."""
    clean = {"median_ms": 1.0, "p5_ms": 0.99, "p95_ms": 1.01, "calls": 30, "blocks": 10}
    return Timing(**{**clean, "warmup_s": 1.0, "steady": True, **known})


@pytest.mark.parametrize(
    ("known", "flags"),
    [
        ({}, ""),
        ({"steady": False}, "not steady"),
        ({"p5_ms": 0.85, "p95_ms": 1.09}, ""),  # 24 %, as a GPU at its power cap
        ({"p5_ms": 0.9, "p95_ms": 1.17}, "spread 27 %"),
        ({"median_ms": 4.0, "p5_ms": 4.0, "p95_ms": 6.0}, "spread 50 %"),
        ({"others": 1}, "busy: other processes on the GPU: 1"),
        ({"others": 3, "steady": False}, "busy: other processes on the GPU: 3, not steady"),
    ],
)
def test_what_a_reader_has_to_know(known: dict[str, Any], flags: str) -> None:
    assert a_timing(**known).flags == flags


@pytest.mark.parametrize(
    "bit",
    [
        pynvml.nvmlClocksEventReasonHwSlowdown,
        pynvml.nvmlClocksEventReasonSwThermalSlowdown,
        pynvml.nvmlClocksEventReasonHwThermalSlowdown,
        pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
    ],
)
def test_a_throttled_gpu_is_flagged(bit: int) -> None:
    (name,) = event_reasons(bit)
    assert a_timing(reasons=name).flags == f"throttled: {name}"
    # As `watch` joins several: the power cap is what a full load meets, and no fault.
    (cap,) = event_reasons(pynvml.nvmlClocksEventReasonSwPowerCap)
    both = a_timing(reasons=", ".join(sorted([name, cap])), steady=False)
    assert both.flags == f"throttled: {name}, not steady"


def test_several_faults_are_all_named() -> None:
    every = ", ".join(event_reasons(pynvml.nvmlClocksEventReasonAll))
    assert set(a_timing(reasons=every).flags.split(", ")) == {
        "throttled: hardware slowdown",
        "throttled: software thermal slowdown",
        "throttled: hardware thermal slowdown",
        "throttled: hardware power brake",
    }


@pytest.mark.parametrize(
    "bit",
    [
        pynvml.nvmlClocksEventReasonNone,
        pynvml.nvmlClocksEventReasonGpuIdle,
        pynvml.nvmlClocksEventReasonApplicationsClocksSetting,
        pynvml.nvmlClocksEventReasonSwPowerCap,
        pynvml.nvmlClocksEventReasonSyncBoost,
        pynvml.nvmlClocksEventReasonDisplayClockSetting,
    ],
)
def test_a_normal_limit_is_no_flag(bit: int) -> None:
    assert a_timing(reasons=", ".join(event_reasons(bit))).flags == ""


# --- interrupted, and how far it is -------------------------------------------------------------


def rows(stop: Callable[[], object] | None = None) -> Iterator[int]:
    """Three rows; ``stop`` is called where the third would be measured."""
    yield 1
    yield 2
    if stop:
        stop()
    yield 3


def test_all_rows_are_collected() -> None:
    assert timing.collected(rows()) == [1, 2, 3]
    assert timing.collected([]) == []


def test_an_interrupted_benchmark_keeps_its_rows() -> None:
    with pytest.raises(timing.Interrupted, match="interrupted after 2 measured rows") as caught:
        timing.collected(rows(lambda: signal.raise_signal(signal.SIGINT)))
    assert caught.value.rows == [1, 2]
    # Whoever knows nothing of rows still stops, as for any Ctrl-C.
    assert isinstance(caught.value, KeyboardInterrupt)


def test_another_error_is_not_an_interruption() -> None:
    with pytest.raises(ZeroDivisionError):
        timing.collected(rows(lambda: 1 / 0))


def test_progress_sees_the_steps_of_its_block_only() -> None:
    seen: list[tuple[str, int, int]] = []
    timing.step("before", 0, 1)
    with timing.progress(lambda *step: seen.append(step)):
        timing.step("first", 0, 2)
        timing.step("second", 1, 2)
    timing.step("after", 0, 1)
    assert seen == [("first", 0, 2), ("second", 1, 2)]


def test_progress_ends_with_an_error() -> None:
    seen: list[str] = []
    with pytest.raises(ZeroDivisionError), timing.progress(lambda what, *_: seen.append(what)):
        timing.step("measured", 0, 1)
        raise ZeroDivisionError
    timing.step("after", 0, 1)
    assert seen == ["measured"]


def test_an_inner_block_shows_its_own_steps() -> None:
    outer: list[str] = []
    inner: list[str] = []
    with timing.progress(lambda what, *_: outer.append(what)):
        with timing.progress(lambda what, *_: inner.append(what)):
            timing.step("inner", 0, 1)
        timing.step("outer", 0, 1)
    assert (outer, inner) == (["outer"], ["inner"])


# --- without a GPU ------------------------------------------------------------------------------


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
