"""What GPUs a cluster has: per node and in all, capacity to free, and which pod holds what."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from mlk8s.cluster import requests
from mlk8s.cluster.connect import Connection, connect
from mlk8s.provenance import Provenance, Table, badges, labels

Object = dict[str, Any]

_PREFIX = "nvidia.com/"


@dataclass(frozen=True)
class Amount:
    """One resource of a node, in base units (devices, cores, bytes).

    Attributes:
        capacity: what the node has.
        allocatable: what may be given to pods; less than capacity when a device is unhealthy.
        requested: what pods that run there asked for.
    """

    capacity: Decimal
    allocatable: Decimal
    requested: Decimal

    @property
    def free(self) -> Decimal:
        """What is left; below zero after devices were lost under running pods."""
        return self.allocatable - self.requested


@dataclass(frozen=True)
class Holder:
    """A pod that occupies devices of a node.

    Attributes:
        resource: ``nvidia.com/gpu``, or the device class of a claim.
        devices: names of claimed devices; empty for what a device plugin gave, since the API does
            not say which.
    """

    namespace: str
    pod: str
    resource: str
    count: int
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Node:
    """One node, as its labels and status describe it.

    Attributes:
        product: ``nvidia.com/gpu.product``; empty without a GPU.
        memory_mib: of one GPU, MiB, as GPU Feature Discovery writes it.
        sharing: ``none``, ``time-slicing`` or ``mps``, with the number of replicas.
        mig: the MIG strategy, and the layout that was asked for with its state.
        claimable: devices that DRA drivers publish, by driver.
        problems: why no new pod comes here: cordoned, not ready, taints.
    """

    name: str
    product: str
    memory_mib: int | None
    sharing: str
    mig: str
    amounts: dict[str, Amount]
    claimable: dict[str, int] = field(default_factory=dict)
    holders: tuple[Holder, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def devices(self) -> dict[str, Amount]:
        """The amounts of GPUs, shares and MIG devices alone."""
        return {name: a for name, a in self.amounts.items() if requests.is_device(name)}


@dataclass(frozen=True)
class Inventory:
    """The nodes of a cluster, and where the figures come from."""

    nodes: tuple[Node, ...]
    provenance: Provenance

    def totals(self) -> dict[str, Amount]:
        """Each device resource summed over the nodes."""
        sums: dict[str, list[Decimal]] = {}
        for node in self.nodes:
            for name, a in node.devices.items():
                into = sums.setdefault(name, [Decimal(0)] * 3)
                for i, part in enumerate((a.capacity, a.allocatable, a.requested)):
                    into[i] += part
        return {name: Amount(*parts) for name, parts in sorted(sums.items())}

    def table(self) -> Table:
        """One row a node and device resource."""
        rows = []
        for node in self.nodes:
            for name, a in node.devices.items() or [("–", None)]:
                rows.append(
                    {
                        "node": node.name,
                        "product": node.product or None,
                        "resource": name.removeprefix(_PREFIX) if a else None,
                        "capacity": int(a.capacity) if a else None,
                        "allocatable": int(a.allocatable) if a else None,
                        "requested": int(a.requested) if a else None,
                        "free": int(a.free) if a else None,
                    }
                )
        title = "What each node has (resources of nvidia.com/)"
        return Table(rows, self.provenance, title=title)

    def details(self) -> Table:
        """One row a node: GPU memory, MIG, sharing, DRA devices, what keeps pods away."""
        rows = [
            {
                "node": node.name,
                "GPU memory [MiB]": node.memory_mib,
                "MIG": node.mig or None,
                "sharing": node.sharing or None,
                "DRA devices": ", ".join(f"{n} {d}" for d, n in node.claimable.items()) or None,
                "free cpu": requests.amount(node.amounts["cpu"].free, "cpu"),
                "closed to pods by": ", ".join(node.problems) or None,
            }
            for node in self.nodes
        ]
        return Table(rows, self.provenance, title="How each node is set up")

    def holders(self) -> Table:
        """One row a pod that holds devices."""
        rows = [
            {
                "node": node.name,
                "pod": f"{holder.namespace}/{holder.pod}",
                "resource": holder.resource,
                "count": holder.count,
                "devices": ", ".join(holder.devices) or None,
            }
            for node in self.nodes
            for holder in node.holders
        ]
        return Table(rows, self.provenance, title="Who holds devices")

    def as_json(self) -> Object:
        """The same as JSON values, numbers as text where they are not whole."""

        def number(value: Decimal) -> int | float:
            return int(value) if value == value.to_integral_value() else float(value)

        return {
            "nodes": [
                {
                    **vars(node),
                    "amounts": {
                        name: {
                            part: number(getattr(a, part))
                            for part in ("capacity", "allocatable", "requested", "free")
                        }
                        for name, a in node.amounts.items()
                    },
                    "holders": [vars(holder) for holder in node.holders],
                }
                for node in self.nodes
            ],
            "provenance": self.provenance.as_json(),
        }

    def _parts(self) -> list[Table]:
        parts = [self.table(), self.details()]
        if held := self.holders():
            parts.append(held)
        return parts

    def __repr__(self) -> str:
        texts = [repr(part).removesuffix("\n" + str(self.provenance)) for part in self._parts()]
        return "\n\n".join([*texts, *labels([self.provenance])])

    def _repr_html_(self) -> str:
        badge = badges([self.provenance])
        return "".join(part._repr_html_().replace(badge, "") for part in self._parts()) + badge

    def __rich__(self) -> Any:
        from rich.console import Group

        return Group(*self._parts())


def inventory(connection: Connection | None = None) -> Inventory:
    """Read nodes, pods and DRA objects, each once and page by page.

    Memory grows with the nodes and with the pods that hold devices, not with all pods.

    Args:
        connection: the cluster; :func:`connect` when not given.

    Raises:
        ClusterError: the server refused.
        ClusterUnavailable: nothing answers.
    """
    connection = connection or connect()
    requested: dict[str, dict[str, Decimal]] = defaultdict(dict)
    holders: dict[str, list[Holder]] = defaultdict(list)
    pod_nodes: dict[str, str] = {}
    for pod in connection.pages(connection.core.list_pod_for_all_namespaces):
        if not requests.holds(pod):
            continue
        node, metadata = pod["spec"]["nodeName"], pod["metadata"]
        asked = requests.effective(pod)
        requests.add(requested[node], asked)
        for name, count in asked.items():
            if requests.is_device(name) and count:
                holders[node].append(
                    Holder(metadata["namespace"], metadata["name"], name, int(count))
                )
        if pod["spec"].get("resourceClaims") or "extendedResourceClaimStatus" in pod["status"]:
            pod_nodes[metadata["uid"]] = node
    claimable = _claimable(connection)
    for node, claimed in _claimed(connection, pod_nodes).items():
        holders[node].extend(claimed)
    nodes = []
    for node_object in connection.pages(connection.core.list_node):
        name = node_object["metadata"]["name"]
        nodes.append(
            _node(node_object, requested[name], claimable.get(name, {}), tuple(holders[name]))
        )
    return Inventory(tuple(nodes), connection.provenance)


def _node(
    node: Object,
    requested: dict[str, Decimal],
    claimable: dict[str, int],
    holders: tuple[Holder, ...],
) -> Node:
    marks = node["metadata"].get("labels") or {}
    status = node.get("status") or {}
    capacity = requests.quantities(status.get("capacity") or {})
    allocatable = requests.quantities(status.get("allocatable") or {})
    kept = [n for n in {**capacity, **allocatable} if requests.is_device(n)]
    zero = Decimal(0)
    amounts = {
        name: Amount(
            capacity.get(name, zero), allocatable.get(name, zero), requested.get(name, zero)
        )
        for name in [*sorted(kept), "cpu", "memory"]
    }

    def mark(name: str) -> str:
        return str(marks.get(_PREFIX + name, ""))

    sharing = mark("gpu.sharing-strategy")
    if sharing not in ("", "none"):
        sharing += f" ×{mark('gpu.replicas')}"
    mig = mark("mig.strategy") if mark("mig.capable") == "true" else ""
    if config := mark("mig.config"):
        mig += f" ({config}: {mark('mig.config.state') or 'not applied yet'})"
    memory = mark("gpu.memory")
    return Node(
        name=node["metadata"]["name"],
        product=mark("gpu.product"),
        memory_mib=int(memory) if memory.isdigit() else None,
        sharing=sharing,
        mig=mig,
        amounts=amounts,
        claimable=claimable,
        holders=holders,
        problems=tuple(problems(node)),
    )


def problems(node: Object) -> list[str]:
    """What keeps pods without a toleration off a node."""
    spec = node.get("spec") or {}
    found = ["cordoned"] if spec.get("unschedulable") else []
    conditions = (node.get("status") or {}).get("conditions") or []
    if any(c["type"] == "Ready" and c["status"] != "True" for c in conditions):
        found.append("not ready")
    for taint in spec.get("taints") or ():
        if taint["effect"] != "PreferNoSchedule" and not taint["key"].startswith(
            "node.kubernetes.io/"
        ):
            found.append(f"taint {taint['key']}:{taint['effect']}")
    return found


def _claimable(connection: Connection) -> dict[str, dict[str, int]]:
    """How many devices each DRA driver publishes for each node."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for piece in connection.claims("resourceslices"):
        spec = piece["spec"]
        if node := spec.get("nodeName"):
            found[node][spec["driver"]] += len(spec.get("devices") or ())
    return {node: dict(counts) for node, counts in found.items()}


def _claimed(connection: Connection, pod_nodes: dict[str, str]) -> dict[str, list[Holder]]:
    """Who has which devices by a claim; looked up only when some pod has a claim."""
    found: dict[str, list[Holder]] = defaultdict(list)
    if not pod_nodes:
        return found
    for claim in connection.claims("resourceclaims"):
        status = claim.get("status") or {}
        results = ((status.get("allocation") or {}).get("devices") or {}).get("results") or []
        by_driver: dict[str, list[str]] = defaultdict(list)
        for result in results:
            by_driver[result["driver"]].append(result["device"])
        for user in status.get("reservedFor") or ():
            node = pod_nodes.get(user["uid"])
            if node is None:
                continue
            for driver, devices in by_driver.items():
                namespace = claim["metadata"]["namespace"]
                found[node].append(
                    Holder(namespace, user["name"], driver, len(devices), tuple(devices))
                )
    return found
