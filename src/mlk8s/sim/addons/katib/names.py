"""Names that Katib gives to its resources, labels, conditions, containers and events.

Source: ``pkg/controller.v1beta1/consts/const.go``, ``pkg/apis/controller`` and
``pkg/metricscollector/v1beta1/common`` of Katib at v0.19.0.
"""

from __future__ import annotations

GROUP = "kubeflow.org"
VERSION = "v1beta1"
API_VERSION = f"{GROUP}/{VERSION}"

EXPERIMENTS = f"experiments.{GROUP}"
SUGGESTIONS = f"suggestions.{GROUP}"
TRIALS = f"trials.{GROUP}"
#: The kind of each resource.
KINDS = {EXPERIMENTS: "Experiment", SUGGESTIONS: "Suggestion", TRIALS: "Trial"}

# Of the kinds that Katib watches by default (trialResources of its configuration) those whose
# definitions there are: apiVersion and kind.
JOB = ("batch/v1", "Job")
TRAIN_JOB = ("trainer.kubeflow.org/v1alpha1", "TrainJob")
RUN_KINDS = (JOB, TRAIN_JOB)

EXPERIMENT_LABEL = "katib.kubeflow.org/experiment"
TRIAL_LABEL = "katib.kubeflow.org/trial"
# Of a namespace whose pods get a metrics collector; Experiments are taken nowhere else.
INJECTION_LABEL = "katib.kubeflow.org/metrics-collector-injection"
INJECTION = "enabled"

EXPERIMENT_FINALIZER = "update-prometheus-metrics"
TRIAL_FINALIZER = "clean-metrics-in-db"

# The container that Katib puts into the primary pod of a Trial.
COLLECTOR = "metrics-logger-and-collector"
COLLECTOR_IMAGE = "ghcr.io/kubeflow/katib/file-metrics-collector:v0.19.0"
METRICS_FILE = "/var/log/katib/metrics.log"
DB_MANAGER = "katib-db-manager.kubeflow:6789"
TRIAL_NAME_VARIABLE = "KATIB_TRIAL_NAME"

# What stands for a metric that was not reported.
UNAVAILABLE = "unavailable"

CREATED = "Created"
RUNNING = "Running"
RESTARTING = "Restarting"
SUCCEEDED = "Succeeded"
FAILED = "Failed"
KILLED = "Killed"
EARLY_STOPPED = "EarlyStopped"
METRICS_UNAVAILABLE = "MetricsUnavailable"
DEPLOYMENT_READY = "DeploymentReady"

# Resume policies.
NEVER = "Never"
LONG_RUNNING = "LongRunning"
FROM_VOLUME = "FromVolume"

MAXIMIZE = "maximize"
MINIMIZE = "minimize"

# Who reports events, and the reason of those that report a failure.
EXPERIMENT_CONTROLLER = "experiment-controller"
SUGGESTION_CONTROLLER = "suggestion-controller"
TRIAL_CONTROLLER = "trial-controller"
RECONCILE_ERROR = "ReconcileError"
