"""What add-ons change in pods because these are processes of one machine, without their network.

The objects that users and controllers make keep what they have in a real cluster; what differs is
set in the pod when it is made, and an annotation of the pod names it.
"""

from __future__ import annotations

from collections.abc import Iterable

from mlk8s.sim.status import Object

ANNOTATION = "mlk8s.dev/set-for-this-machine"


def note(pod: Object, changed: Iterable[str]) -> None:
    """Name in a pod what was set in it for this machine; nothing where nothing was.

    Args:
        pod: changed in place.
        changed: names of variables, arguments or fields.
    """
    names = list(dict.fromkeys(changed))
    if names:
        annotations = pod["metadata"].get("annotations") or {}
        pod["metadata"]["annotations"] = {**annotations, ANNOTATION: ",".join(names)}
