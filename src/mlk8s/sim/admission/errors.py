"""How admission says no."""

from __future__ import annotations

from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.status import refused as _refused


def refused(resource: Resource, obj: Object, why: str) -> StatusError:
    """403 about an object that may not have its name yet."""
    metadata = obj.get("metadata") or {}
    name = metadata.get("name") or metadata.get("generateName") or "Unknown"
    return _refused(resource.plural, resource.group, name, why)
