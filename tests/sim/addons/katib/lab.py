"""What tests do with Katib, asked over HTTP, on a clock that they drive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubeflow_katib_api import models  # type: ignore[import-untyped]

from ..lab import GPU, HOME, Lab, Object

GROUP = "kubeflow.org"
KATIB = f"/apis/{GROUP}/v1beta1{HOME}"
EXPERIMENTS, SUGGESTIONS, TRIALS = (
    f"{KATIB}/{each}" for each in ("experiments", "suggestions", "trials")
)
JOBS = f"/apis/batch/v1{HOME}/jobs"
INJECTION = "katib.kubeflow.org/metrics-collector-injection"
LABEL = "katib.kubeflow.org/experiment"
X = "${trialParameters.x}"
REPORT = f"echo loss={X}"
UNIFORM = {"min": "0", "max": "1"}


def parameter(name: str, type: str = "double", **space: Any) -> Object:
    """A parameter; between 0 and 1 where nothing is said."""
    return {"name": name, "parameterType": type, "feasibleSpace": space or dict(UNIFORM)}


def settings(**values: Any) -> list[Object]:
    """Settings of an algorithm."""
    return [{"name": name, "value": str(value)} for name, value in values.items()]


def template(script: str = REPORT, gpus: int = 0, **more: Any) -> Object:
    """A trial template of a Job that runs a script once, with one parameter ``x``."""
    container: Object = {"name": "main", "image": "busybox", "command": ["sh", "-c", script]}
    if gpus:
        container["resources"] = {"limits": {GPU: str(gpus)}}
    pod = {"restartPolicy": "Never", "containers": [container]}
    job = {"backoffLimit": 0, "template": {"spec": pod}, **more.pop("job", {})}
    return {
        "primaryContainerName": "main",
        "trialParameters": [{"name": "x", "reference": "x"}],
        "trialSpec": {"apiVersion": "batch/v1", "kind": "Job", "spec": job},
        **more,
    }


def experiment(name: str, **spec: Any) -> Object:
    """An Experiment that minimizes ``loss`` over ``x`` in four Trials, two at a time."""
    algorithm = {"algorithmName": "random", "algorithmSettings": settings(random_state=7)}
    wanted = {
        "objective": {"type": "minimize", "objectiveMetricName": "loss"},
        "algorithm": algorithm,
        "parameters": [parameter("x")],
        "parallelTrialCount": 2,
        "maxTrialCount": 4,
        "trialTemplate": template(),
        **spec,
    }
    return {
        "apiVersion": f"{GROUP}/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": name},
        "spec": {part: value for part, value in wanted.items() if value is not None},
    }


class KatibLab(Lab):
    """A cluster with Katib, in few words."""

    def inject(self, value: str | None) -> None:
        """Label the namespace, or take the label off."""
        answer = self.patch(
            f"/api/v1{HOME}",
            {"metadata": {"labels": {INJECTION: value}}},
        )
        assert answer.status == 200, answer.message

    def search(self, name: str, **spec: Any) -> None:
        """Create an Experiment, as Katib's own models know it."""
        body = experiment(name, **spec)
        assert models.V1beta1Experiment.from_dict(body) is not None
        answer = self.post(EXPERIMENTS, body)
        assert answer.status == 201, answer.message
        self.wait()

    def refused(self, **spec: Any) -> str:
        """What the server says to an Experiment that it does not take."""
        answer = self.post(EXPERIMENTS, experiment("a", **spec))
        assert answer.status == 400, answer.body
        return str(answer.message)

    def change(self, name: str, **spec: Any) -> Any:
        """Change the spec of an Experiment; gives the server's answer."""
        return self.patch(f"{EXPERIMENTS}/{name}", {"spec": spec})

    def status(self, name: str) -> Any:
        """Of an Experiment, as Katib's own models know it."""
        found = self.get(f"{EXPERIMENTS}/{name}")
        assert models.V1beta1Experiment.from_dict(found) is not None
        return found.get("status", {})

    def suggestion(self, name: str) -> Any:
        found = self.get(f"{SUGGESTIONS}/{name}")
        assert models.V1beta1Suggestion.from_dict(found) is not None
        return found

    def trials(self, name: str) -> list[Any]:
        """The Trials of an Experiment, in the order in which they were suggested."""
        found = self.get(f"{TRIALS}?labelSelector={LABEL}%3D{name}")["items"]
        assert all(models.V1beta1Trial.from_dict(trial) is not None for trial in found)
        order = [
            each["name"] for each in self.suggestion(name).get("status", {}).get("suggestions", [])
        ]
        return sorted(found, key=lambda trial: order.index(trial["metadata"]["name"]))

    def values(self, name: str, of: str = "x") -> list[str]:
        """The values of a parameter, in the order in which they were suggested."""
        return [
            next(each["value"] for each in one["parameterAssignments"] if each["name"] == of)
            for one in self.suggestion(name)["status"]["suggestions"]
        ]

    def told(self, obj: Any) -> dict[str, tuple[str, str, str]]:
        """Status, reason and message of each condition of an object, or of its status."""
        conditions = obj.get("status", obj).get("conditions", [])
        return {
            each["type"]: (each["status"], each["reason"], each["message"]) for each in conditions
        }

    def ends(self, name: str, within_s: float = 20.0) -> Any:
        """Wait until an Experiment has ended, and its Trials with it; gives its status."""
        self.until(
            lambda: (
                {"Succeeded", "Failed"} & self.true(self.status(name))
                and not self.status(name).get("trialsRunning")
            ),
            within_s,
        )
        return self.status(name)

    def true(self, obj: Any) -> set[str]:
        """The conditions that hold."""
        return {type for type, told in self.told(obj).items() if told[0] == "True"}

    def found(self, path: str, what: Callable[[Any], bool] = bool) -> list[Any]:
        """The objects of a list that are as wanted."""
        return [each for each in self.get(path)["items"] if what(each)]

    def log(self, pod: str, container: str) -> str:
        answer = self.client("GET", f"/api/v1{HOME}/pods/{pod}/log?container={container}")
        assert answer.status == 200, answer.message
        return str(answer.body.decode())

    def clear(self) -> None:
        """Delete all Experiments, and wait for their pods to end."""
        answer = self.client("DELETE", EXPERIMENTS)
        assert answer.status in (200, 404), answer.message
        self.wait(40)
