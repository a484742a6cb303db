"""Names that KServe gives to its resources, labels, annotations, conditions and events.

Sources at v0.20.0: ``pkg/constants/constants.go``, ``pkg/apis/serving/v1beta1``.
"""

from __future__ import annotations

GROUP = "serving.kserve.io"
VERSION = "v1beta1"
SERVICES = f"inferenceservices.{GROUP}"
RUNTIMES = f"servingruntimes.{GROUP}"
CLUSTER_RUNTIMES = f"clusterservingruntimes.{GROUP}"

DEPLOYMENTS = "deployments.apps"
AUTOSCALERS = "horizontalpodautoscalers.autoscaling"
INGRESSES = "ingresses.networking.k8s.io"

# On pods and on what stands over them.
SERVICE_LABEL = f"{GROUP}/inferenceservice"
COMPONENT_LABEL = "component"
APP_LABEL = "app"
PREDICTOR = "predictor"
#: The container that serves the model, and one that may stand before it.
SERVER, TRANSFORMER = "kserve-container", "transformer-container"

MODE = f"{GROUP}/deploymentMode"
STANDARD, KNATIVE = "Standard", "Knative"
#: What earlier versions called them.
LEGACY_MODES = {"RawDeployment": STANDARD, "Serverless": KNATIVE}
AUTOSCALER_CLASS = f"{GROUP}/autoscalerClass"
STOP = f"{GROUP}/stop"
SERVER_TYPE = f"{GROUP}/server-type"
MODEL_FORMAT = "modelFormat"
READ_ONLY = "storage.kserve.io/readonly"
SOURCE = f"internal.{GROUP}/storage-initializer-sourceuri"
VISIBILITY, CLUSTER_LOCAL = "networking.kserve.io/visibility", "cluster-local"
#: Annotations of an InferenceService that its children do not take over.
NOT_PASSED_ON = (
    "autoscaling.knative.dev/min-scale",
    "autoscaling.knative.dev/max-scale",
    SOURCE,
    "kubectl.kubernetes.io/last-applied-configuration",
    MODEL_FORMAT,
)

MODELS = "/mnt/models"
CLAIM = "pvc://"
CLAIM_VOLUME = "kserve-pvc-source"
STORAGE_VARIABLE, PROTOCOL_VARIABLE = "STORAGE_URI", "PROTOCOL"
NAME_VARIABLE = "INFERENCE_SERVICE_NAME"
PORT = 8080

# The defaults of the Helm chart's ConfigMap inferenceservice-config.
DOMAIN = "example.com"
INGRESS_CLASS = "istio"

# Who reports events.
CONTROLLER = "v1beta1Controllers"


def predictor(service: str, variant: str = "") -> str:
    """The name of a predictor's Deployment and of all that belongs to it."""
    return f"{service}-{variant}-{PREDICTOR}" if variant else f"{service}-{PREDICTOR}"


def host(name: str, namespace: str) -> str:
    """The public host name that the default domain template makes."""
    return f"{name}-{namespace}.{DOMAIN}"
