"""What the server adds to objects, and refuses although they are valid (Kubernetes 1.36.2)."""

import copy
import random
from fractions import Fraction
from typing import Any

import pytest

from mlk8s.sim.admission import quota
from mlk8s.sim.api import Api, Request
from mlk8s.sim.clock import ManualClock
from mlk8s.sim.status import StatusError


@pytest.fixture
def api() -> Api:
    api = Api(ManualClock(1_790_000_000), random.Random(0))
    for name in ("default", "team"):
        named = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        api.create("namespaces", named)
    return api


def create(api: Api, key: str, body: Any, namespace: str = "team") -> Any:
    resource = api.registry.of_key(key)
    body = {"apiVersion": resource.api_version, "kind": resource.kind, **copy.deepcopy(body)}
    return api.create(resource, body, namespace if resource.namespaced else "")


def refusal(act: Any, *arguments: Any) -> Any:
    with pytest.raises(StatusError) as caught:
        act(*arguments)
    return caught.value.code, caught.value.message


def pod(name: str = "p", limits: Any = None, requests: Any = None, **spec: Any) -> Any:
    resources = {"limits": limits or {}, "requests": requests or {}}
    container = {"name": "c", "image": "x", "resources": resources}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}


def limit_by(api: Api, name: str = "q", **spec: Any) -> None:
    """A quota as it is when the quota controller has counted an empty namespace."""
    create(api, "resourcequotas", {"metadata": {"name": name}, "spec": spec})

    def counted(found):
        hard = found["spec"]["hard"]
        found["status"] = {"hard": dict(hard), "used": dict.fromkeys(hard, "0")}

    api.change("resourcequotas", "team", name, counted, "status")


def used(api: Api, name: str = "q") -> Any:
    return api.get("resourcequotas", "team", name)["status"]["used"]


def test_namespace_has_to_be_there_and_stay(api):
    assert refusal(create, api, "pods", pod(), "nope") == (404, 'namespaces "nope" not found')
    create(api, "configmaps", {"metadata": {"name": "held", "finalizers": ["a/b"]}})
    api.delete("namespaces", "", "team")
    assert refusal(create, api, "pods", pod()) == (
        403,
        'pods "p" is forbidden: unable to create new content in namespace team because it is '
        "being terminated",
    )
    assert refusal(api.delete, "namespaces", "", "default") == (
        403,
        'namespaces "default" is forbidden: this namespace may not be deleted',
    )


def test_quota_message_as_recorded(api):
    limit_by(api, "gpu", hard={"requests.nvidia.com/gpu": "2"})
    for name in ("a", "b"):
        create(api, "pods", pod(name, {"nvidia.com/gpu": "1"}))
    assert refusal(create, api, "pods", pod("c", {"nvidia.com/gpu": "1"})) == (
        403,
        'pods "c" is forbidden: exceeded quota: gpu, requested: requests.nvidia.com/gpu=1, used: '
        "requests.nvidia.com/gpu=2, limited: requests.nvidia.com/gpu=2",
    )
    assert used(api, "gpu") == {"requests.nvidia.com/gpu": "2"}


def test_quota_of_several_resources(api):
    limit_by(api, hard={"limits.cpu": "1", "requests.memory": "1Gi", "pods": "5"})
    assert refusal(create, api, "pods", pod(limits={"cpu": "2", "memory": "2Gi"}))[1] == (
        'pods "p" is forbidden: exceeded quota: q, requested: limits.cpu=2,requests.memory=2Gi, '
        "used: limits.cpu=0,requests.memory=0, limited: limits.cpu=1,requests.memory=1Gi"
    )
    create(api, "pods", pod(limits={"cpu": "250m", "memory": "512Mi"}))
    assert used(api) == {"limits.cpu": "250m", "requests.memory": "512Mi", "pods": "1"}
    assert refusal(create, api, "pods", pod("bare"))[1] == (
        'pods "bare" is forbidden: failed quota: q: must specify limits.cpu for: c; '
        "requests.memory for: c"
    )


def test_quota_that_is_not_counted_yet_limits_nothing(api):
    create(api, "resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}})
    create(api, "pods", pod())


def test_dry_run_is_not_charged(api):
    limit_by(api, hard={"pods": "1"})
    resource = api.registry.of_key("pods")
    body = {"apiVersion": "v1", "kind": "Pod", **pod()}
    api.create(resource, body, "team", Request(dry_run=True))
    assert used(api) == {"pods": "0"}


def test_quota_counts_objects(api):
    limit_by(api, hard={"count/configmaps": "1", "services.nodeports": "1"})
    create(api, "configmaps", {"metadata": {"name": "a"}})
    assert refusal(create, api, "configmaps", {"metadata": {"name": "b"}})[1] == (
        'configmaps "b" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: '
        "count/configmaps=1, limited: count/configmaps=1"
    )
    ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
    service = {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": ports}}
    assert "requested: services.nodeports=2" in refusal(create, api, "services", service)[1]


@pytest.mark.parametrize(
    ("spec", "counts"),
    [
        ({"scopes": ["Terminating"]}, False),
        ({"scopes": ["NotTerminating"]}, True),
        ({"scopes": ["BestEffort"]}, True),
        ({"scopes": ["NotBestEffort"]}, False),
        (
            {
                "scopeSelector": {
                    "matchExpressions": [
                        {
                            "scopeName": "PriorityClass",
                            "operator": "In",
                            "values": ["system-node-critical"],
                        }
                    ]
                }
            },
            False,
        ),
    ],
)
def test_scopes(api, spec, counts):
    limit_by(api, hard={"pods": "9"}, **spec)
    create(api, "pods", pod(limits={"nvidia.com/gpu": "1"}))
    assert used(api) == {"pods": "1" if counts else "0"}


def test_usage_of_a_pod_that_has_ended(api):
    resource = api.registry.of_key("pods")
    found = create(api, "pods", pod(limits={"nvidia.com/gpu": "2"}))
    assert quota.usage_of(resource, found)["requests.nvidia.com/gpu"] == Fraction(2)
    found["status"]["phase"] = "Succeeded"
    assert quota.usage_of(resource, found) == {"count/pods": Fraction(1)}


def test_usage_of_init_containers_and_sidecars(api):
    resource = api.registry.of_key("pods")

    def asks(name: str, cpu: str, **more: Any) -> Any:
        return {"name": name, "image": "x", "resources": {"requests": {"cpu": cpu}}, **more}

    body = pod(
        initContainers=[asks("side", "1", restartPolicy="Always"), asks("first", "4")],
    )
    body["spec"]["containers"] = [asks("a", "1"), asks("b", "1")]
    # While it starts: 1 + 4; afterwards: 1 + 1 + 1.
    assert quota.usage_of(resource, create(api, "pods", body))["requests.cpu"] == Fraction(5)


def test_usage_of_devices(api):
    resource = api.registry.of_key("resourceclaims.resource.k8s.io")
    requests = [
        {"name": "a", "exactly": {"deviceClassName": "gpu", "count": 2}},
        {
            "name": "b",
            "firstAvailable": [
                {"name": "x", "deviceClassName": "gpu", "count": 3},
                {"name": "y", "deviceClassName": "gpu", "count": 1},
            ],
        },
    ]
    body = {"metadata": {"name": "c"}, "spec": {"devices": {"requests": requests}}}
    limit_by(api, hard={"gpu.deviceclass.resource.k8s.io/devices": "4"})
    message = refusal(create, api, resource.key, body)[1]
    assert message == (
        'resourceclaims.resource.k8s.io "c" is forbidden: exceeded quota: q, requested: '
        "gpu.deviceclass.resource.k8s.io/devices=5, used: "
        "gpu.deviceclass.resource.k8s.io/devices=0, limited: "
        "gpu.deviceclass.resource.k8s.io/devices=4"
    )


def test_limit_range_gives_and_bounds(api):
    limit = {
        "type": "Container",
        "default": {"cpu": "1", "memory": "1Gi"},
        "defaultRequest": {"cpu": "500m", "memory": "1Gi"},
        "max": {"cpu": "2"},
        "min": {"cpu": "100m"},
        "maxLimitRequestRatio": {"cpu": "4"},
    }
    create(api, "limitranges", {"metadata": {"name": "l"}, "spec": {"limits": [limit]}})
    found = create(api, "pods", pod())
    assert found["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "1", "memory": "1Gi"},
        "requests": {"cpu": "500m", "memory": "1Gi"},
    }
    assert found["metadata"]["annotations"] == {
        "kubernetes.io/limit-ranger": "LimitRanger plugin set: cpu, memory request for container "
        "c; cpu, memory limit for container c"
    }
    assert found["status"]["qosClass"] == "Burstable"
    assert refusal(create, api, "pods", pod("big", {"cpu": "3"})) == (
        403,
        'pods "big" is forbidden: maximum cpu usage per Container is 2, but limit is 3',
    )
    small = pod("small", {"cpu": "1"}, {"cpu": "50m"})
    assert refusal(create, api, "pods", small)[1] == (
        'pods "small" is forbidden: [minimum cpu usage per Container is 100m, but request is '
        "50m, cpu max limit to request ratio per Container is 4, but provided ratio is 20.000000]"
    )
    create(api, "pods", pod("edge", {"cpu": "2"}, {"cpu": "500m"}))


def test_the_other_of_request_and_limit_has_its_bounds_too(api):
    limit = {"type": "Pod", "max": {"cpu": "2"}}
    create(api, "limitranges", {"metadata": {"name": "l"}, "spec": {"limits": [limit]}})
    wanted = pod("p", {"cpu": "1"})
    greedy = {"name": "d", "image": "i", "resources": {"requests": {"cpu": "3"}}}
    wanted["spec"]["containers"].append(greedy)
    assert refusal(create, api, "pods", wanted)[1] == (
        'pods "p" is forbidden: maximum cpu usage per Pod is 2, but request is 4'
    )


def test_priority(api):
    for name, value, default in (("high", 1000, False), ("usual", 10, True)):
        create(
            api,
            "priorityclasses.scheduling.k8s.io",
            {"metadata": {"name": name}, "value": value, "globalDefault": default},
        )
    found = create(api, "pods", pod("a", priorityClassName="high"))
    assert (found["spec"]["priority"], found["spec"]["preemptionPolicy"]) == (
        1000,
        "PreemptLowerPriority",
    )
    found = create(api, "pods", pod("b"))
    assert (found["spec"]["priority"], found["spec"]["priorityClassName"]) == (10, "usual")
    found = create(api, "pods", pod("s", priorityClassName="system-node-critical"))
    assert found["spec"]["priority"] == 2_000_001_000
    assert refusal(create, api, "pods", pod("x", priorityClassName="nope")) == (
        403,
        'pods "x" is forbidden: no PriorityClass with name nope was found',
    )
    assert refusal(create, api, "pods", pod("y", priority=7))[1] == (
        'pods "y" is forbidden: the integer value of priority (7) must not be provided in pod '
        "spec; priority admission controller computed 10 from the given PriorityClass name"
    )
    second = {"metadata": {"name": "other"}, "value": 1, "globalDefault": True}
    key = "priorityclasses.scheduling.k8s.io"
    assert refusal(create, api, key, second)[1] == (
        'priorityclasses.scheduling.k8s.io "other" is forbidden: PriorityClass usual is already '
        "marked as default. Only one default can exist"
    )


def test_default_tolerations_leave_a_users_own(api):
    own = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}
    found = create(api, "pods", pod(tolerations=[own]))["spec"]["tolerations"]
    assert found[0] == own
    assert [one["key"] for one in found[1:]] == ["node.kubernetes.io/unreachable"]


def test_runtime_class(api):
    assert refusal(create, api, "pods", pod(runtimeClassName="nvidia")) == (
        403,
        'pods "p" is forbidden: pod rejected: RuntimeClass "nvidia" not found',
    )
    body = {
        "metadata": {"name": "nvidia"},
        "handler": "nvidia",
        "overhead": {"podFixed": {"memory": "120Mi"}},
        "scheduling": {"nodeSelector": {"gpu": "yes"}},
    }
    create(api, "runtimeclasses.node.k8s.io", body)
    spec = create(api, "pods", pod(runtimeClassName="nvidia"))["spec"]
    assert spec["overhead"] == {"memory": "120Mi"}
    assert spec["nodeSelector"] == {"gpu": "yes"}


def test_new_node_is_not_ready(api):
    node = create(api, "nodes", {"metadata": {"name": "n"}})
    assert node["spec"]["taints"] == [
        {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    ]


def test_claims_get_the_default_storage_class(api):
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
    create(
        api,
        "storageclasses.storage.k8s.io",
        {"metadata": {"name": "hostpath", "annotations": annotations}, "provisioner": "a/b"},
    )
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    found = create(api, "persistentvolumeclaims", {"metadata": {"name": "c"}, "spec": spec})
    assert found["spec"]["storageClassName"] == "hostpath"
