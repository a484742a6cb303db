"""Controllers: what kube-controller-manager does, one module a controller."""

from __future__ import annotations

from collections.abc import Callable

from mlk8s.sim.api import Api
from mlk8s.sim.controllers.autoscaler import Autoscalers
from mlk8s.sim.controllers.claims import ResourceClaims
from mlk8s.sim.controllers.cronjob import CronJobs
from mlk8s.sim.controllers.daemonset import DaemonSets
from mlk8s.sim.controllers.deployment import Deployments
from mlk8s.sim.controllers.disruption import DisruptionBudgets
from mlk8s.sim.controllers.endpoints import Endpoints
from mlk8s.sim.controllers.garbage import GarbageCollector
from mlk8s.sim.controllers.job import Jobs
from mlk8s.sim.controllers.namespace import Namespaces
from mlk8s.sim.controllers.nodes import NodeLifecycle, PodCollector, TaintEviction
from mlk8s.sim.controllers.pods import PodIndex
from mlk8s.sim.controllers.quota import ResourceQuotas
from mlk8s.sim.controllers.replicaset import ReplicaSets, ReplicationControllers
from mlk8s.sim.controllers.statefulset import StatefulSets
from mlk8s.sim.controllers.volumes import Volumes
from mlk8s.sim.custom_resources import CustomResources
from mlk8s.sim.events import Recorder
from mlk8s.sim.runtime import Component
from mlk8s.sim.status import Object

_CONTROLLERS = (
    CronJobs,
    DaemonSets,
    Deployments,
    DisruptionBudgets,
    Endpoints,
    GarbageCollector,
    Jobs,
    NodeLifecycle,
    PodCollector,
    ReplicaSets,
    ReplicationControllers,
    ResourceQuotas,
    StatefulSets,
    TaintEviction,
    Volumes,
)


def controllers(
    api: Api,
    recorder: Recorder,
    root_ca: str = "",
    metrics: Callable[[], list[Object]] = list,
) -> list[Component]:
    """All controllers of a cluster.

    Args:
        api: the cluster.
        recorder: where their events go.
        root_ca: the certificates, as PEM, that each namespace's ``kube-root-ca.crt`` holds.
        metrics: gives the ``PodMetrics`` of all pods that run.
    """
    pods = PodIndex(api.store)
    made: list[Component] = [CustomResources(api), ResourceClaims(api, recorder)]
    made.append(Namespaces(api, recorder, pods, root_ca))
    made += [controller(api, recorder, pods) for controller in _CONTROLLERS]
    made.append(Autoscalers(api, recorder, pods, metrics))
    return made
