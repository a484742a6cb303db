"""Which devices a node can reach: ResourceSlices, indexed by node, gathered to pools.

The rules are those of ``structured/internal/incubating/pools_incubating.go`` of 1.36: of a pool
only the newest generation counts, an incomplete pool gives no devices, an invalid one neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeAlias

from mlk8s.sim import cel, quantity
from mlk8s.sim.matching import NodeTerm
from mlk8s.sim.status import Object

DeviceId: TypeAlias = tuple[str, str, str]


class Device:
    """A device of a slice, with what is derived from it once.

    Args:
        slice: where it stands.
        raw: the item of ``spec.devices``.
    """

    def __init__(self, slice: Slice, raw: Object) -> None:
        self.slice = slice
        self.raw = raw
        self.name: str = raw["name"]
        self.id: DeviceId = (slice.driver, slice.pool, self.name)
        self.shared = bool(raw.get("allowMultipleAllocations"))
        self.taints: list[Object] = [
            taint
            for taint in raw.get("taints") or ()
            if taint.get("effect") in ("NoSchedule", "NoExecute")
        ]
        self._matches: dict[str, bool] = {}

    @cached_property
    def _view(self) -> Object:
        return cel.view(self.slice.driver, self.raw)

    @cached_property
    def capacity(self) -> dict[str, Object]:
        """``capacity``, as it is written."""
        return self.raw.get("capacity") or {}

    @cached_property
    def counters(self) -> list[tuple[str, str, Fraction]]:
        """(counter set, counter, amount) that it consumes."""
        return [
            (use["counterSet"], name, quantity.value(counter["value"]))
            for use in self.raw.get("consumesCounters") or ()
            for name, counter in use["counters"].items()
        ]

    def matches(self, expression: str) -> bool:
        """Whether it meets a selector; evaluated once for each expression.

        Raises:
            CelError: the expression fails for it.
        """
        found = self._matches.get(expression)
        if found is None:
            found = cel.selector(expression).matches_view(self._view)
            self._matches[expression] = found
        return found

    def attribute(self, name: str) -> tuple[str, Any] | None:
        """Type and value of an attribute by its full name (``domain/id``); ``None`` if not set."""
        attributes = self.raw.get("attributes") or {}
        found = attributes.get(name)
        if found is None:
            domain, _, identifier = name.partition("/")
            found = attributes.get(identifier) if domain == self.slice.driver else None
        if found is None:
            return None
        for kind in ("string", "int", "bool", "version"):
            if found.get(kind) is not None:
                return kind, found[kind]
        return None

    def reachable(self, node: Object) -> bool:
        """Whether the node can use it; the slice leaves that to its devices only sometimes."""
        if not self.slice.spec.get("perDeviceNodeSelection"):
            return True
        return node_matches(node, self.raw)


class Slice:
    """A ResourceSlice.

    Args:
        obj: the object; not to be changed by anyone.
    """

    def __init__(self, obj: Object) -> None:
        self.name: str = obj["metadata"]["name"]
        self.spec: Object = obj["spec"]
        self.driver: str = self.spec["driver"]
        pool = self.spec["pool"]
        self.pool: str = pool["name"]
        self.generation: int = pool.get("generation", 0)
        self.count: int = pool.get("resourceSliceCount", 0)
        self.counters: list[Object] = self.spec.get("sharedCounters") or []
        self.devices = [Device(self, raw) for raw in self.spec.get("devices") or ()]

    @property
    def pool_id(self) -> tuple[str, str]:
        """(driver, pool)."""
        return (self.driver, self.pool)

    def relevant(self, node: Object) -> bool:
        """Whether it may hold something for the node."""
        if self.counters:
            return True
        if self.spec.get("perDeviceNodeSelection"):
            return any(node_matches(node, device.raw) for device in self.devices)
        return node_matches(node, self.spec)


@dataclass
class Pool:
    """The slices of one pool that a node can see.

    Attributes:
        invalid: why it cannot be used; empty when it can.
        elsewhere: slices for other nodes, whose devices may consume the same counters.
        counters: what is there by (counter set, counter).
    """

    driver: str
    name: str
    incomplete: bool = False
    invalid: str = ""
    slices: list[Slice] = field(default_factory=list)
    elsewhere: list[Slice] = field(default_factory=list)
    counters: dict[tuple[str, str], Fraction] = field(default_factory=dict)

    @cached_property
    def devices(self) -> list[Device]:
        """Its devices, in the order in which they are tried."""
        return [device for slice in self.slices for device in slice.devices]

    def __str__(self) -> str:
        return f"{self.driver}/{self.name}"


class Inventory:
    """All ResourceSlices; pools per node are kept until a slice or the node changes."""

    def __init__(self) -> None:
        self._slices: dict[str, Slice] = {}
        self._by_node: dict[str, dict[str, Slice]] = {}
        self._by_pool: dict[tuple[str, str], dict[str, Slice]] = {}
        self._anywhere: dict[str, Slice] = {}
        self._pools: dict[str, tuple[str, list[Pool]]] = {}

    def put(self, obj: Object) -> None:
        """Add or replace a slice."""
        self.remove(obj["metadata"]["name"])
        slice = Slice(obj)
        self._slices[slice.name] = slice
        self._home(slice)[slice.name] = slice
        self._by_pool.setdefault(slice.pool_id, {})[slice.name] = slice
        self._forget(slice)

    def remove(self, name: str) -> None:
        """Remove a slice; harmless if it is not there."""
        slice = self._slices.pop(name, None)
        if slice is None:
            return
        self._home(slice).pop(name, None)
        same = self._by_pool[slice.pool_id]
        del same[name]
        if not same:
            del self._by_pool[slice.pool_id]
        self._forget(slice)

    def pools(self, node: Object) -> list[Pool]:
        """The pools that a node can see, by driver and name."""
        metadata = node["metadata"]
        name, version = metadata["name"], str(metadata.get("resourceVersion"))
        known = self._pools.get(name)
        if known is None or known[0] != version:
            known = self._pools[name] = (version, self._gather(node))
        return known[1]

    def _home(self, slice: Slice) -> dict[str, Slice]:
        node = slice.spec.get("nodeName")
        if not node or slice.counters:
            return self._anywhere
        return self._by_node.setdefault(node, {})

    def _forget(self, slice: Slice) -> None:
        # A pool that is spread over nodes is judged by all of its slices.
        node = slice.spec.get("nodeName")
        if not node or slice.counters:
            self._pools.clear()
            return
        self._pools.pop(node, None)
        for other in self._by_pool.get(slice.pool_id, {}).values():
            self._pools.pop(other.spec.get("nodeName") or "", None)

    def _gather(self, node: Object) -> list[Pool]:
        local = self._by_node.get(node["metadata"]["name"], {})
        newest: dict[tuple[str, str], list[Slice]] = {}
        for slice in [*local.values(), *self._anywhere.values()]:
            if not slice.relevant(node):
                continue
            others = newest.setdefault(slice.pool_id, [])
            if others and slice.generation < others[0].generation:
                continue
            if others and slice.generation > others[0].generation:
                others.clear()
            others.append(slice)
        plain: list[Pool] = []
        binding: list[Pool] = []
        for (driver, name), slices in sorted(newest.items()):
            pool = self._pool(driver, name, slices)
            if pool is None:
                continue
            waits = any(device.raw.get("bindingConditions") for device in pool.devices)
            (binding if waits else plain).append(pool)
        return plain + binding

    def _pool(self, driver: str, name: str, slices: list[Slice]) -> Pool | None:
        generation = slices[0].generation
        everything = self._by_pool[driver, name].values()
        if len(slices) != slices[0].count:
            if any(slice.generation > generation for slice in everything):
                # The driver is replacing the pool; the new one has nothing for this node.
                return None
            current = [slice for slice in everything if slice.generation == generation]
            if len(current) != slices[0].count:
                return Pool(driver, name, incomplete=True)
        else:
            current = slices
        slices = sorted(slices, key=lambda slice: slice.name)
        pool = Pool(driver, name, slices=[slice for slice in slices if not slice.counters])
        pool.elsewhere = [slice for slice in current if slice not in slices]
        pool.invalid = _mistake(pool, slices)
        return pool


def _mistake(pool: Pool, slices: Iterable[Slice]) -> str:
    """Fill in the counters; what is wrong with the pool."""
    names = [device.name for device in pool.devices]
    if len(set(names)) != len(names):
        double = next(name for i, name in enumerate(names) if name in names[:i])
        return f"duplicate device name {double}"
    sets: set[str] = set()
    for slice in slices:
        for counter_set in slice.counters:
            if counter_set["name"] in sets:
                return f"duplicate counter set name {counter_set['name']}"
            sets.add(counter_set["name"])
            for name, counter in counter_set["counters"].items():
                pool.counters[counter_set["name"], name] = quantity.value(counter["value"])
    for slice in [*pool.slices, *pool.elsewhere]:
        for device in slice.devices:
            for wanted, name, _ in device.counters:
                if wanted not in sets:
                    return f"counter set {wanted} not found"
                if (wanted, name) not in pool.counters:
                    return f"counter {name} not found in counter set {wanted}"
    return ""


def node_matches(node: Object, where: Object) -> bool:
    """Whether ``nodeName``, ``allNodes`` or ``nodeSelector`` of a slice or device take the node."""
    if name := where.get("nodeName"):
        return bool(node["metadata"]["name"] == name)
    if where.get("allNodes"):
        return True
    if (selector := where.get("nodeSelector")) is not None:
        return selector_matches(node, selector)
    return False


def selector_matches(node: Object, selector: Object) -> bool:
    """Whether a node meets a ``NodeSelector``: one of its terms, and of that all."""
    metadata = node["metadata"]
    labels = metadata.get("labels") or {}
    terms = selector.get("nodeSelectorTerms") or ()
    return any(NodeTerm(term).matches(labels, metadata["name"]) for term in terms)
