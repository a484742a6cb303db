"""What ``kubectl get`` shows; expected cells are those of kubectl against Kubernetes 1.36."""

from __future__ import annotations

from typing import Any

import pytest

from mlk8s.sim import tables
from mlk8s.sim.resources import Registry, Resource
from mlk8s.sim.tables import custom, text

REGISTRY = Registry()
CREATED = "2026-11-24T02:00:00Z"
NOW = 1_795_485_900.0  # five minutes later


def get(key: str, obj: Any, wide: bool = False) -> dict[str, Any]:
    """Column heads and cells of one object, as kubectl lines them up."""
    obj = {
        **obj,
        "metadata": {"name": "x", "creationTimestamp": CREATED, **obj.get("metadata", {})},
    }
    table = tables.table(REGISTRY.of_key(key), [obj], NOW)
    (row,) = table["rows"]
    shown = zip(table["columnDefinitions"], row["cells"], strict=True)
    return {head["name"].upper(): cell for head, cell in shown if wide or not head["priority"]}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-3, "<invalid>"),
        (-1.5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (11_100, "3h5m"),
        (28_800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (190_800, "2d5h"),
        (691_200, "8d"),
        (63_071_999, "729d"),
        (63_072_000, "2y"),
        (63_158_400, "2y1d"),
        (252_288_000, "8y"),
    ],
)
def test_durations(seconds, shown):
    assert text.human_duration(seconds) == shown


def test_every_resource_has_a_table():
    obj = {
        "metadata": {"name": "x", "creationTimestamp": CREATED},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}},
        "roleRef": {"kind": "Role", "name": "r"},
    }
    for resource in REGISTRY:
        table = tables.table(resource, [obj, obj], NOW)
        heads, rows = table["columnDefinitions"], table["rows"]
        assert [len(row["cells"]) for row in rows] == [len(heads)] * 2, resource.key
        assert all(
            set(head) == {"name", "type", "format", "description", "priority"} for head in heads
        )


# -- pods -----------------------------------------------------------------------------------------


def pod(status: Any, **spec: Any) -> Any:
    return {
        "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
        "status": {"phase": "Pending", **status},
    }


def container(restarts: int = 0, ready: bool = False, last: str = "", **state: Any) -> Any:
    found = {"name": "c", "restartCount": restarts, "ready": ready, "state": state}
    if last:
        found["lastState"] = {"terminated": {"finishedAt": last, "exitCode": 1}}
    return found


def test_a_pending_pod():
    assert get("pods", pod({})) == {
        "NAME": "x",
        "READY": "0/1",
        "STATUS": "Pending",
        "RESTARTS": "0",
        "AGE": "5m",
    }
    wide = get("pods", pod({}, nodeName="gpu-node-1"), wide=True)
    assert {head: wide[head] for head in list(wide)[5:]} == {
        "IP": "<none>",
        "NODE": "gpu-node-1",
        "NOMINATED NODE": "<none>",
        "READINESS GATES": "<none>",
    }


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]},
            "SchedulingGated",
        ),
        ({"phase": "Failed", "reason": "UnexpectedAdmissionError"}, "UnexpectedAdmissionError"),
        ({"containerStatuses": [container(waiting={"reason": "ErrImagePull"})]}, "ErrImagePull"),
        (
            {"containerStatuses": [container(waiting={"reason": "CrashLoopBackOff"})]},
            "CrashLoopBackOff",
        ),
        ({"containerStatuses": [container(terminated={"exitCode": 3})]}, "ExitCode:3"),
        ({"containerStatuses": [container(terminated={"exitCode": 0, "signal": 9})]}, "Signal:9"),
        (
            {
                "phase": "Succeeded",
                "containerStatuses": [container(terminated={"exitCode": 0, "reason": "Completed"})],
            },
            "Completed",
        ),
        (
            {
                "phase": "Failed",
                "containerStatuses": [
                    container(terminated={"exitCode": 137, "reason": "OOMKilled"})
                ],
            },
            "OOMKilled",
        ),
        ({"phase": "Running", "containerStatuses": [container(ready=True, running={})]}, "Running"),
    ],
)
def test_the_status_of_a_pod(status, shown):
    assert get("pods", pod(status))["STATUS"] == shown


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ({"running": {}}, "Init:0/2"),
        ({"waiting": {"reason": "PodInitializing"}}, "Init:0/2"),
        ({"waiting": {"reason": "ErrImagePull"}}, "Init:ErrImagePull"),
        ({"terminated": {"exitCode": 1, "reason": "Error"}}, "Init:Error"),
        ({"terminated": {"exitCode": 2}}, "Init:ExitCode:2"),
    ],
)
def test_a_pod_that_initializes(state, shown):
    inits = [{"name": "a"}, {"name": "b"}]
    statuses = [
        {"name": "a", "restartCount": 0, "state": state},
        {"name": "b", "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}},
    ]
    found = pod({"initContainerStatuses": statuses}, initContainers=inits)
    assert get("pods", found)["STATUS"] == shown


def test_a_sidecar_counts():
    statuses = {
        "phase": "Running",
        "conditions": [{"type": "Initialized", "status": "True"}],
        "initContainerStatuses": [
            {
                "name": "log",
                "restartCount": 2,
                "started": True,
                "ready": True,
                "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-11-24T02:04:00Z"}},
            }
        ],
        "containerStatuses": [container(ready=True, running={})],
    }
    found = get("pods", pod(statuses, initContainers=[{"name": "log", "restartPolicy": "Always"}]))
    assert (found["READY"], found["STATUS"], found["RESTARTS"]) == ("2/2", "Running", "2 (60s ago)")


def test_restarts_say_when():
    last = "2026-11-24T01:59:00Z"
    status = {"phase": "Running", "containerStatuses": [container(3, True, last, running={})]}
    assert get("pods", pod(status))["RESTARTS"] == "3 (6m ago)"


def test_a_pod_that_is_deleted():
    gone = {**pod({"phase": "Running"}), "metadata": {"deletionTimestamp": CREATED}}
    assert get("pods", gone)["STATUS"] == "Terminating"
    over = {**pod({"phase": "Succeeded"}), "metadata": {"deletionTimestamp": CREATED}}
    assert get("pods", over)["STATUS"] == "Succeeded"


def test_rows_of_pods_that_are_over_say_so():
    pods = REGISTRY.of_key("pods")
    done = {**pod({"phase": "Succeeded"}), "metadata": {"name": "x"}}
    (row,) = tables.table(pods, [done], NOW)["rows"]
    assert row["conditions"] == [
        {
            "type": "Completed",
            "status": "True",
            "reason": "Succeeded",
            "message": "The pod has completed successfully.",
        }
    ]


# -- other kinds ----------------------------------------------------------------------------------


def test_nodes():
    assert get("nodes", {}) == {
        "NAME": "x",
        "STATUS": "Unknown",
        "ROLES": "<none>",
        "AGE": "5m",
        "VERSION": "",
    }
    node = {
        "metadata": {"labels": {"node-role.kubernetes.io/gpu": "", "kubernetes.io/role": "a"}},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "Unknown"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1.36.2", "osImage": "Ubuntu 24.04"},
        },
    }
    shown = get("nodes", node, wide=True)
    assert shown["STATUS"] == "NotReady,SchedulingDisabled"
    assert shown["ROLES"] == "a,gpu"
    assert shown["VERSION"] == "v1.36.2"
    assert (shown["INTERNAL-IP"], shown["EXTERNAL-IP"]) == ("10.0.0.1", "<none>")
    assert (shown["OS-IMAGE"], shown["KERNEL-VERSION"]) == ("Ubuntu 24.04", "<unknown>")


def test_quota():
    quota = {
        "status": {
            "hard": {"requests.nvidia.com/gpu": "1", "pods": "3", "limits.cpu": "2"},
            "used": {"requests.nvidia.com/gpu": "0", "pods": "0"},
        }
    }
    assert get("resourcequotas", quota) == {
        "NAME": "x",
        "REQUEST": "pods: 0/3, requests.nvidia.com/gpu: 0/1",
        "LIMIT": "limits.cpu: 0/2",
        "AGE": "5m",
    }


def test_deployments_and_replica_sets():
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}}
    deployment = {"spec": spec, "status": {"updatedReplicas": 2}}
    assert list(get("deployments.apps", deployment).values()) == ["x", "0/2", 2, 0, "5m"]
    replica_set = {"spec": spec, "status": {"replicas": 2}}
    shown = get("replicasets.apps", replica_set, wide=True)
    assert list(shown.values()) == ["x", 2, 2, 0, "5m", "", "", "app=web"]


@pytest.mark.parametrize(
    ("spec", "status", "shown"),
    [
        ({"completions": 1}, {"startTime": CREATED}, ("Running", "0/1", "5m")),
        ({"parallelism": 3}, {}, ("Running", "0/1 of 3", "")),
        (
            {"completions": 4},
            {
                "succeeded": 4,
                "startTime": CREATED,
                "completionTime": "2026-11-24T02:00:42Z",
                "conditions": [{"type": "Complete", "status": "True"}],
            },
            ("Complete", "4/4", "42s"),
        ),
        (
            {"completions": 1},
            {"conditions": [{"type": "Suspended", "status": "True"}]},
            ("Suspended", "0/1", ""),
        ),
    ],
)
def test_jobs(spec, status, shown):
    found = get("jobs.batch", {"spec": spec, "status": status})
    assert (found["STATUS"], found["COMPLETIONS"], found["DURATION"]) == shown


def test_cron_jobs():
    shown = get("cronjobs.batch", {"spec": {"schedule": "*/5 * * * *", "suspend": False}})
    assert list(shown.values()) == [
        "x", "*/5 * * * *", "<none>", "False", 0, "<none>", "5m",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "status", "external"),
    [
        ({"type": "ClusterIP"}, {}, "<none>"),
        ({"type": "LoadBalancer"}, {}, "<pending>"),
        (
            {"type": "LoadBalancer"},
            {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
            "1.2.3.4",
        ),
        ({"type": "ExternalName", "externalName": "a.b"}, {}, "a.b"),
    ],
)
def test_services(spec, status, external):
    spec = {"clusterIPs": ["10.0.0.9"], "ports": [{"port": 80, "protocol": "TCP"}], **spec}
    shown = get("services", {"spec": spec, "status": status})
    assert list(shown.values()) == ["x", spec["type"], "10.0.0.9", external, "80/TCP", "5m"]


def test_events():
    event = {
        "type": "Warning",
        "reason": "FailedScheduling",
        "message": "0/1 nodes are available.\n",
        "involvedObject": {"kind": "Pod", "name": "big"},
        "source": {"component": "default-scheduler"},
        "firstTimestamp": CREATED,
        "lastTimestamp": "2026-11-24T02:04:30Z",
        "count": 3,
    }
    assert get("events", event) == {
        "LAST SEEN": "30s",
        "TYPE": "Warning",
        "REASON": "FailedScheduling",
        "OBJECT": "pod/big",
        "MESSAGE": "0/1 nodes are available.",
    }
    wide = get("events", event, wide=True)
    assert (wide["FIRST SEEN"], wide["COUNT"], wide["SOURCE"]) == ("5m", 3, "default-scheduler")
    scheduled = {"eventTime": "2026-11-24T02:04:00.000000Z", "involvedObject": {"kind": "Node"}}
    wide = get("events", scheduled, wide=True)
    assert (wide["LAST SEEN"], wide["COUNT"], wide["OBJECT"]) == ("60s", 1, "node")


@pytest.mark.parametrize(
    ("status", "deleted", "state"),
    [
        ({}, False, "pending"),
        ({"allocation": {"devices": {}}}, False, "allocated"),
        (
            {"allocation": {"devices": {}}, "reservedFor": [{"name": "p"}]},
            False,
            "allocated,reserved",
        ),
        ({"allocation": {"devices": {}}}, True, "deleted,allocated"),
    ],
)
def test_resource_claims(status, deleted, state):
    metadata = {"deletionTimestamp": CREATED} if deleted else {}
    shown = get("resourceclaims.resource.k8s.io", {"metadata": metadata, "status": status})
    assert shown == {"NAME": "x", "STATE": state, "AGE": "5m"}


def test_kinds_without_a_printer():
    assert get("limitranges", {}) == {"NAME": "x", "CREATED AT": CREATED}


# -- the table itself -----------------------------------------------------------------------------


def test_what_a_row_has_of_its_object():
    maps = REGISTRY.of_key("configmaps")
    obj = {"metadata": {"name": "x", "resourceVersion": "7"}, "data": {"a": "1"}}
    table = tables.table(maps, [obj], NOW)
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert table["metadata"] == {"resourceVersion": "7"}
    assert table["rows"][0]["object"] == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }
    assert tables.table(maps, [obj], NOW, include="Object")["rows"][0]["object"] == obj
    assert tables.table(maps, [obj], NOW, include="None")["rows"][0]["object"] is None


def test_columns_are_described():
    heads = tables.table(REGISTRY.of_key("pods"), [], NOW)["columnDefinitions"]
    assert heads[0] == {
        "name": "Name",
        "type": "string",
        "format": "name",
        "description": heads[0]["description"],
        "priority": 0,
    }
    assert heads[0]["description"].startswith("Name must be unique within a namespace.")
    assert heads[5]["name"] == "IP"
    assert heads[5]["priority"] == 1
    assert heads[5]["description"].startswith("podIP address allocated to the pod.")


THINGS = Resource("example.com", "v1", "Thing", "things", "thing", namespaced=True)


def test_custom_resources():
    obj = {
        "metadata": {"name": "t", "creationTimestamp": CREATED},
        "spec": {"n": 3, "tags": ["a"], "on": True},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    columns = [
        {"name": "N", "type": "integer", "jsonPath": ".spec.n"},
        {
            "name": "Ready",
            "type": "string",
            "jsonPath": '.status.conditions[?(@.type=="Ready")].status',
            "description": "Whether it is",
            "priority": 1,
        },
        {"name": "Tags", "type": "string", "jsonPath": ".spec.tags"},
        {"name": "On", "type": "boolean", "jsonPath": ".spec.on"},
        {"name": "None", "type": "string", "jsonPath": ".spec.none"},
        {"name": "Made", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    definition = {"spec": {"versions": [{"name": "v1", "additionalPrinterColumns": columns}]}}
    table = tables.table(THINGS, [obj], NOW, definition)
    assert table["rows"][0]["cells"] == ["t", 3, "True", '["a"]', True, None, "5m"]
    heads = table["columnDefinitions"]
    assert heads[1]["description"] == (
        "Custom resource definition column (in JSONPath format): .spec.n"
    )
    assert (heads[2]["description"], heads[2]["priority"]) == ("Whether it is", 1)
    bare = tables.table(THINGS, [obj], NOW, {"spec": {"versions": [{"name": "v1"}]}})
    assert [head["name"] for head in bare["columnDefinitions"]] == ["Name", "Age"]
    assert bare["rows"][0]["cells"] == ["t", "5m"]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.a", [1]),
        (".spec['x.y/z']", [2]),
        (r".spec.x\.y/z", [2]),
        (".list[*].v", [1, 2]),
        (".list[-1].v", [2]),
        (".list[?(@.v>1)].v", [2]),
        (".list[?(@.v==9)].v", []),
        (".no.where", []),
        (".spec[", []),
    ],
)
def test_json_paths(path, found):
    obj = {"spec": {"a": 1, "x.y/z": 2}, "list": [{"v": 1}, {"v": 2}]}
    assert custom.find(obj, path) == found
