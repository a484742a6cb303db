"""Runs everything on the embedded cluster and says what differs from Kubernetes.

The tests here ask for one suite each; ``benchmarks/conformance.py`` asks for all of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlk8s.sim import Cluster

from . import compare, kubectl, play

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
CLIENTS = REPOSITORY / "_build" / "clients"
#: Versions of the Python client beside the installed one, each with its recording.
RECORDED_CLIENTS = {"30.1.0": "python_client-30", "37.0.2": "python_client-37"}
SCHEDULING = json.loads((HERE / "scheduling.json").read_text())

#: Differences that stay, by suite and case, each with its reason. There are no others.
LEFT: dict[str, dict[str, str]] = {
    "kubectl": {
        "25 get events --field-selector reason=FailedScheduling "
        "-o custom-columns=R:.reason,M:.message": (
            "the recording also has the events of earlier pods on that cluster, which the embedded "
            "one never had; the event of this pod is the same"
        ),
    },
}


@dataclass(frozen=True)
class Score:
    """How a suite came out.

    Attributes:
        of: how many cases it has.
        differences: those that do not give Kubernetes' answer, each with what differs.
        software: what took part, name and version.
        answers: what was compared, where a test looks at that.
    """

    of: int
    differences: Mapping[str, str]
    software: Mapping[str, str] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def same(self) -> int:
        """How many cases give Kubernetes' answer."""
        return self.of - len(self.differences)


class Scenarios:
    """The scheduling scenarios on one cluster; each is played once, when it is asked for."""

    def __init__(self, cluster: Cluster) -> None:
        """On a cluster without nodes, with a manual clock."""
        self.player = play.Player(cluster.kubeconfig, cluster.advance, cluster.explain)
        self.all = play.scenarios()
        self._differences: dict[str, list[str]] = {}

    def differences(self, name: str) -> list[str]:
        """How a scenario differs from what Kubernetes made of it."""
        if name not in self._differences:
            played = self.player.play(self.all[name])
            real = SCHEDULING["scenarios"][name]
            self._differences[name] = compare.scheduling(real, played.steps, played.ties)
        return self._differences[name]

    def score(self) -> Score:
        """Of all scenarios."""
        found = {name: self.differences(name) for name in self.all}
        return Score(len(self.all), {name: "; ".join(said) for name, said in found.items() if said})


@contextmanager
def a_cluster(nodes: str, *, manual_clock: bool = False) -> Iterator[Cluster]:
    """A cluster that has nothing to complain about when it ends."""
    with Cluster(nodes, manual_clock=manual_clock) as cluster:
        yield cluster
        log = (cluster.directory / "server.log").read_text()
        assert not log, log


def scheduling() -> Score:
    """The scenarios."""
    with a_cluster("none", manual_clock=True) as cluster:
        return Scenarios(cluster).score()


def kubectl_recorded() -> Score:
    """kubectl's commands that Kubernetes was given too."""
    with a_cluster("none") as cluster:
        wanted = kubectl.recorded_commands()
        played = list(kubectl.play(cluster.kubeconfig, wanted, lambda: settle(cluster)))
    differences = compare.commands(kubectl.RECORDED["commands"], played)
    return Score(len(wanted), differences, {"kubectl": kubectl.version()}, played)


def kubectl_kubelet() -> Score:
    """kubectl's commands that need a kubelet: each succeeds, and says what it should."""
    with a_cluster("h100") as cluster:
        commands = ["apply -f workload.yaml", *(command for command, _ in kubectl.KUBELET)]
        _, *played = kubectl.play(cluster.kubeconfig, commands, lambda: None)
    differences = {
        one["command"]: json.dumps(one)
        for one, (_, said) in zip(played, kubectl.KUBELET, strict=True)
        if one["rc"] != 0 or said not in one.get("stdout", "")
    }
    return Score(len(played), differences, {"kubectl": kubectl.version()})


def python_client(which: str) -> Score:
    """The Python client's calls.

    Args:
        which: a version of ``RECORDED_CLIENTS``; ``installed``, whose answers must be those of one
            of these.

    Raises:
        FileNotFoundError: that version is not there; the message says how it gets there.
    """
    environment = dict(os.environ)
    recordings = list(RECORDED_CLIENTS.values())
    if which != "installed":
        folder = CLIENTS / which
        if not (folder / "kubernetes").is_dir():
            raise FileNotFoundError(
                f"{folder.relative_to(REPOSITORY)} does not hold the Kubernetes client {which}. "
                "Next: run `make clients`."
            )
        environment["PYTHONPATH"] = str(folder)
        recordings = [RECORDED_CLIENTS[which]]
    with a_cluster("none") as cluster:
        said = _script("python_client.py", cluster.kubeconfig, environment=environment)
    expected = version("kubernetes") if which == "installed" else which
    assert said["client"] == expected, (said["client"], expected)
    real = [json.loads((HERE / f"{name}.json").read_text())["calls"] for name in recordings]
    differences = compare.calls(real, said["calls"])
    return Score(len(said["calls"]), differences, {f"Python client ({which})": said["client"]})


def kr8s() -> Score:
    """The calls of kr8s, on a node with a kubelet: each gives what it should."""
    with a_cluster("h100") as cluster:
        said = _script("kr8s_client.py", cluster.kubeconfig, "h100-0", "nginx")["calls"]
    failed = {name: json.dumps(got) for name, got in said.items() if "ok" not in got}
    return Score(len(said), failed, {"kr8s": version("kr8s")})


def kubeflow() -> Score:
    """The calls of the Kubeflow SDK, on a cluster that serves a training runtime."""
    with a_cluster("none") as cluster:
        said = _script("kubeflow_client.py", cluster.kubeconfig)["calls"]
    runtime = {
        "name": "torch-distributed",
        "framework": "torch",
        "nodes": 2,
        "device": "gpu",
        "devices": "1.0",
    }
    wanted: dict[str, Any] = {"list_runtimes": [runtime], "get_runtime": runtime}
    return Score(len(wanted), compare.calls([wanted], said), {"kubeflow": version("kubeflow")})


#: All suites, by the name that the recorded scores have.
SUITES: dict[str, Callable[[], Score]] = {
    "scheduling scenarios": scheduling,
    "kubectl": kubectl_recorded,
    "kubectl, with a kubelet": kubectl_kubelet,
    "Python client 30": lambda: python_client("30.1.0"),
    "Python client 37": lambda: python_client("37.0.2"),
    "Python client, installed": lambda: python_client("installed"),
    "kr8s": kr8s,
    "Kubeflow SDK": kubeflow,
}


def kubectl_is_missing() -> bool:
    """Whether the suites that need kubectl cannot run."""
    return shutil.which("kubectl") is None


def settle(cluster: Cluster, quiet_s: float = 0.3, limit_s: float = 20.0) -> None:
    """Wait until no object of a cluster has changed for a while."""
    end = time.monotonic() + limit_s
    seen, since = None, time.monotonic()
    while time.monotonic() < end:
        revision = cluster.status()["revision"]
        if revision != seen:
            seen, since = revision, time.monotonic()
        elif time.monotonic() - since >= quiet_s:
            return
        time.sleep(0.05)
    raise TimeoutError(f"the cluster did not come to rest within {limit_s:g} s")


def _script(
    name: str, *arguments: str | Path, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What a script of this folder printed."""
    done = subprocess.run(
        [sys.executable, HERE / name, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{name} ended with status {done.returncode}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
