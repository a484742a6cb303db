"""What a pod asks for: pure arithmetic on its manifest, in whole and fractional units."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from mlk8s.cluster import official

Object = dict[str, Any]

_FINISHED = ("Succeeded", "Failed")


def effective(pod: Object) -> dict[str, Decimal]:
    """What the scheduler reserves for a pod, by resource, in base units (cores, bytes, devices).

    Containers add up; init containers run one after the other before them, so the largest counts;
    a sidecar (an init container that restarts always) stays and adds to both
    (https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/).
    """
    spec = pod["spec"]
    main: dict[str, Decimal] = {}
    for container in spec["containers"]:
        add(main, _requests(container))
    sidecars: dict[str, Decimal] = {}
    start: dict[str, Decimal] = {}
    for container in spec.get("initContainers") or ():
        own = _requests(container)
        at_start = dict(sidecars)
        add(at_start, own)
        if container.get("restartPolicy") == "Always":
            sidecars = at_start
        for name, value in at_start.items():
            start[name] = max(start.get(name, value), value)
    add(main, sidecars)
    for name, value in start.items():
        main[name] = max(main.get(name, value), value)
    # What is asked for the pod as a whole covers its containers (cpu, memory, huge pages).
    main.update(_requests(spec))
    add(main, quantities(spec.get("overhead") or {}))
    return main


def add(total: dict[str, Decimal], more: Mapping[str, Decimal]) -> None:
    """Add amounts to a total, in place."""
    for name, value in more.items():
        total[name] = total.get(name, Decimal(0)) + value


def _requests(container: Object) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    # What is limited and not requested is requested as well: the server fills it in.
    return quantities({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def quantities(texts: Mapping[str, Any]) -> dict[str, Decimal]:
    """Quantities as numbers (:class:`decimal.Decimal`)."""
    return {name: _quantity(text) for name, text in texts.items()}


@lru_cache(maxsize=4096)
def _quantity(text: str) -> Decimal:
    # Here, because importing the client takes seconds; kept, because pods write the same few.
    official.load()
    from kubernetes.utils.quantity import parse_quantity

    number: Decimal = parse_quantity(text)
    return number


def is_device(resource: str) -> bool:
    """Whether a resource is one that a device plugin advertises: it has a vendor's domain."""
    domain, slash, _ = resource.partition("/")
    return bool(slash) and not domain.endswith("kubernetes.io")


def holds(pod: Object) -> bool:
    """Whether a pod occupies what it asked for: bound to a node and not finished."""
    return bool(pod["spec"].get("nodeName")) and pod["status"].get("phase") not in _FINISHED


def name(pod: Object) -> str:
    """``namespace/name``."""
    metadata = pod["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}"


def amount(value: Decimal | int, resource: str) -> str:
    """A number of a resource for people: ``1.5`` cores, ``64 GiB``, ``2``."""
    if resource == "cpu":
        return f"{float(value):g}"
    if resource in ("memory", "ephemeral-storage"):
        return f"{float(value) / 2**30:.4g} GiB"
    return f"{int(value):,}"
