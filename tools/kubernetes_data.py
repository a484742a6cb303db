#!/usr/bin/env python3
"""Write ``src/mlk8s/sim/data/enums.json``: which values a field of Kubernetes' API may have.

usage: .venv/bin/python tools/kubernetes_data.py

The schema files of ``kubernetes_validate`` carry no enumerations. The models of the installed
package ``kubeflow_trainer_api`` (which the development dependency ``kubeflow`` brings) repeat
Kubernetes' own descriptions, with the values and what each means, for the types that a pod and a
job are made of. The types that it lacks are in the table below.
"""

from __future__ import annotations

import ast
import json
import re
from importlib.resources import files
from pathlib import Path

from mlk8s.sim.schema import definitions

TARGET = Path(__file__).parents[1] / "src/mlk8s/sim/data/enums.json"
MARK = "Possible enum values:"
VALUE = re.compile(r'- `"(.*?)"`(.*?)(?=\s+- `"|$)', re.DOTALL)

_KILL_FIRST = "Kill all existing pods before creating new ones."
_GRADUALLY = (
    "Replace the old ReplicaSets by new one using rolling update i.e gradually scale down the "
    "old ReplicaSets and scale up the new one."
)
_PROTOCOLS = {
    "SCTP": "is the SCTP protocol.",
    "TCP": "is the TCP protocol.",
    "UDP": "is the UDP protocol.",
}


def _plain(*values: str) -> dict[str, str]:
    return dict.fromkeys(sorted(values), "")


FURTHER: dict[str, dict[str, dict[str, str]]] = {
    "io.k8s.api.apps.v1.DaemonSetUpdateStrategy": {
        "type": {
            "OnDelete": "Replace the old daemons only when it's killed",
            "RollingUpdate": "Replace the old daemons by new ones using rolling update i.e "
            "replace them on each node one after the other.",
        }
    },
    "io.k8s.api.apps.v1.DeploymentStrategy": {
        "type": {"Recreate": _KILL_FIRST, "RollingUpdate": _GRADUALLY}
    },
    "io.k8s.api.apps.v1.StatefulSetSpec": {
        "podManagementPolicy": _plain("OrderedReady", "Parallel")
    },
    "io.k8s.api.apps.v1.StatefulSetUpdateStrategy": {"type": _plain("OnDelete", "RollingUpdate")},
    "io.k8s.api.discovery.v1.EndpointSlice": {
        "addressType": {
            "FQDN": "represents a FQDN.",
            "IPv4": "represents an IPv4 Address.",
            "IPv6": "represents an IPv6 Address.",
        }
    },
    "io.k8s.api.discovery.v1.EndpointPort": {"protocol": _PROTOCOLS},
    "io.k8s.api.networking.v1.HTTPIngressPath": {
        "pathType": _plain("Exact", "ImplementationSpecific", "Prefix")
    },
    "io.k8s.api.networking.v1.NetworkPolicyPort": {"protocol": _PROTOCOLS},
    "io.k8s.api.policy.v1.PodDisruptionBudgetSpec": {
        "unhealthyPodEvictionPolicy": _plain("AlwaysAllow", "IfHealthyBudget")
    },
    "io.k8s.api.resource.v1.DeviceAllocationConfiguration": {
        "source": _plain("FromClaim", "FromClass")
    },
    "io.k8s.api.resource.v1.DeviceSubRequest": {"allocationMode": _plain("All", "ExactCount")},
    "io.k8s.api.resource.v1.ExactDeviceRequest": {"allocationMode": _plain("All", "ExactCount")},
    "io.k8s.api.resource.v1.DeviceTaint": {"effect": _plain("NoExecute", "NoSchedule", "None")},
    "io.k8s.api.resource.v1.DeviceToleration": {
        "effect": _plain("NoExecute", "NoSchedule", "None"),
        "operator": _plain("Equal", "Exists"),
    },
    "io.k8s.api.scheduling.v1.PriorityClass": {
        "preemptionPolicy": {
            "Never": "means that pod never preempts other pods with lower priority.",
            "PreemptLowerPriority": "means that pod can preempt other pods with lower priority.",
        }
    },
    "io.k8s.api.storage.v1.StorageClass": {
        "reclaimPolicy": {
            "Delete": "means the volume will be deleted from Kubernetes on release from its "
            "claim. The volume plugin must support Deletion.",
            "Recycle": "means the volume will be recycled back into the pool of unbound "
            "persistent volumes on release from its claim. The volume plugin must support "
            "Recycling.",
            "Retain": "means the volume will be left in its current phase (Released) for manual "
            "reclamation by the administrator. The default policy is Retain.",
        },
        "volumeBindingMode": {
            "Immediate": "indicates that PersistentVolumeClaims should be immediately "
            "provisioned and bound. This is the default mode.",
            "WaitForFirstConsumer": "indicates that PersistentVolumeClaims should not be "
            "provisioned and bound until the first Pod is created that references the "
            "PeristentVolumeClaim. The volume provisioning and binding will occur during Pod "
            "scheduing.",
        },
    },
}


def enums_of(source: str) -> dict[str, dict[str, dict[str, str]]]:
    """The enumerations that the classes of one module describe, by class and property."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for model in ast.parse(source).body:
        if not isinstance(model, ast.ClassDef):
            continue
        for line in model.body:
            if not (isinstance(line, ast.AnnAssign) and isinstance(line.value, ast.Call)):
                continue
            said = {
                word.arg: word.value.value
                for word in line.value.keywords
                if isinstance(word.value, ast.Constant)
            }
            description = str(said.get("description", ""))
            if MARK not in description or not isinstance(line.target, ast.Name):
                continue
            values = VALUE.findall(description.partition(MARK)[2])
            name = str(said.get("alias", line.target.id))
            found.setdefault(model.name, {})[name] = {
                value: meaning.strip() for value, meaning in values
            }
    return found


def main() -> None:
    """Write the file."""
    by_class = {
        "".join(part[:1].upper() + part[1:] for part in re.split(r"[.\-]", name)): name
        for name in definitions()
    }
    enums = {name: dict(fields) for name, fields in FURTHER.items()}
    for module in sorted(
        files("kubeflow_trainer_api").joinpath("models").iterdir(), key=lambda file: file.name
    ):
        if not module.name.startswith("io_k8s_"):
            continue
        for model, fields in enums_of(module.read_text()).items():
            if model in by_class:
                enums.setdefault(by_class[model], {}).update(fields)
    ordered = {name: dict(sorted(enums[name].items())) for name in sorted(enums)}
    TARGET.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
    print(f"{TARGET.name}: {sum(map(len, ordered.values()))} fields of {len(ordered)} types")


if __name__ == "__main__":
    main()
