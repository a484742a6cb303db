"""Which pods hold which DRA devices, as the allocations of resource claims say."""

from __future__ import annotations

from mlk8s.sim.nodes.slices import DRA_DRIVER
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change

_Device = tuple[str, str]


class Claims:
    """An index over resource claims, kept by hearing their changes."""

    def __init__(self) -> None:
        self._devices: dict[tuple[str, str], list[_Device]] = {}
        self._pods: dict[tuple[str, str], list[Object]] = {}
        self._by_device: dict[_Device, set[tuple[str, str]]] = {}
        self._by_pod: dict[str, set[tuple[str, str]]] = {}

    def hear(self, change: Change) -> None:
        """Take in a change of a claim."""
        where = (change.namespace, change.name)
        for device in self._devices.pop(where, ()):
            self._by_device[device].discard(where)
            if not self._by_device[device]:
                del self._by_device[device]
        for pod in self._pods.pop(where, ()):
            claims = self._by_pod.get(pod["uid"], set())
            claims.discard(where)
            if not claims:
                self._by_pod.pop(pod["uid"], None)
        if change.type == "DELETED":
            return
        status = change.object.get("status") or {}
        allocation = status.get("allocation") or {}
        results = (allocation.get("devices") or {}).get("results") or ()
        devices = [(r["pool"], r["device"]) for r in results if r["driver"] == DRA_DRIVER]
        pods = [each for each in status.get("reservedFor") or () if each["resource"] == "pods"]
        if not devices:
            return
        self._devices[where] = devices
        self._pods[where] = pods
        for device in devices:
            self._by_device.setdefault(device, set()).add(where)
        for pod in pods:
            self._by_pod.setdefault(pod["uid"], set()).add(where)

    def holder(self, pool: str, device: str) -> str | None:
        """``namespace/name`` of the pods that use a device, joined by commas."""
        found = [
            f"{where[0]}/{pod['name']}"
            for where in sorted(self._by_device.get((pool, device), ()))
            for pod in self._pods[where]
        ]
        return ", ".join(found) or None

    def devices_of(self, pool: str, pod_uid: str) -> list[str]:
        """Names of the devices in a pool that a pod uses."""
        return [
            device
            for where in sorted(self._by_pod.get(pod_uid, ()))
            for owner, device in self._devices[where]
            if owner == pool
        ]
