"""KServe: an InferenceService becomes a server for a model.

A model of KServe 0.20 in Standard mode, where an InferenceService becomes a Deployment, a Service
and an autoscaler. Its servers are processes; they are asked through the API server's proxy.
"""

from __future__ import annotations

from mlk8s.sim.addons.base import Addon, Parts, Setting
from mlk8s.sim.addons.kserve import names
from mlk8s.sim.addons.kserve.definitions import definitions, install, uninstall
from mlk8s.sim.addons.kserve.pods import PodHook
from mlk8s.sim.addons.kserve.runtime_webhooks import RuntimeHook
from mlk8s.sim.addons.kserve.services import InferenceServices
from mlk8s.sim.addons.kserve.webhooks import ServiceHook

_RELEASE = "0.20.0"
_CHARTS = "oci://ghcr.io/kserve/charts"


def _build(setting: Setting) -> Parts:
    api = setting.api
    install(api)
    return Parts(
        components=(InferenceServices(setting),),
        hooks=(ServiceHook(api), RuntimeHook(api), PodHook(setting.kubelet.catalogue)),
        cleanup=lambda: uninstall(api),
    )


ADDON = Addon(
    name="kserve",
    title="KServe: servers for models, in Standard mode",
    version=_RELEASE,
    date="2026-08-06",
    source="github.com/kserve/kserve",
    group=names.GROUP,
    group_version=names.VERSION,
    install=(
        f"helm install kserve-crd {_CHARTS}/kserve-crd --version v{_RELEASE} "
        "--namespace kserve --create-namespace && "
        f"helm install kserve {_CHARTS}/kserve-resources --version v{_RELEASE} "
        "--namespace kserve --set kserve.controller.deploymentMode=Standard && "
        f"helm install kserve-runtimes {_CHARTS}/kserve-runtime-configs --version v{_RELEASE} "
        "--namespace kserve"
    ),
    definitions=definitions,
    build=_build,
    not_modeled=(
        "refused: Knative and ModelMesh mode, and with them scaling to zero; in Standard mode "
        "minReplicas 0 is 1, and canaryTrafficPercent changes nothing, as in KServe",
        "refused: transformers, explainers, canaries, workers on several nodes, loggers, batchers, "
        "KEDA",
        "refused: models from elsewhere than a claim (pvc://): there is no network to load from",
        "host names: status.url and the Ingress are made, nothing answers there; a server is asked "
        "through services/NAME-predictor:80/proxy",
        "the network between pods: a server learns its port of this machine from --http_port, "
        "which is set in the pod alone, whose annotation mlk8s.dev/set-for-this-machine says so; "
        "another program reads it from MLK8S_PORT_8080",
        "runtimes other than kserve-huggingfaceserver, whose image here runs mlk8s.lm.serving",
        "ConfigMap inferenceservice-config: the Helm chart's defaults hold",
        "InferenceGraphs, TrainedModels, LLMInferenceServices, caches of models, "
        "ClusterStorageContainers",
        "a process is ended after ten minutes, and its container started anew",
    ),
)
