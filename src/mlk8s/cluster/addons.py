"""Other projects' control loops: enabled in the embedded cluster, looked for in a live one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlk8s.errors import ClusterError
from mlk8s.provenance import Finding

if TYPE_CHECKING:
    from mlk8s.cluster.connection import Connection

#: After the embedded cluster has refused to enable or disable one.
NEXT_STEP = (
    "list the add-ons: mlk8s cluster addon list; delete a definition that is in the way: kubectl "
    "delete crd NAME."
)


def enable(connection: Connection, name: str) -> Finding:
    """Make sure that a project's control loops are there: see ``Connection.enable``.

    Args:
        connection: the cluster.
        name: of the add-on.

    Raises:
        ClusterError: there is no such add-on, or the live cluster does not serve its API.
    """
    from mlk8s.sim import ClusterError as Broken

    if connection.embedded is None:
        return _check(connection, _known(name))
    try:
        connection.embedded.enable(name)
        [found] = [each for each in connection.embedded.addons() if each["name"] == name]
    except Broken as error:
        raise ClusterError(
            f"{str(error)[:1].upper()}{str(error)[1:].rstrip('.')}.",
            NEXT_STEP,
        ) from error
    text = (
        f"{found['name']} is on: a model of version {found['version']} ({found['date']}) that was "
        f"written from its documentation and source ({found['source']})."
    )
    return Finding(text, connection.provenance)


def _check(connection: Connection, addon: dict[str, Any]) -> Finding:
    name, group, wanted = addon["name"], addon["group"], addon["group_version"]
    install = f"install version {addon['version']}, as a cluster administrator: {addon['install']}"
    served = connection.find(f"/apis/{group}")
    if served is None:
        raise ClusterError(
            f"The cluster at {connection.server} has no {name}: it does not serve the API group "
            f"{group}.",
            install,
        )
    versions = [each["version"] for each in served["versions"]]
    there = f"the cluster serves {group} ({', '.join(versions)})"
    if wanted not in versions:
        raise ClusterError(
            f"The {name} at {connection.server} is not the course's: {there}, not {wanted}.",
            install,
        )
    return Finding(f"{name} is there: {there}.", connection.provenance)


def _known(name: str) -> dict[str, Any]:
    # The embedded cluster's list is asked for what it would install; no cluster is started.
    from mlk8s.sim.addons import known

    found = {each["name"]: each for each in known()}
    if name not in found:
        raise ClusterError(
            f"There is no add-on {name!r}; there are: {', '.join(found)}.",
            "correct the name.",
        )
    return found[name]
