"""Which pods that were turned down a change may help: the queueing hints.

Coarser than upstream's, which look at the pod too: a pod may be tried in vain, never forgotten.
"""

from __future__ import annotations

from mlk8s.sim.scheduler.podinfo import PodInfo, amounts
from mlk8s.sim.status import Object

# Which plugins may change their mind when a pod leaves its node …
POD_GONE = ("NodeResourcesFit", "NodePorts", "PodTopologySpread", "InterPodAffinity")
# … when one is placed on a node …
POD_PLACED = ("PodTopologySpread", "InterPodAffinity")
# … when a node goes away.
NODE_GONE = ("PodTopologySpread",)
# … when one of these resources changes.
RESOURCES = {
    "persistentvolumeclaims": ("VolumeBinding",),
    "persistentvolumes": ("VolumeBinding",),
    "storageclasses.storage.k8s.io": ("VolumeBinding",),
    "namespaces": ("InterPodAffinity",),
}
_LABELS = (
    "NodeAffinity",
    "VolumeBinding",
    "PodTopologySpread",
    "InterPodAffinity",
    "DynamicResources",
)
_TAINTS = ("TaintToleration", "NodeUnschedulable", "PodTopologySpread")


def node_matters(old: Object, new: Object) -> bool:
    """Whether a change of a node is more than a sign of life."""
    if old["metadata"].get("labels") != new["metadata"].get("labels"):
        return True
    before, after = old.get("status") or {}, new.get("status") or {}
    return old.get("spec") != new.get("spec") or any(
        before.get(part) != after.get(part) for part in ("allocatable", "images")
    )


def node_changed(old: Object, new: Object) -> set[str]:
    """The plugins that may think otherwise of a node after a change."""
    found: set[str] = set()
    before = amounts((old.get("status") or {}).get("allocatable") or {})
    after = amounts((new.get("status") or {}).get("allocatable") or {})
    if any(number > before.get(name, 0) for name, number in after.items()):
        found.add("NodeResourcesFit")
    if (old["metadata"].get("labels") or {}) != (new["metadata"].get("labels") or {}):
        found.update(_LABELS)
    old_spec, new_spec = old.get("spec") or {}, new.get("spec") or {}
    if (old_spec.get("taints") or []) != (new_spec.get("taints") or []):
        found.update(_TAINTS)
    if old_spec.get("unschedulable") and not new_spec.get("unschedulable"):
        found.update(_TAINTS)
    return found


def pod_changed(old: PodInfo, new: PodInfo) -> set[str]:
    """The plugins that may think otherwise because a pod on a node changed."""
    found: set[str] = set()
    # Not for a pod that begins to terminate: its end is what helps, and comes as POD_GONE.
    if old.labels != new.labels:
        found.update(POD_PLACED)
    if any(number < old.requests.get(name, 0) for name, number in new.requests.items()):
        found.add("NodeResourcesFit")
    return found


def pending_changed(old: Object, new: Object) -> bool:
    """Whether a pod that waits was changed in a way that may help it."""
    old_metadata, new_metadata = old["metadata"], new["metadata"]
    return (
        old["spec"] != new["spec"]
        or old_metadata.get("labels") != new_metadata.get("labels")
        or (old.get("status") or {}).get("resourceClaimStatuses")
        != (new.get("status") or {}).get("resourceClaimStatuses")
        or "deletionTimestamp" in new_metadata
    )
