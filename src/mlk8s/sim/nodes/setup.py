"""Puts the objects of NVIDIA's software into a cluster when its nodes start."""

from __future__ import annotations

from collections.abc import Sequence

from mlk8s.sim.api import Api
from mlk8s.sim.nodes import operator
from mlk8s.sim.nodes.spec import NodeSpec
from mlk8s.sim.status import Object

DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"


def ensure(api: Api, obj: Object, key: str) -> None:
    """Create an object unless there is one of its name."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace", "")
    if api.store.raw(key, namespace, metadata["name"]) is None:
        api.create(key, obj, namespace)


def install(api: Api, specs: Sequence[NodeSpec], strategy: str) -> None:
    """The operator's objects; the ClusterPolicy follows when its resource is served."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": operator.NAMESPACE}}
    ensure(api, namespace, "namespaces")
    ensure(api, operator.runtime_class(), "runtimeclasses.node.k8s.io")
    configs = [spec.config for spec in specs if spec.gpu]
    ensure(api, operator.config_map(configs), "configmaps")
    for daemon_set in operator.daemon_sets(strategy):
        ensure(api, daemon_set, "daemonsets.apps")
    if any(spec.dra for spec in specs):
        for device_class in operator.device_classes():
            ensure(api, device_class, "deviceclasses.resource.k8s.io")
    ensure(api, operator.policy_definition(), DEFINITIONS)


def install_policy(api: Api, strategy: str) -> None:
    """The ClusterPolicy, ready; nothing happens where it is there or not served yet."""
    if api.registry.at("nvidia.com", "v1", "clusterpolicies") is None:
        return
    if api.store.raw(operator.POLICIES, "", operator.POLICY) is not None:
        return
    api.create(operator.POLICIES, operator.policy(strategy))
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Reconciled",
        "message": "ClusterPolicy is ready as all resources have been successfully reconciled",
        "lastTransitionTime": api.timestamp(),
    }

    def ready(policy: Object) -> None:
        policy["status"] = {
            "state": "ready",
            "namespace": operator.NAMESPACE,
            "conditions": [condition],
        }

    api.change(operator.POLICIES, "", operator.POLICY, ready, subresource="status")


def remove(api: Api, specs: Sequence[NodeSpec]) -> None:
    """Take away the nodes, their leases, and the configuration that can be edited."""
    gone = [("nodes", "", spec.name) for spec in specs]
    gone += [("leases.coordination.k8s.io", "kube-node-lease", spec.name) for spec in specs]
    gone.append(("configmaps", operator.NAMESPACE, operator.CONFIG_MAP))
    gone.append((operator.POLICIES, "", operator.POLICY))
    for key, namespace, name in gone:
        if api.store.raw(key, namespace, name) is not None:
            api.store.remove(key, namespace, name)
