"""What KServe makes for a predictor in Standard mode: Deployment, Service, autoscaler, Ingress.

The rules are those of KServe v0.20.0:
``pkg/controller/v1beta1/inferenceservice/reconcilers/{deployment,service,hpa,ingress}``.
"""

from __future__ import annotations

import copy
from typing import Any

from mlk8s.sim.addons.kserve import names
from mlk8s.sim.addons.kserve.predictor import Plan, first_port
from mlk8s.sim.controllers.base import owner_reference
from mlk8s.sim.status import Object

_HTTP = 80
_CPU_PERCENT = 80
#: Classes of autoscaler under which KServe makes none itself.
_UNSCALED = ("external", "none")


def autoscaler_class(service: Object) -> str:
    """The class of autoscaler that an InferenceService asks for."""
    annotations = service["metadata"].get("annotations") or {}
    return str(annotations.get(names.AUTOSCALER_CLASS, "hpa"))


def children(service: Object, plan: Plan) -> dict[str, Object]:
    """The objects that stand for a predictor, by their resource; without its Ingress."""
    found = {"services": _service(service, plan), names.DEPLOYMENTS: _deployment(service, plan)}
    if autoscaler_class(service) not in _UNSCALED:
        found[names.AUTOSCALERS] = _autoscaler(service, plan)
    return found


def _metadata(service: Object, plan: Plan) -> Object:
    metadata: Object = {
        "name": plan.name,
        "namespace": service["metadata"]["namespace"],
        "labels": dict(plan.labels),
        "ownerReferences": [owner_reference(service)],
    }
    if plan.annotations:
        metadata["annotations"] = dict(plan.annotations)
    return metadata


def _deployment(service: Object, plan: Plan) -> Object:
    predictor = service["spec"]["predictor"]
    template: Object = {"labels": dict(plan.labels)}
    if plan.annotations:
        template["annotations"] = dict(plan.annotations)
    spec: Object = {
        "selector": {"matchLabels": {names.APP_LABEL: plan.labels[names.APP_LABEL]}},
        "template": {"metadata": template, "spec": copy.deepcopy(plan.pod)},
    }
    if "deploymentStrategy" in predictor:
        spec["strategy"] = copy.deepcopy(predictor["deploymentStrategy"])
    if autoscaler_class(service) == "none" and "minReplicas" in predictor:
        spec["replicas"] = predictor["minReplicas"]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(service, plan),
        "spec": spec,
    }


def _service(service: Object, plan: Plan) -> Object:
    """Port 80 leads to the first port of the server, or of a transformer before it."""
    containers = plan.pod["containers"]
    before = (each for each in containers if each["name"] == names.TRANSFORMER)
    container = next(before, containers[0])
    declared = container.get("ports") or []
    ports: list[Object] = []
    for number, each in enumerate(declared or [{"name": plan.name}]):
        target = each["containerPort"] if declared else first_port(container)
        port: Object = {
            "port": target if number else _HTTP,
            "targetPort": target,
            "protocol": each.get("protocol", "TCP"),
        }
        if name := each.get("name"):
            port["name"] = name
            if "grpc" in name or "h2c" in name:
                port["appProtocol"] = "kubernetes.io/h2c"
        ports.append(port)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(service, plan),
        "spec": {"selector": {names.APP_LABEL: plan.labels[names.APP_LABEL]}, "ports": ports},
    }


def _autoscaler(service: Object, plan: Plan) -> Object:
    predictor = service["spec"]["predictor"]
    # There is no scaling to zero in this mode: minReplicas 0 is as good as 1.
    least = max(1, predictor.get("minReplicas", 1))
    most = max(least, predictor.get("maxReplicas", 0))
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(service, plan),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": plan.name},
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": _metrics(predictor),
        },
    }


def _metrics(predictor: Object) -> list[Object]:
    if (wanted := predictor.get("autoScaling")) is not None:
        made = [_metric(each["resource"]) for each in wanted.get("metrics") or ()]
    else:
        name, target = predictor.get("scaleMetric", "cpu"), predictor.get("scaleTarget")
        if name == "cpu":
            target = _CPU_PERCENT if target is None else target
        if target is None:
            return []
        percent = {"type": "Utilization", "averageUtilization": target}
        made = [{"name": name, "target": percent}]
    return [{"type": "Resource", "resource": each} for each in made]


def _metric(resource: Object) -> Object:
    target: Any = dict(resource["target"])
    if resource["name"] == "cpu":
        percent = target.get("averageUtilization", _CPU_PERCENT)
        target = {"type": "Utilization", "averageUtilization": percent}
    return {"name": resource["name"], "target": target}


def ingress(service: Object, plan: Plan) -> Object:
    """The Ingress under the default domain template; no controller acts on it."""
    metadata = service["metadata"]
    backend = {"service": {"name": plan.name, "port": {"number": _HTTP}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    hosts = [names.host(name, metadata["namespace"]) for name in (metadata["name"], plan.name)]
    made: Object = {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "ownerReferences": [owner_reference(service)],
    }
    if metadata.get("annotations"):
        made["annotations"] = dict(metadata["annotations"])
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": made,
        "spec": {
            "ingressClassName": names.INGRESS_CLASS,
            "rules": [{"host": host, "http": {"paths": [path]}} for host in hosts],
        },
    }
