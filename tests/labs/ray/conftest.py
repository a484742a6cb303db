"""One Ray for the labs' tests, and their small models."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlk8s import raylocal
from mlk8s.lm import model

LABS = Path(__file__).parents[3] / "labs" / "ray"


@pytest.fixture(scope="package")
def local() -> Iterator[raylocal.Local]:
    with raylocal.running(cpus=2) as found:
        yield found


@pytest.fixture(scope="package")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, as training saves it."""
    return model.create(seed=0).save(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="package")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with other weights."""
    return model.create(seed=1).save(tmp_path_factory.mktemp("models") / "other")


def lab(name: str) -> dict[str, Any]:
    """What a script defines."""
    return runpy.run_path(str(LABS / f"{name}.py"))
