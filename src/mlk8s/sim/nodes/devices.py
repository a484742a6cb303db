"""A node's GPUs: what is advertised to the kubelet, and which pod holds which.

Pure: no API, no clock. The rules are those of k8s-device-plugin 0.20 and of the kubelet's device
manager (``pkg/kubelet/cm/devicemanager/manager.go``).
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mlk8s.sim.nodes import mig
from mlk8s.sim.nodes.config import MPS, PluginConfig
from mlk8s.sim.nodes.models import Model, Profile

GPU = "nvidia.com/gpu"


class AdmissionError(Exception):
    """The kubelet refuses a pod.

    Attributes:
        reason: of the pod's status and of the event, ``UnexpectedAdmissionError``.
        message: of the event; the pod's status says ``Pod was rejected: `` before it.
    """

    def __init__(self, message: str, reason: str = "UnexpectedAdmissionError") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass
class Gpu:
    """A physical GPU.

    Attributes:
        instances: its MIG devices; ``None`` where MIG is disabled.
    """

    index: int
    uuid: str
    model: Model
    instances: list[mig.Instance] | None = None

    @property
    def layout(self) -> mig.Wanted:
        """The profiles on it, sorted; ``None`` where MIG is disabled."""
        if self.instances is None:
            return None
        return tuple(sorted(each.profile.name for each in self.instances))


@dataclass(frozen=True)
class Unit:
    """Something that a container can be given.

    Attributes:
        id: ``GPU-…`` or ``MIG-…``, with ``::n`` for a share.
        profile: ``None`` for a whole GPU.
    """

    id: str
    gpu: Gpu = field(repr=False, compare=False)
    profile: Profile | None
    resource: str

    @property
    def device(self) -> str:
        """The id without the share."""
        return self.id.partition("::")[0]


class Devices:
    """The devices of one node.

    Args:
        node: its name; the UUIDs follow from it.
        model: of its GPUs.
        count: how many.
        config: what the device plugin runs with.
        layout: the MIG profiles of each GPU; all disabled when not given.
    """

    def __init__(
        self,
        node: str,
        model: Model,
        count: int,
        config: PluginConfig,
        layout: Sequence[mig.Wanted] = (),
    ) -> None:
        self.model = model
        self.gpus = [
            Gpu(index, f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{node}/{index}')}", model)
            for index in range(count)
        ]
        self.config = config
        # Sick devices by uuid; the plugin forgets them when it restarts.
        self.unhealthy: set[str] = set()
        self.running = True
        self._known: dict[str, None] = {GPU: None}
        self._units: dict[str, Unit] = {}
        self._held: dict[str, tuple[str, str]] = {}
        self._allocated: dict[str, dict[tuple[str, str], list[str]]] = {}
        if layout:
            self.apply(layout)
        self.register(config)

    # -- what is advertised ------------------------------------------------------------------

    def register(self, config: PluginConfig) -> None:
        """The device plugin starts: it reads its configuration and finds all devices healthy."""
        self.config = config
        self.running = True
        self.unhealthy.clear()
        self._units = {unit.id: unit for unit in self._find()}
        self._known |= {unit.resource: None for unit in self._units.values()}
        sharing = config.sharing
        if sharing is not None and sharing.rename:
            self._known |= {name: None for name, _ in sharing.replicas}

    def unregister(self) -> None:
        """The device plugin stops: the kubelet takes all of its devices for unhealthy."""
        self.running = False

    @property
    def invalid(self) -> bool:
        """Whether strategy ``single`` meets a layout that it cannot advertise."""
        if self.config.strategy != "single":
            return False
        layouts = [gpu.layout for gpu in self.gpus]
        if all(each is None for each in layouts):
            return False
        profiles = {name for each in layouts if each for name in each}
        return any(not each for each in layouts) or len(profiles) != 1

    def _find(self) -> Iterator[Unit]:
        strategy = self.config.strategy
        if self.invalid:
            return
        for gpu in self.gpus:
            if gpu.instances is None or strategy == "none":
                yield from self._share(gpu.uuid, gpu, None, GPU)
                continue
            for each in gpu.instances:
                resource = GPU if strategy == "single" else each.profile.resource
                yield from self._share(each.uuid, gpu, each.profile, resource)

    def _share(self, device: str, gpu: Gpu, profile: Profile | None, name: str) -> Iterator[Unit]:
        sharing = self.config.sharing
        replicas = sharing.of(name) if sharing else 1
        if sharing is None or replicas < 2:
            yield Unit(device, gpu, profile, name)
            return
        if sharing.kind == MPS and gpu.instances is not None:
            # "MPS sharing is not supported for MIG devices": the plugin does not start.
            return
        shared = f"{name}.shared" if sharing.rename else name
        for index in range(replicas):
            yield Unit(f"{device}::{index}", gpu, profile, shared)

    def units(self) -> list[Unit]:
        """All that can be given to containers, in order."""
        return list(self._units.values())

    def knows(self, resource: str) -> bool:
        """Whether the resource is, or once was, advertised."""
        return resource in self._known

    def is_healthy(self, unit: Unit) -> bool:
        """Whether the kubelet may give it out."""
        if not self.running:
            return False
        return not {unit.device, unit.gpu.uuid} & self.unhealthy

    def resources(self) -> tuple[dict[str, str], dict[str, str]]:
        """Capacity and allocatable by resource: all registered devices, and the healthy ones.

        A resource that was once advertised stays, as ``"0"``, until the kubelet restarts.
        """
        capacity = Counter(unit.resource for unit in self._units.values())
        healthy = Counter(u.resource for u in self._units.values() if self.is_healthy(u))
        return (
            {name: str(capacity[name]) for name in self._known},
            {name: str(healthy[name]) for name in self._known},
        )

    # -- MIG ---------------------------------------------------------------------------------

    def differing(self, layout: Sequence[mig.Wanted]) -> list[Gpu]:
        """The GPUs whose layout is not the wanted one."""
        return [
            gpu
            for gpu, wanted in zip(self.gpus, layout, strict=True)
            if gpu.layout != (None if wanted is None else tuple(sorted(wanted)))
        ]

    def apply(self, layout: Sequence[mig.Wanted]) -> None:
        """Create the MIG devices of a layout; takes effect for pods at the next register.

        Raises:
            LayoutError: it does not fit; nothing is changed.
        """
        made: list[list[mig.Instance] | None] = []
        for gpu, wanted in zip(self.gpus, layout, strict=True):
            if wanted is None:
                made.append(None)
                continue
            if not self.model.profiles:
                raise mig.LayoutError(f"MIG mode is not supported by {self.model.name}")
            places = sorted(mig.place(self.model, wanted), key=lambda each: each[1])
            made.append(
                [mig.instance(gpu.uuid, self.model, profile, start) for profile, start in places]
            )
        for gpu, instances in zip(self.gpus, made, strict=True):
            gpu.instances = instances

    def fail(self, identity: str) -> None:
        """A device reports an Xid error: allocatable drops until the plugin restarts.

        Raises:
            KeyError: there is none of this UUID.
        """
        known = {gpu.uuid for gpu in self.gpus} | {unit.device for unit in self._units.values()}
        if identity not in known:
            raise KeyError(identity)
        self.unhealthy.add(identity)

    # -- allocation --------------------------------------------------------------------------

    def allocate(
        self,
        pod_uid: str,
        container: str,
        resource: str,
        count: int,
        reusable: Sequence[str] = (),
    ) -> list[str]:
        """Give devices to a container.

        Args:
            pod_uid: whose.
            container: its name.
            resource: the extended resource.
            count: how many.
            reusable: ids of the pod's finished init containers, taken first.

        Returns:
            Device ids. A container that has devices already gets the same again.

        Raises:
            AdmissionError: with the kubelet's message.
        """
        mine = self._allocated.get(pod_uid, {})
        units = [unit for unit in self._units.values() if unit.resource == resource]
        healthy = [unit for unit in units if self.is_healthy(unit)]
        if resource not in self._known:
            raise _refused(f"cannot allocate unregistered device {resource}")
        if not healthy:
            raise _refused(
                f"no healthy devices present; cannot allocate unhealthy devices {resource}"
            )
        if (had := mine.get((container, resource))) is not None:
            if not set(had) <= {unit.id for unit in healthy}:
                raise _refused(
                    "previously allocated devices are no longer healthy; cannot allocate "
                    f"unhealthy devices {resource}"
                )
            return had
        again = [unit.id for unit in healthy if unit.id in reusable][:count]
        free = [unit for unit in healthy if unit.id not in self._held]
        needed = count - len(again)
        if len(free) < needed:
            raise _refused(
                f"requested number of devices unavailable for {resource}. "
                f"Requested: {needed}, Available: {len(free)}"
            )
        if self._is_shared(resource) and count > 1 and self._refuses_several():
            raise _refused(
                f"rpc error: code = Unknown desc = request for '{resource}: {count}' too large: "
                "maximum request size for shared resources is 1"
            )
        ids = again + self._choose(free, units, needed)
        for identity in ids:
            self._held[identity] = (pod_uid, container)
        self._allocated.setdefault(pod_uid, {})[container, resource] = ids
        return ids

    def _is_shared(self, resource: str) -> bool:
        return any(u.resource == resource and "::" in u.id for u in self._units.values())

    def _refuses_several(self) -> bool:
        return self.config.sharing is not None and self.config.sharing.fail_above_one

    def _choose(self, free: list[Unit], units: list[Unit], count: int) -> list[str]:
        """One by one from the device with the fewest shares given out (``packed``: the most)."""
        given = Counter(unit.device for unit in units)
        given.subtract(unit.device for unit in free)
        picked: Counter[str] = Counter()
        sign = -1 if self.config.packed else 1
        chosen: list[str] = []
        for _ in range(count):
            best = min(free, key=lambda u: (sign * given[u.device], picked[u.device]))
            free.remove(best)
            given[best.device] += 1
            picked[best.device] += 1
            chosen.append(best.id)
        return chosen

    def release(self, pod_uid: str) -> None:
        """Take back what a pod holds; harmless when it holds nothing."""
        for ids in self._allocated.pop(pod_uid, {}).values():
            for identity in ids:
                if self._held.get(identity, ("",))[0] == pod_uid:
                    del self._held[identity]

    def holders(self) -> dict[str, str]:
        """Device id → uid of the pod that holds it."""
        return {identity: pod for identity, (pod, _) in self._held.items()}

    def held_by(self, pod_uid: str) -> list[str]:
        """The device ids of a pod."""
        return [identity for identity, (pod, _) in self._held.items() if pod == pod_uid]

    def users(self, gpus: Sequence[Gpu]) -> set[str]:
        """The uids of the pods that hold something of these GPUs."""
        ids = {gpu.uuid for gpu in gpus}
        ids |= {each.uuid for gpu in gpus for each in gpu.instances or ()}
        return {pod for held, (pod, _) in self._held.items() if held.partition("::")[0] in ids}


def _refused(why: str) -> AdmissionError:
    return AdmissionError(f"Allocate failed due to {why}, which is unexpected")
