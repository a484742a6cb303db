"""What tests do with Kueue, asked over HTTP, on a clock that they drive."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mlk8s.sim import Cluster

# pytest finds the package in this folder's parent, mypy under the repository's root.
if TYPE_CHECKING:
    from tests.sim.wire.client import MERGE, TABLE, Answer, Client
else:
    from wire.client import MERGE, TABLE, Answer, Client

GROUP = "kueue.x-k8s.io"
KUEUE = f"/apis/{GROUP}/v1beta2"
HOME = "/namespaces/default"
JOBS = f"/apis/batch/v1{HOME}/jobs"
GPU = "nvidia.com/gpu"
Object = dict[str, Any]


class Lab:
    """A cluster, in few words."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.client = Client(cluster)

    def wait(self, seconds: float = 1) -> None:
        self.cluster.advance(seconds)

    def post(self, path: str, body: Object) -> Answer:
        return self.client("POST", path, body)

    def create(self, kind: str, name: str, spec: Object, namespaced: bool = False) -> Object:
        body = {"apiVersion": f"{GROUP}/v1beta2", "kind": kind, "metadata": {"name": name}}
        where = f"{KUEUE}{HOME if namespaced else ''}/{kind.lower()}s"
        answer = self.post(where, body | {"spec": spec})
        assert answer.status == 201, answer.message
        return dict(answer.json)

    def queue(
        self,
        name: str = "gpu",
        quota: Any = 8,
        flavors: dict[str, Any] | None = None,
        local: str = "team",
        **spec: Any,
    ) -> None:
        """Flavors, a ClusterQueue over nvidia.com/gpu, and a LocalQueue before it."""
        flavors = flavors if flavors is not None else {"any": quota}
        for flavor in flavors:
            self.post(
                f"{KUEUE}/resourceflavors",
                {
                    "apiVersion": f"{GROUP}/v1beta2",
                    "kind": "ResourceFlavor",
                    "metadata": {"name": flavor},
                },
            )
        rows = []
        for flavor, amount in flavors.items():
            row = amount if isinstance(amount, dict) else {"nominalQuota": amount}
            rows.append({"name": flavor, "resources": [{"name": GPU, **row}]})
        group = {"coveredResources": [GPU], "flavors": rows}
        whole = {"namespaceSelector": {}, "resourceGroups": [group], **spec}
        self.create("ClusterQueue", name, whole)
        self.create("LocalQueue", local, {"clusterQueue": name}, namespaced=True)

    def job(self, name: str, gpus: int = 1, pods: int = 1, queue: str = "team", **more: Any) -> Any:
        """A Job whose pods hold GPUs until they are deleted."""
        labels = {f"{GROUP}/queue-name": queue} if queue else {}
        labels |= more.pop("labels", {})
        resources = {"limits": {GPU: str(gpus)}, **more.pop("resources", {})}
        container = {
            "name": "main",
            "image": more.pop("image", "registry.k8s.io/pause:3.10"),
            "resources": resources,
            "command": more.pop("command", None),
        }
        pod = {"restartPolicy": "Never", "containers": [container], **more.pop("pod", {})}
        body = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "labels": labels},
            "spec": {"parallelism": pods, "completions": pods, "template": {"spec": pod}, **more},
        }
        answer = self.post(JOBS, body)
        assert answer.status == 201, answer.message
        return answer.json

    def priority(self, name: str, value: int) -> None:
        """A WorkloadPriorityClass."""
        body = {
            "apiVersion": f"{GROUP}/v1beta2",
            "kind": "WorkloadPriorityClass",
            "metadata": {"name": name},
            "value": value,
        }
        answer = self.post(f"{KUEUE}/workloadpriorityclasses", body)
        assert answer.status == 201, answer.message

    def until(self, condition: Callable[[], Any], within_s: float = 10.0) -> None:
        """Wait for a container's process, which takes real time."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.05)
            # Whole seconds, as timestamps are.
            self.wait(1)

    def get(self, path: str) -> Any:
        answer = self.client("GET", path)
        assert answer.status == 200, answer.message
        return answer.json

    def patch(self, path: str, body: Object) -> Answer:
        return self.client("PATCH", path, body, MERGE)

    def read_job(self, name: str) -> Any:
        return self.get(f"{JOBS}/{name}")

    def suspended(self, name: str) -> bool:
        return bool(self.read_job(name)["spec"]["suspend"])

    def clear(self) -> None:
        """Delete all Jobs, and wait for their pods to end."""
        for job in self.get(JOBS)["items"]:
            path = f"{JOBS}/{job['metadata']['name']}?propagationPolicy=Background"
            self.client("DELETE", path)
        self.wait(40)

    def workload(self, job: str) -> Any:
        """The Workload of a Job."""
        uid = self.read_job(job)["metadata"]["uid"]
        found = [
            each
            for each in self.get(f"{KUEUE}{HOME}/workloads")["items"]
            if any(owner["uid"] == uid for owner in each["metadata"].get("ownerReferences", ()))
        ]
        assert len(found) == 1, found
        return found[0]

    def condition(self, job: str, type: str) -> tuple[str, str, str] | None:
        """Status, reason and message of a Workload's condition."""
        conditions = self.workload(job).get("status", {}).get("conditions", [])
        for each in conditions:
            if each["type"] == type:
                return each["status"], each["reason"], each["message"]
        return None

    def active(self, path: str) -> tuple[str, str, str]:
        """Status, reason and message of a queue's condition."""
        [found] = self.get(f"{KUEUE}/{path}")["status"]["conditions"]
        assert found["type"] == "Active"
        return found["status"], found["reason"], found["message"]

    def admitted(self, *jobs: str) -> list[bool]:
        return [(self.condition(job, "Admitted") or ("",))[0] == "True" for job in jobs]

    def events(self, name: str, kind: str = "") -> list[tuple[str, str, str]]:
        """Those about objects of a name; other tests' objects of other kinds may share it."""
        found = self.get(f"/api/v1{HOME}/events")["items"]
        return [
            (each["type"], each["reason"], each["message"])
            for each in found
            if each["involvedObject"]["name"] == name
            and kind in ("", each["involvedObject"]["kind"])
        ]

    def workload_events(self, job: str) -> list[tuple[str, str, str]]:
        return self.events(self.workload(job)["metadata"]["name"])

    def table(self, path: str) -> tuple[list[str], list[list[Any]]]:
        """The columns that kubectl shows without ``-o wide``, and their cells."""
        answer = self.client("GET", path, Accept=TABLE).json
        shown = [at for at, each in enumerate(answer["columnDefinitions"]) if not each["priority"]]
        names = [answer["columnDefinitions"][at]["name"].upper() for at in shown]
        return names, [[row["cells"][at] for at in shown] for row in answer["rows"]]

    def pods(self, job: str) -> list[Object]:
        found = self.get(f"/api/v1{HOME}/pods?labelSelector=job-name%3D{job}")["items"]
        return list(found)
