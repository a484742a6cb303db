"""Dynamic Resource Allocation: the scheduler plugin that gives pods the devices they claim.

The rules and sentences are those of
``pkg/scheduler/framework/plugins/dynamicresources`` of 1.36. Allocations are decided in ``filter``,
held in memory from ``reserve`` on, and written in ``pre_bind``; a claim in between is *in the
process of being allocated*, and a second pod with it has to wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mlk8s.sim.api import Api
from mlk8s.sim.scheduler import extended
from mlk8s.sim.scheduler.allocated import Allocated
from mlk8s.sim.scheduler.allocator import AllocationError, Allocator, InvalidPool, OutOfTime
from mlk8s.sim.scheduler.devices import Inventory, selector_matches
from mlk8s.sim.scheduler.framework import SKIPPED, Code, NodeInfo, Plugin, State, Verdict
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

CLAIMS = "resourceclaims.resource.k8s.io"
CLASSES = "deviceclasses.resource.k8s.io"
SLICES = "resourceslices.resource.k8s.io"
FINALIZER = "resource.kubernetes.io/delete-protection"


class _NotReady(Exception):
    """A claim of the pod is not there, or not for it; the text is upstream's."""


@dataclass
class _Cycle:
    """What one scheduling attempt knows.

    Attributes:
        claims: the pod's, those that its spec names first.
        extended: the one for its extended resources; the last of ``claims`` then.
        served: extended resource → class, of those that a class serves.
        unavailable: claims whose allocation did not suit some node.
        found: node → allocations of the claims without one, in order.
        node_claims: node → the claim for extended resources as that node needs it, and which
            container uses which request.
        allocations: by claim uid, once a node is chosen.
    """

    claims: list[Object] = field(default_factory=list)
    extended: Object | None = None
    served: dict[str, str] = field(default_factory=dict)
    allocator: Allocator | None = None
    unavailable: dict[str, Object] = field(default_factory=dict)
    found: dict[str, list[Object]] = field(default_factory=dict)
    node_claims: dict[str, tuple[Object, list[Object]]] = field(default_factory=dict)
    allocations: dict[str, Object] = field(default_factory=dict)

    def to_allocate(self) -> list[Object]:
        """The claims without an allocation."""
        return [claim for claim in self.claims if not _allocation(claim)]


class DynamicResources(Plugin):
    """Pods with ``resourceClaims``, and those whose extended resources a DeviceClass serves.

    Args:
        api: the cluster.
    """

    name = "DynamicResources"

    def __init__(self, api: Api) -> None:
        self._api = api
        self.inventory = Inventory()
        self.allocated = Allocated()
        self.classes = extended.Classes()
        for obj in api.store.items(SLICES):
            self.inventory.put(obj)
        for obj in api.store.items(CLASSES):
            self.classes.put(obj["metadata"]["name"], obj)
        for obj in api.store.items(CLAIMS):
            self.allocated.store(obj["metadata"]["uid"], _allocation(obj))
        api.store.subscribe(self._hear)

    def delegates(self, resource: str, node: NodeInfo) -> bool:
        """Whether an extended resource of a node is DRA's concern, not NodeResourcesFit's.

        That is so when a DeviceClass serves it and no device plugin advertises any of it.
        """
        if "/" not in resource or node.allocatable.get(resource):
            return False
        return self.classes.serving(resource) is not None

    # -- before scheduling -----------------------------------------------------------------------

    def pre_enqueue(self, pod: Object) -> Verdict | None:
        """A pod waits until its claims exist."""
        try:
            self._claims(pod)
        except _NotReady as error:
            return self._no(str(error))
        return None

    def may_help(self, pod: Object, change: Change) -> bool:
        """Nodes, classes, slices, deallocated claims, and what happens to the pod's own claims."""
        if change.type == "DELETED":
            return False
        if change.key in (CLASSES, SLICES):
            return True
        new, old = change.object, change.old
        if change.key == "nodes":
            return old is None or any(
                new[part].get(name) != old[part].get(name)
                for part, name in (("metadata", "labels"), ("spec", "taints"))
            )
        if change.key == "pods":
            return bool(new["metadata"]["uid"] == pod["metadata"]["uid"])
        if change.key != CLAIMS:
            return False
        if old is not None and _allocation(old) and not _allocation(new):
            return True
        try:
            mine = any(
                claim["metadata"]["uid"] == new["metadata"]["uid"] for claim in self._claims(pod)
            )
        except _NotReady:
            return False
        return mine and (old is None or old.get("status") != new.get("status"))

    # -- scheduling cycle ------------------------------------------------------------------------

    def pre_filter(self, state: State, pod: Object, nodes: list[NodeInfo]) -> Verdict | None:
        """Look up the claims; no node can do when one of them is not ready."""
        state[self.name] = _Cycle()
        try:
            claims = self._claims(pod)
        except _NotReady as error:
            return self._no(str(error))
        served = self._served(state)
        special = self._extended_claim(pod) if served else None
        if special is not None:
            claims.append(special)
        if not claims:
            return SKIPPED
        cycle = _Cycle(claims, special, served)
        for claim in cycle.to_allocate():
            if self.allocated.pending(claim["metadata"]["uid"]):
                return self._no(
                    f"resource claim {_key(claim)} is in the process of being allocated"
                )
            if claim is special:
                continue
            if reason := self._missing_class(claim):
                return self._no(reason)
        if cycle.to_allocate():
            cycle.allocator = Allocator(
                self.inventory,
                self.allocated,
                self.classes.get,
                lambda: self._api.uid("shares of devices"),
            )
        state[self.name] = cycle
        return None

    def filter(self, state: State, pod: Object, node: NodeInfo) -> Verdict | None:
        """Whether allocated claims can be used on the node, and others be allocated there.

        Raises:
            AllocationError: a claim or class is wrong, such as a selector that fails: the
                attempt ends for all nodes.
        """
        cycle: _Cycle = state[self.name]
        special = cycle.extended
        node_claim: tuple[Object, list[Object]] | None = None
        if special is not None:
            if (special["spec"].get("devices") or {}).get("requests"):
                # Left over from an attempt that failed after it was written.
                return self._no("cannot schedule extended resource claim")
            served = {r: c for r, c in cycle.served.items() if not node.allocatable.get(r)}
            if served:
                node_claim = self._node_claim(pod, special, served)
            elif len(cycle.claims) == 1:
                # A device plugin has them all.
                return None
        unavailable = [
            claim
            for claim in cycle.claims
            if (selector := (_allocation(claim) or {}).get("nodeSelector"))
            and not selector_matches(node.node, selector)
        ]
        found: list[Object] | None = None
        if cycle.allocator is not None:
            wanted = [
                node_claim[0] if claim is special and node_claim is not None else claim
                for claim in cycle.to_allocate()
            ]
            try:
                found = cycle.allocator.allocate(node.node, wanted)
            except (InvalidPool, OutOfTime) as error:
                return self._no(str(error))
            if found is None:
                return self._no("cannot allocate all claims")
        if unavailable:
            cycle.unavailable |= {claim["metadata"]["uid"]: claim for claim in unavailable}
            return self._no("resourceclaim not available on the node")
        if found is not None:
            cycle.found[node.name] = found
        if node_claim is not None:
            cycle.node_claims[node.name] = node_claim
        return None

    def post_filter(self, state: State, pod: Object, verdicts: object) -> str | None:
        """Deallocate an unused claim that is allocated for the wrong node."""
        cycle: _Cycle | None = state.get(self.name)
        if cycle is None or not cycle.claims:
            return "no new claims to deallocate"
        uid = pod["metadata"]["uid"]
        for claim in cycle.unavailable.values():
            if claim is cycle.extended:
                continue
            if all(user["uid"] == uid for user in _reserved(claim)):
                self._change(claim, _deallocate, "status")
                return "deallocation of ResourceClaim completed"
        if cycle.extended is not None and cycle.extended["metadata"].get("resourceVersion"):
            self._delete(cycle.extended)
            return "deletion of ResourceClaim completed"
        return "still not schedulable"

    def reserve(self, state: State, pod: Object, node: NodeInfo) -> Verdict | None:
        """Hold the devices of the chosen node in memory."""
        cycle: _Cycle = state.get(self.name) or _Cycle()
        for claim, allocation in zip(
            cycle.to_allocate(), cycle.found.get(node.name, ()), strict=False
        ):
            uid = claim["metadata"]["uid"]
            if claim is cycle.extended and node.name not in cycle.node_claims:
                continue
            cycle.allocations[uid] = allocation
            self.allocated.pend(uid, allocation)
        return None

    def unreserve(self, state: State, pod: Object, node: NodeInfo) -> None:
        """Let the devices go, and take the pod from claims that it was entered in."""
        cycle: _Cycle = state.get(self.name) or _Cycle()
        uid = pod["metadata"]["uid"]
        for claim in cycle.claims:
            self.allocated.pend(claim["metadata"]["uid"], None)
            if claim is not cycle.extended and any(
                user["uid"] == uid for user in _reserved(self._present(claim) or {})
            ):
                self._change(claim, lambda found: _release(found, uid), "status")
        cycle.allocations.clear()
        if cycle.extended is not None and cycle.extended["metadata"].get("resourceVersion"):
            self._delete(cycle.extended)

    # -- binding cycle ---------------------------------------------------------------------------

    def will_pre_bind(self, state: State, pod: Object, node: NodeInfo) -> bool:
        """Whether the pod has claims."""
        cycle: _Cycle | None = state.get(self.name)
        return cycle is not None and bool(cycle.claims)

    def pre_bind(self, state: State, pod: Object, node: NodeInfo) -> Verdict | None:
        """Write allocations and reservations.

        Raises:
            AllocationError: a claim has changed meanwhile; the pod is tried again.
        """
        cycle: _Cycle = state.get(self.name) or _Cycle()
        uid = pod["metadata"]["uid"]
        for number, claim in enumerate(cycle.claims):
            if any(user["uid"] == uid for user in _reserved(claim)):
                continue
            allocation = cycle.allocations.get(claim["metadata"]["uid"])
            if claim is not cycle.extended:
                cycle.claims[number] = self._bind(claim, allocation, pod)
            elif allocation is not None:
                self._bind_extended(cycle, number, allocation, pod, node)
        return None

    def _bind(self, claim: Object, allocation: Object | None, pod: Object) -> Object:
        key = _key(claim)
        present = self._present(claim)
        try:
            if present is None or "deletionTimestamp" in present["metadata"]:
                raise AllocationError(f"claim {key} got deleted in the meantime")
            if allocation is not None:
                if _allocation(present):
                    raise AllocationError(f"claim {key} got allocated elsewhere in the meantime")
                self._change(claim, _protect, "")
            stamp = self._api.timestamp()
            bound = self._change(
                claim, lambda found: _assign(found, allocation, stamp, pod), "status"
            )
        except StatusError as error:
            what = "allocation and reservation" if allocation is not None else "reservation"
            raise AllocationError(f"add {what} to claim {key}: {error}") from error
        finally:
            self.allocated.pend(claim["metadata"]["uid"], None)
        return bound or claim

    def _bind_extended(
        self, cycle: _Cycle, number: int, allocation: Object, pod: Object, node: NodeInfo
    ) -> None:
        """Make the claim for extended resources, and say in the pod what is whose."""
        temporary = cycle.claims[number]["metadata"]["uid"]
        claim, mappings = cycle.node_claims[node.name]
        metadata = {k: v for k, v in claim["metadata"].items() if k not in ("name", "uid")}
        namespace = metadata["namespace"]
        try:
            created = self._api.create(CLAIMS, {**claim, "metadata": metadata}, namespace)
            cycle.extended = cycle.claims[number] = created
            cycle.extended = cycle.claims[number] = self._bind(created, allocation, pod)
        except StatusError as error:
            text = f"create claim for extended resources {namespace}/: {error}"
            raise AllocationError(text) from error
        finally:
            self.allocated.pend(temporary, None)
        status = {
            "requestMappings": mappings,
            "resourceClaimName": created["metadata"]["name"],
        }

        def tell(found: Object) -> None:
            found.setdefault("status", {})["extendedResourceClaimStatus"] = status

        self._api.change("pods", namespace, pod["metadata"]["name"], tell, "status")

    # -- helpers ---------------------------------------------------------------------------------

    def _no(self, reason: str) -> Verdict:
        return Verdict(Code.UNRESOLVABLE, (reason,), self.name)

    def _hear(self, change: Change) -> None:
        gone = change.type == "DELETED"
        if change.key == CLAIMS:
            uid = change.object["metadata"]["uid"]
            self.allocated.store(uid, None if gone else _allocation(change.object))
        elif change.key == CLASSES:
            self.classes.put(change.name, None if gone else change.object)
        elif change.key == SLICES:
            if gone:
                self.inventory.remove(change.name)
            else:
                self.inventory.put(change.object)

    def _claims(self, pod: Object) -> list[Object]:
        """The claims that the pod's spec names.

        Raises:
            _NotReady: one is not there yet, goes away, or belongs to another pod.
        """
        metadata = pod["metadata"]
        namespace = metadata["namespace"]
        claims: list[Object] = []
        for entry in pod["spec"].get("resourceClaims") or ():
            name = _claim_name(pod, entry)
            if name is None:
                continue
            claim = self._api.find(CLAIMS, namespace, name)
            if claim is None:
                raise _NotReady(f'could not find ResourceClaim "{namespace}/{name}"')
            if "deletionTimestamp" in claim["metadata"]:
                raise _NotReady(f'resourceclaim "{name}" is being deleted')
            if "resourceClaimName" not in entry and not _owned_by(claim, metadata["uid"]):
                raise _NotReady(
                    f"ResourceClaim {namespace}/{name} was not created for Pod "
                    f"{namespace}/{metadata['name']} (Pod is not owner)"
                )
            claims.append(claim)
        return claims

    def _missing_class(self, claim: Object) -> str:
        for request in (claim["spec"].get("devices") or {}).get("requests") or ():
            subrequests = request.get("firstAvailable")
            names = (
                [(f"{request['name']}/{sub['name']}", sub) for sub in subrequests]
                if subrequests
                else [(request["name"], request["exactly"])]
            )
            for name, spec in names:
                wanted = spec["deviceClassName"]
                if self.classes.get(wanted) is None:
                    return f"request {name}: device class {wanted} does not exist"
        return ""

    def _served(self, state: State) -> dict[str, str]:
        """The pod's extended resources that a class serves."""
        return {
            resource: cls["metadata"]["name"]
            for resource, amount in state["pod"].requests.items()
            if amount and "/" in resource and (cls := self.classes.serving(resource)) is not None
        }

    def _extended_claim(self, pod: Object) -> Object:
        """The claim of an earlier attempt, or one that exists in memory only."""
        for key, namespace, name in self._api.store.owned(pod["metadata"]["uid"]):
            if key == CLAIMS and (claim := self._api.find(key, namespace, name)) is not None:
                annotations = claim["metadata"].get("annotations") or {}
                if annotations.get(extended.ANNOTATION) == "true":
                    return claim
        return extended.template(pod)

    def _node_claim(
        self, pod: Object, special: Object, served: dict[str, str]
    ) -> tuple[Object, list[Object]]:
        requests, mappings = extended.requests(pod, served)
        return {**special, "spec": {"devices": {"requests": requests}}}, mappings

    def _present(self, claim: Object) -> Object | None:
        metadata = claim["metadata"]
        found = self._api.find(CLAIMS, metadata["namespace"], metadata["name"])
        same = found is not None and found["metadata"]["uid"] == metadata["uid"]
        return found if same else None

    def _change(
        self, claim: Object, mutate: Callable[[Object], None], subresource: str
    ) -> Object | None:
        metadata = claim["metadata"]
        return self._api.change(
            CLAIMS, metadata["namespace"], metadata["name"], mutate, subresource
        )

    def _delete(self, claim: Object) -> None:
        if self._present(claim) is None:
            return
        self._change(claim, _unprotect, "")
        if self._present(claim) is not None:
            metadata = claim["metadata"]
            self._api.delete(CLAIMS, metadata["namespace"], metadata["name"])


def _claim_name(pod: Object, entry: Object) -> str | None:
    """The claim of an entry of ``spec.resourceClaims``; ``None`` when it needs none.

    Raises:
        _NotReady: it is still to be made from its template.
    """
    if "resourceClaimName" in entry:
        name: str = entry["resourceClaimName"]
        return name
    for status in (pod.get("status") or {}).get("resourceClaimStatuses") or ():
        if status["name"] == entry["name"]:
            return status.get("resourceClaimName") or None
    metadata = pod["metadata"]
    raise _NotReady(
        f'pod "{metadata["namespace"]}/{metadata["name"]}": ResourceClaim not created yet'
    )


def _owned_by(claim: Object, uid: str) -> bool:
    """Whether a claim was made for a pod."""
    return any(
        owner["uid"] == uid and owner.get("controller")
        for owner in claim["metadata"].get("ownerReferences") or ()
    )


def _unprotect(claim: Object) -> None:
    """Take the finalizer away that keeps an allocated claim."""
    left = [name for name in claim["metadata"].get("finalizers") or () if name != FINALIZER]
    if left:
        claim["metadata"]["finalizers"] = left
    else:
        claim["metadata"].pop("finalizers", None)


def _allocation(claim: Object) -> Object | None:
    return (claim.get("status") or {}).get("allocation")


def _reserved(claim: Object) -> list[Object]:
    return (claim.get("status") or {}).get("reservedFor") or []


def _key(claim: Object) -> str:
    return f"{claim['metadata']['namespace']}/{claim['metadata']['name']}"


def _protect(claim: Object) -> None:
    finalizers = claim["metadata"].setdefault("finalizers", [])
    if FINALIZER not in finalizers:
        finalizers.append(FINALIZER)


def _assign(claim: Object, allocation: Object | None, stamp: str, pod: Object) -> None:
    status = claim.setdefault("status", {})
    if allocation is not None:
        status["allocation"] = {**allocation, "allocationTimestamp": stamp}
    metadata = pod["metadata"]
    user = {"resource": "pods", "name": metadata["name"], "uid": metadata["uid"]}
    status.setdefault("reservedFor", []).append(user)


def _release(claim: Object, uid: str) -> None:
    status = claim["status"]
    status["reservedFor"] = [user for user in status["reservedFor"] if user["uid"] != uid]
    if not status["reservedFor"]:
        del status["reservedFor"]


def _deallocate(claim: Object) -> None:
    for part in ("reservedFor", "allocation", "devices"):
        claim["status"].pop(part, None)
