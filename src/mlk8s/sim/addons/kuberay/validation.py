"""What KubeRay finds wrong with an object once it looks at it: told in an event, not refused.

Its admission webhooks are off in a usual installation. Source at v1.7.0:
``ray-operator/controllers/ray/utils/validation.go``. Each function gives the first mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from mlk8s.sim.addons.kuberay import autoscaler, names
from mlk8s.sim.status import Object
from mlk8s.sim.validation.rules import dns_1035_label, label_value, qualified_name

_LONGEST_NAME = 53
_SUFFIX = 6
_TOKENS_SINCE, _PRIORITIES_SINCE = (2, 52, 0), (2, 56, 0)
_RESOURCE_PARAMS = ("num-cpus", "num-gpus", "memory", "resources")
_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?.*")


def metadata_mistake(kind: str, metadata: Object) -> str:
    """What is wrong with the name of an object; empty where nothing is.

    Args:
        kind: of the object.
        metadata: its metadata.
    """
    # What is made from a RayJob or RayService has a suffix.
    limit = _LONGEST_NAME if kind == names.CLUSTER_KIND else _LONGEST_NAME - _SUFFIX
    before = "" if kind == names.CLUSTER_KIND else f"The {kind} metadata is invalid: "
    name = metadata["name"]
    if len(name) > limit:
        return f"{before}{kind} name should be no more than {limit} characters"
    if errors := dns_1035_label(name):
        return f"{before}{kind} name should be a valid DNS1035 label: [{' '.join(errors)}]"
    return ""


def cluster_mistake(spec: Object) -> str:
    """What is wrong with the spec of a cluster; empty where nothing is."""
    return next(_cluster(spec), "")


def upgrade_mistake(cluster: Object) -> str:
    """Whether a cluster that belongs to something else wants to be upgraded by itself."""
    labels = cluster["metadata"].get("labels") or {}
    origin = labels.get(names.ORIGIN_KIND)
    wanted = (cluster["spec"].get("upgradeStrategy") or {}).get("type")
    if wanted and origin in (names.JOB_KIND, names.SERVICE_KIND):
        return f"upgradeStrategy cannot be set when RayCluster is created by {origin}"
    return ""


def job_mistake(job: Object) -> str:
    """What is wrong with the spec of a RayJob; empty where nothing is."""
    return next(_job(job["spec"]), "")


def service_mistake(service: Object) -> str:
    """What is wrong with the spec of a RayService; empty where nothing is."""
    if wrong := cluster_mistake(service["spec"]["rayClusterConfig"]):
        return f"The RayService spec is invalid: {wrong}"
    kind = (service["spec"].get("upgradeStrategy") or {}).get("type")
    kinds = ("NewClusterWithIncrementalUpgrade", "NewCluster", "None")
    if kind is not None and kind not in kinds:
        return (
            f"The RayService spec is invalid: Spec.UpgradeStrategy.Type value {kind} is invalid, "
            f"valid options are {kinds[0]}, {kinds[1]}, or {kinds[2]}"
        )
    return ""


def _cluster(spec: Object) -> Iterator[str]:
    head, groups = spec["headGroupSpec"], spec.get("workerGroupSpecs") or []
    if not _containers(head):
        yield "headGroupSpec should have at least one container"
        # What follows is about the first one.
        return
    yield from _group("Head", head)
    for group in groups:
        yield from _workers(group, spec)
    container = _containers(head)[0]
    if _variable(container, "RAY_REDIS_ADDRESS") is not None:
        yield (
            "RAY_REDIS_ADDRESS is set which implicitly enables GCS fault tolerance, but "
            "GcsFaultToleranceOptions is not set. Please set GcsFaultToleranceOptions to enable "
            "GCS fault tolerance"
        )
    params = head.get("rayStartParams") or {}
    if params.get("redis-username") or _variable(container, "REDIS_USERNAME") is not None:
        yield (
            "cannot set redis username in rayStartParams or environment variables - use "
            "GcsFaultToleranceOptions.RedisUsername instead"
        )
    yield from _scaling(spec, container)
    yield from _tokens(spec)


def _group(name: str, group: Object) -> Iterator[str]:
    params = group.get("rayStartParams") or {}
    if group.get("resources") and any(params.get(each) for each in _RESOURCE_PARAMS):
        yield (
            "resource fields should not be set in both rayStartParams and Resources for "
            f"{name} group; please use only one"
        )
    if "labels" in params:
        yield (
            f"rayStartParams['labels'] is not supported for {name} group; please use the top-level "
            "Labels field instead"
        )
    wrong = []
    for key, text in (group.get("labels") or {}).items():
        wrong += [
            f"invalid label key for {name} group: '{key}', error: {error}"
            for error in qualified_name(key)
        ]
        wrong += [
            f"invalid label value for key '{key}' in {name} group: '{text}', error: {error}"
            for error in label_value(text)
        ]
    if wrong:
        yield "; ".join(wrong)


def _workers(group: Object, spec: Object) -> Iterator[str]:
    name, least, most = group["groupName"], group["minReplicas"], group["maxReplicas"]
    if not _containers(group):
        yield "workerGroupSpec should have at least one container"
    if least < 0:
        yield f"worker group {name} has negative minReplicas {least}"
    if most < 0:
        yield f"worker group {name} has negative maxReplicas {most}"
    if least > most:
        yield f"worker group {name} has minReplicas {least} greater than maxReplicas {most}"
    yield from _group(name, group)
    newest = _second_autoscaler(spec)
    idle = group.get("idleTimeoutSeconds")
    if idle is not None and idle < 0:
        yield f"worker group {name}: idleTimeoutSeconds must be non-negative, got {idle}"
    if idle is not None and not newest:
        yield (
            f"worker group {name}: idleTimeoutSeconds is set, but autoscaler v2 is not enabled. "
            "Please set .spec.autoscalerOptions.version to 'v2' (or set "
            f"{autoscaler.SECOND} environment variable to 'true' in the head pod if using KubeRay "
            "< 1.4.0)"
        )
    if priority := group.get("priority"):
        yield from _priority(name, priority, spec.get("rayVersion", ""), newest)
    if group.get("suspend") and autoscaler.is_wanted(spec):
        yield f"worker group {name} cannot be suspended with Autoscaler enabled"


def _priority(name: str, priority: int, version: str, newest: bool) -> Iterator[str]:
    before = f"worker group {name}: priority is set"
    known = _numbers(version)
    if not version:
        yield f"{before}, but RayVersion was not specified. Ray version 2.56.0 or later is required"
    elif known is not None and known < _PRIORITIES_SINCE:
        yield f"{before}, but minimum Ray version is 2.56.0, got {version}"
    if not newest:
        yield (
            f"{before} to {priority}, but autoscaler v2 is not enabled. Priority is only supported "
            "with autoscaler v2 enabled"
        )


def _scaling(spec: Object, container: Object) -> Iterator[str]:
    chosen = _variable(container, autoscaler.SECOND)
    options = spec.get("autoscalerOptions") or {}
    if not autoscaler.is_wanted(spec):
        if chosen in ("1", "true"):
            yield (
                f"environment variable {autoscaler.SECOND} cannot be set to '{chosen}' when "
                "enableInTreeAutoscaling is false. Please set enableInTreeAutoscaling: true to use "
                "autoscaler v2"
            )
    else:
        if options.get("version") and chosen is not None:
            yield (
                "both .spec.autoscalerOptions.version and head Pod env var "
                f"{autoscaler.SECOND} are set, please only use the former"
            )
        if options.get("version") == "v2":
            groups = [("head Pod", spec["headGroupSpec"])]
            groups += [
                (f"worker group {each['groupName']}", each)
                for each in spec.get("workerGroupSpecs") or ()
            ]
            for name, group in groups:
                policy = group["template"]["spec"].get("restartPolicy", "Never")
                if policy != "Never":
                    yield (
                        f"restartPolicy for {name} should be Never or unset when using autoscaler "
                        "V2"
                    )
    idle = options.get("idleTimeoutSeconds")
    if idle is not None and idle < 0:
        yield f"autoscalerOptions.idleTimeoutSeconds must be non-negative, got {idle}"


def _tokens(spec: Object) -> Iterator[str]:
    if (spec.get("authOptions") or {}).get("mode") != "token":
        return
    said, version = "authOptions.mode is 'token' but", spec.get("rayVersion", "")
    if not version:
        yield f"{said} RayVersion was not specified. Ray version 2.52.0 or later is required"
        return
    known = _numbers(version)
    if known is None:
        yield (
            f"{said} RayVersion format is invalid: {version}, could not parse "
            f'"{version}" as version'
        )
    elif known < _TOKENS_SINCE:
        yield f"{said} minimum Ray version is 2.52.0, got {version}"


def _job(spec: Object) -> Iterator[str]:
    before = "The RayJob spec is invalid: "
    shuts_down, lives = spec.get("shutdownAfterJobFinishes"), spec["ttlSecondsAfterFinished"]
    cluster, selector = spec.get("rayClusterSpec"), spec.get("clusterSelector") or {}
    if spec.get("suspend") and not shuts_down:
        yield (
            f"{before}a RayJob with shutdownAfterJobFinishes set to false is not allowed to be "
            "suspended"
        )
    if lives < 0:
        yield f"{before}TTLSecondsAfterFinished must be a non-negative integer"
    if lives > 0 and not shuts_down:
        yield (
            f"{before}a RayJob with shutdownAfterJobFinishes set to false cannot have "
            "TTLSecondsAfterFinished"
        )
    if spec.get("suspend") and selector:
        yield f"{before}the ClusterSelector mode doesn't support the suspend operation"
    if cluster is None and not selector:
        yield f"{before}one of RayClusterSpec or ClusterSelector must be set"
    if selector:
        if not selector.get(names.CLUSTER_LABEL):
            yield "cluster name in ClusterSelector should not be empty"
        if spec["backoffLimit"] > 0:
            yield f"{before}BackoffLimit is incompatible with ClusterSelector mode"
    if cluster is not None and (wrong := cluster_mistake(cluster)):
        yield f"{before}{wrong}"
    try:
        found: Any = yaml.safe_load(spec.get("runtimeEnvYAML", ""))
    except yaml.YAMLError as error:
        yield f"failed to unmarshal RuntimeEnvYAML: {spec['runtimeEnvYAML']}: {error}"
    else:
        if not isinstance(found, dict | None):
            yield f"failed to unmarshal RuntimeEnvYAML: {spec['runtimeEnvYAML']}: it is no map"
    for field in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(field, 1) <= 0:
            yield f"{before}{field} must be a positive integer"
    if spec["backoffLimit"] < 0:
        yield f"{before}backoffLimit must be a positive integer"


def _containers(group: Object) -> list[Object]:
    found: list[Object] = (group["template"].get("spec") or {}).get("containers") or []
    return found


def _variable(container: Object, name: str) -> str | None:
    for each in container.get("env") or ():
        if each.get("name") == name:
            return str(each.get("value", ""))
    return None


def _second_autoscaler(spec: Object) -> bool:
    version = (spec.get("autoscalerOptions") or {}).get("version")
    chosen = _variable(_containers(spec["headGroupSpec"])[0], autoscaler.SECOND)
    return autoscaler.is_wanted(spec) and (version == "v2" or chosen in ("1", "true"))


def _numbers(version: str) -> tuple[int, int, int] | None:
    found = _VERSION.fullmatch(version)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None
