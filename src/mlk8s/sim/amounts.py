"""Resource lists as numbers, and what a pod as a whole asks for.

Scheduler, kubelet, quotas and limit ranges count with the same sum.

The rules are those of ``k8s.io/component-helpers/resource`` (``PodRequests``, ``PodLimits``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeVar

from mlk8s.sim import quantity
from mlk8s.sim.status import Object

# Exact, or rounded to the scheduler's units.
Number = TypeVar("Number", int, Fraction)
Read = Callable[[Mapping[str, Any]], dict[str, Number]]


def exact(found: Mapping[str, Any] | None) -> dict[str, Fraction]:
    """A resource list as numbers."""
    return {name: quantity.value(str(text)) for name, text in (found or {}).items()}


def add(total: dict[str, Number], more: Mapping[str, Number]) -> None:
    """Add to a sum in place."""
    for name, number in more.items():
        total[name] = total[name] + number if name in total else number


def pod_total(
    spec: Object,
    part: str,
    read: Read[Number],
    missing: Mapping[str, Number] | None = None,
) -> dict[str, Number]:
    """What a pod asks of its node.

    The sum of its containers and sidecars, or what is needed while an init container runs beside
    the sidecars started before it, whichever is more; pod-level resources replace both; the
    overhead of its runtime class comes on top.

    Args:
        spec: the pod's.
        part: ``requests`` or ``limits``.
        read: makes numbers of a resource list.
        missing: what a container counts for that says nothing of that resource.
    """

    def of(container: Object) -> dict[str, Number]:
        return {**(missing or {}), **read((container.get("resources") or {}).get(part) or {})}

    total: dict[str, Number] = {}
    for container in spec.get("containers") or ():
        add(total, of(container))
    beside: dict[str, Number] = {}
    peak: dict[str, Number] = {}
    for container in spec.get("initContainers") or ():
        need = of(container)
        if container.get("restartPolicy") == "Always":
            add(total, need)
            add(beside, need)
            need = beside
        else:
            add(need, beside)
        _raise(peak, need)
    _raise(total, peak)
    for name, number in read((spec.get("resources") or {}).get(part) or {}).items():
        if name in ("cpu", "memory") or name.startswith("hugepages-"):
            total[name] = number
    overhead = read(spec.get("overhead") or {})
    # Without a limit there is nothing that the overhead could raise.
    add(total, {name: n for name, n in overhead.items() if part == "requests" or name in total})
    return total


def _raise(to: dict[str, Number], other: Mapping[str, Number]) -> None:
    for name, number in other.items():
        to[name] = max(to[name], number) if name in to else number
