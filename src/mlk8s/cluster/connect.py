"""Which cluster answers: the embedded one, or a real one when ``MLK8S_CLUSTER=live`` says so.

A course never touches a cluster that nobody pointed it at: ``live`` needs the word, shows the
context that it found, and works in a namespace of its own.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mlk8s.errors import ClusterError, ClusterUnavailable, UsageError
from mlk8s.provenance import Kind, Provenance

if TYPE_CHECKING:
    from kubernetes import client

    from mlk8s.sim import Cluster

Object = dict[str, Any]

VARIABLE = "MLK8S_CLUSTER"
NAMESPACE = "mlk8s-labs"
MANAGED = {"app.kubernetes.io/managed-by": "mlk8s"}
#: MicroK8s keeps the administrator's kubeconfig here (``microk8s config`` prints it).
MICROK8S_CONFIG = Path("/var/snap/microk8s/current/credentials/client.config")
PAGE = 500
_TIMEOUT_S = 30


@dataclass
class Connection:
    """A cluster that answers.

    Attributes:
        kind: simulated or live.
        context: the kubeconfig's context.
        version: what the server says that it is.
        namespace: where labs work.
        kubeconfig: the file that leads there, for kubectl; empty for a merged configuration.
        embedded: the embedded cluster, for what only it can do (faults, clock, reasons).
    """

    kind: Kind
    context: str
    server: str
    version: str
    api: client.ApiClient
    kubeconfig: str = ""
    embedded: Cluster | None = None
    namespace: str = NAMESPACE

    @property
    def provenance(self) -> Provenance:
        """The badge of everything that this cluster says."""
        if self.kind is Kind.SIMULATED:
            method = "asked of the embedded cluster (mlk8s.sim), a model of Kubernetes"
        else:
            method = "asked of the API server of a running cluster"
        return Provenance(self.kind, method, software={"Kubernetes": self.version})

    @property
    def core(self) -> client.CoreV1Api:
        """Pods, nodes, namespaces, events."""
        from kubernetes import client

        return client.CoreV1Api(self.api)

    @property
    def batch(self) -> client.BatchV1Api:
        """Jobs."""
        from kubernetes import client

        return client.BatchV1Api(self.api)

    def claims(self, plural: str, namespace: str | None = None) -> Iterator[Object]:
        """The objects of Dynamic Resource Allocation: ``resourceslices``, ``resourceclaims``.

        Nothing on a server that has no ``resource.k8s.io/v1`` (before Kubernetes 1.34). Asked for
        as custom objects: clients before version 34 have no class for them.
        """
        from kubernetes import client

        custom = client.CustomObjectsApi(self.api)
        group = ("resource.k8s.io", "v1")
        try:
            if namespace is None:
                yield from self.pages(custom.list_cluster_custom_object, *group, plural)
            else:
                method = custom.list_namespaced_custom_object
                yield from self.pages(method, *group, namespace, plural)
        except ClusterError as error:
            if _status(error) != 404:
                raise

    def call(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a method of the official client and give the answer as plain JSON values.

        The client's models differ between its versions, and version 37 refuses what it does not
        know; JSON is the same in all.

        Raises:
            ClusterError: the server refused; the message is the server's.
            ClusterUnavailable: nothing answers.
        """
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        options.setdefault("_request_timeout", _TIMEOUT_S)
        try:
            response = method(*args, _preload_content=False, **options)
        except ApiException as error:
            raise _refused(error) from error
        except HTTPError as error:
            raise self._silent(error) from error
        return json.loads(response.data)

    def find(self, method: Callable[..., Any], *args: Any, **options: Any) -> Object | None:
        """The same for one object; ``None`` when it does not exist."""
        try:
            found: Object = self.call(method, *args, **options)
        except ClusterError as error:
            if _status(error) == 404:
                return None
            raise
        return found

    def pages(self, method: Callable[..., Any], *args: Any, **options: Any) -> Iterator[Object]:
        """The items of a list, page by page, so that memory does not grow with the cluster."""
        token: str | None = None
        while True:
            more = {"_continue": token} if token else {}
            page = self.call(method, *args, limit=PAGE, **more, **options)
            yield from page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return

    def ensure_namespace(self) -> None:
        """Create the labs' namespace unless it is there."""
        if self.find(self.core.read_namespace, self.namespace) is None:
            body = {"metadata": {"name": self.namespace, "labels": MANAGED}}
            self.call(self.core.create_namespace, body)

    def remove_namespace(self) -> None:
        """Delete the labs' namespace and all in it, if it is one that the course made."""
        found = self.find(self.core.read_namespace, self.namespace)
        if found is None:
            return
        if found["metadata"].get("labels", {}).items() >= MANAGED.items():
            self.call(self.core.delete_namespace, self.namespace)
        else:
            raise ClusterError(
                f"The namespace {self.namespace} was not made by the course, so it stays.",
                f"remove it yourself: kubectl delete namespace {self.namespace}",
            )

    def close(self) -> None:
        """Give the connection back; an embedded cluster started for it is stopped."""
        self.api.close()
        if self.embedded is not None and _embedded.pop(self.embedded.nodes, None) is not None:
            self.embedded.stop()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _silent(self, error: Exception) -> ClusterUnavailable:
        return ClusterUnavailable(
            f"The API server of context {self.context!r} does not answer ({error}).",
            "check it with `kubectl get --raw /readyz`.",
        )

    def __repr__(self) -> str:
        where = "embedded cluster" if self.embedded else f"context {self.context!r}"
        return f"Kubernetes {self.version}, {where}\n{self.provenance}"

    def _repr_html_(self) -> str:
        from mlk8s.provenance import Finding

        where = "the embedded cluster" if self.embedded else f"context {self.context}"
        text = f"Kubernetes {self.version}: {where}, namespace {self.namespace}."
        return Finding(text, self.provenance)._repr_html_()


_embedded: dict[str, Cluster] = {}


def connect(cluster: str | None = None, *, nodes: str = "course") -> Connection:
    """The cluster that ``MLK8S_CLUSTER`` names; embedded unless it says ``live``.

    Args:
        cluster: ``simulated`` or ``live``; the environment variable when not given.
        nodes: for the embedded cluster, presets or a YAML file; one cluster a process and value.

    Raises:
        UsageError: the variable has another value.
        ClusterUnavailable: ``live``, and no kubeconfig is found or its server does not answer.
    """
    wanted = cluster or os.environ.get(VARIABLE, "simulated")
    if wanted == "simulated":
        return attach(_running(nodes))
    if wanted == "live":
        return _live()
    raise UsageError(
        f"{VARIABLE}={wanted!r} names no cluster.",
        "set it to simulated (the default) or to live.",
    )


def attach(embedded: Cluster) -> Connection:
    """A connection to an embedded cluster that runs already."""
    return _open(str(embedded.kubeconfig), embedded)


def _running(nodes: str) -> Cluster:
    from mlk8s.sim import Cluster
    from mlk8s.sim import ClusterError as NotStarted

    if nodes not in _embedded:
        try:
            _embedded[nodes] = Cluster(nodes)
        except NotStarted as error:
            raise ClusterUnavailable(
                f"The embedded cluster did not start: {error}", "correct `nodes`, or run doctor."
            ) from error
        atexit.register(_embedded[nodes].stop)
    return _embedded[nodes]


def _live() -> Connection:
    path = os.environ.get("KUBECONFIG", "")
    if not path and not (Path.home() / ".kube/config").is_file() and MICROK8S_CONFIG.is_file():
        path = str(MICROK8S_CONFIG)
    return _open(path, None)


def _open(path: str, embedded: Cluster | None) -> Connection:
    from kubernetes import client, config
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    configuration = client.Configuration()
    try:
        _, active = config.list_kube_config_contexts(path or None)
        config.load_kube_config(path or None, client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise ClusterUnavailable(
            f"{VARIABLE}=live, and no usable kubeconfig was found ({error}).",
            "on a MicroK8s machine run `microk8s config > ~/.kube/config`, or set KUBECONFIG.",
        ) from error
    # One answer, good or bad, and soon: the helpers say what to do next.
    configuration.retries = 0
    api = client.ApiClient(configuration)
    kind = Kind.SIMULATED if embedded else Kind.LIVE
    found = Connection(kind, active["name"], configuration.host, "", api, path, embedded)
    try:
        found.version = found.call(client.VersionApi(api).get_code)["gitVersion"]
    except (ApiException, HTTPError) as error:
        raise found._silent(error) from error
    return found


def _refused(error: Any) -> ClusterError:
    try:
        message = json.loads(error.body)["message"]
    except (ValueError, TypeError, KeyError):
        message = f"{error.status} {error.reason}"
    steps = {
        401: "the kubeconfig's credentials are not valid any more; fetch it anew.",
        403: "the message says which rule or quota refused; change the request or the rule.",
        404: "check the name and the namespace with kubectl get.",
        409: "read the object again, then repeat the change.",
        422: "correct the field that the message names.",
    }
    refused = ClusterError(message, steps.get(error.status, "see the API server's log."))
    refused.__cause__ = error
    return refused


def _status(error: ClusterError) -> int:
    status: int = getattr(error.__cause__, "status", 0)
    return status
