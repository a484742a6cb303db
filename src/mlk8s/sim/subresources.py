"""What hangs below an object: its scale, the binding of a pod to a node, its eviction."""

from __future__ import annotations

import copy
from typing import Any

from mlk8s.sim.api import Api, DeleteOptions, Request
from mlk8s.sim.controllers.disruption import may_evict
from mlk8s.sim.patch import json_patch, merge_patch
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object, bad_request, conflict, invalid, required, unprocessable


def scale_of(resource: Resource, obj: Object, api: Api) -> Object:
    """The ``autoscaling/v1`` Scale of a workload or of a custom object with that subresource."""
    metadata = obj["metadata"]
    if resource.custom:
        paths = _scale_paths(resource, api)
        replicas = _at(obj, paths["specReplicasPath"]) or 0
        status: Object = {"replicas": _at(obj, paths["statusReplicasPath"]) or 0}
        if selector := _at(obj, paths.get("labelSelectorPath", "")):
            status["selector"] = selector
    else:
        replicas = obj["spec"].get("replicas", 1)
        status = {"replicas": obj.get("status", {}).get("replicas", 0)}
        status["selector"] = _selector_text(obj["spec"].get("selector") or {})
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


def set_scale(resource: Resource, obj: Object, scale: Any, api: Api, request: Request) -> Object:
    """Write the replicas of a Scale into the object; gives the new Scale.

    Raises:
        StatusError: 409 when the Scale's ``resourceVersion`` is stale, 422 for a bad number.
    """
    wanted = (scale.get("spec") or {}).get("replicas", 0)
    name = obj["metadata"]["name"]
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 0:
        error = invalid("spec.replicas", wanted, "must be greater than or equal to 0")
        raise unprocessable("Scale", "autoscaling", name, [error])
    new = copy.deepcopy(obj)
    if version := (scale.get("metadata") or {}).get("resourceVersion"):
        new["metadata"]["resourceVersion"] = version
    if resource.custom:
        *parents, leaf = _scale_paths(resource, api)["specReplicasPath"].lstrip(".").split(".")
        place = new
        for part in parents:
            place = place.setdefault(part, {})
        place[leaf] = wanted
    else:
        new["spec"]["replicas"] = wanted
    return scale_of(resource, api.update(resource, new, request), api)


def patched_scale(scale: Object, body: Any, kind: str) -> Object:
    """A Scale with a patch applied to it.

    Raises:
        StatusError: 400 or 422, the patch does not fit.
    """
    if kind == "json":
        patched: Object = json_patch(scale, body)
        return patched
    return merge_patch(scale, body)


def _scale_paths(resource: Resource, api: Api) -> dict[str, str]:
    definition = api.get("customresourcedefinitions.apiextensions.k8s.io", "", resource.key)
    for version in definition["spec"]["versions"]:
        if version["name"] == resource.version:
            paths: dict[str, str] = version["subresources"]["scale"]
            return paths
    raise KeyError(resource.version)


def _at(obj: Any, path: str) -> Any:
    for part in path.lstrip(".").split("."):
        obj = obj.get(part) if isinstance(obj, dict) else None
    return obj


def _selector_text(selector: Object) -> str:
    if "matchLabels" not in selector and "matchExpressions" not in selector:
        return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    parts = [f"{k}={v}" for k, v in sorted((selector.get("matchLabels") or {}).items())]
    for item in selector.get("matchExpressions") or ():
        values = ",".join(sorted(item.get("values") or ()))
        parts.append(
            {
                "In": f"{item['key']} in ({values})",
                "NotIn": f"{item['key']} notin ({values})",
                "Exists": item["key"],
                "DoesNotExist": f"!{item['key']}",
            }[item["operator"]]
        )
    return ",".join(parts)


def bind(api: Api, namespace: str, name: str, node: str, dry_run: bool = False) -> None:
    """Assign a pod to a node for good, as ``pods/binding`` does.

    Raises:
        StatusError: 404 without such a pod, 409 when it is assigned or being deleted, 422
            without a node's name.
    """
    pod = api.get("pods", namespace, name)
    if not node:
        raise unprocessable("Binding", "", name, [required("target.name")])
    metadata, spec = pod["metadata"], pod["spec"]
    if "deletionTimestamp" in metadata:
        raise conflict(
            "pods/binding", name, f"pod {name} is being deleted, cannot be assigned to a host"
        )
    if assigned := spec.get("nodeName"):
        raise conflict("pods/binding", name, f'pod {name} is already assigned to node "{assigned}"')
    if spec.get("schedulingGates"):
        raise conflict("pods/binding", name, f"pod {name} has non-empty .spec.schedulingGates")
    if dry_run:
        return
    spec["nodeName"] = node
    status = pod.setdefault("status", {})
    status.pop("nominatedNodeName", None)
    scheduled = {
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": api.timestamp(),
        "observedGeneration": metadata.get("generation", 1),
    }
    others = [c for c in status.get("conditions") or () if c["type"] != "PodScheduled"]
    status["conditions"] = [*others, scheduled]
    api.store.write("pods", pod)


def evict(api: Api, namespace: str, name: str, body: Object, request: Request) -> Object:
    """Delete a pod unless a disruption budget forbids it.

    Raises:
        StatusError: 404, or 429 with the budget that stands in the way.
    """
    pod = api.get("pods", namespace, name)
    options = body.get("deleteOptions") or {}
    if body.get("metadata", {}).get("name", name) != name:
        raise bad_request(f"name in URL does not match name in Eviction object: {name}")
    may_evict(api, pod, request.dry_run)
    api.delete(
        "pods",
        namespace,
        name,
        DeleteOptions(
            grace_period=options.get("gracePeriodSeconds"),
            propagation=options.get("propagationPolicy"),
            uid=(options.get("preconditions") or {}).get("uid"),
        ),
        request,
    )
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
