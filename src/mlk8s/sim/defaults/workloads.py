"""Defaults of what makes pods: Deployment, StatefulSet, DaemonSet, Job, CronJob and the others.

After ``pkg/apis/apps/v1/defaults.go`` and ``pkg/apis/batch/v1/defaults.go``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlk8s.sim.defaults import pods
from mlk8s.sim.status import Object

if TYPE_CHECKING:
    from mlk8s.sim.api import Api

UID_LABEL = "batch.kubernetes.io/controller-uid"
_MAX_INT32 = 2**31 - 1


def deployment(obj: Object) -> None:
    """A Deployment."""
    spec = obj.setdefault("spec", {})
    pods.template(spec.setdefault("template", {}))
    spec.setdefault("replicas", 1)
    strategy = spec.setdefault("strategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)


def replica_set(obj: Object) -> None:
    """A ReplicaSet."""
    spec = obj.setdefault("spec", {})
    pods.template(spec.setdefault("template", {}))
    spec.setdefault("replicas", 1)


def replication_controller(obj: Object) -> None:
    """A ReplicationController; it takes its selector and labels from the template."""
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    if (template := spec.get("template")) is None:
        return
    pods.template(template)
    if labels := template["metadata"].get("labels"):
        spec["selector"] = spec.get("selector") or dict(labels)
        obj["metadata"]["labels"] = obj["metadata"].get("labels") or dict(labels)


def stateful_set(obj: Object) -> None:
    """A StatefulSet."""
    spec = obj.setdefault("spec", {})
    pods.template(spec.setdefault("template", {}))
    spec.setdefault("replicas", 1)
    spec.setdefault("serviceName", "")
    spec.setdefault("podManagementPolicy", "OrderedReady")
    strategy = spec.setdefault("updateStrategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    kept = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    kept.setdefault("whenDeleted", "Retain")
    kept.setdefault("whenScaled", "Retain")
    spec.setdefault("revisionHistoryLimit", 10)
    for claim in spec.get("volumeClaimTemplates") or ():
        claim.setdefault("apiVersion", "v1")
        claim.setdefault("kind", "PersistentVolumeClaim")
        claim.setdefault("metadata", {})
        claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
        claim.setdefault("status", {}).setdefault("phase", "Pending")


def daemon_set(obj: Object) -> None:
    """A DaemonSet."""
    spec = obj.setdefault("spec", {})
    pods.template(spec.setdefault("template", {}))
    strategy = spec.setdefault("updateStrategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    spec.setdefault("revisionHistoryLimit", 10)


def job(obj: Object) -> None:
    """A Job."""
    spec = obj.setdefault("spec", {})
    _job_spec(spec)
    labels = spec["template"]["metadata"].get("labels")
    if labels and not obj["metadata"].get("labels"):
        obj["metadata"]["labels"] = dict(labels)


def _job_spec(spec: Object) -> None:
    pods.template(spec.setdefault("template", {}))
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = spec["parallelism"] = 1
    spec.setdefault("parallelism", 1)
    per_index = "backoffLimitPerIndex" in spec
    spec.setdefault("backoffLimit", _MAX_INT32 if per_index else 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    policy = spec.get("podFailurePolicy")
    spec.setdefault("podReplacementPolicy", "Failed" if policy else "TerminatingOrFailed")
    spec.setdefault("manualSelector", False)
    for rule in (policy or {}).get("rules") or ():
        for condition in rule.get("onPodConditions") or ():
            condition.setdefault("status", "True")


def select_own_pods(obj: Object, api: Api) -> None:
    """The selector of a new Job, and the labels by which it finds its pods.

    Its name is one of them, so a Job with ``generateName`` gets its name here.
    """
    spec, metadata = obj["spec"], obj["metadata"]
    if spec.get("manualSelector"):
        return
    if not metadata.get("name") and metadata.get("generateName"):
        where = metadata.get("namespace", "")
        while not metadata.get("name"):
            name = metadata["generateName"][:58] + api.suffix(metadata["generateName"])
            if api.store.raw("jobs.batch", where, name) is None:
                metadata["name"] = name
    uid, name = metadata["uid"], metadata.get("name", "")
    labels = spec["template"]["metadata"].setdefault("labels", {})
    for label, value in (
        (UID_LABEL, uid),
        ("batch.kubernetes.io/job-name", name),
        ("controller-uid", uid),
        ("job-name", name),
    ):
        # What a user has set stays, and is refused by validation.
        labels.setdefault(label, value)
    selector = spec.setdefault("selector", {})
    selector.setdefault("matchLabels", {}).setdefault(UID_LABEL, uid)


def cron_job(obj: Object) -> None:
    """A CronJob; what its Jobs get when they are created is left out of their template."""
    spec = obj.setdefault("spec", {})
    spec.setdefault("concurrencyPolicy", "Allow")
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)
    inner = spec.setdefault("jobTemplate", {})
    inner.setdefault("metadata", {})
    pods.template(inner.setdefault("spec", {}).setdefault("template", {}))


def pod_template(obj: Object) -> None:
    """A PodTemplate."""
    pods.template(obj.setdefault("template", {}))
