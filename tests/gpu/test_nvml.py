"""The way to the driver: what each failure of it becomes, and that NVML is opened once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

Run = Callable[..., CompletedProcess[str]]

OPEN = """
import json
from mlk8s.errors import Mlk8sError
from mlk8s.gpu import nvml, source
try:
    nvml.open_nvml()
    print(json.dumps({"error": None, "live": source.is_live()}))
except Mlk8sError as error:
    print(json.dumps({"error": type(error).__name__, "problem": error.problem,
                      "next": error.next_step}))
"""


def answer(done: CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("code", "error", "problem", "step"),
    [
        ("9", "NoGpu", "kernel module `nvidia` is not loaded", "modprobe nvidia"),
        ("12", "NoGpu", "no NVML library", "install the NVIDIA driver"),
        ("18", "GpuUnavailable", "Driver/library version mismatch", "reboot"),
        ("4", "GpuUnavailable", "refused permission", "/dev/nvidia*"),
        ("15", "GpuUnavailable", "fallen off the bus", "Xid"),
        ("999", "GpuUnavailable", "NVML failed: Unknown Error", "nvidia-smi"),
        ("77", "GpuUnavailable", "an error of the stand-in", "nvidia-smi"),
    ],
)
def test_failure_to_initialize(on_gpu: Run, code: str, error: str, problem: str, step: str) -> None:
    found = answer(on_gpu("-c", OPEN, FAKE_INIT=code))
    assert found["error"] == error
    assert problem in found["problem"]
    assert step in found["next"]
    # Whatever is wrong with the driver, a recording can be read.
    assert "MLK8S_GPU=recorded" in found["next"]


def test_no_device(on_gpu: Run) -> None:
    found = answer(on_gpu("-c", OPEN, FAKE_DEVICES="0"))
    assert found["error"] == "NoGpu"
    assert "reports no device" in found["problem"]


def test_a_library_that_is_not_nvml(
    process: Run, compile_library: Callable[[Path], Path], tmp_path: Path
) -> None:
    source = tmp_path / "other.c"
    source.write_text("int something_else(void) { return 0; }\n")
    folder = compile_library(source)
    found = answer(process("-c", OPEN, LD_LIBRARY_PATH=str(folder)))
    assert found["error"] == "GpuUnavailable"
    assert "Function Not Found" in found["problem"]


def test_a_damaged_library_is_not_taken_for_a_missing_one(process: Run, tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("this is no shared library\n" * 10)
    found = answer(process("-c", OPEN, LD_LIBRARY_PATH=str(tmp_path)))
    assert found["error"] == "GpuUnavailable"
    assert "cannot be loaded" in found["problem"]
    assert "libnvidia-ml.so.1" in found["problem"]
    assert "reinstall" in found["next"]


def test_opened_once_and_closed_once(on_gpu: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = """
import threading
from mlk8s import gpu
from mlk8s.gpu import nvml, probe, source
threads = [threading.Thread(target=nvml.open_nvml) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
gpu.gpus(); probe.now(); source.device(); gpu.origin()
with gpu.watch(0, 0.01): pass
"""
    done = on_gpu("-c", code, FAKE_LOG=str(log))
    assert done.returncode == 0, done.stderr
    assert log.read_text().split() == ["init", "shutdown"]


def test_what_is_repaired_is_seen_without_a_restart(on_gpu: Run) -> None:
    code = """
import os
from mlk8s.errors import GpuUnavailable
from mlk8s.gpu import nvml
try:
    nvml.open_nvml()
except GpuUnavailable:
    del os.environ["FAKE_INIT"]
    print(nvml.open_nvml().nvmlDeviceGetCount())
"""
    done = on_gpu("-c", code, FAKE_INIT="9")
    assert done.stdout == "1\n", done.stderr


READ = """
import json, os
from mlk8s.errors import GpuUnavailable
from mlk8s.gpu import nvml
n, h = nvml.open_nvml(), nvml.handle(0)
found = {}
for code in (0, 2, 3, 4, 6, 13, 15, 999):
    os.environ["FAKE_RETURN"] = f"nvmlDeviceGetPowerUsage={code}"
    try:
        found[code] = nvml.read(n.nvmlDeviceGetPowerUsage, h)
    except GpuUnavailable as error:
        found[code] = error.problem
print(json.dumps(found))
"""


def test_a_reading_is_a_value_a_word_or_an_error(on_gpu: Run) -> None:
    found = answer(on_gpu("-c", READ))
    assert found == {
        "0": 312500,
        "2": "not supported",
        "3": "not supported",
        "4": "no permission",
        "6": "not supported",
        "13": "not supported",
        "15": "A GPU has fallen off the bus or is otherwise inaccessible.",
        "999": "NVML failed: Unknown Error.",
    }


def test_a_function_that_an_older_driver_lacks_is_not_supported(on_gpu: Run) -> None:
    code = """
from mlk8s.gpu import nvml
n, h = nvml.open_nvml(), nvml.handle(0)
print(nvml.read(n.nvmlDeviceGetMinorNumber, h))
"""
    done = on_gpu("-c", code)
    assert done.stdout == "not supported\n", done.stderr


@pytest.mark.parametrize("index", [1, -1])
def test_a_device_that_does_not_exist(on_gpu: Run, index: int) -> None:
    code = OPEN.replace("nvml.open_nvml()", f"nvml.handle({index})")
    found = answer(on_gpu("-c", code))
    assert found["error"] == "GpuUnavailable"
    assert found["problem"] == f"There is no GPU {index}: NVML reports 1."


@pytest.mark.parametrize(("code", "problem"), [("15", "fallen off the bus"), ("4", "permission")])
def test_a_device_that_cannot_be_reached(on_gpu: Run, code: str, problem: str) -> None:
    wanted = OPEN.replace("nvml.open_nvml()", "nvml.handle(0)")
    found = answer(on_gpu("-c", wanted, FAKE_RETURN=f"nvmlDeviceGetHandleByIndex_v2={code}"))
    assert found["error"] == "GpuUnavailable"
    assert problem in found["problem"]
