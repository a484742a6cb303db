"""How much of a device's capacity a request takes, when several may share the device.

The rules of DRAConsumableCapacity
(``structured/internal/incubating/consumable_capacity.go`` of 1.36).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import ceil

from mlk8s.sim import quantity
from mlk8s.sim.status import Object


def consumed(capacity: Mapping[str, Object], wanted: Mapping[str, str]) -> dict[str, Fraction]:
    """The amounts that a request takes, rounded up as the device's policy says.

    Args:
        capacity: of the device.
        wanted: the request's ``capacity.requests``; what it leaves out takes the policy's
            default, without one all that the device has.
    """
    return {name: _amount(given, wanted.get(name)) for name, given in capacity.items()}


def fits(
    capacity: Mapping[str, Object],
    wanted: Mapping[str, str],
    taken: Iterable[Mapping[str, Fraction]],
) -> bool:
    """Whether a request can have its share beside what is taken already."""
    if any(name not in capacity for name in wanted):
        return False
    taken = list(taken)
    for name, amount in consumed(capacity, wanted).items():
        given = capacity[name]
        if _forbidden(amount, given.get("requestPolicy") or {}):
            return False
        before = sum((each.get(name, Fraction(0)) for each in taken), Fraction(0))
        if before + amount > quantity.value(given["value"]):
            return False
    return True


def _amount(given: Object, wanted: str | None) -> Fraction:
    policy = given.get("requestPolicy") or {}
    if wanted is None:
        return quantity.value(policy.get("default") or given["value"])
    amount = quantity.value(wanted)
    allowed = policy.get("validRange") or {}
    if allowed.get("min") is not None:
        least = quantity.value(allowed["min"])
        if amount < least or allowed.get("step") is None:
            return max(amount, least)
        step = quantity.value(allowed["step"])
        return least + step * ceil((amount - least) / step)
    for value in policy.get("validValues") or ():
        if amount <= quantity.value(value):
            return quantity.value(value)
    return amount


def _forbidden(amount: Fraction, policy: Object) -> bool:
    if policy.get("default") is not None and amount == quantity.value(policy["default"]):
        return False
    if allowed := policy.get("validRange"):
        if allowed.get("max") is not None and amount > quantity.value(allowed["max"]):
            return True
        if allowed.get("step") is not None:
            over = amount - quantity.value(allowed.get("min") or "0")
            return bool(over % quantity.value(allowed["step"]))
        return False
    values = policy.get("validValues") or ()
    return bool(values) and all(amount != quantity.value(value) for value in values)
