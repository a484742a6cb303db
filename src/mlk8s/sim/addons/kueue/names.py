"""Names that Kueue gives to its resources, labels, conditions and events.

Source: ``apis/kueue/v1beta2`` and ``pkg/{constants,controller/constants}`` at v0.19.2.
"""

from __future__ import annotations

GROUP = "kueue.x-k8s.io"
VERSION = "v1beta2"
API_VERSION = f"{GROUP}/{VERSION}"

FLAVORS = f"resourceflavors.{GROUP}"
CLUSTER_QUEUES = f"clusterqueues.{GROUP}"
LOCAL_QUEUES = f"localqueues.{GROUP}"
WORKLOADS = f"workloads.{GROUP}"
PRIORITIES = f"workloadpriorityclasses.{GROUP}"

# On jobs and pods.
QUEUE_LABEL = f"{GROUP}/queue-name"
PRIORITY_LABEL = f"{GROUP}/priority-class"
DEFAULT_QUEUE = "default"
# On Workloads.
JOB_UID_LABEL = f"{GROUP}/job-uid"
# On the pods of an admitted job.
PODSET_LABEL = f"{GROUP}/podset"
LOCAL_QUEUE_LABEL = f"{GROUP}/local-queue-name"
CLUSTER_QUEUE_LABEL = f"{GROUP}/cluster-queue-name"
WORKLOAD_ANNOTATION = f"{GROUP}/workload"
# Holds flavors and queues that are in use, and Workloads.
IN_USE = f"{GROUP}/resource-in-use"

PODSET = "main"

# Who reports events.
ADMISSION = "kueue-admission"
WORKLOAD_CONTROLLER = "kueue-workload-controller"
JOB_CONTROLLER = "batch/job-kueue-controller"
