"""A client of the embedded cluster's server that hides nothing: raw requests, raw answers."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mlk8s.sim import Cluster

MERGE = "application/merge-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])


class Client:
    """One connection that is kept open.

    Args:
        cluster: whose server.
        token: another one than the cluster's; empty for none.
    """

    def __init__(self, cluster: Cluster, token: str | None = None) -> None:
        self.cluster = cluster
        self.token = cluster.token if token is None else token
        self.tls = ssl.create_default_context(cafile=str(cluster.directory / "ca.crt"))
        self._kept = self.connect()

    def connect(self) -> http.client.HTTPSConnection:
        """A new connection."""
        host = self.cluster.url.removeprefix("https://")
        return http.client.HTTPSConnection(host, context=self.tls, timeout=20)

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        kind: str = "application/json",
        **headers: str,
    ) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        if body is not None:
            sent["Content-Type"] = kind
            if not isinstance(body, bytes):
                body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        try:
            self._kept.request(method, path, body, sent)
            response = self._kept.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError, BrokenPipeError):
            self._kept.close()
            self._kept.request(method, path, body, sent)
            response = self._kept.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())

    @contextmanager
    def watch(self, path: str) -> Iterator[Iterator[dict[str, Any]]]:
        """The events of a watch; the block's end breaks the connection."""
        connection = self.connect()
        connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        try:
            yield (json.loads(line) for line in response)
        finally:
            response.close()
            connection.close()


def configmap(name: str, labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    """A ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels or {}},
        "data": data,
    }


def pod(name: str, **spec: Any) -> dict[str, Any]:
    """A pod of one container."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "busybox"}], **spec},
    }
