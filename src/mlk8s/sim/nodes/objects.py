"""Node objects as a kubelet of MicroK8s 1.36 registers them, and their leases."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from mlk8s.sim.clock import micro_stamp, stamp
from mlk8s.sim.nodes import labels as names
from mlk8s.sim.nodes.spec import NodeSpec
from mlk8s.sim.status import Object

SIMULATED = "mlk8s.dev/simulated"
KUBELET = "v1.36.2"
RUNTIME = "containerd://2.2.3"
KERNEL = "5.15.0-160-generic"

# What the kubelet keeps back: --system-reserved is chosen, the eviction thresholds are those that
# MicroK8s starts its kubelet with (memory.available<100Mi, nodefs.available<1Gi).
RESERVED_MILLICORES = 200
RESERVED_MEMORY_MIB = 1024
EVICTION_MEMORY_MIB = 100
EVICTION_DISK_GIB = 1
# What the kernel takes before /proc/meminfo counts; chosen, near what a 5.15 kernel takes.
_KERNEL_SHARE = 64

LEASE_SECONDS = 600

_IMAGES = {
    "registry.k8s.io/pause:3.10": 320368,
    "docker.io/coredns/coredns:1.12.0": 20939036,
    "docker.io/calico/node:v3.29.3": 142935544,
}


def node_object(
    spec: NodeSpec, index: int, now: float, uid: str, resources: tuple[Mapping[str, str], ...] = ()
) -> Object:
    """A Node, complete.

    Args:
        spec: what it has.
        index: its number in the cluster; makes its address.
        now: seconds since the epoch.
        uid: of the object.
        resources: extended resources: capacity and allocatable.
    """
    capacity, allocatable = _machine(spec)
    if resources:
        capacity |= resources[0]
        allocatable |= resources[1]
    node_spec: Object = {"podCIDR": _cidr(index), "podCIDRs": [_cidr(index)]}
    if spec.taints:
        node_spec["taints"] = [
            {"key": key, "effect": effect} | ({"value": value} if value else {})
            for key, value, effect in spec.taints
        ]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": spec.name,
            "uid": uid,
            "creationTimestamp": stamp(now),
            "labels": _labels(spec),
            "annotations": {
                SIMULATED: "true",
                "node.alpha.kubernetes.io/ttl": "0",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            },
        },
        "spec": node_spec,
        "status": {
            "capacity": capacity,
            "allocatable": allocatable,
            "conditions": _conditions(stamp(now)),
            "addresses": [
                {"type": "InternalIP", "address": address(index)},
                {"type": "Hostname", "address": spec.name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": _info(spec.name),
            "images": [
                {"names": [name], "sizeBytes": size}
                for name, size in sorted(_IMAGES.items(), key=lambda each: -each[1])
            ],
            "runtimeHandlers": _handlers(spec),
        },
    }


def lease_object(name: str, owner: str, now: float, uid: str) -> Object:
    """The kubelet's lease on its node."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": "kube-node-lease",
            "uid": uid,
            "creationTimestamp": stamp(now),
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": owner}],
        },
        "spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": micro_stamp(now),
        },
    }


def address(index: int) -> str:
    """The node's address in 10.64.0.0/12."""
    number = index + 10
    return f"10.{64 + number // 65536}.{number // 256 % 256}.{number % 256}"


def _cidr(index: int) -> str:
    return f"10.{128 + index // 256}.{index % 256}.0/24"


def _labels(spec: NodeSpec) -> dict[str, str]:
    found = {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": spec.name,
        "kubernetes.io/os": "linux",
        "microk8s.io/cluster": "true",
        SIMULATED: "true",
    }
    found |= names.found_by_nfd(spec.model, KERNEL)
    if spec.model is not None:
        found |= names.deployed(spec.model, bool(spec.dra))
    return found | dict(spec.labels)


def _machine(spec: NodeSpec) -> tuple[dict[str, str], dict[str, str]]:
    memory_mib = spec.memory_gib * 1024 - spec.memory_gib * 1024 // _KERNEL_SHARE
    shared = {"hugepages-1Gi": "0", "hugepages-2Mi": "0", "pods": str(spec.pods)}
    kept_mib = RESERVED_MEMORY_MIB + EVICTION_MEMORY_MIB
    capacity = {
        "cpu": str(spec.cores),
        "ephemeral-storage": f"{spec.ephemeral_gib}Gi",
        "memory": f"{memory_mib * 1024 - 4}Ki",
    }
    allocatable = {
        "cpu": f"{spec.cores * 1000 - RESERVED_MILLICORES}m",
        "ephemeral-storage": f"{spec.ephemeral_gib - EVICTION_DISK_GIB}Gi",
        "memory": f"{(memory_mib - kept_mib) * 1024 - 4}Ki",
    }
    return capacity | shared, allocatable | shared


def _conditions(moment: str) -> list[Object]:
    rows = (
        (
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "has sufficient memory available",
        ),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "is posting ready status"),
    )
    return [
        {
            "type": kind,
            "status": status,
            "lastHeartbeatTime": moment,
            "lastTransitionTime": moment,
            "reason": reason,
            "message": f"kubelet {message}",
        }
        for kind, status, reason, message in rows
    ]


def _info(name: str) -> Object:
    identity = uuid.uuid5(uuid.NAMESPACE_DNS, name)
    return {
        "machineID": identity.hex,
        "systemUUID": str(identity),
        "bootID": str(uuid.uuid5(identity, "boot")),
        "kernelVersion": KERNEL,
        "osImage": "Ubuntu 22.04.5 LTS",
        "containerRuntimeVersion": RUNTIME,
        "kubeletVersion": KUBELET,
        # Empty since 1.33: the kubelet no longer guesses it.
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": "amd64",
    }


def _handlers(spec: NodeSpec) -> list[Object]:
    features = {"recursiveReadOnlyMounts": True, "userNamespaces": True}
    handlers = ["runc", "nvidia"] if spec.gpu else ["runc"]
    return [{"features": features}, *({"name": each, "features": features} for each in handlers)]
