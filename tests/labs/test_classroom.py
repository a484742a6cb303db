"""The places of a class, made by the playbook in the embedded cluster.

The play runs on this machine and talks to the cluster by the real kubectl. What it does not prove:
rights, since the embedded cluster stores RBAC objects and has one administrator; the play says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlk8s.cluster import Connection, attach, gpu_pod
from mlk8s.cluster.leftovers import leftovers
from mlk8s.cluster.wire import path
from mlk8s.errors import ClusterError
from mlk8s.sim import Cluster

PLAYBOOK = Path(__file__).parents[2] / "labs" / "ansible"
Play = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def k() -> Iterator[Connection]:
    with Cluster("l4", seed=0) as cluster, attach(cluster) as connection:
        yield connection


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("controller")


@pytest.fixture(scope="module")
def play(k: Connection, folder: Path) -> Play:
    inventory = folder / "inventory.yml"
    inventory.write_text("gpu_nodes: {hosts: {node: {ansible_connection: local}}}\n")
    assert k.embedded is not None
    settings = {
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "controller_output": str(folder),
        "class_kubectl": f"kubectl --kubeconfig={k.embedded.kubeconfig}",
        "class_server": k.server,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment = {**kept, "ANSIBLE_CONFIG": str(PLAYBOOK / "ansible.cfg"), "HOME": str(folder)}

    def run(**chosen: Any) -> subprocess.CompletedProcess[str]:
        values = json.dumps({**settings, **chosen})
        return subprocess.run(
            [
                Path(sys.executable).with_name("ansible-playbook"),
                *("-i", inventory, "classroom.yml", "-e", values),
            ],
            cwd=PLAYBOOK,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def spaces(k: Connection) -> list[str]:
    found = k.items(path("namespaces"), labelSelector="mlk8s.dev/class=person")
    return sorted(each["metadata"]["name"] for each in found)


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


def test_a_class_of_nobody_is_refused(play: Play) -> None:
    done = play()
    assert done.returncode != 0
    assert "Next: say how many there are" in said(done)


def test_a_cluster_without_rights_is_refused(play: Play, k: Connection) -> None:
    done = play(class_people=2)
    assert done.returncode != 0
    assert "does not enforce RBAC. Nothing was made. Next: sudo microk8s enable rbac" in said(done)
    assert spaces(k) == []


def test_a_class_has_places_until_it_is_over(play: Play, k: Connection, folder: Path) -> None:
    chosen = {"class_people": 2, "class_without_rbac": True}
    done = play(**chosen)
    assert done.returncode == 0, done.stdout
    assert "2 people, 1 x nvidia.com/gpu: at most 1 of them compute at once" in said(done)
    assert spaces(k) == ["person-01", "person-02"]

    files = sorted((folder / "class").glob("*.kubeconfig"))
    assert [file.stem for file in files] == ["person-01", "person-02"]
    assert all(file.stat().st_mode & 0o77 == 0 for file in files)
    asked = ["kubectl", f"--kubeconfig={files[1]}", "auth", "whoami", "-o", "json"]
    who = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
    account = who["status"]["userInfo"]["username"]
    assert account == "system:serviceaccount:person-02:person"

    k.apply(gpu_pod("first", "busybox:1.37", ["sleep", "3600"]), namespace="person-01")
    with pytest.raises(ClusterError, match="exceeded quota: place"):
        k.apply(gpu_pod("second", "busybox:1.37", ["sleep", "3600"]), namespace="person-01")

    again = play(**chosen)
    assert "changed=0" in said(again), again.stdout

    over = play(class_remove=True)
    assert over.returncode == 0, over.stdout
    assert spaces(k) == [] and not (folder / "class").exists()
    assert leftovers(k).left == ()
