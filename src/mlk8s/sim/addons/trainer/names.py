"""Names that Kubeflow Trainer and JobSet give to their resources, labels, conditions and events.

Sources: ``pkg/constants`` and ``pkg/apis/trainer/v1alpha1`` of Trainer at v2.3.0;
``api/jobset/v1alpha2`` and ``pkg/constants`` of JobSet at v0.12.0.
"""

from __future__ import annotations

GROUP = "trainer.kubeflow.org"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
JOBSET_API_VERSION = "jobset.x-k8s.io/v1alpha2"

TRAIN_JOBS = f"trainjobs.{GROUP}"
RUNTIMES = f"trainingruntimes.{GROUP}"
CLUSTER_RUNTIMES = f"clustertrainingruntimes.{GROUP}"
JOBSETS = "jobsets.jobset.x-k8s.io"
JOBS = "jobs.batch"

#: The kinds of runtime that a TrainJob can name, and the resource of each.
RUNTIME_KINDS = {"ClusterTrainingRuntime": CLUSTER_RUNTIMES, "TrainingRuntime": RUNTIMES}

# Which part of a TrainJob a replicated job of its runtime takes its values from.
ANCESTOR = f"{GROUP}/trainjob-ancestor-step"
TRAINER = "trainer"
# The container of the training nodes, and its job.
NODE = "node"
SNAPSHOT_SUFFIX = "-runtime-snapshot"
TRAIN_JOB_MANAGER = f"{GROUP}/trainjob-controller"

# On Jobs and pods, as labels and as annotations.
_JOBSET = "jobset.sigs.k8s.io"
JOBSET_NAME = f"{_JOBSET}/jobset-name"
JOBSET_UID = f"{_JOBSET}/jobset-uid"
REPLICATED_JOB = f"{_JOBSET}/replicatedjob-name"
RESTART_ATTEMPT = f"{_JOBSET}/restart-attempt"
REPLICAS = f"{_JOBSET}/replicatedjob-replicas"
GLOBAL_REPLICAS = f"{_JOBSET}/global-replicas"
JOB_INDEX = f"{_JOBSET}/job-index"
JOB_KEY = f"{_JOBSET}/job-key"
JOB_GLOBAL_INDEX = f"{_JOBSET}/job-global-index"
GROUP_NAME = f"{_JOBSET}/group-name"
GROUP_REPLICAS = f"{_JOBSET}/group-replicas"
JOB_GROUP_INDEX = f"{_JOBSET}/job-group-index"
JOBSET_MANAGER = f"{_JOBSET}/jobset-controller"

# What torchrun reads.
NUM_NODES = "PET_NNODES"
PROCESSES = "PET_NPROC_PER_NODE"
NODE_RANK = "PET_NODE_RANK"
MASTER_ADDRESS = "PET_MASTER_ADDR"
MASTER_PORT = "PET_MASTER_PORT"
RESERVED = (NUM_NODES, PROCESSES, NODE_RANK, MASTER_ADDRESS, MASTER_PORT)
PORT = 29500

# Who reports events.
TRAIN_JOB_CONTROLLER = "trainer-trainjob-controller"
JOBSET_CONTROLLER = "jobset"
