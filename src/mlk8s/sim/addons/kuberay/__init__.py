"""KubeRay: RayClusters, and the jobs and services that are run in them, with Ray itself.

A model of the operator of KubeRay 1.7 with its default configuration. The pods run the real Ray:
every node of a cluster is a group of processes of this machine.
"""

from __future__ import annotations

from mlk8s.sim.addons.base import Addon, Parts, Setting
from mlk8s.sim.addons.kuberay import names
from mlk8s.sim.addons.kuberay.clusters import RayClusters
from mlk8s.sim.addons.kuberay.dashboard import Dashboards
from mlk8s.sim.addons.kuberay.definitions import definitions, uninstall
from mlk8s.sim.addons.kuberay.jobs import RayJobs
from mlk8s.sim.addons.kuberay.machine import PodHook
from mlk8s.sim.addons.kuberay.serving import RayServices
from mlk8s.sim.addons.kuberay.webhooks import RefusalHook


def _build(setting: Setting) -> Parts:
    api = setting.api
    jobs, serving = (Dashboards(api, setting.kubelet) for _ in range(2))
    return Parts(
        components=(
            RayClusters(setting),
            RayJobs(setting, jobs),
            RayServices(setting, serving),
        ),
        hooks=(RefusalHook(api), PodHook(api, setting.kubelet)),
        cleanup=lambda: uninstall(api),
    )


ADDON = Addon(
    name="kuberay",
    title="KubeRay: Ray clusters, jobs and services",
    version=names.RELEASE,
    date="2026-08-19",
    source="github.com/ray-project/kuberay",
    group=names.GROUP,
    group_version=names.VERSION,
    install=(
        "helm install kuberay-operator kuberay-operator "
        f"--repo https://ray-project.github.io/kuberay-helm --version {names.RELEASE} "
        "--namespace kuberay-system --create-namespace"
    ),
    definitions=definitions,
    build=_build,
    not_modeled=(
        "the network between pods: the head's address is 127.0.0.1 and ports are free ones of this "
        "machine; set in the pods alone, whose annotation mlk8s.dev/set-for-this-machine names "
        "what; the head is asked through services/NAME-head-svc:dashboard/proxy",
        "isolation: Ray listens on this machine's loopback, but for replicas of Ray Serve, which "
        "listen for each other on all interfaces as Ray has it",
        "permissions: the autoscaler, which is Ray's own, acts with the token of the embedded "
        "cluster; the account, Role and RoleBinding of KubeRay are made and not looked at",
        "container wait-gcs-ready waits for the port of the control service and does not ask Ray",
        "a container's own memory and CPUs: Ray is told what KubeRay reads from the pod; without "
        "that it counts those of this machine; its store of objects has 100 MB unless told",
        "GPUs of nodes: Ray counts num-gpus and sets CUDA_VISIBLE_DEVICES; no GPU code runs",
        "refused: GCS fault tolerance, TLS, network policies, history server, Ingresses, custom "
        "head and serve Services, tokens of Kubernetes, groups of several hosts per replica",
        "refused of RayJobs: other submission modes than K8sJobMode, deletion strategies",
        "refused of RayServices: incremental upgrades, suspension",
        "passed over: annotation ray.io/initializing-timeout, thresholds of unhealthy services",
        "RayCronJobs, version v1alpha1, admission webhooks, batch schedulers",
        "queueing of RayClusters, RayJobs and RayServices by add-on kueue",
        "a process is ended after ten minutes, and its container started anew; a head loses then "
        "what its cluster knows",
    ),
)
