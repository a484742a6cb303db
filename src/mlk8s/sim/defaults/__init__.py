"""What a server fills in: fields left out, and the state in which an object begins.

The values are those of ``pkg/apis/*/v1/defaults.go`` and of the strategies' ``PrepareForCreate``.
Objects are changed in place. What admission adds is not its business.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlk8s.sim import crd
from mlk8s.sim.defaults import pods, services, workloads
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object

if TYPE_CHECKING:
    from mlk8s.sim.api import Api

_RBAC = "rbac.authorization.k8s.io"
_NODE_INFO = (
    "architecture",
    "bootID",
    "containerRuntimeVersion",
    "kernelVersion",
    "kubeProxyVersion",
    "kubeletVersion",
    "machineID",
    "operatingSystem",
    "osImage",
    "systemUUID",
)
# The status of a new object: fields that the server always writes.
_STATUS: dict[str, Object] = {
    "namespaces": {"phase": "Active"},
    "persistentvolumeclaims": {"phase": "Pending"},
    "persistentvolumes": {"phase": "Pending"},
    "services": {"loadBalancer": {}},
    "resourcequotas": {},
    "replicationcontrollers": {"replicas": 0},
    "deployments.apps": {},
    "replicasets.apps": {"replicas": 0},
    "statefulsets.apps": {"availableReplicas": 0, "replicas": 0},
    "daemonsets.apps": {
        "currentNumberScheduled": 0,
        "desiredNumberScheduled": 0,
        "numberMisscheduled": 0,
        "numberReady": 0,
    },
    "jobs.batch": {},
    "cronjobs.batch": {},
    "horizontalpodautoscalers.autoscaling": {"currentMetrics": None, "desiredReplicas": 0},
    "ingresses.networking.k8s.io": {"loadBalancer": {}},
    "poddisruptionbudgets.policy": {
        "currentHealthy": 0,
        "desiredHealthy": 0,
        "disruptionsAllowed": 0,
        "expectedPods": 0,
    },
    "resourceclaims.resource.k8s.io": {},
}


def on_create(resource: Resource, obj: Object, api: Api) -> None:
    """Complete a new object."""
    if resource.custom:
        return
    _fill(resource, obj, api)
    key = resource.key
    if key == "pods":
        pods.begin(obj)
    elif key == "jobs.batch":
        workloads.select_own_pods(obj, api)
    elif key == "services":
        services.allocate(obj, api)
    elif key == "namespaces":
        finalizers = obj.setdefault("spec", {}).setdefault("finalizers", [])
        if "kubernetes" not in finalizers:
            finalizers.append("kubernetes")
    if key in _STATUS:
        obj["status"] = copy.deepcopy(_STATUS[key])


def on_update(resource: Resource, obj: Object, old: Object, api: Api) -> None:
    """Complete the new version of an object."""
    if resource.custom:
        return
    key = resource.key
    if key == "services":
        services.keep_allocated(obj, old)
    ignored = ("metadata", "status") if key not in ("nodes", "namespaces") else ()
    if any(obj.get(part) != old.get(part) for part in obj if part not in ignored):
        _fill(resource, obj, api)
        if key == "services" and obj["spec"]["type"] != old["spec"].get("type"):
            _change_service_type(obj, api)


def _change_service_type(obj: Object, api: Api) -> None:
    spec = obj["spec"]
    if spec["type"] == "ClusterIP":
        spec.pop("externalTrafficPolicy", None)
        spec.pop("allocateLoadBalancerNodePorts", None)
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)
    services.allocate(obj, api)


def _fill(resource: Resource, obj: Object, api: Api) -> None:
    fill = _FIELDS.get(resource.key)
    if fill is not None:
        fill(obj)
    if resource.kind == "CustomResourceDefinition":
        crd.default_definition(obj)
    if resource.key == "resourceslices.resource.k8s.io":
        for device in (obj.get("spec") or {}).get("devices") or ():
            for taint in device.get("taints") or ():
                taint.setdefault("timeAdded", api.timestamp())


def _secret(obj: Object) -> None:
    obj.setdefault("type", "Opaque")
    if plain := obj.pop("stringData", None):
        data = obj.setdefault("data", {})
        for key, value in plain.items():
            data[key] = base64.b64encode(value.encode()).decode()


def _namespace(obj: Object) -> None:
    labels = obj["metadata"].setdefault("labels", {})
    if name := obj["metadata"].get("name"):
        labels["kubernetes.io/metadata.name"] = name


def _node(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    status = obj.setdefault("status", {})
    status.setdefault("daemonEndpoints", {"kubeletEndpoint": {"Port": 0}})
    info = status.setdefault("nodeInfo", {})
    for name in _NODE_INFO:
        info.setdefault(name, "")
    if "allocatable" not in status and status.get("capacity"):
        status["allocatable"] = dict(status["capacity"])


def _claim(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("volumeMode", "Filesystem")
    spec.setdefault("resources", {})


def _volume(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
    spec.setdefault("volumeMode", "Filesystem")


def _event(obj: Object) -> None:
    obj.setdefault("source", {})
    for name in ("reportingComponent", "reportingInstance"):
        obj.setdefault(name, "")
    for name in ("eventTime", "firstTimestamp", "lastTimestamp"):
        obj.setdefault(name, None)


def _limit_range(obj: Object) -> None:
    for limit in (obj.setdefault("spec", {}).get("limits")) or ():
        if limit.get("type") != "Container":
            continue
        for source, target in (
            ("max", "default"),
            ("default", "defaultRequest"),
            ("min", "defaultRequest"),
        ):
            for name, amount in (limit.get(source) or {}).items():
                limit.setdefault(target, {}).setdefault(name, amount)


def _priority_class(obj: Object) -> None:
    obj.setdefault("value", 0)
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _storage_class(obj: Object) -> None:
    obj.setdefault("reclaimPolicy", "Delete")
    obj.setdefault("volumeBindingMode", "Immediate")


def _autoscaler(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]


def _network_policy(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    for rule in [*(spec.get("ingress") or ()), *(spec.get("egress") or ())]:
        for port in rule.get("ports") or ():
            port.setdefault("protocol", "TCP")


def _endpoint_slice(obj: Object) -> None:
    for port in obj.get("ports") or ():
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def _binding(obj: Object) -> None:
    obj.setdefault("roleRef", {}).setdefault("apiGroup", _RBAC)
    for subject in obj.get("subjects") or ():
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", _RBAC)


def _resource_claim(obj: Object) -> None:
    _device_requests(obj.setdefault("spec", {}))


def _resource_claim_template(obj: Object) -> None:
    template = obj.setdefault("spec", {})
    template.setdefault("metadata", {})
    _device_requests(template.setdefault("spec", {}))


def _device_requests(spec: Object) -> None:
    """What a request for devices means when it does not say how many."""
    devices = spec.setdefault("devices", {})
    for request in devices.get("requests") or ():
        exact = request.get("exactly")
        for one in [
            *([exact] if exact is not None else ()),
            *(request.get("firstAvailable") or ()),
        ]:
            if one.setdefault("allocationMode", "ExactCount") == "ExactCount":
                one.setdefault("count", 1)
            for toleration in one.get("tolerations") or ():
                toleration.setdefault("operator", "Equal")


_FIELDS: dict[str, Callable[[Object], None]] = {
    "pods": pods.pod,
    "podtemplates": workloads.pod_template,
    "replicationcontrollers": workloads.replication_controller,
    "deployments.apps": workloads.deployment,
    "replicasets.apps": workloads.replica_set,
    "statefulsets.apps": workloads.stateful_set,
    "daemonsets.apps": workloads.daemon_set,
    "jobs.batch": workloads.job,
    "cronjobs.batch": workloads.cron_job,
    "services": services.service,
    "secrets": _secret,
    "namespaces": _namespace,
    "nodes": _node,
    "persistentvolumeclaims": _claim,
    "persistentvolumes": _volume,
    "events": _event,
    "limitranges": _limit_range,
    "priorityclasses.scheduling.k8s.io": _priority_class,
    "storageclasses.storage.k8s.io": _storage_class,
    "horizontalpodautoscalers.autoscaling": _autoscaler,
    "networkpolicies.networking.k8s.io": _network_policy,
    "endpointslices.discovery.k8s.io": _endpoint_slice,
    f"rolebindings.{_RBAC}": _binding,
    f"clusterrolebindings.{_RBAC}": _binding,
    "resourceclaims.resource.k8s.io": _resource_claim,
    "resourceclaimtemplates.resource.k8s.io": _resource_claim_template,
}
