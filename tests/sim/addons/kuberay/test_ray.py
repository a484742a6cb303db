"""Ray itself in the pods: the course's manifests, on a clock that is the machine's.

A node of Ray takes some ten seconds to start on a quiet machine of two CPUs, and much longer on a
busy one; so there are few clusters here, and long deadlines. That Ray's autoscaler makes a GPU
worker for a task, and takes it away, is asserted in chapter 8.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml

from mlk8s.sim import Cluster
from mlk8s.sim.kubelet.reaper import MARK

from ..lab import HOME, Object
from .lab import BATCH, CLUSTERS, CORE, JOBS, SERVICES

# pytest finds the package in this folder's parents, mypy under the repository's root.
if TYPE_CHECKING:
    from tests.sim.wire.client import MERGE, Client
else:
    from wire.client import MERGE, Client

MANIFESTS = Path(__file__).parents[4] / "labs/manifests"
PATHS = {
    "ConfigMap": f"{CORE}/configmaps",
    "RayCluster": CLUSTERS,
    "RayJob": JOBS,
    "RayService": SERVICES,
}
WITHIN_S = 300.0
GPU_TASK = """
import os, ray
ray.init()
@ray.remote(num_gpus=1, num_cpus=0)
def seen():
    return os.environ["CUDA_VISIBLE_DEVICES"], ray.get_runtime_context().get_node_id()
devices, node = ray.get(seen.remote())
print("devices", devices, "elsewhere", node != ray.get_runtime_context().get_node_id())
"""


class Real:
    """A cluster whose pods run Ray, in few words."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.client = Client(cluster)

    def apply(self, name: str, change: Callable[[Object], None] = lambda _: None) -> None:
        """Create what a manifest says, each object changed first."""
        for body in yaml.safe_load_all((MANIFESTS / name).read_text()):
            change(body)
            answer = self.client("POST", PATHS[body["kind"]], body)
            assert answer.status == 201, answer.message

    def get(self, path: str) -> Any:
        answer = self.client("GET", path)
        return answer.json if answer.status == 200 else {}

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + WITHIN_S
        while not (found := condition()):
            assert time.monotonic() < deadline, f"{what}: {self.told()}"
            time.sleep(0.4)
        return found

    def told(self) -> str:
        """What helps to understand a failure."""
        pods = self.get(f"{CORE}/pods")["items"]
        events = self.get(f"{CORE}/events")["items"]
        lines = [f"{each['reason']}: {each['message']}" for each in events[-10:]]
        phases = {each["metadata"]["name"]: each["status"].get("phase") for each in pods}
        states = [self.get(path)["items"] for path in (CLUSTERS, JOBS, SERVICES)]
        return "\n".join([str(phases), *lines, str([e.get("status") for s in states for e in s])])

    def job(self, name: str, entrypoint: str, cluster: str) -> None:
        selector = {"ray.io/cluster": cluster}
        body = {
            "apiVersion": "ray.io/v1",
            "kind": "RayJob",
            "metadata": {"name": name},
            "spec": {"entrypoint": entrypoint, "clusterSelector": selector},
        }
        assert self.client("POST", JOBS, body).status == 201

    def end(self, name: str) -> Any:
        """The status of a RayJob that has ended."""

        def ended() -> Any:
            status = self.get(f"{JOBS}/{name}").get("status") or {}
            return status if status.get("jobDeploymentStatus") in ("Complete", "Failed") else None

        return self.until(ended, f"the end of {name}")

    def log(self, job: str) -> str:
        """What the submitter of a RayJob printed."""
        [pod, *_] = self.get(f"{CORE}/pods?labelSelector=job-name%3D{job}")["items"]
        answer = self.client("GET", f"{CORE}/pods/{pod['metadata']['name']}/log")
        return answer.body.decode()

    def processes(self) -> dict[int, str]:
        """The commands of the cluster's pods, by the ids of their processes."""
        found = {}
        for each in psutil.process_iter():
            try:
                if each.environ().get(MARK) == str(self.cluster.directory.resolve()):
                    found[each.pid] = " ".join(each.cmdline())
            except psutil.Error:
                continue
        return found

    def listens(self) -> set[str]:
        """The addresses on which these processes listen.

        Not those of Ray Serve's replicas: between themselves they use a port on all interfaces,
        which Ray does not let anybody choose.
        """
        mine = {pid for pid, told in self.processes().items() if "ServeReplica" not in told}
        return {
            each.laddr.ip
            for each in psutil.net_connections("tcp")
            if each.pid in mine and each.status == psutil.CONN_LISTEN and each.laddr
        }


@pytest.fixture(scope="module")
def running_ray() -> Iterator[Cluster]:
    with Cluster("h100x8", seed=0, addons=["kuberay"]) as cluster:
        yield cluster
        log = (cluster.directory / "server.log").read_text()
        assert "Traceback" not in log, log


@pytest.fixture
def real(running_ray: Cluster) -> Iterator[Real]:
    found = Real(running_ray)
    yield found
    for path in (JOBS, SERVICES, CLUSTERS, PATHS["ConfigMap"]):
        assert found.client("DELETE", path).status == 200
    found.until(lambda: not found.get(f"{CORE}/pods")["items"], "no pods")
    # Nothing of Ray outlives its pod by more than a moment.
    found.until(lambda: not found.processes(), "no processes")


def test_a_cluster_with_a_gpu_worker_runs_the_jobs_of_others(real: Real) -> None:
    real.apply("08-raycluster.yaml")
    path = f"{CLUSTERS}/gpus"
    real.until(lambda: real.get(path).get("status", {}).get("state") == "ready", "a cluster")
    status = real.get(path)["status"]
    assert (status["readyWorkerReplicas"], status["desiredGPU"]) == (1, "1")
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert conditions["RayClusterProvisioned"] == "True"
    real.job("sees", f"python -c {shlex.quote(GPU_TASK)}", "gpus")
    real.job("fails", "python -c 'raise SystemExit(3)'", "gpus")
    bad, good = real.end("fails"), real.end("sees")
    assert (good["jobDeploymentStatus"], good["jobStatus"]) == ("Complete", "SUCCEEDED"), good
    assert "devices 0 elsewhere True" in real.log("sees")
    assert (bad["jobDeploymentStatus"], bad["jobStatus"]) == ("Failed", "FAILED")
    assert bad["reason"] == "AppFailed"
    assert "Job entrypoint command failed with exit code 3" in bad["message"]
    # The cluster was only lent.
    assert real.get(path)["status"]["state"] == "ready"


def test_a_job_has_a_cluster_until_its_time_is_over(real: Real) -> None:
    def soon(body: Object) -> None:
        if body["kind"] == "RayJob":
            body["spec"]["ttlSecondsAfterFinished"] = 1

    real.apply("08-rayjob.yaml", soon)
    status = real.end("squares")
    assert status["jobStatus"] == "SUCCEEDED", status
    assert status["succeeded"] == 1
    log = real.log("squares")
    assert "sum 140" in log
    assert "nodes 1" in log
    real.until(lambda: not real.get(CLUSTERS)["items"], "no cluster")
    real.until(lambda: not real.processes(), "no processes")
    # What it printed stays.
    assert real.get(f"{BATCH}/squares")["status"]["succeeded"] == 1
    assert "sum 140" in real.log("squares")


def test_a_service_answers_and_changes_while_it_runs(real: Real) -> None:
    real.apply("08-rayservice.yaml")
    path = f"{SERVICES}/greeter"

    def status() -> Any:
        return real.get(path).get("status") or {}

    real.until(lambda: status().get("serviceStatus") == "Running", "a service")
    conditions = {each["type"]: each["status"] for each in status()["conditions"]}
    assert conditions == {"Ready": "True", "UpgradeInProgress": "False"}
    active = status()["activeServiceStatus"]
    assert active["applicationStatuses"]["greeter"]["status"] == "RUNNING"
    where = f"/api/v1{HOME}/services/greeter-serve-svc:serve/proxy/?name=Ada"

    def answers(text: str) -> bool:
        answer = real.client("GET", where)
        return answer.status == 200 and answer.body.decode() == f"{text}, Ada\n"

    real.until(lambda: answers("Hello"), "an answer")
    config = real.get(path)["spec"]["serveConfigV2"].replace("Hello", "Good day")
    answer = real.client("PATCH", path, {"spec": {"serveConfigV2": config}}, MERGE)
    assert answer.status == 200, answer.message
    real.until(lambda: answers("Good day"), "another answer")
    # Nobody reaches it from outside of this machine.
    assert real.listens() <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert "127.0.0.1" in real.listens()
    # In the same cluster.
    assert status()["activeServiceStatus"]["rayClusterName"] == active["rayClusterName"]
    assert len(real.get(CLUSTERS)["items"]) == 1
