"""Kubeflow Trainer: a TrainJob and a runtime become pods that train together.

A model of Trainer 2.3 with its default configuration, and of JobSet 0.12, on which it builds: the
TrainJob becomes a JobSet, that one Jobs and a Service, and the pods find torchrun's variables.
"""

from __future__ import annotations

from mlk8s.sim.addons.base import Addon, Parts, Setting
from mlk8s.sim.addons.trainer import names
from mlk8s.sim.addons.trainer.definitions import definitions, install, uninstall
from mlk8s.sim.addons.trainer.jobset_webhooks import JobSetHook
from mlk8s.sim.addons.trainer.jobsets import JobSets
from mlk8s.sim.addons.trainer.machine import PodHook
from mlk8s.sim.addons.trainer.trainjobs import TrainJobs
from mlk8s.sim.addons.trainer.webhooks import RuntimeHook, TrainJobHook

_RELEASE = "2.3.0"


def _build(setting: Setting) -> Parts:
    api = setting.api
    install(api, _RELEASE)
    return Parts(
        components=(TrainJobs(setting), JobSets(setting)),
        hooks=(TrainJobHook(api), RuntimeHook(api), JobSetHook(api), PodHook(api)),
        cleanup=lambda: uninstall(api),
    )


_OVERLAYS = "https://github.com/kubeflow/trainer.git/manifests/overlays"

ADDON = Addon(
    name="trainer",
    title="Kubeflow Trainer: training jobs of several nodes",
    version=_RELEASE,
    date="2026-08-06",
    source="github.com/kubeflow/trainer",
    group=names.GROUP,
    group_version=names.VERSION,
    install=" && ".join(
        f'kubectl apply --server-side -k "{_OVERLAYS}/{overlay}?ref=v{_RELEASE}"'
        for overlay in ("manager", "runtimes")
    ),
    definitions=definitions,
    build=_build,
    not_modeled=(
        "the network between pods: PET_MASTER_ADDR is 127.0.0.1 and PET_MASTER_PORT a free port of "
        "this machine, PET_NPROC_PER_NODE=auto the number of GPUs asked for; set in the pods "
        "alone, whose annotation mlk8s.dev/set-for-this-machine names them",
        "refused: initializers, policies for MPI, JAX, XGBoost and Flux, gang scheduling, "
        "torchrun's variables in further containers",
        "runtimes other than torch-distributed; TorchTune; OptimizationJobs; progress of TrainJobs",
        "refused of JobSet 0.12: dependsOn, startup in order, coordinators, volume claims, "
        "restarts of single Jobs or in place; passed over: exclusive placement",
        "schemas below pod and Job templates: a webhook refuses what Kubernetes cannot read",
        "queueing of TrainJobs by add-on kueue",
    ),
)
