"""The background sampler on a fake GPU: when it samples, in which units, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from subprocess import CompletedProcess
from typing import Any

import pytest

from mlk8s.errors import UsageError
from mlk8s.gpu.watch import Sample, summary, watch

Run = Callable[..., CompletedProcess[str]]


def answer(done: CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


SAMPLED = """
import json, time
from dataclasses import asdict
from mlk8s import gpu
with gpu.watch(0, 0.05) as telemetry:
    begin = time.perf_counter()
    time.sleep(0.3)
    middle = time.perf_counter()
    time.sleep(0.3)
between = telemetry.between(begin, middle)
table = telemetry.table()
print(json.dumps({
    "samples": [asdict(s) for s in telemetry.samples],
    "rows": telemetry.rows(),
    "first half": len(between),
    "energy": telemetry.energy_j,
    "table": repr(table),
    "plotted": [len(t.y) for t in telemetry.plot().plotly.data],
}))
"""


def test_samples_arrive_at_the_interval_in_their_units(on_gpu: Run) -> None:
    found = answer(on_gpu("-c", SAMPLED, FAKE_REASONS="0x44"))
    samples = found["samples"]
    times = [s["time_s"] for s in samples]
    assert found["plotted"] == [len(samples)] * 4
    assert 4 <= len(samples) <= 14  # 12 in 0.6 s, fewer where the machine is busy
    assert times == sorted(times) and 0 <= times[0] < 0.05
    gaps = [b - a for a, b in pairwise(times)]
    assert 0.045 <= median(gaps) <= 0.15
    assert 0 < found["first half"] < len(samples)
    sample = {k: v for k, v in samples[0].items() if k not in ("time_s", "cost_ms")}
    assert sample == {
        "power_w": 312.5,  # NVML counts milliwatts
        "sm_mhz": 1755,
        "memory_mhz": 2619,
        "temperature_c": 41,
        "gpu_util": 87,
        "memory_util": 34,
        "used_gib": 21.0,  # NVML counts bytes
        "reasons": 0x44,
    }
    assert 0 < samples[0]["cost_ms"] < 50
    row = found["rows"][0]
    assert row["power [W]"] == 312.5
    assert row["memory used [GiB]"] == 21.0
    assert row["clocks limited by"] == "software power cap, hardware thermal slowdown"
    assert "NVML sampled every 0.05 s" not in found["table"]  # the method is in the badge
    assert found["table"].startswith("Telemetry\n")


def test_energy_is_the_difference_of_the_counter(on_gpu: Run) -> None:
    # The counter rises by 2.5 J at each reading, and it is read at the two ends only.
    assert answer(on_gpu("-c", SAMPLED))["energy"] == pytest.approx(2.5)


def test_what_the_device_lacks_is_none_not_zero(on_gpu: Run) -> None:
    found = answer(on_gpu("-c", SAMPLED, FAKE_RETURN="*=3"))
    assert found["energy"] is None
    sample = found["samples"][0]
    readings = {k: v for k, v in sample.items() if k not in ("time_s", "cost_ms")}
    assert set(readings.values()) == {None}
    assert found["rows"][0]["power [W]"] is None


ENDS = """
import json, threading, time
from mlk8s import gpu
from mlk8s.errors import GpuUnavailable
def running(): return any(t.name == "mlk8s-watch" for t in threading.enumerate())
found = {"error": None}
telemetry = gpu.watch(0, 0.01)
try:
    with telemetry:
        found["during"] = running()
        time.sleep(0.1)
        BODY
except (GpuUnavailable, ZeroDivisionError) as error:
    found["error"] = f"{type(error).__name__}: {error}"
found["after"] = running()
found["samples"] = len(telemetry.samples)
print(json.dumps(found))
"""


def test_the_thread_ends_with_the_block(on_gpu: Run) -> None:
    found = answer(on_gpu("-c", ENDS.replace("BODY", "pass")))
    assert (found["during"], found["after"], found["error"]) == (True, False, None)


def test_the_thread_ends_when_the_body_fails(on_gpu: Run) -> None:
    found = answer(on_gpu("-c", ENDS.replace("BODY", "1 / 0")))
    assert (found["during"], found["after"]) == (True, False)
    assert found["error"] == "ZeroDivisionError: division by zero"


def test_a_device_that_is_lost_is_an_error_at_the_end(on_gpu: Run) -> None:
    found = answer(on_gpu("-c", ENDS.replace("BODY", "pass"), FAKE_LOST_AFTER="20"))
    assert found["error"].startswith("GpuUnavailable: A GPU has fallen off the bus")
    assert not found["after"]
    assert 1 <= found["samples"] <= 3  # what was read before is kept


def test_the_error_of_the_body_is_not_hidden_by_a_lost_device(on_gpu: Run) -> None:
    found = answer(on_gpu("-c", ENDS.replace("BODY", "1 / 0"), FAKE_LOST_AFTER="20"))
    assert found["error"] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("interval", [0, -1, 0.009, 61, float("nan"), float("inf")])
def test_an_interval_that_shows_nothing_is_refused(interval: float) -> None:
    with pytest.raises(UsageError, match=r"interval of .* is outside 0.01 s to 60 s"):
        watch(0, interval)


def test_a_device_that_does_not_exist_is_refused_before_the_block(on_gpu: Run) -> None:
    code = """
from mlk8s import gpu
from mlk8s.errors import GpuUnavailable
try:
    gpu.watch(3)
except GpuUnavailable as error:
    print(error.problem)
"""
    assert on_gpu("-c", code).stdout == "There is no GPU 3: NVML reports 1.\n"


def test_no_gpu_is_refused(without_gpu: Run) -> None:
    code = """
from mlk8s import gpu
from mlk8s.errors import GpuUnavailable
try:
    gpu.watch()
except GpuUnavailable as error:
    print(error.problem)
"""
    assert "`nvidia` is not loaded" in without_gpu("-c", code).stdout


def sample(mhz: int | None, watts: float | None, reasons: int | None) -> Sample:
    return Sample(0.0, watts, mhz, None, None, None, None, None, reasons, 0.1)


def test_summary_of_a_window() -> None:
    window = [sample(1400, 690.0, 0x4), sample(1600, 700.0, 0x4), sample(None, 710.0, 0x40 | 0x4)]
    assert summary([*window, sample(1500, None, 0x0)]) == {
        "sm_clock_mhz": 1500,
        "power_w": 700.0,
        "power_capped": 0.75,
        "reasons": "hardware thermal slowdown, none, software power cap",
        "samples": 4,
    }


@pytest.mark.parametrize("window", [[], [sample(None, None, None)]])
def test_summary_without_readings(window: list[Sample]) -> None:
    assert summary(window) == {
        "sm_clock_mhz": None,
        "power_w": None,
        "power_capped": None,
        "reasons": "no sample",
        "samples": len(window),
    }
