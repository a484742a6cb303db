"""PersistentVolumeClaims: bound to a volume that exists, or to one that is made for them.

The provisioner is that of MicroK8s' hostpath-storage addon. Source of the rules:
pkg/controller/volume/persistentvolume/pv_controller.go, pkg/controller/volume/pvcprotection.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from mlk8s.sim import quantity
from mlk8s.sim.api import Api
from mlk8s.sim.controllers.base import Controller
from mlk8s.sim.controllers.pods import PodIndex
from mlk8s.sim.events import Recorder
from mlk8s.sim.matching import Selector
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

_CLAIMS, _VOLUMES = "persistentvolumeclaims", "persistentvolumes"
_CLASSES = "storageclasses.storage.k8s.io"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_PROVISIONER = "microk8s.io/hostpath"
_PROTECTION = "kubernetes.io/pvc-protection"
_VOLUME_PROTECTION = "kubernetes.io/pv-protection"
_BIND = "pv.kubernetes.io/bind-completed"
_BOUND_BY = "pv.kubernetes.io/bound-by-controller"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_NODE = "volume.kubernetes.io/selected-node"


class Volumes(Controller):
    """The persistent volume controller, the hostpath provisioner and claim protection."""

    name = "persistentvolume-controller"
    watch = (_CLAIMS, _VOLUMES, "pods")

    def __init__(self, api: Api, recorder: Recorder, pods: PodIndex) -> None:
        super().__init__(api, recorder, pods)
        # The pods that use a claim, by (namespace, claim).
        self._users: dict[tuple[str, str], set[str]] = {}

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The claim, the claims of a pod, or a volume and its claim."""
        if change.key == _CLAIMS:
            keys: list[Hashable] = [(change.namespace, change.name)]
            volume = change.object["spec"].get("volumeName")
            if change.type == "DELETED" and volume:
                keys.append(("", volume))
            return keys
        if change.key == _VOLUMES:
            if change.type == "DELETED":
                return ()
            return [("", change.name), *self._waiting(change.object)]
        if change.key == "pods":
            return self._claims(change)
        return ()

    def _claims(self, change: Change) -> list[Hashable]:
        found: list[Hashable] = []
        ended = (change.object.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        for volume in change.object["spec"].get("volumes") or ():
            if "persistentVolumeClaim" not in volume:
                continue
            where = (change.namespace, volume["persistentVolumeClaim"]["claimName"])
            users = self._users.setdefault(where, set())
            if change.type == "DELETED" or ended:
                users.discard(change.name)
            else:
                users.add(change.name)
            if not users:
                del self._users[where]
            found.append(where)
        return found

    def _waiting(self, volume: Object) -> list[Hashable]:
        if volume["spec"].get("claimRef"):
            return []
        return [
            (claim["metadata"]["namespace"], claim["metadata"]["name"])
            for claim in self.api.store.items(_CLAIMS)
            if not claim["spec"].get("volumeName")
        ]

    def sync(self, namespace: str, name: str) -> None:
        """Look at a claim, or at a volume."""
        if not namespace:
            self._sync_volume(name)
            return
        claim = self.api.find(_CLAIMS, namespace, name)
        if claim is None:
            return
        if "deletionTimestamp" in claim["metadata"]:
            if not self._users.get((namespace, name)):
                self._unprotect(claim)
            return
        if _PROTECTION not in (claim["metadata"].get("finalizers") or ()):
            self.api.change(_CLAIMS, namespace, name, lambda obj: _hold(obj, _PROTECTION))
            claim = self.api.get(_CLAIMS, namespace, name)
        if (claim.get("status") or {}).get("phase", "Pending") == "Pending":
            self._bind(claim)

    # -- claims ----------------------------------------------------------------------------------

    def _bind(self, claim: Object) -> None:
        """Find or make the claim's volume.

        Raises:
            StatusError: it cannot be stored.
        """
        spec, metadata = claim["spec"], claim["metadata"]
        if volume := spec.get("volumeName"):
            found = self.api.find(_VOLUMES, "", volume)
            if found is not None:
                self._join(claim, found)
            return
        found = self._match(claim)
        if found is not None:
            self._join(claim, found)
            return
        name = spec.get("storageClassName")
        if not name:
            message = "no persistent volumes available for this claim and no storage class is set"
            self.event(claim, "Normal", "FailedBinding", message)
            return
        storage = self.api.find(_CLASSES, "", name)
        if storage is None:
            message = f'storageclass.storage.k8s.io "{name}" not found'
            self.event(claim, "Warning", "ProvisioningFailed", message)
            return
        node = self._node(metadata["namespace"], metadata["name"])
        if storage.get("volumeBindingMode") == "WaitForFirstConsumer" and not node:
            message = "waiting for first consumer to be created before binding"
            self.event(claim, "Normal", "WaitForFirstConsumer", message)
            return
        if storage["provisioner"] != _PROVISIONER:
            message = (
                "Waiting for a volume to be created either by the external provisioner "
                f"'{storage['provisioner']}' or manually by the system administrator. If volume "
                "creation is delayed, please verify that the provisioner is running and correctly "
                "registered."
            )
            self.event(claim, "Normal", "ExternalProvisioning", message)
            return
        self._provision(claim, storage, node)

    def _node(self, namespace: str, name: str) -> str:
        """The node of a pod that uses a claim, or the one that the scheduler chose for it."""
        claim = self.api.find(_CLAIMS, namespace, name) or {"metadata": {}}
        chosen = (claim["metadata"].get("annotations") or {}).get(_NODE)
        if chosen:
            return str(chosen)
        for user in sorted(self._users.get((namespace, name), ())):
            pod = self.pods.get(namespace, user)
            if pod is not None and pod.node:
                return pod.node
        return ""

    def _match(self, claim: Object) -> Object | None:
        """The smallest free volume that will do."""
        spec, metadata = claim["spec"], claim["metadata"]
        wanted = quantity.value(str(spec["resources"]["requests"]["storage"]))
        fitting, selector = [], Selector(spec.get("selector") or {})
        for volume in self.api.store.items(_VOLUMES):
            told, reference = volume["spec"], volume["spec"].get("claimRef")
            if reference is not None:
                named = (reference.get("namespace"), reference["name"])
                if (
                    named == (metadata["namespace"], metadata["name"])
                    and reference.get("uid", metadata["uid"]) == metadata["uid"]
                ):
                    return volume
                continue
            size = quantity.value(str(told["capacity"]["storage"]))
            if (
                size >= wanted
                and told.get("storageClassName", "") == (spec.get("storageClassName") or "")
                and set(spec.get("accessModes") or ()) <= set(told.get("accessModes") or ())
                and told.get("volumeMode", "Filesystem") == spec.get("volumeMode", "Filesystem")
                and selector.matches(volume["metadata"].get("labels"))
                and "deletionTimestamp" not in volume["metadata"]
            ):
                fitting.append((size, volume["metadata"]["name"], volume))
        return min(fitting, key=lambda each: each[:2])[2] if fitting else None

    def _provision(self, claim: Object, storage: Object, node: str) -> None:
        metadata, spec = claim["metadata"], claim["spec"]
        path = f"{metadata['namespace']}/{metadata['name']}"
        message = f'External provisioner is provisioning volume for claim "{path}"'
        self.event(claim, "Normal", "Provisioning", message)
        name = f"pvc-{metadata['uid']}"
        volume: Object = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {
                "name": name,
                "annotations": {_PROVISIONED_BY: _PROVISIONER},
                "finalizers": [_VOLUME_PROTECTION],
            },
            "spec": {
                "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                "accessModes": list(spec.get("accessModes") or ()),
                "persistentVolumeReclaimPolicy": storage.get("reclaimPolicy", "Delete"),
                "storageClassName": storage["metadata"]["name"],
                "volumeMode": spec.get("volumeMode", "Filesystem"),
                "hostPath": {
                    "path": "/var/snap/microk8s/common/default-storage/"
                    f"{metadata['namespace']}-{metadata['name']}-{name}",
                    "type": "DirectoryOrCreate",
                },
            },
        }
        if node:
            term = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
            volume["spec"]["nodeAffinity"] = {
                "required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}
            }
        try:
            volume = self.api.create(_VOLUMES, volume)
        except StatusError as error:
            message = f'failed to provision volume with StorageClass "{spec["storageClassName"]}": '
            self.event(claim, "Warning", "ProvisioningFailed", message + error.message)
            raise
        self.event(
            claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {name}"
        )
        self._join(claim, volume)

    def _join(self, claim: Object, volume: Object) -> None:
        """Bind the two to each other."""
        metadata, name = claim["metadata"], volume["metadata"]["name"]

        def hold(found: Object) -> None:
            reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
            reference |= {"name": metadata["name"], "namespace": metadata["namespace"]}
            reference |= {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
            found["spec"]["claimRef"] = reference
            found["metadata"].setdefault("annotations", {}).setdefault(_BOUND_BY, "yes")

        def take(found: Object) -> None:
            annotations = found["metadata"].setdefault("annotations", {})
            annotations[_BIND] = "yes"
            if not found["spec"].get("volumeName"):
                annotations[_BOUND_BY] = "yes"
            found["spec"]["volumeName"] = name

        def report(found: Object) -> None:
            status = found.setdefault("status", {})
            status["phase"] = "Bound"
            status["accessModes"] = list(volume["spec"].get("accessModes") or ())
            status["capacity"] = {"storage": volume["spec"]["capacity"]["storage"]}

        self.api.change(_VOLUMES, "", name, hold)
        self.api.change(_VOLUMES, "", name, lambda found: self._phase(found, "Bound"), "status")
        self.api.change(_CLAIMS, metadata["namespace"], metadata["name"], take)
        self.api.change(_CLAIMS, metadata["namespace"], metadata["name"], report, "status")

    def _unprotect(self, claim: Object) -> None:
        metadata = claim["metadata"]
        self.api.change(
            _CLAIMS,
            metadata["namespace"],
            metadata["name"],
            lambda found: _free(found, _PROTECTION),
        )

    # -- volumes ---------------------------------------------------------------------------------

    def _phase(self, volume: Object, phase: str) -> None:
        status = volume.setdefault("status", {})
        if status.get("phase") != phase:
            status["phase"] = phase
            status["lastPhaseTransitionTime"] = self.api.timestamp()

    def _sync_volume(self, name: str) -> None:
        """Say whether a volume is free; remove or keep one whose claim is gone."""
        volume = self.api.find(_VOLUMES, "", name)
        if volume is None:
            return
        reference = volume["spec"].get("claimRef")
        if "deletionTimestamp" in volume["metadata"]:
            if (volume.get("status") or {}).get("phase") != "Bound":
                self.api.change(_VOLUMES, "", name, lambda found: _free(found, _VOLUME_PROTECTION))
            return
        if _VOLUME_PROTECTION not in (volume["metadata"].get("finalizers") or ()):
            self.api.change(_VOLUMES, "", name, lambda obj: _hold(obj, _VOLUME_PROTECTION))
        if reference is None or not reference.get("uid"):
            self.api.change(
                _VOLUMES, "", name, lambda found: self._phase(found, "Available"), "status"
            )
            return
        claim = self.api.find(_CLAIMS, reference["namespace"], reference["name"])
        if claim is not None and claim["metadata"]["uid"] == reference["uid"]:
            return
        self.api.change(_VOLUMES, "", name, lambda found: self._phase(found, "Released"), "status")
        provisioned = (volume["metadata"].get("annotations") or {}).get(_PROVISIONED_BY)
        if (
            volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
            and provisioned == _PROVISIONER
        ):
            self.api.delete(_VOLUMES, "", name)


def _hold(obj: Object, finalizer: str) -> None:
    """Keep an object from going while it is in use."""
    obj["metadata"].setdefault("finalizers", []).append(finalizer)


def _free(obj: Object, finalizer: str) -> None:
    """Let an object go that nothing uses any longer."""
    kept = [each for each in obj["metadata"].get("finalizers") or () if each != finalizer]
    if kept:
        obj["metadata"]["finalizers"] = kept
    else:
        obj["metadata"].pop("finalizers", None)
