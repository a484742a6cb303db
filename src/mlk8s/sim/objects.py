"""Requests for objects and collections: create, read, replace, patch, delete, list, watch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from mlk8s.sim import reading, wire
from mlk8s.sim.api import Request
from mlk8s.sim.resources import Resource
from mlk8s.sim.simulator import Simulator
from mlk8s.sim.status import Object, StatusError, bad_request, not_allowed, not_found


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
                if wire.flag(request, "watch"):
                    return await self._watch(request, query)
                return self._list(request, query)
            return await self._delete_collection(request, query)
        if request.method != "POST":
            raise not_allowed()
        if resource.namespaced and target.namespace is None:
            raise not_allowed()
        body = await wire.body(request)
        wire.check_kind(resource, body)
        asked = wire.asked(request)
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

    async def one(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Read, watch, replace, patch or delete one object, or its status."""
        api, resource = self.simulator.api, target.resource
        namespace = target.namespace or ""
        asked = wire.asked(request)
        match request.method:
            case "GET":
                if wire.flag(request, "watch"):
                    query = reading.Query(resource, target.namespace, name=target.name)
                    return await self._watch(request, query)
                raw = api.store.raw(resource.key, namespace, target.name)
                if raw is None:
                    raise not_found(resource.plural, resource.group, target.name)
                return self._answer(request, orjson.loads(raw), 200, resource)
            case "PUT":
                body = await wire.body(request)
                wire.check_kind(resource, body)
                metadata = body.setdefault("metadata", {})
                if metadata.setdefault("name", target.name) != target.name:
                    raise bad_request(
                        f"the name of the object ({metadata['name']}) does not match the name on "
                        f"the URL ({target.name})"
                    )
                if resource.namespaced and metadata.setdefault("namespace", namespace) not in (
                    namespace,
                    "",
                ):
                    raise bad_request(
                        "the namespace of the object "
                        f"({metadata['namespace']}) does not match the namespace on the request "
                        f"({namespace})"
                    )
                if resource.namespaced:
                    metadata["namespace"] = namespace
                changed = api.update(resource, body, asked, target.below)
                return wire.respond(
                    self.simulator.api, request, changed, 200, resource, asked.warnings
                )
            case "PATCH":
                changed, created = await self._patch(request, target, asked)
                code = 201 if created else 200
                return wire.respond(
                    self.simulator.api, request, changed, code, resource, asked.warnings
                )
            case "DELETE":
                options = await wire.delete_options(request)
                gone = api.delete(resource, namespace, target.name, options, asked)
                return wire.respond(
                    self.simulator.api, request, gone, 200, resource, asked.warnings
                )
        raise not_allowed()

    async def _patch(
        self, request: web.Request, target: Target, asked: Request
    ) -> tuple[Object, bool]:
        kind = wire.PATCHES.get(request.content_type)
        if kind is None:
            raise StatusError(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: "
                f"{', '.join(wire.PATCHES)}",
            )
        body = await wire.parsed(request)
        return self.simulator.api.patch(
            target.resource,
            target.namespace or "",
            target.name,
            body,
            kind,
            asked,
            target.below,
            wire.flag(request, "force"),
        )

    def _list(self, request: web.Request, query: reading.Query) -> web.Response:
        try:
            limit = int(request.query.get("limit", "0") or "0")
        except ValueError:
            raise bad_request(f'invalid limit "{request.query["limit"]}"') from None
        page = self.lists.page(query, max(limit, 0), request.query.get("continue", ""))
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
        watch = reading.Watch(query, self.hub)
        initial = wire.flag(request, "sendInitialEvents")
        bookmarks = wire.flag(request, "allowWatchBookmarks")
        failure: StatusError | None = None
        try:
            watch.begin(self.simulator.api.store, request.query.get("resourceVersion", ""), initial)
        except StatusError as error:
            if error.code != 410:
                raise
            failure = error
        timeout = float(request.query.get("timeoutSeconds") or reading.WATCH_TIMEOUT_S)
        response = web.StreamResponse(headers={"Content-Type": wire.JSON})
        await response.prepare(request)
        send = wire.Sender(response)
        try:
            if failure is not None:
                await send(wire.event("ERROR", orjson.dumps(failure.as_status())))
                return response
            tabular = wire.form(request) == "Table"
            first = True
            async for seen in watch.events(timeout, reading.BOOKMARK_EVERY_S):
                if seen is None or seen.type == "INITIAL-END":
                    if bookmarks or seen is not None:
                        revision = seen.revision if seen else self.simulator.api.store.revision
                        await send(wire.bookmark(query.resource, revision, seen is not None))
                    continue
                raw = seen.raw
                if tabular:
                    table = wire.table(
                        self.simulator.api,
                        request,
                        query.resource,
                        [wire.converted(query.resource, raw)],
                    )
                    table["metadata"] = {"resourceVersion": str(seen.revision)}
                    if not first:
                        table["columnDefinitions"] = []
                    raw = orjson.dumps(table)
                elif query.resource.custom:
                    raw = orjson.dumps(wire.converted(query.resource, raw))
                first = False
                await send(wire.event(seen.type, raw))
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self.hub.discard(watch)
        return response

    async def _delete_collection(self, request: web.Request, query: reading.Query) -> web.Response:
        api, resource = self.simulator.api, query.resource
        options = await wire.delete_options(request)
        asked = wire.asked(request)
        page = self.lists.page(query)
        for raw in page.items:
            metadata = orjson.loads(raw)["metadata"]
            try:
                api.delete(
                    resource, metadata.get("namespace", ""), metadata["name"], options, asked
                )
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
