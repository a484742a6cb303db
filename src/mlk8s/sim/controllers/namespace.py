"""Namespaces: what each one starts with, and how one that is deleted is emptied.

Source of the rules: pkg/controller/namespace/deletion/namespaced_resources_deleter.go,
status_condition_utils.go; pods go first (KEP-5080).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable

import orjson

from mlk8s.sim.api import Api, DeleteOptions
from mlk8s.sim.controllers.base import Controller, find_condition
from mlk8s.sim.controllers.pods import PodIndex
from mlk8s.sim.events import Recorder
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

_ROOT_CA = "kube-root-ca.crt"
_ROOT_CA_NOTE = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal "
    "endpoints such as the internal service IP or kubernetes.default.svc. No other usage is "
    "guaranteed across distributions of Kubernetes clusters."
)
# Objects deleted in one turn.
_BURST = 100


class Namespaces(Controller):
    """The namespace controller, with those of the root CA's ConfigMap and of service accounts.

    Args:
        api: the cluster.
        recorder: where its events go.
        pods: the facts of all pods.
        root_ca: the certificates, as PEM, by which clients know the server.
    """

    name = "namespace-controller"
    watch = ("namespaces",)

    def __init__(self, api: Api, recorder: Recorder, pods: PodIndex, root_ca: str = "") -> None:
        super().__init__(api, recorder, pods)
        self._root_ca = root_ca

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The namespace, or that of an object which was removed from it."""
        if change.key == "namespaces":
            return (("", change.name),) if change.type != "DELETED" else ()
        if change.type == "DELETED" and change.namespace:
            raw = self.api.store.raw("namespaces", "", change.namespace)
            if raw is None:
                return ()
            if b'"deletionTimestamp"' in raw:
                # Many objects go: what is left is counted now and then.
                left = self.api.store.count(change.key, change.namespace)
                self.enqueue(("", change.namespace), min(left / 1000, 1.0))
            elif (change.key, change.name) in (
                ("configmaps", _ROOT_CA),
                ("serviceaccounts", "default"),
            ):
                return (("", change.namespace),)
        return ()

    def sync(self, namespace: str, name: str) -> None:
        """Furnish a namespace, or empty it."""
        found = self.api.find("namespaces", "", name)
        if found is None:
            return
        if "deletionTimestamp" in found["metadata"]:
            self._empty(found)
            return
        if self.api.store.raw("configmaps", name, _ROOT_CA) is None:
            metadata = {
                "name": _ROOT_CA,
                "annotations": {"kubernetes.io/description": _ROOT_CA_NOTE},
            }
            config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
            self.api.create("configmaps", config | {"data": {"ca.crt": self._root_ca}}, name)
        if self.api.store.raw("serviceaccounts", name, "default") is None:
            account = {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "default"},
            }
            self.api.create("serviceaccounts", account, name)

    def _empty(self, found: Object) -> None:
        name = found["metadata"]["name"]
        failures: list[str] = []
        left: Counter[str] = Counter()
        finalizers: Counter[str] = Counter()
        burst = _BURST
        keys = sorted({(r.plural, r.group) for r in self.api.registry if r.namespaced})
        # Pods first, so that what protects them (policies, budgets) outlives them.
        for plural, group in sorted(keys, key=lambda each: each != ("pods", "")):
            key = f"{plural}.{group}" if group else plural
            for where in self.api.store.keys(key, name):
                burst -= self._delete(key, *where, failures) if burst else 0
                raw = self.api.store.raw(key, *where)
                if raw is not None:
                    left[f"{plural}.{group}"] += 1
                    finalizers.update(orjson.loads(raw)["metadata"].get("finalizers") or ())
            if (plural, group) == ("pods", "") and left:
                break
        if not burst:
            self.enqueue(("", name))
        if left or failures:
            self._report(found, failures, left, finalizers)
            # What is held by a finalizer or by grace is looked at again, also without a change.
            self.enqueue(("", name), 5.0)
            return
        self._finalize(name)

    def _delete(self, key: str, namespace: str, name: str, failures: list[str]) -> int:
        """Delete one object; gives how many requests that took."""
        raw = self.api.store.raw(key, namespace, name)
        if raw is None or "deletionTimestamp" in orjson.loads(raw)["metadata"]:
            return 0
        try:
            self.api.delete(key, namespace, name, DeleteOptions(propagation="Background"))
        except StatusError as error:
            if error.code != 404:
                failures.append(error.message)
        return 1

    def _report(
        self, found: Object, failures: list[str], left: Counter[str], finalizers: Counter[str]
    ) -> None:
        def listed(counts: Counter[str], word: str) -> str:
            return ", ".join(
                f"{what} {word} {n} resource instances" for what, n in sorted(counts.items())
            )

        rows = [
            (
                "NamespaceDeletionDiscoveryFailure",
                "False",
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                "False",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
            (
                "NamespaceDeletionContentFailure",
                "True" if failures else "False",
                "ContentDeletionFailed" if failures else "ContentDeleted",
                f"Failed to delete all resource types, {len(failures)} remaining: "
                + ", ".join(failures)
                if failures
                else "All content successfully deleted, may be waiting on finalization",
            ),
            (
                "NamespaceContentRemaining",
                "True" if left else "False",
                "SomeResourcesRemain" if left else "ContentRemoved",
                f"Some resources are remaining: {listed(left, 'has')}"
                if left
                else "All content successfully removed",
            ),
            (
                "NamespaceFinalizersRemaining",
                "True" if finalizers else "False",
                "SomeFinalizersRemain" if finalizers else "ContentHasNoFinalizers",
                f"Some content in the namespace has finalizers remaining: "
                f"{listed(finalizers, 'in')}"
                if finalizers
                else "All content-preserving finalizers finished",
            ),
        ]
        status = found.setdefault("status", {})
        changed = False
        for type, value, reason, message in rows:
            known = find_condition(status, type)
            if known is not None and (known["status"], known["message"]) == (value, message):
                continue
            changed = True
            moment = self.api.timestamp()
            if known is not None and known["status"] == value:
                moment = known["lastTransitionTime"]
            condition = {"type": type, "status": value, "lastTransitionTime": moment}
            condition |= {"reason": reason, "message": message}
            if known is None:
                status.setdefault("conditions", []).append(condition)
            else:
                known.clear()
                known.update(condition)
        if changed:
            # Not through the API: there, a write to an object whose deletion nothing holds ends it.
            self.api.store.write("namespaces", found)

    def _finalize(self, name: str) -> None:
        """Give up the finalizer ``kubernetes``; with the last one the namespace goes."""
        found = self.api.find("namespaces", "", name)
        if found is None:
            return
        spec = found.setdefault("spec", {})
        left = [each for each in spec.get("finalizers") or () if each != "kubernetes"]
        if spec.get("finalizers") != (left or None):
            spec["finalizers"] = left
            if not left:
                del spec["finalizers"]
            self.api.store.write("namespaces", found)
        if not left and not found["metadata"].get("finalizers"):
            self.api.store.remove("namespaces", "", name)
