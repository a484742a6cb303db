"""Ray's own autoscaler beside the head: its container, and the account that it acts as.

It is Ray that scales: it asks the control service what waits for resources, and changes the
replicas of a RayCluster. Sources at v1.7.0: ``BuildAutoscalerContainer`` in
``ray-operator/controllers/ray/common/pod.go``, ``common/rbac.go``.
"""

from __future__ import annotations

import copy

from mlk8s.sim.addons.kuberay import names
from mlk8s.sim.controllers.base import owner_reference
from mlk8s.sim.status import Object

CONTAINER = "autoscaler"
COMMAND = (
    "ray kuberay-autoscaler --cluster-name $(RAY_CLUSTER_NAME) "
    "--cluster-namespace $(RAY_CLUSTER_NAMESPACE)"
)
#: Chooses between the two autoscalers of Ray.
SECOND = "RAY_enable_autoscaler_v2"
_AMOUNTS = {"cpu": "500m", "memory": "512Mi"}
_REPLACED = ("resources", "image", "imagePullPolicy", "securityContext", "command", "args")
_ADDED = ("env", "envFrom", "volumeMounts")
_LOGS = {"name": "ray-logs", "mountPath": "/tmp/ray"}
_ROLE = (
    ("", "pods", ("get", "list", "watch", "patch")),
    ("", "pods/resize", ("patch",)),
    (names.GROUP, "rayclusters", ("get", "patch")),
)


def is_wanted(spec: Object) -> bool:
    """Whether a cluster is to be scaled."""
    return bool(spec.get("enableInTreeAutoscaling"))


def version(spec: Object) -> str:
    """Which autoscaler is chosen: ``v1``, ``v2``, or empty where Ray chooses."""
    return str((spec.get("autoscalerOptions") or {}).get("version", ""))


def account(cluster: Object) -> str:
    """The name of the account of a head with an autoscaler."""
    told = cluster["spec"]["headGroupSpec"]["template"]["spec"].get("serviceAccountName")
    return names.checked(str(told or cluster["metadata"]["name"]))


def add(cluster: Object, pod: Object) -> None:
    """Put the autoscaler into the pod of a head, whose Ray container is the first."""
    spec, options = pod["spec"], cluster["spec"].get("autoscalerOptions") or {}
    head = spec["containers"][0]
    container: Object = {
        "name": CONTAINER,
        "image": head["image"],
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/bash", "-c", "--"],
        "args": [COMMAND],
        "env": [
            _field("RAY_CLUSTER_NAME", f"metadata.labels['{names.CLUSTER_LABEL}']"),
            _field("RAY_CLUSTER_NAMESPACE", "metadata.namespace"),
            _field("RAY_HEAD_POD_NAME", "metadata.name"),
            {"name": "KUBERAY_CRD_VER", "value": names.VERSION},
            {"name": "KUBERAY_GEN_AUTOSCALER_START_CMD", "value": COMMAND},
        ],
        "resources": {"limits": dict(_AMOUNTS), "requests": dict(_AMOUNTS)},
    }
    for part in _REPLACED:
        if options.get(part):
            container[part] = copy.deepcopy(options[part])
    for part in _ADDED:
        if options.get(part):
            container.setdefault(part, []).extend(copy.deepcopy(options[part]))
    spec["containers"].append(container)
    spec["serviceAccountName"] = account(cluster)
    spec.setdefault("volumes", []).append({"name": _LOGS["name"], "emptyDir": {}})
    for each in (head, container):
        each.setdefault("volumeMounts", []).append(dict(_LOGS))
    if version(cluster["spec"]):
        chosen = "true" if version(cluster["spec"]) == "v2" else "false"
        head.setdefault("env", []).append({"name": SECOND, "value": chosen})


def _field(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def access(cluster: Object) -> list[tuple[str, Object]]:
    """The account of an autoscaler and what it may do, each with its resource."""
    metadata = cluster["metadata"]
    labels = {
        names.CLUSTER_LABEL: metadata["name"],
        names.APP_NAME: names.APPLICATION,
        names.CREATED_BY: names.COMPONENT,
    }
    rbac, name = "rbac.authorization.k8s.io", names.checked(metadata["name"])

    def made(api_version: str, kind: str, name: str, **more: object) -> Object:
        owners = [owner_reference(cluster)]
        told = {"name": name, "labels": dict(labels), "ownerReferences": owners}
        return {"apiVersion": api_version, "kind": kind, "metadata": told, **more}

    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
        for group, resource, verbs in _ROLE
    ]
    subject = {
        "kind": "ServiceAccount",
        "name": account(cluster),
        "namespace": metadata["namespace"],
    }
    role = {"apiGroup": rbac, "kind": "Role", "name": name}
    told = cluster["spec"]["headGroupSpec"]["template"]["spec"].get("serviceAccountName")
    # An account that somebody names is somebody's to make.
    own = [] if told else [("serviceaccounts", made("v1", "ServiceAccount", account(cluster)))]
    return [
        *own,
        (f"roles.{rbac}", made(f"{rbac}/v1", "Role", name, rules=rules)),
        (
            f"rolebindings.{rbac}",
            made(f"{rbac}/v1", "RoleBinding", name, subjects=[subject], roleRef=role),
        ),
    ]
