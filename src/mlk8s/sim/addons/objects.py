"""What the controllers of add-ons have in common: conditions, status, what an object owns."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from mlk8s.sim.api import Api, DeleteOptions
from mlk8s.sim.controllers.base import find_condition
from mlk8s.sim.controllers.pods import controller_of
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change


def holds(status: Object, *types: str) -> bool:
    """Whether one of these conditions is true."""
    found = (find_condition(status, type) for type in types)
    return any(each is not None and each["status"] == "True" for each in found)


def owner_keys(change: Change, kind: str) -> tuple[Hashable, ...]:
    """The key of the object of a kind that controls the changed one; empty where none does."""
    owner = controller_of(change.object)
    if owner is not None and owner["kind"] == kind:
        return ((change.namespace, owner["name"]),)
    return ()


def write_status(api: Api, key: str, obj: Object, status: Object) -> None:
    """Store the status of an object, unless another one has taken its place.

    Args:
        api: the cluster.
        key: the resource.
        obj: the object as it was read.
        status: all of its status.
    """
    metadata = obj["metadata"]

    def put(found: Object) -> None:
        if found["metadata"]["uid"] == metadata["uid"]:
            found["status"] = status

    api.change(key, metadata["namespace"], metadata["name"], put, subresource="status")


def delete_owned(api: Api, owners: Iterable[str], kept: Iterable[str] = ()) -> None:
    """Delete what the objects of some resources own.

    The garbage collector cannot judge it once their definitions are gone.

    Args:
        api: the cluster.
        owners: their resources.
        kept: resources whose objects are left to others.
    """
    left = set(kept)
    for key in owners:
        for owner in list(api.store.items(key)):
            for owned in list(api.store.owned(owner["metadata"]["uid"])):
                if owned[0] not in left:
                    api.delete(*owned, DeleteOptions(propagation="Background"))
