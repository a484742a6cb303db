"""Starting and ending: whoever dies, and however, no process and no file is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from jupyter_client.manager import KernelManager

from mlk8s.sim import Cluster, ClusterError
from mlk8s.sim import handle as handle_module

from .client import PODS, Client, pod

# Long enough that a test can only pass because it was ended.
FOREVER = "trap '' TERM; while :; do echo line; done"


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own for clusters, and proof that nothing stays in it."""
    directory = tmp_path / "run time"
    directory.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    yield directory / "mlk8s"
    wait_for(lambda: not left(directory))


def left(directory: Path) -> list[str]:
    """Files of clusters, and processes that belong to one of this folder."""
    # os.walk passes over a folder that goes away meanwhile.
    found = [
        os.path.join(where, name)
        for where, folders, files in os.walk(directory)
        for name in (*folders, *files)
        if Path(where, name) != directory / "mlk8s"
    ]
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
            words = [*line, *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(
            word.startswith(str(directory / "mlk8s")) for word in words
        ):
            found.append(" ".join(line))
    return found


def wait_for(true: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.03)


def run_pod(cluster: Cluster) -> None:
    """Start a pod whose process prints without end and does not stop when it is told to."""
    client = Client(cluster)
    spec = pod("endless")
    spec["spec"]["containers"][0]["command"] = ["sh", "-c", FOREVER]
    assert client("POST", PODS, spec).status == 201
    wait_for(lambda: client("GET", f"{PODS}/endless").json["status"]["phase"] == "Running")


def test_a_cluster_that_is_stopped_twice() -> None:
    cluster = Cluster("cpu")
    run_pod(cluster)
    cluster.stop()
    assert not psutil.pid_exists(cluster.pid)
    assert not cluster.directory.exists()
    cluster.stop()
    with pytest.raises(ClusterError, match="does not answer"):
        cluster.status()


def test_a_server_that_is_killed_takes_its_pods_along(runtime: Path) -> None:
    cluster = Cluster("cpu")
    run_pod(cluster)
    os.kill(cluster.pid, signal.SIGKILL)
    wait_for(lambda: not left(runtime.parent))


OWNER = """
import signal, sys, time
# Whoever started the tests in the background has told them to ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from mlk8s.sim import Cluster
cluster = Cluster("none")
print(cluster.pid, flush=True)
time.sleep(60)
"""


def test_an_owner_that_is_killed_takes_its_cluster_along(runtime: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert psutil.pid_exists(pid)
    owner.kill()
    owner.communicate()
    wait_for(lambda: not left(runtime.parent))


def test_a_notebook_kernel_that_is_killed_takes_its_cluster_along(runtime: Path) -> None:
    manager = KernelManager()
    manager.start_kernel()
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=30)
        code = "from mlk8s.sim import Cluster; cluster = Cluster('none')"
        assert client.execute_interactive(code, timeout=30)["content"]["status"] == "ok"
        assert left(runtime.parent)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    wait_for(lambda: not left(runtime.parent))


def test_an_interrupt_during_the_start_leaves_nothing(runtime: Path) -> None:
    starting = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: left(runtime.parent))
    starting.send_signal(signal.SIGINT)
    assert starting.wait(10) != 0
    wait_for(lambda: not left(runtime.parent))


def test_two_clusters_know_nothing_of_each_other() -> None:
    with Cluster("none") as one, Cluster("cpu") as other:
        assert one.url != other.url
        assert one.status()["nodes"] == []
        assert other.status()["nodes"] != []
        assert Client(other, one.token)("GET", PODS).status == 401
        one.stop()
        assert other.status()["nodes"] != []


def test_a_port_that_is_taken(runtime: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ClusterError, match=f"{port}.*address already in use"):
            Cluster("none", port=port)
    wait_for(lambda: not left(runtime.parent))


def test_nodes_that_nobody_knows(runtime: Path) -> None:
    with pytest.raises(ClusterError, match="nothing-like-this"):
        Cluster("nothing-like-this")
    assert not left(runtime.parent)


def test_a_server_that_does_not_become_ready(
    monkeypatch: pytest.MonkeyPatch, runtime: Path
) -> None:
    monkeypatch.setattr(handle_module, "_READY_WITHIN_S", 0.01)
    with pytest.raises(ClusterError, match="is not ready after"):
        Cluster("none")
    wait_for(lambda: not left(runtime.parent))


def test_a_place_where_nothing_can_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mlk8s").write_text("a file in the way")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(ClusterError, match=r"Next: .*XDG_RUNTIME_DIR"):
        Cluster("none")


def test_without_a_runtime_directory_the_temporary_one_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    temporary = tmp_path / "with spaces"
    temporary.mkdir()
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with Cluster("none") as cluster:
        assert temporary in cluster.directory.parents
        assert cluster.directory.parent.stat().st_mode & 0o777 == 0o700
        assert cluster.kubeconfig.stat().st_mode & 0o777 == 0o600
        assert cluster.status()["simulated"] is True
    assert not list(cluster.directory.parent.iterdir())


def test_the_clock_is_driven_from_outside() -> None:
    with Cluster("none", manual_clock=True) as cluster:
        before = cluster.status()["now"]
        cluster.advance(3600)
        after = cluster.status()["now"]
        assert int(after[11:13]) == (int(before[11:13]) + 1) % 24
        for wrong in (-1, "x", True, float("1e300")):
            with pytest.raises(ClusterError, match="seconds must be a number"):
                cluster.advance(wrong)  # type: ignore[arg-type]
        cluster.reset()
        assert cluster.status()["simulated"] is True


def test_the_machines_clock_is_not_driven(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="runs on the machine's time"):
        cluster.advance(1)
