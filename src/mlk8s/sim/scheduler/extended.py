"""Extended resources served by DRA: which DeviceClass stands for ``nvidia.com/gpu``, and the claim.

The rules are those of ``deviceclass/extendedresourcecache`` and of the scheduler's
``extendeddynamicresources.go`` (DRAExtendedResource, on by default in 1.36).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlk8s.sim.scheduler.podinfo import amount
from mlk8s.sim.status import Object

ANNOTATION = "resource.kubernetes.io/extended-resource-claim"
# Every class can be asked for under this name, whatever its spec says.
IMPLICIT = "deviceclass.resource.kubernetes.io/"


class Classes:
    """The DeviceClasses, by name and by the extended resource that they serve."""

    def __init__(self) -> None:
        self._by_name: dict[str, Object] = {}
        self._by_resource: dict[str, Object] = {}

    def get(self, name: str) -> Object | None:
        """A class by its name."""
        return self._by_name.get(name)

    def serving(self, resource: str) -> Object | None:
        """The class that serves an extended resource."""
        if resource.startswith(IMPLICIT):
            return self._by_name.get(resource.removeprefix(IMPLICIT))
        return self._by_resource.get(resource)

    def put(self, name: str, obj: Object | None) -> None:
        """Add, replace or (``None``) remove a class."""
        if obj is None:
            self._by_name.pop(name, None)
        else:
            self._by_name[name] = obj
        # Of several classes with one resource the newest counts, then the first by name.
        self._by_resource.clear()
        ordered = sorted(self._by_name.values(), key=lambda each: str(each["metadata"]["name"]))
        ordered.sort(key=lambda each: str(each["metadata"]["creationTimestamp"]), reverse=True)
        for each in ordered:
            if resource := each["spec"].get("extendedResourceName"):
                self._by_resource.setdefault(resource, each)


def template(pod: Object) -> Object:
    """The claim for a pod's extended resources, as it is before a node is chosen."""
    metadata = pod["metadata"]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {
            "name": "<extended-resources>",
            "generateName": f"{metadata['name']}-extended-resources-",
            "namespace": metadata["namespace"],
            "uid": f"{metadata['uid']}/extended-resources",
            "annotations": {ANNOTATION: "true"},
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": {"devices": {}},
    }


def requests(pod: Object, served: Mapping[str, str]) -> tuple[list[Object], list[Object]]:
    """The claim's requests, and which container uses which.

    An init container that ends uses the devices of the containers after it; what it needs beyond
    that is asked for once, by the init container that needs most.

    Args:
        pod: the pod.
        served: extended resource → name of the class, of those that the node serves by DRA.
    """
    spec = pod["spec"]
    init = spec.get("initContainers") or []
    containers = [*init, *(spec.get("containers") or ())]
    wanted: list[Object] = []
    mappings: list[Object] = []
    for resource in sorted(served):
        lasting: list[Object | None] = [None] * len(containers)
        uses: list[Object] = []
        for number, container in enumerate(containers):
            if number >= len(init) or container.get("restartPolicy") == "Always":
                lasting[number], used = _request(number, container, resource, served[resource], [])
                uses += used
        most: Object | None = None
        brief: list[Object] = []
        names: set[str] = set()
        for number, container in enumerate(init):
            if container.get("restartPolicy") == "Always":
                continue
            later = [request for request in lasting[number:] if request is not None]
            more, used = _request(number, container, resource, served[resource], later)
            brief += used
            if more is not None:
                names.add(more["name"])
                if most is None or most["exactly"]["count"] < more["exactly"]["count"]:
                    most = more
        if most is not None:
            for use in brief:
                if use["requestName"] in names:
                    use["requestName"] = most["name"]
            wanted.append(most)
        wanted += [request for request in lasting if request is not None]
        mappings += uses + brief
    return sorted(wanted, key=lambda request: str(request["name"])), mappings


def _request(
    number: int, container: Object, resource: str, cls: str, reusable: list[Object]
) -> tuple[Object | None, list[Object]]:
    asked: dict[str, Any] = (container.get("resources") or {}).get("requests") or {}
    if resource not in asked or not (count := amount(resource, str(asked[resource]))):
        return None, []
    uses: list[Object] = []

    def use(name: str) -> None:
        uses.append(
            {"containerName": container["name"], "resourceName": resource, "requestName": name}
        )

    there = 0
    for request in reusable:
        there += request["exactly"]["count"]
        use(request["name"])
        if there >= count:
            return None, uses
    name = f"container-{number}-request-{sorted(asked).index(resource)}"
    use(name)
    exactly = {
        "deviceClassName": cls,
        "allocationMode": "ExactCount",
        "count": count - there,
    }
    return {"name": name, "exactly": exactly}, uses
