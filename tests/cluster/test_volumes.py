"""Files come out of a volume whole, or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mlk8s.cluster import Connection, attach, run
from mlk8s.cluster.connection import NAMESPACE
from mlk8s.cluster.wire import path
from mlk8s.errors import ClusterError
from mlk8s.sim import Cluster

Object = dict[str, Any]


class Filled(NamedTuple):
    """A cluster with a volume, and the digest of what is in it."""

    connection: Connection
    digest: str


@pytest.fixture(scope="module")
def filled() -> Iterator[Filled]:
    """A cluster with a claim whose volume holds two folders, one of them large."""
    with Cluster("cpu") as embedded:
        found = attach(embedded)
        found.ensure_namespace()
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
        found.apply(claim)
        script = (
            "mkdir -p /volume/model/deep /volume/large; cd /volume/model; "
            "head -c 300000 /dev/urandom > weights; printf 'a\\nb' > 'deep/no newline'; "
            "sha256sum weights; head -c 8000000 /dev/urandom > ../large/weights"
        )
        yield Filled(found, fill(found, script).split()[0])
        found.remove_namespace()


def fill(connection: Connection, script: str) -> str:
    mount = [{"name": "data", "mountPath": "/volume"}]
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "fill"},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "fill",
                    "image": "busybox:1.37",
                    "command": ["sh", "-c", script],
                    "volumeMounts": mount,
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        },
    }
    done = run(pod, connection, show=None)
    assert done.succeeded, done.log
    return done.log


def pods(connection: Connection) -> list[str]:
    where = path("pods", namespace=NAMESPACE)
    return [pod["metadata"]["name"] for pod in connection.items(where)]


def test_a_folder_arrives_as_it_is(filled: Filled, tmp_path: Path) -> None:
    folder = filled.connection.fetch("data", "model", tmp_path / "copy")
    assert hashlib.sha256((folder / "weights").read_bytes()).hexdigest() == filled.digest
    assert (folder / "deep" / "no newline").read_text() == "a\nb"
    assert pods(filled.connection) == []


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("nothing", "The folder nothing of claim data cannot be fetched: .*nothing"),
        ("large", r"The folder large of claim data cannot be fetched: 8\d{6} bytes packed"),
    ],
)
def test_what_cannot_be_fetched(filled: Filled, tmp_path: Path, folder: str, said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        filled.connection.fetch("data", folder, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert pods(filled.connection) == []
