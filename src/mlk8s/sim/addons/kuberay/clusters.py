"""RayClusters: each gets its head, its workers and a Service, and reports what becomes of them.

The rules and texts are those of KubeRay v1.7.0:
``ray-operator/controllers/ray/raycluster_controller.go``.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import secrets
from collections.abc import Hashable, Iterable

import orjson

from mlk8s.sim.addons.base import Setting
from mlk8s.sim.addons.kuberay import autoscaler, names, pods, services, status, validation
from mlk8s.sim.addons.objects import holds, owner_keys, write_status
from mlk8s.sim.api import Request
from mlk8s.sim.controllers.base import Controller, owner_reference
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

_OWNED = ("pods", "services", "secrets")
_RETRY_S = 2.0
# What changes of a spec make no other cluster of it.
_UNHASHED = ("replicas", "minReplicas", "maxReplicas")


class Unfinished(Exception):
    """One turn is not enough; why, and which of its conditions says so.

    Args:
        reason: of the condition ``ReplicaFailure``; empty where it does not tell.
        message: the operator's.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


def spec_hash(spec: Object) -> str:
    """A hash of a cluster's spec without what may change while it runs."""
    told = copy.deepcopy(spec)
    told.pop("upgradeStrategy", None)
    groups = told.get("workerGroupSpecs") or []
    for group in (told["headGroupSpec"], *groups):
        for part in ("tolerations", "schedulingGates"):
            group["template"]["spec"].pop(part, None)
    for group in groups:
        for part in _UNHASHED:
            group.pop(part, None)
        (group.get("scaleStrategy") or {}).pop("workersToDelete", None)
    text = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    return base64.b32hexencode(hashlib.sha1(text, usedforsecurity=False).digest()).decode()


class RayClusters(Controller):
    """The RayCluster controller."""

    name = names.CLUSTER_CONTROLLER
    watch = (names.CLUSTERS,)

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting.api, setting.recorder, setting.pods)

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The RayCluster, or the RayCluster of what it owns."""
        if change.key == names.CLUSTERS:
            return ((change.namespace, change.name),)
        return owner_keys(change, names.CLUSTER_KIND) if change.key in _OWNED else ()

    def sync(self, namespace: str, name: str) -> None:
        """Bring the pods of a cluster to where they should be, and report.

        Raises:
            StatusError: something cannot be made; an event has told of it.
        """
        cluster = self.api.find(names.CLUSTERS, namespace, name)
        if cluster is None or "deletionTimestamp" in cluster["metadata"]:
            return
        if cluster["spec"].get("managedBy", names.OPERATOR) != names.OPERATOR:
            return
        if self._is_wrong(cluster):
            return
        failure, refused = ("", ""), None
        service = None
        try:
            self._provide_access(cluster)
            self._provide_token(cluster)
            service = self._provide_service(cluster)
            self._provide_pods(cluster)
        except Unfinished as error:
            failure = (error.reason, error.message)
        except StatusError as error:
            failure, refused = ("", error.message), error
        self._report(cluster, service, failure)
        if refused is not None:
            raise refused
        if failure[1]:
            self.enqueue((namespace, name), _RETRY_S)

    def _is_wrong(self, cluster: Object) -> bool:
        metadata = cluster["metadata"]
        where = f"{metadata['namespace']}/{metadata['name']}"
        for part, reason, mistake in (
            (
                "metadata",
                "InvalidRayClusterMetadata",
                validation.metadata_mistake(names.CLUSTER_KIND, metadata),
            ),
            ("spec", "InvalidRayClusterSpec", validation.cluster_mistake(cluster["spec"])),
            ("UpgradeStrategy", "InvalidRayClusterSpec", validation.upgrade_mistake(cluster)),
        ):
            if mistake:
                text = f"The RayCluster {part} is invalid {where}: {mistake}"
                self.event(cluster, "Warning", reason, text)
                return True
        return False

    def _report(self, cluster: Object, service: Object | None, failure: tuple[str, str]) -> None:
        now, before = self.api.timestamp(), cluster.get("status") or {}
        found = status.calculate(cluster, self._pods(cluster), service, failure, now)
        if status.stamp(found, before, now):
            write_status(self.api, names.CLUSTERS, cluster, found)
            # Suspending takes a turn of its own after its condition.
            self.enqueue((cluster["metadata"]["namespace"], cluster["metadata"]["name"]))

    # -- what a cluster has ----------------------------------------------------------------------

    def _provide_access(self, cluster: Object) -> None:
        """Make what an autoscaler acts as, where one is wanted; an account may be there."""
        if not autoscaler.is_wanted(cluster["spec"]):
            return
        namespace = cluster["metadata"]["namespace"]
        for key, made in autoscaler.access(cluster):
            if self.api.store.raw(key, namespace, made["metadata"]["name"]) is None:
                self.api.create(key, made, namespace, Request())

    def _provide_token(self, cluster: Object) -> None:
        """Make the Secret with a token, unless somebody else provides it."""
        metadata, options = cluster["metadata"], cluster["spec"].get("authOptions") or {}
        if options.get("mode") != "token" or options.get("secretName"):
            return
        name = names.checked(metadata["name"])
        if self.api.store.raw("secrets", metadata["namespace"], name) is not None:
            return
        token = base64.b64encode(secrets.token_bytes(32))
        made: Object = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "labels": {names.CLUSTER_LABEL: metadata["name"]},
                "ownerReferences": [owner_reference(cluster)],
            },
            "type": "Opaque",
            "data": {names.TOKEN_KEY: base64.b64encode(token).decode()},
        }
        self.api.create("secrets", made, metadata["namespace"])

    def _provide_service(self, cluster: Object) -> Object:
        made = services.head_service(cluster)
        where = (made["metadata"]["namespace"], made["metadata"]["name"])
        found = self.api.find("services", *where)
        if found is not None:
            return found
        try:
            created = self.api.create("services", made, where[0], Request())
        except StatusError as error:
            text = f"Failed to create service {'/'.join(where)}, {error.message}"
            self.event(cluster, "Warning", "FailedToCreateService", text)
            raise
        self.event(cluster, "Normal", "CreatedService", f"Created service {'/'.join(where)}")
        return created

    def _pods(self, cluster: Object, group: str = "") -> list[Object]:
        """The pods of a cluster, or of one of its groups, by their names."""
        owned = sorted(self.api.store.owned(cluster["metadata"]["uid"]))
        found = [self.api.get(*each) for each in owned if each[0] == "pods"]
        if not group:
            return found
        return [each for each in found if each["metadata"]["labels"].get(names.NODE_GROUP) == group]

    def _provide_pods(self, cluster: Object) -> None:
        said = cluster.get("status") or {}
        if holds(said, status.SUSPENDING):
            self._delete_all(self._pods(cluster))
            text = f"Deleted Pods for RayCluster {_where(cluster)} due to suspension"
            self.event(cluster, "Normal", "DeletedPod", text)
            return
        if holds(said, status.SUSPENDED) or cluster["spec"].get("suspend"):
            return
        wanted = spec_hash(cluster["spec"])
        if self._recreates(cluster, wanted):
            return
        self._provide_head(cluster, wanted)
        for group in cluster["spec"].get("workerGroupSpecs") or ():
            self._provide_workers(cluster, group)

    def _recreates(self, cluster: Object, wanted: str) -> bool:
        """Delete all pods of a cluster that is to follow a changed spec; says whether it did."""
        if (cluster["spec"].get("upgradeStrategy") or {}).get("type") != "Recreate":
            return False
        found = self._pods(cluster)
        heads = [each for each in found if _is_head(each)]
        known = [each["metadata"]["annotations"].get(names.RECREATE_HASH) for each in heads]
        if all(each in (None, wanted) for each in known):
            return False
        self._delete_all(found)
        text = f"Deleted all Pods for RayCluster {_where(cluster)} due to spec change with Recreate"
        self.event(cluster, "Normal", "DeletedPod", f"{text} upgradeStrategy")
        return True

    def _provide_head(self, cluster: Object, wanted: str) -> None:
        heads = [each for each in self._pods(cluster) if _is_head(each)]
        if not heads:
            self._create(cluster, pods.head_pod(cluster, wanted), "Head")
        elif len(heads) > 1:
            known = " ".join(each["metadata"]["name"] for each in heads)
            text = f"{len(heads)} head pods found [{known}]. Please delete extra head pods"
            raise Unfinished("", text)
        elif why := _over(heads[0], names.HEAD):
            self._delete_ended(cluster, heads[0], "Head")
            raise Unfinished("", why)

    def _provide_workers(self, cluster: Object, group: Object) -> None:
        name = group["groupName"]
        found = self._pods(cluster, name)
        if group.get("suspend"):
            self._delete_all(found)
            if found:
                text = f"Deleted all pods for suspended worker group {name} in RayCluster "
                self.event(cluster, "Normal", "DeletedWorkerPod", text + _where(cluster))
            return
        ended = [each for each in found if _over(each, names.WORKER)]
        for pod in ended:
            self._delete_ended(cluster, pod, "Worker")
        if ended:
            raise Unfinished("", f"delete {len(ended)} unhealthy worker Pods")
        named = set((group.get("scaleStrategy") or {}).get("workersToDelete") or ())
        for pod in found:
            if pod["metadata"]["name"] in named and _stays(pod):
                self._delete(cluster, pod, "Deleted pod")
        left = [each for each in found if each["metadata"]["name"] not in named]
        missing = status.desired(group) - len(left)
        taken = {int(each["metadata"]["labels"].get(names.REPLICA_INDEX, -1)) for each in left}
        free = (index for index in range(len(taken) + max(missing, 0)) if index not in taken)
        for _, index in zip(range(missing), free, strict=False):
            self._create(cluster, pods.worker_pod(cluster, group, index), "Worker")
        # Under the autoscaler nobody else chooses pods to delete.
        if missing < 0 and not autoscaler.is_wanted(cluster["spec"]):
            for pod in [each for each in left if _stays(each)][: max(0, -missing - _leaving(left))]:
                self._delete(cluster, pod, "Deleted Pod")

    # -- pods ------------------------------------------------------------------------------------

    def _create(self, cluster: Object, pod: Object, kind: str) -> None:
        namespace = cluster["metadata"]["namespace"]
        try:
            # The template is what somebody has written: it is read like a request's body.
            made = self.api.create("pods", pod, namespace, Request())
        except StatusError as error:
            whose = "head Pod" if kind == "Head" else "worker Pod for the cluster"
            text = f"Failed to create {whose} {_where(cluster)}, {error.message}"
            self.event(cluster, "Warning", f"FailedToCreate{kind}Pod", text)
            reason = f"FailedCreate{kind}Pod"
            raise Unfinished(reason, f"{reason}\n{error.message}") from error
        text = f"Created {kind.lower()} Pod {namespace}/{made['metadata']['name']}"
        self.event(cluster, "Normal", f"Created{kind}Pod", text)

    def _delete_all(self, found: list[Object]) -> None:
        for pod in found:
            if _stays(pod):
                metadata = pod["metadata"]
                self.api.delete("pods", metadata["namespace"], metadata["name"])

    def _delete(self, cluster: Object, pod: Object, said: str) -> None:
        self._delete_all([pod])
        text = f"{said} {_where(pod)}"
        self.event(cluster, "Normal", "DeletedWorkerPod", text)

    def _delete_ended(self, cluster: Object, pod: Object, kind: str) -> None:
        if not _stays(pod):
            return
        self._delete_all([pod])
        text = (
            f"Deleted {kind.lower()} Pod {_where(pod)}; Pod status: {pod['status']['phase']}; "
            f"Pod restart policy: {pod['spec']['restartPolicy']}; Ray container terminated status: "
            f"{_told(_terminated(pod))}"
        )
        self.event(cluster, "Normal", f"Deleted{kind}Pod", text)


def _where(obj: Object) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _is_head(pod: Object) -> bool:
    return bool(pod["metadata"]["labels"].get(names.NODE_TYPE) == names.HEAD)


def _stays(pod: Object) -> bool:
    return "deletionTimestamp" not in pod["metadata"]


def _leaving(found: list[Object]) -> int:
    return sum(not _stays(each) for each in found)


def _terminated(pod: Object) -> Object | None:
    """How the Ray container ended, which is the first one, where it has."""
    name = pod["spec"]["containers"][0]["name"]
    for each in (pod.get("status") or {}).get("containerStatuses") or ():
        if each["name"] == name:
            found: Object | None = each["state"].get("terminated")
            return found
    return None


def _told(ended: Object | None) -> str:
    if ended is None:
        return "nil"
    return f"exit code {ended['exitCode']}, {ended.get('reason', '')}"


def _over(pod: Object, node_type: str) -> str:
    """Why a pod is to be deleted because it has ended for good; empty where it has not."""
    phase = (pod.get("status") or {}).get("phase", "")
    name = pod["metadata"]["name"]
    if phase in ("Failed", "Succeeded"):
        return (
            f"The {node_type} Pod {name} status is {phase} which is a terminal state. KubeRay will "
            "delete the Pod and create new Pods in the next reconciliation if necessary."
        )
    ended, policy = _terminated(pod), pod["spec"]["restartPolicy"]
    if phase == "Running" and ended is not None and policy == "Never":
        return (
            f"The Pod status of the {node_type} Pod {name} is {phase}, and the Ray container "
            f"terminated status is {_told(ended)}. The container is unable to restart due to its "
            f"restart policy {policy}, so KubeRay will delete it."
        )
    return ""
