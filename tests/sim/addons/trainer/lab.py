"""What tests do with Trainer, asked over HTTP, on a clock that they drive."""

from __future__ import annotations

from typing import Any

from ..lab import GPU, HOME, Lab, Object

GROUP = "trainer.kubeflow.org"
TRAINER = f"/apis/{GROUP}/v1alpha1"
TRAIN_JOBS = f"{TRAINER}{HOME}/trainjobs"
RUNTIMES = f"{TRAINER}{HOME}/trainingruntimes"
CLUSTER_RUNTIMES = f"{TRAINER}/clustertrainingruntimes"
JOBSETS = f"/apis/jobset.x-k8s.io/v1alpha2{HOME}/jobsets"
PAUSE = "registry.k8s.io/pause:3.10"
STEP = f"{GROUP}/trainjob-ancestor-step"
JOBSET = "jobset.sigs.k8s.io"


def runtime(name: str, *, job: Any = None, pod: Any = None, **jobset: Any) -> Object:
    """A TrainingRuntime for PyTorch, with more in its Job, its pod and its JobSet."""
    container = {"name": "node", "image": PAUSE}
    spec = {"template": {"spec": {"containers": [container], **(pod or {})}}, **(job or {})}
    template = {"metadata": {"labels": {STEP: "trainer"}}, "spec": spec}
    made = {"replicatedJobs": [{"name": "node", "template": template}], **jobset}
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "TrainingRuntime",
        "metadata": {"name": name},
        "spec": {"mlPolicy": {"torch": {}}, "template": {"spec": made}},
    }


def shell(script: str) -> Object:
    """A trainer that runs a script."""
    return {"image": "busybox", "command": ["sh", "-c", script]}


def gpus(count: int) -> Object:
    """A trainer whose nodes have GPUs."""
    return {"resourcesPerNode": {"limits": {GPU: count}, "requests": {GPU: count}}}


def patch(manager: str, pod: dict[str, Any], job: str = "node") -> Object:
    """A patch of a runtime's pods, and of its JobSet's labels."""
    replicated = {"name": job, "template": {"spec": {"template": {"spec": pod}}}}
    template = {"spec": {"replicatedJobs": [replicated]}, "metadata": {"labels": {"by": "patch"}}}
    return {"manager": manager, "trainingRuntimeSpec": {"template": template}}


class TrainerLab(Lab):
    """A cluster with Trainer, in few words."""

    def runtime(self, name: str, **more: Any) -> None:
        answer = self.post(RUNTIMES, runtime(name, **more))
        assert answer.status == 201, answer.message

    def body(self, name: str, trainer: Any = None, runtime: str = "", **spec: Any) -> Object:
        """A TrainJob; of a namespaced runtime where one is named."""
        kind = "TrainingRuntime" if runtime else "ClusterTrainingRuntime"
        reference = {"name": runtime or "torch-distributed", "kind": kind}
        if trainer is not None:
            spec["trainer"] = trainer
        return {
            "apiVersion": f"{GROUP}/v1alpha1",
            "kind": "TrainJob",
            "metadata": {"name": name},
            "spec": {"runtimeRef": reference, **spec},
        }

    def train(self, name: str, trainer: Any = None, runtime: str = "", **spec: Any) -> None:
        """A TrainJob whose pods run until they are deleted, unless its trainer says otherwise."""
        trainer = {"image": PAUSE, **(trainer or {})}
        answer = self.post(TRAIN_JOBS, self.body(name, trainer, runtime, **spec))
        assert answer.status == 201, answer.message
        self.wait()

    def refused(self, *args: Any, **spec: Any) -> str:
        """What the server says to a TrainJob that it does not take."""
        answer = self.post(TRAIN_JOBS, self.body(*args, **spec))
        assert answer.status in (403, 422), answer.body
        return answer.message

    def read(self, name: str) -> Any:
        return self.get(f"{TRAIN_JOBS}/{name}")

    def jobset(self, name: str) -> Any:
        return self.get(f"{JOBSETS}/{name}")

    def told(self, path: str) -> dict[str, tuple[str, str, str]]:
        """Status, reason and message of each condition of an object."""
        conditions = self.get(path).get("status", {}).get("conditions", [])
        return {
            each["type"]: (each["status"], each["reason"], each["message"]) for each in conditions
        }

    def conditions(self, name: str) -> dict[str, tuple[str, str, str]]:
        """Of a TrainJob."""
        return self.told(f"{TRAIN_JOBS}/{name}")

    def counts(self, name: str) -> dict[str, int]:
        """``jobsStatus`` of the nodes, without zeros."""
        [found] = self.read(name)["status"]["jobsStatus"]
        assert found.pop("name") == "node"
        return {part: count for part, count in found.items() if count}

    def nodes(self, name: str) -> list[Object]:
        """The pods of a TrainJob, by their rank."""
        selector = f"{JOBSET}/jobset-name={name},{JOBSET}/replicatedjob-name=node"
        found = self.get(f"/api/v1{HOME}/pods?labelSelector={selector.replace(',', '%2C')}")[
            "items"
        ]
        return sorted(found, key=lambda pod: str(pod["spec"]["hostname"]))

    def phases(self, name: str) -> list[str]:
        return [pod["status"]["phase"] for pod in self.nodes(name)]

    def environment(self, name: str, rank: int = 0) -> dict[str, Any]:
        """The variables of a pod, as they stand in it."""
        [container] = self.nodes(name)[rank]["spec"]["containers"]
        return {each["name"]: each.get("value") for each in container["env"]}

    def log(self, pod: str) -> str:
        answer = self.client("GET", f"/api/v1{HOME}/pods/{pod}/log")
        assert answer.status == 200, answer.message
        return answer.body.decode()

    def clear(self) -> None:
        """Delete all TrainJobs, and wait for their pods to end."""
        answer = self.client("DELETE", TRAIN_JOBS)
        assert answer.status in (200, 404), answer.message
        self.wait(40)
