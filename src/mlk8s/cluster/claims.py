"""What stands between a pod and the devices that it claims through DRA."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mlk8s.cluster.connection import Connection
from mlk8s.cluster.messages import Waits

Object = dict[str, Any]

_SHOWN = 4


class Problem(NamedTuple):
    """Why a pod does not get its devices."""

    waits: Waits
    because: str
    next_step: str


class DeviceId(NamedTuple):
    """A device in the cluster."""

    driver: str
    pool: str
    name: str


@dataclass
class Published:
    """A device of a ResourceSlice.

    Attributes:
        node: where it is; empty when more than one node reaches it.
        raw: the item of ``spec.devices``.
    """

    id: DeviceId
    node: str
    raw: Object

    @property
    def tainted(self) -> bool:
        """Whether its driver keeps new pods off it, as it does with a device that failed."""
        effects = ("NoSchedule", "NoExecute")
        return any(taint.get("effect") in effects for taint in self.raw.get("taints") or ())


def published(slices: Iterable[Object]) -> Iterator[Published]:
    """The devices of all slices; of a pool the newest generation alone counts."""
    listed = list(slices)
    newest: dict[tuple[str, str], int] = {}
    for piece in listed:
        key = (piece["spec"]["driver"], piece["spec"]["pool"]["name"])
        newest[key] = max(newest.get(key, 0), piece["spec"]["pool"].get("generation", 0))
    for piece in listed:
        spec = piece["spec"]
        key = (spec["driver"], spec["pool"]["name"])
        if spec["pool"].get("generation", 0) < newest[key]:
            continue
        for device in spec.get("devices") or ():
            node = spec.get("nodeName") or device.get("nodeName") or ""
            yield Published(DeviceId(*key, device["name"]), node, device)


def taken(claim: Object) -> list[DeviceId]:
    """The devices that a claim has been given."""
    results = _allocation(claim).get("devices", {}).get("results") or ()
    return [
        DeviceId(result["driver"], result["pool"], result["device"])
        for result in results
        if not result.get("adminAccess")
    ]


def _allocation(claim: Object) -> Object:
    found: Object = (claim.get("status") or {}).get("allocation") or {}
    return found


def users(claim: Object) -> list[str]:
    """The pods that a claim is reserved for, as ``namespace/name``."""
    namespace = claim["metadata"]["namespace"]
    reserved = (claim.get("status") or {}).get("reservedFor") or ()
    return [f"{namespace}/{user['name']}" for user in reserved]


def extended(classes: Iterable[Object]) -> dict[str, str]:
    """Resource names that a device class serves: name → class."""
    found = {}
    for each in classes:
        name = each["metadata"]["name"]
        found[f"deviceclass.resource.kubernetes.io/{name}"] = name
        if resource := each["spec"].get("extendedResourceName"):
            found[resource] = name
    return found


@dataclass
class Claims:
    """The state of Dynamic Resource Allocation, read once.

    Args:
        connection: the cluster.
    """

    connection: Connection
    classes: dict[str, Object] = field(init=False)
    holders: dict[DeviceId, list[str]] = field(init=False)
    devices: list[Published] = field(init=False)
    _claims: dict[tuple[str, str], Object] = field(init=False)

    def __post_init__(self) -> None:
        read = self.connection.claims
        self.classes = {each["metadata"]["name"]: each for each in read("deviceclasses")}
        self.devices = list(published(read("resourceslices"))) if self.classes else []
        self._claims = {
            (claim["metadata"]["namespace"], claim["metadata"]["name"]): claim
            for claim in read("resourceclaims")
        }
        self.holders = {}
        for claim in self._claims.values():
            for device in taken(claim):
                self.holders.setdefault(device, []).extend(users(claim))

    def problem(self, pod: Object) -> Problem | None:
        """What is missing for a pod's claims; ``None`` when they are all given or can be."""
        namespace = pod["metadata"]["namespace"]
        made = {
            status["name"]: status.get("resourceClaimName")
            for status in pod["status"].get("resourceClaimStatuses") or ()
        }
        for entry in pod["spec"].get("resourceClaims") or ():
            template = entry.get("resourceClaimTemplateName")
            name = entry.get("resourceClaimName") or made.get(entry["name"])
            if template and not name:
                return self._unmade(template, namespace)
            if entry["name"] in made and name is None:
                continue
            claim = self._claims.get((namespace, str(name)))
            if claim is None:
                return Problem(
                    Waits.HELD,
                    f"its ResourceClaim {name!r} does not exist in namespace {namespace!r}.",
                    f"create it, or name one of: kubectl get resourceclaims -n {namespace}.",
                )
            if _allocation(claim):
                continue
            for request in claim["spec"].get("devices", {}).get("requests") or ():
                if found := self._unmet(f"its claim {name!r}", request):
                    return found
        return None

    def unserved(self, resource: str, count: int) -> Problem | None:
        """The same for an extended resource that a device class serves."""
        request = {
            "deviceClassName": extended(self.classes.values())[resource],
            "count": count,
        }
        return self._unmet(f"its request for {resource}", {"exactly": request})

    def _unmade(self, template: str, namespace: str) -> Problem:
        known = {
            each["metadata"]["name"]
            for each in self.connection.claims("resourceclaimtemplates", namespace)
        }
        if template in known:
            return Problem(
                Waits.HELD,
                f"its ResourceClaim is still to be made from the template {template!r}.",
                "wait a moment; if it lasts, see the pod's events: kubectl describe pod.",
            )
        return Problem(
            Waits.HELD,
            f"its ResourceClaimTemplate {template!r} does not exist in namespace {namespace!r}.",
            f"create it, or name one of: {', '.join(sorted(known)) or 'none is there yet'}.",
        )

    def _unmet(self, whose: str, request: Object) -> Problem | None:
        """Why one request of a claim gets no device; of alternatives the last one counts."""
        wanted = request.get("exactly") or (request.get("firstAvailable") or [{}])[-1]
        name = wanted.get("deviceClassName", "")
        if name not in self.classes:
            known = ", ".join(sorted(self.classes))
            return Problem(
                Waits.NEVER,
                f"{whose} asks for the device class {name!r}, which does not exist.",
                f"take one of: {known}."
                if known
                else "install the DRA driver that brings it: kubectl get deviceclasses.",
            )
        if not self.devices:
            return Problem(
                Waits.NEVER,
                f"{whose} needs a device, and no DRA driver publishes any.",
                "see whether the DRA driver's pods run: kubectl get resourceslices and kubectl get "
                "pods -A.",
            )
        of_class = list(_meeting(self.devices, self.classes[name]["spec"]))
        fitting = list(_meeting(of_class, wanted))
        if not fitting:
            return _nothing_meets(whose, name, of_class, wanted)
        count = int(wanted.get("count") or 1)
        return self._too_few(whose, fitting, count)

    def _too_few(self, whose: str, fitting: list[Published], count: int) -> Problem | None:
        there = Counter(device.node for device in fitting)
        most = max(there.values())
        if most < count:
            return Problem(
                Waits.NEVER,
                f"{whose} asks for {count} devices, and no node has more than {most} such "
                f"device{'' if most == 1 else 's'}.",
                f"ask for at most {most}.",
            )
        sound = [device for device in fitting if not device.tainted]
        if not sound:
            return Problem(
                Waits.NEVER,
                f"{whose} finds only devices that their driver has tainted as not usable: "
                f"{_named(fitting)}.",
                "see the taints: kubectl get resourceslices -o yaml; mend the devices.",
            )
        free = Counter(device.node for device in sound if device.id not in self.holders)
        if free and max(free.values()) >= count:
            return None
        holders = sorted({pod for d in sound for pod in self.holders.get(d.id, ())})
        what = "device" if len(sound) == 1 else f"{len(sound)} devices"
        by = f"held by {listed(holders)}" if holders else "allocated"
        return Problem(
            Waits.BUSY,
            f"{whose} needs {_number(count)}; the {what} that would do ({_named(sound)}) "
            f"{'is' if len(sound) == 1 else 'are'} {by}.",
            f"wait until {'it' if len(holders) == 1 else 'one of them'} ends, share its claim "
            "(resourceClaimName), or add a device.",
        )


def _nothing_meets(
    whose: str, name: str, of_class: list[Published], wanted: Mapping[str, Any]
) -> Problem:
    if not of_class:
        return Problem(
            Waits.NEVER,
            f"{whose} asks for the device class {name!r}, and no device that is published belongs "
            "to it.",
            "see what the drivers publish: kubectl get resourceslices -o yaml.",
        )
    several = f"none of the {len(of_class)} devices" if len(of_class) > 1 else "the one device"
    verb = "meets" if len(of_class) > 1 else "does not meet"
    selector = " and ".join(_expressions(wanted))
    return Problem(
        Waits.NEVER,
        f"{several} of class {name!r} {verb} the selector of {whose.removeprefix('its ')}: "
        f"{selector}.",
        "loosen the selector; what the devices have: kubectl get resourceslices -o yaml.",
    )


def _expressions(wanted: Mapping[str, Any]) -> list[str]:
    selectors = wanted.get("selectors") or ()
    return [each["cel"]["expression"] for each in selectors if "cel" in each]


def _meeting(devices: Iterable[Published], wanted: Mapping[str, Any]) -> Iterator[Published]:
    from mlk8s.sim.cel import CelError, selector

    expressions = _expressions(wanted)
    for device in devices:
        try:
            if all(selector(e).matches(device.id.driver, device.raw) for e in expressions):
                yield device
        except CelError:
            # An expression that fails for a device is one that the device does not meet.
            continue


def _number(count: int) -> str:
    return "a device" if count == 1 else f"{count} devices"


def _named(devices: list[Published]) -> str:
    return listed([f"{d.id.name} on {d.node}" if d.node else d.id.name for d in devices])


def listed(names: list[str]) -> str:
    """``a, b and c``; of many the first and how many more."""
    if len(names) > _SHOWN:
        return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 2 else names)
