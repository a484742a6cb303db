"""What can be seen of a node's devices: an inventory's rows, what ``nvidia-smi`` shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mlk8s.sim.nodes import slices, smi
from mlk8s.sim.nodes.claims import Claims
from mlk8s.sim.nodes.devices import Gpu
from mlk8s.sim.nodes.mig import Instance
from mlk8s.sim.nodes.models import CUDA, DRIVER, Profile
from mlk8s.sim.nodes.state import NodeState
from mlk8s.sim.status import Object


def rows(state: NodeState, claims: Claims, pods: Mapping[str, str]) -> list[Object]:
    """One row per device or share of a node.

    Args:
        state: of the node.
        claims: who holds DRA devices.
        pods: uid → ``namespace/name`` of the pods that were given devices.
    """
    devices = state.devices
    if devices is None:
        return []
    found = []
    if state.spec.dra:
        for name, (gpu, profile, uuid) in slices.named(_gpus(state, claims)).items():
            if profile is not None or gpu.instances is None:
                healthy = not {uuid, gpu.uuid} & devices.unhealthy
                found.append(_row(uuid, gpu, profile, "", healthy, claims.holder(state.name, name)))
        return found
    holders = devices.holders()
    for unit in devices.units():
        holder = pods.get(holders.get(unit.id, ""))
        healthy = devices.is_healthy(unit)
        found.append(_row(unit.id, unit.gpu, unit.profile, unit.resource, healthy, holder))
    return found


def visible(
    state: NodeState, claims: Claims, pod: Object | None, devices: Collection[str] | None
) -> smi.Seen:
    """What ``nvidia-smi`` can see.

    Args:
        state: of the node.
        claims: who holds DRA devices.
        pod: where it is called; on the node where there is none.
        devices: ids of the devices of the container; all of the pod where ``None``.
    """
    only = state.smi_pods
    concerned = only is None or (pod is not None and pod["metadata"]["uid"] in only)
    seen: smi.Seen = {
        "driver": DRIVER,
        "cuda": CUDA,
        "error": state.smi_error if concerned else "",
        "error_code": state.smi_code if concerned else 0,
        "gpus": [],
    }
    if state.devices is None:
        return seen
    gpus = _gpus(state, claims)
    ids = _ids(state, gpus, claims, pod, devices)
    for gpu in gpus:
        instances = [each for each in gpu.instances or () if each.uuid in ids]
        if gpu.uuid in ids or instances:
            seen["gpus"].append(_gpu(gpu, instances))
    return seen


def _gpus(state: NodeState, claims: Claims) -> list[Gpu]:
    """A node's GPUs with the MIG devices that exist at present."""
    assert state.devices is not None
    if state.spec.dra != "dynamic":
        return state.devices.gpus
    return [
        slices.partitioned(gpu, lambda name: claims.holder(state.name, name))
        for gpu in state.devices.gpus
    ]


def _ids(
    state: NodeState,
    gpus: list[Gpu],
    claims: Claims,
    pod: Object | None,
    devices: Collection[str] | None,
) -> set[str]:
    assert state.devices is not None
    everything = {gpu.uuid for gpu in gpus}
    everything |= {each.uuid for gpu in gpus for each in gpu.instances or ()}
    if pod is None:
        return everything
    uid = pod["metadata"]["uid"]
    held = state.devices.held_by(uid) if devices is None else devices
    ids = {identity.partition("::")[0] for identity in held}
    named = slices.named(gpus)
    ids |= {named[name][2] for name in claims.devices_of(state.name, uid) if name in named}
    return ids or (everything if state.leaks() else set())


def _gpu(gpu: Gpu, instances: list[Instance]) -> Object:
    supported = "Disabled" if gpu.model.profiles else "N/A"
    return {
        "name": gpu.model.name,
        "uuid": gpu.uuid,
        "bus": f"00000000:{0x18 + 0x10 * gpu.index:02X}:00.0",
        "memory": gpu.model.memory_mib,
        "watts": gpu.model.watts,
        "compute": gpu.model.compute,
        "architecture": gpu.model.architecture,
        "mig": "Enabled" if gpu.instances is not None else supported,
        "instances": [
            {
                "gi": each.gi,
                "uuid": each.uuid,
                "profile": each.profile.name,
                "memory": each.profile.memory_mib,
                "sms": each.profile.sms,
                "copy": each.profile.copy,
                "encoder": each.profile.encoder,
                "decoder": each.profile.decoder,
                "ofa": each.profile.ofa,
                "jpeg": each.profile.jpeg,
            }
            for each in instances
        ],
    }


def _row(
    identity: str,
    gpu: Gpu,
    profile: Profile | None,
    resource: str,
    healthy: bool,
    holder: str | None,
) -> Object:
    return {
        "id": identity,
        "gpu": gpu.index,
        "product": gpu.model.name,
        "profile": profile.name if profile else "",
        "memoryMiB": profile.memory_mib if profile else gpu.model.memory_mib,
        "resource": resource,
        "healthy": healthy,
        "holder": holder,
    }
