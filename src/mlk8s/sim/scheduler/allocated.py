"""Which devices are allocated: as the API says, and as the scheduler has just decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction

from mlk8s.sim import quantity
from mlk8s.sim.scheduler.devices import DeviceId
from mlk8s.sim.status import Object


class Allocated:
    """Which devices are taken, kept claim by claim.

    A claim whose allocation is decided but not yet written counts with that allocation.
    """

    def __init__(self) -> None:
        self._stored: dict[str, Object] = {}
        self._pending: dict[str, Object] = {}
        self._devices: Counter[DeviceId] = Counter()
        self._capacity: dict[DeviceId, dict[str, Fraction]] = {}

    def store(self, uid: str, allocation: Object | None) -> None:
        """What the API says of a claim; ``None`` when it has no allocation (any more)."""
        self._switch(uid, self._stored, allocation)

    def pend(self, uid: str, allocation: Object | None) -> None:
        """An allocation is about to be written; ``None`` ends that."""
        self._switch(uid, self._pending, allocation)

    def pending(self, uid: str) -> bool:
        """Whether a claim's allocation is about to be written."""
        return uid in self._pending

    def taken(self, device: DeviceId) -> bool:
        """Whether a device is allocated as a whole."""
        return device in self._devices

    def consumed(self, device: DeviceId) -> Mapping[str, Fraction]:
        """How much of the capacity of a device that is shared is allocated."""
        return self._capacity.get(device, {})

    def in_use(self, device: DeviceId) -> bool:
        """Whether anyone has the device, or a part of it."""
        return device in self._devices or device in self._capacity

    def _switch(self, uid: str, where: dict[str, Object], allocation: Object | None) -> None:
        self._count(self._pending.get(uid) or self._stored.get(uid), -1)
        if allocation is None:
            where.pop(uid, None)
        else:
            where[uid] = allocation
        self._count(self._pending.get(uid) or self._stored.get(uid), 1)

    def _count(self, allocation: Object | None, sign: int) -> None:
        for result in (allocation or {}).get("devices", {}).get("results") or ():
            if result.get("adminAccess"):
                continue
            device = (result["driver"], result["pool"], result["device"])
            if result.get("shareID") is None:
                self._devices[device] += sign
                if not self._devices[device]:
                    del self._devices[device]
                continue
            amounts = self._capacity.setdefault(device, {"": Fraction(0)})
            # The empty name counts the shares.
            amounts[""] += sign
            for name, amount in (result.get("consumedCapacity") or {}).items():
                amounts[name] = amounts.get(name, Fraction(0)) + sign * quantity.value(amount)
            if not amounts[""]:
                del self._capacity[device]
