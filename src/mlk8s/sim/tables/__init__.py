"""``meta.k8s.io/v1`` tables: what ``kubectl get`` shows.

The server lays out the table and fills it; kubectl prints it. Columns are in
:mod:`~mlk8s.sim.tables.columns`, cells in a module for each family of kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object
from mlk8s.sim.tables import cluster, columns, custom, network, pods, workloads

_ROWS: dict[str, Callable[[Object, float], list[Any]]] = {
    "pods": pods.row,
    "podtemplates": workloads.pod_template,
    "replicationcontrollers": workloads.replication_controller,
    "replicasets.apps": workloads.replica_set,
    "deployments.apps": workloads.deployment,
    "statefulsets.apps": workloads.stateful_set,
    "daemonsets.apps": workloads.daemon_set,
    "controllerrevisions.apps": workloads.controller_revision,
    "jobs.batch": workloads.job,
    "cronjobs.batch": workloads.cron_job,
    "poddisruptionbudgets.policy": workloads.disruption_budget,
    "horizontalpodautoscalers.autoscaling": workloads.autoscaler,
    "nodes": cluster.node,
    "namespaces": cluster.namespace,
    "configmaps": cluster.config_map,
    "secrets": cluster.secret,
    "serviceaccounts": cluster.service_account,
    "resourcequotas": cluster.resource_quota,
    "persistentvolumes": cluster.persistent_volume,
    "persistentvolumeclaims": cluster.volume_claim,
    "storageclasses.storage.k8s.io": cluster.storage_class,
    "events": cluster.event,
    "rolebindings.rbac.authorization.k8s.io": cluster.role_binding,
    "clusterrolebindings.rbac.authorization.k8s.io": cluster.role_binding,
    "leases.coordination.k8s.io": cluster.lease,
    "runtimeclasses.node.k8s.io": cluster.runtime_class,
    "priorityclasses.scheduling.k8s.io": cluster.priority_class,
    "deviceclasses.resource.k8s.io": cluster.named,
    "resourceclaims.resource.k8s.io": cluster.resource_claim,
    "resourceclaimtemplates.resource.k8s.io": cluster.named,
    "resourceslices.resource.k8s.io": cluster.resource_slice,
    "services": network.service,
    "endpoints": network.endpoints,
    "endpointslices.discovery.k8s.io": network.endpoint_slice,
    "ingresses.networking.k8s.io": network.ingress,
    "ingressclasses.networking.k8s.io": network.ingress_class,
    "networkpolicies.networking.k8s.io": network.network_policy,
}


def table(
    resource: Resource,
    objects: Sequence[Object],
    now: float,
    definition: Object | None = None,
    include: str = "Metadata",
) -> Object:
    """The table of some objects of one resource.

    Args:
        resource: their resource, in the version of the request.
        objects: the objects, in order.
        now: seconds since the epoch, for ages.
        definition: the CustomResourceDefinition of a custom resource.
        include: what a row has of its object: ``Metadata``, ``Object`` or ``None``.

    Returns:
        A ``Table``; its ``metadata`` has the ``resourceVersion`` of the object when there is one
        alone, and is for the caller to fill in for a list.
    """
    metadata: Object = {}
    if len(objects) == 1 and "resourceVersion" in objects[0]["metadata"]:
        metadata["resourceVersion"] = objects[0]["metadata"]["resourceVersion"]
    if resource.custom:
        printed = custom.printed(definition, resource.version)
        heads = custom.definitions(printed)
        cells = [custom.row(obj, printed, now) for obj in objects]
    else:
        heads = list(columns.of(resource.key))
        row = _ROWS.get(resource.key, cluster.default)
        cells = [row(obj, now) for obj in objects]
    rows = []
    for obj, found in zip(objects, cells, strict=True):
        line: Object = {"cells": found}
        if resource.key == "pods" and (conditions := pods.conditions(obj)):
            line["conditions"] = conditions
        line["object"] = _included(obj, include)
        rows.append(line)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": heads,
        "rows": rows,
    }


def _included(obj: Object, include: str) -> Object | None:
    if include == "None":
        return None
    if include == "Object":
        return obj
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }
