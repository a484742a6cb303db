"""The Services before a Ray cluster: one for its head, one for the proxies of Ray Serve.

Source at v1.7.0: ``ray-operator/controllers/ray/common/service.go``.
"""

from __future__ import annotations

from mlk8s.sim.addons.kuberay import names
from mlk8s.sim.api import Request
from mlk8s.sim.controllers.base import Controller, owner_reference
from mlk8s.sim.status import Object


def head_service(cluster: Object) -> Object:
    """The Service before the head of a RayCluster; without addresses of its own, as a rule."""
    metadata, group = cluster["metadata"], cluster["spec"]["headGroupSpec"]
    told = (group["template"].get("metadata") or {}).get("labels") or {}
    labels = {
        names.CLUSTER_LABEL: metadata["name"],
        names.NODE_TYPE: names.HEAD,
        names.IDENTIFIER: names.identifier(metadata["name"], names.HEAD),
        names.APP_NAME: told.get(names.APP_NAME, names.APPLICATION),
        names.CREATED_BY: names.COMPONENT,
    }
    spec: Object = {
        "selector": dict(labels),
        "ports": [
            {"name": name, "port": port, "appProtocol": "tcp"}
            for name, port in sorted(_ports(cluster).items())
        ],
    }
    if kind := group.get("serviceType"):
        spec["type"] = kind
    if group.get("serviceType", "ClusterIP") == "ClusterIP":
        spec |= {"clusterIP": "None", "publishNotReadyAddresses": True}
    made = _service(cluster, names.head_service(metadata["name"]), labels, spec)
    if annotations := cluster["spec"].get("headServiceAnnotations"):
        made["metadata"]["annotations"] = dict(annotations)
    return made


def head_service_of(owner: Object, cluster: Object) -> Object:
    """The Service that keeps its name while the clusters of a RayJob or RayService change."""
    name = owner["metadata"]["name"]
    labels = {
        names.ORIGIN_NAME: name,
        names.ORIGIN_KIND: owner["kind"],
        names.NODE_TYPE: names.HEAD,
        names.IDENTIFIER: names.identifier(name, names.HEAD),
    }
    return _service(owner, names.head_service(name), labels, head_service(cluster)["spec"])


def serve_service(owner: Object, cluster: Object) -> Object | None:
    """The Service before the applications of a RayService; ``None`` where no port is for them."""
    ports = [
        {"name": name, "port": port}
        for name, port in sorted(_ports(cluster).items())
        if name == "serve" or name.startswith("serve-")
    ]
    if not ports:
        return None
    name = owner["metadata"]["name"]
    labels = {
        names.ORIGIN_NAME: name,
        names.ORIGIN_KIND: names.SERVICE_KIND,
        names.SERVES: f"{name}-serve",
    }
    selector = {names.CLUSTER_LABEL: cluster["metadata"]["name"], names.SERVES: "true"}
    spec: Object = {"selector": selector, "ports": ports}
    if kind := cluster["spec"]["headGroupSpec"].get("serviceType"):
        spec["type"] = kind
    return _service(owner, names.serve_service(name), labels, spec)


def provide(controller: Controller, owner: Object, made: Object) -> None:
    """Create a Service of an owner, or let the one that is there lead where it should."""
    where = (made["metadata"]["namespace"], made["metadata"]["name"])
    selector = made["spec"]["selector"]
    found = controller.api.find("services", *where)
    if found is None:
        controller.api.create("services", made, where[0], Request())
        text = f"Created the service {'/'.join(where)}"
        controller.event(owner, "Normal", "CreatedService", text)
    elif found["spec"]["selector"] != selector:
        controller.api.change(
            "services", *where, lambda each: each["spec"].update(selector=selector)
        )
        text = f"Updated the service {'/'.join(where)}"
        controller.event(owner, "Normal", "UpdatedService", text)


def _ports(cluster: Object) -> dict[str, int]:
    """What the head's first container declares, or Ray's usual ports; the metrics' in any case."""
    containers = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"]
    found = {
        each.get("name") or f"{each['containerPort']}-port": int(each["containerPort"])
        for each in containers[0].get("ports") or ()
    }
    return {"metrics": names.METRICS_PORT, **(found or names.PORTS)}


def _service(owner: Object, name: str, labels: dict[str, str], spec: Object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": owner["metadata"]["namespace"],
            "labels": labels,
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": spec,
    }
