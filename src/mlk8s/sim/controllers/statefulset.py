"""StatefulSets: pods with a name and volumes of their own, made and replaced in order.

Source of the rules: pkg/controller/statefulset/stateful_set_control.go.
"""

from __future__ import annotations

import copy

from mlk8s.sim.api import DeleteOptions
from mlk8s.sim.controllers import revisions
from mlk8s.sim.controllers.base import (
    BURST,
    Workload,
    namespace_ends,
    owner_reference,
    pod_of,
    put,
    scaled,
)
from mlk8s.sim.controllers.pods import PodFacts
from mlk8s.sim.status import Object, StatusError

_CLAIMS = "persistentvolumeclaims"
_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
_INDEX_LABEL = "apps.kubernetes.io/pod-index"


def ordinal(stateful_set: Object, name: str) -> int:
    """The number that ends a pod's name, or -1 when the set cannot have made it."""
    parent, _, number = name.rpartition("-")
    return int(number) if parent == stateful_set["metadata"]["name"] and number.isdigit() else -1


class StatefulSets(Workload):
    """The StatefulSet controller."""

    name = "statefulset-controller"
    resource = "statefulsets.apps"
    kind = "StatefulSet"
    watch = ("statefulsets.apps", "pods")

    def sync(self, namespace: str, name: str) -> None:
        """Take the next step towards the pods that should be, and report."""
        found = self.api.find(self.resource, namespace, name)
        if found is None:
            return
        pods = {
            ordinal(found, pod.name): pod
            for pod in self.claim(found, self.selector(found))
            if ordinal(found, pod.name) >= 0
        }
        if "deletionTimestamp" in found["metadata"]:
            return
        known = revisions.listed(self.api, found)
        labels = (found["spec"]["template"].get("metadata") or {}).get("labels") or {}
        update = revisions.current(self.api, found, known, dict(labels))
        update_name = update["metadata"]["name"]
        current_name = (found.get("status") or {}).get("currentRevision") or update_name
        current = next((r for r in known if r["metadata"]["name"] == current_name), update)
        failure = None
        try:
            self._step(found, pods, current, update)
        except StatusError as error:
            failure = None if namespace_ends(error) else error
        self._report(found, current, update)
        used = {update_name, current["metadata"]["name"]}
        used |= {pod.labels.get(revisions.HASH_LABEL, "") for pod in pods.values()}
        revisions.trim(self.api, known, used, found["spec"].get("revisionHistoryLimit", 10))
        if failure is not None:
            raise failure

    # -- steps -----------------------------------------------------------------------------------

    def _step(
        self, found: Object, pods: dict[int, PodFacts], current: Object, update: Object
    ) -> None:
        spec = found["spec"]
        first = (spec.get("ordinals") or {}).get("start", 0)
        wanted = range(first, first + spec.get("replicas", 1))
        in_order = spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
        made = 0
        for number in wanted:
            pod = pods.get(number)
            if pod is not None and pod.finished and not pod.deleting:
                self._tell_recreated(found, pod)
                self._delete(found, pod)
                pod = self.pods.get(pod.namespace, pod.name)
                if pod is not None:
                    if in_order:
                        return
                    continue
            if pod is None:
                self._create(found, number, self._revision_for(found, number, current, update))
                made += 1
                if in_order:
                    return
                if made >= BURST:
                    self.enqueue((found["metadata"]["namespace"], found["metadata"]["name"]))
                    return
            elif in_order and (pod.deleting or not self._healthy(found, pod)):
                return
        surplus = sorted((n for n in pods if n not in wanted), reverse=True)
        for number in surplus:
            pod = pods[number]
            if pod.deleting:
                if in_order:
                    return
                continue
            self._delete(found, pod)
            if in_order:
                return
        self._update(found, pods, wanted, update)

    def _update(
        self, found: Object, pods: dict[int, PodFacts], wanted: range, update: Object
    ) -> None:
        """Replace outdated pods from the last to the partition, while those behind are healthy."""
        strategy = found["spec"].get("updateStrategy") or {}
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            return
        told = strategy.get("rollingUpdate") or {}
        allowed = max(scaled(told.get("maxUnavailable", 1), len(wanted), round_up=True), 1)
        suffix = _hash(update)
        down = sum(
            1
            for n in wanted
            if n not in pods or pods[n].deleting or not self._healthy(found, pods[n])
        )
        for number in sorted((n for n in pods if n in wanted), reverse=True):
            if number - wanted.start < told.get("partition", 0):
                return
            pod = pods[number]
            outdated = pod.labels.get(revisions.HASH_LABEL) != suffix
            healthy = not pod.deleting and self._healthy(found, pod)
            if outdated and not pod.deleting:
                if healthy and down >= allowed:
                    return
                self._delete(found, pod)
                down += healthy
                if down >= allowed:
                    return
            elif not healthy and down >= allowed:
                return

    def _healthy(self, found: Object, pod: PodFacts) -> bool:
        ready_seconds = found["spec"].get("minReadySeconds", 0)
        if not (pod.ready and pod.phase == "Running"):
            return False
        left = pod.ready_since + ready_seconds - self.now
        if left > 0:
            metadata = found["metadata"]
            self.enqueue((metadata["namespace"], metadata["name"]), left)
        return bool(left <= 0)

    def _revision_for(self, found: Object, number: int, current: Object, update: Object) -> Object:
        """A new pod below the partition has the revision that the others there have."""
        strategy = found["spec"].get("updateStrategy") or {}
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            return (
                update
                if number >= (found.get("status") or {}).get("currentReplicas", 0)
                else current
            )
        partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
        first = (found["spec"].get("ordinals") or {}).get("start", 0)
        status = found.get("status") or {}
        if number < first + (partition or status.get("currentReplicas", 0)):
            return current
        return update

    def _create(self, found: Object, number: int, revision: Object) -> None:
        metadata = found["metadata"]
        template = copy.deepcopy(revision["data"]["spec"]["template"])
        template.pop("$patch", None)
        pod = pod_of(template, found)
        name = f"{metadata['name']}-{number}"
        pod["metadata"]["name"] = name
        labels = pod["metadata"].setdefault("labels", {})
        labels[_NAME_LABEL], labels[_INDEX_LABEL] = name, str(number)
        labels[revisions.HASH_LABEL] = _hash(revision)
        pod["spec"]["hostname"] = name
        if found["spec"].get("serviceName"):
            pod["spec"]["subdomain"] = found["spec"]["serviceName"]
        try:
            self._volumes(found, pod)
            self.api.create("pods", pod, metadata["namespace"])
        except StatusError as error:
            if error.reason == "AlreadyExists":
                return
            message = f"create Pod {name} in StatefulSet {metadata['name']} failed error: "
            self.event(found, "Warning", "FailedCreate", message + error.message)
            raise
        message = f"create Pod {name} in StatefulSet {metadata['name']} successful"
        self.event(found, "Normal", "SuccessfulCreate", message)

    def _volumes(self, found: Object, pod: Object) -> None:
        """Make the pod's claims that do not exist, and mount them in place of the templates'."""
        metadata, name = found["metadata"], pod["metadata"]["name"]
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
        for template in found["spec"].get("volumeClaimTemplates") or ():
            short = template["metadata"]["name"]
            claim_name = f"{short}-{name}"
            volumes[short] = {"name": short, "persistentVolumeClaim": {"claimName": claim_name}}
            if self.api.find(_CLAIMS, metadata["namespace"], claim_name) is not None:
                continue
            claim = copy.deepcopy(template)
            claim |= {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
            claim.pop("status", None)
            claim["metadata"] = {
                **{k: v for k, v in template["metadata"].items() if k in ("labels", "annotations")},
                "name": claim_name,
                "namespace": metadata["namespace"],
            }
            labels = claim["metadata"].setdefault("labels", {})
            labels |= (found["spec"].get("selector") or {}).get("matchLabels") or {}
            policy = found["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
            if policy.get("whenDeleted") == "Delete":
                claim["metadata"]["ownerReferences"] = [owner_reference(found)]
            try:
                self.api.create(_CLAIMS, claim, metadata["namespace"])
            except StatusError as error:
                message = (
                    f"create Claim {claim_name} for Pod {name} in StatefulSet "
                    f"{metadata['name']} failed error: {error.message}"
                )
                self.event(found, "Warning", "FailedCreate", message)
                raise
            message = (
                f"create Claim {claim_name} Pod {name} in StatefulSet {metadata['name']} success"
            )
            self.event(found, "Normal", "SuccessfulCreate", message)
        if volumes:
            pod["spec"]["volumes"] = list(volumes.values())

    def _tell_recreated(self, found: Object, pod: PodFacts) -> None:
        failed = pod.phase == "Failed"
        message = f"is recreating {'failed' if failed else 'terminated'} Pod {pod.name}"
        reason = "RecreatingFailedPod" if failed else "RecreatingTerminatedPod"
        type = "Warning" if failed else "Normal"
        self.event(found, type, reason, f"StatefulSet {_path(found)} {message}")

    def _delete(self, found: Object, pod: PodFacts) -> None:
        self.api.delete("pods", pod.namespace, pod.name, DeleteOptions(uid=pod.uid))
        message = f"delete Pod {pod.name} in StatefulSet {found['metadata']['name']} successful"
        self.event(found, "Normal", "SuccessfulDelete", message)
        policy = found["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
        if policy.get("whenScaled") == "Delete" and ordinal(found, pod.name) >= found["spec"].get(
            "replicas", 1
        ):
            self._delete_claims(found, pod)

    def _delete_claims(self, found: Object, pod: PodFacts) -> None:
        for template in found["spec"].get("volumeClaimTemplates") or ():
            name = f"{template['metadata']['name']}-{pod.name}"
            if self.api.find(_CLAIMS, pod.namespace, name) is not None:
                self.api.delete(_CLAIMS, pod.namespace, name)

    # -- status ----------------------------------------------------------------------------------

    def _report(self, found: Object, current: Object, update: Object) -> None:
        pods = [
            pod
            for pod in self.pods.of(found["metadata"]["uid"])
            if ordinal(found, pod.name) >= 0 and not pod.finished
        ]
        live = [pod for pod in pods if not pod.deleting]
        wanted = found["spec"].get("replicas", 1)
        updated = [pod for pod in live if pod.labels.get(revisions.HASH_LABEL) == _hash(update)]
        old = [pod for pod in live if pod.labels.get(revisions.HASH_LABEL) == _hash(current)]
        ready = [pod for pod in pods if pod.ready and pod.phase == "Running"]
        available = [pod for pod in ready if self._healthy(found, pod)]

        def mutate(status: Object) -> None:
            status["replicas"] = len(pods)
            status["availableReplicas"] = len(available)
            put(
                status,
                readyReplicas=len(ready),
                currentReplicas=len(old),
                updatedReplicas=len(updated),
            )
            status["observedGeneration"] = found["metadata"].get("generation", 1)
            status["currentRevision"] = current["metadata"]["name"]
            status["updateRevision"] = update["metadata"]["name"]
            status.setdefault("collisionCount", 0)
            if len(updated) == wanted == len(ready) == len(pods):
                # The update is over: what was new is what is.
                status["currentRevision"] = update["metadata"]["name"]
                put(status, currentReplicas=len(updated))

        self.write_status(found, mutate)


def _hash(revision: Object) -> str:
    """A StatefulSet's pods carry the whole name of their revision."""
    name: str = revision["metadata"]["name"]
    return name


def _path(found: Object) -> str:
    return f"{found['metadata']['namespace']}/{found['metadata']['name']}"
