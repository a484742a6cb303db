"""The device under a benchmark: what is free on it, its cache, who else uses it, its name."""

from __future__ import annotations

import json
import platform
from collections import namedtuple
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from mlk8s.bench import device
from mlk8s.errors import UsageError
from mlk8s.provenance import Kind

Run = Callable[..., CompletedProcess[str]]

GIB = 2**30


# --- free memory --------------------------------------------------------------------------------


def test_the_free_memory_is_what_linux_calls_available() -> None:
    # /proc/meminfo, MemAvailable (Linux, Documentation/filesystems/proc.rst): what can be had
    # without swapping, caches that can be dropped included.
    lines = Path("/proc/meminfo").read_text().splitlines()
    (available,) = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    # Other processes allocate meanwhile.
    assert device.free_bytes("cpu") == pytest.approx(int(available) * 1024, rel=0.25)


def test_what_pytorch_keeps_for_later_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    # The driver counts what PyTorch's allocator keeps as used: 3 GiB until it is given back.
    kept = [3 * GIB]
    monkeypatch.setattr(torch.cuda, "empty_cache", kept.clear)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (60 * GIB - sum(kept), 80 * GIB))
    assert device.free_bytes("cuda") == 60 * GIB


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Set what the driver and the operating system say of free memory, bytes."""
    import psutil
    import torch

    reading = namedtuple("reading", "available")

    def set_to(gpu: int, machine: int) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (gpu, 80 * GIB))
        monkeypatch.setattr(psutil, "virtual_memory", lambda: reading(machine))

    return set_to


@pytest.mark.parametrize(
    ("where", "name"), [("cuda", "the GPU's memory"), ("cpu", "this machine's memory")]
)
def test_nine_tenths_of_what_is_free_may_be_asked_for(
    free: Callable[[int, int], None], where: str, name: str
) -> None:
    free(*((10 * GIB, 0) if where == "cuda" else (0, 10 * GIB)))
    device.require_free(9 * GIB, where, "A copy")
    with pytest.raises(UsageError) as caught:
        device.require_free(9 * GIB + 1, where, "A 9 GiB copy")
    assert caught.value.problem == (
        f"A 9 GiB copy needs 9.0 GiB, and 10.0 GiB of {name} are free, of which at most 90% are "
        "used."
    )
    assert caught.value.next_step == "use a smaller size, or end what else holds memory there."


def test_large_sizes_are_readable(free: Callable[[int, int], None]) -> None:
    free(0, 1536 * GIB)
    with pytest.raises(UsageError, match=r"needs 1,048,576\.0 GiB, and 1,536\.0 GiB of this"):
        device.require_free(2**50, "cpu", "A copy")


# --- the cache ----------------------------------------------------------------------------------


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Make the files that Linux describes the caches of the first core in."""
    monkeypatch.setattr(device, "Path", lambda path: tmp_path / str(path).lstrip("/"))

    def make(*described: tuple[str, str, str]) -> None:
        for i, (level, kind, size) in enumerate(described):
            # Linux, Documentation/ABI/testing/sysfs-devices-system-cpu: size in units of 1024
            # bytes, written with a K (drivers/base/cacheinfo.c, size_show).
            folder = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{i}"
            folder.mkdir(parents=True)
            for name, text in (("level", level), ("type", kind), ("size", size)):
                (folder / name).write_text(f"{text}\n")

    return make


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        # AMD EPYC 9654: 32 KiB and 32 KiB, 1 MiB, 32 MiB shared by 8 cores (AMD, product page).
        (
            [
                ("1", "Data", "32K"),
                ("1", "Instruction", "32K"),
                ("2", "Unified", "1024K"),
                ("3", "Unified", "32768K"),
            ],
            32 * 2**20,
        ),
        # Raspberry Pi 4, Cortex-A72: no third level.
        (
            [("2", "Unified", "1024K"), ("1", "Data", "32K"), ("1", "Instruction", "48K")],
            2**20,
        ),
        ([], None),  # a virtual machine that does not show them
    ],
)
def test_the_cache_of_a_processor_is_the_last_level(
    caches: Callable[..., None], described: list[tuple[str, str, str]], expected: int | None
) -> None:
    caches(*described)
    assert device.cache_bytes("cpu") == expected


def test_the_cache_of_a_gpu_is_its_l2(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    # What CUDA reports for an H100 SXM5 of 80 GB, cudaDeviceProp::l2CacheSize.
    properties = namedtuple("properties", "L2_cache_size")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties(52428800))
    assert device.cache_bytes("cuda") == 50 * 2**20


# --- who else -----------------------------------------------------------------------------------

OTHERS = """
import json
from collections import namedtuple
import pynvml
import torch
from mlk8s.bench import device
from mlk8s.errors import Mlk8sError
# PyTorch's number of a device leads to NVML's by the UUID, which the stand-in does not have.
properties = namedtuple("properties", "uuid")
torch.cuda.get_device_properties = lambda ordinal: properties("11111111-2222")
def by_uuid(uuid):
    assert uuid == "GPU-11111111-2222", uuid
    return pynvml.nvmlDeviceGetHandleByIndex(0)
pynvml.nvmlDeviceGetHandleByUUID = by_uuid
found = []
try:
    found.append(device.other_processes())
    process = namedtuple("process", "pid")
    for pids in ([], [7], [7, 7], [7, 8, 9]):
        listed = list(map(process, pids))
        pynvml.nvmlDeviceGetComputeRunningProcesses = lambda handle: listed
        found.append(device.other_processes())
except Mlk8sError as error:
    found.append(error.problem)
print(json.dumps(found))
"""


def others(run: Run, **variables: str) -> Any:
    done = run("-c", OTHERS, **variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_other_processes_are_those_besides_this_one(on_gpu: Run) -> None:
    # The fake GPU has two. A process on several MIG instances is listed for each, and none is
    # listed where the driver cannot see into the container.
    assert others(on_gpu) == [1, 0, 0, 0, 2]


@pytest.mark.parametrize("code", ["3", "4"])  # not supported, no permission
def test_no_process_is_claimed_where_none_is_shown(on_gpu: Run, code: str) -> None:
    found = others(on_gpu, FAKE_RETURN=f"nvmlDeviceGetComputeRunningProcesses_v3={code}")
    assert found[0] == 0


def test_a_lost_gpu_is_not_an_idle_one(on_gpu: Run) -> None:
    (problem,) = others(on_gpu, FAKE_RETURN="nvmlDeviceGetComputeRunningProcesses_v3=15")
    assert "fallen off the bus" in problem


# --- where it was measured ----------------------------------------------------------------------


def test_a_processor_is_named_with_its_threads() -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = device.cpu_provenance("timed by the clock")
    finally:
        torch.set_num_threads(before)
    assert (found.kind, found.method) == (Kind.LIVE, "timed by the clock")
    assert found.device is not None
    assert (found.device.name, found.device.part) == (f"{platform.machine()} CPU, 1 threads", "cpu")
    # The version of the package, to which PyTorch adds how it was built.
    software = dict(found.software)
    assert list(software) == ["torch"]
    assert torch.__version__.startswith(software["torch"].split("+")[0])
    assert found.date is not None
    assert date.today() - date.fromisoformat(found.date) <= timedelta(days=1)  # over midnight


def test_several_processes_are_named_in_place_of_threads() -> None:
    found = device.cpu_provenance("timed by the clock", 4)
    assert found.device is not None
    assert found.device.name == f"{platform.machine()} CPU, 4 processes"
