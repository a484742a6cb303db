"""What an admission adds to the pod template of a Job, and how it is taken out again.

The rules are those of ``pkg/podset``.
"""

from __future__ import annotations

from mlk8s.sim.addons.kueue import names
from mlk8s.sim.addons.kueue.state import State
from mlk8s.sim.addons.kueue.wanted import MANAGED
from mlk8s.sim.status import Object

_JOB_NAME = "batch.kubernetes.io/job-name"


def placement(state: State, workload: Object, assignment: Object) -> Object:
    """What an admission adds to a pod: labels, an annotation, node selector, tolerations."""
    found: Object = {
        "labels": {
            names.PODSET_LABEL: assignment["name"],
            names.LOCAL_QUEUE_LABEL: workload["spec"]["queueName"],
            names.CLUSTER_QUEUE_LABEL: workload["status"]["admission"]["clusterQueue"],
        },
        "annotations": {names.WORKLOAD_ANNOTATION: workload["metadata"]["name"]},
        "nodeSelector": {},
        "tolerations": [],
    }
    for name in dict.fromkeys((assignment.get("flavors") or {}).values()):
        flavor = state.flavors.get(name) or {}
        found["nodeSelector"] |= flavor.get("nodeLabels") or {}
        found["tolerations"] += flavor.get("tolerations") or ()
    return found


def merge(template: Object, added: Object) -> None:
    """Put a placement into a pod template or a pod."""
    metadata, spec = template.setdefault("metadata", {}), template["spec"]
    for part in ("labels", "annotations"):
        metadata[part] = {**(metadata.get(part) or {}), **added[part]}
    if added["nodeSelector"]:
        spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **added["nodeSelector"]}
    known = spec.get("tolerations") or []
    if extra := [each for each in added["tolerations"] if each not in known]:
        spec["tolerations"] = [*known, *extra]


def restore(job: Object, original: Object) -> None:
    """Take out of a Job's template what an admission had added."""
    template = job["spec"]["template"]
    metadata, spec = template.setdefault("metadata", {}), template["spec"]
    known = original.get("metadata") or {}
    present = metadata.get("labels") or {}
    kept = {k: v for k, v in present.items() if k in (*MANAGED, _JOB_NAME)}
    labels = {**(known.get("labels") or {}), **kept}
    for part, value in (("labels", labels), ("annotations", known.get("annotations"))):
        _set(metadata, part, value)
    for part in ("nodeSelector", "tolerations"):
        _set(spec, part, original["spec"].get(part))


def _set(where: Object, part: str, value: object) -> None:
    if value:
        where[part] = value
    else:
        where.pop(part, None)
