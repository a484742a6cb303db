"""Settings of search algorithms: what Katib's service for Optuna takes, and refuses.

Source: ``OptimizerConfiguration`` in ``pkg/suggestion/v1beta1/optuna/service.py`` and
``convert_to_combinations`` in ``pkg/suggestion/v1beta1/internal/search_space.py`` of Katib at
v0.19.0, whose messages these are.
"""

from __future__ import annotations

from math import ceil, prod
from typing import Any

from mlk8s.sim.status import Object

_SEED = "random_state"
# What Optuna calls the settings of each algorithm.
_NAMES = {
    "random": {_SEED: "seed"},
    "grid": {_SEED: "seed"},
    "tpe": {
        _SEED: "seed",
        "n_startup_trials": "n_startup_trials",
        "n_ei_candidates": "n_ei_candidates",
    },
}
_NAMES["multivariate-tpe"] = _NAMES["tpe"]


class SpaceError(Exception):
    """A search space that has no grid; the message is Katib's."""


def mistake(spec: Object) -> str:
    """What is wrong with the settings of an Experiment, in Katib's words; empty for nothing.

    Args:
        spec: of the Experiment.
    """
    algorithm = spec["algorithm"]
    name = algorithm["algorithmName"]
    for setting in algorithm.get("algorithmSettings") or ():
        key, text = setting.get("name", ""), setting.get("value", "")
        if key not in _NAMES[name]:
            return f"unknown setting {key} for algorithm {name}"
        try:
            value = int(text)
        except ValueError as error:
            return f"failed to validate {key}({text}): {error}"
        if value < 0:
            return f"{key} should be greate or equal than zero"
    return _grid_mistake(spec) if name == "grid" else ""


def options(algorithm: Object) -> dict[str, int]:
    """The arguments of Optuna's sampler."""
    known = _NAMES[algorithm["algorithmName"]]
    given = algorithm.get("algorithmSettings") or ()
    return {known[each["name"]]: int(each["value"]) for each in given}


def combinations(parameters: list[Object]) -> dict[str, list[Any]]:
    """The values of each parameter of a grid.

    Raises:
        SpaceError: a parameter of type double has no step.
        ValueError: a limit or a step is no number.
    """
    found: dict[str, list[Any]] = {}
    for parameter in parameters:
        name, space = parameter["name"], parameter["feasibleSpace"]
        match parameter["parameterType"]:
            case "int":
                step = int(space.get("step", 1))
                found[name] = list(range(int(space["min"]), int(space["max"]) + 1, step))
            case "double":
                if "step" not in space:
                    raise SpaceError(
                        f"Param {name} step is nil; For discrete search space, all parameters must "
                        "include step"
                    )
                found[name] = _points(*(float(space[part]) for part in ("min", "max", "step")))
            case _:
                found[name] = list(space.get("list") or ())
    return found


def _points(low: float, high: float, step: float) -> list[float]:
    """The points of ``numpy.arange(low, high + step, step)`` up to ``high``."""
    if step <= 0:
        raise ValueError(f"step must be greater than zero, not {step:g}")
    found = [low + step * index for index in range(ceil((high + step - low) / step))]
    return found[:-1] if found and found[-1] > high else found


def _grid_mistake(spec: Object) -> str:
    try:
        found = combinations(spec["parameters"])
    except (SpaceError, ValueError) as error:
        shown = [each["name"] for each in spec["parameters"]]
        return f"failed to validate parameters({shown}): {error}"
    count, most = prod(len(values) for values in found.values()), spec.get("maxTrialCount", 0)
    if most > count:
        return f"Max Trial Count: {most} > all possible search combinations: {count}"
    return ""
