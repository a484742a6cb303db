"""The tables of what makes pods: deployments, sets, jobs, and what scales and protects them."""

from __future__ import annotations

from typing import Any

from mlk8s.sim.clock import seconds
from mlk8s.sim.status import Object
from mlk8s.sim.tables import text
from mlk8s.sim.tables.text import age, at, count

Row = list[Any]


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _template(obj: Object) -> list[str]:
    return text.containers(at(obj, "spec", "template", "spec", "containers"))


def _replicas(obj: Object) -> int:
    wanted = at(obj, "spec", "replicas")
    return 1 if wanted is None else int(wanted)


def pod_template(obj: Object, now: float) -> Row:
    """A PodTemplate."""
    found = at(obj, "template", "spec", "containers")
    return [
        _name(obj),
        *text.containers(found),
        text.labels(at(obj, "template", "metadata", "labels")),
    ]


def replication_controller(obj: Object, now: float) -> Row:
    """A ReplicationController, whose selector is a plain map."""
    return [*_replica_row(obj, now), text.labels(at(obj, "spec", "selector"))]


def replica_set(obj: Object, now: float) -> Row:
    """A ReplicaSet."""
    return [*_replica_row(obj, now), text.selector(at(obj, "spec", "selector"))]


def _replica_row(obj: Object, now: float) -> Row:
    return [
        _name(obj),
        _replicas(obj),
        count(obj, "status", "replicas"),
        count(obj, "status", "readyReplicas"),
        age(obj, now),
        *_template(obj),
    ]


def deployment(obj: Object, now: float) -> Row:
    """A Deployment."""
    selector = text.selector(at(obj, "spec", "selector"))
    return [
        _name(obj),
        f"{count(obj, 'status', 'readyReplicas')}/{_replicas(obj)}",
        count(obj, "status", "updatedReplicas"),
        count(obj, "status", "availableReplicas"),
        age(obj, now),
        *_template(obj),
        # Here alone an empty selector is shown as nothing.
        "" if selector == text.NONE else selector,
    ]


def stateful_set(obj: Object, now: float) -> Row:
    """A StatefulSet."""
    ready = f"{count(obj, 'status', 'readyReplicas')}/{_replicas(obj)}"
    return [_name(obj), ready, age(obj, now), *_template(obj)]


def daemon_set(obj: Object, now: float) -> Row:
    """A DaemonSet."""
    numbers = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    return [
        _name(obj),
        *(count(obj, "status", number) for number in numbers),
        text.labels(at(obj, "spec", "template", "spec", "nodeSelector")),
        age(obj, now),
        *_template(obj),
        text.selector(at(obj, "spec", "selector")),
    ]


def controller_revision(obj: Object, now: float) -> Row:
    """A ControllerRevision."""
    controller = text.NONE
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            group = owner["apiVersion"].rpartition("/")[0]
            kind = f"{owner['kind']}.{group}" if group else owner["kind"]
            controller = f"{kind.lower()}/{owner['name']}"
    return [_name(obj), controller, count(obj, "revision"), age(obj, now)]


def job(obj: Object, now: float) -> Row:
    """A Job."""
    spec, status = obj["spec"], obj.get("status") or {}
    done, parallel = count(status, "succeeded"), count(spec, "parallelism")
    if spec.get("completions") is not None:
        completions = f"{done}/{spec['completions']}"
    else:
        completions = f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"
    duration = ""
    if status.get("startTime"):
        end = seconds(status["completionTime"]) if status.get("completionTime") else now
        duration = text.human_duration(end - seconds(status["startTime"]))
    return [
        _name(obj),
        _job_status(obj),
        completions,
        duration,
        age(obj, now),
        *_template(obj),
        text.selector(spec.get("selector")),
    ]


def _job_status(obj: Object) -> str:
    for name in ("Complete", "Failed"):
        if text.condition(obj, name) == "True":
            return name
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for name in ("Suspended", "FailureTarget"):
        if text.condition(obj, name) == "True":
            return name
    return "Running"


def cron_job(obj: Object, now: float) -> Row:
    """A CronJob."""
    spec, last = obj["spec"], at(obj, "status", "lastScheduleTime")
    suspend = spec.get("suspend")
    return [
        _name(obj),
        spec.get("schedule", ""),
        spec.get("timeZone") or text.NONE,
        text.UNSET if suspend is None else str(bool(suspend)),
        len(at(obj, "status", "active") or ()),
        text.since(last, now) if last else text.NONE,
        age(obj, now),
        *text.containers(at(spec, "jobTemplate", "spec", "template", "spec", "containers")),
        text.selector(at(spec, "jobTemplate", "spec", "selector")),
    ]


def disruption_budget(obj: Object, now: float) -> Row:
    """A PodDisruptionBudget."""

    def said(name: str) -> str:
        value = at(obj, "spec", name)
        return "N/A" if value is None else str(value)

    allowed = count(obj, "status", "disruptionsAllowed")
    return [_name(obj), said("minAvailable"), said("maxUnavailable"), allowed, age(obj, now)]


def autoscaler(obj: Object, now: float) -> Row:
    """A HorizontalPodAutoscaler."""
    spec = obj["spec"]
    target, least = spec["scaleTargetRef"], spec.get("minReplicas")
    return [
        _name(obj),
        f"{target['kind']}/{target['name']}",
        _metrics(spec.get("metrics") or [], at(obj, "status", "currentMetrics") or []),
        text.UNSET if least is None else str(least),
        count(spec, "maxReplicas"),
        count(obj, "status", "currentReplicas"),
        age(obj, now),
    ]


def _metrics(specs: list[Object], statuses: list[Object]) -> str:
    if not specs:
        return text.NONE
    listed = [
        _metric(spec, statuses[index] if index < len(statuses) else {})
        for index, spec in enumerate(specs)
    ]
    shown = ", ".join(listed[:2])
    return f"{shown} + {len(listed) - 2} more..." if len(listed) > 2 else shown


def _metric(spec: Object, status: Object) -> str:
    source = {
        "External": "external",
        "Pods": "pods",
        "Object": "object",
        "Resource": "resource",
        "ContainerResource": "containerResource",
    }.get(spec.get("type", ""))
    if source is None:
        return "<unknown type>"
    wanted, current = spec[source]["target"], at(status, source, "current") or {}
    average = wanted.get("averageValue")
    if source in ("resource", "containerResource"):
        name = spec[source]["name"]
        if average is not None:
            return f"{name}: {current.get('averageValue', text.UNKNOWN)}/{average}"
        return f"{name}: {_percent(current, text.UNKNOWN)}/{_percent(wanted, '<auto>')}"
    if average is None:
        return f"{current.get('value', text.UNKNOWN)}/{wanted.get('value')}"
    shown = f"{current.get('averageValue', text.UNKNOWN)}/{average}"
    return shown if source == "pods" else f"{shown} (avg)"


def _percent(found: Object, otherwise: str) -> str:
    utilization = found.get("averageUtilization")
    return otherwise if utilization is None else f"{utilization}%"
