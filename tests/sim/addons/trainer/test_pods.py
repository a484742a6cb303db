"""From a TrainJob to its pods: what is made, what stands in it, and who gets GPUs.

The rules and texts are those of Trainer v2.3.0 and JobSet v0.12.0; the pods' are Kubernetes' own.
"""

from __future__ import annotations

from typing import Any

import yaml

from ..lab import GPU, HOME
from .lab import (
    CLUSTER_RUNTIMES,
    GROUP,
    JOBSET,
    JOBSETS,
    PAUSE,
    RUNTIMES,
    TRAIN_JOBS,
    TrainerLab,
    gpus,
    patch,
    runtime,
)


def test_a_trainjob_becomes_a_jobset_a_job_a_service_and_pods(lab: TrainerLab) -> None:
    lab.train("a", {"numNodes": 2})
    jobset = lab.jobset("a")
    [owner] = jobset["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("TrainJob", "a", True)
    job = lab.read_job("a-node-0")
    [owner] = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("JobSet", "a")
    wanted = {"parallelism": 2, "completions": 2, "completionMode": "Indexed", "suspend": False}
    assert {part: job["spec"][part] for part in wanted} == wanted
    service = lab.get(f"/api/v1{HOME}/services/a")["spec"]
    assert service["clusterIP"] == "None"
    assert service["selector"] == {f"{JOBSET}/jobset-name": "a"}
    assert service["publishNotReadyAddresses"] is True
    pods = lab.nodes("a")
    assert [pod["spec"]["hostname"] for pod in pods] == ["a-node-0-0", "a-node-0-1"]
    assert {pod["spec"]["subdomain"] for pod in pods} == {"a"}
    assert {pod["spec"]["restartPolicy"] for pod in pods} == {"OnFailure"}
    labels = pods[1]["metadata"]["labels"]
    told = {key.partition("/")[2]: text for key, text in labels.items() if key.startswith(JOBSET)}
    assert told == {
        "jobset-name": "a",
        "jobset-uid": jobset["metadata"]["uid"],
        "replicatedjob-name": "node",
        "restart-attempt": "0",
        "replicatedjob-replicas": "1",
        "global-replicas": "1",
        "job-index": "0",
        # printf default/a-node-0 | sha1sum
        "job-key": "2b73ecf9deb65775a01f2f95afca7da351c61b60",
        "job-global-index": "0",
        "group-name": "default",
        "group-replicas": "1",
        "job-group-index": "0",
    }
    assert labels["batch.kubernetes.io/job-completion-index"] == "1"
    assert lab.counts("a") == {"ready": 1, "active": 1}
    # A TrainJob that runs says so by its pods alone.
    assert lab.conditions("a") == {}


def test_the_variables_of_torchrun(lab: TrainerLab) -> None:
    mine = [{"name": "LR", "value": "0.1"}]
    lab.train("a", {"numNodes": 2, "numProcPerNode": 3, "env": mine})
    [node] = lab.jobset("a")["spec"]["replicatedJobs"]
    [container] = node["template"]["spec"]["template"]["spec"]["containers"]
    rank = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert container["env"] == [
        *mine,
        {"name": "PET_NNODES", "value": "2"},
        {"name": "PET_NPROC_PER_NODE", "value": "3"},
        {"name": "PET_NODE_RANK", "valueFrom": {"fieldRef": {"fieldPath": rank}}},
        {"name": "PET_MASTER_ADDR", "value": "a-node-0-0.a"},
        {"name": "PET_MASTER_PORT", "value": "29500"},
    ]
    assert container["ports"] == [{"containerPort": 29500}]


def test_pods_find_each_other_on_this_machine_and_say_so(lab: TrainerLab) -> None:
    lab.train("a", {"numNodes": 2})
    lab.train("b", {"numNodes": 2})
    found = {name: [lab.environment(name, rank) for rank in (0, 1)] for name in ("a", "b")}
    ports = {name: {each["PET_MASTER_PORT"] for each in both} for name, both in found.items()}
    assert {each["PET_MASTER_ADDR"] for both in found.values() for each in both} == {"127.0.0.1"}
    # One port for the pods of one TrainJob, another for those of another.
    assert [len(each) for each in ports.values()] == [1, 1]
    assert not ports["a"] & ports["b"]
    [metadata, _] = [pod["metadata"] for pod in lab.nodes("a")]
    told = metadata["annotations"]["mlk8s.dev/set-for-this-machine"]
    assert told == "PET_MASTER_ADDR,PET_MASTER_PORT"


def test_processes_of_a_node(lab: TrainerLab) -> None:
    def processes(name: str, **trainer: Any) -> tuple[Any, Any]:
        """What the JobSet says, and the pod."""
        lab.train(name, trainer)
        [node] = lab.jobset(name)["spec"]["replicatedJobs"]
        [container] = node["template"]["spec"]["template"]["spec"]["containers"]
        said = {each["name"]: each.get("value") for each in container["env"]}
        return said["PET_NPROC_PER_NODE"], lab.environment(name)["PET_NPROC_PER_NODE"]

    assert processes("none") == ("1", "1")
    assert processes("cpus", resourcesPerNode={"requests": {"cpu": "3500m"}}) == ("4", "4")
    # torchrun counts the GPUs itself; here it would find this machine's.
    assert processes("gpus", **gpus(2)) == ("auto", "2")
    assert processes("said", numProcPerNode=1, **gpus(2)) == ("1", "1")


def test_without_a_trainer_torchrun_gets_no_variables(lab: TrainerLab) -> None:
    # As in Trainer 2.3.0, whose torch plug-in looks for the container only where there is one.
    lab.runtime("pausing")
    assert lab.post(TRAIN_JOBS, lab.body("a", runtime="pausing")).status == 201
    lab.wait()
    assert set(lab.environment("a")) == {"JOB_COMPLETION_INDEX"}


def test_the_runtime_stands_behind_the_trainjob(lab: TrainerLab) -> None:
    body = runtime("mine", ttlSecondsAfterFinished=60)
    body["spec"]["mlPolicy"]["numNodes"] = 3
    body["spec"]["template"]["metadata"] = {"labels": {"team": "blue"}}
    [node] = body["spec"]["template"]["spec"]["replicatedJobs"]
    [container] = node["template"]["spec"]["template"]["spec"]["containers"]
    container |= {
        "env": [{"name": "LR", "value": "1"}, {"name": "SEED", "value": "7"}],
        "resources": {"limits": {"memory": "1Gi", GPU: "1"}},
    }
    assert lab.post(RUNTIMES, body).status == 201
    env = [{"name": "LR", "value": "2"}]
    lab.train("a", {"env": env, "resourcesPerNode": {"limits": {GPU: 2}}}, "mine")
    assert lab.jobset("a")["metadata"]["labels"] == {"team": "blue"}
    pods = lab.nodes("a")
    assert len(pods) == 3
    [container] = pods[0]["spec"]["containers"]
    assert container["resources"]["limits"] == {"memory": "1Gi", GPU: "2"}
    found = {each["name"]: each.get("value") for each in container["env"]}
    assert (found["LR"], found["SEED"]) == ("2", "7")


def test_a_namespaced_runtime_and_one_of_the_cluster_may_share_a_name(lab: TrainerLab) -> None:
    lab.runtime("torch-distributed", job={"backoffLimit": 0})
    lab.train("cluster")
    lab.train("mine", runtime="torch-distributed")
    limits = [
        lab.read_job(f"{each}-node-0")["spec"]["backoffLimit"] for each in ("cluster", "mine")
    ]
    assert limits == [6, 0]


def test_gpus_are_scheduled_as_for_any_pod(lab: TrainerLab) -> None:
    lab.train("a", {"numNodes": 2, **gpus(3)})
    lab.train("b", {"numNodes": 2, **gpus(2)})
    assert lab.phases("a") == ["Running", "Running"]
    # Two GPUs are left: no gang scheduling, so the first pod starts and waits for the second.
    assert sorted(lab.phases("b")) == ["Pending", "Running"]
    assert lab.counts("b") == {"active": 1}
    waiting = next(pod for pod in lab.nodes("b") if pod["status"]["phase"] == "Pending")
    [condition] = waiting["status"]["conditions"]
    assert "Insufficient nvidia.com/gpu" in condition["message"]
    lab.client("DELETE", f"{TRAIN_JOBS}/a")
    lab.wait(60)
    assert lab.phases("b") == ["Running", "Running"]
    assert lab.counts("b") == {"ready": 1, "active": 1}


def test_beyond_its_quota_a_trainjob_waits(lab: TrainerLab) -> None:
    hard = {"requests.nvidia.com/gpu": "2"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team"}}
    lab.post(f"/api/v1{HOME}/resourcequotas", {**quota, "spec": {"hard": hard}})
    lab.wait()
    lab.train("a", {"numNodes": 2, **gpus(2)})
    lab.wait(5)
    assert len(lab.nodes("a")) == 1
    assert lab.conditions("a") == {}
    told = [text for _, reason, text in lab.events("a-node-0") if reason == "FailedCreate"]
    assert told
    assert all(
        "forbidden: exceeded quota: team, requested: requests.nvidia.com/gpu=2" in text
        for text in told
    )
    lab.patch(
        f"/api/v1{HOME}/resourcequotas/team", {"spec": {"hard": {"requests.nvidia.com/gpu": "4"}}}
    )
    lab.wait(60)
    assert lab.phases("a") == ["Running", "Running"]


def test_a_trainjob_that_is_deleted_takes_everything_with_it(lab: TrainerLab) -> None:
    lab.train("a", {"numNodes": 2})
    lab.client("DELETE", f"{TRAIN_JOBS}/a")
    lab.wait(60)
    assert lab.nodes("a") == []
    for path in (TRAIN_JOBS, JOBSETS, f"/apis/batch/v1{HOME}/jobs"):
        assert lab.get(path)["items"] == []
    maps = [each["metadata"]["name"] for each in lab.get(f"/api/v1{HOME}/configmaps")["items"]]
    assert maps == ["kube-root-ca.crt"]


def test_a_trainjob_keeps_the_runtime_that_it_was_made_from(lab: TrainerLab) -> None:
    lab.train("a", suspend=True)
    kept = lab.get(f"/api/v1{HOME}/configmaps/a-runtime-snapshot")["data"]["runtime"]
    assert yaml.safe_load(kept)["metadata"]["name"] == "torch-distributed"
    path = f"{CLUSTER_RUNTIMES}/torch-distributed"
    lab.patch(path, {"spec": {"mlPolicy": {"numNodes": 4}}})
    lab.patch(f"{TRAIN_JOBS}/a", {"spec": {"suspend": False}})
    lab.wait()
    assert len(lab.nodes("a")) == 1
    lab.train("b")
    assert len(lab.nodes("b")) == 4


def test_a_snapshot_that_somebody_spoils(lab: TrainerLab) -> None:
    lab.train("a", suspend=True)
    lab.patch(f"/api/v1{HOME}/configmaps/a-runtime-snapshot", {"data": None})
    lab.patch(f"{TRAIN_JOBS}/a", {"spec": {"suspend": False}})
    lab.wait()
    [(_, reason, message)] = [each for each in lab.events("a") if each[0] == "Warning"]
    assert reason == "TrainJobResourcesCreationFailed"
    assert message.endswith(
        'invalid runtime snapshot: snapshot ConfigMap missing "runtime" data key'
    )
    assert lab.nodes("a") == []


def test_patches_of_the_runtime(lab: TrainerLab) -> None:
    mounts = [{"name": "out", "mountPath": "/out"}]
    pod = {
        "volumes": [{"name": "out", "emptyDir": {}}],
        "containers": [{"name": "node", "volumeMounts": mounts}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
    }
    lab.train("a", runtimePatches=[patch("example.com/me", pod)])
    [made] = lab.nodes("a")
    assert made["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}
    [container] = made["spec"]["containers"]
    assert (container["image"], container["volumeMounts"][0]["name"]) == (PAUSE, "out")
    assert lab.jobset("a")["metadata"]["labels"] == {"by": "patch"}
    assert lab.read("a")["spec"]["runtimePatches"][0]["time"]
    late: dict[str, Any] = {"spec": {"runtimePatches": []}}
    assert lab.patch(f"{TRAIN_JOBS}/a", late).message == (
        f'admission webhook "validator.trainjob.{GROUP}" denied the request: '
        "spec.runtimePatches: Forbidden: RuntimePatches can only be modified when the TrainJob is "
        "suspended before or after the update"
    )


def test_patches_while_a_trainjob_is_suspended(lab: TrainerLab) -> None:
    lab.train("a", suspend=True)
    selector = {"nodeSelector": {"kubernetes.io/os": "linux"}}
    lab.patch(f"{TRAIN_JOBS}/a", {"spec": {"runtimePatches": [patch("example.com/me", selector)]}})
    lab.wait()
    lab.patch(f"{TRAIN_JOBS}/a", {"spec": {"suspend": False}})
    lab.wait()
    [made] = lab.nodes("a")
    assert made["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}


def test_a_jobset_of_ones_own(lab: TrainerLab) -> None:
    pod = {"containers": [{"name": "main", "image": "busybox", "command": ["true"]}]}
    jobs = [
        {"name": name, "replicas": count, "template": {"spec": {"template": {"spec": pod}}}}
        for name, count in (("driver", 1), ("worker", 2))
    ]
    spec = {
        "replicatedJobs": jobs,
        "failurePolicy": {"rules": [{"action": "FailJobSet"}]},
        "successPolicy": {"operator": "All", "targetReplicatedJobs": ["worker"]},
    }
    body = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": "mine"},
        "spec": spec,
    }
    answer = lab.post(JOBSETS, body)
    assert answer.status == 201, answer.message
    assert answer.json["spec"]["failurePolicy"]["rules"][0]["name"] == "failurePolicyRule0"
    lab.wait()
    indexes = {
        job["metadata"]["name"]: [
            job["metadata"]["labels"][f"{JOBSET}/{part}"]
            for part in ("job-index", "job-global-index")
        ]
        for job in lab.get(f"/apis/batch/v1{HOME}/jobs")["items"]
    }
    assert indexes == {
        "mine-driver-0": ["0", "0"],
        "mine-worker-0": ["0", "1"],
        "mine-worker-1": ["1", "2"],
    }
    lab.until(lambda: "Completed" in lab.told(f"{JOBSETS}/mine"))
    longer = [{**jobs[0], "replicas": 2}, jobs[1]]
    late = lab.patch(f"{JOBSETS}/mine", {"spec": {"replicatedJobs": longer}})
    assert (late.status, late.message.endswith("field is immutable")) == (403, True)
    for policy, part in (
        ({"restartStrategy": "InPlaceRestart"}, "restartStrategy"),
        ({"rules": [{"action": "RestartJob"}]}, "rules[0].action"),
    ):
        wrong = {**body, "metadata": {"name": "b"}, "spec": {**spec, "failurePolicy": policy}}
        assert (
            f"spec.failurePolicy.{part}: Forbidden: the embedded"
            in lab.post(JOBSETS, wrong).message
        )
    rules = [{"action": "FailJobSet", "onJobFailureMessagePatterns": ["("]}]
    wrong = {**body, "spec": {**spec, "failurePolicy": {"rules": rules}}}
    assert "invalid regular expression" in lab.post(JOBSETS, wrong).message
    lab.client("DELETE", JOBSETS)


def test_jobsets_that_would_begin_at_one_port_get_two(lab: TrainerLab) -> None:
    # Where the search for a port begins depends on the uid alone.
    env = [{"name": "PET_MASTER_PORT", "value": "29500"}]
    spec = {"containers": [{"name": "node", "image": PAUSE, "env": env}]}
    ports = []
    for name in ("a", "b"):
        lab.train(name)
        labels = {f"{JOBSET}/jobset-name": name, f"{JOBSET}/jobset-uid": "same"}
        pod = {"metadata": {"name": f"by-hand-{name}", "labels": labels}, "spec": spec}
        answer = lab.post(f"/api/v1{HOME}/pods", {"apiVersion": "v1", "kind": "Pod", **pod})
        ports.append(int(answer.json["spec"]["containers"][0]["env"][0]["value"]))
        lab.client("DELETE", f"/api/v1{HOME}/pods/by-hand-{name}")
    assert ports[0] != ports[1]
