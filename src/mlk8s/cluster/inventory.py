"""What GPUs a cluster has: per node and in all, capacity to free, and which pod holds what."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from mlk8s.cluster import claims, requests
from mlk8s.cluster.connect import connect
from mlk8s.cluster.connection import Connection
from mlk8s.cluster.report import Amount, Holder, Inventory, Node
from mlk8s.cluster.wire import path

Object = dict[str, Any]

_PREFIX = "nvidia.com/"
# What the embedded cluster writes on the nodes that it serves itself.
_SIMULATED = "mlk8s.dev/simulated"
_ZERO = Decimal(0)


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
    claiming: dict[str, str] = {}
    for pod in connection.items(path("pods")):
        if not requests.holds(pod):
            continue
        node, metadata = pod["spec"]["nodeName"], pod["metadata"]
        asked = requests.effective(pod)
        mapped = pod["status"].get("extendedResourceClaimStatus")
        if pod["spec"].get("resourceClaims") or mapped:
            claiming[metadata["uid"]] = node
        for each in (mapped or {}).get("requestMappings") or ():
            # A DRA driver serves it: the claim says which device.
            asked.pop(each["resourceName"], None)
        requests.add(requested[node], asked)
        for name, count in asked.items():
            if requests.is_device(name) and count:
                holders[node].append(
                    Holder(metadata["namespace"], metadata["name"], name, int(count))
                )
    claimable, elsewhere = _claimable(connection, claiming, holders)
    nodes = []
    for found in connection.items(path("nodes")):
        name = found["metadata"]["name"]
        held = _identified(found, holders.pop(name, []), connection)
        nodes.append(_node(found, requested.pop(name, {}), claimable.pop(name, {}), held))
    nodes.sort(key=lambda each: each.name)
    return Inventory(tuple(nodes), connection.provenance, elsewhere)


def _node(
    node: Object,
    requested: dict[str, Decimal],
    claimable: dict[str, Amount],
    holders: list[Holder],
) -> Node:
    marks = node["metadata"].get("labels") or {}
    status = node.get("status") or {}
    capacity = requests.quantities(status.get("capacity") or {})
    allocatable = requests.quantities(status.get("allocatable") or {})
    # Also what pods hold and the node no longer has at all.
    kept = {n for n in (*capacity, *allocatable, *requested) if requests.is_device(n)}
    amounts = {
        name: Amount(
            capacity.get(name, _ZERO), allocatable.get(name, _ZERO), requested.get(name, _ZERO)
        )
        for name in [*sorted(kept), "cpu", "memory"]
    }

    def mark(name: str) -> str:
        return str(marks.get(_PREFIX + name, ""))

    sharing = mark("gpu.sharing-strategy")
    if sharing not in ("", "none"):
        sharing += f" ×{mark('gpu.replicas')}"
    memory = mark("gpu.memory")
    return Node(
        name=node["metadata"]["name"],
        product=mark("gpu.product"),
        memory_mib=int(memory) if memory.isdigit() else None,
        sharing="" if sharing == "none" else sharing,
        mig=_mig(mark, amounts),
        amounts=amounts,
        claimable=claimable,
        holders=tuple(sorted(holders, key=lambda h: (h.resource, h.namespace, h.pod))),
        problems=tuple(problems(node)),
    )


def _mig(mark: Callable[[str], str], amounts: dict[str, Amount]) -> str:
    """The layout that was asked for, with the strategy and anything but success."""
    config, state = mark("mig.config"), mark("mig.config.state")
    layout = config or ("cut" if any("/mig-" in name for name in amounts) else "")
    if mark("mig.capable") != "true" or layout in ("", "all-disabled"):
        return layout if state not in ("", "success") else ""
    text = f"{layout} ({mark('mig.strategy')})"
    return text if state in ("", "success") else f"{text}: {state}"


def problems(node: Object) -> list[str]:
    """What keeps pods without a toleration off a node."""
    spec = node.get("spec") or {}
    found = ["cordoned"] if spec.get("unschedulable") else []
    conditions = (node.get("status") or {}).get("conditions") or []
    if any(c["type"] == "Ready" and c["status"] != "True" for c in conditions):
        found.append("not ready")
    for taint in spec.get("taints") or ():
        if taint["effect"] != "PreferNoSchedule" and not taint["key"].startswith(
            ("node.kubernetes.io/unschedulable", "node.kubernetes.io/not-ready")
        ):
            found.append(f"taint {taint['key']}:{taint['effect']}")
    return found


def _claimable(
    connection: Connection, claiming: dict[str, str], holders: dict[str, list[Holder]]
) -> tuple[dict[str, dict[str, Amount]], dict[str, int]]:
    """What DRA drivers publish for each node, and for no node in particular, by driver.

    The pods that hold claimed devices are added to ``holders``; claims are read only where there
    are devices.
    """
    there: dict[str, Counter[str]] = defaultdict(Counter)
    sound: dict[str, Counter[str]] = defaultdict(Counter)
    home: dict[claims.DeviceId, str] = {}
    elsewhere: Counter[str] = Counter()
    for device in claims.published(connection.claims("resourceslices")):
        if not device.node:
            elsewhere[device.id.driver] += 1
            continue
        home[device.id] = device.node
        there[device.node][device.id.driver] += 1
        sound[device.node][device.id.driver] += not device.tainted
    used: dict[str, Counter[str]] = defaultdict(Counter)
    for claim in connection.claims("resourceclaims") if there or claiming else ():
        by_driver: dict[str, list[str]] = defaultdict(list)
        for given in claims.taken(claim):
            by_driver[given.driver].append(given.name)
            if given in home:
                used[home[given]][given.driver] += 1
        namespace = claim["metadata"]["namespace"]
        for user in (claim.get("status") or {}).get("reservedFor") or ():
            node = claiming.get(user["uid"])
            for driver, names in by_driver.items() if node else ():
                holders[str(node)].append(
                    Holder(namespace, user["name"], driver, len(names), tuple(names))
                )
    amounts = {
        node: {
            driver: Amount(
                Decimal(count), Decimal(sound[node][driver]), Decimal(used[node][driver])
            )
            for driver, count in drivers.items()
        }
        for node, drivers in there.items()
    }
    return amounts, dict(elsewhere)


def _identified(node: Object, holders: list[Holder], connection: Connection) -> list[Holder]:
    """Holders with the ids of their devices, which only the embedded cluster can tell."""
    marks = node["metadata"].get("annotations") or {}
    asked = any(not holder.devices for holder in holders)
    if connection.embedded is None or _SIMULATED not in marks or not asked:
        return holders
    ids: dict[tuple[str, str], list[str]] = defaultdict(list)
    for device in connection.embedded.devices(node["metadata"]["name"]):
        if device["holder"]:
            ids[device["holder"], device["resource"]].append(device["id"])
    return [
        holder
        if holder.devices
        else Holder(
            holder.namespace,
            holder.pod,
            holder.resource,
            holder.count,
            tuple(ids[f"{holder.namespace}/{holder.pod}", holder.resource]),
        )
        for holder in holders
    ]
