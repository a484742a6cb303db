"""``enable`` and ``mlk8s cluster addon``: the embedded cluster installs, a live one is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlk8s.cluster import Connection, attach, connect
from mlk8s.cluster.wire import path
from mlk8s.errors import ClusterError
from mlk8s.provenance import Kind
from mlk8s.sim import Cluster

GROUP = "kueue.x-k8s.io"
INSTALL = (
    "kubectl apply --server-side -f https://github.com/kubernetes-sigs/kueue/releases/download/"
    "v0.19.2/manifests.yaml"
)
# All that there are, as messages list them.
ADDONS = "kueue, trainer, katib, kserve, kuberay"

MAIN = "import sys; sys.argv[0] = 'mlk8s'; from mlk8s.cli import main; main()"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def mlk8s(tmp_path: Path) -> Iterator[Run]:
    """``mlk8s cluster`` as a shell runs it, with a runtime folder of its own."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MLK8S_CLUSTER", "KUBECONFIG")}
    environment |= {"XDG_RUNTIME_DIR": str(tmp_path), "COLUMNS": "80", "HOME": str(tmp_path)}

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", MAIN, "cluster", *words],
            env=environment,
            capture_output=True,
            text=True,
        )

    yield command
    command("down")
    assert list(tmp_path.glob("mlk8s/*")) == []


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster("none", seed=0) as found:
        yield found


@pytest.fixture
def live(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """The same server as a kubeconfig names it: nothing says that it is embedded."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    with connect("live") as found:
        yield found


def test_the_embedded_cluster_installs_it(cluster: Cluster) -> None:
    with attach(cluster) as connection:
        found = connection.enable("kueue")
        assert connection.find(f"/apis/{GROUP}") is not None
    assert found.text == (
        "kueue is on: a model of version 0.19.2 (2026-08-20) that was written from its "
        "documentation and source (github.com/kubernetes-sigs/kueue)."
    )
    assert [each.kind for each in found.provenance] == [Kind.SIMULATED]
    with attach(cluster) as connection:
        assert connection.enable("kueue").text == found.text


def test_the_embedded_cluster_has_no_such_addon(cluster: Cluster) -> None:
    with attach(cluster) as connection, pytest.raises(ClusterError) as refused:
        connection.enable("volcano")
    assert str(refused.value) == (
        f"There is no add-on 'volcano'; there are: {ADDONS}. Next: list the add-ons: mlk8s "
        "cluster addon list; delete a definition that is in the way: kubectl delete crd NAME."
    )


def test_a_live_cluster_without_it_is_told_how_to_install_it(live: Connection) -> None:
    with pytest.raises(ClusterError) as refused:
        live.enable("kueue")
    assert str(refused.value) == (
        f"The cluster at {live.server} has no kueue: it does not serve the API group {GROUP}. "
        f"Next: install version 0.19.2, as a cluster administrator: {INSTALL}"
    )
    # Nothing is installed in a live cluster.
    assert live.find(f"/apis/{GROUP}") is None


def test_a_live_cluster_with_it_says_so(cluster: Cluster, live: Connection) -> None:
    cluster.enable("kueue")
    found = live.enable("kueue")
    assert found.text == f"kueue is there: the cluster serves {GROUP} (v1beta2)."
    assert [each.kind for each in found.provenance] == [Kind.LIVE]


def test_a_live_cluster_with_another_version_of_it(live: Connection) -> None:
    names = {"kind": "Workload", "plural": "workloads", "singular": "workload"}
    schema = {"openAPIV3Schema": {"type": "object"}}
    version = {"name": "v1beta1", "served": True, "storage": True, "schema": schema}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"workloads.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }
    live.request("POST", path("apiextensions.k8s.io/v1/customresourcedefinitions"), body)
    with pytest.raises(ClusterError) as refused:
        live.enable("kueue")
    assert str(refused.value) == (
        f"The kueue at {live.server} is not the course's: the cluster serves {GROUP} (v1beta1), "
        f"not v1beta2. Next: install version 0.19.2, as a cluster administrator: {INSTALL}"
    )


def test_an_unknown_addon_of_a_live_cluster(live: Connection) -> None:
    with pytest.raises(ClusterError) as refused:
        live.enable("volcano")
    assert str(refused.value) == (
        f"There is no add-on 'volcano'; there are: {ADDONS}. Next: correct the name."
    )


def test_the_commands(mlk8s: Run) -> None:
    up = mlk8s("up", "--nodes", "none", "--addons", "kueue", "--json")
    assert up.returncode == 0, up.stderr
    status = json.loads(mlk8s("status", "--json").stdout)
    assert status["addons"] == ["kueue"]
    listed, *_ = json.loads(mlk8s("addon", "list", "--json").stdout)
    assert listed["active"] and listed["not_modeled"]
    table = mlk8s("addon", "list").stdout
    assert "0.19.2" in table and max(map(len, table.splitlines())) <= 80
    assert mlk8s("addon", "disable", "kueue").stdout == "Add-on kueue is off.\n"
    off = mlk8s("addon", "disable", "kueue", "--json")
    assert json.loads(off.stdout) == {"name": "kueue", "active": False}
    assert mlk8s("addon", "enable", "kueue").stdout == "Add-on kueue is on.\n"
    refused = mlk8s("addon", "enable", "volcano")
    assert refused.returncode == 1
    assert refused.stderr == (
        f"mlk8s: There is no add-on 'volcano'; there are: {ADDONS}. Next: list the add-ons: "
        "mlk8s cluster addon list; delete a definition that is in the way: kubectl delete crd "
        "NAME.\n"
    )
    assert mlk8s("reset").returncode == 0
    listed = json.loads(mlk8s("addon", "list", "--json").stdout)
    assert not any(each["active"] for each in listed)


def test_a_cluster_that_shall_have_an_unknown_addon_does_not_start(mlk8s: Run) -> None:
    refused = mlk8s("up", "--nodes", "none", "--addons", "kueue, volcano")
    assert refused.returncode == 1
    assert refused.stderr == (
        "mlk8s: The embedded cluster did not start: there is no add-on 'volcano'; there are: "
        f"{ADDONS}. Next: correct what the message names; presets: mlk8s cluster presets; "
        "add-ons: mlk8s cluster addon list.\n"
    )
