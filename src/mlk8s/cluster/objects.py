"""kubectl's everyday verbs on a connection: get, read, apply, patch, delete, wait, events, logs.

For notebooks, which have no kubectl on every machine. ``get`` shows the table that the API server
itself makes (``Accept: …;as=Table``), which is what kubectl prints; ``apply`` is a server-side
apply.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import yaml

from mlk8s.cluster import naming, owners
from mlk8s.cluster.connection import MANAGED, Connection, Source
from mlk8s.cluster.wire import path
from mlk8s.errors import ClusterError, expected
from mlk8s.provenance import Finding, Scalar, Table

Object = dict[str, Any]

_TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1, application/json"
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
#: Who owns the fields that are applied.
_MANAGER = "mlk8s"
# Columns whose values follow the clock, so that a page would differ from day to day.
_TIMES = ("AGE", "LAST SEEN", "DURATION", "FIRST SEEN")
_POLL_S = 0.1
# What fits on a page beside the contents list.
_WIDTH = 72


class Lines(Finding):
    """Lines as a terminal would show them, with their provenance."""

    def _repr_html_(self) -> str:
        import html

        from mlk8s.provenance import badges

        return (
            f'<div class="mlk8s-finding"><pre>{html.escape(self.text)}</pre>'
            f"{badges(self.provenance)}</div>"
        )


def get(
    connection: Connection,
    resource: str,
    name: str = "",
    *,
    namespace: str | None = None,
    selector: str = "",
    labels: Sequence[str] = (),
    wide: bool = False,
    age: bool = False,
) -> Table:
    """The rows that ``kubectl get`` prints for a resource, made by the API server.

    Args:
        connection: the cluster.
        resource: plural, singular, short name or kind, with ``.group`` where it is ambiguous.
        name: one object instead of all.
        namespace: where; the labs' by default, ``""`` is all namespaces.
        selector: labels, as ``-l`` takes them.
        labels: labels to show as columns, as ``-L`` does.
        wide: the columns of ``-o wide`` too.
        age: the columns that follow the clock too; without them a page stays the same.

    Raises:
        UsageError: the server has no such resource.
        ClusterError: the server refused; for a name that is not there among others.
    """
    where, namespaced = naming.resource(connection, resource)
    space = naming.space(connection, namespaced, namespace)
    query = {"labelSelector": selector} if selector else {}
    answer = connection.exchange(
        "GET", path(where, name, space), None, {**query, "includeObject": "Metadata"}, _TABLE
    )
    chosen = [
        (index, column["name"].upper())
        for index, column in enumerate(answer["columnDefinitions"])
        if (wide or not column.get("priority")) and (age or column["name"].upper() not in _TIMES)
    ]
    rows: list[dict[str, Scalar]] = []
    for row in answer.get("rows") or ():
        metadata = row["object"]["metadata"]
        shown: dict[str, Scalar] = {}
        if namespaced and namespace == "":
            shown["NAMESPACE"] = metadata["namespace"]
        shown |= {title: _cell(row["cells"][index]) for index, title in chosen}
        present = metadata.get("labels") or {}
        shown |= {label.rpartition("/")[2].upper(): present.get(label, "") for label in labels}
        rows.append(shown)
    said = ["kubectl get", resource, name]
    if namespaced:
        said.append("-A" if not space else f"-n {space}")
    said += [f"-l {selector}"] if selector else []
    said += [f"-L {label}" for label in labels] + (["-o wide"] if wide else [])
    return Table(rows, connection.provenance, title=" ".join(filter(None, said)))


def _cell(value: Any) -> Scalar:
    """A cell as kubectl prints it: numbers stay numbers, nothing is ``<none>``."""
    if value is None or value == "":
        return "<none>"
    if isinstance(value, bool):
        return str(value).lower()
    # In "1 (5s ago)" the time follows the clock.
    return re.sub(r" \(\S+ ago\)$", "", value) if isinstance(value, str) else value


def read(
    connection: Connection, resource: str, name: str, *, namespace: str | None = None
) -> Object:
    """An object as JSON values, as ``kubectl get -o json`` gives it.

    Args:
        connection: the cluster.
        resource: as in :func:`get`.
        name: of the object.
        namespace: where; the labs' by default.

    Raises:
        UsageError: the server has no such resource.
        ClusterError: the server refused, or there is no such object.
    """
    where, namespaced = naming.resource(connection, resource)
    return connection.request(
        "GET", path(where, name, naming.space(connection, namespaced, namespace))
    )


def patch(
    connection: Connection,
    resource: str,
    name: str,
    change: Mapping[str, Any],
    *,
    namespace: str | None = None,
    subresource: str = "",
) -> Finding:
    """Change parts of an object, as ``kubectl patch --type=merge`` does.

    Args:
        connection: the cluster.
        resource: as in :func:`get`.
        name: of the object.
        change: what is to be otherwise; ``None`` removes, a list replaces the whole list.
        namespace: where; the labs' by default.
        subresource: ``status``, where that is what changes.

    Raises:
        UsageError: the server has no such resource.
        ClusterError: the server refused, or there is no such object.
    """
    where, namespaced = naming.resource(connection, resource)
    space = naming.space(connection, namespaced, namespace)
    target = path(where, name, space, subresource)
    connection.exchange("PATCH", target, dict(change), {}, content=_MERGE)
    return Lines(f"{resource}/{name} patched", connection.provenance)


def as_yaml(connection: Connection, value: Any) -> Finding:
    """A part of an object that the cluster gave, as YAML, with where it comes from."""
    text = yaml.safe_dump(value, sort_keys=False, width=_WIDTH).rstrip("\n")
    return Lines(text, connection.provenance)


def refuses(connection: Connection) -> AbstractContextManager[None]:
    """Expect that the server refuses what the block asks for, and show its words.

    Raises:
        AssertionError: it refused nothing.
    """

    def show(text: str) -> None:
        from IPython.display import display

        display(Finding(text, connection.provenance))

    return expected(ClusterError, show=show)


def apply(connection: Connection, source: Source, *, namespace: str | None = None) -> Finding:
    """Create objects, or change those that are there to what is given.

    Every object gets the label by which the course finds what it made. The labs' namespace is made
    when it is missing and something goes there.

    Args:
        connection: the cluster.
        source: a file or a folder of YAML files, YAML text, or one object.
        namespace: for objects that name none; the labs' by default.

    Raises:
        UsageError: the source cannot be read, or names a kind that the server does not have.
        ClusterError: the server refused one; those before it stay applied, and the message says
            which it was.
    """
    lines: list[str] = []
    for body in naming.documents(source):
        where, space, name = naming.place(connection, body, namespace)
        if space == connection.namespace:
            connection.ensure_namespace()
        before = connection.find(path(where, name, space))
        metadata = {**body["metadata"]}
        metadata["labels"] = {**(metadata.get("labels") or {}), **MANAGED}
        query = {"fieldManager": _MANAGER, "force": True}
        title = f"{body['kind'].lower()}/{name}"
        try:
            after = connection.exchange(
                "PATCH",
                path(where, name, space),
                {**body, "metadata": metadata},
                query,
                content=_APPLY,
            )
        except ClusterError as error:
            done = f" Applied before it: {', '.join(lines)}." if lines else ""
            raise ClusterError(f"{title}: {error.problem}{done}", error.next_step) from error
        if before is None:
            did = "created"
        elif before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]:
            did = "unchanged"
        else:
            did = "configured"
        lines.append(f"{title} {did}")
    return Lines("\n".join(lines), connection.provenance)


def delete(
    connection: Connection,
    resource: Source,
    name: str = "",
    *,
    namespace: str | None = None,
    timeout_s: float | None = None,
) -> Finding:
    """Delete objects, and wait until they are gone.

    Args:
        connection: the cluster.
        resource: with a name: as in :func:`get`; without: manifests as in :func:`apply`.
        name: of the object.
        namespace: where; the labs' by default.
        timeout_s: how long to wait for all of them, seconds; ``connection.patience_s`` by default.

    Raises:
        ClusterError: the server refused, or an object was still there at the end; objects that are
            gone already are no error.
    """
    if name:
        where, namespaced = naming.resource(connection, str(resource))
        space = naming.space(connection, namespaced, namespace)
        places = [(where, space, name, str(resource))]
    else:
        places = []
        for body in naming.documents(resource):
            found, space, title = naming.place(connection, body, namespace)
            places.append((found, space, title, body["kind"].lower()))
    lines, waits = [], []
    for where, space, each, kind in reversed(places):
        found_object = connection.find(path(where, each, space))
        if found_object is None:
            lines.append(f"{kind}/{each} not there")
            continue
        # As kubectl does: the controller's pods go with it, in the background.
        options = {"propagationPolicy": "Background"}
        connection.find(path(where, each, space), "DELETE", options)
        waits.append((path(where, each, space), found_object["metadata"]["uid"], f"{kind}/{each}"))
        lines.append(f"{kind}/{each} deleted")
    limit = connection.patience_s if timeout_s is None else timeout_s
    deadline = time.monotonic() + limit
    for where, uid, title in waits:
        while (left := connection.find(where)) and left["metadata"]["uid"] == uid:
            if time.monotonic() > deadline:
                held = left["metadata"].get("finalizers") or ["its pods still end"]
                raise ClusterError(
                    f"{title} is still there after {limit:g} s ({', '.join(held)}).",
                    "look at it with kubectl get -o yaml; finalizers wait for their controller.",
                )
            time.sleep(_POLL_S)
    return Lines("\n".join(lines), connection.provenance)


def wait(
    connection: Connection,
    resource: str,
    name: str,
    until: str,
    *,
    namespace: str | None = None,
    timeout_s: float | None = None,
) -> Object:
    """Wait until an object has a phase or a condition.

    Args:
        connection: the cluster.
        resource: as in :func:`get`.
        name: of the object.
        until: a phase (``Running``, ``Succeeded``), a condition that is to be true (``Ready``), or
            with its status (``PodScheduled=False``); ``Gone`` waits for the object's end.
        namespace: where; the labs' by default.
        timeout_s: seconds; ``connection.patience_s`` by default.

    Returns:
        The object as it was then; empty for ``Gone``.

    Raises:
        ClusterError: the time was up; the message has the object's last state.
    """
    where, namespaced = naming.resource(connection, resource)
    space = naming.space(connection, namespaced, namespace)
    limit = connection.patience_s if timeout_s is None else timeout_s
    deadline = time.monotonic() + limit
    wanted, _, value = until.partition("=")
    while True:
        found = connection.find(path(where, name, space))
        if found is None and until == "Gone":
            return {}
        if found is not None and _is(found, wanted, value or "True"):
            return found
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{resource}/{name} is not {until} after {limit:g} s; it is {_state(found)}.",
                _look(found, resource, name, space),
            )
        time.sleep(_POLL_S)


def _look(found: Object | None, resource: str, name: str, space: str) -> str:
    """Where to look for what keeps an object: ``why`` knows pods and what makes them."""
    kind = (found or {}).get("kind", "").lower()
    if kind in owners.RESOURCES:
        wanted = owners.Reference(space, kind, name)
        return f'see why: mlk8s.cluster.why("{wanted}", connection).'
    within = f" -n {space}" if space else ""
    return f"look at it: kubectl describe {resource} {name}{within}."


def _is(found: Object, wanted: str, value: str) -> bool:
    state = found.get("status") or {}
    if state.get("phase") == wanted:
        return True
    conditions = state.get("conditions") or ()
    return any(c["type"] == wanted and c["status"] == value for c in conditions)


def _state(found: Object | None) -> str:
    if found is None:
        return "not there"
    state = found.get("status") or {}
    conditions = [f"{c['type']}={c['status']}" for c in state.get("conditions") or ()]
    return ", ".join(filter(None, [state.get("phase", ""), *conditions])) or "without a status"


def events(
    connection: Connection, resource: str, name: str, *, namespace: str | None = None
) -> Table:
    """What happened to an object, oldest first, as the end of ``kubectl describe`` shows it.

    MicroK8s forgets events after five minutes, other distributions after an hour.

    Args:
        connection: the cluster.
        resource: as in :func:`get`.
        name: of the object.
        namespace: where; the labs' by default.
    """
    where, namespaced = naming.resource(connection, resource)
    space = naming.space(connection, namespaced, namespace)
    found = connection.request("GET", path(where, name, space))
    # The server writes events of objects without a namespace into "default".
    listed = connection.items(
        path("events", namespace=space or "default"),
        fieldSelector=f"involvedObject.kind={found['kind']},involvedObject.name={name}",
    )
    uid = found["metadata"]["uid"]
    # Events of nodes carry the node's name as uid.
    mine = [e for e in listed if e["involvedObject"].get("uid") in (uid, name)]
    mine.sort(key=lambda e: (e.get("firstTimestamp") or e.get("eventTime") or "", _serial(e)))
    rows = [
        {
            "TYPE": e.get("type", ""),
            "REASON": e.get("reason", ""),
            "FROM": (e.get("source") or {}).get("component") or e.get("reportingComponent", ""),
            "MESSAGE": e.get("message", "").strip(),
        }
        for e in mine
    ]
    said = f"kubectl events --for {found['kind'].lower()}/{name}"
    return Table(rows, connection.provenance, title=said + (f" -n {space}" if space else ""))


def _serial(event: Object) -> int:
    # Several events of one second: their versions count up.
    return int(event["metadata"].get("resourceVersion") or 0)


def logs(
    connection: Connection, pod: str, container: str = "", *, namespace: str | None = None
) -> Finding:
    """What a container has written until now.

    Args:
        connection: the cluster.
        pod: its pod.
        container: needed where the pod has several.
        namespace: where; the labs' by default.

    Raises:
        ClusterError: there is no such pod, or its container has not started.
    """
    space = connection.namespace if namespace is None else namespace
    query = {"container": container} if container else {}
    text = "\n".join(connection.lines(path("pods", pod, space, "log"), **query))
    return Lines(text, connection.provenance)
