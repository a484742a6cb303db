"""What the server fills in. The values are those that Kubernetes 1.36.2 answered with."""

import copy
import random
from typing import Any

import pytest

from mlk8s.sim.api import Api
from mlk8s.sim.clock import ManualClock
from mlk8s.sim.defaults.pods import pull_policy


@pytest.fixture
def api() -> Api:
    api = Api(ManualClock(1_790_000_000), random.Random(0))
    named = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
    api.create("namespaces", named)
    return api


def create(api: Api, key: str, body: Any) -> Any:
    resource = api.registry.of_key(key)
    body = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
    return api.create(resource, copy.deepcopy(body), "default" if resource.namespaced else "")


def container(**more: Any) -> Any:
    return {"name": "c", "image": "x", **more}


def test_pod_as_recorded(api):
    limits = {"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": "1"}
    pod = create(
        api,
        "pods",
        {
            "metadata": {"name": "p1"},
            "spec": {"containers": [container(resources={"limits": dict(limits)})]},
        },
    )
    evict = {"effect": "NoExecute", "operator": "Exists", "tolerationSeconds": 300}
    assert pod["spec"] == {
        "containers": [
            {
                "image": "x",
                "imagePullPolicy": "Always",
                "name": "c",
                "resources": {"limits": limits, "requests": limits},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }
        ],
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
        "priority": 0,
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
        "tolerations": [
            {"key": "node.kubernetes.io/not-ready", **evict},
            {"key": "node.kubernetes.io/unreachable", **evict},
        ],
    }
    assert pod["status"] == {"phase": "Pending", "qosClass": "Guaranteed"}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"limits": {"nvidia.com/gpu": "9"}}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_quality_of_service(api, resources, expected):
    pod = create(
        api,
        "pods",
        {"metadata": {"name": "p"}, "spec": {"containers": [container(resources=resources)]}},
    )
    assert pod["status"]["qosClass"] == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("registry:5000/busybox", "Always"),
        ("registry:5000/busybox:1.36", "IfNotPresent"),
        ("busybox@sha256:abc", "IfNotPresent"),
        ("busybox:latest@sha256:abc", "IfNotPresent"),
    ],
)
def test_pull_policy_by_tag(image, expected):
    assert pull_policy(image) == expected


def test_gated_pod_says_so(api):
    pod = create(
        api,
        "pods",
        {
            "metadata": {"name": "p"},
            "spec": {"containers": [container()], "schedulingGates": [{"name": "a/b"}]},
        },
    )
    condition = pod["status"]["conditions"][0]
    assert (condition["type"], condition["status"]) == ("PodScheduled", "False")
    assert condition["reason"] == "SchedulingGated"
    assert condition["message"] == "Scheduling is blocked due to non-empty scheduling gates"


def test_probe_volume_and_environment(api):
    spec = {
        "containers": [
            container(
                livenessProbe={"httpGet": {"port": 80}},
                ports=[{"containerPort": 80}],
                env=[{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            )
        ],
        "volumes": [{"name": "a"}, {"name": "b", "configMap": {"name": "c"}}],
    }
    pod = create(api, "pods", {"metadata": {"name": "p"}, "spec": spec})
    found = pod["spec"]["containers"][0]
    assert found["livenessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert found["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert found["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert pod["spec"]["volumes"] == [
        {"name": "a", "emptyDir": {}},
        {"name": "b", "configMap": {"name": "c", "defaultMode": 420}},
    ]


TEMPLATE: Any = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container()]}}


def test_deployment(api):
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}
    found = create(api, "deployments.apps", {"metadata": {"name": "d"}, "spec": spec})["spec"]
    assert found["replicas"] == 1
    assert found["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
    }
    assert (found["revisionHistoryLimit"], found["progressDeadlineSeconds"]) == (10, 600)
    # Only pods themselves get this one.
    assert "enableServiceLinks" not in found["template"]["spec"]


@pytest.mark.parametrize("name", [{"name": "j"}, {"generateName": "j-"}])
def test_job_selects_its_own_pods(api, name):
    template = {"spec": {"restartPolicy": "Never", "containers": [container()]}}
    job = create(api, "jobs.batch", {"metadata": name, "spec": {"template": template}})
    spec, about = job["spec"], job["metadata"]
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": about["uid"]}}
    assert spec["template"]["metadata"]["labels"] == {
        "batch.kubernetes.io/controller-uid": about["uid"],
        "batch.kubernetes.io/job-name": about["name"],
        "controller-uid": about["uid"],
        "job-name": about["name"],
    }
    assert (spec["backoffLimit"], spec["completions"], spec["parallelism"]) == (6, 1, 1)
    assert (spec["completionMode"], spec["podReplacementPolicy"]) == (
        "NonIndexed",
        "TerminatingOrFailed",
    )


def test_services_get_addresses_of_their_own(api):
    spec = {"ports": [{"port": 80}], "selector": {"a": "b"}}
    first = create(api, "services", {"metadata": {"name": "a"}, "spec": dict(spec)})["spec"]
    second = create(
        api, "services", {"metadata": {"name": "b"}, "spec": {**spec, "type": "NodePort"}}
    )["spec"]
    assert first["clusterIP"].startswith("10.0.0.")
    assert first["clusterIPs"] == [first["clusterIP"]] != second["clusterIPs"]
    assert first["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert 30000 <= second["ports"][0]["nodePort"] <= 32767
    api.delete("services", "default", "a")
    third = create(api, "services", {"metadata": {"name": "c"}, "spec": {"ports": [{"port": 80}]}})[
        "spec"
    ]
    assert third["clusterIP"] == first["clusterIP"]


def test_secret_of_plain_text(api):
    secret = create(api, "secrets", {"metadata": {"name": "s"}, "stringData": {"k": "v"}})
    assert (secret["data"], secret["type"]) == ({"k": "dg=="}, "Opaque")
    assert "stringData" not in secret


def test_namespace(api):
    found = api.get("namespaces", "", "default")
    assert found["spec"] == {"finalizers": ["kubernetes"]}
    assert found["status"] == {"phase": "Active"}
    assert found["metadata"]["labels"] == {"kubernetes.io/metadata.name": "default"}


def test_limit_range_fills_its_own_gaps(api):
    limit = {"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Gi"}}
    found = create(api, "limitranges", {"metadata": {"name": "l"}, "spec": {"limits": [limit]}})
    limit = found["spec"]["limits"][0]
    assert limit["default"] == {"cpu": "2"}
    assert limit["defaultRequest"] == {"cpu": "2", "memory": "1Gi"}


def test_device_request_counts_one(api):
    requests = [
        {"name": "gpu", "exactly": {"deviceClassName": "gpu.nvidia.com"}},
        {
            "name": "all",
            "exactly": {"deviceClassName": "gpu.nvidia.com", "allocationMode": "All"},
        },
    ]
    claim = create(
        api,
        "resourceclaims.resource.k8s.io",
        {"metadata": {"name": "c"}, "spec": {"devices": {"requests": requests}}},
    )
    first, second = claim["spec"]["devices"]["requests"]
    assert (first["exactly"]["allocationMode"], first["exactly"]["count"]) == ("ExactCount", 1)
    assert "count" not in second["exactly"]
