"""Kueue: jobs wait in queues until there is quota for all of their pods.

A model of Kueue 0.19 with its default configuration: quotas by flavor, cohorts that lend to each
other, both queueing strategies, preemption, and the integration of ``batch/v1`` Jobs.
"""

from __future__ import annotations

from mlk8s.sim.addons.base import Addon, Parts, Setting
from mlk8s.sim.addons.kueue import names
from mlk8s.sim.addons.kueue.definitions import definitions
from mlk8s.sim.addons.kueue.jobs import Jobs
from mlk8s.sim.addons.kueue.queues import Queues
from mlk8s.sim.addons.kueue.scheduler import Scheduler
from mlk8s.sim.addons.kueue.state import State
from mlk8s.sim.addons.kueue.webhooks import JobHook, QueueHook
from mlk8s.sim.addons.kueue.workloads import Workloads

_RELEASE = "0.19.2"


def _build(setting: Setting) -> Parts:
    state = State(setting.api)
    components = (
        Workloads(setting, state),
        Jobs(setting, state),
        Scheduler(setting.api, setting.recorder, state),
        Queues(setting, state),
    )
    return Parts(
        components=components,
        hooks=(JobHook(state), QueueHook()),
        cleanup=state.close,
    )


ADDON = Addon(
    name="kueue",
    title="Kueue: queues and quotas for jobs",
    version=_RELEASE,
    date="2026-08-20",
    source="github.com/kubernetes-sigs/kueue",
    group=names.GROUP,
    group_version=names.VERSION,
    install=(
        "kubectl apply --server-side -f https://github.com/kubernetes-sigs/kueue/releases/download/"
        f"v{_RELEASE}/manifests.yaml"
    ),
    definitions=definitions,
    build=_build,
    not_modeled=(
        "Cohort objects and nested cohorts, fair sharing, admission fair sharing",
        "topology-aware scheduling, admission checks, MultiKueue, waitForPodsReady",
        "partial admission, elastic jobs, maximum execution time",
        "workloads other than batch/v1 Jobs; requests for DRA devices; LimitRanges",
        "API v1beta1 and conversion to it; metrics; the visibility API",
        "webhooks of Workloads and ResourceFlavors; Jobs of kube-system are queued too",
    ),
)
