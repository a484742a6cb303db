"""Katib: an Experiment searches for the best parameters with Trials, which are Jobs or TrainJobs.

A model of Katib 0.19 with its default configuration. The search is Optuna's, as in Katib's own
service for it; the Trials' pods run as any others do.
"""

from __future__ import annotations

from mlk8s.sim.addons.base import Addon, Parts, Setting
from mlk8s.sim.addons.katib import names
from mlk8s.sim.addons.katib.collector import Collectors
from mlk8s.sim.addons.katib.definitions import definitions, uninstall
from mlk8s.sim.addons.katib.experiments import Experiments
from mlk8s.sim.addons.katib.observations import Observations
from mlk8s.sim.addons.katib.pods import PodHook
from mlk8s.sim.addons.katib.suggestions import Suggestions
from mlk8s.sim.addons.katib.trials import Trials
from mlk8s.sim.addons.katib.webhooks import ChildHook, ExperimentHook

_RELEASE = "0.19.0"


def _build(setting: Setting) -> Parts:
    api, observations = setting.api, Observations()
    return Parts(
        components=(
            Experiments(setting),
            Suggestions(setting, observations),
            Trials(setting, observations),
            Collectors(setting, observations),
        ),
        hooks=(ExperimentHook(api), ChildHook(), PodHook(api)),
        cleanup=lambda: uninstall(api),
    )


_INSTALLS = "https://github.com/kubeflow/katib.git/manifests/v1beta1/installs"

ADDON = Addon(
    name="katib",
    title="Kubeflow Katib: search for parameters",
    version=_RELEASE,
    date="2025-10-30",
    source="github.com/kubeflow/katib",
    group=names.GROUP,
    group_version=names.VERSION,
    install=f'kubectl apply -k "{_INSTALLS}/katib-standalone?ref=v{_RELEASE}"',
    definitions=definitions,
    build=_build,
    not_modeled=(
        "the Deployment, Service and roles of a Suggestion, db-manager and its database, the UI: "
        "the search and what Trials have reported are in the simulator's memory",
        "algorithms other than random, grid, tpe and multivariate-tpe: hyperband, "
        "bayesianoptimization, pbt, enas, darts; cmaes and sobol, for which Optuna needs the "
        "packages cmaes and scipy; distributions normal and logNormal",
        "the settings are those of Katib's service for Optuna, also for random and tpe, which "
        "Katib runs with Hyperopt by default; sequences differ from Katib's",
        "metrics collectors other than StdOut: File, TensorFlowEvent, PrometheusMetric, Custom, "
        "Push",
        "the primary container's output stays in its own log, too, where Katib redirects it to "
        "its collector",
        "trial templates of kinds other than Job and TrainJob; conditions in other forms of GJSON "
        'than status.conditions.#(type=="Complete")#|#(status=="True")#',
        "resumePolicy FromVolume; neural architecture search; Prometheus metrics",
    ),
)
