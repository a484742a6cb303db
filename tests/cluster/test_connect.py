"""``connect``: which cluster answers, and what is said when none does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlk8s.cluster import connect
from mlk8s.cluster.wire import path
from mlk8s.errors import ClusterError, ClusterUnavailable, UsageError
from mlk8s.provenance import Kind

from .conftest import Bench

NODES = "cpu"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without a kubeconfig, and no environment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("MLK8S_CLUSTER", raising=False)
    return tmp_path


def kubeconfig(bench: Bench, home: Path, **user: str) -> Path:
    """A copy of the cluster's kubeconfig, as that of a real one."""
    assert bench.cluster is not None
    config = yaml.safe_load(bench.cluster.kubeconfig.read_text())
    config["users"][0]["user"] |= user
    target = home / ".kube" / "config"
    target.parent.mkdir()
    target.write_text(yaml.safe_dump(config))
    return target


def test_two_connections_share_a_cluster_and_the_last_one_ends_it(home: Path) -> None:
    # The reader's own kubeconfig is not even looked at.
    (home / ".kube").mkdir()
    (home / ".kube" / "config").write_text("not a kubeconfig")
    first, second = connect(nodes="cpu"), connect(nodes="cpu")
    assert first.embedded is second.embedded and first.embedded is not None
    assert first.kind is Kind.SIMULATED
    assert "the embedded cluster (nodes: cpu)" in repr(first)
    directory = first.embedded.directory
    first.close()
    first.close()
    assert second.request("GET", "/version")["gitVersion"].endswith("-simulated")
    second.close()
    assert not directory.exists()


def test_a_cluster_that_was_ended_is_replaced() -> None:
    with connect(nodes="cpu") as first:
        assert first.embedded is not None
        first.embedded.stop()
        with pytest.raises(ClusterUnavailable, match=r"does not answer.*connect\(\) again"):
            first.request("GET", "/version")
        with connect(nodes="cpu") as second:
            assert second.server != first.server


def test_it_ends_with_the_process() -> None:
    code = "from mlk8s.cluster import connect; print(connect(nodes='cpu').embedded.directory)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert not Path(done.stdout.strip()).exists()


def test_bad_nodes_and_a_bad_word(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterUnavailable, match=r"no such preset.*mlk8s cluster presets"):
        connect(nodes="abacus")
    monkeypatch.setenv("MLK8S_CLUSTER", "microk8s")
    with pytest.raises(UsageError, match=r"MLK8S_CLUSTER='microk8s' names no cluster.*live"):
        connect()


def test_live_needs_a_kubeconfig(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("MLK8S_CLUSTER", "live")
    with pytest.raises(ClusterUnavailable, match=r"No usable kubeconfig.*microk8s config >"):
        connect()
    (home / "broken").write_text("a: [")
    monkeypatch.setenv("KUBECONFIG", str(home / "broken"))
    with pytest.raises(ClusterUnavailable, match="No usable kubeconfig"):
        connect()


def test_live_shows_its_context(bench: Bench, home: Path) -> None:
    kubeconfig(bench, home)
    with connect("live") as connection:
        assert connection.kind is Kind.LIVE and connection.embedded is None
        assert "context mlk8s-simulated (https://127.0.0.1:" in repr(connection)
        assert repr(connection).endswith("[live]")
        assert "live" in connection._repr_html_()


def test_microk8s_keeps_its_kubeconfig_elsewhere(
    bench: Bench, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = kubeconfig(bench, home)
    moved = target.rename(home / "client.config")
    monkeypatch.setattr(sys.modules[connect.__module__], "MICROK8S_CONFIG", moved)
    with connect("live") as connection:
        assert connection.kubeconfig == str(moved)


def test_expired_credentials_and_a_dead_server(bench: Bench, home: Path) -> None:
    target = kubeconfig(bench, home, token="expired")
    with pytest.raises(
        ClusterUnavailable, match=r"turned the credentials.*\(401\).*fetch the kube"
    ):
        connect("live")
    config = yaml.safe_load(target.read_text())
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{closed.getsockname()[1]}"
    target.write_text(yaml.safe_dump(config))
    with pytest.raises(ClusterUnavailable, match=r"does not answer \(.*refused\)\. Next: check"):
        connect("live")


def test_the_labs_namespace_comes_and_goes(bench: Bench) -> None:
    connection = bench.connection
    connection.ensure_namespace()
    found = connection.request("GET", path("namespaces", "mlk8s-labs"))
    assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "mlk8s"
    connection.remove_namespace()
    bench.until(lambda: connection.find(path("namespaces", "mlk8s-labs")) is None)
    connection.remove_namespace()
    bench.make({"metadata": {"name": "mlk8s-labs"}}, "namespaces", "")
    with pytest.raises(ClusterError, match=r"was not made by the course.*kubectl delete namespace"):
        connection.remove_namespace()


def test_a_list_comes_in_pages(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlk8s.cluster.connection.PAGE", 2)
    for i in range(5):
        bench.make({"metadata": {"name": f"c{i}"}}, "configmaps", "default")
    names = [
        each["metadata"]["name"]
        for each in bench.connection.items(path("configmaps", namespace="default"))
    ]
    assert {f"c{i}" for i in range(5)} <= set(names) and len(names) == len(set(names))


def test_the_library_starts_without_the_client() -> None:
    code = "import sys, mlk8s.cluster; assert 'kubernetes' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
