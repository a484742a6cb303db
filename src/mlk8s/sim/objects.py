"""Requests for objects and collections: create, read, replace, patch, delete, list, watch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson
from aiohttp import web

from mlk8s.sim import bodies, options, reading, wire
from mlk8s.sim.api import DeleteOptions, Request
from mlk8s.sim.resources import Resource
from mlk8s.sim.simulator import Simulator
from mlk8s.sim.status import (
    Object,
    StatusError,
    bad_request,
    invalid,
    not_allowed,
    not_found,
    unprocessable,
)

# Resources that a replacement creates when they are not there, and those whose replacement has to
# say which version it is of (AllowCreateOnUpdate and AllowUnconditionalUpdate of pkg/registry).
_CREATED_BY_UPDATE = {
    "clusterrolebindings.rbac.authorization.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "endpoints",
    "events",
    "leases.coordination.k8s.io",
    "limitranges",
    "rolebindings.rbac.authorization.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "services",
}
_UPDATED_BY_VERSION = {
    "controllerrevisions.apps",
    "customresourcedefinitions.apiextensions.k8s.io",
    "endpointslices.discovery.k8s.io",
    "leases.coordination.k8s.io",
    "poddisruptionbudgets.policy",
    "runtimeclasses.node.k8s.io",
}


@dataclass(frozen=True)
class Target:
    """What a path names.

    Attributes:
        namespace: ``None`` where the path names none.
        name: empty for a collection.
        below: the subresource; empty for the object itself.
    """

    resource: Resource
    namespace: str | None
    name: str
    below: str


class Objects:
    """Answers requests for the objects of one simulator.

    Args:
        simulator: the cluster behind it.
    """

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.lists = reading.Lists(simulator.api)
        self.hub = reading.Hub(simulator.api.store)

    def _answer(self, request: web.Request, value: Any, *rest: Any) -> web.Response:
        return wire.respond(self.simulator.api, request, value, *rest)

    async def collection(self, request: web.Request, target: Target) -> web.StreamResponse:
        """List, watch, create, or delete all that match."""
        api, resource = self.simulator.api, target.resource
        if request.method in ("GET", "DELETE"):
            query = reading.Query(
                resource,
                target.namespace if resource.namespaced else None,
                request.query.get("labelSelector", ""),
                request.query.get("fieldSelector", ""),
                selectable=self._selectable(resource),
            )
            if request.method == "GET":
                if options.flag(request.query, "watch"):
                    return await self._watch(request, query)
                return self._list(request, query)
            return await self._delete_collection(request, query)
        if request.method != "POST":
            raise not_allowed()
        if resource.namespaced and target.namespace is None:
            raise not_allowed()
        body = await bodies.whole(request, resource)
        asked = self._asked(request)
        created = api.create(resource, body, target.namespace or "", asked)
        return self._answer(request, created, 201, resource, asked.warnings)

    def _selectable(self, resource: Resource) -> tuple[str, ...]:
        if not resource.custom:
            return ()
        key = "customresourcedefinitions.apiextensions.k8s.io"
        definition = self.simulator.api.find(key, "", resource.key) or {"spec": {"versions": []}}
        return tuple(
            entry["jsonPath"]
            for version in definition["spec"]["versions"]
            if version["name"] == resource.version
            for entry in version.get("selectableFields") or ()
        )

    def _asked(self, request: web.Request) -> Request:
        agent = request.headers.get("User-Agent", "unknown")
        applied = request.content_type == bodies.APPLY
        return options.of_write(request.method, request.query, agent, applied)

    async def one(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Read, watch, replace, patch or delete one object, or its status."""
        api, resource = self.simulator.api, target.resource
        namespace = target.namespace or ""
        asked = self._asked(request)
        match request.method:
            case "GET":
                if options.flag(request.query, "watch"):
                    query = reading.Query(resource, target.namespace, name=target.name)
                    return await self._watch(request, query)
                raw = api.store.raw(resource.key, namespace, target.name)
                if raw is None:
                    raise not_found(resource.plural, resource.group, target.name)
                return self._answer(request, orjson.loads(raw), 200, resource)
            case "PUT":
                return await self._replace(request, target, asked)
            case "PATCH":
                changed, created = await self._patch(request, target, asked)
                code = 201 if created else 200
                return wire.respond(
                    self.simulator.api, request, changed, code, resource, asked.warnings
                )
            case "DELETE":
                how, asked = await self._deletion(request)
                gone = api.delete(resource, namespace, target.name, how, asked)
                return wire.respond(
                    self.simulator.api, request, gone, 200, resource, asked.warnings
                )
        raise not_allowed()

    async def _replace(self, request: web.Request, target: Target, asked: Request) -> web.Response:
        api, resource = self.simulator.api, target.resource
        namespace = target.namespace or ""
        body = await bodies.whole(request, resource)
        metadata = body.setdefault("metadata", {})
        created = False
        if isinstance(metadata, dict):
            # What is of another shape is refused, in the decoder's words, when it is decoded.
            if metadata.setdefault("name", target.name) != target.name:
                raise bad_request(
                    f"the name of the object ({metadata['name']}) does not match the name on the "
                    f"URL ({target.name})"
                )
            if resource.namespaced:
                if metadata.setdefault("namespace", namespace) not in (namespace, ""):
                    raise bad_request(
                        f"the namespace of the object ({metadata['namespace']}) does not match "
                        f"the namespace on the request ({namespace})"
                    )
                metadata["namespace"] = namespace
            there = api.store.raw(resource.key, namespace, target.name) is not None
            created = not there and resource.key in _CREATED_BY_UPDATE and not target.below
            versioned = resource.custom or resource.key in _UPDATED_BY_VERSION
            if there and versioned and not metadata.get("resourceVersion"):
                error = invalid("metadata.resourceVersion", 0, "must be specified for an update")
                raise unprocessable(resource.plural, resource.group, target.name, [error])
        if created:
            changed = api.create(resource, body, namespace, asked)
        else:
            changed = api.update(resource, body, asked, target.below)
        code = 201 if created else 200
        return self._answer(request, changed, code, resource, asked.warnings)

    async def _deletion(self, request: web.Request) -> tuple[DeleteOptions, Request]:
        how, dry_run = options.of_delete(request.query, await bodies.optional(request))
        return how, replace(self._asked(request), dry_run=dry_run)

    async def _patch(
        self, request: web.Request, target: Target, asked: Request
    ) -> tuple[Object, bool]:
        kind = bodies.PATCHES.get(request.content_type)
        if kind is None:
            raise bodies.unknown_format(tuple(bodies.PATCHES))
        body = await bodies.patch(request)
        return self.simulator.api.patch(
            target.resource,
            target.namespace or "",
            target.name,
            body,
            kind,
            asked,
            target.below,
            options.flag(request.query, "force"),
        )

    def _list(self, request: web.Request, query: reading.Query) -> web.Response:
        asked = options.of_list(request.query, watch=False)
        page = self.lists.page(query, asked)
        metadata: Object = {"resourceVersion": str(page.revision)}
        if page.token:
            metadata["continue"] = page.token
            if page.remaining is not None:
                metadata["remainingItemCount"] = page.remaining
        resource = query.resource
        form = wire.form(request)
        if form == "Table":
            objects = [wire.converted(resource, raw) for raw in page.items]
            table = wire.table(self.simulator.api, request, resource, objects)
            table["metadata"] = metadata
            return self._answer(request, table)
        kind, api_version = f"{resource.kind}List", resource.api_version
        if form.startswith("PartialObjectMetadata"):
            kind, api_version = "PartialObjectMetadataList", "meta.k8s.io/v1"
            items = [
                orjson.dumps(wire.metadata_only(wire.converted(resource, raw)))
                for raw in page.items
            ]
        elif resource.custom:
            items = [orjson.dumps(wire.converted(resource, raw)) for raw in page.items]
        else:
            # Items of a typed list do not repeat their kind.
            prefix = len(f'{{"kind":"{resource.kind}","apiVersion":"{resource.api_version}",')
            items = [b"{" + raw[prefix:] for raw in page.items]
        head = orjson.dumps({"kind": kind, "apiVersion": api_version, "metadata": metadata})
        body = head[:-1] + b',"items":[' + b",".join(items) + b"]}"
        if wire.wants_yaml(request):
            return self._answer(request, orjson.loads(body))
        return web.Response(body=body, content_type=wire.JSON)

    async def _watch(self, request: web.Request, query: reading.Query) -> web.StreamResponse:
        asked = options.of_list(request.query, watch=True)
        watch = reading.Watch(query, self.hub)
        failure: StatusError | None = None
        try:
            watch.begin(self.simulator.api.store, asked)
        except StatusError as error:
            if error.code != 410:
                raise
            failure = error
        timeout = float(asked.timeout or reading.WATCH_TIMEOUT_S)
        response = web.StreamResponse(headers={"Content-Type": wire.JSON})
        await response.prepare(request)
        send = wire.Sender(request, response)
        lines = self._lines(request, query, asked.bookmarks)
        try:
            if failure is not None:
                await send(wire.event("ERROR", orjson.dumps(failure.as_status())))
                return response
            async for events in watch.events(timeout, reading.BOOKMARK_EVERY_S):
                text = b"".join(map(lines, events))
                if asked.bookmarks and not events:
                    revision = self.simulator.api.store.revision
                    text = wire.bookmark(query.resource, revision, initial=False)
                if text:
                    await send(text)
        except ConnectionError:
            # It is gone, or has been cut off because it does not read.
            pass
        finally:
            watch.close()
        return response

    def _lines(
        self, request: web.Request, query: reading.Query, bookmarks: bool
    ) -> Callable[[reading.Seen], bytes]:
        """What makes a line of a watch, in the form that the client asked for."""
        resource = query.resource
        tabular = wire.form(request) == "Table"
        headed = False

        def line(seen: reading.Seen) -> bytes:
            nonlocal headed
            if seen.type == "BOOKMARK":
                return wire.bookmark(resource, seen.revision, initial=True) if bookmarks else b""
            raw = seen.raw
            if tabular:
                objects = [wire.converted(resource, raw)]
                table = wire.table(self.simulator.api, request, resource, objects)
                table["metadata"] = {"resourceVersion": str(seen.revision)}
                if headed:
                    table["columnDefinitions"] = []
                headed = True
                raw = orjson.dumps(table)
            elif resource.custom:
                raw = orjson.dumps(wire.converted(resource, raw))
            return wire.event(seen.type, raw)

        return line

    async def _delete_collection(self, request: web.Request, query: reading.Query) -> web.Response:
        api, resource = self.simulator.api, query.resource
        how, asked = await self._deletion(request)
        page = self.lists.page(query, options.of_list(request.query, watch=False))
        for raw in page.items:
            metadata = orjson.loads(raw)["metadata"]
            try:
                api.delete(resource, metadata.get("namespace", ""), metadata["name"], how, asked)
            except StatusError as error:
                if error.code != 404:
                    raise
        return wire.respond(
            self.simulator.api,
            request,
            {
                "kind": f"{resource.kind}List",
                "apiVersion": resource.api_version,
                "metadata": {"resourceVersion": str(api.store.revision)},
                "items": [wire.converted(resource, raw) for raw in page.items],
            },
            200,
            None,
            asked.warnings,
        )
