"""What the webhooks of Trainer and JobSet have in common: how they read and refuse objects."""

from __future__ import annotations

from mlk8s.sim.addons import refusals
from mlk8s.sim.addons.base import denied
from mlk8s.sim.addons.trainer import names
from mlk8s.sim.api import Api
from mlk8s.sim.status import FieldError, Object, StatusError

REPLICATED = "spec.replicatedJobs"


def unmodeled(path: str) -> FieldError:
    """A field that this model does not act on."""
    return refusals.unmodeled(path, "trainer")


def check_templates(api: Api, webhook: str, path: str, jobs: list[Object]) -> list[Object]:
    """The Jobs that templates describe, whose schema is left open in the definitions.

    Raises:
        StatusError: Kubernetes could not read one.
    """
    resource = api.registry.of_key(names.JOBS)
    found = []
    for index, each in enumerate(jobs):
        body = {"apiVersion": "batch/v1", "kind": "Job", **each["template"]}
        try:
            read = api.schemas.decode(resource, body, "Strict", [])
        except StatusError as error:
            text = f"{path}[{index}].template: {error.message}"
            raise denied(webhook, text) from error
        pod = ((read.get("spec") or {}).get("template") or {}).get("spec") or {}
        if not pod.get("containers"):
            where = f"{path}[{index}].template.spec.template.spec.containers"
            raise denied(webhook, f"{where}: Required value")
        found.append(read)
    return found


def listed(obj: Object, part: str) -> list[Object]:
    """The objects of a list of the spec; its schema is checked later."""
    spec = obj.get("spec")
    found = spec.get(part) if isinstance(spec, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def below(obj: Object, *path: str) -> list[Object]:
    """The object at a path, made where nothing is; none where something else stands there."""
    for part in path:
        if obj.get(part) is None:
            obj[part] = {}
        if not isinstance(obj[part], dict):
            return []
        obj = obj[part]
    return [obj]
