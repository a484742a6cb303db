"""Finds devices on a node for the requests of claims, as Kubernetes' structured allocator does.

Pure: it changes nothing but itself. The search is that of
``structured/internal/incubating/allocator_incubating.go`` of 1.36: request after request, device
after device in the order of pool, slice and position, with backtracking; the first full solution
is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from mlk8s.sim import quantity
from mlk8s.sim.cel import CelError
from mlk8s.sim.scheduler.allocated import Allocated
from mlk8s.sim.scheduler.consumption import consumed, fits
from mlk8s.sim.scheduler.devices import Device, DeviceId, Inventory
from mlk8s.sim.status import Object

# resourceapi.AllocationResultsMaxSize
MAX_RESULTS = 32
# Upstream gives up on a node after ten seconds of search.
_MAX_STEPS = 50_000


class AllocationError(Exception):
    """A claim or class is wrong, so that no node can do: the pod's scheduling attempt ends."""


class InvalidPool(Exception):
    """Nothing found, and a pool of the node is invalid: other nodes may still do."""


class OutOfTime(Exception):
    """The search on this node took too many steps."""


class _TooMany(Exception):
    """More devices than one claim can hold; another subrequest may need fewer."""


@dataclass
class _Request:
    """A request, or one of the alternatives of a prioritized list."""

    claim: int
    raw: Object
    parent: str
    cls: Object
    count: int = 0
    everything: list[Device] | None = None

    @property
    def name(self) -> str:
        """As it stands in results."""
        own: str = self.raw["name"]
        return f"{self.parent}/{own}" if self.parent else own

    @property
    def spec(self) -> Object:
        """Class, selectors, count and so on."""
        spec: Object = self.raw if self.parent else self.raw["exactly"]
        return spec

    @property
    def admin(self) -> bool:
        """Whether it takes devices that others have."""
        return not self.parent and bool(self.spec.get("adminAccess"))


@dataclass
class _Chosen:
    request: _Request
    device: Device
    share: str | None
    amounts: dict[str, Fraction]


class _Constraint:
    """``matchAttribute`` or ``distinctAttribute`` over the devices chosen so far."""

    def __init__(self, raw: Object) -> None:
        self._requests = set(raw.get("requests") or ())
        self._distinct = "distinctAttribute" in raw
        self._attribute: str = raw.get("matchAttribute") or raw["distinctAttribute"]
        self._values: list[tuple[str, Any]] = []

    def applies(self, request: _Request) -> bool:
        """Whether it is about the devices of a request."""
        return (
            not self._requests
            or request.name in self._requests
            or request.name.partition("/")[0] in self._requests
        )

    def add(self, device: Device) -> bool:
        """Take a device in, unless that breaks the constraint."""
        value = device.attribute(self._attribute)
        if value is None:
            return False
        if self._distinct and value in self._values:
            return False
        if not self._distinct and self._values and value != self._values[0]:
            return False
        self._values.append(value)
        return True

    def drop(self) -> None:
        """Forget the device that was added last."""
        self._values.pop()


@dataclass
class Allocator:
    """Allocates claims; one for each scheduling attempt.

    Args:
        inventory: the slices.
        allocated: which devices are taken.
        classes: gives a DeviceClass by name, ``None`` when it does not exist.
        new_id: makes the ids of shares.
    """

    inventory: Inventory
    allocated: Allocated
    classes: Callable[[str], Object | None]
    new_id: Callable[[], str]
    _steps: int = field(default=0, init=False)

    def allocate(self, node: Object, claims: list[Object]) -> list[Object] | None:
        """Find devices for all claims on one node.

        Args:
            node: the node.
            claims: ResourceClaims without allocation.

        Returns:
            For each claim its ``status.allocation``; ``None`` when the node does not have what
            they ask for.

        Raises:
            AllocationError: a claim or class is wrong; the text is upstream's.
            InvalidPool: nothing found and a pool of the node is invalid.
            OutOfTime: the search was given up.
        """
        search = _Search(self, node, claims)
        try:
            found = search.run()
        finally:
            self._steps += search.steps
        if found:
            return search.results()
        if any(pool.invalid for pool in search.pools):
            raise InvalidPool("invalid resource pools were encountered")
        return None

    @property
    def budget(self) -> int:
        """Steps that a search may take; all nodes of an attempt share ten times that."""
        return min(_MAX_STEPS, 10 * _MAX_STEPS - self._steps)


class _Search:
    def __init__(self, allocator: Allocator, node: Object, claims: list[Object]) -> None:
        self._allocator = allocator
        self._allocated = allocator.allocated
        self._node = node
        self._claims = claims
        self.pools = allocator.inventory.pools(node)
        self.steps = 0
        self._budget = allocator.budget
        self._chosen: list[list[_Chosen]] = [[] for _ in claims]
        self._taken: dict[DeviceId, list[int]] = {}
        self._shares: dict[DeviceId, list[dict[str, Fraction]]] = {}
        self._available: dict[tuple[str, str], dict[tuple[str, str], Fraction]] = {}
        self._constraints: list[list[_Constraint]] = []
        self._requests: list[list[list[_Request]]] = []
        for index, claim in enumerate(claims):
            self._prepare(index, claim)

    def run(self) -> bool:
        """Search; whether there is a solution."""
        try:
            return self._request(0, 0)
        except _TooMany:
            return False

    # -- preparation -----------------------------------------------------------------------------

    def _prepare(self, index: int, claim: Object) -> None:
        devices = claim["spec"].get("devices") or {}
        requests, least = [], 0
        for raw in devices.get("requests") or ():
            if alternatives := raw.get("firstAvailable"):
                options = [self._validate(index, sub, raw["name"]) for sub in alternatives]
            else:
                options = [self._validate(index, raw, "")]
            requests.append(options)
            least += min(option.count for option in options)
        if least > MAX_RESULTS:
            raise AllocationError(
                f"claim {_key(claim)}: number of requested devices {least} exceeds the claim "
                f"limit of {MAX_RESULTS}"
            )
        self._requests.append(requests)
        self._constraints.append([_Constraint(raw) for raw in devices.get("constraints") or ()])

    def _validate(self, index: int, raw: Object, parent: str) -> _Request:
        spec = raw if parent else raw["exactly"]
        where = f"claim {_key(self._claims[index])}, request {raw['name']}"
        name = spec["deviceClassName"]
        cls = self._allocator.classes(name)
        if cls is None:
            raise AllocationError(
                f"{where}: could not retrieve device class {name}: deviceclass.resource.k8s.io "
                f'"{name}" not found'
            )
        request = _Request(index, raw, parent, cls)
        if spec.get("allocationMode") != "All":
            request.count = spec.get("count", 1)
            return request
        request.everything = []
        for pool in self.pools:
            if pool.incomplete or pool.invalid:
                state = "being updated" if pool.incomplete else "invalid"
                raise AllocationError(
                    f"{where}: asks for all devices, but resource pool {pool} is currently {state}"
                )
            request.everything += [
                device
                for device in pool.devices
                if self._selectable(request, device) and self._fits(request, device)
            ]
        request.count = len(request.everything)
        return request

    def _selectable(self, request: _Request, device: Device) -> bool:
        groups = (
            (request.cls["spec"].get("selectors") or (), ""),
            (request.spec.get("selectors") or (), _key(self._claims[request.claim])),
        )
        for selectors, claim in groups:
            owner = f"claim {claim}" if claim else f"class {request.cls['metadata']['name']}"
            for number, selector in enumerate(selectors):
                try:
                    if not device.matches(selector["cel"]["expression"]):
                        return False
                except CelError as error:
                    raise AllocationError(
                        f"{owner}: selector #{number}: CEL runtime error: {error}"
                    ) from None
        return device.reachable(self._node)

    def _fits(self, request: _Request, device: Device) -> bool:
        wanted = (request.spec.get("capacity") or {}).get("requests") or {}
        if not wanted and not device.shared:
            return True
        taken = [self._allocated.consumed(device.id), *self._shares.get(device.id, ())]
        return fits(device.capacity, wanted, taken)

    # -- search ----------------------------------------------------------------------------------

    def _request(self, claim: int, number: int) -> bool:
        """Satisfy a request and all that come after it."""
        if claim >= len(self._claims):
            return True
        if number >= len(self._requests[claim]):
            try:
                return self._request(claim + 1, 0)
            except _TooMany:
                # An earlier claim that takes another alternative may leave a way.
                return False
        options = self._requests[claim][number]
        if not options[0].parent:
            return self._device(options[0], number, 0, 0)
        too_many = True
        for option in options:
            try:
                if self._device(option, number, 0, 0):
                    return True
                too_many = False
            except _TooMany:
                continue
        if too_many:
            raise _TooMany
        return False

    def _device(self, request: _Request, number: int, done: int, start: int) -> bool:
        """Choose the next device of a request, from position ``start`` on."""
        self.steps += 1
        if self.steps > self._budget:
            raise OutOfTime("timed out trying to allocate devices")
        if request.everything is not None and not request.everything:
            return False
        if done >= request.count:
            return self._request(request.claim, number + 1)
        if len(self._chosen[request.claim]) + request.count - done > MAX_RESULTS:
            raise _TooMany
        if request.everything is not None:
            return self._try(request, number, done, request.everything[done], 0, must=True) is True
        position = 0
        for pool in self.pools:
            if pool.incomplete or pool.invalid:
                continue
            if position + len(pool.devices) <= start:
                position += len(pool.devices)
                continue
            for device in pool.devices:
                position += 1
                if position <= start or self._occupied(request, device):
                    continue
                if not self._selectable(request, device) or not self._fits(request, device):
                    continue
                if self._try(request, number, done, device, position):
                    return True
        return False

    def _try(
        self,
        request: _Request,
        number: int,
        done: int,
        device: Device,
        position: int,
        must: bool = False,
    ) -> bool:
        if not self._take(request, device, must):
            return False
        solved = False
        try:
            solved = self._device(request, number, done + 1, position)
        finally:
            if not solved:
                self._release(request, device)
        return solved

    def _occupied(self, request: _Request, device: Device) -> bool:
        taken = self._taken.get(device.id, ())
        if request.admin:
            return request.claim in taken
        return self._allocated.taken(device.id) or bool(taken)

    def _take(self, request: _Request, device: Device, must: bool) -> bool:
        if self._occupied(request, device) or not self._fits(request, device):
            return False
        if device.counters and not self._counters_left(device):
            return False
        tolerations = request.spec.get("tolerations") or ()
        if any(not any(tolerates(t, taint) for t in tolerations) for taint in device.taints):
            return False
        added: list[_Constraint] = []
        for constraint in self._constraints[request.claim]:
            if not constraint.applies(request):
                continue
            if not constraint.add(device):
                for each in added:
                    each.drop()
                if must:
                    raise AllocationError(
                        f"claim {_key(self._claims[request.claim])}, request "
                        f"{request.raw['name']}: cannot add device {'/'.join(device.id)} because "
                        "a claim constraint would not be satisfied"
                    )
                return False
            added.append(constraint)
        amounts: dict[str, Fraction] = {}
        share = None
        if device.shared:
            wanted = (request.spec.get("capacity") or {}).get("requests") or {}
            amounts = consumed(device.capacity, wanted)
            share = self._allocator.new_id()
            self._shares.setdefault(device.id, []).append(amounts)
        else:
            self._taken.setdefault(device.id, []).append(request.claim)
        self._chosen[request.claim].append(_Chosen(request, device, share, amounts))
        return True

    def _release(self, request: _Request, device: Device) -> None:
        self._chosen[request.claim].pop()
        for constraint in self._constraints[request.claim]:
            if constraint.applies(request):
                constraint.drop()
        if device.shared:
            self._shares[device.id].pop()
        else:
            self._taken[device.id].pop()

    def _counters_left(self, device: Device) -> bool:
        """Whether a partition can be made beside those that are taken and chosen."""
        if device.shared and (self._allocated.in_use(device.id) or self._shares.get(device.id)):
            return True
        pool = next(p for p in self.pools if (p.driver, p.name) == device.slice.pool_id)
        available = self._available.get(device.slice.pool_id)
        if available is None:
            available = self._available[device.slice.pool_id] = dict(pool.counters)
            for slice in (*pool.slices, *pool.elsewhere):
                for other in slice.devices:
                    if other.counters and self._allocated.in_use(other.id):
                        for counter_set, name, amount in other.counters:
                            available[counter_set, name] -= amount
        left = dict(available)
        seen: set[DeviceId] = set()
        for other in (c.device for chosen in self._chosen for c in chosen):
            if other.slice.pool_id == device.slice.pool_id and other.id not in seen:
                if other.shared:
                    seen.add(other.id)
                for counter_set, name, amount in other.counters:
                    left[counter_set, name] -= amount
        for counter_set, name, amount in device.counters:
            left[counter_set, name] -= amount
        return all(amount >= 0 for amount in left.values())

    # -- result ----------------------------------------------------------------------------------

    def results(self) -> list[Object]:
        """``status.allocation`` of each claim."""
        return [
            self._allocation(index, claim, self._chosen[index])
            for index, claim in enumerate(self._claims)
        ]

    def _allocation(self, index: int, claim: Object, chosen: list[_Chosen]) -> Object:
        devices: Object = {"results": [_result(each) for each in chosen]}
        if config := self._config(index, claim):
            devices["config"] = config
        allocation: Object = {"devices": devices}
        if selector := _node_selector(chosen, self._node):
            allocation["nodeSelector"] = selector
        return allocation

    def _config(self, index: int, claim: Object) -> list[Object]:
        """The configuration of the classes, once each, then that of the claim."""
        names = [self._selected(index, options) for options in self._requests[index]]
        configs: list[Object] = []
        of_class: dict[str, list[Object]] = {}
        for request in names:
            name = request.cls["metadata"]["name"]
            if name not in of_class:
                of_class[name] = [
                    {"source": "FromClass", "requests": [], **each}
                    for each in request.cls["spec"].get("config") or ()
                ]
                configs += of_class[name]
            for each in of_class[name]:
                each["requests"].append(request.name)
        for each in (claim["spec"].get("devices") or {}).get("config") or ():
            targets = set(each.get("requests") or ())
            times = sum(
                request.name in targets or request.name.partition("/")[0] in targets
                for request in names
            )
            configs += [{"source": "FromClaim", **each} for _ in range(times if targets else 1)]
        return configs

    def _selected(self, index: int, options: list[_Request]) -> _Request:
        chosen = {id(each.request) for each in self._chosen[index]}
        return next((option for option in options if id(option) in chosen), options[0])


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether a request's toleration covers a device's taint."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator", "Equal") == "Equal":
        return bool(toleration.get("value", "") == taint.get("value", ""))
    return bool(toleration["operator"] == "Exists")


def _result(chosen: _Chosen) -> Object:
    device, request = chosen.device, chosen.request
    driver, pool, name = device.id
    result: Object = {"request": request.name, "driver": driver, "pool": pool, "device": name}
    if request.admin:
        result["adminAccess"] = True
    if tolerations := request.spec.get("tolerations"):
        result["tolerations"] = tolerations
    for conditions in ("bindingConditions", "bindingFailureConditions"):
        if device.raw.get(conditions):
            result[conditions] = device.raw[conditions]
    if chosen.share is not None:
        result["shareID"] = chosen.share
    if chosen.amounts:
        result["consumedCapacity"] = {
            key: quantity.of(amount, device.capacity[key]["value"])
            for key, amount in chosen.amounts.items()
        }
    return result


def _node_selector(chosen: Iterable[_Chosen], node: Object) -> Object | None:
    """Where the allocated devices can be used; ``None`` is everywhere."""
    term: Object = {}
    for each in chosen:
        spec = each.device.slice.spec
        where = each.device.raw if spec.get("perDeviceNodeSelection") else spec
        if where.get("nodeName") or each.device.raw.get("bindsToNode"):
            only = {
                "key": "metadata.name",
                "operator": "In",
                "values": [node["metadata"]["name"]],
            }
            return {"nodeSelectorTerms": [{"matchFields": [only]}]}
        for wanted in (where.get("nodeSelector") or {}).get("nodeSelectorTerms") or ():
            # Upstream puts the expressions on labels and those on fields apart.
            for kind in ("matchFields", "matchExpressions"):
                for requirement in wanted.get(kind) or ():
                    if requirement not in term.setdefault(kind, []):
                        term[kind].append(requirement)
    term = {kind: listed for kind, listed in term.items() if listed}
    return {"nodeSelectorTerms": [term]} if term else None


def _key(claim: Object) -> str:
    metadata = claim["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"
