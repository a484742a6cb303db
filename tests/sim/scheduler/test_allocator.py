"""Structured allocation with slices as NVIDIA's driver writes them."""

import itertools
from typing import Any

import pytest

from mlk8s.sim.scheduler.allocated import Allocated
from mlk8s.sim.scheduler.allocator import AllocationError, Allocator, InvalidPool
from mlk8s.sim.scheduler.devices import Inventory

DRIVER = "gpu.nvidia.com"
GPU_CLASS: dict[str, Any] = {
    "metadata": {"name": DRIVER},
    "spec": {
        "selectors": [
            {
                "cel": {
                    "expression": "device.driver == 'gpu.nvidia.com' && "
                    "device.attributes['gpu.nvidia.com'].type == 'gpu'"
                }
            }
        ],
        "config": [{"opaque": {"driver": DRIVER, "parameters": {"kind": "GpuConfig"}}}],
    },
}
MIG_CLASS: dict[str, Any] = {
    "metadata": {"name": "mig.nvidia.com"},
    "spec": {
        "selectors": [{"cel": {"expression": "device.attributes['gpu.nvidia.com'].type == 'mig'"}}]
    },
}
CLASSES = {DRIVER: GPU_CLASS, "mig.nvidia.com": MIG_CLASS}
SELECTOR = {
    "nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n0"]}]}
    ]
}


def gpu(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "name": f"gpu-{number}",
        "attributes": {"type": {"string": "gpu"}, "numa": {"int": number // 2}},
        "capacity": {"memory": {"value": "80Gi"}},
        **fields,
    }


def mig(parent: int, profile: str, start: int) -> dict[str, Any]:
    return {
        "name": f"gpu-{parent}-mig-{profile.replace('.', '')}-{start}",
        "attributes": {
            "type": {"string": "mig"},
            "profile": {"string": profile},
            "parentUUID": {"string": f"GPU-{parent}"},
        },
    }


def node_slice(
    devices: Any,
    name: str = "s0",
    node: str = "n0",
    generation: int = 1,
    count: int = 1,
    **spec: Any,
) -> dict[str, Any]:
    pool = {"name": node, "generation": generation, "resourceSliceCount": count}
    spec = {"driver": DRIVER, "nodeName": node, "pool": pool, "devices": devices, **spec}
    return {"metadata": {"name": name}, "spec": {k: v for k, v in spec.items() if v is not None}}


def exactly(name: str = "gpu", cls: str = DRIVER, **spec: Any) -> dict[str, Any]:
    spec = {"deviceClassName": cls, "allocationMode": "ExactCount", "count": 1, **spec}
    if spec["allocationMode"] == "All":
        del spec["count"]
    return {"name": name, "exactly": spec}


def claim(*requests: Any, name: str = "c", **devices: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "golden", "name": name, "uid": name},
        "spec": {"devices": {"requests": list(requests), **devices}},
    }


def cel(expression: str) -> list[Any]:
    return [{"cel": {"expression": expression}}]


def allocate(
    slices: list[Any], *claims: Any, allocated: Any = None, node: str = "n0", labels: Any = None
) -> Any:
    inventory = Inventory()
    for each in slices:
        inventory.put(each)
    ids = map(str, itertools.count())
    allocator = Allocator(inventory, allocated or Allocated(), CLASSES.get, lambda: next(ids))
    return allocator.allocate({"metadata": {"name": node, "labels": labels or {}}}, list(claims))


def names(found: Any) -> list[list[str]]:
    return [[r["device"] for r in each["devices"]["results"]] for each in found]


def taken(*devices: str) -> Allocated:
    allocated = Allocated()
    results = [{"driver": DRIVER, "pool": "n0", "device": device} for device in devices]
    allocated.store("other", {"devices": {"results": results}})
    return allocated


def test_result_carries_device_selector_and_class_config():
    (found,) = allocate([node_slice([gpu(0), gpu(1)])], claim(exactly()))
    assert found == {
        "devices": {
            "results": [{"request": "gpu", "driver": DRIVER, "pool": "n0", "device": "gpu-0"}],
            "config": [
                {"source": "FromClass", "requests": ["gpu"], **GPU_CLASS["spec"]["config"][0]}
            ],
        },
        "nodeSelector": SELECTOR,
    }


def test_busy_devices_and_other_nodes():
    slices = [node_slice([gpu(0), gpu(1)])]
    assert names(allocate(slices, claim(exactly()), allocated=taken("gpu-0"))) == [["gpu-1"]]
    assert allocate(slices, claim(exactly()), allocated=taken("gpu-0", "gpu-1")) is None
    assert allocate(slices, claim(exactly(count=3))) is None
    assert allocate(slices, claim(exactly()), node="n1") is None


def test_two_claims_get_different_devices():
    found = allocate(
        [node_slice([gpu(0), gpu(1)])], claim(exactly(), name="a"), claim(exactly(), name="b")
    )
    assert names(found) == [["gpu-0"], ["gpu-1"]]


def test_admin_access_takes_what_others_have():
    admin = claim(exactly(adminAccess=True))
    (found,) = allocate([node_slice([gpu(0)])], admin, allocated=taken("gpu-0"))
    assert found["devices"]["results"][0]["adminAccess"] is True


def test_all_devices():
    everything = claim(exactly(allocationMode="All"))
    slices = [node_slice([gpu(0), gpu(1)])]
    assert names(allocate(slices, everything)) == [["gpu-0", "gpu-1"]]
    assert allocate(slices, everything, allocated=taken("gpu-1")) is None


def test_all_devices_of_an_incomplete_pool_is_an_error():
    with pytest.raises(AllocationError) as caught:
        allocate([node_slice([gpu(0)], count=2)], claim(exactly(allocationMode="All")))
    assert str(caught.value) == (
        "claim golden/c, request gpu: asks for all devices, but resource pool "
        "gpu.nvidia.com/n0 is currently being updated"
    )


def test_pools_incomplete_outdated_invalid():
    assert allocate([node_slice([gpu(0)], count=2)], claim(exactly())) is None
    newer = [node_slice([gpu(0)]), node_slice([gpu(7)], name="s1", generation=2)]
    assert names(allocate(newer, claim(exactly()))) == [["gpu-7"]]
    double = [node_slice([gpu(0)], count=2), node_slice([gpu(0)], name="s1", count=2)]
    with pytest.raises(InvalidPool, match="invalid resource pools were encountered"):
        allocate(double, claim(exactly()))


def test_prioritized_list():
    request = {
        "name": "any",
        "firstAvailable": [
            {"name": name, **exactly(count=count)["exactly"]}
            for name, count in (("two", 2), ("one", 1))
        ],
    }
    slices = [node_slice([gpu(0), gpu(1)])]
    (found,) = allocate(slices, claim(request))
    assert [r["request"] for r in found["devices"]["results"]] == ["any/two", "any/two"]
    assert found["devices"]["config"][0]["requests"] == ["any/two"]
    (found,) = allocate(slices, claim(request), allocated=taken("gpu-0"))
    assert [r["request"] for r in found["devices"]["results"]] == ["any/one"]


def test_match_attribute_searches_on():
    # gpu-0 has only one 1g slice left, so both have to come from gpu-1.
    devices = [mig(0, "1g.10gb", 0), mig(1, "1g.10gb", 0), mig(1, "2g.20gb", 2)]
    requests = [
        exactly(
            profile,
            "mig.nvidia.com",
            selectors=cel(f"device.attributes['{DRIVER}'].profile == '{full}'"),
        )
        for profile, full in (("small", "1g.10gb"), ("big", "2g.20gb"))
    ]
    same: Any = {"constraints": [{"matchAttribute": f"{DRIVER}/parentUUID"}]}
    found = allocate([node_slice(devices)], claim(*requests, **same))
    assert names(found) == [["gpu-1-mig-1g10gb-0", "gpu-1-mig-2g20gb-2"]]
    assert allocate([node_slice(devices[:1] + devices[2:])], claim(*requests, **same)) is None


def test_distinct_attribute():
    apart: Any = {"constraints": [{"distinctAttribute": f"{DRIVER}/numa", "requests": ["a", "b"]}]}
    both = claim(exactly("a"), exactly("b"), **apart)
    assert names(allocate([node_slice([gpu(0), gpu(1), gpu(2)])], both)) == [["gpu-0", "gpu-2"]]
    assert allocate([node_slice([gpu(0), gpu(1)])], both) is None


def test_taints_and_tolerations():
    taint = {"key": "gpu.nvidia.com/xid", "value": "79", "effect": "NoSchedule"}
    slices = [node_slice([gpu(0, taints=[taint])])]
    assert allocate(slices, claim(exactly())) is None
    tolerations = [{"key": "gpu.nvidia.com/xid", "operator": "Exists"}]
    (found,) = allocate(slices, claim(exactly(tolerations=tolerations)))
    assert found["devices"]["results"][0]["tolerations"] == tolerations
    ignored = [node_slice([gpu(0, taints=[{**taint, "effect": "None"}])])]
    assert names(allocate(ignored, claim(exactly()))) == [["gpu-0"]]


def test_partitions_share_counters():
    def uses(amount: str) -> list[Any]:
        counters = {"memory": {"value": amount}}
        return [{"counterSet": "gpu-0-counter-set", "counters": counters}]

    counters = [{"name": "gpu-0-counter-set", "counters": {"memory": {"value": "80Gi"}}}]
    devices = [
        gpu(0, consumesCounters=uses("80Gi")),
        {**mig(0, "3g.40gb", 0), "consumesCounters": uses("40Gi")},
        {**mig(0, "3g.40gb", 4), "consumesCounters": uses("40Gi")},
    ]
    slices = [
        node_slice(None, name="s0", count=2, sharedCounters=counters),
        node_slice(devices, name="s1", count=2),
    ]
    part = claim(exactly(cls="mig.nvidia.com"), name="m")
    assert names(allocate(slices, claim(exactly()))) == [["gpu-0"]]
    assert allocate(slices, claim(exactly()), part) is None
    two = allocate(slices, claim(exactly(cls="mig.nvidia.com", count=2)))
    assert names(two) == [["gpu-0-mig-3g40gb-0", "gpu-0-mig-3g40gb-4"]]
    assert allocate(slices, claim(exactly()), allocated=taken("gpu-0-mig-3g40gb-0")) is None
    assert allocate(slices, part, allocated=taken("gpu-0")) is None


def test_consumable_capacity():
    policy = {"default": "10Gi", "validRange": {"min": "10Gi", "step": "10Gi"}}
    shared = gpu(
        0,
        allowMultipleAllocations=True,
        capacity={"memory": {"value": "80Gi", "requestPolicy": policy}},
    )
    want: Any = {"capacity": {"requests": {"memory": "45Gi"}}}
    slices = [node_slice([shared])]
    (found,) = allocate(slices, claim(exactly(**want)))
    (result,) = found["devices"]["results"]
    assert result["consumedCapacity"] == {"memory": "50Gi"}
    assert result["shareID"] == "0"
    allocated = Allocated()
    allocated.store("first", found)
    assert allocate(slices, claim(exactly(**want)), allocated=allocated) is None
    # One request takes a device once; three requests may share it.
    three = claim(*(exactly(name) for name in ("a", "b", "c")))
    assert names(allocate(slices, three, allocated=allocated)) == [["gpu-0"] * 3]
    assert allocate(slices, claim(exactly(count=3)), allocated=allocated) is None
    allocated.store("first", None)
    assert allocate(slices, claim(exactly(**want)), allocated=allocated) is not None


def test_devices_of_the_network():
    selector = {
        "nodeSelectorTerms": [
            {"matchExpressions": [{"key": "rack", "operator": "In", "values": ["r1"]}]}
        ]
    }
    slices = [node_slice([gpu(0)], nodeName=None, nodeSelector=selector)]
    (found,) = allocate(slices, claim(exactly()), node="n7", labels={"rack": "r1"})
    assert found["nodeSelector"] == selector
    assert allocate(slices, claim(exactly()), node="n7", labels={"rack": "r2"}) is None
    (found,) = allocate([node_slice([gpu(0)], nodeName=None, allNodes=True)], claim(exactly()))
    assert "nodeSelector" not in found


def test_failing_selector_is_an_error():
    bad = claim(exactly(selectors=cel("device.attributes['gpu.nvidia.com'].index == 0")))
    with pytest.raises(AllocationError) as caught:
        allocate([node_slice([gpu(0)])], bad)
    assert str(caught.value) == (
        "claim golden/c: selector #0: CEL runtime error: no such key: index"
    )


def test_at_most_32_devices_a_claim():
    many = [gpu(number) for number in range(40)]
    assert len(names(allocate([node_slice(many)], claim(exactly(count=32))))[0]) == 32
    with pytest.raises(AllocationError) as caught:
        allocate([node_slice(many)], claim(exactly(count=33)))
    assert str(caught.value) == (
        "claim golden/c: number of requested devices 33 exceeds the claim limit of 32"
    )
