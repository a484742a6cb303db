"""A model server in a cluster, reached through the API server: no ingress, no port to forward.

The path is that of ``kubectl get --raw``: the API server passes the request on to a pod behind the
Service. Right for a lab and a look; users come through an ingress.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from mlk8s.errors import ClusterError, ClusterUnavailable, UsageError
from mlk8s.lm.load_client import Target

if TYPE_CHECKING:
    from mlk8s.cluster import Connection

_SEE_LOG = "see the log of the server's pod: kubectl logs."


@dataclass(frozen=True)
class Piece:
    """A part of an answer as it arrived.

    Attributes:
        text: of one or more tokens.
        after_s: since the request was sent, s.
    """

    text: str
    after_s: float


def through(
    connection: Connection, service: str, *, port: int | str = 80, model: str | None = None
) -> Target:
    """The target of requests to a Service in the labs' namespace.

    Args:
        connection: the cluster, whose credentials the requests carry.
        service: its name.
        port: of the Service, number or name.
        model: of the server's models; ``None`` takes the first.
    """
    config = connection.api.configuration
    headers: dict[str, str] = {}
    connection.api.update_params_for_auth(headers, [], ["BearerToken"])
    tls = None
    if config.host.startswith("https"):
        tls = ssl.create_default_context(cafile=config.ssl_ca_cert)
        if config.cert_file:
            tls.load_cert_chain(config.cert_file, config.key_file)
    space = connection.namespace
    path = f"api/v1/namespaces/{space}/services/{service}:{port}/proxy"
    return Target(f"{config.host}/{path}", model, headers, tls)


def stream(target: Target, prompt: str, *, max_tokens: int = 160) -> Iterator[Piece]:
    """Ask for a completion, greedily, and give its pieces as they arrive.

    Args:
        target: of :func:`through`, with its model named.
        prompt: what the model is to continue.
        max_tokens: of the answer.

    Raises:
        UsageError: the target names no model.
        ClusterError: the server, or the API server before it, refuses or gives up.
        ClusterUnavailable: nothing answers, or the answer breaks off.
    """
    if target.model is None:
        raise UsageError("The target names no model.", "call through(…, model=NAME).")
    body = {
        "model": target.model,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
    }
    begun = time.perf_counter()
    with _opened(target, "openai/v1/completions", body) as answer:
        while (event := _event(target, answer)) != b"[DONE]":
            if "choices" not in (found := json.loads(event)):
                said = _message(event.decode()).rstrip(".")
                raise ClusterError(f"The server gave up: {said}.", _SEE_LOG)
            text = "".join(choice["text"] for choice in found["choices"])
            if text:
                yield Piece(text, time.perf_counter() - begun)


def metric(target: Target, name: str) -> float:
    """The sum of a metric's samples, from the server's ``/metrics``.

    Args:
        target: of :func:`through`.
        name: as Prometheus sees it.

    Raises:
        ClusterError: the server refuses, or has no such metric.
        ClusterUnavailable: nothing answers.
    """
    from prometheus_client.parser import text_string_to_metric_families as families

    with _opened(target, "metrics") as answer:
        text = answer.read().decode()
    found = [
        sample.value
        for family in families(text)
        for sample in family.samples
        if sample.name == name
    ]
    if not found:
        raise ClusterError(
            f"The server has no metric {name}.", f"see what it has: GET {target.base_url}/metrics."
        )
    return float(sum(found))


def _event(target: Target, answer: HTTPResponse) -> bytes:
    """The data of the next event.

    Raises:
        ClusterUnavailable: there is none.
    """
    try:
        for line in answer:
            if line.startswith(b"data: "):
                return line.removeprefix(b"data: ").strip()
        broken: Exception = EOFError("it ended before its last event")
    except (OSError, HTTPException) as error:
        broken = error
    raise ClusterUnavailable(
        f"The answer of {target.base_url} broke off: {broken}.", _SEE_LOG
    ) from broken


def _opened(target: Target, path: str, body: Any = None) -> HTTPResponse:
    headers = {**target.headers, "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{target.base_url}/{path}", data, headers)
    try:
        answer: HTTPResponse = urlopen(request, timeout=target.timeout_s, context=target.tls)
    except HTTPError as error:
        said = error.read().decode(errors="replace")
        raise ClusterError(
            f"{path} answers {error.code}: {_message(said)}",
            "see whether the service and its pods are ready: kubectl get services,pods.",
        ) from error
    except (OSError, HTTPException) as error:  # URLError is an OSError; a timeout may come bare
        raise ClusterUnavailable(
            f"Nothing answers at {target.base_url}: {getattr(error, 'reason', error)}.",
            "see whether the cluster runs: kubectl get --raw /readyz.",
        ) from error
    return answer


def _message(said: str) -> str:
    """What the server says, of a Kubernetes Status, an OpenAI error or plain text."""
    try:
        found = json.loads(said)
    except ValueError:
        return said.strip()
    if isinstance(found, dict):
        inner = found.get("error")
        return str(inner["message"] if isinstance(inner, dict) else found.get("message", found))
    return said.strip()
