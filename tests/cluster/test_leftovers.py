"""What is left of the course in a cluster, and what removes it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlk8s.cluster import Connection, attach, gpu_pod
from mlk8s.cluster.leftovers import DONGLE, Left, leftovers
from mlk8s.cluster.wire import path
from mlk8s.sim import Cluster

MANIFESTS = Path(__file__).parents[2] / "labs" / "manifests"
WITHIN_S = 60


@pytest.fixture(scope="module")
def k() -> Iterator[Connection]:
    with Cluster("course", seed=0) as cluster, attach(cluster) as connection:
        yield connection


def by_name(k: Connection) -> dict[str, Left]:
    return {each.what: each for each in leftovers(k).left}


def remove(k: Connection, left: Left) -> None:
    """What its kubectl command does, through the API."""
    words = shlex.split(left.remove)
    assert words[:2] == ["kubectl", "delete"], left.remove
    space = words[words.index("-n") + 1] if "-n" in words else None
    k.delete(words[2], words[3], namespace=space)


def test_nothing_is_left_in_a_new_cluster(k: Connection) -> None:
    found = leftovers(k)
    assert found.left == () and found.unasked == ()
    assert "Nothing of the course is left" in str(found)


def test_a_namespace_is_left_with_what_is_in_it(k: Connection) -> None:
    k.apply(gpu_pod("one", "busybox:1.37", ["sleep", "3600"]))
    k.apply(MANIFESTS / "05-quota.yaml")
    found = by_name(k)
    assert list(found) == ["namespace/mlk8s-labs"]
    assert "1 pod" in found["namespace/mlk8s-labs"].holds
    assert "1 resourcequota" in found["namespace/mlk8s-labs"].holds
    remove(k, found["namespace/mlk8s-labs"])
    k.wait("namespace", k.namespace, "Gone")
    assert by_name(k) == {}


def test_what_has_no_namespace_is_left(k: Connection) -> None:
    k.apply(MANIFESTS / "05-priority.yaml")
    found = by_name(k)
    assert set(found) == {"priorityclass/mlk8s-batch", "priorityclass/mlk8s-serving"}
    for left in found.values():
        remove(k, left)
    assert by_name(k) == {}


def test_objects_in_a_namespace_of_others_are_left(k: Connection) -> None:
    k.apply(gpu_pod("stray", "busybox:1.37", ["sleep", "3600"]), namespace="default")
    left = by_name(k)["pod/stray"]
    assert left.where == "default" and left.remove.endswith("-n default")
    remove(k, left)
    deadline = time.monotonic() + WITHIN_S
    while by_name(k):
        assert time.monotonic() < deadline, by_name(k)
        time.sleep(0.2)


def test_others_objects_are_not_ours(k: Connection) -> None:
    body = {"metadata": {"name": "theirs", "labels": {"app.kubernetes.io/managed-by": "Helm"}}}
    k.request("POST", path("configmaps", namespace="default"), body)
    assert by_name(k) == {}


def test_the_invented_device_is_left(k: Connection) -> None:
    amounts = {DONGLE: "2"}
    status = {"status": {"capacity": amounts, "allocatable": amounts}}
    k.patch("node", "cpu-0", status, subresource="status")
    left = by_name(k)[f"resource {DONGLE}"]
    assert left.where == "node cpu-0"
    assert left.remove.startswith("kubectl patch node cpu-0 --subresource=status")
    gone = dict.fromkeys(amounts)
    status_gone = {"status": {"capacity": gone, "allocatable": gone}}
    k.patch("node", "cpu-0", status_gone, subresource="status")
    assert by_name(k) == {}


def test_a_fault_is_left(k: Connection) -> None:
    assert k.embedded is not None
    k.embedded.fault_on("all-gpus-visible")
    assert by_name(k)["fault all-gpus-visible"].remove == "mlk8s cluster fault off all-gpus-visible"
    k.embedded.fault_off("all-gpus-visible")
    assert by_name(k) == {}
