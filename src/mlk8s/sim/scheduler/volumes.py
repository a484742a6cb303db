"""Persistent volume claims of a pod: that they exist, are bound, and can be reached from a node.

``pkg/scheduler/framework/plugins/volumebinding``, without storage capacity and without the limits
of cloud volumes.
"""

from __future__ import annotations

from collections.abc import Iterator

from mlk8s.sim.api import Api
from mlk8s.sim.matching import NodeTerm, Selector
from mlk8s.sim.quantity import value
from mlk8s.sim.scheduler.framework import SKIPPED, Code, NodeInfo, Plugin, State, Verdict
from mlk8s.sim.status import Object

PVC = "persistentvolumeclaims"
PV = "persistentvolumes"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
_NO_PROVISIONER = "kubernetes.io/no-provisioner"


class _Claims:
    """The claims of a pod.

    Attributes:
        volumes: the volumes of those that are bound.
        delayed: those that are bound once a node is chosen, with their class.
        chosen: node → claim name → the volume found for it there; without one, it is provisioned.
    """

    def __init__(self) -> None:
        self.volumes: list[Object] = []
        self.delayed: list[tuple[Object, Object]] = []
        self.chosen: dict[str, dict[str, str | None]] = {}


class VolumeBinding(Plugin):
    """Claims that are bound lead to their nodes; those that wait for a pod are bound for it.

    Args:
        api: the cluster.
    """

    name = "VolumeBinding"
    _elsewhere = "node(s) didn't match PersistentVolume's node affinity"
    _no_volume = "node(s) didn't find available persistent volumes to bind"
    _lost = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"

    def __init__(self, api: Api) -> None:
        self._api = api

    def _no(self, *reasons: str) -> Verdict:
        return Verdict(Code.UNRESOLVABLE, reasons, self.name)

    def pre_filter(self, state: State, pod: Object, nodes: list[NodeInfo]) -> Verdict | None:
        """Look at the claims; one that is missing, or unbound without reason, ends it here."""
        namespace = pod["metadata"]["namespace"]
        names = list(claim_names(pod))
        if not names:
            return SKIPPED
        claims = _Claims()
        immediate = False
        for name, ephemeral in names:
            claim = self._api.find(PVC, namespace, name)
            if claim is None and ephemeral:
                return self._no(
                    "waiting for ephemeral volume controller to create the "
                    f'persistentvolumeclaim "{name}"'
                )
            if claim is None:
                return self._no(f'persistentvolumeclaim "{name}" not found')
            if (claim.get("status") or {}).get("phase") == "Lost":
                volume = claim["spec"].get("volumeName", "")
                return self._no(
                    f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume '
                    f'"{volume}"'
                )
            if "deletionTimestamp" in claim["metadata"]:
                return self._no(f'persistentvolumeclaim "{name}" is being deleted')
            if (claim.get("status") or {}).get("phase") == "Bound":
                found = self._api.find(PV, "", claim["spec"].get("volumeName", ""))
                claims.volumes.append(found or {})
                continue
            cls = self._api.find(
                "storageclasses.storage.k8s.io", "", claim["spec"].get("storageClassName") or ""
            )
            if cls is None or cls.get("volumeBindingMode") != "WaitForFirstConsumer":
                immediate = True
            else:
                claims.delayed.append((claim, cls))
        if immediate:
            return self._no("pod has unbound immediate PersistentVolumeClaims")
        state[self.name] = claims
        return None

    def filter(self, state: State, pod: Object, node: NodeInfo) -> Verdict | None:
        """Whether all bound volumes reach the node, and the others can be had there."""
        claims: _Claims = state[self.name]
        reasons = []
        if not all(claims.volumes):
            return self._no(self._lost)
        if not all(_reaches(volume, node) for volume in claims.volumes):
            reasons.append(self._elsewhere)
        chosen: dict[str, str | None] = {}
        for claim, cls in claims.delayed:
            volume = self._available(claim, node, set(chosen.values()))
            if volume is None and cls["provisioner"] == _NO_PROVISIONER:
                reasons.append(self._no_volume)
                break
            chosen[claim["metadata"]["name"]] = volume
        claims.chosen[node.name] = chosen
        return self._no(*sorted(set(reasons))) if reasons else None

    def _available(self, claim: Object, node: NodeInfo, taken: set[str | None]) -> str | None:
        """The smallest free volume that fits the claim and reaches the node."""
        spec = claim["spec"]
        asked = value(str(spec["resources"]["requests"]["storage"]))
        selector = Selector(spec["selector"]) if spec.get("selector") else None
        best: tuple[object, str] | None = None
        for volume in self._api.store.items(PV):
            name, has = volume["metadata"]["name"], volume["spec"]
            reference = has.get("claimRef")
            if reference and (reference.get("namespace"), reference.get("name")) != (
                claim["metadata"]["namespace"],
                claim["metadata"]["name"],
            ):
                continue
            size = value(str(has["capacity"]["storage"]))
            if (
                name in taken
                or size < asked
                or (has.get("storageClassName") or "") != (spec.get("storageClassName") or "")
                or has.get("volumeMode", "Filesystem") != spec.get("volumeMode", "Filesystem")
                or not set(spec.get("accessModes") or ()) <= set(has.get("accessModes") or ())
                or (selector and not selector.matches(volume["metadata"].get("labels") or {}))
                or not _reaches(volume, node)
            ):
                continue
            if best is None or (size, name) < best:
                best = (size, name)
        return None if best is None else best[1]

    def will_pre_bind(self, state: State, pod: Object, node: NodeInfo) -> bool:
        """Whether a claim is to be bound first."""
        return self.name in state and bool(state[self.name].delayed)

    def pre_bind(self, state: State, pod: Object, node: NodeInfo) -> Verdict | None:
        """Tell the volume controller which volume, or which node, and wait until it has bound."""
        claims: _Claims | None = state.get(self.name)
        if claims is None:
            return None
        waiting = False
        for claim, _ in claims.delayed:
            namespace, name = claim["metadata"]["namespace"], claim["metadata"]["name"]
            found = self._api.find(PVC, namespace, name)
            if found is None:
                return self._no(f'persistentvolumeclaim "{name}" not found')
            if (found.get("status") or {}).get("phase") == "Bound":
                continue
            waiting = True
            volume = claims.chosen[node.name][name]
            if volume is not None:
                self._reserve(volume, found)
            else:
                self._select(found, node.name)
        return Verdict(Code.WAIT) if waiting else None

    def _reserve(self, volume: str, claim: Object) -> None:
        metadata = claim["metadata"]
        reference = {
            "kind": "PersistentVolumeClaim",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "apiVersion": "v1",
            "resourceVersion": metadata["resourceVersion"],
        }

        def mutate(obj: Object) -> None:
            if obj["spec"].get("claimRef", {}).get("uid") != metadata["uid"]:
                obj["spec"]["claimRef"] = reference

        self._api.change(PV, "", volume, mutate)

    def _select(self, claim: Object, node: str) -> None:
        def mutate(obj: Object) -> None:
            obj["metadata"].setdefault("annotations", {})[SELECTED_NODE] = node

        metadata = claim["metadata"]
        self._api.change(PVC, metadata["namespace"], metadata["name"], mutate)


def claim_names(pod: Object) -> Iterator[tuple[str, bool]]:
    """The names of a pod's claims, and whether the pod has them made for itself."""
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"]["claimName"], False
        elif "ephemeral" in volume:
            yield f"{pod['metadata']['name']}-{volume['name']}", True


def _reaches(volume: Object, node: NodeInfo) -> bool:
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    if not required:
        return True
    terms = [NodeTerm(term) for term in required.get("nodeSelectorTerms") or ()]
    return any(term.matches(node.labels, node.name) for term in terms)
