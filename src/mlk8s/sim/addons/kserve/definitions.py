"""What an installation of KServe brings besides its controllers: definitions, and runtimes."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import yaml

from mlk8s.sim.addons.definitions import definition
from mlk8s.sim.addons.kserve import names
from mlk8s.sim.addons.objects import delete_owned
from mlk8s.sim.api import Api, Request
from mlk8s.sim.status import Object


def definitions() -> list[Object]:
    """The three definitions; :mod:`mlk8s.sim.addons` marks them as a model."""
    said = _read("definitions.yaml")
    del said["common"]
    return [_definition(name, each) for name, each in said.items()]


def install(api: Api) -> None:
    """Make the runtimes."""
    for runtime in _read("runtimes.yaml"):
        api.create(names.CLUSTER_RUNTIMES, runtime, request=Request())


def uninstall(api: Api) -> None:
    """Remove what InferenceServices own; the garbage collector no longer can."""
    delete_owned(api, (names.SERVICES,))


def _read(name: str) -> Any:
    found = yaml.safe_load(files(__package__).joinpath(name).read_text(encoding="utf-8"))
    # What YAML's anchors share becomes separate values, which may be changed.
    return json.loads(json.dumps(found))


def _definition(name: str, said: Object) -> Object:
    properties = {part: said[part] for part in ("spec", "status") if part in said}
    return definition(
        name,
        said["kind"],
        said["version"],
        {"type": "object", "properties": properties},
        namespaced=not said.get("cluster"),
        columns=said["columns"],
        status="status" in said,
        short=said.get("short", ()),
    )
