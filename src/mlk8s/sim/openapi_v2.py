"""``/openapi/v2``: the types of all groups in one Swagger document, for clients that still ask.

kubectl asks for it, as protobuf, when it does not find a kind in version 3, and only needs to
learn that it is not there either; it gets a document without types.
"""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from mlk8s.sim import discovery, openapi
from mlk8s.sim.api import Api
from mlk8s.sim.status import Object

# Clients ask with an ``@``, which is no part of a media type; the answer has a dot.
_ASKED = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
_PROTOBUF = _ASKED.replace("@", ".")
_V3, _V2 = "#/components/schemas/", "#/definitions/"


def answer(request: web.Request, api: Api) -> web.Response:
    """The document in the form that the client asks for."""
    accepted = request.headers.get("Accept", "")
    if _ASKED in accepted or _PROTOBUF in accepted:
        return web.Response(body=_empty_protobuf(), headers={"Content-Type": _PROTOBUF})
    return web.Response(body=orjson.dumps(document(api)), content_type="application/json")


def document(api: Api) -> Object:
    """Types and paths of version 3, in the form of version 2."""
    definitions: Object = {}
    paths: Object = {}
    for group_version in sorted({resource.api_version for resource in api.registry}):
        found = openapi.document(api, group_version)
        assert found is not None, "a resource of the registry has a document"
        for name, schema in found["components"]["schemas"].items():
            if name not in definitions:
                definitions[name] = _schema(schema)
        for path, operations in found["paths"].items():
            paths[path] = {
                verb: _operation(operation)
                for verb, operation in operations.items()
                if verb != "parameters"
            }
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": discovery.KUBERNETES},
        "paths": paths,
        "definitions": definitions,
    }


def _schema(node: Any) -> Any:
    if isinstance(node, list):
        return [_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    made: Object = {}
    for key, value in node.items():
        if key == "$ref" and isinstance(value, str):
            made[key] = value.replace(_V3, _V2)
        elif key == "allOf" and len(value) == 1:
            made |= _schema(value[0])
        elif key == "oneOf" and isinstance(value, list):
            # Version 2 has no alternatives; these are numbers that may be text.
            made["type"] = "string"
        elif key != "default":
            made[key] = _schema(value)
    return made


def _operation(operation: Object) -> Object:
    kept = {key: value for key, value in operation.items() if key.startswith(("operation", "x-"))}
    answers: Object = {}
    for code, answered in operation["responses"].items():
        schema = answered["content"]["application/json"]["schema"]
        answers[code] = {"description": answered["description"], "schema": _schema(schema)}
    return {**kept, "responses": answers}


def _empty_protobuf() -> bytes:
    """``openapi.v2.Document`` with its version, its title, and no paths and no types."""

    def field(number: int, content: bytes) -> bytes:
        return bytes((number << 3 | 2, len(content))) + content

    info = field(1, b"Kubernetes") + field(2, discovery.KUBERNETES.encode())
    return field(1, b"2.0") + field(2, info) + field(8, b"") + field(9, b"")
