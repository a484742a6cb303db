"""Answers: content types, tables, warnings, and the stream to a client."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import orjson
import yaml
from aiohttp import web

from mlk8s.sim import bodies, tables
from mlk8s.sim.api import Api
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object, StatusError

JSON, YAML = bodies.JSON, bodies.YAML
# From this size on a real server compresses what it answers, as lightly as zlib can.
_COMPRESS_FROM = 128 * 1024
_AT_ONCE = 256 * 1024
_SLOW_CLIENT_S = 30.0
_INDENTED_AGENTS = ("curl", "Wget", "Mozilla/5.0")


def respond(
    api: Api,
    request: web.Request,
    value: Any,
    status: int = 200,
    resource: Resource | None = None,
    warnings: list[str] | None = None,
) -> web.Response:
    """Answer with an object, in the form that the client asked for."""
    if resource is not None and value.get("kind") == resource.kind:
        if value["apiVersion"] != resource.api_version:
            value = {**value, "apiVersion": resource.api_version}
        wanted = form(request)
        if wanted == "Table":
            value = table(api, request, resource, [value]) | {
                "metadata": {"resourceVersion": value["metadata"]["resourceVersion"]}
            }
        elif wanted == "PartialObjectMetadata":
            value = metadata_only(value)
    if wants_yaml(request):
        body, kind = yaml.safe_dump(value, sort_keys=False).encode(), YAML
    else:
        body, kind = orjson.dumps(value), JSON
    response = web.Response(body=body, status=status, content_type=kind)
    for text in warnings or ():
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


def table(api: Api, request: web.Request, resource: Resource, objects: list[Object]) -> Object:
    """The ``Table`` of objects, as the client asked for it."""
    definition = None
    if resource.custom:
        definition = api.find("customresourcedefinitions.apiextensions.k8s.io", "", resource.key)
    include = request.query.get("includeObject", "Metadata")
    return tables.table(resource, objects, api.clock.now(), definition, include)


def converted(resource: Resource, raw: bytes) -> Object:
    """The object in the version of the request; versions of a CRD differ in that alone."""
    obj: Object = orjson.loads(raw)
    if obj["apiVersion"] != resource.api_version:
        obj["apiVersion"] = resource.api_version
    return obj


class Sender:
    """Writes to a client, and gives up on one that has stopped reading."""

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        self._request = request
        self._response = response

    async def __call__(self, data: bytes | memoryview) -> None:
        """Write; a client that does not take it in time is cut off.

        Raises:
            ConnectionResetError: the client is gone, or has been cut off.
        """
        try:
            async with asyncio.timeout(_SLOW_CLIENT_S):
                await self._response.write(data)
        except TimeoutError:
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ConnectionResetError("the client does not read") from None


def check_accept(request: web.Request) -> None:
    """Refuse a client that takes no format that is written here.

    Raises:
        StatusError: 406.
    """
    accepted = request.headers.get("Accept", "")
    kinds = {part.split(";")[0].strip() for part in accepted.split(",")}
    if accepted and not kinds & {JSON, YAML, "application/*", "*/*", ""}:
        raise StatusError(
            406,
            "NotAcceptable",
            f"only the following media types are accepted: {JSON}, {YAML}",
        )


async def finished(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """An answer indented or compressed, where the client wants that."""
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return response
    if response.content_type == JSON and _indented(request):
        response.body = orjson.dumps(orjson.loads(response.body), option=orjson.OPT_INDENT_2)
    encodings = request.headers.get("Accept-Encoding", "")
    if len(response.body) > _COMPRESS_FROM and request.method == "GET" and "gzip" in encodings:
        # In a thread of its own: zlib lets the others run meanwhile.
        response.body = await asyncio.to_thread(gzip.compress, response.body, 1)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
    if len(response.body) > _AT_ONCE:
        return await _piecewise(request, response)
    return response


async def _piecewise(request: web.Request, whole: web.Response) -> web.StreamResponse:
    """Send a large body piece by piece.

    asyncio's TLS copies what is left of a buffer after each record that it has encrypted, so a
    body handed over in one costs with the square of its size.
    """
    assert isinstance(whole.body, bytes)
    response = web.StreamResponse(status=whole.status, headers=whole.headers)
    response.content_length = len(whole.body)
    await response.prepare(request)
    send = Sender(request, response)
    rest = memoryview(whole.body)
    while rest:
        await send(rest[:_AT_ONCE])
        rest = rest[_AT_ONCE:]
    return response


def _indented(request: web.Request) -> bool:
    said = request.query.get("pretty")
    if said:
        return said.lower() in ("1", "t", "true")
    return request.headers.get("User-Agent", "").startswith(_INDENTED_AGENTS)


def wants_yaml(request: web.Request) -> bool:
    """Whether the client prefers YAML."""
    return request.headers.get("Accept", "").split(",")[0].split(";")[0] == YAML


def form(request: web.Request) -> str:
    """``Table`` or ``PartialObjectMetadata`` if the client prefers one that is offered."""
    for accepted in request.headers.get("Accept", "").split(","):
        kind, *parameters = (part.strip() for part in accepted.split(";"))
        wanted = dict(part.partition("=")[::2] for part in parameters)
        offered = (wanted.get("g", "meta.k8s.io"), wanted.get("v", "v1"))
        if kind == JSON and offered == ("meta.k8s.io", "v1"):
            return str(wanted.get("as", ""))
    return ""


def metadata_only(obj: Object) -> Object:
    """An object without its spec and status."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }


def event(type: str, raw: bytes) -> bytes:
    """One line of a watch."""
    return b'{"type":"' + type.encode() + b'","object":' + raw + b"}\n"


def bookmark(resource: Resource, revision: int, initial: bool) -> bytes:
    """A line of a watch that says how far it is."""
    metadata: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    marker = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
    return event("BOOKMARK", orjson.dumps(marker))
