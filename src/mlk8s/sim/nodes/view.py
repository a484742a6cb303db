"""What can be seen of a node's devices: rows for an inventory, the text of ``nvidia-smi``."""

from __future__ import annotations

from collections.abc import Mapping

from mlk8s.sim.nodes import slices, smi
from mlk8s.sim.nodes.claims import Claims
from mlk8s.sim.nodes.devices import Gpu
from mlk8s.sim.nodes.mig import Instance
from mlk8s.sim.nodes.models import Profile
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
        for name, (gpu, profile, uuid) in slices.named(devices).items():
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


def text(state: NodeState, claims: Claims, pod: Object | None, listing: bool) -> str:
    """``nvidia-smi`` in a pod, or on the node where there is no pod."""
    devices = state.devices
    if devices is None:
        return smi.listing([])
    if state.smi_error:
        return f"{smi.NOTICE}\n{state.smi_error}\n"
    visible = _visible(state, claims, pod)
    seen: list[tuple[Gpu, list[Instance] | None]] = []
    for gpu in devices.gpus:
        mine = [each for each in gpu.instances or () if each.uuid in visible]
        if gpu.uuid in visible or mine:
            seen.append((gpu, mine or None))
    return smi.listing(seen) if listing else smi.table(seen)


def _visible(state: NodeState, claims: Claims, pod: Object | None) -> set[str]:
    assert state.devices is not None
    everything = {gpu.uuid for gpu in state.devices.gpus}
    everything |= {each.uuid for gpu in state.devices.gpus for each in gpu.instances or ()}
    if pod is None:
        return everything
    uid = pod["metadata"]["uid"]
    ids = {identity.partition("::")[0] for identity in state.devices.held_by(uid)}
    named = slices.named(state.devices)
    ids |= {named[name][2] for name in claims.devices_of(state.name, uid) if name in named}
    return ids or (everything if state.leaks else set())


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
