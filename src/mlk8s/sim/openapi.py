"""The OpenAPI v3 documents, one for each group and version, as kubectl reads them.

kubectl takes from them what ``explain`` prints, how lists are merged (``apply``, ``diff``), and
that the server checks fields (``--validate``). Parameters and answers of the operations are left
out where no client reads them.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import orjson

from mlk8s.sim import schema
from mlk8s.sim.api import Api
from mlk8s.sim.resources import Resource
from mlk8s.sim.schema import Schema
from mlk8s.sim.status import Object

_REFERENCE = "#/components/schemas/"
_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_LIST_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
_PATCHES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
# Documents that are kept made; one is some 2 MB.
_KEPT = 64
_cache: OrderedDict[tuple[Any, ...], Object] = OrderedDict()

_PARAMETERS = {
    "dryRun": "When present, indicates that modifications should not be persisted.",
    "fieldManager": "fieldManager is a name associated with the actor or entity that is making "
    "these changes.",
    "fieldValidation": "fieldValidation instructs the server on how to handle objects in the "
    "request (POST/PUT/PATCH) containing unknown or duplicate fields.",
}


def index(api: Api) -> Object:
    """Where the document of each group and version is; the hash changes with its content."""
    paths = {}
    for group_version in sorted({_place(resource) for resource in api.registry}):
        state = hashlib.sha256(orjson.dumps(_state(api, group_version), default=str)).hexdigest()
        url = f"/openapi/v3/{group_version}?hash={state[:32].upper()}"
        paths[group_version] = {"serverRelativeURL": url}
    return {"paths": paths}


def document(api: Api, group_version: str) -> Object | None:
    """The document of ``v1`` or ``apps/v1``, shared and not to be changed; ``None``: no such."""
    prefix = "apis" if "/" in group_version else "api"
    place = f"{prefix}/{group_version}"
    if not any(_place(resource) == place for resource in api.registry):
        return None
    state = _state(api, place)
    key = (place, orjson.dumps(state, default=str))
    if (made := _cache.get(key)) is None:
        made = _cache[key] = _document(api, place)
        while len(_cache) > _KEPT:
            _cache.popitem(last=False)
    return made


def _place(resource: Resource) -> str:
    return f"{'apis' if resource.group else 'api'}/{resource.api_version}"


def _state(api: Api, place: str) -> list[Any]:
    """What the document of a group and version is made from."""
    found: list[Any] = [schema.KUBERNETES]
    for resource in api.registry:
        if _place(resource) == place:
            node = api.schemas.of(resource).node if resource.custom else resource.definition
            found.append([vars(resource), node])
    return found


def _document(api: Api, place: str) -> Object:
    schemas: Object = {}
    paths: Object = {}
    for resource in api.registry:
        if _place(resource) != place:
            continue
        whole = api.schemas.of(resource)
        name = resource.definition or _custom_name(resource)
        if resource.custom:
            _add_custom(resource, whole, name, schemas)
        else:
            _add(name, schemas)
            if schema.has(f"{name}List"):
                _add(f"{name}List", schemas)
        paths.update(_paths(resource, name, place))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": f"v{schema.KUBERNETES}"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _custom_name(resource: Resource) -> str:
    reversed_group = ".".join(reversed(resource.group.split(".")))
    return f"{reversed_group}.{resource.version}.{resource.kind}"


# -- schemas --------------------------------------------------------------------------------------


def _add(name: str, schemas: Object) -> None:
    """Add a built-in type and all that it refers to."""
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in schemas:
            continue
        made = schemas[name] = _type(name)
        waiting.extend(
            reference.removeprefix(_REFERENCE)
            for reference in _references(made)
            if reference.removeprefix(_REFERENCE) not in schemas
        )


def _type(name: str) -> Object:
    if name == schema.QUANTITY:
        return {
            "description": schema.named(name).description
            or "Quantity is a fixed-point "
            "representation of a number, with suffixes such as m, k, M, Ki and Mi.",
            "oneOf": [{"type": "string"}, {"type": "number"}],
        }
    if name == schema.INT_OR_STRING:
        return {
            "description": "IntOrString is a type that can hold an int32 or a string.",
            "oneOf": [{"type": "integer"}, {"type": "string"}],
            "format": "int-or-string",
        }
    made: Object = _node(schema.named(name).node)
    return made


def _node(node: Any) -> Any:
    """A node of the JSON schema files in OpenAPI's form."""
    if isinstance(node, list):
        return [_node(item) for item in node]
    if not isinstance(node, dict):
        return node
    made: Object = {}
    for key, value in node.items():
        match key:
            case "type" if isinstance(value, list):
                made["type"] = next(item for item in value if item != "null")
            case "$ref":
                made["allOf"] = [{"$ref": _REFERENCE + value.rpartition("/")[2]}]
                made.setdefault("default", {})
            case "properties":
                made[key] = {name: _node(part) for name, part in value.items()}
            case "enum" | "default" | "required":
                made[key] = value
            case _:
                made[key] = _node(value)
    if list(node) == ["$ref"]:
        # Inside lists and maps a reference stands alone.
        return made["allOf"][0]
    return made


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _references(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from _references(value)


def _add_custom(resource: Resource, whole: Schema, name: str, schemas: Object) -> None:
    gvk = [{"group": resource.group, "version": resource.version, "kind": resource.kind}]
    made = dict(whole.node)
    made["properties"] = {
        **made["properties"],
        "metadata": {
            "allOf": [{"$ref": _REFERENCE + _OBJECT_META}],
            "description": "Standard object's metadata. More info: https://git.k8s.io/community/"
            "contributors/devel/sig-architecture/api-conventions.md#metadata",
        },
    }
    schemas[name] = {**made, "x-kubernetes-group-version-kind": gvk}
    listed = {"$ref": _REFERENCE + name}
    schemas[f"{name}List"] = {
        "description": f"{resource.kind}List is a list of {resource.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": made["properties"]["apiVersion"],
            "kind": made["properties"]["kind"],
            "metadata": {"allOf": [{"$ref": _REFERENCE + _LIST_META}]},
            "items": {
                "description": f"List of {resource.plural}.",
                "type": "array",
                "items": listed,
            },
        },
        "x-kubernetes-group-version-kind": [{**gvk[0], "kind": f"{resource.kind}List"}],
    }
    _add(_OBJECT_META, schemas)
    _add(_LIST_META, schemas)


# -- paths ----------------------------------------------------------------------------------------


def _paths(resource: Resource, name: str, place: str) -> Object:
    root = f"/{place}"
    paths: Object = {}
    if resource.namespaced:
        paths[f"{root}/{resource.plural}"] = {"get": _operation(resource, name, "list")}
        root += "/namespaces/{namespace}"
    collection = {
        "get": _operation(resource, name, "list"),
        "post": _operation(resource, name, "post"),
        "delete": _operation(resource, name, "deletecollection"),
        "parameters": _in_path(("namespace",) if resource.namespaced else ()),
    }
    one = {
        "get": _operation(resource, name, "get"),
        "put": _operation(resource, name, "put"),
        "patch": _operation(resource, name, "patch"),
        "delete": _operation(resource, name, "delete"),
        "parameters": _in_path(("name", "namespace") if resource.namespaced else ("name",)),
    }
    paths[f"{root}/{resource.plural}"] = collection
    paths[f"{root}/{resource.plural}/{{name}}"] = one
    if resource.has_status:
        paths[f"{root}/{resource.plural}/{{name}}/status"] = {
            verb: _operation(resource, name, verb) for verb in ("get", "put", "patch")
        }
    return paths


def _operation(resource: Resource, name: str, action: str) -> Object:
    gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    answer = f"{name}List" if action == "list" else name
    made: Object = {
        "operationId": f"{action}{resource.api_version.replace('/', '_')}{resource.kind}",
        "responses": {
            "200": {
                "description": "OK",
                "content": {"application/json": {"schema": {"$ref": _REFERENCE + answer}}},
            }
        },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk,
    }
    if action in ("post", "put", "patch"):
        made["parameters"] = [
            {"name": part, "in": "query", "description": about, "schema": {"type": "string"}}
            for part, about in _PARAMETERS.items()
        ]
        body = {"schema": {"$ref": _REFERENCE + name}}
        kinds: tuple[str, ...] = ("*/*",)
        if action == "patch":
            # A custom resource says nothing of how its lists merge.
            kinds = _PATCHES[:-1] if resource.custom else _PATCHES
            body = {"schema": {"type": "object"}}
        made["requestBody"] = {"content": dict.fromkeys(kinds, body), "required": True}
    return made


def _in_path(names: tuple[str, ...]) -> list[Object]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "uniqueItems": True},
        }
        for name in names
    ]
