"""``inventory`` on each kind of node; the figures are NVIDIA's, of reference and mig-parted."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from mlk8s.cluster import Inventory, attach, gpu_claim_template, inventory
from mlk8s.cluster.connection import Connection
from mlk8s.provenance import Kind, Provenance
from mlk8s.sim import Cluster

from .conftest import Bench

NODES = "course"
Figures = dict[str, tuple[int, int, int, int]]


def figures(found: Inventory) -> Figures:
    return {
        name: (int(a.capacity), int(a.allocatable), int(a.requested), int(a.free))
        for name, a in found.totals().items()
    }


def test_what_each_way_to_offer_a_gpu_looks_like(bench: Bench) -> None:
    found = inventory(bench.connection)
    by_name = {node.name: node for node in found.nodes}
    assert list(by_name) == ["a30-mig-0", "cpu-0", "h100-0", "l4-shared-0"]
    assert figures(found) == {
        "nvidia.com/gpu": (1, 1, 0, 1),
        "nvidia.com/gpu.shared": (4, 4, 0, 4),
        # all-balanced on an A30: 1g.6gb twice, 2g.12gb once.
        "nvidia.com/mig-1g.6gb": (2, 2, 0, 2),
        "nvidia.com/mig-2g.12gb": (1, 1, 0, 1),
    }
    assert by_name["h100-0"].product == "NVIDIA-H100-80GB-HBM3"
    assert by_name["a30-mig-0"].mig == "all-balanced (mixed)"
    assert by_name["l4-shared-0"].sharing == "time-slicing ×4"
    assert by_name["cpu-0"].devices == {}


def test_who_holds_what_and_what_is_left(bench: Bench) -> None:
    bench.pod("whole")
    bench.pod("share", resource="nvidia.com/gpu.shared")
    bench.pod("slice", resource="nvidia.com/mig-1g.6gb", gpus=2)
    bench.running("whole", "share", "slice")
    found = inventory(bench.connection)
    held = {row["pod"]: row for row in found.holders()}
    assert held["mlk8s-labs/slice"]["count"] == 2
    ids = {name: str(row["devices"]).split(", ") for name, row in held.items()}
    assert [len(each) for each in ids.values()] == [2, 1, 1]
    assert all(each.startswith("MIG-") for each in ids["mlk8s-labs/slice"])
    assert "::" in ids["mlk8s-labs/share"][0]
    given = bench.cluster.devices("h100-0")  # type: ignore[union-attr]
    assert ids["mlk8s-labs/whole"] == [given[0]["id"]]
    assert figures(found)["nvidia.com/gpu.shared"] == (4, 4, 1, 3)
    assert figures(found)["nvidia.com/gpu"] == (1, 1, 1, 0)
    for name in ("whole", "share", "slice"):
        bench.delete(name)


def test_it_shows_itself(bench: Bench) -> None:
    found = inventory(bench.connection)
    assert repr(found).count("[simulated]") == 1 and repr(found).endswith("[simulated]")
    assert found._repr_html_().count("mlk8s-badge") == 1
    json.dumps(found.as_json())
    assert found.as_json()["totals"]["nvidia.com/gpu.shared"]["free"] == 4
    assert found.provenance.kind is Kind.SIMULATED


def test_unhealthy_devices_a_cordon_and_a_claimed_device() -> None:
    with Cluster("h100x8,h100-dra,h100-mps", seed=0) as cluster, attach(cluster) as connection:
        bench = Bench(connection)
        cluster.fault_on("device-unhealthy", "h100x8-0")
        template = gpu_claim_template("one")
        bench.make(template, "resource.k8s.io/v1/resourceclaimtemplates")
        bench.until(lambda: list(connection.claims("resourceslices")))
        bench.pod("claimer", claim_template=template)
        bench.running("claimer")
        node = connection.request("GET", "/api/v1/nodes/h100-mps-0")
        node["spec"]["unschedulable"] = True
        connection.request("PUT", "/api/v1/nodes/h100-mps-0", node)
        found = inventory(connection)
    nodes = {node.name: node for node in found.nodes}
    assert int(nodes["h100x8-0"].amounts["nvidia.com/gpu"].unhealthy) == 1
    assert found.unhealthy()[0].startswith("1 of 8 nvidia.com/gpu on h100x8-0 is unhealthy")
    assert found.unhealthy()[0] in repr(found)
    assert figures(found)["gpu.nvidia.com (DRA)"] == (1, 1, 1, 0)
    (holder,) = nodes["h100-dra-0"].holders
    assert (holder.pod, holder.devices) == ("claimer", ("gpu-0",))
    assert nodes["h100-mps-0"].sharing == "mps ×4"
    assert nodes["h100-mps-0"].problems == ("cordoned",)


def test_no_nodes() -> None:
    with Cluster("none") as cluster, attach(cluster) as connection:
        assert "The cluster has no nodes." in repr(inventory(connection))


class Listed(Connection):
    """A live connection whose lists are made up, page by page."""

    nodes, pods = 100, 1_000

    def __init__(self) -> None:
        self.embedded = None
        self.kind = Kind.LIVE
        self.version = "v1.36.2"
        self.asked: list[str] = []

    def items(self, path: str, **query: Any) -> Any:
        self.asked.append(path)
        amounts = {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "8"}
        if path.endswith("/nodes"):
            for i in range(self.nodes):
                yield {
                    "metadata": {"name": f"n{i}"},
                    "status": {"capacity": amounts, "allocatable": amounts},
                }
        elif path.endswith("/pods"):
            resources = {"limits": {"cpu": "100m"}}
            for i in range(self.pods):
                spec = {"nodeName": f"n{i % self.nodes}", "containers": [{"resources": resources}]}
                metadata = {"name": f"p{i}", "namespace": "x", "uid": str(i)}
                yield {"metadata": metadata, "spec": spec, "status": {"phase": "Running"}}


def peak(make: Callable[[], Any]) -> int:
    tracemalloc.start()
    make()
    _, found = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return found


def test_one_pass_and_no_memory_for_pods_without_devices() -> None:
    connection = Listed()
    found = inventory(connection)
    assert connection.asked.count("/api/v1/pods") == connection.asked.count("/api/v1/nodes") == 1
    assert float(found.nodes[0].amounts["cpu"].requested) == pytest.approx(1.0)
    assert found.provenance == Provenance(
        Kind.LIVE, found.provenance.method, software={"Kubernetes": "v1.36.2"}
    )
    few, many = Listed(), Listed()
    many.pods = 10 * few.pods
    assert peak(lambda: inventory(many)) < 1.5 * peak(lambda: inventory(few))
