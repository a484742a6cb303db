"""An inventory as plain values, tables and JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from mlk8s.cluster import requests
from mlk8s.provenance import Provenance, Table, badges, labels

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
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

    @property
    def unhealthy(self) -> Decimal:
        """What the node has and cannot give."""
        return self.capacity - self.allocatable

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.capacity + other.capacity,
            self.allocatable + other.allocatable,
            self.requested + other.requested,
        )


@dataclass(frozen=True, slots=True)
class Holder:
    """A pod that occupies devices of a node.

    Attributes:
        resource: ``nvidia.com/gpu``, or the DRA driver of a claim.
        devices: names of claimed devices; ids of what a device plugin gave on the embedded
            cluster; empty on a real one, whose API does not say which.
    """

    namespace: str
    pod: str
    resource: str
    count: int
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """One node, as its labels and status describe it.

    Attributes:
        product: ``nvidia.com/gpu.product``; empty without a GPU.
        memory_mib: of one GPU, MiB, as GPU Feature Discovery writes it.
        sharing: ``time-slicing ×4``, ``mps ×4``; empty when each pod has its device alone.
        mig: the layout that was asked for and the strategy; empty without MIG devices.
        amounts: by resource name; cpu and memory among them.
        claimable: devices that DRA drivers publish, by driver.
        problems: why no new pod comes here: cordoned, not ready, taints.
    """

    name: str
    product: str
    memory_mib: int | None
    sharing: str
    mig: str
    amounts: dict[str, Amount]
    claimable: dict[str, Amount] = field(default_factory=dict)
    holders: tuple[Holder, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def devices(self) -> dict[str, Amount]:
        """GPUs, shares and MIG devices; not those that a node has no more and nobody holds."""
        found = {
            name: a
            for name, a in self.amounts.items()
            if requests.is_device(name) and (a.capacity or a.allocatable or a.requested)
        }
        return found | {f"{driver} (DRA)": a for driver, a in self.claimable.items()}


@dataclass(frozen=True)
class Inventory:
    """The nodes of a cluster, and where the figures come from.

    Attributes:
        elsewhere: devices that DRA drivers publish for no node in particular, by driver.
    """

    nodes: tuple[Node, ...]
    provenance: Provenance
    elsewhere: dict[str, int] = field(default_factory=dict)

    def totals(self) -> dict[str, Amount]:
        """Each device resource summed over the nodes."""
        sums: dict[str, Amount] = {}
        for node in self.nodes:
            for name, amount in node.devices.items():
                sums[name] = sums[name] + amount if name in sums else amount
        return dict(sorted(sums.items()))

    def table(self) -> Table:
        """One row a node and device resource; the totals where several nodes add up."""
        rows = [
            _row(node.name, name, amount)
            for node in self.nodes
            for name, amount in node.devices.items()
        ]
        if len(self.nodes) > 1:
            rows += [_row("all nodes", name, amount) for name, amount in self.totals().items()]
        # Short enough for 80 columns; other vendors' names stay whole.
        return Table(rows, self.provenance, title="What can be asked for (nvidia.com/…)")

    def details(self) -> Table:
        """One row a node: its GPU, how it is divided, what keeps pods away."""
        rows = [
            {
                "node": node.name,
                "GPU": node.product or None,
                "memory [MiB]": node.memory_mib,
                "cut or shared": _divided(node) or None,
                "free CPU": requests.amount(node.amounts["cpu"].free, "cpu"),
                "closed by": ", ".join(node.problems) or None,
            }
            for node in self.nodes
        ]
        told = [key for key in rows[0] if any(row[key] is not None for row in rows)] if rows else []
        shown = [{key: row[key] for key in told} for row in rows]
        return Table(shown, self.provenance, title="Nodes")

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
        return Table(rows, self.provenance, title="Who holds them")

    def unhealthy(self) -> list[str]:
        """A sentence for each node that has devices which it cannot give."""
        return [
            f"{int(a.unhealthy)} of {int(a.capacity)} {name} on {node.name} "
            f"{'is' if a.unhealthy == 1 else 'are'} unhealthy: allocatable is less than capacity."
            for node in self.nodes
            for name, a in node.devices.items()
            if a.unhealthy > 0
        ]

    def as_json(self) -> Object:
        """The same as JSON values: numbers in base units (devices, cores, bytes)."""
        return {
            "nodes": [
                {
                    "name": node.name,
                    "product": node.product,
                    "memory_mib": node.memory_mib,
                    "sharing": node.sharing,
                    "mig": node.mig,
                    "amounts": {name: _numbers(a) for name, a in node.amounts.items()},
                    "claimable": {name: _numbers(a) for name, a in node.claimable.items()},
                    "holders": [
                        {
                            "namespace": holder.namespace,
                            "pod": holder.pod,
                            "resource": holder.resource,
                            "count": holder.count,
                            "devices": list(holder.devices),
                        }
                        for holder in node.holders
                    ],
                    "problems": list(node.problems),
                }
                for node in self.nodes
            ],
            "totals": {name: _numbers(a) for name, a in self.totals().items()},
            "elsewhere": self.elsewhere,
            "provenance": self.provenance.as_json(),
        }

    def _parts(self) -> list[Any]:
        if not self.nodes:
            return ["The cluster has no nodes."]
        parts: list[Any] = [part for part in (self.table(), self.details(), self.holders()) if part]
        if not self.table():
            parts.insert(0, "No node offers a GPU.")
        parts += self.unhealthy()
        for driver, count in self.elsewhere.items():
            parts.append(f"{driver} publishes {count} more for no node in particular.")
        return parts

    def __repr__(self) -> str:
        badge = "\n" + str(self.provenance)
        texts = [str(part).removesuffix(badge) for part in self._parts()]
        return "\n\n".join(texts) + badge

    def _repr_html_(self) -> str:
        badge = badges([self.provenance])
        return (
            "".join(
                f"<p>{part}</p>" if isinstance(part, str) else part._repr_html_().replace(badge, "")
                for part in self._parts()
            )
            + badge
        )

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        badge = Text("\n".join(labels([self.provenance])), style="dim")
        parts = [part if isinstance(part, str) else part.__rich__() for part in self._parts()]
        # One badge for all tables, below them.
        bare = [part if isinstance(part, str) else part.renderables[0] for part in parts]
        return Group(*bare, badge)


def _row(node: str, resource: str, amount: Amount) -> dict[str, Any]:
    return {
        "node": node,
        "resource": resource.removeprefix("nvidia.com/"),
        "capacity": int(amount.capacity),
        "allocatable": int(amount.allocatable),
        "requested": int(amount.requested),
        "free": int(amount.free),
    }


def _divided(node: Node) -> str:
    return ", ".join(text for text in (node.mig and f"MIG {node.mig}", node.sharing) if text)


def _numbers(amount: Amount) -> dict[str, int | float]:
    return {
        part: int(value) if value == value.to_integral_value() else float(value)
        for part in ("capacity", "allocatable", "requested", "free")
        if (value := getattr(amount, part)) is not None
    }
