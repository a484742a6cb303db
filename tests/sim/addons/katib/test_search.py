"""The algorithms: what they suggest, that they learn, and that a seed repeats them."""

from __future__ import annotations

from statistics import median
from typing import Any

import pytest

from mlk8s.sim.addons.katib import engine
from mlk8s.sim.addons.katib.defaults import complete

from .lab import KatibLab, experiment, parameter, settings, template

engine.load()


def search(
    algorithm: str, parameters: list[Any], count: int = 30, at_once: int = 1, **more: Any
) -> list[dict[str, str]]:
    """The parameters that an algorithm suggests, told that x and y are to be small."""
    said = {
        "algorithmName": algorithm,
        "algorithmSettings": settings(**{"random_state": 1, **more}),
    }
    spec = experiment("a", algorithm=said, parameters=parameters)["spec"]
    complete(spec)
    asked = engine.Engine(spec)
    found: list[dict[str, str]] = []
    told: list[tuple[str, str]] = []
    for step in range(count // at_once):
        new = [f"a-{step}-{each}" for each in range(at_once)]
        for name, suggested in zip(new, asked.ask(new, told), strict=True):
            values = {each["name"]: each["value"] for each in suggested}
            found.append(values)
            loss = float(values["x"]) ** 2 + float(values.get("y", "0")) ** 2
            told.append((name, str(loss)))
    return found


@pytest.mark.parametrize("algorithm", ["random", "tpe", "multivariate-tpe"])
def test_a_seed_repeats_the_search(algorithm: str) -> None:
    space = [parameter("x"), parameter("y")]
    first = search(algorithm, space, at_once=3)
    assert first == search(algorithm, space, at_once=3)
    assert first != search(algorithm, space, at_once=3, random_state=2)


@pytest.mark.parametrize("algorithm", ["tpe", "multivariate-tpe"])
def test_it_learns_where_to_look(algorithm: str) -> None:
    found = search(algorithm, [parameter("x"), parameter("y")], count=60, n_startup_trials=10)
    losses = [float(each["x"]) ** 2 + float(each["y"]) ** 2 for each in found]
    assert median(losses[-20:]) < median(losses[:10]) / 4
    # Other settings, another search.
    other = search(algorithm, [parameter("x"), parameter("y")], n_ei_candidates=2)
    assert found[:10] == other[:10] and found != other


def test_random_does_not_learn_and_does_not_wait() -> None:
    space = [parameter("x"), parameter("y")]
    assert search("random", space) == search("random", space, at_once=5)


def test_a_grid_has_each_combination_once() -> None:
    space = [
        parameter("x", "double", min="0.25", max="0.75", step="0.25"),
        parameter("y", "int", min="1", max="5", step="2"),
        parameter("kind", "categorical", list=["a", "b"]),
    ]
    found = search("grid", space, count=18, at_once=3)
    assert len({tuple(sorted(each.items())) for each in found}) == 18
    assert {each["x"] for each in found} == {"0.25", "0.5", "0.75"}
    assert {each["y"] for each in found} == {"1", "3", "5"}
    assert {each["kind"] for each in found} == {"a", "b"}


def test_kinds_of_parameters() -> None:
    space = [
        parameter("x", "double", min="1e-5", max="1", distribution="logUniform"),
        parameter("y", "int", min="2", max="64", distribution="logUniform"),
        parameter("size", "discrete", list=["8", "16"]),
        parameter("half", "double", min="0", max="1", step="0.5"),
        parameter("even", "int", min="0", max="6", step="2"),
    ]
    found = search("random", space, count=200)
    x = [float(each["x"]) for each in found]
    # Half of the values lie below the middle of the exponents.
    assert min(x) >= 1e-5 and max(x) <= 1
    assert 70 < sum(value < 10**-2.5 for value in x) < 130
    y = [int(each["y"]) for each in found]
    assert set(y) <= set(range(2, 65)) and 70 < sum(value < 12 for value in y) < 130
    assert {each["size"] for each in found} == {"8", "16"}
    assert {each["half"] for each in found} == {"0.0", "0.5", "1.0"}
    assert {each["even"] for each in found} == {"0", "2", "4", "6"}


def test_what_it_cannot_learn_from() -> None:
    spec = experiment("a")["spec"]
    complete(spec)
    asked = engine.Engine(spec)
    asked.ask(["a"], [])
    with pytest.raises(ValueError, match="could not convert string to float"):
        asked.ask(["b"], [("a", "fast")])
    with pytest.raises(ValueError, match="An unknown trial has been passed"):
        asked.ask(["b"], [("other", "1")])


def test_a_grid_in_the_cluster(lab: KatibLab) -> None:
    space = [
        parameter("x", "int", min="1", max="2"),
        parameter("kind", "categorical", list=["a", "b"]),
    ]
    wanted = template("echo loss=${trialParameters.x} ${trialParameters.kind}")
    wanted["trialParameters"] += [{"name": "kind", "reference": "kind"}]
    lab.search("a", algorithm={"algorithmName": "grid"}, parameters=space, trialTemplate=wanted)
    status = lab.ends("a")
    assert status["trialsSucceeded"] == 4
    pairs = zip(lab.values("a"), lab.values("a", "kind"), strict=True)
    assert sorted(pairs) == [("1", "a"), ("1", "b"), ("2", "a"), ("2", "b")]
    best = status["currentOptimalTrial"]
    assert {each["name"]: each["value"] for each in best["parameterAssignments"]}["x"] == "1"
