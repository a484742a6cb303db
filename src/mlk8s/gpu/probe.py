"""What the driver says about each GPU: ``nvidia-smi -q`` for a program.

:func:`gpus` asks NVML, or the recording; the answer is plain dataclasses, one for each section.
Identifiers of the machine (UUID, serial number, host name) are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlk8s.gpu import nvml
from mlk8s.gpu.report import SECTIONS, Gpu, Reading
from mlk8s.gpu.source import live_provenance, measured
from mlk8s.provenance import Provenance

GIB = 2**30


def gpus() -> list[Gpu]:
    """Every GPU that NVML shows, or those of the recording.

    Raises:
        GpuUnavailable: live was asked for and NVML cannot answer.
    """
    table = _probe()
    return [_gpu(row, table.provenance[0]) for row in table]


def now() -> list[Gpu]:
    """Every GPU of this machine at this moment, whatever ``MLK8S_GPU`` says.

    For use inside measurements, which read the state of the device while they run.

    Raises:
        GpuUnavailable: NVML cannot answer.
    """
    provenance = live_provenance("read through NVML, one call a field")
    return [_gpu(row, provenance) for row in _read_all()]


def _gpu(row: Mapping[str, Any], provenance: Provenance) -> Gpu:
    sections = {name: kind(**row[name]) for name, kind in SECTIONS.items()}
    return Gpu(**sections, provenance=provenance)


@measured("gpu/probe", "read through NVML, one call a field")
def _probe() -> list[dict[str, Any]]:
    return _read_all()


def _read_all() -> list[dict[str, Any]]:
    pynvml = nvml.open_nvml()
    return [_probe_one(pynvml, nvml.handle(i)) for i in range(pynvml.nvmlDeviceGetCount())]


def _probe_one(n: Any, h: Any) -> dict[str, Any]:
    """All sections of one device as JSON."""
    read = nvml.read

    def scaled(value: Any, factor: float) -> Reading:
        return value if isinstance(value, str) else round(value * factor, 3)

    def part(value: Any, index: int | str) -> Any:
        if isinstance(value, str):
            return value
        return value[index] if isinstance(index, int) else getattr(value, index)

    def on(value: Any) -> str:
        return value if isinstance(value, str) else ("enabled" if value else "disabled")

    def field_value(identifier: int) -> Reading:
        values = read(n.nvmlDeviceGetFieldValues, h, [identifier])
        if isinstance(values, str) or values[0].nvmlReturn != n.NVML_SUCCESS:
            return nvml.NOT_SUPPORTED
        return int(values[0].value.uiVal)

    capability = read(n.nvmlDeviceGetCudaComputeCapability, h)
    limits = read(n.nvmlDeviceGetPowerManagementLimitConstraints, h)
    memory = read(lambda: n.nvmlDeviceGetMemoryInfo(h, version=n.nvmlMemory_v2))
    bar1 = read(n.nvmlDeviceGetBAR1MemoryInfo, h)
    ecc = read(n.nvmlDeviceGetEccMode, h)
    rows = read(n.nvmlDeviceGetRemappedRows, h)
    use = read(n.nvmlDeviceGetUtilizationRates, h)
    links = [read(n.nvmlDeviceGetNvLinkState, h, i) for i in range(n.NVML_NVLINK_MAX_LINKS)]
    active = [i for i, state in enumerate(links) if state == 1]
    mig = read(n.nvmlDeviceGetMigMode, h)
    compute = read(n.nvmlDeviceGetComputeRunningProcesses, h)
    graphics = read(n.nvmlDeviceGetGraphicsRunningProcesses, h)

    def errors(kind: int, counter: int) -> Reading:
        value: Reading = read(n.nvmlDeviceGetTotalEccErrors, h, kind, counter)
        return value

    return {
        "identity": {
            "name": read(n.nvmlDeviceGetName, h),
            "architecture": _named(n, "NVML_DEVICE_ARCH_", read(n.nvmlDeviceGetArchitecture, h)),
            "compute_capability": capability
            if isinstance(capability, str)
            else "{}.{}".format(*capability),
            "cuda_cores": read(n.nvmlDeviceGetNumGpuCores, h),
            "vbios": read(n.nvmlDeviceGetVbiosVersion, h),
            "driver": read(n.nvmlSystemGetDriverVersion),
            "highest_cuda": nvml.highest_cuda(),
            "persistence_mode": on(read(n.nvmlDeviceGetPersistenceMode, h)),
            "compute_mode": _named(n, "NVML_COMPUTEMODE_", read(n.nvmlDeviceGetComputeMode, h)),
        },
        "clocks": {
            "sm": read(n.nvmlDeviceGetClockInfo, h, n.NVML_CLOCK_SM),
            "memory": read(n.nvmlDeviceGetClockInfo, h, n.NVML_CLOCK_MEM),
            "max_sm": read(n.nvmlDeviceGetMaxClockInfo, h, n.NVML_CLOCK_SM),
            "max_memory": read(n.nvmlDeviceGetMaxClockInfo, h, n.NVML_CLOCK_MEM),
            "performance_state": scaled(read(n.nvmlDeviceGetPerformanceState, h), 1),
            "event_reasons": ", ".join(
                event_reasons(read(n.nvmlDeviceGetCurrentClocksEventReasons, h))
            ),
        },
        "power": {
            "draw": scaled(read(n.nvmlDeviceGetPowerUsage, h), 1e-3),
            "instant": scaled(field_value(n.NVML_FI_DEV_POWER_INSTANT), 1e-3),
            "limit": scaled(read(n.nvmlDeviceGetEnforcedPowerLimit, h), 1e-3),
            "default_limit": scaled(read(n.nvmlDeviceGetPowerManagementDefaultLimit, h), 1e-3),
            "min_limit": scaled(part(limits, 0), 1e-3),
            "max_limit": scaled(part(limits, 1), 1e-3),
            "energy": scaled(read(n.nvmlDeviceGetTotalEnergyConsumption, h), 1e-3),
        },
        "thermal": {
            "gpu": read(n.nvmlDeviceGetTemperature, h, n.NVML_TEMPERATURE_GPU),
            "memory": field_value(n.NVML_FI_DEV_MEMORY_TEMP),
            "slowdown": read(
                n.nvmlDeviceGetTemperatureThreshold, h, n.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
            ),
            "shutdown": read(
                n.nvmlDeviceGetTemperatureThreshold, h, n.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN
            ),
            "fan": read(n.nvmlDeviceGetFanSpeed, h),
        },
        "memory": {
            **{k: scaled(part(memory, k), 1 / GIB) for k in ("total", "reserved", "used", "free")},
            "bus_width": read(n.nvmlDeviceGetMemoryBusWidth, h),
            "bar1_total": scaled(part(bar1, "bar1Total"), 1 / GIB),
            "bar1_used": scaled(part(bar1, "bar1Used"), 1 / GIB),
        },
        "ecc": {
            "mode": on(part(ecc, 0)),
            "volatile_corrected": errors(0, 0),
            "volatile_uncorrected": errors(1, 0),
            "aggregate_corrected": errors(0, 1),
            "aggregate_uncorrected": errors(1, 1),
            "rows_remapped_corrected": part(rows, 0),
            "rows_remapped_uncorrected": part(rows, 1),
            "remapping_pending": bool(part(rows, 2)) if not isinstance(rows, str) else rows,
            "remapping_failed": bool(part(rows, 3)) if not isinstance(rows, str) else rows,
        },
        "links": {
            "pci_bus_id": part(read(n.nvmlDeviceGetPciInfo, h), "busId"),
            "pcie_generation": read(n.nvmlDeviceGetCurrPcieLinkGeneration, h),
            "pcie_max_generation": read(n.nvmlDeviceGetMaxPcieLinkGeneration, h),
            "pcie_width": read(n.nvmlDeviceGetCurrPcieLinkWidth, h),
            "pcie_max_width": read(n.nvmlDeviceGetMaxPcieLinkWidth, h),
            "pcie_replays": read(n.nvmlDeviceGetPcieReplayCounter, h),
            "nvlinks_active": len(active)
            if any(isinstance(s, int) for s in links)
            else nvml.NOT_SUPPORTED,
            "nvlink_version": read(n.nvmlDeviceGetNvLinkVersion, h, active[0])
            if active
            else nvml.NOT_SUPPORTED,
            "fabric": _fabric(n, h),
        },
        "activity": {
            "gpu_utilization": part(use, "gpu"),
            "memory_utilization": part(use, "memory"),
            "compute_processes": compute if isinstance(compute, str) else len(compute),
            "graphics_processes": graphics if isinstance(graphics, str) else len(graphics),
            "processes": [
                {
                    "pid": p.pid,
                    "kind": kind,
                    # NVML gives no number where it may not see into another container.
                    "memory": nvml.NOT_SUPPORTED
                    if p.usedGpuMemory is None
                    else round(p.usedGpuMemory / GIB, 3),
                }
                for kind, found in (("compute", compute), ("graphics", graphics))
                if not isinstance(found, str)
                for p in found
            ],
        },
        "mig": {
            "mode": on(part(mig, 0)),
            "pending_mode": on(part(mig, 1)),
            "max_instances": read(n.nvmlDeviceGetMaxMigDeviceCount, h),
            "profiles": [] if isinstance(mig, str) else _mig_profiles(n, h),
        },
    }


def _fabric(n: Any, h: Any) -> str:
    """State of the registration with the fabric manager (HGX boards)."""
    info = n.c_nvmlGpuFabricInfo_t()
    answer = nvml.read(n.nvmlDeviceGetGpuFabricInfo, h, n.byref(info))
    return answer if isinstance(answer, str) else _named(n, "NVML_GPU_FABRIC_STATE_", info.state)


def _mig_profiles(n: Any, h: Any) -> list[dict[str, Any]]:
    """GPU instance profiles with the placements that the device allows."""
    profiles = []
    for index in range(n.NVML_GPU_INSTANCE_PROFILE_COUNT):
        info = nvml.read(lambda i=index: n.nvmlDeviceGetGpuInstanceProfileInfo(h, i, version=2))
        if isinstance(info, str):
            continue
        places = (n.c_nvmlGpuInstancePlacement_t * 64)()
        count = n.c_uint(len(places))
        answer = nvml.read(
            n.nvmlDeviceGetGpuInstancePossiblePlacements,
            h,
            info.id,
            n.byref(places),
            n.byref(count),
        )
        profiles.append(
            {
                "name": info.name.decode() if isinstance(info.name, bytes) else str(info.name),
                "id": info.id,
                "slices": info.sliceCount,
                "sm": info.multiprocessorCount,
                "memory_mib": info.memorySizeMB,
                "max_instances": info.instanceCount,
                "placements": answer
                if isinstance(answer, str)
                else [{"start": p.start, "size": p.size} for p in places[: count.value]],
            }
        )
    return profiles


def _named(n: Any, prefix: str, value: Any) -> str:
    """The last part of the NVML constant with this prefix and value, in lower case."""
    if isinstance(value, str):
        return value
    for name in dir(n):
        if name.startswith(prefix) and getattr(n, name) == value:
            return name.removeprefix(prefix).lower().replace("_", " ")
    return f"unknown ({value})"


#: Bit → (reason, what it means to an operator). Source: nvml.h, nvmlClocksEventReasons and
#: nvmlClocksThrottleReason*; the last two bits from nvidia-ml-py 13.615.
EVENT_REASONS: dict[int, tuple[str, str]] = {
    0x1: ("GPU idle", "normal"),
    0x2: ("application clocks setting", "a setting"),
    0x4: ("software power cap", "normal under full load"),
    0x8: ("hardware slowdown", "a fault if it stays"),
    0x10: ("sync boost", "a setting"),
    0x20: ("software thermal slowdown", "cooling is short"),
    0x40: ("hardware thermal slowdown", "a fault"),
    0x80: ("hardware power brake", "a fault"),
    0x100: ("display clocks setting", "a setting"),
    0x200: ("board limit", "not documented"),
    0x400: ("reliability limit", "not documented"),
}


#: The reasons that an operator has to act on.
FAULTS = 0x8 | 0x20 | 0x40 | 0x80


def event_reasons(mask: int | str) -> list[str]:
    """Why the clocks are not higher, decoded bit by bit.

    Args:
        mask: NVML's bit mask, or the word that stands in for it.

    Returns:
        One name for each bit that is set, an unknown bit by its value; ``["none"]`` for zero.
    """
    if isinstance(mask, str):
        return [mask]
    bits = [1 << i for i in range(mask.bit_length()) if mask >> i & 1]
    return [EVENT_REASONS.get(b, (f"unknown bit {b:#x}", ""))[0] for b in bits] or ["none"]
