"""Names that KubeRay gives to its resources, labels, annotations, variables and ports.

Sources at v1.7.0: ``ray-operator/controllers/ray/utils/{constant,util}.go``,
``ray-operator/apis/ray/v1``.
"""

from __future__ import annotations

from mlk8s.sim.status import Object

GROUP = "ray.io"
VERSION = "v1"
API_VERSION = f"{GROUP}/{VERSION}"
CLUSTERS, JOBS, SERVICES = f"rayclusters.{GROUP}", f"rayjobs.{GROUP}", f"rayservices.{GROUP}"
CLUSTER_KIND, JOB_KIND, SERVICE_KIND = "RayCluster", "RayJob", "RayService"
BATCH_JOBS = "jobs.batch"
OPERATOR, COMPONENT, APPLICATION = f"{GROUP}/kuberay-operator", "kuberay-operator", "kuberay"
RELEASE = "1.7.0"

# Who reports events.
CLUSTER_CONTROLLER = "raycluster-controller"
JOB_CONTROLLER = "rayjob-controller"
SERVICE_CONTROLLER = "rayservice-controller"

# Labels.
CLUSTER_LABEL, NODE_TYPE, NODE_GROUP = f"{GROUP}/cluster", f"{GROUP}/node-type", f"{GROUP}/group"
IS_NODE, IDENTIFIER = f"{GROUP}/is-ray-node", f"{GROUP}/identifier"
SERVES, REPLICA_INDEX = f"{GROUP}/serve", f"{GROUP}/worker-group-replica-index"
ORIGIN_NAME, ORIGIN_KIND = f"{GROUP}/originated-from-cr-name", f"{GROUP}/originated-from-crd"
SUBMISSION_MODE = f"{GROUP}/job-submission-mode"
APP_NAME, CREATED_BY = "app.kubernetes.io/name", "app.kubernetes.io/created-by"
# Annotations.
OVERWRITE_COMMAND = f"{GROUP}/overwrite-container-cmd"
SPEC_HASH = f"{GROUP}/hash-without-replicas-and-workers-to-delete"
RECREATE_HASH, OPERATOR_VERSION = (
    f"{GROUP}/upgrade-strategy-recreate-hash",
    f"{GROUP}/kuberay-version",
)
NUM_GROUPS = f"{GROUP}/num-worker-groups"
FAULT_TOLERANT = f"{GROUP}/ft-enabled"
# Finalizers.
JOB_FINALIZER, SERVICE_FINALIZER = f"{GROUP}/rayjob-finalizer", f"{GROUP}/rayservice-finalizer"

HEAD, WORKER, HEAD_GROUP = "head", "worker", "headgroup"
WAIT_CONTAINER, SUBMITTER = "wait-gcs-ready", "ray-job-submitter"
TOKEN_KEY = "auth_token"

# Ports of the head, by the names that its Service gives them.
PORTS = {"client": 10001, "gcs-server": 6379, "dashboard": 8265, "metrics": 8080, "serve": 8000}
GCS_PORT, DASHBOARD_PORT, SERVE_PORT = PORTS["gcs-server"], PORTS["dashboard"], PORTS["serve"]
CLIENT_PORT, METRICS_PORT, AGENT_PORT = PORTS["client"], PORTS["metrics"], 52365

_LONGEST_PREFIX, _LONGEST_LABEL = 50, 63


def pod_prefix(prefix: str, node_type: str) -> str:
    """What the generated name of a pod begins with."""
    return f"{prefix[:_LONGEST_PREFIX]}-{node_type}-".lower()


def identifier(cluster: str, node_type: str) -> str:
    """The label value that the pods of a cluster's head or of its workers have in common."""
    text = f"{cluster}-{node_type}"[-_LONGEST_LABEL:]
    return text if text[0].isalnum() else f"r{text[1:]}"


def head_service(name: str) -> str:
    """The name of the Service before a head, of a cluster, a job or a service."""
    return f"{name}-{HEAD}-svc"


def serve_service(name: str) -> str:
    """The name of the Service before the proxies of Ray Serve."""
    return f"{name}-serve-svc"


def address(cluster: str, namespace: str) -> str:
    """The host name of a cluster's head."""
    return f"{head_service(cluster)}.{namespace}.svc.cluster.local"


def checked(name: str) -> str:
    """A name as KubeRay clips it for what belongs to a cluster, such as its Secret."""
    text = name[-_LONGEST_PREFIX:]
    return text if text[0].isalpha() else f"r{text[1:]}"


def secret_of(cluster: str, spec: Object) -> str:
    """The name of the Secret that the pods of a cluster take their token from; empty for none."""
    options = spec.get("authOptions") or {}
    if options.get("mode") != "token":
        return ""
    return str(options.get("secretName") or checked(cluster))


def port_of(container: Object, name: str) -> int:
    """The port of a container that has a name, or Ray's usual one."""
    for each in container.get("ports") or ():
        if each.get("name") == name:
            return int(each["containerPort"])
    return PORTS[name]
