"""A cluster that answers: requests through the official client, answers as plain JSON values.

The client's typed methods differ between its versions (37 validates what is sent and refuses
``nvidia.com/gpu: 1``, which the server takes), its transport and its credentials do not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlk8s.cluster.wire import Stream, path, refused, status
from mlk8s.errors import ClusterError, ClusterUnavailable
from mlk8s.provenance import Finding, Kind, Provenance, Table

if TYPE_CHECKING:
    from kubernetes import client

    from mlk8s.sim import Cluster

Object = dict[str, Any]
#: A file or folder of manifests, their text, or an object.
Source = Path | str | Mapping[str, Any]

NAMESPACE = "mlk8s-labs"
MANAGED = {"app.kubernetes.io/managed-by": "mlk8s"}
#: Items of one page of a list.
PAGE = 500
DRA = "/apis/resource.k8s.io/v1"
_CONNECT_S, _ANSWER_S = 5, 30
#: A watch is asked for anew after so long, so that a server that went silent is noticed.
WATCH_S = 30


@dataclass(eq=False)
class Connection:
    """A cluster that answers.

    A context manager: leaving the block is :meth:`close`.

    Attributes:
        kind: simulated or live.
        context: the kubeconfig's context.
        server: address of the API server.
        version: what the server says that it is.
        api: the official client, for what the helpers do not do.
        kubeconfig: the file that leads there, for kubectl; empty for the client's default.
        embedded: the embedded cluster, for what only it can do (faults, clock, reasons).
        namespace: where labs work.
    """

    kind: Kind
    context: str
    server: str
    version: str
    api: client.ApiClient
    kubeconfig: str = ""
    embedded: Cluster | None = None
    namespace: str = NAMESPACE
    on_close: Callable[[], None] | None = field(default=None, repr=False)

    @property
    def provenance(self) -> Provenance:
        """The badge of everything that this cluster says."""
        if self.kind is Kind.SIMULATED:
            method = "asked of the embedded cluster (mlk8s.sim), a model of Kubernetes"
        else:
            method = "asked of the API server of a running cluster"
        return Provenance(self.kind, method, software={"Kubernetes": self.version})

    @property
    def patience_s(self) -> float:
        """How long a wait lasts unless it says otherwise: a real cluster has images to pull."""
        return 60.0 if self.embedded is not None else 600.0

    def request(self, verb: str, path: str, body: Any = None, **query: Any) -> Object:
        """Send a request and give the answer's JSON.

        Args:
            verb: the HTTP method.
            path: such as :func:`path` makes.
            body: JSON values.
            **query: parameters by their names in the API (``labelSelector``, ``limit``).

        Raises:
            ClusterError: the server refused; the message is the server's.
            ClusterUnavailable: nothing answers.
        """
        return self.exchange(verb, path, body, query)

    def exchange(
        self,
        verb: str,
        path: str,
        body: Any,
        query: dict[str, Any],
        accept: str = "application/json, */*",
        content: str = "application/json",
    ) -> Object:
        """:meth:`request` for who needs another form of the answer, or of the body."""
        from urllib3.exceptions import HTTPError

        response = self._send(verb, path, body, query, _ANSWER_S, accept, content)
        try:
            answer: Object = json.loads(response.data)
        except HTTPError as error:
            raise self.silent(error) from error
        except ValueError as error:
            raise ClusterUnavailable(
                f"{self.server} answers {path} with something that is not JSON: it is no "
                "Kubernetes API server.",
                "correct the server's address in the kubeconfig.",
            ) from error
        return answer

    def find(self, path: str, verb: str = "GET", body: Any = None, **query: Any) -> Object | None:
        """The same for an object that may be missing; ``None`` when it is."""
        try:
            return self.request(verb, path, body, **query)
        except ClusterError as error:
            if status(error) == 404:
                return None
            raise

    def items(self, path: str, **query: Any) -> Iterator[Object]:
        """The items of a list, page by page, so that memory does not grow with the cluster."""
        token: str | None = None
        while True:
            more = {"continue": token} if token else {}
            page = self.request("GET", path, limit=PAGE, **more, **query)
            yield from page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return

    def claims(self, plural: str, namespace: str | None = None) -> Iterator[Object]:
        """Objects of Dynamic Resource Allocation: ``resourceslices``, ``resourceclaims``.

        Nothing on a server that has no ``resource.k8s.io/v1`` (before Kubernetes 1.34).
        """
        where = f"/namespaces/{quote(namespace)}" if namespace is not None else ""
        try:
            yield from self.items(f"{DRA}{where}/{plural}")
        except ClusterError as error:
            if status(error) != 404:
                raise

    def lines(self, path: str, **query: Any) -> Stream:
        """An answer that comes line by line: a watch, a log that is followed.

        Raises:
            ClusterError: the server refused.
            ClusterUnavailable: nothing answers.
        """
        wait = 2 * WATCH_S if query.get("watch") else None
        return Stream(self._send("GET", path, None, query, wait), self.silent)

    def _send(
        self,
        verb: str,
        path: str,
        body: Any,
        query: dict[str, Any],
        wait: float | None,
        accept: str = "application/json, */*",
        content: str = "application/json",
    ) -> Any:
        from kubernetes.client.exceptions import ApiException
        from kubernetes.dynamic import DynamicClient
        from urllib3.exceptions import HTTPError

        # Its constructor reads the whole of discovery and keeps it in a file; its request, which
        # is the one way to send plain JSON that all versions of the client share, needs none.
        dynamic = DynamicClient.__new__(DynamicClient)
        dynamic.client = self.api
        try:
            return dynamic.request(
                verb,
                path,
                body,
                query_params=[(name, _text(value)) for name, value in query.items()],
                header_params={"Accept": accept},
                content_type=content,
                serialize=False,
                _request_timeout=(_CONNECT_S, wait),
            )
        except ApiException as error:
            raise refused(error) from error
        except HTTPError as error:
            raise self.silent(error) from error

    def get(
        self,
        resource: str,
        name: str = "",
        *,
        namespace: str | None = None,
        selector: str = "",
        labels: Sequence[str] = (),
        wide: bool = False,
        age: bool = False,
    ) -> Table:
        """What ``kubectl get`` prints: see :func:`mlk8s.cluster.objects.get`."""
        from mlk8s.cluster import objects

        return objects.get(
            self,
            resource,
            name,
            namespace=namespace,
            selector=selector,
            labels=labels,
            wide=wide,
            age=age,
        )

    def apply(self, source: Source, *, namespace: str | None = None) -> Finding:
        """Create or change objects: see :func:`mlk8s.cluster.objects.apply`."""
        from mlk8s.cluster import objects

        return objects.apply(self, source, namespace=namespace)

    def read(self, resource: str, name: str, *, namespace: str | None = None) -> Object:
        """An object as JSON values: see :func:`mlk8s.cluster.objects.read`."""
        from mlk8s.cluster import objects

        return objects.read(self, resource, name, namespace=namespace)

    def yaml(self, value: Any) -> Finding:
        """Show a part of an object: see :func:`mlk8s.cluster.objects.as_yaml`."""
        from mlk8s.cluster import objects

        return objects.as_yaml(self, value)

    def refuses(self) -> AbstractContextManager[None]:
        """Expect a refusal and show it: see :func:`mlk8s.cluster.objects.refuses`."""
        from mlk8s.cluster import objects

        return objects.refuses(self)

    def patch(
        self,
        resource: str,
        name: str,
        change: Mapping[str, Any],
        *,
        namespace: str | None = None,
        subresource: str = "",
    ) -> Finding:
        """Change parts of an object: see :func:`mlk8s.cluster.objects.patch`."""
        from mlk8s.cluster import objects

        return objects.patch(
            self, resource, name, change, namespace=namespace, subresource=subresource
        )

    def delete(
        self,
        resource: Source,
        name: str = "",
        *,
        namespace: str | None = None,
        timeout_s: float | None = None,
    ) -> Finding:
        """Delete objects and wait until they are gone: see :func:`mlk8s.cluster.objects.delete`."""
        from mlk8s.cluster import objects

        return objects.delete(self, resource, name, namespace=namespace, timeout_s=timeout_s)

    def wait(
        self,
        resource: str,
        name: str,
        until: str,
        *,
        namespace: str | None = None,
        timeout_s: float | None = None,
    ) -> Object:
        """Wait for a phase or a condition: see :func:`mlk8s.cluster.objects.wait`."""
        from mlk8s.cluster import objects

        return objects.wait(self, resource, name, until, namespace=namespace, timeout_s=timeout_s)

    def events(self, resource: str, name: str, *, namespace: str | None = None) -> Table:
        """What happened to an object: see :func:`mlk8s.cluster.objects.events`."""
        from mlk8s.cluster import objects

        return objects.events(self, resource, name, namespace=namespace)

    def logs(self, pod: str, container: str = "", *, namespace: str | None = None) -> Finding:
        """What a container has written: see :func:`mlk8s.cluster.objects.logs`."""
        from mlk8s.cluster import objects

        return objects.logs(self, pod, container, namespace=namespace)

    def fetch(self, claim: str, path: str, to: Path | str) -> Path:
        """Copy a folder out of a volume: see :func:`mlk8s.cluster.volumes.fetch`."""
        from mlk8s.cluster import volumes

        return volumes.fetch(self, claim, path, to)

    def enable(self, addon: str) -> Finding:
        """Make sure that a project's control loops are there: ``enable("kueue")``.

        The embedded cluster installs its model of them. A live cluster is only asked whether it
        serves them; nothing is installed there.

        Raises:
            ClusterError: there is no such add-on, or the live cluster does not have it; the
                message then names the command that installs it.
        """
        from mlk8s.cluster import addons

        return addons.enable(self, addon)

    def ensure_namespace(self) -> None:
        """Create the labs' namespace unless it is there."""
        if self.find(path("namespaces", self.namespace)) is None:
            body = {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": self.namespace, "labels": MANAGED},
            }
            self.request("POST", path("namespaces"), body)

    def remove_namespace(self) -> None:
        """Delete the labs' namespace and all in it, if it is one that the course made.

        Raises:
            ClusterError: somebody else made it.
        """
        where = path("namespaces", self.namespace)
        found = self.find(where)
        if found is None:
            return
        if (found["metadata"].get("labels") or {}).items() >= MANAGED.items():
            self.find(where, "DELETE")
        else:
            raise ClusterError(
                f"The namespace {self.namespace} was not made by the course, so it stays.",
                f"remove it yourself: kubectl delete namespace {self.namespace}.",
            )

    def close(self) -> None:
        """Give the connection back; the last one to an embedded cluster stops it."""
        self.api.close()
        if self.on_close is not None:
            release, self.on_close = self.on_close, None
            release()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def silent(self, error: Exception) -> ClusterUnavailable:
        """What to say when nothing answers."""
        # urllib3 wraps the cause in the whole request.
        cause = str(getattr(error, "reason", None) or error).rpartition(": ")[2].rstrip(".) '\"")
        if self.embedded is not None:
            return ClusterUnavailable(
                f"The embedded cluster at {self.server} does not answer ({cause}).",
                "call connect() again: it starts a new one.",
            )
        return ClusterUnavailable(
            f"The API server {self.server} of context {self.context!r} does not answer ({cause}).",
            "check that the cluster runs and is reached from here: kubectl get --raw /readyz.",
        )

    @property
    def _where(self) -> str:
        if self.embedded is not None:
            return f"the embedded cluster (nodes: {self.embedded.nodes})"
        return f"context {self.context} ({self.server})"

    @property
    def text(self) -> str:
        """Which cluster this is, in a line."""
        return f"Kubernetes {self.version}: {self._where}; labs work in {self.namespace}."

    def __repr__(self) -> str:
        return repr(Finding(self.text, self.provenance))

    def _repr_html_(self) -> str:
        return Finding(self.text, self.provenance)._repr_html_()


def _text(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
