"""Requests for what is below an object: scale, binding, eviction, logs, exec; and metrics."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from mlk8s.sim import bodies, decoding, options, selectors, subresources, wire
from mlk8s.sim.api import Request
from mlk8s.sim.clock import stamp
from mlk8s.sim.kubelet import stream, usage
from mlk8s.sim.objects import Target
from mlk8s.sim.simulator import Simulator
from mlk8s.sim.status import (
    Object,
    StatusError,
    invalid,
    no_such_path,
    not_allowed,
    not_found,
    unprocessable,
)
from mlk8s.sim.tokens import Tokens

# What the bodies of subresources are read as.
_BODIES = {
    "binding": "io.k8s.api.core.v1.Binding",
    "eviction": "io.k8s.api.policy.v1.Eviction",
    "finalize": "io.k8s.api.core.v1.Namespace",
    "scale": "io.k8s.api.autoscaling.v1.Scale",
    "token": "io.k8s.api.authentication.v1.TokenRequest",
}
_AUDIENCES = ["https://kubernetes.default.svc.cluster.local"]
_TOKEN_LASTS_S = 3600
_SHORTEST_TOKEN_S = 600


class Below:
    """Answers requests for subresources and metrics of one simulator.

    Args:
        simulator: the cluster behind it.
        tokens: where tokens of service accounts are issued.
    """

    def __init__(self, simulator: Simulator, tokens: Tokens) -> None:
        self.simulator = simulator
        self.tokens = tokens

    def _answer(self, request: web.Request, value: Any, *rest: Any) -> web.Response:
        return wire.respond(self.simulator.api, request, value, *rest)

    async def answer(
        self, request: web.Request, target: Target, body: Object
    ) -> web.StreamResponse:
        """Answer for one subresource; its object is looked up where it has to exist."""
        api, namespace = self.simulator.api, target.namespace or ""
        agent = request.headers.get("User-Agent", "unknown")
        asked = options.of_write(request.method, request.query, agent)
        if known := _BODIES.get(target.below):
            body = decoding.read(known, body)
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
            case "portforward", _:
                raise self._no_network(request, namespace, target.name)
            case "token", "POST":
                return self._answer(request, self._token(target, body), 201)
            case "finalize", "PUT":
                return self._answer(request, self._finalize(target.name, body), 200)
        raise not_allowed()

    def _no_network(self, request: web.Request, namespace: str, name: str) -> StatusError:
        self.simulator.api.get("pods", namespace, name)
        return StatusError(
            501,
            "NotImplemented",
            f"pod {name}: this cluster is simulated and has no pod network to forward to. Next: "
            "ask a process in it through the API, under "
            f"/api/v1/namespaces/{namespace}/pods/{name}:PORT/proxy/, or a Service's pods under "
            f"/api/v1/namespaces/{namespace}/services/NAME:PORT/proxy/",
        )

    def _token(self, target: Target, body: Object) -> Object:
        api, namespace = self.simulator.api, target.namespace or ""
        account = api.get("serviceaccounts", namespace, target.name)
        spec = body.get("spec") or {}
        lasts = spec.get("expirationSeconds") or _TOKEN_LASTS_S
        if lasts < _SHORTEST_TOKEN_S:
            why = "may not specify a duration less than 10 minutes"
            error = invalid("spec.expirationSeconds", lasts, why)
            raise unprocessable("TokenRequest", "authentication.k8s.io", "", [error])
        now = api.clock.now()
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": account["metadata"]["name"],
                "namespace": namespace,
                "creationTimestamp": stamp(now),
            },
            "spec": {"audiences": _AUDIENCES, **spec, "expirationSeconds": lasts},
            "status": {
                "token": self.tokens.issue(namespace, target.name, now + lasts),
                "expirationTimestamp": stamp(now + lasts),
            },
        }

    def _finalize(self, name: str, body: Object) -> Object:
        store = self.simulator.api.store
        space = self.simulator.api.get("namespaces", "", name)
        finalizers = (body.get("spec") or {}).get("finalizers") or []
        space["spec"] = {"finalizers": finalizers} if finalizers else {}
        space = store.write("namespaces", space)
        if not finalizers and "deletionTimestamp" in space["metadata"]:
            return store.remove("namespaces", "", name)
        return space

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
            kind = bodies.PATCHES.get(request.content_type)
            if kind is None:
                raise bodies.unknown_format(tuple(bodies.PATCHES))
            patch = await bodies.patch(request)
            body = decoding.read(_BODIES["scale"], subresources.patched_scale(scale, patch, kind))
        elif request.method != "PUT":
            raise not_allowed()
        return wire.respond(
            self.simulator.api, request, subresources.set_scale(resource, obj, body, api, asked)
        )

    async def _log(self, request: web.Request, target: Target) -> web.StreamResponse:
        query = request.query
        chunks = self.simulator.kubelet.logs(
            target.namespace or "",
            target.name,
            query.get("container", ""),
            follow=options.flag(query, "follow"),
            tail=options.number(query, "tailLines"),
            since_seconds=options.number(query, "sinceSeconds"),
            previous=options.flag(query, "previous"),
            timestamps=options.flag(query, "timestamps"),
            limit_bytes=options.number(query, "limitBytes"),
        )
        # The first piece is awaited before the headers are sent: an error is a Status, not a log.
        first = await anext(chunks, None)
        if first is None and not options.flag(query, "follow"):
            # Nothing to stream, as for a pod without a node.
            return web.Response(status=204)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        send = wire.Sender(request, response)
        try:
            if first:
                await send(first)
            async for chunk in chunks:
                await send(chunk)
        except ConnectionError:
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
            plural = "nodes" if kind == "NodeMetrics" else "pods"
            raise not_found(plural, "metrics.k8s.io", name[0])
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
