"""What the official Python client gets from a cluster: 77 calls, and what each gave, as JSON.

usage: python python_client.py KUBECONFIG > python_client-VERSION.json

Which client is used is decided by ``PYTHONPATH``. ``CALLS`` lists the calls in their order; later
ones build on what earlier ones made. What differs from run to run is replaced.
"""

from __future__ import annotations

import json
import re
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from threading import Timer
from typing import Any

import kubernetes
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException

NS = "clients"
VOLATILE = {
    *("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "lastTransitionTime"),
    *("lastProbeTime", "startTime", "continue", "time", "lastUpdateTime", "observedGeneration"),
}

config.load_kube_config(sys.argv[1])
settings = client.Configuration.get_default_copy()
settings.retries = 0
api = client.ApiClient(settings)
core, apps, batch = client.CoreV1Api(api), client.AppsV1Api(api), client.BatchV1Api(api)
crd, custom = client.ApiextensionsV1Api(api), client.CustomObjectsApi(api)


@dataclass
class Call:
    """One call.

    Attributes:
        name: what is looked at.
        make: the call.
        show: what is noted of its answer; all of it where this is missing.
    """

    name: str
    make: Callable[[], Any]
    show: Callable[[Any], Any] = lambda answer: answer


# -- what is sent ----------------------------------------------------------------------------------

LIMITS = {"nvidia.com/gpu": "1", "cpu": "500m", "memory": "1Gi"}
CONTAINER = {"name": "c", "image": "x", "resources": {"limits": LIMITS}}
AMOUNTS = {"cpu": "8", "memory": "32Gi", "pods": "110", "nvidia.com/gpu": "2"}
NODE = {
    "metadata": {
        "name": "c-node",
        "labels": {"nvidia.com/gpu.present": "true", "kubernetes.io/hostname": "c-node"},
    }
}
TO_NODE = {"target": {"kind": "Node", "name": "c-node"}, "metadata": {"name": "bp"}}
PLAIN = {"containers": [{"name": "c", "image": "x"}]}
DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "d"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"d": "d"}},
        "template": {"metadata": {"labels": {"d": "d"}}, "spec": PLAIN},
    },
}
OTHER_SELECTOR = {
    "metadata": {"name": "d2"},
    "spec": DEPLOYMENT["spec"] | {"selector": {"matchLabels": {"z": "z"}}},
}
QUOTA = {"metadata": {"name": "q"}, "spec": {"hard": {"limits.nvidia.com/gpu": "1"}}}
THING_SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["n"],
            "properties": {
                "n": {"type": "integer", "maximum": 5},
                "m": {"type": "string", "default": "dflt"},
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
THINGS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": THING_SCHEMA},
            }
        ],
    },
}


def pod(name: str | None = "p1", spec: dict[str, Any] | None = None, **meta: Any) -> Any:
    """A pod that asks for a GPU."""
    metadata = {"name": name, "labels": {"app": "a"}, **meta}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {key: value for key, value in metadata.items() if value is not None},
        "spec": {"containers": [CONTAINER], **(spec or {})},
    }


def create(body: Any, **more: Any) -> Any:
    """Create a pod."""
    return core.create_namespaced_pod(NS, body, **more)


def create_bare(spec: dict[str, Any]) -> Any:
    """Create a pod with nothing but a name and a spec."""
    return create({"metadata": {"name": "n"}, "spec": spec})


def change(patch: Any, name: str = "p1") -> Any:
    """Patch a pod; a list is a JSON patch."""
    return core.patch_namespaced_pod(name, NS, patch)


def pods(**selectors: str) -> Any:
    """List pods."""
    return core.list_namespaced_pod(NS, **selectors)


def config_map(name: str, **parts: Any) -> Any:
    """Create a config map."""
    metadata = {"name": name, **parts.pop("metadata", {})}
    return core.create_namespaced_config_map(NS, {"metadata": metadata, **parts})


def patch_config_map(name: str, patch: Any, **more: Any) -> Any:
    """Patch a config map."""
    return core.patch_namespaced_config_map(name, NS, patch, **more)


def apply(manager: str, data: dict[str, str], force: bool = False) -> Any:
    """Server-side apply of a config map."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ssa"}, "data": data}
    kind = "application/apply-patch+yaml"
    return patch_config_map("ssa", body, field_manager=manager, force=force, _content_type=kind)


def create_thing(name: str, **spec: Any) -> Any:
    """Create an object of the custom resource."""
    body = {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {"name": name},
        "spec": spec,
    }
    return custom.create_namespaced_custom_object("example.com", "v1", NS, "things", body)


# -- calls that take several steps -----------------------------------------------------------------


def until(wanted: Any, read: Callable[[], Any], limit_s: float = 10.0) -> Any:
    """What is read when it is as wanted, and still a moment later; what is read last, if never."""
    end = time.monotonic() + limit_s
    while read() != wanted and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.2)
    return read()


def paging() -> Any:
    """Two pages."""
    first = core.list_namespaced_pod(NS, limit=1)
    rest = core.list_namespaced_pod(NS, limit=10, _continue=first.metadata._continue)
    return {
        "first": len(first.items),
        "remaining": first.metadata.remaining_item_count,
        "rest": len(rest.items),
        "more": bool(rest.metadata._continue),
    }


def patch_status() -> Any:
    """A status with something else beside it."""
    body = {"status": {"message": "hello"}, "metadata": {"annotations": {"sneak": "x"}}}
    return core.patch_namespaced_pod_status("p1", NS, body)


def bind() -> Any:
    """Be a scheduler."""
    create(pod("bp", {"schedulerName": "nobody"}))
    core.create_namespaced_binding(NS, TO_NODE, _preload_content=False)
    return core.read_namespaced_pod("bp", NS)


def finalizer_holds() -> Any:
    """Delete what a finalizer keeps."""
    config_map("f", metadata={"finalizers": ["x.io/y"]})
    core.delete_namespaced_config_map("f", NS)
    return core.read_namespaced_config_map("f", NS)


def finalizer_removed() -> Any:
    """Let it go."""
    patch_config_map("f", {"metadata": {"finalizers": None}})
    return core.read_namespaced_config_map("f", NS)


def replicas() -> int:
    """Pods of the deployment."""
    return len(pods(label_selector="d=d").items)


def scale_up() -> int:
    """One more replica."""
    apps.patch_namespaced_deployment_scale("d", NS, {"spec": {"replicas": 3}})
    return int(until(3, replicas))


def delete_deployment() -> Any:
    """In the foreground: its pods go first."""
    apps.delete_namespaced_deployment("d", NS, propagation_policy="Foreground")

    def left() -> list[str]:
        items = pods(label_selector="d=d").items
        return [one.metadata.name for one in items if not one.metadata.deletion_timestamp]

    return until([], left)


def define_things() -> Any:
    """A custom resource, once it is served."""
    crd.create_custom_resource_definition(THINGS)

    def true() -> list[str]:
        found = crd.read_custom_resource_definition("things.example.com").status.conditions or []
        return [one.type for one in found if one.status == "True"]

    return until(["NamesAccepted", "Established"], true)


def patch_thing_status() -> Any:
    """A custom status with a spec beside it."""
    body = {"status": {"ok": True}, "spec": {"n": 3}}
    return custom.patch_namespaced_custom_object_status(
        "example.com", "v1", NS, "things", "a", body
    )


def watching(count: int, *changes: Callable[[], Any], **selectors: str) -> Any:
    """Events of a watch on config maps, while they change."""
    version = core.list_namespaced_config_map(NS).metadata.resource_version
    for number, one in enumerate(changes, 1):
        Timer(0.2 * number, one).start()
    seen: list[list[str]] = []
    stream = watch.Watch()
    for event in stream.stream(
        core.list_namespaced_config_map,
        NS,
        resource_version=version,
        timeout_seconds=4,
        **selectors,
    ):
        seen.append([event["type"], event["object"].metadata.name])
        if len(seen) == count:
            stream.stop()
    return seen


def watch_all() -> Any:
    """A config map from its beginning to its end."""
    return watching(
        3,
        lambda: config_map("w1"),
        lambda: patch_config_map("w1", {"data": {"x": "y"}}),
        lambda: core.delete_namespaced_config_map("w1", NS),
    )


def watch_label() -> Any:
    """A config map that gets a label and loses it."""
    return watching(
        2,
        lambda: patch_config_map("cm", {"metadata": {"labels": {"in": "1"}}}),
        lambda: patch_config_map("cm", {"metadata": {"labels": {"in": None}}}),
        label_selector="in=1",
    )


def watch_from_old_version() -> bool:
    """Whether what happened since is told."""
    events = watch.Watch().stream(
        core.list_namespaced_config_map, NS, resource_version="1", timeout_seconds=1
    )
    return "ADDED" in [event["type"] for event in events]


def dry_run() -> Any:
    """What a dry run leaves."""
    core.create_namespaced_config_map(NS, {"metadata": {"name": "dry"}}, dry_run="All")
    return core.read_namespaced_config_map("dry", NS)


def delete_collection() -> Any:
    """What stays when nothing is selected for deletion."""
    core.delete_collection_namespaced_config_map(NS, label_selector="none=1")
    return core.list_namespaced_config_map(NS)


def anonymous() -> int:
    """A request without credentials."""
    request = urllib.request.Request(settings.host + "/api/v1/namespaces")
    context = ssl._create_unverified_context()
    with urllib.request.urlopen(request, context=context, timeout=5) as answer:
        return int(answer.status)


def delete_namespace() -> Any:
    """Until it is gone, with all that is in it."""
    core.delete_namespace(NS)
    for one in pods().items:
        core.delete_namespaced_pod(one.metadata.name, NS, grace_period_seconds=0)
    end = time.monotonic() + 15
    while time.monotonic() < end:
        core.read_namespace(NS)
        time.sleep(0.1)
    return core.read_namespace(NS)


# -- what is noted of the answers ------------------------------------------------------------------


def names(listed: Any) -> list[str]:
    """Names in a list."""
    return sorted(one.metadata.name for one in listed.items)


def count(listed: Any) -> int:
    """Length of a list."""
    return len(listed.items)


def labels(obj: Any) -> Any:
    """Labels of an object."""
    return obj.metadata.labels


def data(obj: Any) -> Any:
    """Data of a config map or secret."""
    return obj.data


def list_metadata(listed: Any) -> Any:
    """Whether a list says what it is."""
    version = bool(listed.metadata.resource_version)
    return {"kind": listed.kind, "apiVersion": listed.api_version, "rv": version}


def pod_defaults(obj: Any) -> Any:
    """What the server filled in."""
    spec = obj.spec
    return {
        "restartPolicy": spec.restart_policy,
        "pull": spec.containers[0].image_pull_policy,
        "term": spec.termination_grace_period_seconds,
        "dns": spec.dns_policy,
        "sched": spec.scheduler_name,
        "prio": spec.priority,
        "requests": spec.containers[0].resources.requests,
        "tolerations": spec.tolerations,
    }


def deployment_defaults(obj: Any) -> Any:
    """What the server filled in."""
    return {
        "replicas": obj.spec.replicas,
        "strategy": obj.spec.strategy.type,
        "gen": obj.metadata.generation,
        "history": obj.spec.revision_history_limit,
    }


def job_defaults(obj: Any) -> Any:
    """What the server filled in."""
    return {
        "backoff": obj.spec.backoff_limit,
        "completions": obj.spec.completions,
        "parallelism": obj.spec.parallelism,
        "mode": obj.spec.completion_mode,
    }


def owners(listed: Any) -> Any:
    """Who owns the first of a list."""
    return [[owner.kind, owner.controller] for owner in listed.items[0].metadata.owner_references]


CALLS = (
    Call(
        "version is a v1.3x",
        lambda: client.VersionApi(api).get_code(),
        lambda answer: answer.git_version.startswith("v1.3"),
    ),
    Call("node labels", lambda: core.read_node("c-node"), labels),
    Call(
        "node capacity canonical",
        lambda: core.read_node("c-node"),
        lambda node: node.status.capacity,
    ),
    Call(
        "nodes by label",
        lambda: core.list_node(
            label_selector="nvidia.com/gpu.present=true,kubernetes.io/hostname in (c-node, other)"
        ),
        names,
    ),
    Call("list metadata", lambda: core.list_node(), list_metadata),
    Call("create pod", lambda: create(pod())),
    Call("create the same pod", lambda: create(pod())),
    Call(
        "generateName",
        lambda: create(pod(None, generateName="g-")),
        lambda made: made.metadata.name,
    ),
    Call("name invalid", lambda: create(pod("Bad_Name"))),
    Call("no containers", lambda: create_bare({"containers": []})),
    Call("no image", lambda: create_bare({"containers": [{"name": "c"}]})),
    Call("unknown restartPolicy", lambda: create_bare({"restartPolicy": "Maybe", **PLAIN})),
    Call(
        "bad quantity",
        lambda: create_bare(
            {"containers": [{"name": "c", "image": "x", "resources": {"limits": {"cpu": "lots"}}}]}
        ),
    ),
    Call("namespace missing", lambda: core.create_namespaced_pod("nope", pod())),
    Call("namespace mismatch", lambda: create(pod("mm", namespace="other"))),
    Call("read missing", lambda: core.read_namespaced_pod("nope", NS)),
    Call("list by field: phase", lambda: pods(field_selector="status.phase=Pending"), count),
    Call("list by field: name", lambda: pods(field_selector="metadata.name=p1"), names),
    Call("list by field: unsupported", lambda: pods(field_selector="spec.containers=1"), names),
    Call("list by bad label selector", lambda: pods(label_selector="a in ("), names),
    Call("label set operators", lambda: pods(label_selector="app notin (b),!missing,app"), count),
    Call("paging", paging),
    Call(
        "bad continue token",
        lambda: core.list_namespaced_pod(NS, limit=1, _continue="garbage"),
    ),
    Call("strategic merge: labels", lambda: change({"metadata": {"labels": {"b": "2"}}}), labels),
    Call(
        "strategic merge: container by name keeps resources",
        lambda: change({"spec": {"containers": [{"name": "c", "image": "y"}]}}),
        lambda changed: changed.spec.containers[0].resources,
    ),
    Call("null removes a key", lambda: change({"metadata": {"labels": {"b": None}}}), labels),
    Call(
        "immutable field",
        lambda: change(
            {
                "spec": {
                    "containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "2"}}}]
                }
            }
        ),
    ),
    Call(
        "json patch add",
        lambda: change([{"op": "add", "path": "/metadata/labels/j", "value": "1"}]),
        labels,
    ),
    Call(
        "json patch test fails",
        lambda: change([{"op": "test", "path": "/metadata/labels/j", "value": "9"}]),
    ),
    Call(
        "stale resourceVersion",
        lambda: change({"metadata": {"resourceVersion": "1", "labels": {"q": "1"}}}),
    ),
    Call(
        "replace without resourceVersion",
        lambda: core.replace_namespaced_config_map("nocm", NS, {"metadata": {"name": "nocm"}}),
    ),
    Call("status patch", patch_status, lambda changed: changed.status.message),
    Call(
        "status patch leaves spec and labels alone",
        lambda: core.read_namespaced_pod("p1", NS),
        labels,
    ),
    Call(
        "status is ignored on create",
        lambda: create({**pod("st"), "status": {"phase": "Succeeded"}}),
        lambda made: made.status.phase,
    ),
    Call("defaults filled in", lambda: core.read_namespaced_pod("p1", NS), pod_defaults),
    Call(
        "qosClass", lambda: core.read_namespaced_pod("p1", NS), lambda found: found.status.qos_class
    ),
    Call("log of a pod that did not start", lambda: core.read_namespaced_pod_log("st", NS)),
    Call("binding", bind, lambda bound: bound.spec.node_name),
    Call(
        "binding twice",
        lambda: core.create_namespaced_binding(NS, TO_NODE, _preload_content=False),
        lambda answer: answer.status,
    ),
    Call("configmap create", lambda: config_map("cm", data={"a": "1"}), data),
    Call("configmap bad key", lambda: config_map("cm2", data={"a b": "1"})),
    Call(
        "secret stringData",
        lambda: core.create_namespaced_secret(
            NS, {"metadata": {"name": "s"}, "stringData": {"k": "v"}}
        ),
        data,
    ),
    Call("server-side apply creates", lambda: apply("me", {"a": "1", "b": "1"}), data),
    Call("server-side apply conflict", lambda: apply("you", {"a": "2"}), data),
    Call("server-side apply forced", lambda: apply("you", {"a": "2"}, force=True), data),
    Call("server-side apply drops what its manager no longer names", lambda: apply("me", {}), data),
    Call("finalizer holds", finalizer_holds, lambda found: bool(found.metadata.deletion_timestamp)),
    Call("finalizer removed", finalizer_removed),
    Call(
        "deployment",
        lambda: apps.create_namespaced_deployment(NS, DEPLOYMENT),
        deployment_defaults,
    ),
    Call(
        "deployment selector mismatch",
        lambda: apps.create_namespaced_deployment(NS, OTHER_SELECTOR),
    ),
    Call("its pods appear", lambda: until(2, replicas)),
    Call("owner references", lambda: pods(label_selector="d=d"), owners),
    Call(
        "scale read",
        lambda: apps.read_namespaced_deployment_scale("d", NS),
        lambda scale: scale.spec.replicas,
    ),
    Call("scale patch", scale_up),
    Call("delete orphans nothing", delete_deployment),
    Call(
        "job defaults",
        lambda: batch.create_namespaced_job(
            NS,
            {
                "metadata": {"name": "j"},
                "spec": {"template": {"spec": {"restartPolicy": "Never", **PLAIN}}},
            },
        ),
        job_defaults,
    ),
    Call(
        "job restartPolicy Always",
        lambda: batch.create_namespaced_job(
            NS, {"metadata": {"name": "j2"}, "spec": {"template": {"spec": PLAIN}}}
        ),
    ),
    Call(
        "quota on limits of an extended resource",
        lambda: core.create_namespaced_resource_quota(NS, QUOTA),
    ),
    Call("crd", define_things),
    Call(
        "custom object, default and pruning",
        lambda: create_thing("a", n=1, junk=2),
        lambda made: made["spec"],
    ),
    Call("custom object, schema: missing", lambda: create_thing("b")),
    Call("custom object, schema: maximum", lambda: create_thing("c", n=9)),
    Call("custom object, schema: type", lambda: create_thing("d", n="x")),
    Call("custom status subresource", patch_thing_status, lambda changed: changed["spec"]["n"]),
    Call(
        "unknown kind",
        lambda: custom.list_namespaced_custom_object("example.com", "v1", NS, "nothings"),
    ),
    Call("watch", watch_all),
    Call("a watch by label sees objects enter and leave", watch_label),
    Call("watch from an old version", watch_from_old_version),
    Call("dry run", dry_run),
    Call(
        "strict unknown field",
        lambda: create(pod("sf", {"conatiners": []}), field_validation="Strict"),
    ),
    Call(
        "delete returns",
        lambda: core.delete_namespaced_config_map("cm", NS),
        lambda answer: getattr(answer, "kind", None),
    ),
    Call("delete missing", lambda: core.delete_namespaced_config_map("cm", NS)),
    Call(
        "delete with wrong uid precondition",
        lambda: core.delete_namespaced_secret("s", NS, body={"preconditions": {"uid": "x"}}),
    ),
    Call("deletecollection", delete_collection, names),
    Call(
        "eviction without a budget",
        lambda: core.create_namespaced_pod_eviction("g-none", NS, {"metadata": {"name": "g-none"}}),
    ),
    Call("token review needs no anonymous access", anonymous),
    Call("namespace deletion empties it", delete_namespace),
)


def tidy(value: Any, key: str = "") -> Any:
    """An answer as JSON, without what differs from run to run."""
    if hasattr(value, "to_dict"):
        value = api.sanitize_for_serialization(value)
    if key in VOLATILE and value:
        return "<set>"
    match value:
        case dict():
            return {key: tidy(one, key) for key, one in value.items() if key != "managedFields"}
        case list():
            return [tidy(one) for one in value]
        case str():
            value = re.sub(r"\b(g-)[a-z0-9]{5}\b", r"\1<suffix>", value)
            value = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uid>", value)
            return re.sub(r"(errors\.pydantic\.dev/)[\d.]+", r"\1<version>", value)
    return value


def outcome(call: Call) -> dict[str, Any]:
    """What a call gave: ``ok``; or ``status``, ``reason``, ``message``; or what it ``raised``."""
    try:
        return {"ok": tidy(call.show(call.make()))}
    except ApiException as error:
        try:
            body = json.loads(error.body)
        except ValueError:
            body = {}
        reason, message = body.get("reason"), tidy(body.get("message"))
        return {"status": error.status, "reason": reason, "message": message}
    except Exception as error:  # noqa: BLE001 - which one it is, is what is noted
        return {"raised": type(error).__name__, "message": tidy(str(error)[:300])}


def main() -> None:
    """Make all calls."""
    core.create_namespace({"metadata": {"name": NS}})
    core.create_node(NODE)
    core.patch_node_status("c-node", {"status": {"capacity": AMOUNTS, "allocatable": AMOUNTS}})
    calls = {call.name: outcome(call) for call in CALLS}
    core.delete_node("c-node")
    crd.delete_custom_resource_definition("things.example.com")
    print(json.dumps({"client": kubernetes.__version__, "calls": calls}, indent=1))


if __name__ == "__main__":
    main()
