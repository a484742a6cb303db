"""Which cluster answers: the embedded one, or a real one when ``MLK8S_CLUSTER=live`` says so.

A course never touches a cluster that nobody pointed it at: ``live`` needs the word, shows the
context that it found, and works in a namespace of its own.
"""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlk8s.cluster import official
from mlk8s.cluster.connection import Connection
from mlk8s.cluster.wire import status
from mlk8s.errors import ClusterError, ClusterUnavailable, UsageError
from mlk8s.provenance import Kind

if TYPE_CHECKING:
    from mlk8s.sim import Cluster

VARIABLE = "MLK8S_CLUSTER"
#: MicroK8s keeps the administrator's kubeconfig here (``microk8s config`` prints it).
MICROK8S_CONFIG = Path("/var/snap/microk8s/current/credentials/client.config")


def wants_live() -> bool:
    """Whether the variable asks for a cluster other than the embedded one."""
    return os.environ.get(VARIABLE, "") not in ("", "simulated")


@dataclass
class _Shared:
    """An embedded cluster that this process started, and the connections to it."""

    cluster: Cluster
    users: set[int] = field(default_factory=set)


_running: dict[str, _Shared] = {}


def connect(cluster: str | None = None, *, nodes: str = "course") -> Connection:
    """The cluster that ``MLK8S_CLUSTER`` names; embedded unless it says ``live``.

    The embedded cluster is started by the first call, shared by all calls with the same nodes,
    and gone with the last connection or with this process.

    Args:
        cluster: ``simulated`` or ``live``; the environment variable when not given.
        nodes: for the embedded cluster, presets separated by commas or a YAML file.

    Raises:
        UsageError: the variable has another value.
        ClusterUnavailable: ``live``, and no kubeconfig is found or its server does not answer;
            or the embedded cluster does not start.
    """
    if cluster is not None:
        wanted, source = cluster, f"cluster={cluster!r}"
    else:
        wanted = os.environ.get(VARIABLE) or "simulated"
        source = f"{VARIABLE}={wanted!r}"
    if wanted == "simulated":
        return _share(nodes)
    if wanted == "live":
        return _live()
    raise UsageError(
        f"{source} names no cluster.",
        "set it to simulated (the default: the embedded cluster) or to live (your kubeconfig's).",
    )


def attach(embedded: Cluster) -> Connection:
    """A connection to an embedded cluster that runs already; closing it leaves it running."""
    return _open(str(embedded.kubeconfig), embedded)


def _share(nodes: str) -> Connection:
    from mlk8s.sim import Cluster
    from mlk8s.sim import ClusterError as Broken

    shared = _running.get(nodes)
    if shared is not None:
        try:
            shared.cluster.status()
        except Broken:
            # Somebody ended it; what is left of it goes too.
            _stop(nodes)
            shared = None
    if shared is None:
        try:
            # A seed, so that the names in a notebook's outputs are the same in every run.
            shared = _running[nodes] = _Shared(Cluster(nodes, seed=0))
        except Broken as error:
            raise ClusterUnavailable(
                f"The embedded cluster did not start: {str(error).rstrip('.')}.",
                "correct nodes=…; the presets are listed by: mlk8s cluster presets.",
            ) from error
    connection = attach(shared.cluster)
    shared.users.add(id(connection))
    owner = shared

    def release() -> None:
        owner.users.discard(id(connection))
        if not owner.users and _running.get(nodes) is owner:
            _stop(nodes)

    connection.on_close = release
    return connection


def _stop(nodes: str) -> None:
    shared = _running.pop(nodes, None)
    if shared is not None:
        shared.cluster.stop()


@atexit.register
def _stop_all() -> None:
    for nodes in list(_running):
        _stop(nodes)


def _live() -> Connection:
    path = os.environ.get("KUBECONFIG", "")
    home = Path.home() / ".kube/config"
    if not path:
        path = str(MICROK8S_CONFIG if MICROK8S_CONFIG.is_file() and not home.is_file() else home)
    return _open(path, None)


def _open(path: str, embedded: Cluster | None) -> Connection:
    import yaml

    official.load()
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        _, active = config.list_kube_config_contexts(path)
        config.load_kube_config(path, client_configuration=configuration)
        # One answer, good or bad, and soon: the helpers say what to do next.
        configuration.retries = 0
        api = client.ApiClient(configuration)
    except (config.ConfigException, OSError, yaml.YAMLError, ValueError, TypeError) as error:
        raise ClusterUnavailable(
            f"No usable kubeconfig was found in {path} ({str(error).rstrip('.')}).",
            f"set KUBECONFIG to one; on a MicroK8s machine: microk8s config > {path}."
            if embedded is None
            else "end the embedded cluster and start a new one.",
        ) from error
    kind = Kind.SIMULATED if embedded is not None else Kind.LIVE
    name, server = active["name"], configuration.host
    found = Connection(kind, name, server, "", api, path, embedded)
    try:
        found.version = found.request("GET", "/version")["gitVersion"]
    except ClusterError as error:
        raise ClusterUnavailable(
            f"The API server {server} of context {name!r} turned the credentials of {path} down "
            f"({status(error)}).",
            error.next_step,
        ) from error
    return found
