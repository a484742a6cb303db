"""A RayCluster becomes a head, workers and a Service; their commands, counts and conditions."""

from __future__ import annotations

from typing import Any

import pytest

from ..lab import GPU, HOME
from .lab import CLUSTERS, CORE, RayLab, standing, template, workers


def limits(**amounts: str) -> Any:
    return template(resources={"limits": amounts})


def test_what_a_cluster_consists_of(lab: RayLab) -> None:
    lab.ray(workers(replicas=2))
    lab.wait(20)
    [head], found = lab.nodes("head"), lab.nodes("worker")
    assert head["metadata"]["name"].startswith("r-head-")
    assert {each["metadata"]["name"][:13] for each in found} == {"r-cpu-worker-"}
    labels = {
        "app.kubernetes.io/created-by": "kuberay-operator",
        "app.kubernetes.io/name": "kuberay",
        "ray.io/cluster": "r",
        "ray.io/group": "headgroup",
        "ray.io/identifier": "r-head",
        "ray.io/is-ray-node": "yes",
        "ray.io/node-type": "head",
    }
    assert head["metadata"]["labels"] == labels
    assert [each["metadata"]["labels"]["ray.io/group"] for each in found] == ["cpu", "cpu"]
    index = "ray.io/worker-group-replica-index"
    assert sorted(each["metadata"]["labels"][index] for each in found) == ["0", "1"]
    [owner] = head["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("RayCluster", "r", True)
    service = lab.get(f"{CORE}/services/r-head-svc")["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    assert {each["name"]: each["port"] for each in service["ports"]} == {
        "client": 10001,
        "dashboard": 8265,
        "gcs-server": 6379,
        "metrics": 8080,
        "serve": 8000,
    }
    told = lab.events("r")
    assert ("Normal", "CreatedService", "Created service default/r-head-svc") in told
    name = head["metadata"]["name"]
    assert ("Normal", "CreatedHeadPod", f"Created head Pod default/{name}") in told


def test_what_it_says_of_itself(lab: RayLab) -> None:
    head = standing("head", resources={"limits": {"cpu": "1", "memory": "2Gi"}})
    own = {"resources": {"limits": {"cpu": "2", "memory": "1Gi", GPU: "1"}}}
    lab.ray(workers(replicas=2, template=standing("worker", **own)), head={"template": head})
    assert lab.conditions(f"{CLUSTERS}/r")["RayClusterProvisioned"] == (
        "False",
        "RayClusterPodsProvisioning",
    )
    lab.until(lab.ready, within_s=60)
    status = lab.status(f"{CLUSTERS}/r")
    assert lab.conditions(f"{CLUSTERS}/r") == {
        "HeadPodReady": ("True", "HeadPodRunningAndReady"),
        "RayClusterProvisioned": ("True", "AllPodRunningAndReadyFirstTime"),
        "RayClusterSuspended": ("False", "RayClusterSuspended"),
        "RayClusterSuspending": ("False", "RayClusterSuspending"),
    }
    told = {name: status[name] for name in status if name.startswith("desired")}
    assert told == {
        "desiredCPU": "5",
        "desiredMemory": "4Gi",
        "desiredGPU": "2",
        "desiredTPU": "0",
        "desiredWorkerReplicas": 2,
    }
    assert (status["readyWorkerReplicas"], status["availableWorkerReplicas"]) == (2, 2)
    assert status["maxWorkerReplicas"] == 5
    [head] = lab.nodes("head")
    assert status["head"] == {
        "podIP": head["status"]["podIP"],
        "podName": head["metadata"]["name"],
        "serviceIP": head["status"]["podIP"],
        "serviceName": "r-head-svc",
    }
    names, [row] = lab.table(CLUSTERS)
    assert names[:7] == [
        "NAME",
        "DESIRED WORKERS",
        "AVAILABLE WORKERS",
        "CPUS",
        "MEMORY",
        "GPUS",
        "STATUS",
    ]
    assert row[:7] == ["r", 2, 2, "5", "4Gi", "2", "ready"]


def test_the_commands(lab: RayLab) -> None:
    lab.ray(workers(template=limits(cpu="1500m", memory="1Gi", **{GPU: "2"})))
    assert lab.start("head") == (
        "ulimit -n ${RAY_START_ULIMIT_OPEN_FILES:-65536}; ray start --head  --block  "
        "--dashboard-agent-listen-port=52365  --dashboard-host=0.0.0.0  --metrics-export-port=8080 "
    )
    assert lab.start("worker") == (
        "ulimit -n ${RAY_START_ULIMIT_OPEN_FILES:-65536}; ray start  "
        "--address=r-head-svc.default.svc.cluster.local:6379  --block  "
        "--dashboard-agent-listen-port=52365  --memory=1073741824  --metrics-export-port=8080  "
        "--num-cpus=2  --num-gpus=2 "
    )


@pytest.mark.parametrize(
    ("group", "flags"),
    [
        # A GPU that is only requested is none for Ray, nor is one that somebody has denied.
        (
            {"template": template(resources={"requests": {"cpu": "1"}})},
            ["--num-cpus=1"],
        ),
        (
            {"template": limits(**{GPU: "1"}), "rayStartParams": {"num-gpus": "0"}},
            ["--num-gpus=0"],
        ),
        (
            {"template": limits(**{"nvidia.com/mig-1g.10gb": "1"})},
            ["--num-gpus=1"],
        ),
        (
            {"resources": {"CPU": "3", "widget": "2"}},
            ["--num-cpus=3", "--resources='{\"widget\":2}'"],
        ),
        ({"labels": {"zone": "b", "disk": "ssd"}}, ["--labels=disk=ssd,zone=b"]),
        (
            {"rayStartParams": {"no-monitor": "true", "log-color": "false", "x": "false"}},
            ["--no-monitor", "--log-color=false"],
        ),
    ],
)
def test_what_becomes_of_a_group(lab: RayLab, group: Any, flags: list[str]) -> None:
    lab.ray(workers(**group))
    words = lab.start("worker").split("ray start")[1].split()
    usual = ("--address", "--block", "--dashboard-agent", "--metrics-export")
    assert sorted(each for each in words if not each.startswith(usual)) == sorted(flags)


def test_a_command_of_ones_own(lab: RayLab) -> None:
    lab.ray(
        workers(template=template(command=["sh", "-c"], args=["echo first"])),
        head={"template": template(command=["sh", "-c"], args=["ray start --head; sleep 9"])},
    )
    assert lab.container("head")["args"] == ["ray start --head; sleep 9"]
    assert lab.start("worker").startswith("sh -c echo first && ulimit -n ")
    variables = {each["name"]: each.get("value") for each in lab.container("head")["env"]}
    assert str(variables["KUBERAY_GEN_RAY_START_CMD"]).startswith("ray start --head  --block ")


def test_what_pods_find(lab: RayLab) -> None:
    lab.ray(workers(), head={"template": limits(memory="2Gi")})
    host = "r-head-svc.default.svc.cluster.local"
    head = {each["name"]: each.get("value") for each in lab.container("head")["env"]}
    assert head["RAY_ADDRESS"] == "127.0.0.1:6379"
    assert head["RAY_USAGE_STATS_EXTRA_TAGS"] == "kuberay_version=v1.7.0;kuberay_crd=RayCluster"
    worker = {each["name"]: each.get("value") for each in lab.container("worker")["env"]}
    assert worker["RAY_ADDRESS"] == f"{host}:6379"
    assert (worker["FQ_RAY_IP"], worker["RAY_IP"]) == (host, "r-head-svc")
    assert lab.container("head")["readinessProbe"]["httpGet"]["path"] == "/api/healthz"
    [pod] = lab.nodes("head")
    assert pod["spec"]["volumes"] == [
        {"name": "shared-mem", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}
    ]
    [waits] = lab.nodes("worker")[0]["spec"]["initContainers"]
    assert waits["name"] == "wait-gcs-ready"
    assert f"ray health-check --address {host}:6379" in waits["args"][0]


def test_what_is_set_for_this_machine(lab: RayLab) -> None:
    lab.up(workers())
    lab.ray(name="other", head={"template": standing("head")})
    variables = {
        (kind, name): {each["name"]: each.get("value") for each in pod["env"]}
        for kind, name in (("head", "r"), ("worker", "r"), ("head", "other"))
        for pod in lab.nodes(kind, name)[0]["spec"]["containers"]
    }
    address = variables["head", "r"]["RAY_ADDRESS"]
    assert str(address).startswith("127.0.0.1:")
    assert variables["worker", "r"]["RAY_ADDRESS"] == address
    assert variables["head", "other"]["RAY_ADDRESS"] != address
    [worker] = lab.nodes("worker")
    assert worker["spec"]["initContainers"][0]["args"][0].startswith(
        f"until (exec 3<>/dev/tcp/{str(address).replace(':', '/')})"
    )
    told = worker["metadata"]["annotations"]["mlk8s.dev/set-for-this-machine"].split(",")
    assert {"wait-gcs-ready", "RAY_ADDRESS", "FQ_RAY_IP", "--address", "ports"} <= {*told}
    # What KubeRay itself says stays as it is in a real cluster.
    [head] = lab.nodes("head")
    assert lab.status(f"{CLUSTERS}/r")["head"]["podIP"] == head["status"]["podIP"] != "127.0.0.1"


def test_an_older_ray_is_asked_by_a_command(lab: RayLab) -> None:
    lab.ray(rayVersion="2.52.0")
    [_, _, command] = lab.container("head")["readinessProbe"]["exec"]["command"]
    assert command.count("wget") == 2
    assert "http://localhost:8265/api/gcs_healthz" in command


def test_replicas_within_their_bounds(lab: RayLab) -> None:
    lab.up(workers(replicas=9, maxReplicas=3), workers("low", replicas=0, minReplicas=1))
    assert len(lab.nodes("worker")) == 4
    path = f"{CLUSTERS}/r"
    groups = lab.get(path)["spec"]["workerGroupSpecs"]
    groups[0]["replicas"] = 1
    assert lab.patch(path, {"spec": {"workerGroupSpecs": groups}}).status == 200
    lab.wait(10)
    assert len(lab.nodes("worker")) == 2
    groups[0]["replicas"] = 2
    assert lab.patch(path, {"spec": {"workerGroupSpecs": groups}}).status == 200
    lab.until(lambda: lab.status(path).get("readyWorkerReplicas") == 3, within_s=60)
    assert len(lab.nodes("worker")) == 3


def test_a_worker_that_is_chosen_goes(lab: RayLab) -> None:
    lab.ray(workers(replicas=2))
    [first, second] = (each["metadata"]["name"] for each in lab.nodes("worker"))
    path = f"{CLUSTERS}/r"
    groups = lab.get(path)["spec"]["workerGroupSpecs"]
    groups[0] |= {"replicas": 1, "scaleStrategy": {"workersToDelete": [first]}}
    assert lab.patch(path, {"spec": {"workerGroupSpecs": groups}}).status == 200
    lab.wait(10)
    assert [each["metadata"]["name"] for each in lab.nodes("worker")] == [second]
    assert ("Normal", "DeletedWorkerPod", f"Deleted pod default/{first}") in lab.events("r")


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_a_pod_that_is_gone_is_made_anew(lab: RayLab, kind: str) -> None:
    lab.up(workers())
    [old] = (each["metadata"]["name"] for each in lab.nodes(kind))
    assert lab.client("DELETE", f"{CORE}/pods/{old}").status == 200
    lab.until(lambda: [e for e in lab.nodes(kind) if e["metadata"]["name"] != old], within_s=60)

    def well() -> bool:
        status = lab.status(f"{CLUSTERS}/r")
        head = lab.conditions(f"{CLUSTERS}/r")["HeadPodReady"][0]
        return head == "True" and status.get("readyWorkerReplicas") == 1

    lab.until(well, within_s=60)
    assert [each["metadata"]["name"] for each in lab.nodes(kind)] != [old]


def test_a_head_that_has_failed_is_made_anew(lab: RayLab) -> None:
    # A process in the place of Ray, which ends by itself.
    ends = template("busybox", command=["sh", "-c", "exit 3 # ray start"], restartPolicy="Never")
    lab.ray(head={"template": ends})
    first = lab.nodes("head")[0]["metadata"]["name"]
    lab.until(lambda: all(each["metadata"]["name"] != first for each in lab.nodes("head")))
    reasons = [(kind, reason) for kind, reason, text in lab.events("r") if first in text]
    assert ("Normal", "DeletedHeadPod") in reasons


def test_a_worker_waits_for_a_gpu(lab: RayLab) -> None:
    lab.ray(workers("gpu", template=limits(**{GPU: "999"})))
    lab.wait(20)
    [pod] = lab.nodes("worker")
    [scheduled] = (e for e in pod["status"]["conditions"] if e["type"] == "PodScheduled")
    assert f"Insufficient {GPU}" in scheduled["message"]
    assert not lab.ready()
    assert lab.conditions(f"{CLUSTERS}/r")["HeadPodReady"][0] == "True"


def test_suspended_and_resumed(lab: RayLab) -> None:
    lab.up(workers())
    path = f"{CLUSTERS}/r"
    assert lab.patch(path, {"spec": {"suspend": True}}).status == 200
    lab.until(lambda: lab.status(path).get("state") == "suspended", within_s=60)
    assert lab.nodes() == []
    told = lab.conditions(path)
    assert told["RayClusterSuspended"] == ("True", "RayClusterSuspended")
    assert told["RayClusterProvisioned"][0] == "False"
    assert lab.patch(path, {"spec": {"suspend": False}}).status == 200
    lab.until(lab.ready, within_s=60)
    assert lab.conditions(path)["RayClusterSuspended"][0] == "False"


def test_a_changed_template_and_the_strategy_recreate(lab: RayLab) -> None:
    lab.ray(workers(), upgradeStrategy={"type": "Recreate"})
    lab.wait(20)
    before = {each["metadata"]["name"] for each in lab.nodes()}
    path = f"{CLUSTERS}/r"
    groups = lab.get(path)["spec"]["workerGroupSpecs"]
    groups[0]["template"]["spec"]["containers"][0]["image"] = "registry.k8s.io/pause:3.9"
    assert lab.patch(path, {"spec": {"workerGroupSpecs": groups}}).status == 200
    lab.wait(60)
    assert not before & {each["metadata"]["name"] for each in lab.nodes()}
    assert lab.container("worker")["image"] == "registry.k8s.io/pause:3.9"


def test_a_token(lab: RayLab) -> None:
    lab.ray(workers(), authOptions={"mode": "token"})
    assert set(lab.get(f"{CORE}/secrets/r")["data"]) == {"auth_token"}
    for kind in ("head", "worker"):
        variables = {each["name"]: each for each in lab.container(kind)["env"]}
        assert variables["RAY_AUTH_MODE"]["value"] == "token"
        reference = variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
        assert reference == {"name": "r", "key": "auth_token"}


def test_an_autoscaler(lab: RayLab) -> None:
    options = {"version": "v2", "idleTimeoutSeconds": 60, "resources": {"limits": {"cpu": "1"}}}
    group = workers(template=template(restartPolicy="Never"), priority=1, idleTimeoutSeconds=10)
    head = {"template": template(restartPolicy="Never")}
    lab.ray(group, head=head, enableInTreeAutoscaling=True, autoscalerOptions=options)
    assert len(lab.nodes("worker")) == 1
    [head_pod] = lab.nodes("head")
    spec = head_pod["spec"]
    assert spec["serviceAccountName"] == "r"
    [ray, scales] = spec["containers"]
    assert scales["name"] == "autoscaler"
    assert scales["args"] == [
        "ray kuberay-autoscaler --cluster-name $(RAY_CLUSTER_NAME) "
        "--cluster-namespace $(RAY_CLUSTER_NAMESPACE)"
    ]
    assert scales["resources"] == {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}
    assert "--no-monitor" in ray["args"][0]
    assert {"name": "RAY_enable_autoscaler_v2", "value": "true"} in ray["env"]
    rbac = f"/apis/rbac.authorization.k8s.io/v1{HOME}"
    [subject] = lab.get(f"{rbac}/rolebindings/r")["subjects"]
    assert (subject["kind"], subject["name"]) == ("ServiceAccount", "r")
    assert lab.get(f"{rbac}/roles/r")["rules"][2]["verbs"] == ["get", "patch"]
    path = f"{CLUSTERS}/r"
    groups = lab.get(path)["spec"]["workerGroupSpecs"]
    groups[0]["replicas"] = 0
    assert lab.patch(path, {"spec": {"workerGroupSpecs": groups}}).status == 200
    lab.wait(20)
    # The autoscaler alone would choose the pod to delete.
    assert len(lab.nodes("worker")) == 1


def test_deleting_a_cluster_ends_all(lab: RayLab) -> None:
    lab.ray(workers(replicas=2))
    lab.wait(20)
    assert lab.client("DELETE", f"{CLUSTERS}/r").status == 200
    lab.wait(40)
    assert lab.get(f"{CORE}/pods")["items"] == []
    assert lab.client("GET", f"{CORE}/services/r-head-svc").status == 404
