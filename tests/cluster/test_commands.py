"""``mlk8s cluster`` as a shell runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mlk8s.cli import app
from mlk8s.cluster import attach, gpu_pod
from mlk8s.sim import Cluster

Run = Callable[..., subprocess.CompletedProcess[str]]
MAIN = "import sys; sys.argv[0] = 'mlk8s'; from mlk8s.cli import main; main()"


@pytest.fixture(scope="module")
def mlk8s(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The command, with a runtime folder of its own and a cluster that is up."""
    runtime = tmp_path_factory.mktemp("runtime")
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("MLK8S_CLUSTER", "KUBECONFIG")
    }
    environment |= {"XDG_RUNTIME_DIR": str(runtime), "COLUMNS": "80", "HOME": str(runtime)}

    def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", MAIN, "cluster", *arguments],
            env={**environment, **variables},
            capture_output=True,
            text=True,
        )

    done = command("up", "--nodes", "h100,cpu", "--seed", "0", "--json")
    assert done.returncode == 0, done.stderr
    yield command
    assert command("down").stdout == "The simulated cluster is gone.\n"
    assert not (runtime / "mlk8s" / "up").exists()


@pytest.fixture(scope="module")
def cluster(mlk8s: Run) -> Cluster:
    """The same cluster, from Python."""
    return Cluster.attach(Path(good(mlk8s("kubeconfig")).strip()).parent)


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def bad(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.startswith("mlk8s: ") and " Next: " in done.stderr
    return done.stderr


def values(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(good(done))


def test_status_and_kubeconfig(mlk8s: Run, cluster: Cluster) -> None:
    text = good(mlk8s("status"))
    assert "h100-0" in text and "Limits" in text
    assert max(map(len, text.splitlines())) <= 80
    assert values(mlk8s("status", "--json"))["kubeconfig"] == str(cluster.kubeconfig)
    assert good(mlk8s("kubeconfig", "--export")) == f"export KUBECONFIG={cluster.kubeconfig}\n"
    assert "is up already" in bad(mlk8s("up"))


def test_a_pod_is_run_explained_and_counted(mlk8s: Run, cluster: Cluster, tmp_path: Path) -> None:
    from mlk8s.cluster import attach
    from mlk8s.cluster.wire import path

    good_pod = gpu_pod("good", "busybox", ["sh", "-c", "echo hi"]).write(tmp_path / "good.yaml")
    bad_pod = gpu_pod("bad", "busybox", ["sh", "-c", "exit 3"]).write(tmp_path / "bad.yaml")
    assert good(mlk8s("run", str(good_pod))).splitlines()[-3:] == [
        "good: Succeeded on h100-0",
        "pod good deleted",
        "good: Succeeded on h100-0, exit code 0.",
    ]
    done = mlk8s("run", str(bad_pod), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["exitCode"] == 3
    assert "pod bad deleted" in done.stderr
    with attach(cluster) as connection:
        for name in ("first", "second"):
            body = dict(gpu_pod(name, "registry.k8s.io/pause:3.10"))
            connection.request("POST", path("pods", namespace="mlk8s-labs"), body)
    answer = values(mlk8s("why", "second", "--json"))
    assert answer["verdict"] == "busy" and "mlk8s-labs/first" in answer["because"]
    assert "Next: wait until that pod ends" in good(mlk8s("why", "-n", "mlk8s-labs", "second"))
    decision = good(mlk8s("explain", "second"))
    assert "NodeResourcesFit" in decision and max(map(len, decision.splitlines())) <= 80
    assert "chosen" in good(mlk8s("explain", "mlk8s-labs/first"))
    assert values(mlk8s("explain", "second", "--json"))["pod"]["phase"] == "Pending"
    counted = values(mlk8s("inventory", "--json"))
    assert counted["totals"]["nvidia.com/gpu"] == {
        "capacity": 1,
        "allocatable": 1,
        "requested": 1,
        "free": 0,
    }
    assert "mlk8s-labs/first" in good(mlk8s("inventory"))


def test_faults(mlk8s: Run) -> None:
    assert "device-unhealthy is on." in good(mlk8s("fault", "on", "device-unhealthy"))
    on = {each["name"] for each in values(mlk8s("fault", "list", "--json")) if each["active"]}
    assert on == {"device-unhealthy"}
    assert "is unhealthy" in good(mlk8s("inventory"))
    assert good(mlk8s("fault", "off", "device-unhealthy")) == "device-unhealthy is off.\n"
    assert "no fault 'none'" in bad(mlk8s("fault", "on", "none"))


def test_what_is_refused(mlk8s: Run, tmp_path: Path) -> None:
    assert "no pod 'ghost'" in bad(mlk8s("why", "ghost"))
    assert '"ghost" not found' in bad(mlk8s("explain", "ghost"))
    assert "manual clock" in bad(mlk8s("advance", "5"))
    assert "cannot be read" in bad(mlk8s("run", "none.yaml"))
    assert "No usable kubeconfig" in bad(mlk8s("inventory", MLK8S_CLUSTER="live"))
    nothing = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert "mlk8s cluster up; or" in bad(mlk8s("inventory", **nothing))
    assert "no such preset" in bad(mlk8s("up", "--nodes", "abacus", **nothing))
    assert not (tmp_path / "mlk8s" / "up").exists()


def test_live_says_which_cluster_it_asks(mlk8s: Run, cluster: Cluster) -> None:
    done = mlk8s("inventory", "--json", MLK8S_CLUSTER="live", KUBECONFIG=str(cluster.kubeconfig))
    assert values(done)["provenance"]["kind"] == "live"
    assert "context mlk8s-simulated (https://127.0.0.1" in done.stderr


@pytest.mark.parametrize(
    "command", ["up", "kubeconfig", "explain", "fault", "inventory", "why", "run", "advance"]
)
def test_help_teaches_by_examples(command: str) -> None:
    done = CliRunner().invoke(app, ["cluster", command, "--help"])
    assert "mlk8s cluster" in done.stdout.rpartition("─╯")[2]


def test_leftovers_tell_by_their_status(mlk8s: Run, cluster: Cluster) -> None:
    with attach(cluster) as k:
        # Other tests of this cluster work in that namespace.
        k.remove_namespace()
        k.wait("namespace", k.namespace, "Gone")
        assert "Nothing of the course is left" in good(mlk8s("leftovers"))
        k.ensure_namespace()
        left = mlk8s("leftovers", "--json")
        k.remove_namespace()
        k.wait("namespace", k.namespace, "Gone")
    assert left.returncode == 1
    [found] = json.loads(left.stdout)["left"]
    assert found["what"] == "namespace/mlk8s-labs"
    assert found["remove"] == "kubectl delete namespace mlk8s-labs"
