"""What a client sends: JSON, YAML or protobuf, read as the API server's decoders do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import orjson
import yaml
from aiohttp import web

from mlk8s.sim import decoding
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object, StatusError, bad_request

# staging/src/k8s.io/apiserver/pkg/server/config.go, MaxRequestBodyBytes.
LIMIT = 3 * 1024 * 1024
JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
APPLY = "application/apply-patch+yaml"
PATCHES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    APPLY: "apply",
}
# A YAML document may not stand for more values than this through its aliases.
_MOST_NODES = 1_000_000
# Levels of nesting: orjson, which writes what is stored, takes 254; a real server takes 10,000.
DEEPEST = 128
# YAML of this size is read beside the event loop, which others need meanwhile.
_LONG_YAML = 16 * 1024
# Of a body that cannot be read an error shows so many characters.
_SHOWN = 30


async def read(request: web.Request) -> bytes:
    """The body as it was sent.

    Raises:
        StatusError: 413, it is larger than the server takes.
    """
    if (request.content_length or 0) > LIMIT:
        raise too_large()
    data = await request.read()
    if len(data) > LIMIT:
        raise too_large()
    return data


def too_large() -> StatusError:
    """413: the body is larger than the server takes."""
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {LIMIT}")


async def whole(request: web.Request, resource: Resource | None = None) -> Object:
    """The body as an object; empty when there is none and no resource is named.

    Args:
        request: the request.
        resource: what the object has to be, for the words of a refusal.

    Raises:
        StatusError: 400, 413 or 415.
    """
    data = await read(request)
    if request.content_type not in (JSON, YAML, PROTOBUF, "application/octet-stream"):
        raise unknown_format((JSON, YAML, PROTOBUF))
    if not data and resource is None:
        return {}
    try:
        found = await _parsed(data, request.content_type)
    except _Unreadable as error:
        raise _unrecognized(resource, str(error), data) from None
    if not isinstance(found, dict):
        if resource is not None:
            # Says in the decoder's words what it is instead.
            decoding.header(resource, found)
        raise bad_request("the object provided is unrecognized: it has to be an object")
    return found


async def patch(request: web.Request) -> Any:
    """The body of a patch, which may be of any shape.

    Raises:
        StatusError: 400 or 413.
    """
    data = await read(request)
    try:
        return await _parsed(data, YAML if request.content_type == APPLY else JSON)
    except _Unreadable as error:
        what = "error decoding YAML" if request.content_type == APPLY else "error decoding patch"
        raise bad_request(f"{what}: {error}") from None


async def optional(request: web.Request) -> Any:
    """The body of a deletion; ``None`` when there is none.

    Raises:
        StatusError: 400 or 413.
    """
    data = await read(request)
    if not data:
        return None
    try:
        return await _parsed(data, request.content_type)
    except _Unreadable as error:
        raise _unrecognized(None, str(error), data) from None


def unknown_format(accepted: tuple[str, ...]) -> StatusError:
    """415: the body is of a content type that is not read here."""
    return StatusError(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(accepted),
    )


class _Unreadable(Exception):
    """The body is not of the format that it is said to be."""


def _unrecognized(resource: Resource | None, why: str, data: bytes) -> StatusError:
    kind = resource.kind if resource is not None else "DeleteOptions"
    text = data.decode(errors="replace")
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
    return bad_request(
        f"the object provided is unrecognized (must be of type {kind}): couldn't get "
        f"version/kind; json parse error: {why} ({shown or '<empty>'})"
    )


async def _parsed(data: bytes, content_type: str) -> Any:
    if content_type == PROTOBUF:
        from mlk8s.sim import protobuf

        return _shallow(data, protobuf.decode(data))
    try:
        return _shallow(data, orjson.loads(data))
    except orjson.JSONDecodeError as error:
        if content_type != YAML:
            raise _Unreadable(_json_problem(data, error)) from None
    # JSON is YAML, and what kubectl calls YAML is JSON, which is read a hundred times as fast.
    if len(data) > _LONG_YAML:
        return await asyncio.to_thread(_yaml, data)
    return _yaml(data)


def _shallow(data: bytes, value: Any) -> Any:
    if data.count(b"{") + data.count(b"[") <= DEEPEST:
        return value
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise _Unreadable("exceeded max depth")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        level = [item for item in below if isinstance(item, dict | list)]
    return value


def _json_problem(data: bytes, error: orjson.JSONDecodeError) -> str:
    """What Go's ``encoding/json`` would say."""
    if "depth" in error.msg:
        return "exceeded max depth"
    try:
        json.loads(data)
    except json.JSONDecodeError as found:
        text, at = found.doc, found.pos
        if at >= len(text) or found.msg.startswith("Unterminated"):
            return "unexpected end of JSON input"
        character = text[at]
        shown = "'\\''" if character == "'" else f"'{json.dumps(character)[1:-1]}'"
        where = {
            "Expecting property name enclosed in double quotes": "looking for beginning of object "
            "key string",
            "Expecting ':' delimiter": "after object key",
            "Expecting ',' delimiter": "after object key:value pair or array element",
            "Extra data": "after top-level value",
            "Illegal trailing comma before end of object": "looking for beginning of object key "
            "string",
            "Illegal trailing comma before end of array": "looking for beginning of value",
        }.get(found.msg, "looking for beginning of value")
        return f"invalid character {shown} {where}"
    except (UnicodeDecodeError, RecursionError, ValueError):
        # Too deep, or not UTF-8: Go has no other words for it either.
        return error.msg
    return error.msg


# -- YAML -----------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a date stays text. Deep nesting is refused as it is met."""

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level >= DEEPEST:
            raise _Unreadable("exceeded max depth")
        super().fetch_flow_collection_start(token)

    def add_indent(self, column: int) -> bool:
        if len(self.indents) >= DEEPEST:
            raise _Unreadable("exceeded max depth")
        return bool(super().add_indent(column))


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _yaml(data: bytes) -> Any:
    """YAML as what JSON can hold: keys are text, numbers are of 64 bits or floating."""
    try:
        loader = _Loader(data)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_size(node)
            value = loader.construct_document(node)
        finally:
            loader.dispose()
        return orjson.loads(orjson.dumps(_bounded(value), option=orjson.OPT_NON_STR_KEYS))
    except yaml.YAMLError as error:
        raise _Unreadable(" ".join(str(error).split())) from None
    except (orjson.JSONEncodeError, ValueError) as error:
        raise _Unreadable(f"yaml: {error}") from None


def _check_size(root: yaml.Node) -> None:
    """Refuse a small document that stands for a large one, or for an endless one."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()
    stack: list[tuple[yaml.Node, bool]] = [(root, False)]
    while stack:
        node, done = stack.pop()
        if done:
            open_nodes.discard(id(node))
            size = 1 + sum(sizes[id(child)] for child in _children(node))
            if size > _MOST_NODES:
                raise _Unreadable("yaml: document contains excessive aliasing")
            sizes[id(node)] = size
        elif id(node) in open_nodes:
            raise _Unreadable("yaml: an anchor's value contains itself")
        elif id(node) not in sizes:
            open_nodes.add(id(node))
            stack.append((node, True))
            stack.extend((child, False) for child in _children(node))


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _bounded(value: Any) -> Any:
    """Integers beyond 64 bits as Go reads them: as floating point."""
    if isinstance(value, dict):
        return {key: _bounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_bounded(item) for item in value]
    if type(value) is int and not -(2**63) <= value < 2**64:
        return float(value)
    return value
