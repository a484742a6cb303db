"""The finalizers that Katib puts on Experiments and Trials, and takes off when they are deleted."""

from __future__ import annotations

from mlk8s.sim.api import Api
from mlk8s.sim.status import Object


def keep(api: Api, key: str, obj: Object, finalizer: str) -> bool:
    """Put a finalizer on an object, or take it off one that is being deleted.

    Args:
        api: the cluster.
        key: the resource.
        obj: the object.
        finalizer: its name.

    Returns:
        Whether the object was changed: the change brings it up again.
    """
    metadata = obj["metadata"]
    held = metadata.get("finalizers") or []
    deleting = "deletionTimestamp" in metadata
    if deleting != (finalizer in held):
        return False
    wanted = [each for each in held if each != finalizer] if deleting else [*held, finalizer]

    def put(found: Object) -> None:
        if wanted:
            found["metadata"]["finalizers"] = wanted
        else:
            found["metadata"].pop("finalizers", None)

    api.change(key, metadata["namespace"], metadata["name"], put)
    return True
