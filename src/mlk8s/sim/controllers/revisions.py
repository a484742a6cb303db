"""ControllerRevisions: the pod templates that a StatefulSet or DaemonSet has had.

Source: pkg/controller/history/controller_history.go.
"""

from __future__ import annotations

import copy

from mlk8s.sim.api import Api
from mlk8s.sim.controllers.base import hash_of, owner_reference
from mlk8s.sim.status import Object

HASH_LABEL = "controller-revision-hash"
_RESOURCE = "controllerrevisions.apps"


def listed(api: Api, owner: Object) -> list[Object]:
    """The revisions of an object, the oldest first."""
    found = []
    for key, namespace, name in api.store.owned(owner["metadata"]["uid"]):
        revision = api.find(key, namespace, name) if key == _RESOURCE else None
        if revision is not None:
            found.append(revision)
    return sorted(found, key=lambda revision: int(revision["revision"]))


def current(api: Api, owner: Object, known: list[Object], labels: dict[str, str]) -> Object:
    """The revision of the object's present template; made, or made the newest, where needed.

    Args:
        api: the cluster.
        owner: the StatefulSet or DaemonSet.
        known: its revisions, the oldest first; changed to include the result.
        labels: what a new revision is labeled with, beside its hash.

    Raises:
        StatusError: it cannot be stored.
    """
    data: Object = {"spec": {"template": copy.deepcopy(owner["spec"]["template"])}}
    data["spec"]["template"]["$patch"] = "replace"
    number = int(known[-1]["revision"]) + 1 if known else 1
    same = [revision for revision in known if revision["data"] == data]
    if same:
        found = same[-1]
        if found is not known[-1]:

            def renew(obj: Object) -> None:
                obj["revision"] = number

            metadata = found["metadata"]
            known.remove(found)
            changed = api.change(_RESOURCE, metadata["namespace"], metadata["name"], renew)
            found = changed or found
            known.append(found)
        return found
    collisions = (owner.get("status") or {}).get("collisionCount", 0)
    suffix = hash_of(data, collisions)
    metadata = owner["metadata"]
    made = api.create(
        _RESOURCE,
        {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": f"{metadata['name']}-{suffix}",
                "namespace": metadata["namespace"],
                "labels": labels | {HASH_LABEL: suffix},
                "annotations": dict(metadata.get("annotations") or {}),
                "ownerReferences": [owner_reference(owner)],
            },
            "data": data,
            "revision": number,
        },
        metadata["namespace"],
    )
    known.append(made)
    return made


def trim(api: Api, known: list[Object], used: set[str], limit: int) -> None:
    """Delete the oldest revisions beyond ``limit``, but for those whose names are in ``used``."""
    spare = [revision for revision in known if revision["metadata"]["name"] not in used]
    for revision in spare[: max(len(spare) - limit, 0)]:
        metadata = revision["metadata"]
        api.delete(_RESOURCE, metadata["namespace"], metadata["name"])
