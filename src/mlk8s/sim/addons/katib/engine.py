"""The search itself: Optuna, used as Katib's service for it does.

Source: ``pkg/suggestion/v1beta1/optuna/base_service.py`` of Katib at v0.19.0. Katib pins Optuna
3.3; a later one has the same samplers, but not the same sequences.

Nothing here is called on the event loop: importing Optuna and asking its samplers takes time.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mlk8s.sim.addons.katib import names
from mlk8s.sim.addons.katib.settings import combinations, options
from mlk8s.sim.status import Object

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

# The smallest value of a parameter on a logarithmic scale.
_LEAST = 1e-10


def load() -> None:
    """Import Optuna, and keep it from writing to the log of the cluster.

    Raises:
        ImportError: it is not installed.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Of the arguments that Katib gives to its samplers some are experimental.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Engine:
    """The search of one Experiment.

    The same questions in the same order have the same answers, where the settings give a
    ``random_state``.

    Args:
        spec: of the Experiment, with its defaults and with settings that are right.

    Raises:
        ValueError: Optuna cannot search this space.
    """

    def __init__(self, spec: Object) -> None:
        import optuna

        self._space = {each["name"]: _distribution(each) for each in spec["parameters"]}
        maximize = spec["objective"]["type"] == names.MAXIMIZE
        self._study = optuna.create_study(
            sampler=_sampler(spec), direction="maximize" if maximize else "minimize"
        )
        # A grid does not learn; told of its last point, its sampler wants to stop Optuna's loop.
        self._learns = spec["algorithm"]["algorithmName"] != "grid"
        self._numbers: dict[str, int] = {}
        self._told: set[str] = set()

    def ask(self, new: Sequence[str], told: Iterable[tuple[str, str]]) -> list[list[Object]]:
        """Assignments for new Trials.

        Args:
            new: the names of the Trials.
            told: name and objective value of each Trial that has one.

        Returns:
            The assignments of each new Trial: name and value of each parameter.

        Raises:
            ValueError: a value is no number, or Optuna cannot search this space.
        """
        for name, value in told:
            if name in self._told:
                continue
            number = float(value)
            if name not in self._numbers:
                text = "An unknown trial has been passed in the GetSuggestion request."
                raise ValueError(text)
            self._told.add(name)
            if self._learns:
                self._study.tell(self._numbers[name], number)
        found = []
        for name in new:
            trial = self._study.ask(fixed_distributions=self._space)
            self._numbers[name] = trial.number
            found.append([{"name": key, "value": str(each)} for key, each in trial.params.items()])
        return found


def _sampler(spec: Object) -> BaseSampler:
    from optuna import samplers

    arguments: dict[str, Any] = {**options(spec["algorithm"])}
    match spec["algorithm"]["algorithmName"]:
        case "random":
            return samplers.RandomSampler(**arguments)
        case "grid":
            return samplers.GridSampler(combinations(spec["parameters"]), **arguments)
        case "tpe":
            return samplers.TPESampler(constant_liar=True, **arguments)
    return samplers.TPESampler(constant_liar=True, multivariate=True, **arguments)


def _distribution(parameter: Object) -> BaseDistribution:
    from optuna import distributions

    space = parameter["feasibleSpace"]
    logarithmic = space["distribution"] == "logUniform"
    match parameter["parameterType"]:
        case "int":
            low, high = int(space["min"]), int(space["max"])
            if logarithmic:
                return distributions.IntDistribution(max(1, low), high, log=True)
            return distributions.IntDistribution(low, high, step=int(space.get("step", 1)))
        case "double":
            least, most = float(space["min"]), float(space["max"])
            if logarithmic:
                return distributions.FloatDistribution(max(_LEAST, least), most, log=True)
            step = float(space["step"]) if "step" in space else None
            return distributions.FloatDistribution(least, most, step=step)
    return distributions.CategoricalDistribution(space["list"])
