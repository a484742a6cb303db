"""The schemas of Kueue's resources, as far as the model acts on their fields.

Fields, limits, defaults and rules are those of ``v1beta2`` at v0.19.2. What the model does not act
on (fair sharing, topologies, requeue backoff) is accepted and kept. A status, which the model alone
writes, has no limits, and a Workload with quota no rules about its changes. Of a pod template
only what the model reads is spelled out; that a Workload has pod sets, and these pods, is required.
"""

from __future__ import annotations

from typing import Any

from mlk8s.sim.status import Object

_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_QUANTITY = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?"
    r"(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
    "x-kubernetes-int-or-string": True,
}
_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "format": "int32"}


def _object(required: tuple[str, ...] = (), **properties: Any) -> Object:
    found: Object = {"type": "object", "properties": properties}
    return found | ({"required": list(required)} if required else {})


def _open(required: tuple[str, ...] = (), **properties: Any) -> Object:
    return _object(required, **properties) | {"x-kubernetes-preserve-unknown-fields": True}


def _list(items: Object, key: str = "", **limits: int) -> Object:
    found: Object = {"type": "array", "items": items, **limits}
    if key:
        found |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
    return found


def _choice(*values: str, default: str = "") -> Object:
    found: Object = {"type": "string", "enum": list(values)}
    return found | ({"default": default} if default else {})


def _name(length: int = 253, pattern: str = _NAME) -> Object:
    return {"type": "string", "maxLength": length, "pattern": pattern}


def _map(values: Object) -> Object:
    return {"type": "object", "additionalProperties": values}


def _rule(rule: str, message: str) -> Object:
    return {"rule": rule, "message": message}


def _conditions() -> Object:
    condition = _object(
        ("lastTransitionTime", "message", "reason", "status", "type"),
        type=_TEXT,
        status=_choice("True", "False", "Unknown"),
        reason=_TEXT,
        message=_TEXT,
        lastTransitionTime={"type": "string", "format": "date-time"},
        observedGeneration={"type": "integer", "format": "int64", "minimum": 0},
    )
    return _list(condition, "type", maxItems=16)


_STOP = _choice("None", "Hold", "HoldAndDrain", default="None")


def flavor() -> Object:
    """A ResourceFlavor."""
    taint = _object(("effect", "key"), key=_TEXT, value=_TEXT, effect=_TEXT)
    toleration = _object(
        key=_TEXT,
        operator=_TEXT,
        value=_TEXT,
        effect=_TEXT,
        tolerationSeconds={"type": "integer", "format": "int64"},
    )
    effects = "['NoSchedule', 'PreferNoSchedule', 'NoExecute']"
    supported = "supported taint effect values: 'NoSchedule', 'PreferNoSchedule', 'NoExecute'"
    taints = _list(taint, maxItems=8)
    taints["x-kubernetes-validations"] = [_rule(f"self.all(x, x.effect in {effects})", supported)]
    tolerations = _list(toleration, maxItems=8)
    tolerations["x-kubernetes-validations"] = [
        _rule(
            "self.all(x, !has(x.key) ? x.operator == 'Exists' : true)",
            "operator must be Exists when 'key' is empty, which means 'match all values and all "
            "keys'",
        ),
        _rule(
            "self.all(x, has(x.tolerationSeconds) ? x.effect == 'NoExecute' : true)",
            "effect must be 'NoExecute' when 'tolerationSeconds' is set",
        ),
        _rule(
            "self.all(x, !has(x.operator) || x.operator in ['Equal', 'Exists'])",
            "supported toleration values: 'Equal'(default), 'Exists'",
        ),
        _rule(
            "self.all(x, has(x.operator) && x.operator == 'Exists' ? !has(x.value) : true)",
            "a value must be empty when 'operator' is 'Exists'",
        ),
        _rule(f"self.all(x, !has(x.effect) || x.effect in {effects})", supported),
    ]
    spec = _object(
        nodeLabels=_map(_TEXT) | {"maxProperties": 8, "x-kubernetes-map-type": "atomic"},
        nodeTaints=taints,
        tolerations=tolerations,
        topologyName=_name(),
    )
    return {"spec": spec}


def cluster_queue() -> Object:
    """A ClusterQueue."""
    quota = _object(
        ("name", "nominalQuota"),
        name=_TEXT,
        nominalQuota=_QUANTITY,
        borrowingLimit=_QUANTITY,
        lendingLimit=_QUANTITY,
    )
    flavor = _object(
        ("name", "resources"),
        name=_name(),
        resources=_list(quota, "name", minItems=1, maxItems=64),
    )
    group = _object(
        ("coveredResources", "flavors"),
        coveredResources=_list(_TEXT, minItems=1, maxItems=64),
        flavors=_list(flavor, "name", minItems=1, maxItems=64),
    )
    group["x-kubernetes-validations"] = [
        _rule(
            "self.flavors.all(x, size(x.resources) == size(self.coveredResources))",
            "flavors must have the same number of resources as the coveredResources",
        )
    ]
    fungibility = _object(
        whenCanBorrow=_choice("MayStopSearch", "TryNextFlavor", default="MayStopSearch"),
        whenCanPreempt=_choice("MayStopSearch", "TryNextFlavor", default="TryNextFlavor"),
        preference=_choice("BorrowingOverPreemption", "PreemptionOverBorrowing"),
    )
    fungibility["x-kubernetes-validations"] = [
        _rule(
            "!has(self.preference) || (self.whenCanBorrow == 'TryNextFlavor' && "
            "self.whenCanPreempt == 'TryNextFlavor')",
            "preference can only be set when both whenCanBorrow and whenCanPreempt are "
            "TryNextFlavor",
        )
    ]
    borrow = _object(policy=_choice("Never", "LowerPriority", default="Never"))
    borrow["properties"]["maxPriorityThreshold"] = _COUNT
    preemption = _object(
        reclaimWithinCohort=_choice("Never", "LowerPriority", "Any", default="Never"),
        borrowWithinCohort=borrow | {"default": {}},
        withinClusterQueue=_choice(
            "Never", "LowerPriority", "LowerOrNewerEqualPriority", default="Never"
        ),
    )
    preemption["x-kubernetes-validations"] = [
        _rule(
            "!(self.reclaimWithinCohort == 'Never' && has(self.borrowWithinCohort) && "
            "self.borrowWithinCohort.policy != 'Never')",
            "reclaimWithinCohort=Never and borrowWithinCohort.Policy!=Never",
        )
    ]
    spec = _object(
        resourceGroups=_list(group, maxItems=16),
        cohortName=_name(),
        queueingStrategy=_choice("StrictFIFO", "BestEffortFIFO", default="BestEffortFIFO"),
        namespaceSelector=_object(
            matchLabels=_map(_TEXT),
            matchExpressions=_list(
                _object(("key", "operator"), key=_TEXT, operator=_TEXT, values=_list(_TEXT))
            ),
        ),
        flavorFungibility=fungibility | {"default": {}},
        preemption=preemption | {"default": {}},
        stopPolicy=_STOP,
        admissionChecksStrategy=_object(
            ("admissionChecks",),
            admissionChecks=_list(
                _object(("name",), name=_name(), onFlavors=_list(_name(), maxItems=64)),
                "name",
                minItems=1,
                maxItems=64,
            ),
        ),
        fairSharing=_OPEN,
        admissionScope=_OPEN,
    )
    spec["x-kubernetes-validations"] = [
        _rule(
            "!has(self.cohortName) && has(self.resourceGroups) ? self.resourceGroups.all(rg, "
            "rg.flavors.all(f, f.resources.all(r, !has(r.borrowingLimit)))) : true",
            "borrowingLimit must be nil when cohort is empty",
        )
    ]
    usage = _usage(total=_QUANTITY, borrowed=_QUANTITY)
    status = _object(
        conditions=_conditions(),
        flavorsReservation=usage,
        flavorsUsage=usage,
        pendingWorkloads=_COUNT,
        reservingWorkloads=_COUNT,
        admittedWorkloads=_COUNT,
    )
    return {"spec": spec, "status": status}


def _usage(**amounts: Object) -> Object:
    resource = _object(("name",), name=_TEXT, **amounts)
    return _list(_object(("name",), name=_TEXT, resources=_list(resource, "name")), "name")


def local_queue() -> Object:
    """A LocalQueue."""
    target = _name() | {
        "x-kubernetes-validations": [_rule("self == oldSelf", "field is immutable")]
    }
    usage = _usage(total=_QUANTITY)
    status = _object(
        conditions=_conditions(),
        flavorsReservation=usage,
        flavorsUsage=usage,
        pendingWorkloads=_COUNT,
        reservingWorkloads=_COUNT,
        admittedWorkloads=_COUNT,
    )
    return {
        "spec": _object(clusterQueue=target, stopPolicy=_STOP, fairSharing=_OPEN),
        "status": status,
    }


def workload() -> Object:
    """A Workload."""
    label = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
    pod_set = _object(
        ("template",),
        name=_name(63, label) | {"default": "main"},
        template=_pod_template(),
        count=_COUNT | {"minimum": 0, "default": 1},
        minCount=_COUNT | {"minimum": 1},
        topologyRequest=_OPEN,
    )
    pod_set["x-kubernetes-validations"] = [
        _rule(
            "has(self.minCount) ? self.minCount <= self.count : true",
            "minCount should be positive and less or equal to count",
        )
    ]
    reference = _object(
        ("group", "kind", "name"),
        group=_choice("kueue.x-k8s.io", "scheduling.k8s.io"),
        kind=_choice("WorkloadPriorityClass", "PriorityClass"),
        name=_name(),
    )
    reference["x-kubernetes-validations"] = [
        _rule(
            f"(self.group == '{group}') ? self.kind == '{kind}' : true",
            f"only the {kind} kind is allowed for the {group} group",
        )
        for group, kind in (
            ("kueue.x-k8s.io", "WorkloadPriorityClass"),
            ("scheduling.k8s.io", "PriorityClass"),
        )
    ]
    spec = _object(
        ("podSets",),
        podSets=_list(pod_set, "name", minItems=1, maxItems=18),
        queueName=_name(),
        priorityClassRef=reference,
        priority=_COUNT,
        active={"type": "boolean", "default": True},
        maximumExecutionTimeSeconds=_COUNT | {"minimum": 1},
    )
    spec["x-kubernetes-validations"] = [
        _rule(
            "!has(self.priorityClassRef) || has(self.priority)",
            "priority should not be nil when priorityClassRef is set",
        )
    ]
    assignment = _object(
        ("name",),
        name=_TEXT,
        flavors=_map(_TEXT),
        resourceUsage=_map(_QUANTITY),
        count=_COUNT,
    )
    counted = _object(("name", "count"), name=_TEXT, count=_COUNT)
    status = _object(
        conditions=_conditions(),
        admission=_object(
            ("clusterQueue", "podSetAssignments"),
            clusterQueue=_name(),
            podSetAssignments=_list(assignment, "name"),
        ),
        reclaimablePods=_list(counted, "name"),
        resourceRequests=_list(_object(("name",), name=_TEXT, resources=_map(_QUANTITY)), "name"),
        requeueState=_OPEN,
        schedulingStats=_object(
            evictions=_list(
                _object(
                    ("count", "reason", "underlyingCause"),
                    reason=_TEXT,
                    underlyingCause=_TEXT,
                    count=_COUNT,
                )
            )
        ),
        accumulatedPastExecutionTimeSeconds=_COUNT,
    )
    return {"spec": spec, "status": status}


def _pod_template() -> Object:
    amounts = _map(_QUANTITY)
    resources = _open(limits=amounts, requests=amounts)
    container = _open(("name",), name=_TEXT, resources=resources)
    expression = _object(
        ("key", "operator"),
        key=_TEXT,
        operator=_choice("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"),
        values=_list(_TEXT),
    )
    term = _open(matchExpressions=_list(expression))
    required = _open(("nodeSelectorTerms",), nodeSelectorTerms=_list(term))
    node_affinity = _open(requiredDuringSchedulingIgnoredDuringExecution=required)
    spec = _open(
        ("containers",),
        containers=_list(container),
        initContainers=_list(container),
        resources=resources,
        overhead=amounts,
        nodeSelector=_map(_TEXT),
        affinity=_open(nodeAffinity=node_affinity),
        tolerations=_list(
            _open(key=_TEXT, operator=_TEXT, value=_TEXT, effect=_TEXT),
        ),
    )
    return _open(("spec",), metadata=_OPEN, spec=spec)


def priority() -> Object:
    """A WorkloadPriorityClass."""
    return {"value": _COUNT, "description": {"type": "string", "maxLength": 2048}}
