"""Katib's CustomResourceDefinitions, as in ``manifests/v1beta1/components/crd`` at v0.19.0.

They have no schema: Katib's webhooks read Experiments, see :mod:`.reading`.
"""

from __future__ import annotations

from mlk8s.sim.addons.definitions import definition
from mlk8s.sim.addons.katib import names
from mlk8s.sim.addons.objects import delete_owned
from mlk8s.sim.api import Api
from mlk8s.sim.status import Object

# Katib writes the last condition as [-1:].
_CONDITION = (
    ("Type", "string", ".status.conditions[-1].type"),
    ("Status", "string", ".status.conditions[-1].status"),
)
_AGE = ("Age", "date", ".metadata.creationTimestamp")
_COLUMNS = {
    names.EXPERIMENTS: (*_CONDITION, _AGE),
    names.SUGGESTIONS: (
        *_CONDITION,
        ("Requested", "string", ".spec.requests"),
        ("Assigned", "string", ".status.suggestionCount"),
        _AGE,
    ),
    names.TRIALS: (*_CONDITION, _AGE),
}


def definitions() -> list[Object]:
    """The three definitions; :mod:`mlk8s.sim.addons` marks them as a model."""
    return [
        definition(
            name,
            kind,
            names.VERSION,
            {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            columns=[
                {"name": title, "type": type, "jsonPath": path}
                for title, type, path in _COLUMNS[name]
            ],
            status=True,
            categories=("all", "kubeflow", "katib"),
        )
        for name, kind in names.KINDS.items()
    ]


def uninstall(api: Api) -> None:
    """Delete the Jobs and TrainJobs of all Trials."""
    delete_owned(api, (names.TRIALS,))
