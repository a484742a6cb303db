"""ResourceClaims of pods: made from templates, released and deallocated when pods are done.

The rules and events are those of ``pkg/controller/resourceclaim`` of 1.36.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable

from mlk8s.sim.api import Api
from mlk8s.sim.controllers.base import owner_reference
from mlk8s.sim.events import Recorder
from mlk8s.sim.runtime import Component
from mlk8s.sim.status import Object, StatusError, not_found
from mlk8s.sim.store import Change

CLAIMS = "resourceclaims.resource.k8s.io"
TEMPLATES = "resourceclaimtemplates.resource.k8s.io"
FINALIZER = "resource.kubernetes.io/delete-protection"
ANNOTATION = "resource.kubernetes.io/pod-claim-name"
# Room for a hyphen and five random characters in a name of 63.
_MAX_BASE = 57


class ResourceClaims(Component):
    """Keys are ``("pod" | "claim", namespace, name)``.

    Args:
        api: the cluster.
        recorder: where its events go.
    """

    def __init__(self, api: Api, recorder: Recorder) -> None:
        super().__init__(api)
        self._recorder = recorder
        # (namespace, claim) → names of the pods that use it, and back.
        self._pods: dict[tuple[str, str], set[str]] = {}
        self._claims: dict[tuple[str, str], set[str]] = {}

    def start(self) -> None:
        """Look at what exists already."""
        store = self.api.store
        for key in ("pods", CLAIMS):
            for (namespace, name), raw in zip(store.keys(key), store.raws(key), strict=True):
                change = Change("ADDED", key, namespace, name, store.revision, raw, None)
                for found in self.keys(change):
                    self.enqueue(found)

    def keys(self, change: Change) -> Iterable[Hashable]:
        """Pods with claims, their claims once they are done, and the pods of a changed claim."""
        if change.key == "pods":
            return self._pod_keys(change)
        if change.key != CLAIMS:
            return ()
        where = (change.namespace, change.name)
        found: list[Hashable] = [
            ("pod", change.namespace, name) for name in self._pods.get(where, ())
        ]
        if change.type != "DELETED":
            found.append(("claim", *where))
        return found

    def _pod_keys(self, change: Change) -> list[Hashable]:
        pod, namespace = change.object, change.namespace
        status = pod.get("status") or {}
        if not pod["spec"].get("resourceClaims") and not status.get("extendedResourceClaimStatus"):
            return []
        gone = change.type == "DELETED"
        names = claim_names(pod)
        self._index(namespace, change.name, set() if gone else names)
        found: list[Hashable] = []
        if gone or _done(pod):
            found += [("claim", namespace, name) for name in sorted(names)]
        if not gone and "deletionTimestamp" not in pod["metadata"]:
            found.append(("pod", namespace, change.name))
        return found

    def _index(self, namespace: str, pod: str, names: set[str]) -> None:
        before = self._claims.pop((namespace, pod), set())
        for name in before - names:
            users = self._pods[namespace, name]
            users.discard(pod)
            if not users:
                del self._pods[namespace, name]
        for name in names - before:
            self._pods.setdefault((namespace, name), set()).add(pod)
        if names:
            self._claims[namespace, pod] = names

    def reconcile(self, key: Hashable) -> None:
        """Make the claims of a pod, or see whether a claim is still used.

        Raises:
            StatusError: a claim cannot be made; an event says why.
        """
        assert isinstance(key, tuple)
        kind, namespace, name = key
        if kind == "pod":
            self._sync_pod(namespace, name)
        else:
            self._sync_claim(namespace, name)

    # -- pods ------------------------------------------------------------------------------------

    def _sync_pod(self, namespace: str, name: str) -> None:
        pod = self.api.find("pods", namespace, name)
        if pod is None or "deletionTimestamp" in pod["metadata"] or _done(pod):
            return
        made: dict[str, str] = {}
        for entry in pod["spec"].get("resourceClaims") or ():
            try:
                self._make(pod, entry, made)
            except StatusError as error:
                message = f"PodResourceClaim {entry['name']}: {error}"
                self._recorder.event(
                    pod, "Warning", "FailedResourceClaimCreation", message, "resource_claim"
                )
                raise
        if made:
            self.api.change("pods", namespace, name, lambda found: _enter(found, made), "status")
        if pod["spec"].get("nodeName"):
            self._reserve(pod)

    def _make(self, pod: Object, entry: Object, made: dict[str, str]) -> None:
        """Make the claim of one entry, unless it is there."""
        template_name = entry.get("resourceClaimTemplateName")
        if template_name is None:
            return
        metadata = pod["metadata"]
        namespace, uid = metadata["namespace"], metadata["uid"]
        for status in (pod.get("status") or {}).get("resourceClaimStatuses") or ():
            if status["name"] != entry["name"]:
                continue
            name = status.get("resourceClaimName")
            if not name:
                return
            claim = self.api.find(CLAIMS, namespace, name)
            if claim is not None and _owner_uid(claim) == uid:
                return
        claim = self._orphan(uid, entry["name"]) or self._create(pod, entry["name"], template_name)
        made[entry["name"]] = claim["metadata"]["name"]

    def _orphan(self, uid: str, entry: str) -> Object | None:
        """A claim that was made, but did not get into the pod's status."""
        for key, namespace, name in self.api.store.owned(uid):
            if key != CLAIMS or (claim := self.api.find(key, namespace, name)) is None:
                continue
            if (claim["metadata"].get("annotations") or {}).get(ANNOTATION) == entry:
                return claim
        return None

    def _create(self, pod: Object, entry: str, template_name: str) -> Object:
        metadata = pod["metadata"]
        namespace = metadata["namespace"]
        template = self.api.find(TEMPLATES, namespace, template_name)
        if template is None:
            missing = not_found("resourceclaimtemplate", "resource.k8s.io", template_name)
            missing.args = (f'resource claim template "{template_name}": {missing.message}',)
            raise missing
        given = template["spec"].get("metadata") or {}
        made: Object = {
            "generateName": _base(metadata["name"], entry),
            "annotations": {**(given.get("annotations") or {}), ANNOTATION: entry},
            "ownerReferences": [owner_reference(pod)],
        }
        if given.get("labels"):
            made["labels"] = dict(given["labels"])
        claim = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": made,
            "spec": copy.deepcopy(template["spec"]["spec"]),
        }
        try:
            return self.api.create(CLAIMS, claim, namespace)
        except StatusError as error:
            error.args = (f"create ResourceClaim : {error}",)
            raise

    def _reserve(self, pod: Object) -> None:
        """Enter a pod that was bound by hand into its allocated claims."""
        metadata = pod["metadata"]
        user = {"resource": "pods", "name": metadata["name"], "uid": metadata["uid"]}
        for name in claim_names(pod):
            claim = self.api.find(CLAIMS, metadata["namespace"], name)
            status = (claim or {}).get("status") or {}
            users = status.get("reservedFor") or []
            if "allocation" not in status or any(each["uid"] == user["uid"] for each in users):
                continue

            def enter(found: Object) -> None:
                found["status"].setdefault("reservedFor", []).append(user)

            self.api.change(CLAIMS, metadata["namespace"], name, enter, "status")

    # -- claims ----------------------------------------------------------------------------------

    def _sync_claim(self, namespace: str, name: str) -> None:
        claim = self.api.find(CLAIMS, namespace, name)
        if claim is None:
            return
        status = claim.get("status") or {}
        users = status.get("reservedFor") or []
        left = [user for user in users if self._uses(namespace, user)]
        protected = FINALIZER in (claim["metadata"].get("finalizers") or ())
        leaving = "deletionTimestamp" in claim["metadata"]
        if len(left) < len(users) or (protected and leaving and not left):
            drop = protected and not left

            def update(found: Object) -> None:
                _set_users(found["status"], left, drop)

            if status:
                self.api.change(CLAIMS, namespace, name, update, "status")
            if drop:
                self.api.change(CLAIMS, namespace, name, _unprotect)
        if not left:
            self._delete_if_orphaned(namespace, name)

    def _uses(self, namespace: str, user: Object) -> bool:
        if user.get("apiGroup") or user["resource"] != "pods":
            return True
        pod = self.api.find("pods", namespace, user["name"])
        return pod is not None and pod["metadata"]["uid"] == user["uid"] and not _done(pod)

    def _delete_if_orphaned(self, namespace: str, name: str) -> None:
        """Delete a claim that was made for a pod which does not need it any more."""
        claim = self.api.find(CLAIMS, namespace, name)
        if claim is None or "deletionTimestamp" in claim["metadata"]:
            return
        for owner in claim["metadata"].get("ownerReferences") or ():
            if owner["kind"] != "Pod" or not owner.get("controller"):
                continue
            pod = self.api.find("pods", namespace, owner["name"])
            if pod is not None and (pod["metadata"]["uid"] != owner["uid"] or _done(pod)):
                self.api.delete(CLAIMS, namespace, name)


def claim_names(pod: Object) -> set[str]:
    """The claims that a pod uses, as far as they are known."""
    status = pod.get("status") or {}
    names = {
        entry["resourceClaimName"]
        for entries in (pod["spec"].get("resourceClaims"), status.get("resourceClaimStatuses"))
        for entry in entries or ()
        if entry.get("resourceClaimName")
    }
    if special := status.get("extendedResourceClaimStatus"):
        names.add(special["resourceClaimName"])
    return names


def _done(pod: Object) -> bool:
    """Whether a pod will not run (any more)."""
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return True
    return "deletionTimestamp" in pod["metadata"] and not pod["spec"].get("nodeName")


def _owner_uid(claim: Object) -> str:
    for owner in claim["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner["uid"])
    return ""


def _enter(pod: Object, made: dict[str, str]) -> None:
    statuses = pod.setdefault("status", {}).setdefault("resourceClaimStatuses", [])
    statuses[:] = [each for each in statuses if each["name"] not in made]
    statuses += [{"name": entry, "resourceClaimName": name} for entry, name in made.items()]


def _set_users(status: Object, users: list[Object], deallocate: bool) -> None:
    if users:
        status["reservedFor"] = users
    else:
        status.pop("reservedFor", None)
    if deallocate:
        status.pop("allocation", None)


def _unprotect(claim: Object) -> None:
    left = [name for name in claim["metadata"].get("finalizers") or () if name != FINALIZER]
    claim["metadata"].pop("finalizers", None)
    if left:
        claim["metadata"]["finalizers"] = left


def _base(pod: str, entry: str) -> str:
    """``<pod>-<entry>-``; both are shortened in proportion when it would be too long."""
    base = f"{pod}-{entry}-"
    if len(base) <= _MAX_BASE:
        return base
    return (
        f"{pod[: len(pod) * _MAX_BASE // len(base)]}-{entry[: len(entry) * _MAX_BASE // len(base)]}"
    )
