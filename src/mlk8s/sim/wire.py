"""Bodies and answers: content types, options, tables, warnings, and the stream to a client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
import yaml
from aiohttp import web

from mlk8s.sim import protobuf, reviews, tables
from mlk8s.sim.api import Api, DeleteOptions, Request
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object, StatusError, bad_request

# What etcd takes; a real server refuses larger bodies with the same words.
BODY_LIMIT = 3 * 1024 * 1024
JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
PATCHES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
_SLOW_CLIENT_S = 30.0


def asked(request: web.Request) -> Request:
    """Who asks and how: field manager, dry run, validation.

    Raises:
        StatusError: 400, a query parameter has an unknown value.
    """
    query = request.query
    agent = request.headers.get("User-Agent", "unknown").split("/")[0]
    dry_run = query.get("dryRun", "")
    if dry_run not in ("", "All"):
        raise bad_request(f'dryRun: Unsupported value: "{dry_run}": supported values: "All"')
    validation = query.get("fieldValidation") or "Warn"
    if validation not in ("Strict", "Warn", "Ignore"):
        raise bad_request(
            f'fieldValidation: Unsupported value: "{validation}": supported values: '
            '"Ignore", "Strict", "Warn"'
        )
    explicit = query.get("fieldManager", "")
    if not explicit and request.content_type == "application/apply-patch+yaml":
        agent = ""
    return Request(
        manager=explicit or agent,
        user=reviews.USER,
        dry_run=dry_run == "All",
        validation=validation,
    )


async def parsed(request: web.Request) -> Any:
    """The body as JSON, YAML or protobuf says."""
    data = await request.read()
    if len(data) > BODY_LIMIT:
        raise too_large()
    if request.content_type == PROTOBUF:
        return protobuf.decode(data)
    try:
        if request.content_type in (YAML, "application/apply-patch+yaml"):
            return yaml.load(data, Loader=_Loader)
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise bad_request(
            "couldn't get version/kind; json parse error: "
            f"{error.msg} (line {error.lineno}, column {error.colno})"
        ) from None
    except yaml.YAMLError as error:
        raise bad_request(f"error decoding YAML: {error}") from None


async def body(request: web.Request) -> Object:
    """The body as an object; empty when there is none.

    Raises:
        StatusError: 400, 413 or 415.
    """
    if request.content_type not in (JSON, YAML, PROTOBUF, "application/octet-stream"):
        raise StatusError(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: "
            f"{JSON}, {YAML}, {PROTOBUF}",
        )
    if not request.can_read_body:
        return {}
    body = await parsed(request)
    if not isinstance(body, dict):
        shown = json.dumps(body, default=str)[:40]
        raise bad_request(f"the object provided is unrecognized (must be of type object): {shown}")
    return body


async def delete_options(request: web.Request) -> DeleteOptions:
    """``DeleteOptions`` from the query and the body; the query wins."""
    options: Object = {}
    if request.can_read_body and await request.read():
        found = await parsed(request)
        if not isinstance(found, dict):
            raise bad_request("the body of a deletion has to be DeleteOptions")
        options = found
    query = request.query
    grace = query.get("gracePeriodSeconds", options.get("gracePeriodSeconds"))
    try:
        grace_period = None if grace is None else int(grace)
    except ValueError:
        raise bad_request(f'invalid gracePeriodSeconds "{grace}"') from None
    propagation = query.get("propagationPolicy", options.get("propagationPolicy"))
    if propagation not in (None, "Background", "Foreground", "Orphan"):
        raise bad_request(
            f'propagationPolicy: Unsupported value: "{propagation}": supported values: '
            '"Foreground", "Background", "Orphan", "nil"'
        )
    if options.get("orphanDependents") is not None and propagation is None:
        propagation = "Orphan" if options["orphanDependents"] else "Background"
    preconditions = options.get("preconditions") or {}
    return DeleteOptions(
        grace_period,
        propagation,
        preconditions.get("uid"),
        preconditions.get("resourceVersion"),
    )


def check_kind(resource: Resource, body: Object) -> None:
    """Fill in kind and apiVersion, and refuse those of another resource."""
    kind = body.get("kind") or resource.kind
    version = body.get("apiVersion") or resource.api_version
    if (kind, version) != (resource.kind, resource.api_version):
        raise bad_request(
            f"{kind} in version {json.dumps(str(version))} cannot be handled as a "
            f"{resource.kind}: converting ({version}).{kind} to "
            f"({resource.api_version}).{resource.kind}: unknown conversion"
        )
    body["kind"], body["apiVersion"] = kind, version


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


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a date stays text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class Sender:
    """Writes to a client, and gives up on one that has stopped reading."""

    def __init__(self, response: web.StreamResponse) -> None:
        self._response = response

    async def __call__(self, data: bytes) -> None:
        """Write, or raise ``TimeoutError`` when the client does not take it."""
        await asyncio.wait_for(self._response.write(data), _SLOW_CLIENT_S)


def too_large() -> StatusError:
    """413: the body is larger than etcd would take."""
    return StatusError(
        413, "RequestEntityTooLarge", f"Request entity too large: limit is {BODY_LIMIT}"
    )


def flag(request: web.Request, name: str) -> bool:
    """Whether a query parameter is set."""
    return request.query.get(name, "").lower() in ("true", "1")


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
