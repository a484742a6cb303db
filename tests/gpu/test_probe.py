"""The probe against a fake GPU, reading by reading, and against the recorded one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from subprocess import CompletedProcess
from typing import Any

import pytest

from mlk8s.gpu import probe
from mlk8s.gpu.probe import EVENT_REASONS, FAULTS, event_reasons
from mlk8s.gpu.report import SECTIONS
from mlk8s.provenance import Kind

Run = Callable[..., CompletedProcess[str]]
Flat = Mapping[str, Any]

ALL = """
import json, os, sys
from dataclasses import asdict
from mlk8s.gpu import probe, report
found = {}
for case in json.loads(sys.argv[1]):
    os.environ["FAKE_RETURN"] = case
    (gpu,) = probe.now()
    found[case] = {f"{section}.{field}": value for section in report.SECTIONS
                   for field, value in asdict(getattr(gpu, section)).items()}
print(json.dumps(found))
"""

# Which fields rest on which function: they alone say "not supported" when it does.
RESTS_ON = {
    "nvmlDeviceGetArchitecture": ["identity.architecture"],
    "nvmlDeviceGetCudaComputeCapability": ["identity.compute_capability"],
    "nvmlDeviceGetNumGpuCores": ["identity.cuda_cores"],
    "nvmlDeviceGetVbiosVersion": ["identity.vbios"],
    "nvmlDeviceGetPersistenceMode": ["identity.persistence_mode"],
    "nvmlDeviceGetComputeMode": ["identity.compute_mode"],
    "nvmlDeviceGetClockInfo": ["clocks.sm", "clocks.memory"],
    "nvmlDeviceGetMaxClockInfo": ["clocks.max_sm", "clocks.max_memory"],
    "nvmlDeviceGetPerformanceState": ["clocks.performance_state"],
    "nvmlDeviceGetCurrentClocksEventReasons": ["clocks.event_reasons"],
    "nvmlDeviceGetPowerUsage": ["power.draw"],
    "field186": ["power.instant"],
    "nvmlDeviceGetEnforcedPowerLimit": ["power.limit"],
    "nvmlDeviceGetPowerManagementDefaultLimit": ["power.default_limit"],
    "nvmlDeviceGetPowerManagementLimitConstraints": ["power.min_limit", "power.max_limit"],
    "nvmlDeviceGetTotalEnergyConsumption": ["power.energy"],
    "nvmlDeviceGetTemperature": ["thermal.gpu"],
    "field82": ["thermal.memory"],
    "nvmlDeviceGetFieldValues": ["power.instant", "thermal.memory"],
    "nvmlDeviceGetTemperatureThreshold": ["thermal.slowdown", "thermal.shutdown"],
    "nvmlDeviceGetFanSpeed": ["thermal.fan"],
    "nvmlDeviceGetMemoryInfo_v2": [f"memory.{k}" for k in ("total", "reserved", "used", "free")],
    "nvmlDeviceGetMemoryBusWidth": ["memory.bus_width"],
    "nvmlDeviceGetBAR1MemoryInfo": ["memory.bar1_total", "memory.bar1_used"],
    "nvmlDeviceGetEccMode": ["ecc.mode"],
    "nvmlDeviceGetTotalEccErrors": [
        f"ecc.{scope}_{kind}"
        for scope in ("volatile", "aggregate")
        for kind in ("corrected", "uncorrected")
    ],
    "nvmlDeviceGetRemappedRows": [
        "ecc.rows_remapped_corrected",
        "ecc.rows_remapped_uncorrected",
        "ecc.remapping_pending",
        "ecc.remapping_failed",
    ],
    "nvmlDeviceGetPciInfo_v3": ["links.pci_bus_id"],
    "nvmlDeviceGetCurrPcieLinkGeneration": ["links.pcie_generation"],
    "nvmlDeviceGetMaxPcieLinkGeneration": ["links.pcie_max_generation"],
    "nvmlDeviceGetCurrPcieLinkWidth": ["links.pcie_width"],
    "nvmlDeviceGetMaxPcieLinkWidth": ["links.pcie_max_width"],
    "nvmlDeviceGetPcieReplayCounter": ["links.pcie_replays"],
    "nvmlDeviceGetNvLinkState": ["links.nvlinks_active", "links.nvlink_version"],
    "nvmlDeviceGetNvLinkVersion": ["links.nvlink_version"],
    "nvmlDeviceGetGpuFabricInfo": ["links.fabric"],
    "nvmlDeviceGetUtilizationRates": [
        "activity.gpu_utilization",
        "activity.memory_utilization",
    ],
    "nvmlDeviceGetComputeRunningProcesses_v3": [
        "activity.compute_processes",
        "activity.processes",
    ],
    "nvmlDeviceGetGraphicsRunningProcesses_v3": ["activity.graphics_processes"],
    "nvmlDeviceGetMaxMigDeviceCount": ["mig.max_instances"],
}
DRIVER = {"identity.name", "identity.driver", "identity.highest_cuda"}  # not of the device
LISTS = {"activity.processes", "mig.profiles"}
ENERGY = "power.energy"  # rises from reading to reading


@pytest.fixture(scope="module")
def readings(
    fake_nvml: os.PathLike[str], clean_environment: dict[str, str]
) -> Callable[[list[str]], dict[str, Flat]]:
    """All fields of the fake GPU, for each value of ``FAKE_RETURN``, from one process."""
    import subprocess
    import sys

    def read(cases: list[str]) -> dict[str, Flat]:
        done = subprocess.run(
            [sys.executable, "-c", ALL, json.dumps(cases)],
            env={**clean_environment, "LD_LIBRARY_PATH": str(fake_nvml)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Flat] = json.loads(done.stdout)
        return found

    return read


def test_every_reading_with_its_unit(
    readings: Callable[[list[str]], dict[str, Flat]],
) -> None:
    found = dict(readings([""])[""])
    profiles = found.pop("mig.profiles")
    assert found.pop("activity.processes") == [
        {"pid": 4242, "kind": "compute", "memory": 10.0},
        {"pid": 4243, "kind": "compute", "memory": 10.0},
    ]
    assert found.pop(ENERGY) == pytest.approx(9_000_002.5)
    assert found == {
        "identity.name": "NVIDIA H100 80GB HBM3",
        "identity.architecture": "hopper",
        "identity.compute_capability": "9.0",
        "identity.cuda_cores": 16896,
        "identity.vbios": "96.00.99.00.01",
        "identity.driver": "580.95.05",
        "identity.highest_cuda": "13.0",
        "identity.persistence_mode": "enabled",
        "identity.compute_mode": "exclusive process",
        "clocks.sm": 1755,
        "clocks.memory": 2619,
        "clocks.max_sm": 1980,
        "clocks.max_memory": 2619,
        "clocks.performance_state": 2,
        "clocks.event_reasons": "software power cap",
        "power.draw": 312.5,  # NVML counts milliwatts
        "power.instant": 355.25,
        "power.limit": 650.0,
        "power.default_limit": 700.0,
        "power.min_limit": 200.0,
        "power.max_limit": 710.0,
        "thermal.gpu": 41,
        "thermal.memory": 47,
        "thermal.slowdown": 89,
        "thermal.shutdown": 92,
        "thermal.fan": 35,
        "memory.total": 80.0,  # NVML counts bytes
        "memory.reserved": 1.0,
        "memory.used": 20.0,
        "memory.free": 59.0,
        "memory.bus_width": 5120,
        "memory.bar1_total": 128.0,
        "memory.bar1_used": 1.0,
        "ecc.mode": "enabled",
        "ecc.volatile_corrected": 0,
        "ecc.volatile_uncorrected": 0,
        "ecc.aggregate_corrected": 0,
        "ecc.aggregate_uncorrected": 0,
        "ecc.rows_remapped_corrected": 0,
        "ecc.rows_remapped_uncorrected": 0,
        "ecc.remapping_pending": False,
        "ecc.remapping_failed": False,
        "links.pci_bus_id": "00000000:18:00.0",
        "links.pcie_generation": 4,
        "links.pcie_max_generation": 5,
        "links.pcie_width": 8,
        "links.pcie_max_width": 16,
        "links.pcie_replays": 6,
        "links.nvlinks_active": 18,
        "links.nvlink_version": 7,
        "links.fabric": "completed",
        "activity.gpu_utilization": 87,
        "activity.memory_utilization": 34,
        "activity.compute_processes": 2,
        "activity.graphics_processes": 0,
        "mig.mode": "disabled",
        "mig.pending_mode": "disabled",
        "mig.max_instances": 7,
    }
    small, whole = profiles
    assert small == {
        "name": "MIG 1g.10gb",
        "id": 19,
        "slices": 1,
        "sm": 16,
        "memory_mib": 9984,
        "max_instances": 7,
        "placements": [{"start": i, "size": 1} for i in range(7)],
    }
    assert (whole["name"], whole["placements"]) == ("MIG 7g.80gb", [{"start": 0, "size": 8}])


def test_what_is_not_supported_says_so_and_nothing_else_changes(
    readings: Callable[[list[str]], dict[str, Flat]],
) -> None:
    found = readings(["", *(f"{name}=3" for name in RESTS_ON)])
    whole = found.pop("")
    for case, fields in found.items():
        affected = RESTS_ON[case.removesuffix("=3")]
        for name, value in fields.items():
            if name in affected:
                assert value == ([] if name in LISTS else "not supported"), (case, name)
            elif name != ENERGY:
                assert value == whole[name], (case, name)


def test_every_field_is_covered_by_the_test_above() -> None:
    named = {name for fields in RESTS_ON.values() for name in fields}
    hints = {f"{name}.{field}" for name, kind in SECTIONS.items() for field in kind.__annotations__}
    mig = {"mig.mode", "mig.pending_mode", "mig.profiles"}  # below
    assert hints - named - DRIVER == mig


def test_a_device_without_mig(readings: Callable[[list[str]], dict[str, Flat]]) -> None:
    case = "nvmlDeviceGetMigMode=3"
    fields = readings([case])[case]
    assert (fields["mig.mode"], fields["mig.pending_mode"]) == ("not supported",) * 2
    assert fields["mig.profiles"] == []


def test_a_device_that_supports_nothing(
    readings: Callable[[list[str]], dict[str, Flat]],
) -> None:
    fields = readings(["*=3"])["*=3"]
    assert all(fields[name] == [] for name in LISTS)
    others = {k: v for k, v in fields.items() if k not in DRIVER and k not in LISTS}
    assert set(others.values()) == {"not supported"}


def test_a_user_without_rights(readings: Callable[[list[str]], dict[str, Flat]]) -> None:
    case = "nvmlDeviceGetComputeRunningProcesses_v3=4,nvmlDeviceGetTotalEccErrors=4"
    fields = readings([case])[case]
    assert fields["activity.compute_processes"] == "no permission"
    assert fields["ecc.volatile_corrected"] == "no permission"


def test_placements_that_cannot_be_read(
    readings: Callable[[list[str]], dict[str, Flat]],
) -> None:
    case = "nvmlDeviceGetGpuInstancePossiblePlacements_v2=4"
    for profile in readings([case])[case]["mig.profiles"]:
        assert profile["placements"] == "no permission"


def test_a_lost_device_is_an_error(on_gpu: Run) -> None:
    code = """
from mlk8s.errors import GpuUnavailable
from mlk8s.gpu import probe
try:
    probe.gpus()
except GpuUnavailable as error:
    print(error.problem)
"""
    done = on_gpu("-c", code, FAKE_LOST_AFTER="12")
    assert done.stdout == "A GPU has fallen off the bus or is otherwise inaccessible.\n", done


def test_memory_of_a_process_that_cannot_be_seen(on_gpu: Run) -> None:
    code = """
from mlk8s import gpu
(device,) = gpu.gpus()
print([p["memory"] for p in device.activity.processes])
"""
    done = on_gpu("-c", code, FAKE_MEMORY="-1")
    assert done.stdout == "['not supported', 'not supported']\n", done.stderr


def test_words_stand_in_the_table_as_they_are(on_gpu: Run) -> None:
    code = """
from mlk8s import gpu
(device,) = gpu.gpus()
print(device.section("power"))
print(device)
"""
    done = on_gpu("-c", code, FAKE_RETURN="nvmlDeviceGetPowerUsage=3")
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "Power"
    assert "draw [W] not supported" in lines
    assert "limit [W] 650" in lines
    assert "power limit [W] 650" in lines  # in the table of all sections
    assert "links PCIe max generation 5" in lines
    assert lines[-1].startswith("[live · NVIDIA H100 80GB HBM3 · ")


# --- clocks event reasons -----------------------------------------------------------------------


@pytest.mark.parametrize("bit", EVENT_REASONS)
def test_each_bit_has_one_name(bit: int) -> None:
    assert event_reasons(bit) == [EVENT_REASONS[bit][0]]
    assert bit.bit_count() == 1


def test_bits_are_those_of_nvml() -> None:
    import pynvml

    names = {
        "GPU idle": "GpuIdle",
        "application clocks setting": "ApplicationsClocksSetting",
        "software power cap": "SwPowerCap",
        "hardware slowdown": "HwSlowdown",
        "sync boost": "SyncBoost",
        "software thermal slowdown": "SwThermalSlowdown",
        "hardware thermal slowdown": "HwThermalSlowdown",
        "hardware power brake": "HwPowerBrakeSlowdown",
        "display clocks setting": "DisplayClockSetting",
    }
    for bit, (name, _) in EVENT_REASONS.items():
        if name in names:
            values = {
                getattr(pynvml, f"nvmlClocks{word}Reason{names[name]}", None)
                for word in ("Event", "Throttle")
            } - {None}
            assert values == {bit}, name


def test_no_bit_is_no_reason() -> None:
    assert event_reasons(0) == ["none"]


def test_several_bits_are_all_named_lowest_first() -> None:
    assert event_reasons(0x4 | 0x40 | 0x1) == [
        "GPU idle",
        "software power cap",
        "hardware thermal slowdown",
    ]
    assert event_reasons(0x7FF) == [name for name, _ in EVENT_REASONS.values()]


def test_unknown_bits_are_shown_by_value() -> None:
    assert event_reasons(1 << 40) == ["unknown bit 0x10000000000"]
    assert event_reasons(0x4 | 0x8000) == ["software power cap", "unknown bit 0x8000"]


def test_a_word_in_place_of_the_mask_stays() -> None:
    assert event_reasons("not supported") == ["not supported"]


def test_faults_are_the_slowdowns_that_somebody_has_to_repair() -> None:
    assert event_reasons(FAULTS) == [
        "hardware slowdown",
        "software thermal slowdown",
        "hardware thermal slowdown",
        "hardware power brake",
    ]


# --- recorded -----------------------------------------------------------------------------------


def test_the_recorded_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLK8S_GPU", "h100-sxm")
    device, *_ = probe.gpus()
    assert device.identity.name == "NVIDIA H100 80GB HBM3"
    assert device.provenance.kind is Kind.RECORDED
    assert device.clocks.max_sm == 1980
    assert isinstance(device.memory.total, float) and 79 < device.memory.total < 80
    parts = [device.memory.reserved, device.memory.used, device.memory.free]
    assert sum(float(p) for p in parts) == pytest.approx(device.memory.total, abs=0.01)
    assert device.thermal.fan == "not supported"  # the module has none
    assert len(device.mig.profiles) >= 5
    assert len(device.table()) == sum(len(device.section(name)) for name in SECTIONS)
    assert "<table>" in device._repr_html_()
