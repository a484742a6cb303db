"""Defaults of pods and of pod templates, and the quality of service of a pod.

After ``SetDefaults_Pod``, ``SetDefaults_PodSpec`` and what they call in
``pkg/apis/core/v1/defaults.go``, and ``podStrategy.PrepareForCreate``.
"""

from __future__ import annotations

from mlk8s.sim import quantity
from mlk8s.sim.status import Object

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_SOURCES_WITH_MODE = ("secret", "configMap", "downwardAPI", "projected")
_MODE = 0o644
_TOKEN_SECONDS = 3600


def pod(obj: Object) -> None:
    """The spec of a pod."""
    found = obj.setdefault("spec", {})
    spec(found)
    found.setdefault("enableServiceLinks", True)
    for kind in ("initContainers", "containers"):
        for container in found.get(kind) or ():
            _requests(container.setdefault("resources", {}))
    if whole := found.get("resources"):
        _requests(whole)


def begin(obj: Object) -> None:
    """The state in which a pod is created, from its spec as admission has left it."""
    status: Object = {"phase": "Pending", "qosClass": quality_of_service(obj)}
    if obj["spec"].get("schedulingGates"):
        status["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "lastProbeTime": None,
                "lastTransitionTime": None,
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }
        ]
    obj["status"] = status
    _merge_label_keys(obj)


def template(found: Object) -> None:
    """A pod template. Unlike a pod it gets no requests from its limits."""
    found.setdefault("metadata", {})
    spec(found.setdefault("spec", {}))


def spec(found: Object) -> None:
    """A pod spec."""
    found.setdefault("restartPolicy", "Always")
    found.setdefault("terminationGracePeriodSeconds", 30)
    found.setdefault("dnsPolicy", "ClusterFirst")
    found.setdefault("securityContext", {})
    found.setdefault("schedulerName", "default-scheduler")
    account = found.get("serviceAccountName") or found.get("serviceAccount")
    if account:
        # The older name of the field is kept for clients that still read it.
        found["serviceAccountName"] = found["serviceAccount"] = account
    for kind in _CONTAINERS:
        for container in found.get(kind) or ():
            _container(container, bool(found.get("hostNetwork")))
    for volume in found.get("volumes") or ():
        _volume(volume)


def pull_policy(image: str) -> str:
    """``Always`` for ``:latest`` and for an image without tag or digest."""
    name, at, _ = image.partition("@")
    if at:
        return "IfNotPresent"
    tag = name.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def quality_of_service(obj: Object) -> str:
    """``Guaranteed``, ``Burstable`` or ``BestEffort``: by cpu and memory alone."""
    found = obj["spec"]
    holders = [found] if (found.get("resources") or {}) else []
    if not holders:
        holders = [*(found.get("initContainers") or ()), *(found.get("containers") or ())]
    any_set, all_equal = False, True
    for holder in holders:
        resources = holder.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            limit = quantity.value(str(limits.get(name, "0")))
            request = quantity.value(str(requests.get(name, "0")))
            any_set = any_set or limit > 0 or request > 0
            all_equal = all_equal and limit > 0 and limit == request
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if all_equal else "Burstable"


def _requests(resources: Object) -> None:
    limits = resources.get("limits")
    if limits:
        requests = resources.setdefault("requests", {})
        for name, amount in limits.items():
            requests.setdefault(name, amount)


def _container(container: Object, host_network: bool) -> None:
    container.setdefault("resources", {})
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(container.get("image", ""))
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if host_network and not port.get("hostPort"):
            port["hostPort"] = port.get("containerPort", 0)
    for variable in container.get("env") or ():
        _references(variable.get("valueFrom") or {})
        if key := (variable.get("valueFrom") or {}).get("fileKeyRef"):
            key.setdefault("optional", False)
    for name in _PROBES:
        if (probe := container.get(name)) is not None:
            _probe(probe)
    for handler in (container.get("lifecycle") or {}).values():
        if isinstance(handler, dict):
            _http(handler)


def _probe(probe: Object) -> None:
    for name, value in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ):
        if not probe.get(name):
            probe[name] = value
    _http(probe)
    if (grpc := probe.get("grpc")) is not None:
        grpc.setdefault("service", "")


def _http(handler: Object) -> None:
    if (action := handler.get("httpGet")) is not None:
        action.setdefault("path", "/")
        action.setdefault("scheme", "HTTP")


def _references(source: Object) -> None:
    if (field := source.get("fieldRef")) is not None:
        field.setdefault("apiVersion", "v1")
    if (amount := source.get("resourceFieldRef")) is not None:
        amount.setdefault("divisor", "0")


def _volume(volume: Object) -> None:
    if not any(name != "name" for name in volume):
        volume["emptyDir"] = {}
    for kind in _SOURCES_WITH_MODE:
        if (source := volume.get(kind)) is not None:
            source.setdefault("defaultMode", _MODE)
    for item in (volume.get("downwardAPI") or {}).get("items") or ():
        _references(item)
    for source in (volume.get("projected") or {}).get("sources") or ():
        if (token := source.get("serviceAccountToken")) is not None:
            token.setdefault("expirationSeconds", _TOKEN_SECONDS)
        for item in (source.get("downwardAPI") or {}).get("items") or ():
            _references(item)
    if (path := volume.get("hostPath")) is not None:
        path.setdefault("type", "")
    if (image := volume.get("image")) is not None:
        image.setdefault("pullPolicy", pull_policy(image.get("reference", "")))
    claim = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
    if claim is not None:
        claim.setdefault("metadata", {})
        claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")


def _merge_label_keys(obj: Object) -> None:
    """Write ``matchLabelKeys`` into the selectors, with the values of this pod's labels."""
    labels = obj["metadata"].get("labels") or {}
    affinity = obj["spec"].get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        found = affinity.get(kind) or {}
        terms = list(found.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        terms += [
            weighted.get("podAffinityTerm") or {}
            for weighted in found.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ]
        for term in terms:
            _merge(term, "matchLabelKeys", "In", labels)
            _merge(term, "mismatchLabelKeys", "NotIn", labels)
    for constraint in obj["spec"].get("topologySpreadConstraints") or ():
        _merge(constraint, "matchLabelKeys", "In", labels)


def _merge(term: Object, part: str, operator: str, labels: dict[str, str]) -> None:
    selector = term.get("labelSelector")
    if selector is None:
        return
    for key in term.get(part) or ():
        if key in labels:
            expression = {"key": key, "operator": operator, "values": [labels[key]]}
            selector.setdefault("matchExpressions", []).append(expression)
