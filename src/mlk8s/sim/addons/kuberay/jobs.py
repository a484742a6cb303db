"""RayJobs: each gets a cluster, then a Job that submits its command; both may go at its end.

The states, rules and texts are those of KubeRay v1.7.0:
``ray-operator/controllers/ray/rayjob_controller.go``.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable

from mlk8s.sim.addons.base import Setting
from mlk8s.sim.addons.kuberay import names, services, status, submit, validation
from mlk8s.sim.addons.kuberay.dashboard import JOBS, Answer, Dashboards
from mlk8s.sim.addons.objects import owner_keys, write_status
from mlk8s.sim.api import DeleteOptions, Request
from mlk8s.sim.clock import seconds, stamp
from mlk8s.sim.controllers.base import Controller, find_condition, owner_reference
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

INITIALIZING, RUNNING, COMPLETE, FAILED = "Initializing", "Running", "Complete", "Failed"
INVALID, SUSPENDING, SUSPENDED, RETRYING = (
    "ValidationFailed",
    "Suspending",
    "Suspended",
    "Retrying",
)
_TERMINAL = ("SUCCEEDED", "FAILED", "STOPPED")
_AGAIN_S = 3.0
# How long questions to the dashboard may fail, and how long a submitter may outlive its job.
_CHECK_S = _GRACE_S = 300.0
_NO_RETRY = ("DeadlineExceeded", "JobStatusCheckTimeoutExceeded")
_OWNED = (names.CLUSTERS, names.BATCH_JOBS, "services")


class RayJobs(Controller):
    """The RayJob controller.

    Args:
        setting: the cluster.
        dashboards: what heads are asked through.
    """

    name = names.JOB_CONTROLLER
    watch = (names.JOBS,)

    def __init__(self, setting: Setting, dashboards: Dashboards) -> None:
        super().__init__(setting.api, setting.recorder, setting.pods)
        self.dashboards = dashboards
        self._answers: dict[str, Answer] = {}

    def stop(self) -> None:
        """Ask nothing more."""
        self.dashboards.stop()

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The RayJob, or the RayJob of what it owns."""
        if change.key == names.JOBS:
            return ((change.namespace, change.name),)
        return owner_keys(change, names.JOB_KIND) if change.key in _OWNED else ()

    def sync(self, namespace: str, name: str) -> None:
        """Take a RayJob one step further, and report.

        Raises:
            StatusError: something cannot be made; an event has told of it.
        """
        job = self.api.find(names.JOBS, namespace, name)
        if job is None or job["spec"].get("managedBy", names.OPERATOR) != names.OPERATOR:
            return
        if "deletionTimestamp" in job["metadata"]:
            self._release(job)
            return
        said = job.setdefault("status", {})
        before = copy.deepcopy(said)
        if wrong := self._mistake(job):
            said |= {"jobDeploymentStatus": INVALID, "reason": INVALID, "message": wrong}
            if said != before:
                write_status(self.api, names.JOBS, job, said)
            return
        if self._step(job):
            _count(job)
            self._write(job, before)
            self.enqueue((namespace, name), _AGAIN_S)

    def _write(self, job: Object, before: Object) -> None:
        said = job["status"]
        # Changes of other fields alone wait for one of these.
        new = any(
            said.get(part) != before.get(part)
            for part in ("jobStatus", "jobDeploymentStatus", "jobStatusCheckFailureStartTime")
        )
        known = before.get("rayClusterStatus") or {}
        if new or status.stamp(copy.deepcopy(said.get("rayClusterStatus") or {}), known, ""):
            if said.get("jobDeploymentStatus") in (COMPLETE, FAILED):
                said["endTime"] = self.api.timestamp()
            write_status(self.api, names.JOBS, job, said)

    def _mistake(self, job: Object) -> str:
        metadata = job["metadata"]
        for reason, wrong in (
            ("InvalidRayJobMetadata", validation.metadata_mistake(names.JOB_KIND, metadata)),
            ("InvalidRayJobSpec", validation.job_mistake(job)),
        ):
            if wrong:
                where = f"{metadata['namespace']}/{metadata['name']}"
                self.event(job, "Warning", reason, f"{where}: {wrong}")
                return wrong
        return ""

    def _step(self, job: Object) -> bool:
        """Change the status of a job; says whether its turn is to end with a report."""
        state = job["status"].get("jobDeploymentStatus", "")
        match state:
            case "":
                self._begin(job)
            case "Initializing":
                if not self._interrupted(job):
                    self._initialize(job)
            case "Running":
                if not self._interrupted(job) and not self._outlived(job):
                    return self._follow(job)
            case "Suspending" | "Retrying":
                return self._clear(job)
            case "Suspended":
                if job["spec"].get("suspend"):
                    return False
                job["status"].pop("jobDeploymentStatus")
            case "Complete" | "Failed":
                self._shut_down(job)
                return False
            case _:
                return False
        return True

    # -- its way ---------------------------------------------------------------------------------

    def _begin(self, job: Object) -> None:
        metadata, spec, said = job["metadata"], job["spec"], job["status"]
        finalizers = metadata.get("finalizers") or []
        if names.JOB_FINALIZER not in finalizers:

            def hold(found: Object) -> None:
                found["metadata"].setdefault("finalizers", []).append(names.JOB_FINALIZER)

            self.api.change(names.JOBS, metadata["namespace"], metadata["name"], hold)
        prefix = f"{metadata['name']}-"
        if not said.get("jobId"):
            said["jobId"] = spec.get("jobId") or prefix + self.api.suffix(prefix)
        if not said.get("rayClusterName"):
            selected = (spec.get("clusterSelector") or {}).get(names.CLUSTER_LABEL)
            said["rayClusterName"] = selected or prefix + self.api.suffix(prefix)
        said |= {"jobDeploymentStatus": INITIALIZING, "startTime": self.api.timestamp()}

    def _interrupted(self, job: Object) -> bool:
        """Whether it is to be suspended, or has had its time."""
        spec, said = job["spec"], job["status"]
        if spec.get("suspend"):
            said["jobDeploymentStatus"] = SUSPENDING
            return True
        limits = [("activeDeadlineSeconds", "DeadlineExceeded")]
        if said["jobDeploymentStatus"] == INITIALIZING:
            limits.append(("preRunningDeadlineSeconds", "PreRunningDeadlineExceeded"))
        for field, reason in limits:
            limit = spec.get(field)
            if limit is not None and self.now >= seconds(said["startTime"]) + limit:
                text = (
                    f"The RayJob has passed the {field}. StartTime: {said['startTime']}. "
                    f"{field[0].upper()}{field[1:]}: {limit}"
                )
                _fail(said, reason, text)
                return True
        return False

    def _initialize(self, job: Object) -> None:
        said, metadata = job["status"], job["metadata"]
        cluster = self._cluster(job)
        if not said.get("dashboardURL"):
            state = cluster.get("status") or {}
            if state.get("state") != status.READY:
                said["rayClusterStatus"] = state
                return
            name, namespace = cluster["metadata"]["name"], metadata["namespace"]
            ports = services.head_service(cluster)["spec"]["ports"]
            port = next((each["port"] for each in ports if each["name"] == "dashboard"), None)
            if port is None:
                raise StatusError(500, "InternalError", "dashboard port is not found")
            said["dashboardURL"] = f"{names.address(name, namespace)}:{port}"
        self._submit(job, cluster)
        said["jobDeploymentStatus"] = RUNNING

    def _cluster(self, job: Object) -> Object:
        """The cluster of a job; made where it is the job's own.

        Raises:
            StatusError: 404, for one that is selected; or it cannot be made.
        """
        metadata, name = job["metadata"], job["status"]["rayClusterName"]
        namespace = metadata["namespace"]
        found = self.api.find(names.CLUSTERS, namespace, name)
        if found is not None:
            return found
        where = f"{namespace}/{name}"
        if job["spec"].get("clusterSelector"):
            text = (
                f"RayCluster {where} set in the clusterSelector is not found. It must be created "
                "manually"
            )
            self.event(job, "Warning", "RayClusterNotFound", text)
            raise StatusError(404, "NotFound", text)
        made: Object = {
            "apiVersion": names.API_VERSION,
            "kind": names.CLUSTER_KIND,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {
                    **(metadata.get("labels") or {}),
                    names.ORIGIN_NAME: metadata["name"],
                    names.ORIGIN_KIND: names.JOB_KIND,
                    names.SUBMISSION_MODE: job["spec"]["submissionMode"],
                },
                "annotations": {**(metadata.get("annotations") or {})},
                "ownerReferences": [owner_reference(job)],
            },
            "spec": copy.deepcopy(job["spec"]["rayClusterSpec"]),
        }
        try:
            created = self.api.create(names.CLUSTERS, made, namespace, Request())
        except StatusError as error:
            text = f"Failed to create RayCluster {where}: {error.message}"
            self.event(job, "Warning", "FailedToCreateRayCluster", text)
            raise
        self.event(job, "Normal", "CreatedRayCluster", f"Created RayCluster {where}")
        return created

    def _submit(self, job: Object, cluster: Object) -> None:
        metadata = job["metadata"]
        where = (metadata["namespace"], metadata["name"])
        if self.api.store.raw(names.BATCH_JOBS, *where) is not None:
            return
        try:
            self.api.create(names.BATCH_JOBS, submit.submitter(job, cluster), where[0], Request())
        except StatusError as error:
            text = f"Failed to create new Kubernetes Job {'/'.join(where)}: {error.message}"
            self.event(job, "Warning", "FailedToCreateRayJobSubmitter", text)
            raise
        text = f"Created Kubernetes Job {'/'.join(where)}"
        self.event(job, "Normal", "CreatedRayJobSubmitter", text)

    def _outlived(self, job: Object) -> bool:
        """Whether a job has ended, or cannot be asked about, for too long."""
        said = job["status"]
        ended = (said.get("rayJobInfo") or {}).get("endTime")
        if said.get("jobStatus") in _TERMINAL and ended and self.now > seconds(ended) + _GRACE_S:
            good = said["jobStatus"] == "SUCCEEDED"
            reason = "JobDeploymentStatusTransitionGracePeriodExceeded"
            _fail(said, reason, "JobDeploymentStatus does not transition to Complete or Failed")
            if good:
                said["jobDeploymentStatus"] = COMPLETE
            return True
        since = said.get("jobStatusCheckFailureStartTime")
        if since and self.now > seconds(since) + _CHECK_S:
            text = f"Job status check failed for more than {_CHECK_S:.0f} seconds"
            _fail(said, "JobStatusCheckTimeoutExceeded", text)
            return True
        return False

    def _follow(self, job: Object) -> bool:
        """Take over what the submitter and the cluster's head say of a job."""
        said, metadata = job["status"], job["metadata"]
        cluster = self._cluster(job)
        if not job["spec"].get("clusterSelector"):
            services.provide(self, job, services.head_service_of(job, cluster))
        submitter = self.api.find(names.BATCH_JOBS, metadata["namespace"], metadata["name"])
        over = _end(submitter)
        if over is not None and over["type"] == "Failed":
            if said.get("jobStatus") == "FAILED":
                _fail(said, "AppFailed", said.get("message", ""))
            else:
                why = f"Reason: {over.get('reason', '')}. Message: {over.get('message', '')}"
                _fail(said, "SubmissionFailed", f"Job submission has failed. {why}")
            return True
        answer = self._answers.pop(metadata["uid"], None)
        if answer is None:
            key = (metadata["namespace"], metadata["name"])

            def told(found: Answer) -> None:
                self._answers[metadata["uid"]] = found
                self.enqueue(key)

            self.dashboards.ask(
                metadata["uid"], cluster, "GET", f"{JOBS}{said['jobId']}", None, told
            )
            self.enqueue(key, _AGAIN_S)
            return False
        if answer.status == 404:
            if over is None:
                self.enqueue((metadata["namespace"], metadata["name"]), _AGAIN_S)
                return False
            text = "Submitter completed but Ray job not found in RayCluster."
            _fail(said, "AppFailed", text)
        elif not answer.ok:
            said.setdefault("jobStatusCheckFailureStartTime", self.api.timestamp())
        else:
            _take_over(said, answer.body, over is not None)
            said["rayClusterStatus"] = cluster.get("status") or {}
        return True

    # -- its end ---------------------------------------------------------------------------------

    def _clear(self, job: Object) -> bool:
        """Remove what a job has, to suspend it or to try again; says whether all is gone."""
        said = job["status"]
        gone = [self._delete_cluster(job), self._delete_submitter(job)]
        if not all(gone):
            metadata = job["metadata"]
            self.enqueue((metadata["namespace"], metadata["name"]), _AGAIN_S)
            return False
        state = said["jobDeploymentStatus"]
        kept = {part: said[part] for part in ("startTime", "failed", "succeeded") if part in said}
        said.clear()
        said |= kept
        if state == SUSPENDING:
            said["jobDeploymentStatus"] = SUSPENDED
        self._answers.pop(job["metadata"]["uid"], None)
        return True

    def _delete_cluster(self, job: Object) -> bool:
        """Delete the cluster that was made for a job; says whether it is gone."""
        if job["spec"].get("clusterSelector"):
            return True
        where = (job["metadata"]["namespace"], job["status"].get("rayClusterName", ""))
        found = self.api.find(names.CLUSTERS, *where)
        if found is None:
            return True
        if "deletionTimestamp" not in found["metadata"]:
            self.api.delete(names.CLUSTERS, *where, DeleteOptions(propagation="Background"))
            text = f"Deleted cluster {'/'.join(where)}"
            self.event(job, "Normal", "DeletedRayCluster", text)
        return False

    def _delete_submitter(self, job: Object) -> bool:
        where = (job["metadata"]["namespace"], job["metadata"]["name"])
        found = self.api.find(names.BATCH_JOBS, *where)
        if found is None:
            return True
        if "deletionTimestamp" not in found["metadata"]:
            self.api.delete(names.BATCH_JOBS, *where, DeleteOptions(propagation="Background"))
            text = f"Deleted submitter K8s Job {'/'.join(where)}"
            self.event(job, "Normal", "DeletedRayJobSubmitter", text)
        return False

    def _shut_down(self, job: Object) -> None:
        """Delete the cluster of a job that has ended, when its time is over."""
        spec, metadata = job["spec"], job["metadata"]
        if not spec.get("shutdownAfterJobFinishes"):
            return
        left = seconds(job["status"]["endTime"]) + spec["ttlSecondsAfterFinished"] - self.now
        if left > 0:
            self.enqueue((metadata["namespace"], metadata["name"]), left)
        else:
            self._delete_cluster(job)

    def _release(self, job: Object) -> None:
        """Stop a job that is being deleted, and let it go, whether it can be stopped or not."""
        metadata, said = job["metadata"], job.get("status") or {}
        if names.JOB_FINALIZER not in (metadata.get("finalizers") or ()):
            return
        name = said.get("rayClusterName", "")
        cluster = self.api.find(names.CLUSTERS, metadata["namespace"], name)
        if cluster is not None and said.get("jobStatus") not in _TERMINAL:
            path = f"{JOBS}{said.get('jobId', '')}/stop"
            self.dashboards.ask(metadata["uid"], cluster, "POST", path, None, lambda _: None)
        self._answers.pop(metadata["uid"], None)

        def let_go(found: Object) -> None:
            found["metadata"]["finalizers"].remove(names.JOB_FINALIZER)

        self.api.change(names.JOBS, metadata["namespace"], metadata["name"], let_go)


def _fail(said: Object, reason: str, message: str) -> None:
    said |= {"jobDeploymentStatus": FAILED, "reason": reason, "message": message}


def _end(submitter: Object | None) -> Object | None:
    """The condition with which a Job has ended."""
    for type in (COMPLETE, FAILED):
        found = find_condition((submitter or {}).get("status") or {}, type)
        if found is not None and found["status"] == "True":
            return found
    return None


def _take_over(said: Object, found: Object, submitted: bool) -> None:
    """What Ray says of its job; it has ended when its submitter has too."""
    state = found.get("status") or "PENDING"
    said.pop("jobStatusCheckFailureStartTime", None)
    said |= {"jobStatus": state, "message": found.get("message") or ""}
    if state in _TERMINAL and submitted:
        said["jobDeploymentStatus"] = FAILED if state == "FAILED" else COMPLETE
        if state == "FAILED":
            said["reason"] = "AppFailed"
    info = said.setdefault("rayJobInfo", {})
    for part, source in (("startTime", "start_time"), ("endTime", "end_time")):
        if found.get(source):
            info[part] = stamp(int(found[source]) // 1000)


def _count(job: Object) -> None:
    """Count ends, and decide whether a failure is tried again."""
    said, limit = job["status"], job["spec"]["backoffLimit"]
    state = said.get("jobDeploymentStatus")
    said["failed"] = said.get("failed", 0) + (state == FAILED)
    said["succeeded"] = said.get("succeeded", 0) + (
        state == COMPLETE and said.get("jobStatus") == "SUCCEEDED"
    )
    if state == FAILED and said["failed"] <= limit and said.get("reason") not in _NO_RETRY:
        said["jobDeploymentStatus"] = RETRYING
