"""RayServices: applications of Ray Serve in a cluster, and a second one while that is replaced.

The rules and texts are those of KubeRay v1.7.0:
``ray-operator/controllers/ray/rayservice_controller.go``.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable
from typing import Any

import yaml

from mlk8s.sim import dial
from mlk8s.sim.addons.base import Setting
from mlk8s.sim.addons.kuberay import conditions, names, services, serving_status, validation
from mlk8s.sim.addons.kuberay.clusters import spec_hash
from mlk8s.sim.addons.kuberay.dashboard import APPLICATIONS, PROXY_HEALTH, Answer, Dashboards
from mlk8s.sim.addons.kuberay.machine import head_paths
from mlk8s.sim.addons.kuberay.status import HEAD_READY
from mlk8s.sim.addons.objects import holds, owner_keys, write_status
from mlk8s.sim.api import DeleteOptions, Request
from mlk8s.sim.controllers.base import Controller, owner_reference
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

_AGAIN_S = 2.0
_DELETION_DELAY_S = 60.0
_OWNED = (names.CLUSTERS, "services")
_ACTIVE, _PENDING = "activeServiceStatus", "pendingServiceStatus"


class RayServices(Controller):
    """The RayService controller.

    Args:
        setting: the cluster.
        dashboards: what heads are asked through.
    """

    name = names.SERVICE_CONTROLLER
    watch = (names.SERVICES,)

    def __init__(self, setting: Setting, dashboards: Dashboards) -> None:
        super().__init__(setting.api, setting.recorder, setting.pods)
        self.dashboards = dashboards
        # By the uid of a cluster and what was asked of it: when, and what it said last.
        self._asked: dict[tuple[str, str], float] = {}
        self._answers: dict[tuple[str, str], Answer] = {}
        # By the uid of a cluster: the configuration that it has been given.
        self._configured: dict[str, str] = {}
        # By the uid of a cluster that is no longer wanted: when it goes.
        self._leaving: dict[str, float] = {}

    def stop(self) -> None:
        """Ask nothing more."""
        self.dashboards.stop()

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The RayService, or the RayService of what it owns."""
        if change.key == names.SERVICES:
            return ((change.namespace, change.name),)
        return owner_keys(change, names.SERVICE_KIND) if change.key in _OWNED else ()

    def sync(self, namespace: str, name: str) -> None:
        """Bring clusters, applications and Services to where they should be, and report.

        Raises:
            StatusError: something cannot be made; an event has told of it.
        """
        service = self.api.find(names.SERVICES, namespace, name)
        if service is None or service["spec"].get("managedBy", names.OPERATOR) != names.OPERATOR:
            return
        dangling = self._clean_up(service)
        if "deletionTimestamp" in service["metadata"]:
            if dangling:
                self.enqueue((namespace, name), _AGAIN_S)
            else:
                self._finalize(service, held=False)
            return
        self._finalize(service, held=True)
        said = service.setdefault("status", {})
        before = copy.deepcopy(said)
        if wrong := self._mistake(service):
            now, generation = self.api.timestamp(), service["metadata"]["generation"]
            condition = (serving_status.READY, "False", "ValidationFailed", wrong)
            conditions.put(said, *condition, now, generation)
        else:
            self._serve(service)
            self.enqueue((namespace, name), _AGAIN_S)
        if serving_status.differs(said, before):
            said["lastUpdateTime"] = self.api.timestamp()
            write_status(self.api, names.SERVICES, service, said)

    def _finalize(self, service: Object, *, held: bool) -> None:
        """Put the finalizer on a service, or take it off."""
        metadata = service["metadata"]
        if held == (names.SERVICE_FINALIZER in (metadata.get("finalizers") or ())):
            return

        def change(found: Object) -> None:
            finalizers = found["metadata"].setdefault("finalizers", [])
            (finalizers.append if held else finalizers.remove)(names.SERVICE_FINALIZER)

        self.api.change(names.SERVICES, metadata["namespace"], metadata["name"], change)

    def _mistake(self, service: Object) -> str:
        metadata = service["metadata"]
        wrong = validation.metadata_mistake(names.SERVICE_KIND, metadata)
        reason = "InvalidRayServiceMetadata" if wrong else "InvalidRayServiceSpec"
        wrong = wrong or validation.service_mistake(service)
        if wrong:
            where = f"{metadata['namespace']}/{metadata['name']}"
            self.event(service, "Warning", reason, f"{where}: {wrong}")
        return wrong

    def _serve(self, service: Object) -> None:
        """One turn for a service that is valid."""
        said = service["status"]
        active, pending = self._clusters(service)
        for cluster in (active, pending):
            if cluster is not None:
                self._label_head(service, cluster)
        # While there is a second cluster, the first one keeps what it serves.
        target = pending
        if target is None and active is not None and not _is_replaced(service, active):
            target = active
        ready, applications = False, None
        if target is not None:
            ready, applications = self._deploy(service, target)
        for part, cluster in ((_ACTIVE, active), (_PENDING, pending)):
            told = said.setdefault(part, {})
            told.pop("applicationStatuses", None)
            told.pop("rayClusterStatus", None)
            if cluster is not None:
                told["rayClusterStatus"] = cluster.get("status") or {}
            if applications and cluster is target:
                told["applicationStatuses"] = applications
        switched = bool(ready and target is not None and self._expose(service, target))
        if switched and target is pending:
            said[_ACTIVE], said[_PENDING] = said[_PENDING], {}
            active, pending = pending, None
        current = pending or active
        if current is None or _is_replaced(service, current):
            prefix = f"{service['metadata']['name']}-"
            said[_PENDING] = {"rayClusterName": prefix + self.api.suffix(prefix)}
        serving_status.conclude(service, self._endpoints(service), self.api.timestamp())

    # -- clusters --------------------------------------------------------------------------------

    def _clusters(self, service: Object) -> tuple[Object | None, Object | None]:
        """The cluster that serves and the one that is to; the latter is made when it is due."""
        namespace, said = service["metadata"]["namespace"], service["status"]
        found = []
        for part in (_ACTIVE, _PENDING):
            name = (said.get(part) or {}).get("rayClusterName", "")
            cluster = self.api.find(names.CLUSTERS, namespace, name) if name else None
            if name and cluster is None and part == _PENDING:
                cluster = self._create(service, name)
            elif cluster is not None and _grows(service, cluster):
                cluster = self._update(service, cluster)
            found.append(cluster)
        return found[0], found[1]

    def _create(self, service: Object, name: str) -> Object:
        namespace = service["metadata"]["namespace"]
        try:
            made = self.api.create(names.CLUSTERS, _cluster(service, name), namespace, Request())
        except StatusError as error:
            text = f"Failed to create the RayCluster {namespace}/{name}: {error.message}"
            self.event(service, "Warning", "FailedToCreateRayCluster", text)
            raise
        text = f"Created the RayCluster {namespace}/{name}"
        self.event(service, "Normal", "CreatedRayCluster", text)
        return made

    def _update(self, service: Object, cluster: Object) -> Object:
        """Give a running cluster the worker groups that have been added."""
        metadata = cluster["metadata"]
        goal = _cluster(service, metadata["name"])

        def change(found: Object) -> None:
            found["spec"] = goal["spec"]
            for part in ("labels", "annotations"):
                found["metadata"][part] = goal["metadata"][part]

        where = (metadata["namespace"], metadata["name"])
        found = self.api.change(names.CLUSTERS, *where, change)
        text = f"Updated the active RayCluster {'/'.join(where)}"
        self.event(service, "Normal", "UpdatedRayCluster", text)
        return found or cluster

    def _clean_up(self, service: Object) -> bool:
        """Delete clusters that are no longer wanted, in time; says whether there are any."""
        metadata, said = service["metadata"], service.get("status") or {}
        wanted = {(said.get(part) or {}).get("rayClusterName") for part in (_ACTIVE, _PENDING)}
        ends = "deletionTimestamp" in metadata
        delay = float(service["spec"].get("rayClusterDeletionDelaySeconds", _DELETION_DELAY_S))
        dangling = False
        for key, namespace, name in sorted(self.api.store.owned(metadata["uid"])):
            if key != names.CLUSTERS or (name in wanted and not ends):
                continue
            dangling = True
            found = self.api.get(key, namespace, name)["metadata"]
            due = self._leaving.setdefault(found["uid"], self.now + delay)
            if "deletionTimestamp" in found or not (ends or self.now >= due):
                continue
            self._forget(found["uid"])
            self.api.delete(key, namespace, name, DeleteOptions(propagation="Background"))
            text = f"Deleted the RayCluster {namespace}/{name}"
            self.event(service, "Normal", "DeletedRayCluster", text)
        return dangling

    def _forget(self, uid: str) -> None:
        self._leaving.pop(uid, None)
        self._configured.pop(uid, None)
        for known in (self._asked, self._answers):
            for each in [each for each in known if each[0] == uid]:
                known.pop(each)

    # -- what is served --------------------------------------------------------------------------

    def _ask(self, service: Object, cluster: Object, path: str, where: str) -> Answer | None:
        """What a head said last; asks again when that is some time ago."""
        what = (cluster["metadata"]["uid"], path)
        if self.dashboards.port(cluster, where) is None:
            # What a head said that is gone counts no more.
            self._answers.pop(what, None)
        if self.now >= self._asked.get(what, 0.0) + _AGAIN_S:
            metadata = service["metadata"]

            def told(answer: Answer) -> None:
                self._answers[what] = answer
                self.enqueue((metadata["namespace"], metadata["name"]))

            if self.dashboards.ask("/".join(what), cluster, "GET", path, None, told, where):
                self._asked[what] = self.now
        return self._answers.get(what)

    def _label_head(self, service: Object, cluster: Object) -> None:
        """Say on the head's pod whether it takes requests: as its proxy of Ray Serve is well."""
        metadata = cluster["metadata"]
        name = ((cluster.get("status") or {}).get("head") or {}).get("podName", "")
        pod = self.api.find("pods", metadata["namespace"], name) if name else None
        if pod is None:
            return
        well = False
        if not service["spec"].get("excludeHeadPodFromServeSvc"):
            answer = self._ask(service, cluster, PROXY_HEALTH, "serve")
            well = answer is not None and answer.ok
        wanted = "true" if well else "false"
        if pod["metadata"]["labels"].get(names.SERVES) == wanted:
            return
        self.api.change(
            "pods",
            metadata["namespace"],
            name,
            lambda found: found["metadata"]["labels"].update({names.SERVES: wanted}),
        )
        where = f"{metadata['namespace']}/{name}"
        text = f'Updated the serve label to "{wanted}" for the Head Pod {where}'
        self.event(service, "Normal", "UpdatedHeadPodServeLabel", text)

    def _deploy(self, service: Object, cluster: Object) -> tuple[bool, Object | None]:
        """Bring the applications to a cluster; says whether all run, and what each says."""
        if not holds(cluster.get("status") or {}, HEAD_READY):
            return False, None
        answer = self._ask(service, cluster, APPLICATIONS, "dashboard")
        if answer is None or not answer.ok or not isinstance(answer.body, dict):
            return False, None
        found = answer.body.get("applications") or {}
        wanted = service["spec"].get("serveConfigV2", "")
        uid = cluster["metadata"]["uid"]
        # A head that was started anew has lost its applications.
        if not found or self._configured.get(uid) != wanted:
            self._configure(service, cluster, wanted)
            if self._configured.get(uid) != wanted:
                return False, serving_status.applications(found) or None
        ready = bool(found) and all(each.get("status") == "RUNNING" for each in found.values())
        return ready, serving_status.applications(found)

    def _configure(self, service: Object, cluster: Object, wanted: str) -> None:
        metadata, uid = cluster["metadata"], cluster["metadata"]["uid"]
        port = self.dashboards.port(cluster, "serve")
        if port is None:
            return
        where = f"{metadata['namespace']}/{metadata['name']}"
        failed = f"Failed to update serve applications to the RayCluster {where}: "
        head = ((cluster.get("status") or {}).get("head") or {}).get("podName", "")
        told_paths = head_paths(self.dashboards.kubelet, metadata["namespace"], head, wanted)
        try:
            config: Any = yaml.safe_load(told_paths) or {}
        except yaml.YAMLError as error:
            text = f"{failed}{error}"
            self.event(service, "Warning", "FailedToUpdateServeApplications", text)
            return
        if not isinstance(config, dict):
            text = f"{failed}serveConfigV2 is no map"
            self.event(service, "Warning", "FailedToUpdateServeApplications", text)
            return
        # Where the proxy listens on this machine; workers learn their own from a variable.
        listens = {"host": dial.LOOPBACK, "port": port}
        config["http_options"] = {**(config.get("http_options") or {}), **listens}
        key = (service["metadata"]["namespace"], service["metadata"]["name"])

        def told(answer: Answer) -> None:
            if answer.ok:
                self._configured[uid] = wanted
                self._asked.pop((uid, APPLICATIONS), None)
                self._answers.pop((uid, APPLICATIONS), None)
                text = f"Updated serve applications to the RayCluster {where}"
                self.event(service, "Normal", "UpdatedServeApplications", text)
                self.enqueue(key)
            else:
                text = f"{failed}{answer.status} {answer.text}"
                self.event(service, "Warning", "FailedToUpdateServeApplications", text)

        self.dashboards.ask(f"{uid}/configure", cluster, "PUT", APPLICATIONS, config, told)

    def _expose(self, service: Object, cluster: Object) -> bool:
        """Let the Services of a RayService lead to a cluster; says whether they do."""
        serve = services.serve_service(service, cluster)
        if serve is None:
            text = (
                "Please specify a port named 'serve' (or with the prefix 'serve-', e.g. "
                "'serve-grpc') in the Ray head container; otherwise, the Kubernetes service for "
                "Ray Serve will not be created."
            )
            self.event(service, "Warning", "FailedToCreateService", text)
            return False
        for made in (services.head_service_of(service, cluster), serve):
            services.provide(self, service, made)
        return True

    def _endpoints(self, service: Object) -> int:
        """How many pods take requests."""
        metadata = service["metadata"]
        name = names.serve_service(metadata["name"])
        found = set()
        for each in self.api.store.items("endpointslices.discovery.k8s.io", metadata["namespace"]):
            labels = each["metadata"].get("labels") or {}
            if labels.get("kubernetes.io/service-name") != name:
                continue
            for endpoint in each.get("endpoints") or ():
                if (endpoint.get("conditions") or {}).get("ready"):
                    found.add((endpoint.get("targetRef") or {}).get("uid"))
        return len(found - {None})


def _cluster(service: Object, name: str) -> Object:
    """A cluster as a RayService wants it."""
    metadata, spec = service["metadata"], service["spec"]["rayClusterConfig"]
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.CLUSTER_KIND,
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {
                **(metadata.get("labels") or {}),
                names.ORIGIN_NAME: metadata["name"],
                names.ORIGIN_KIND: names.SERVICE_KIND,
            },
            "annotations": {
                **(metadata.get("annotations") or {}),
                names.SPEC_HASH: _hash(spec),
                names.NUM_GROUPS: str(len(spec.get("workerGroupSpecs") or ())),
                names.OPERATOR_VERSION: f"v{names.RELEASE}",
            },
            "ownerReferences": [owner_reference(service)],
        },
        "spec": copy.deepcopy(spec),
    }


def _hash(spec: Object, groups: int | None = None) -> str:
    """A hash of a cluster's spec with its first groups of workers, or with all."""
    told = {key: each for key, each in spec.items() if key != "suspend"}
    if groups is not None:
        told["workerGroupSpecs"] = (told.get("workerGroupSpecs") or [])[:groups]
    return spec_hash(told)


def _grows(service: Object, cluster: Object) -> bool:
    """Whether a service differs from its cluster in more groups of workers alone."""
    annotations, spec = cluster["metadata"]["annotations"], service["spec"]["rayClusterConfig"]
    known, count = annotations[names.SPEC_HASH], int(annotations[names.NUM_GROUPS])
    groups = len(spec.get("workerGroupSpecs") or ())
    return known != _hash(spec) and groups > count and known == _hash(spec, count)


def _is_replaced(service: Object, cluster: Object) -> bool:
    """Whether a service wants another cluster than the one that is there."""
    if (service["spec"].get("upgradeStrategy") or {}).get("type") == "None":
        return False
    known = cluster["metadata"]["annotations"][names.SPEC_HASH]
    changed = known != _hash(service["spec"]["rayClusterConfig"])
    return changed and not _grows(service, cluster)
