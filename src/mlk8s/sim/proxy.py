"""The proxy subresources of pods and Services: HTTP through the API server to a pod's process.

There is no pod network: a request for a port of a pod goes to the port of this machine that the
kubelet gave to the container. The rules and words are those of Kubernetes:
``pkg/registry/core/pod/strategy.go`` and ``pkg/registry/core/service/storage/storage.go``
(``ResourceLocation``), ``apimachinery/pkg/util/proxy`` and ``pkg/util/net``
(``SplitSchemeNamePort``). Left out: upgraded connections, and links in HTML pages, which a real
server rewrites.
"""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

from mlk8s.sim import dial, wire
from mlk8s.sim.simulator import Simulator
from mlk8s.sim.status import Object, StatusError, bad_request, not_allowed

#: The kinds of request that the server passes on.
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_PATH = re.compile(r"/api/v1/namespaces/([^/]+)/(pods|services)/([^/]+)/proxy(/.*)?", re.DOTALL)
# net/http/httputil: headers that are about one connection; who asks is this server's own business.
_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
_SET_ANEW = {
    "content-length",
    "host",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-uri",
}
_NOT_PASSED_ON = _HOP_BY_HOP | _SET_ANEW | {"authorization"}
_SCHEMES = ("", "http", "https")
# RFC 3986: what stands in a path as it is.
_SAFE = "/:@!$&'()*+,;=~"
# How soon it is noticed that a client has left while its answer is awaited.
_LOOK_S = 0.2
# Twice as long as the endpoints controller waits for more changes.
_ENDPOINTS_S = 0.2


@dataclass(frozen=True)
class Place:
    """What a path asks for.

    Attributes:
        plural: ``pods`` or ``services``.
        id: ``[scheme:]name[:port]``.
        rest: the path at the pod, as it is behind ``proxy``; may be empty.
    """

    namespace: str
    plural: str
    id: str
    rest: str


@dataclass(frozen=True)
class Target:
    """Where a request goes: a port of a pod."""

    scheme: str
    namespace: str
    pod: str
    address: str
    port: int


def place(path: str) -> Place | None:
    """What a path asks for; ``None`` where it is not the proxy's."""
    found = _PATH.fullmatch(path)
    return Place(found[1], found[2], found[3], found[4] or "") if found else None


class Proxy:
    """Passes requests on.

    Args:
        simulator: the cluster with the pods.
    """

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator

    async def answer(self, request: web.Request, place: Place) -> web.StreamResponse:
        """Pass a request on, and what comes back, piece by piece as it comes.

        Raises:
            StatusError: there is nothing to pass it to, or it does not answer.
        """
        if request.method not in METHODS:
            raise not_allowed()
        if place.plural == "pods":
            target = self._of_pod(place.namespace, place.id)
        else:
            target = await self._of_service(place.namespace, place.id)
        if "upgrade" in request.headers.get("Connection", "").lower():
            text = "the simulated cluster does not proxy upgraded connections such as WebSockets"
            raise StatusError(501, "NotImplemented", text)
        if not place.rest and request.method in ("GET", "HEAD"):
            query = request.rel_url.raw_query_string
            where = f"{request.rel_url.raw_path}/{f'?{query}' if query else ''}"
            return web.Response(status=301, headers={"Location": where})
        exchange = asyncio.ensure_future(self._exchange(request, place, target))
        try:
            # aiohttp has no event for a client that leaves while nothing is written to it.
            while not exchange.done():
                await asyncio.wait({exchange}, timeout=_LOOK_S)
                if request.transport is None or request.transport.is_closing():
                    raise ConnectionResetError("the client is gone")
            return exchange.result()
        finally:
            exchange.cancel()

    # -- where it goes ---------------------------------------------------------------------------

    def _of_pod(self, namespace: str, id: str) -> Target:
        scheme, name, port = _split(id, "pod")
        pod = self.simulator.api.get("pods", namespace, name)
        declared = [
            each["containerPort"]
            for container in pod["spec"]["containers"]
            for each in (container.get("ports") or ())[:1]
        ]
        if not port:
            port = str(declared[0]) if declared else "443" if scheme == "https" else "80"
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            raise bad_request("address not allowed")
        if not port.isdecimal():
            raise _unreachable(f"dial tcp: lookup tcp/{port}: unknown port")
        return Target(scheme, namespace, name, address, int(port))

    async def _of_service(self, namespace: str, id: str) -> Target:
        api = self.simulator.api
        scheme, name, port = _split(id, "service")
        service = api.get("services", namespace, name)
        if port.isdecimal():
            ports = service["spec"].get("ports") or ()
            named = [each.get("name", "") for each in ports if each["port"] == int(port)]
            if not named:
                text = f'no service port {int(port)} found for service "{name}"'
                raise StatusError(503, "ServiceUnavailable", text)
            port = named[0]
        found = self._endpoints(namespace, name, port)
        if not found:
            # Of a pod that has just become ready they are written a moment later.
            await asyncio.sleep(_ENDPOINTS_S)
            found = self._endpoints(namespace, name, port)
        if not found:
            text = f'no endpoints available for service "{id}"'
            raise StatusError(503, "ServiceUnavailable", text)
        address, offered = random.choice(found)
        pod = address["targetRef"]["name"]
        return Target(scheme, namespace, pod, address["ip"], offered["port"])

    def _endpoints(self, namespace: str, name: str, port: str) -> list[tuple[Object, Object]]:
        """The addresses of ready pods behind a port of a Service, each with the pod's port."""
        return [
            (address, offered)
            for subset in self.simulator.api.get("endpoints", namespace, name).get("subsets") or ()
            for offered in subset.get("ports") or ()
            if offered.get("name", "") == port
            for address in subset.get("addresses") or ()
            if (address.get("targetRef") or {}).get("kind") == "Pod"
        ]

    # -- passing it on ---------------------------------------------------------------------------

    async def _exchange(
        self, request: web.Request, place: Place, target: Target
    ) -> web.StreamResponse:
        port = self.simulator.kubelet.port(target.namespace, target.pod, target.port)
        if port is None:
            raise self._nobody(target)
        prefix = request.path.removesuffix(place.rest)
        url = f"{target.scheme or 'http'}://{dial.LOOPBACK}:{port}{quote(place.rest, _SAFE)}"
        if query := request.rel_url.raw_query_string:
            url = f"{url}?{query}"
        response = None
        async with dial.session() as client:
            try:
                async with client.request(
                    request.method,
                    URL(url, encoded=True),
                    headers=_sent(request),
                    data=request.content if request.can_read_body else None,
                    allow_redirects=False,
                    skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                ) as found:
                    response = _begun(found, prefix, target)
                    await response.prepare(request)
                    send = wire.Sender(request, response)
                    async for piece in found.content.iter_any():
                        await send(piece)
                    return response
            except aiohttp.ClientError as error:
                if response is None:
                    failed = dial.failure(target.address, target.port, error)
                    raise _unreachable(failed) from error
                # The pod has ended in the middle of its answer: so does the connection.
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionResetError("the pod has ended") from error

    def _nobody(self, target: Target) -> StatusError:
        """Nothing can listen: refused, as a port without a listener is, and why."""
        pod = self.simulator.api.get("pods", target.namespace, target.pod)
        phase = (pod.get("status") or {}).get("phase")
        declared = {
            each["containerPort"]
            for container in pod["spec"]["containers"]
            for each in container.get("ports") or ()
        }
        if phase in ("Succeeded", "Failed"):
            why = f"pod {target.pod} has ended"
        elif target.port not in declared:
            why = f"no container of pod {target.pod} declares port {target.port} in its ports"
        else:
            why = (
                f"no container of pod {target.pod} with this port runs as a process; an image that "
                "is replayed listens nowhere"
            )
        failed = dial.refused(target.address, target.port)
        return _unreachable(f"{failed} (simulated: nothing listens, {why})")


def _split(id: str, kind: str) -> tuple[str, str, str]:
    """Scheme, name and port of ``name``, ``name:port`` and ``scheme:name:port``."""
    parts = id.split(":")
    if len(parts) == 1:
        parts = ["", *parts, ""]
    elif len(parts) == 2:
        parts = ["", *parts]
    if len(parts) != 3 or not parts[1] or parts[0] not in _SCHEMES:
        raise bad_request(f'invalid {kind} request "{id}"')
    return parts[0], parts[1], parts[2]


def _unreachable(why: str) -> StatusError:
    text = f"error trying to reach service: {why}"
    return StatusError(503, "ServiceUnavailable", text)


def _sent(request: web.Request) -> list[tuple[str, str]]:
    """The headers that the pod gets."""
    found = [
        (name, value)
        for name, value in request.headers.items()
        if name.lower() not in _NOT_PASSED_ON
    ]
    if request.content_length is not None and request.can_read_body:
        found.append(("Content-Length", str(request.content_length)))
    passed = (request.headers.get("X-Forwarded-For"), request.remote)
    return [
        *found,
        ("Host", request.host),
        ("X-Forwarded-For", ", ".join(each for each in passed if each)),
        ("X-Forwarded-Host", request.host),
        ("X-Forwarded-Proto", request.scheme),
        ("X-Forwarded-Uri", request.path),
    ]


def _begun(found: aiohttp.ClientResponse, prefix: str, target: Target) -> web.StreamResponse:
    """The answer to the client, without its body."""
    response = web.StreamResponse(status=found.status, reason=found.reason)
    for name, value in found.headers.items():
        if name.lower() not in _HOP_BY_HOP:
            response.headers.add(name, value)
    if "Location" in found.headers:
        response.headers["Location"] = _relocated(found, prefix, target)
    return response


def _relocated(found: aiohttp.ClientResponse, prefix: str, target: Target) -> str:
    """A redirect within the pod, as one within the proxy's path."""
    where = found.headers["Location"]
    parts = urlsplit(where)
    own = ("", found.url.authority, f"{target.address}:{target.port}", found.request_info.url.host)
    if parts.netloc not in (*own, found.request_info.headers.get("Host")):
        return where
    if not parts.path.startswith("/") or parts.path.startswith(prefix):
        return where
    return parts._replace(scheme="", netloc="", path=prefix + parts.path).geturl()
