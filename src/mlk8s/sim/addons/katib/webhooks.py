"""Katib's admission webhooks for Experiments, and what reads its other objects.

Source: ``pkg/webhook/v1beta1/experiment`` of Katib at v0.19.0.
"""

from __future__ import annotations

from mlk8s.sim.addons.base import Hook, denied
from mlk8s.sim.addons.katib import (
    beyond,
    defaults,
    names,
    reading,
    template_validation,
    validation,
)
from mlk8s.sim.addons.refusals import refuse
from mlk8s.sim.api import Api
from mlk8s.sim.controllers.pods import controller_of
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object

_DEFAULTER = "defaulter.experiment.katib.kubeflow.org"
_VALIDATOR = "validator.experiment.katib.kubeflow.org"
# controller-runtime's admission.Errored gives a code and no reason.
_CODE, _REASON = 400, ""


class ExperimentHook(Hook):
    """The webhooks for Experiments.

    Args:
        api: where namespaces and ConfigMaps are.
    """

    def __init__(self, api: Api) -> None:
        self.api = api

    def mutate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Read the spec, and set its defaults."""
        if resource.key != names.EXPERIMENTS:
            return
        try:
            obj["spec"] = reading.read_spec(resource.key, obj)
        except reading.UnreadableError as error:
            raise denied(_DEFAULTER, str(error), _CODE, _REASON) from error
        defaults.complete(obj["spec"])

    def validate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Refuse what cannot be searched."""
        if resource.key != names.EXPERIMENTS:
            return
        self._check_namespace(obj["metadata"])
        spec = obj["spec"]
        errors = list(validation.check(obj, old))
        wrong = list(validation.check_objective(spec.get("objective")))
        if not wrong:
            errors += validation.check_rest(spec)
            errors += template_validation.check(self.api, spec, self._config_map)
            errors += validation.check_parameters(spec)
            errors += validation.check_collector(spec)
        refuse(_VALIDATOR, errors + wrong, _CODE, _REASON)
        refuse(_VALIDATOR, list(beyond.check(self.api, spec, self._config_map)), _CODE, _REASON)

    def _check_namespace(self, metadata: Object) -> None:
        namespace, name = metadata["namespace"], metadata.get("name", "")
        labels = self.api.get("namespaces", "", namespace)["metadata"].get("labels") or {}
        if labels.get(names.INJECTION_LABEL) != names.INJECTION:
            told = (
                f'Cannot create the Experiment "{name}" in namespace "{namespace}": the namespace '
                f'lacks label "{names.INJECTION_LABEL}: {names.INJECTION}"'
            )
            raise denied(_VALIDATOR, told, _CODE, _REASON)

    def _config_map(self, namespace: str, name: str) -> dict[str, str] | None:
        return config_map(self.api, namespace, name)


class ChildHook(Hook):
    """Keeps Suggestions and Trials such that the controllers can read them.

    Katib has no webhook for them: there a controller fails on one that somebody has made by hand.
    """

    webhook = "add-on katib"

    def validate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Refuse one that no Experiment has made, or that cannot be read."""
        if resource.key not in (names.SUGGESTIONS, names.TRIALS):
            return
        try:
            reading.read_spec(resource.key, obj)
        except reading.UnreadableError as error:
            raise denied(self.webhook, str(error), _CODE, _REASON) from error
        owner = controller_of(obj)
        if op == "CREATE" and (owner is None or owner["kind"] != names.KINDS[names.EXPERIMENTS]):
            told = f"a {resource.kind} is made by the controller: create an Experiment"
            raise denied(self.webhook, told, _CODE, _REASON)


def config_map(api: Api, namespace: str, name: str) -> dict[str, str] | None:
    """The data of a ConfigMap; ``None`` where there is none."""
    found = api.find("configmaps", namespace, name)
    return None if found is None else dict(found.get("data") or {})
