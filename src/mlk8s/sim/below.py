"""Requests for what is below an object: scale, binding, eviction, logs, exec; and metrics."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from mlk8s.sim import selectors, subresources, wire
from mlk8s.sim.api import Request
from mlk8s.sim.kubelet import stream, usage
from mlk8s.sim.objects import Target
from mlk8s.sim.simulator import Simulator
from mlk8s.sim.status import Object, bad_request, no_such_path, not_allowed, not_found


class Below:
    """Answers requests for subresources and metrics of one simulator.

    Args:
        simulator: the cluster behind it.
    """

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator

    def _answer(self, request: web.Request, value: Any, *rest: Any) -> web.Response:
        return wire.respond(self.simulator.api, request, value, *rest)

    async def answer(
        self, request: web.Request, target: Target, body: Object
    ) -> web.StreamResponse:
        """Answer for one subresource; its object is looked up where it has to exist."""
        api, namespace = self.simulator.api, target.namespace or ""
        asked = wire.asked(request)
        match target.below, request.method:
            case "scale", _:
                return await self._scale(request, target, body, asked)
            case "binding", "POST":
                node = (body.get("target") or {}).get("name", "")
                subresources.bind(api, namespace, target.name, node, asked.dry_run)
                done = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
                return self._answer(request, done, 201)
            case "eviction", "POST":
                done = subresources.evict(api, namespace, target.name, body, asked)
                return self._answer(request, done, 201)
            case "log", "GET":
                return await self._log(request, target)
            case (("exec" | "attach"), _):
                kubelet = self.simulator.kubelet
                return await stream.exec_stream(request, kubelet, namespace, target.name)
            case "finalize", "PUT":
                name = target.name
                finalizers = (body.get("spec") or {}).get("finalizers") or []
                space = api.get("namespaces", "", name)
                space["spec"] = {"finalizers": finalizers} if finalizers else {}
                if not finalizers and "deletionTimestamp" in space["metadata"]:
                    api.store.write("namespaces", space)
                    return wire.respond(
                        self.simulator.api, request, api.store.remove("namespaces", "", name)
                    )
                return wire.respond(
                    self.simulator.api, request, api.store.write("namespaces", space)
                )
        raise not_allowed()

    async def _scale(
        self, request: web.Request, target: Target, body: Object, asked: Request
    ) -> web.Response:
        api, resource = self.simulator.api, target.resource
        obj = api.find(resource.key, target.namespace or "", target.name)
        if obj is None:
            raise not_found(resource.plural, resource.group, target.name)
        scale = subresources.scale_of(resource, obj, api)
        if request.method == "GET":
            return self._answer(request, scale)
        if request.method == "PATCH":
            kind = wire.PATCHES.get(request.content_type, "merge")
            body = subresources.patched_scale(scale, await wire.parsed(request), kind)
        elif request.method != "PUT":
            raise not_allowed()
        return wire.respond(
            self.simulator.api, request, subresources.set_scale(resource, obj, body, api, asked)
        )

    async def _log(self, request: web.Request, target: Target) -> web.StreamResponse:
        query = request.query

        def number(name: str) -> int | None:
            try:
                return int(query[name]) if query.get(name) else None
            except ValueError:
                raise bad_request(f'invalid {name} "{query[name]}"') from None

        chunks = self.simulator.kubelet.logs(
            target.namespace or "",
            target.name,
            query.get("container", ""),
            follow=wire.flag(request, "follow"),
            tail=number("tailLines"),
            since_seconds=number("sinceSeconds"),
            previous=wire.flag(request, "previous"),
            timestamps=wire.flag(request, "timestamps"),
            limit_bytes=number("limitBytes"),
        )
        # The first piece is awaited before the headers are sent: an error is a Status, not a log.
        first = await anext(chunks, None)
        if first is None and not query.get("follow"):
            # Nothing to stream, as for a pod without a node.
            return web.Response(status=204)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        send = wire.Sender(response)
        try:
            if first:
                await send(first)
            async for chunk in chunks:
                await send(chunk)
        except (ConnectionError, TimeoutError):
            pass
        return response

    def metrics(self, request: web.Request, rest: list[str]) -> web.Response:
        """``metrics.k8s.io``: what pods and nodes use, for kubectl top."""
        if request.method != "GET":
            raise not_allowed()
        kubelet = self.simulator.kubelet
        match rest:
            case ["nodes", *name]:
                kind, found = "NodeMetrics", usage.node_metrics(kubelet)
            case ["pods"]:
                kind, name, found = "PodMetrics", [], usage.pod_metrics(kubelet)
            case ["namespaces", namespace, "pods", *name]:
                kind = "PodMetrics"
                found = [
                    item
                    for item in usage.pod_metrics(kubelet)
                    if item["metadata"]["namespace"] == namespace
                ]
            case _:
                raise no_such_path()
        if name:
            for item in found:
                if item["metadata"]["name"] == name[0]:
                    return self._answer(request, item)
            raise not_found(kind, "metrics.k8s.io", name[0])
        if text := request.query.get("labelSelector"):
            selector = selectors.labels(text)
            found = [i for i in found if selector.matches(i["metadata"].get("labels") or {})]
        return wire.respond(
            self.simulator.api,
            request,
            {
                "kind": f"{kind}List",
                "apiVersion": "metrics.k8s.io/v1beta1",
                "metadata": {},
                "items": found,
            },
        )
