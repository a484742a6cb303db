"""What the course has left in a cluster: its objects, an invented device, faults that are on.

All that the labs and the exercises make carries the label ``app.kubernetes.io/managed-by=mlk8s``,
so every kind that the server can list is asked for it. What lies in a namespace of the course goes
with the namespace and is counted, not listed. Nothing is deleted here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from mlk8s.cluster import naming
from mlk8s.cluster.connect import connect
from mlk8s.cluster.connection import MANAGED, Connection
from mlk8s.cluster.wire import path
from mlk8s.errors import ClusterError
from mlk8s.provenance import Provenance

Object = dict[str, Any]

_SELECTOR = ",".join(f"{key}={value}" for key, value in MANAGED.items())
#: The extended resource that chapter 5 invents, and takes back.
DONGLE = "example.com/dongle"


@dataclass(frozen=True)
class Left:
    """One thing that is left.

    Attributes:
        what: as ``priorityclass/mlk8s-batch``.
        where: its namespace or node; empty for what has none.
        holds: what goes with it, in words; empty where nothing does.
        remove: the command that removes it.
    """

    what: str
    where: str
    holds: str
    remove: str


@dataclass(frozen=True)
class Leftovers:
    """What the course has left in a cluster.

    Attributes:
        left: each thing, namespaces first.
        unasked: kinds that could not be listed, with the server's reason.
    """

    left: tuple[Left, ...]
    unasked: tuple[str, ...]
    provenance: Provenance

    def as_json(self) -> Object:
        """As JSON values."""
        return {
            "left": [asdict(each) for each in self.left],
            "unasked": list(self.unasked),
            "provenance": self.provenance.as_json(),
        }

    def __repr__(self) -> str:
        lines = [f"{each.what}{_aside(each)}\n    {each.remove}" for each in self.left]
        if not lines:
            lines = ["Nothing of the course is left in this cluster."]
        return "\n".join([*lines, *(f"not asked: {reason}" for reason in self.unasked)])


def _aside(left: Left) -> str:
    parts = [f"in {left.where}" if left.where else "", left.holds]
    return f" ({'; '.join(part for part in parts if part)})" if any(parts) else ""


def leftovers(connection: Connection | None = None) -> Leftovers:
    """Ask the cluster for everything that the course made and has not removed.

    Takes a request for each kind of object that the server has.

    Args:
        connection: the cluster; :func:`connect` when not given.

    Raises:
        ClusterError: the server refused to list namespaces or nodes.
        ClusterUnavailable: nothing answers.
    """
    connection = connection or connect()
    spaces = [
        each["metadata"]["name"]
        for each in connection.items(path("namespaces"), labelSelector=_SELECTOR)
    ]
    inside: dict[str, Counter[str]] = {name: Counter() for name in spaces}
    outside: list[Left] = []
    unasked: list[str] = []
    for where, kind in _listable(connection, unasked):
        try:
            for found in connection.items(path(where), labelSelector=_SELECTOR):
                metadata = found["metadata"]
                space = metadata.get("namespace", "")
                if space in inside:
                    inside[space][kind] += 1
                # What an object of ours made for itself goes with it.
                elif not metadata.get("ownerReferences"):
                    outside.append(_object(kind, metadata["name"], space))
        except ClusterError as error:
            unasked.append(f"{where}: {error.problem}")
    left = [_namespace(name, counts) for name, counts in inside.items()]
    left += [*outside, *_dongles(connection), *_faults(connection)]
    return Leftovers(tuple(left), tuple(unasked), connection.provenance)


def _listable(connection: Connection, unasked: list[str]) -> Iterator[tuple[str, str]]:
    """The path and the kind, in lower case, of all that can be listed."""
    for group, version in naming.groups(connection):
        try:
            served = naming.served(connection, group, version)
        except ClusterError as error:
            # An API that somebody's extension serves, and does not answer.
            unasked.append(f"{group}/{version}: {error.problem}")
            continue
        prefix = f"{group}/{version}/" if group else ""
        for each in served:
            if "list" in each["verbs"] and each["kind"] not in ("Namespace", "Event"):
                yield prefix + each["name"], each["kind"].lower()


def _object(kind: str, name: str, space: str) -> Left:
    within = f" -n {space}" if space else ""
    return Left(f"{kind}/{name}", space, "", f"kubectl delete {kind} {name}{within}")


def _namespace(name: str, counts: Counter[str]) -> Left:
    held = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    return Left(
        f"namespace/{name}", "", f"with {held}" if held else "", f"kubectl delete namespace {name}"
    )


def _dongles(connection: Connection) -> Iterator[Left]:
    for node in connection.items(path("nodes")):
        name = node["metadata"]["name"]
        if DONGLE in (node.get("status") or {}).get("capacity", {}):
            gone = (
                f'{{"status":{{"capacity":{{"{DONGLE}":null}},"allocatable":{{"{DONGLE}":null}}}}}}'
            )
            yield Left(
                f"resource {DONGLE}",
                f"node {name}",
                "",
                f"kubectl patch node {name} --subresource=status --type=merge -p '{gone}'",
            )


def _faults(connection: Connection) -> Iterator[Left]:
    if connection.embedded is None:
        return
    for fault in connection.embedded.faults():
        if fault["active"]:
            name = fault["name"]
            yield Left(f"fault {name}", "", "", f"mlk8s cluster fault off {name}")
