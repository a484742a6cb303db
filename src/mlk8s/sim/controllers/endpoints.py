"""Endpoints and EndpointSlices: which pods stand behind a Service.

Source of the rules: pkg/controller/endpoint/endpoints_controller.go,
pkg/controller/endpointslice, staging/src/k8s.io/endpointslice.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from mlk8s.sim.api import Api
from mlk8s.sim.controllers.base import Controller, owner_reference
from mlk8s.sim.controllers.indexes import SelectorIndex
from mlk8s.sim.controllers.pods import PodFacts, PodIndex
from mlk8s.sim.events import Recorder
from mlk8s.sim.matching import Selector
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change

_SLICES = "endpointslices.discovery.k8s.io"
# discovery/v1: endpoints in one slice; Endpoints hold ten times that and say when it was more.
_PER_SLICE = 100
_PER_OBJECT = 1000


class Endpoints(Controller):
    """The endpoints and endpoint slice controllers."""

    name = "endpoint-controller"
    watch = ("services", "pods")

    def __init__(self, api: Api, recorder: Recorder, pods: PodIndex) -> None:
        super().__init__(api, recorder, pods)
        self._selectors = SelectorIndex()

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The Service, or those that select a pod."""
        where = (change.namespace, change.name)
        if change.key == "services":
            selector = change.object["spec"].get("selector")
            wanted = {"matchLabels": selector} if selector and change.type != "DELETED" else None
            self._selectors.put(*where, wanted)
            return (where,)
        if change.key != "pods":
            return ()
        for name in self._selectors.touched(change):
            # A rollout changes many pods at once: they are written together.
            self.enqueue((change.namespace, name), 0.1)
        return ()

    def sync(self, namespace: str, name: str) -> None:
        """Write what the Service's pods are now."""
        service = self.api.find("services", namespace, name)
        if service is None:
            self._remove(namespace, name)
            return
        selector = service["spec"].get("selector")
        if not selector or service["spec"].get("type") == "ExternalName":
            return
        pods = []
        for facts in self.pods.select(namespace, Selector({"matchLabels": selector})):
            if facts.finished or not facts.node:
                continue
            pod = self.api.find("pods", namespace, facts.name)
            if pod is not None and (pod.get("status") or {}).get("podIP"):
                pods.append((facts, pod))
        early = bool(service["spec"].get("publishNotReadyAddresses"))
        self._write("endpoints", namespace, name, _endpoints(service, pods, early))
        self._write_slices(service, pods, early)

    def _remove(self, namespace: str, name: str) -> None:
        """A Service's Endpoints have its name and no owner; its slices are owned by it."""
        found = self.api.find("endpoints", namespace, name)
        labels = (found or {}).get("metadata", {}).get("labels") or {}
        if labels.get("endpoints.kubernetes.io/managed-by") == self.name:
            self.api.delete("endpoints", namespace, name)

    def _write(self, key: str, namespace: str, name: str, wanted: Object) -> None:
        def mutate(found: Object) -> None:
            for part in ("subsets", "endpoints", "ports"):
                if part in wanted:
                    found[part] = wanted[part]
                else:
                    found.pop(part, None)
            found["metadata"]["labels"] = wanted["metadata"].get("labels") or {}

        if self.api.store.raw(key, namespace, name) is None:
            self.api.create(key, wanted, namespace)
        else:
            self.api.change(key, namespace, name, mutate)

    def _write_slices(
        self, service: Object, pods: list[tuple[PodFacts, Object]], early: bool
    ) -> None:
        metadata = service["metadata"]
        parts = [pods[at : at + _PER_SLICE] for at in range(0, len(pods), _PER_SLICE)] or [[]]
        existing = [
            name for key, _, name in self.api.store.owned(metadata["uid"]) if key == _SLICES
        ]
        for number, part in enumerate(parts):
            wanted = _slice(service, part, early)
            if number < len(existing):
                wanted["metadata"]["name"] = existing[number]
                self._write(_SLICES, metadata["namespace"], existing[number], wanted)
            else:
                wanted["metadata"]["generateName"] = f"{metadata['name']}-"
                self.api.create(_SLICES, wanted, metadata["namespace"])
        for name in existing[len(parts) :]:
            self.api.delete(_SLICES, metadata["namespace"], name)


def _target(port: Object, pod: Object) -> int | None:
    """The number of the container port that a Service's port leads to."""
    wanted: Any = port.get("targetPort", port["port"])
    if isinstance(wanted, int):
        return wanted or int(port["port"])
    for container in pod["spec"]["containers"]:
        for offered in container.get("ports") or ():
            if offered.get("name") == wanted and offered.get("protocol", "TCP") == port.get(
                "protocol", "TCP"
            ):
                return int(offered["containerPort"])
    return None


def _ports(service: Object, pod: Object | None) -> list[Object]:
    found = []
    for port in service["spec"].get("ports") or ():
        number = _target(port, pod) if pod is not None else None
        if number is None:
            continue
        told: Object = {"name": port["name"]} if port.get("name") else {}
        told |= {"port": number, "protocol": port.get("protocol", "TCP")}
        if port.get("appProtocol"):
            told["appProtocol"] = port["appProtocol"]
        found.append(told)
    return found


def _reference(pod: Object) -> Object:
    metadata = pod["metadata"]
    reference = {"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"]}
    return reference | {"uid": metadata["uid"]}


def _endpoints(service: Object, pods: list[tuple[PodFacts, Object]], early: bool) -> Object:
    metadata = service["metadata"]
    labels = dict(metadata.get("labels") or {})
    labels["endpoints.kubernetes.io/managed-by"] = "endpoint-controller"
    if service["spec"].get("clusterIP") == "None":
        labels["service.kubernetes.io/headless"] = ""
    ready, waiting = [], []
    for facts, pod in pods[:_PER_OBJECT]:
        address: Object = {"ip": pod["status"]["podIP"], "nodeName": facts.node}
        if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == metadata["name"]:
            address["hostname"] = pod["spec"]["hostname"]
        address["targetRef"] = _reference(pod)
        if early or (facts.ready and not facts.deleting):
            ready.append(address)
        elif not facts.deleting:
            waiting.append(address)
    made: Object = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": labels,
        },
    }
    if len(pods) > _PER_OBJECT:
        made["metadata"]["annotations"] = {"endpoints.kubernetes.io/over-capacity": "truncated"}
    if ready or waiting:
        subset: Object = {}
        if ready:
            subset["addresses"] = sorted(ready, key=lambda each: str(each["ip"]))
        if waiting:
            subset["notReadyAddresses"] = sorted(waiting, key=lambda each: str(each["ip"]))
        if ports := _ports(service, pods[0][1]):
            subset["ports"] = ports
        made["subsets"] = [subset]
    return made


def _slice(service: Object, pods: list[tuple[PodFacts, Object]], early: bool) -> Object:
    metadata = service["metadata"]
    labels = dict(metadata.get("labels") or {})
    labels["endpointslice.kubernetes.io/managed-by"] = "endpointslice-controller.k8s.io"
    labels["kubernetes.io/service-name"] = metadata["name"]
    if service["spec"].get("clusterIP") == "None":
        labels["service.kubernetes.io/headless"] = ""
    endpoints = []
    for facts, pod in pods:
        serving = early or facts.ready
        endpoint: Object = {
            "addresses": [pod["status"]["podIP"]],
            "conditions": {
                "ready": early or (serving and not facts.deleting),
                "serving": facts.ready,
                "terminating": facts.deleting,
            },
            "nodeName": facts.node,
            "targetRef": _reference(pod),
        }
        if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == metadata["name"]:
            endpoint["hostname"] = pod["spec"]["hostname"]
        endpoints.append(endpoint)
    first = pods[0][1] if pods else None
    ports = [{"name": "", **port} for port in _ports(service, first)]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [owner_reference(service)],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    }
