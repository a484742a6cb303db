"""The Kubernetes API over HTTPS on loopback: paths, content types, and what is behind them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from mlk8s.sim import (
    bodies,
    control,
    decoding,
    discovery,
    metrics,
    openapi,
    openapi_v2,
    options,
    proxy,
    reviews,
    wire,
)
from mlk8s.sim.below import Below
from mlk8s.sim.objects import Objects, Target
from mlk8s.sim.reading import Hub
from mlk8s.sim.simulator import Simulator
from mlk8s.sim.status import StatusError, no_such_path, not_allowed, refused
from mlk8s.sim.tokens import Tokens

log = logging.getLogger(__name__)

_PUBLIC = ("/version", *discovery.HEALTH)


class Server:
    """Answers requests for one simulator.

    Args:
        simulator: the cluster behind it.
        token: what clients have to present.
        stop: called when a client asks the cluster to go down.
    """

    def __init__(self, simulator: Simulator, token: str, stop: Callable[[], None]) -> None:
        self.simulator = simulator
        self.tokens = Tokens(token, lambda: simulator.api.clock.now())
        self.stop = stop
        self._open()

    def _open(self) -> None:
        self.objects = Objects(self.simulator)
        self.below = Below(self.simulator, self.tokens)
        self.proxy = proxy.Proxy(self.simulator)

    @property
    def hub(self) -> Hub:
        """Where the watches hang."""
        return self.objects.hub

    def _answer(self, request: web.Request, value: Any, *rest: Any) -> web.Response:
        return wire.respond(self.simulator.api, request, value, *rest)

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(middlewares=[self._errors], client_max_size=bodies.LIMIT + 1)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    async def reset(self) -> None:
        """Throw everything away and start anew, at the same address."""
        self.hub.close()
        await self.simulator.reset()
        self._open()

    # -- one request -----------------------------------------------------------------------------

    @web.middleware
    async def _errors(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        try:
            return await wire.finished(request, await handler(request))
        except StatusError as error:
            return self._refusal(request, error)
        except web.HTTPRequestEntityTooLarge:
            return self._refusal(request, bodies.too_large())
        except (web.HTTPException, asyncio.CancelledError):
            raise
        except ConnectionError:
            # The client is gone, so nobody reads this.
            return web.Response(status=400)
        except Exception as error:
            log.exception("%s %s", request.method, request.path_qs)
            message = f"Internal error occurred: {type(error).__name__}: {error}"
            return self._refusal(request, StatusError(500, "InternalError", message))

    def _refusal(self, request: web.Request, error: StatusError) -> web.Response:
        if error.message == no_such_path().message and not error.details:
            return web.Response(status=404, text="404 page not found\n")
        headers = {}
        if "retryAfterSeconds" in error.details:
            headers["Retry-After"] = str(error.details["retryAfterSeconds"])
        return web.Response(
            body=orjson.dumps(error.as_status()),
            status=error.code,
            content_type=wire.JSON,
            headers=headers,
        )

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.rstrip("/") or "/"
        if not self._authenticated(request) and path not in _PUBLIC:
            raise self._anonymous(request, path)
        self.simulator.touched()
        if f"/{path.split('/')[1]}" in discovery.HEALTH:
            excluded = request.query.getall("exclude", [])
            said = discovery.health(path, excluded, "verbose" in request.query)
            if said is None:
                raise no_such_path()
            return web.Response(text=said)
        if path == "/version":
            return self._answer(request, discovery.version())
        if place := proxy.place(request.path):
            return await self.proxy.answer(request, place)
        parts = path.strip("/").split("/")
        if parts[0] in ("api", "apis"):
            wire.check_accept(request)
        match parts:
            case ["mlk8s", *rest]:
                return await control.handle(self, request, rest)
            case [""]:
                return self._answer(request, discovery.index(self.simulator.api.registry))
            case ["metrics"]:
                text = metrics.exposition(self.simulator, self.hub.count)
                return web.Response(text=text, headers={"Content-Type": metrics.CONTENT_TYPE})
            case ["openapi", "v2"]:
                return openapi_v2.answer(request, self.simulator.api)
            case ["api"]:
                return self._discovery(request, core=True)
            case ["apis"]:
                return self._discovery(request, core=False)
            case ["openapi", "v3", *rest]:
                return self._openapi(request, rest)
            case ["api", version, *rest]:
                return await self._group_version(request, "", version, rest)
            case ["apis", group]:
                found = discovery.group(self.simulator.api.registry, group)
                if found is None:
                    raise no_such_path()
                return self._answer(request, found)
            case ["apis", group, version, *rest]:
                return await self._group_version(request, group, version, rest)
        raise no_such_path()

    def _presented(self, request: web.Request) -> str:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def _authenticated(self, request: web.Request) -> bool:
        if not request.headers.get("Authorization"):
            return False
        if not self.tokens.accepts(self._presented(request)):
            raise StatusError(401, "Unauthorized", "Unauthorized")
        return True

    def _anonymous(self, request: web.Request, path: str) -> StatusError:
        parts = path.strip("/").split("/")
        who = 'User "system:anonymous" cannot'
        verb = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch"}.get(
            request.method, "delete"
        )
        try:
            group, version, rest = (
                ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
            )
            target = self._target(group, version, rest)
        except (StatusError, IndexError):
            return StatusError(403, "Forbidden", f'forbidden: {who} {verb} path "{path}"', {})
        if verb == "get" and not target.name:
            verb = "watch" if options.flag(request.query, "watch") else "list"
        resource = target.resource
        where = (
            f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
        )
        why = f'{who} {verb} resource "{resource.plural}" in API group "{resource.group}" {where}'
        if target.name:
            return refused(resource.plural, resource.group, target.name, why)
        message = f"{resource.key} is forbidden: {why}"
        return StatusError(403, "Forbidden", message, {"kind": resource.plural})

    # -- discovery -------------------------------------------------------------------------------

    def _discovery(self, request: web.Request, core: bool) -> web.Response:
        registry = self.simulator.api.registry
        for accepted in request.headers.get("Accept", "").split(","):
            wanted = dict(part.strip().partition("=")[::2] for part in accepted.split(";")[1:])
            if wanted.get("as") == "APIGroupDiscoveryList" and wanted.get("v") == "v2":
                return web.Response(
                    body=orjson.dumps(discovery.aggregated(registry, core)),
                    headers={
                        "Content-Type": "application/json;g=apidiscovery.k8s.io;v=v2;"
                        "as=APIGroupDiscoveryList"
                    },
                )
        if core:
            return self._answer(request, discovery.core_versions(request.host))
        return self._answer(request, discovery.group_list(registry))

    def _openapi(self, request: web.Request, rest: list[str]) -> web.Response:
        api = self.simulator.api
        if not rest:
            return self._answer(request, openapi.index(api))
        match rest:
            case ["api", version]:
                group_version = version
            case ["apis", group, version]:
                group_version = f"{group}/{version}"
            case _:
                raise no_such_path()
        found = openapi.document(api, group_version)
        if found is None:
            raise no_such_path()
        return self._answer(request, found)

    # -- resources -------------------------------------------------------------------------------

    async def _group_version(
        self, request: web.Request, group: str, version: str, rest: list[str]
    ) -> web.StreamResponse:
        if not rest:
            found = discovery.resource_list(self.simulator.api.registry, group, version)
            if found is None:
                raise no_such_path()
            return self._answer(request, found)
        if group == "metrics.k8s.io":
            return self.below.metrics(request, rest)
        for review_group, review_version, plural, kind in discovery.REVIEWS:
            if (review_group, review_version, plural) == (group, version, rest[-1]):
                if request.method != "POST":
                    raise not_allowed()
                package = f"io.k8s.api.{group.partition('.')[0]}.{version}"
                body = decoding.read(f"{package}.{kind}", await bodies.whole(request))
                body |= {"kind": kind, "apiVersion": f"{group}/{version}"}
                reviewed = reviews.answer(kind, body, self.tokens, self._presented(request))
                return self._answer(request, reviewed, 201)
        if group == "" and rest[0] == "namespaces" and rest[2:] == ["bindings"]:
            body = decoding.read("io.k8s.api.core.v1.Binding", await bodies.whole(request))
            name = (body.get("metadata") or {}).get("name", "")
            return await self.below.answer(
                request,
                Target(self.simulator.api.registry.of_key("pods"), rest[1], name, "binding"),
                body,
            )
        target = self._target(group, version, rest)
        if target.below and target.below not in target.resource.subresources:
            raise no_such_path()
        if target.below and target.below != "status":
            body = {} if request.method in ("GET", "PATCH") else await bodies.whole(request)
            return await self.below.answer(request, target, body)
        if not target.name:
            return await self.objects.collection(request, target)
        return await self.objects.one(request, target)

    def _target(self, group: str, version: str, rest: list[str]) -> Target:
        registry = self.simulator.api.registry
        namespace: str | None = None
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        resource = registry.at(group, version, rest[0]) if len(rest) <= 3 else None
        if resource is None or (namespace is not None and not resource.namespaced):
            raise no_such_path()
        name = rest[1] if len(rest) > 1 else ""
        if name and resource.namespaced and namespace is None:
            raise no_such_path()
        return Target(resource, namespace, name, rest[2] if len(rest) > 2 else "")
