"""ResourceSlices as NVIDIA's DRA driver 0.5 publishes them (``cmd/gpu-kubelet-plugin``)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from mlk8s.sim import quantity
from mlk8s.sim.nodes import mig
from mlk8s.sim.nodes.devices import Devices, Gpu
from mlk8s.sim.nodes.mig import Instance
from mlk8s.sim.nodes.models import CUDA, DRIVER, Profile
from mlk8s.sim.status import Object

DRA_DRIVER = "gpu.nvidia.com"


def resource_slices(
    devices: Devices, node: str, generation: int = 1, dynamic: bool = False
) -> list[Object]:
    """The slices of a node, without metadata that the API server sets.

    Args:
        devices: of the node; those that are sick are left out.
        node: its name, which is the pool's as well.
        generation: of the pool; raised with each change.
        dynamic: announce every MIG device that could be made, with shared counters (feature gate
            ``DynamicMIG``), rather than those that exist. Counters then have a slice of their
            own, and each GPU one.
    """
    gpus = [gpu for gpu in devices.gpus if gpu.uuid not in devices.unhealthy]
    specs: list[dict[str, Any]]
    if dynamic and devices.model.profiles:
        specs = [{"sharedCounters": [_counter_set(gpu) for gpu in gpus]}]
        specs += [{"devices": _possible(gpu)} for gpu in gpus]
    else:
        specs = [{"devices": [device for gpu in gpus for device in _existing(gpu, devices)]}]
    pool = {"name": node, "generation": generation, "resourceSliceCount": len(specs)}
    return [
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"generateName": f"{node}-{DRA_DRIVER}-"},
            "spec": {"driver": DRA_DRIVER, "nodeName": node, "pool": dict(pool), **spec},
        }
        for spec in specs
    ]


def device_name(gpu: Gpu, profile: Profile | None = None, start: int = 0) -> str:
    """The device's name in a slice: ``gpu-0``, ``gpu-0-mig-1g10gb-19-0``."""
    if profile is None:
        return f"gpu-{gpu.index}"
    short = re.sub(r"[^a-z0-9-]", "-", profile.name.replace(".", "").lower()).strip("-")
    return f"gpu-{gpu.index}-mig-{short}-{profile.id}-{start}"


def named(gpus: Iterable[Gpu]) -> dict[str, tuple[Gpu, Profile | None, str]]:
    """Name in a slice → GPU, profile and UUID, for whole GPUs and all MIG devices that exist."""
    found: dict[str, tuple[Gpu, Profile | None, str]] = {}
    for gpu in gpus:
        found[device_name(gpu)] = (gpu, None, gpu.uuid)
        for each in gpu.instances or ():
            found[device_name(gpu, each.profile, each.start)] = (gpu, each.profile, each.uuid)
    return found


def partitioned(gpu: Gpu, used: Callable[[str], object]) -> Gpu:
    """A GPU as ``DynamicMIG`` has it: with the MIG devices that pods use, and no others.

    The driver makes a MIG device when a pod that has a claim to it starts, and removes it after.

    Args:
        gpu: without MIG devices of its own.
        used: whether a pod uses the device of this name.
    """
    made = [
        mig.instance(gpu.uuid, gpu.model, profile, start)
        for profile in gpu.model.profiles
        for start in profile.starts
        if used(device_name(gpu, profile, start))
    ]
    return replace(gpu, instances=sorted(made, key=lambda each: each.start) or None)


def _existing(gpu: Gpu, devices: Devices) -> list[Object]:
    if gpu.instances is None:
        return [_whole(gpu)]
    return [_made(gpu, each) for each in gpu.instances if each.uuid not in devices.unhealthy]


def _possible(gpu: Gpu) -> list[Object]:
    whole = _whole(gpu)
    whole["capacity"] = _values(_most(gpu))
    whole["consumesCounters"] = [_counter_set(gpu, "counterSet")]
    found = [whole]
    for profile in gpu.model.profiles:
        for start in profile.starts:
            counters = _counters(_capacities(profile), range(start, start + profile.size))
            found.append(
                {
                    "name": device_name(gpu, profile, start),
                    "attributes": _mig_attributes(gpu, profile),
                    "capacity": _values(_capacities(profile)),
                    "consumesCounters": [{"counterSet": _set_name(gpu), "counters": counters}],
                }
            )
    return found


def _whole(gpu: Gpu) -> Object:
    attributes = {"type": {"string": "gpu"}, "uuid": {"string": gpu.uuid}, **_common(gpu)}
    memory = {"memory": gpu.model.memory_mib * 1024**2}
    return {"name": device_name(gpu), "attributes": attributes, "capacity": _values(memory)}


def _made(gpu: Gpu, each: Instance) -> Object:
    slices = range(each.start, each.start + each.profile.size)
    capacity = _capacities(each.profile) | {f"memorySlice{slot}": 1 for slot in slices}
    return {
        "name": device_name(gpu, each.profile, each.start),
        "attributes": {"uuid": {"string": each.uuid}, **_mig_attributes(gpu, each.profile)},
        "capacity": _values(capacity),
    }


def _mig_attributes(gpu: Gpu, profile: Profile) -> Object:
    return {
        "type": {"string": "mig"},
        "parentUUID": {"string": gpu.uuid},
        "profile": {"string": profile.name},
        **_common(gpu),
    }


def _common(gpu: Gpu) -> Object:
    bus = f"{0x18 + 0x10 * gpu.index:02x}"
    return {
        "productName": {"string": gpu.model.name},
        "brand": {"string": "Nvidia"},
        "architecture": {"string": gpu.model.architecture},
        "cudaComputeCapability": {"version": _version(gpu.model.compute)},
        "driverVersion": {"version": _version(DRIVER)},
        "cudaDriverVersion": {"version": _version(CUDA)},
        "resource.kubernetes.io/pciBusID": {"string": f"0000:{bus}:00.0"},
        "resource.kubernetes.io/pcieRoot": {"string": f"pci0000:{bus[0]}0"},
        # The first half of the GPUs hangs off the first socket.
        "resource.kubernetes.io/numaNode": {"int": 0 if gpu.index < 4 else 1},
    }


def _version(text: str) -> str:
    """Three numbers without leading zeros: semantic versions have neither fewer nor those."""
    numbers = [str(int(part)) for part in text.split(".")]
    return ".".join([*numbers, "0", "0"][:3])


def _capacities(profile: Profile) -> dict[str, int]:
    return {
        "multiprocessors": profile.sms,
        "copyEngines": profile.copy,
        "decoders": profile.decoder,
        "encoders": profile.encoder,
        "jpegEngines": profile.jpeg,
        "ofaEngines": profile.ofa,
        "memory": profile.memory_mib * 1024**2,
    }


def _most(gpu: Gpu) -> dict[str, int]:
    """The largest value of each dimension over all profiles: what partitions can consume."""
    found: dict[str, int] = {}
    for profile in gpu.model.profiles:
        for key, value in _capacities(profile).items():
            found[key] = max(value, found.get(key, 0))
    return found


def _values(numbers: dict[str, int]) -> Object:
    return {key: {"value": quantity.of(number, "1Ki")} for key, number in numbers.items()}


def _set_name(gpu: Gpu) -> str:
    return f"gpu-{gpu.index}-counter-set"


def _counter_set(gpu: Gpu, key: str = "name") -> Object:
    slices = range(gpu.model.memory_slices)
    return {key: _set_name(gpu), "counters": _counters(_most(gpu), slices)}


def _counters(numbers: dict[str, int], slices: range) -> Object:
    dashed = {re.sub(r"([a-z0-9])([A-Z])", r"\1-\2", k).lower(): v for k, v in numbers.items()}
    return _values(dashed | {f"memory-slice-{slot}": 1 for slot in slices})
