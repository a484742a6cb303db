"""What an installation of Trainer brings besides its controllers: definitions, runtimes, a map."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import yaml

from mlk8s.sim.addons.definitions import definition
from mlk8s.sim.addons.objects import delete_owned
from mlk8s.sim.addons.trainer import names
from mlk8s.sim.api import Api, Request
from mlk8s.sim.status import Object

#: Where an installation lives, and what tells clients its version.
NAMESPACE, PUBLIC = "kubeflow-system", "kubeflow-trainer-public"


def definitions() -> list[Object]:
    """The four definitions; :mod:`mlk8s.sim.addons` marks them as a model."""
    said = _read("definitions.yaml")
    del said["common"]
    return [_definition(name, each) for name, each in said.items()]


def install(api: Api, version: str) -> None:
    """Make the runtimes, and what tells the SDK which version this is."""
    if api.store.raw("namespaces", "", NAMESPACE) is None:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        api.create("namespaces", namespace)
    _withdraw(api)
    public: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": PUBLIC},
        "data": {"kubeflow_trainer_version": f"v{version}"},
    }
    api.create("configmaps", public, NAMESPACE)
    for runtime in _read("runtimes.yaml"):
        api.create(names.CLUSTER_RUNTIMES, runtime, request=Request())


def uninstall(api: Api) -> None:
    """Remove what does not go with the definitions; the namespace stays."""
    _withdraw(api)
    delete_owned(api, (names.TRAIN_JOBS, names.JOBSETS), kept=(names.JOBSETS,))


def _withdraw(api: Api) -> None:
    if api.store.raw("configmaps", NAMESPACE, PUBLIC) is not None:
        api.delete("configmaps", NAMESPACE, PUBLIC)


def _read(name: str) -> Any:
    found = yaml.safe_load(files(__package__).joinpath(name).read_text(encoding="utf-8"))
    # What YAML's anchors share becomes separate values, which may be changed.
    return json.loads(json.dumps(found))


def _definition(name: str, said: Object) -> Object:
    schema: Object = {"type": "object", "properties": {"spec": said["spec"]}}
    if "rules" in said:
        schema["x-kubernetes-validations"] = said["rules"]
    if "status" in said:
        schema["properties"]["status"] = said["status"]
    return definition(
        name,
        said["kind"],
        said["version"],
        schema,
        namespaced=said["scope"] == "Namespaced",
        columns=said.get("columns", ()),
        status="status" in said,
    )
