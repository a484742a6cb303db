"""The CustomResourceDefinitions of KubeRay, and what is removed with them."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import yaml

from mlk8s.sim.addons.definitions import definition
from mlk8s.sim.addons.kuberay import names
from mlk8s.sim.addons.objects import delete_owned
from mlk8s.sim.api import Api
from mlk8s.sim.status import Object


def definitions() -> list[Object]:
    """The three definitions; :mod:`mlk8s.sim.addons` marks them as a model."""
    text = files(__package__).joinpath("definitions.yaml").read_text(encoding="utf-8")
    # What YAML's anchors share becomes separate values, which may be changed.
    said: Any = json.loads(json.dumps(yaml.safe_load(text)))
    del said["common"]
    return [
        definition(
            name,
            each["kind"],
            names.VERSION,
            {"type": "object", "properties": {part: each[part] for part in ("spec", "status")}},
            columns=each["columns"],
            status=True,
            categories=("all",),
        )
        for name, each in said.items()
    ]


def uninstall(api: Api) -> None:
    """Remove what the operator's objects own; the garbage collector no longer can."""
    delete_owned(
        api,
        (names.CLUSTERS, names.JOBS, names.SERVICES),
        kept=(names.CLUSTERS, names.JOBS, names.SERVICES),
    )
