"""Labels and ResourceSlices, against what NVIDIA's documentation and sources show."""

from typing import Any

from mlk8s.sim.nodes import mig
from mlk8s.sim.nodes.config import MPS, TIME_SLICING, PluginConfig, Sharing
from mlk8s.sim.nodes.devices import GPU, Devices
from mlk8s.sim.nodes.labels import discovered
from mlk8s.sim.nodes.models import models
from mlk8s.sim.nodes.slices import named, resource_slices


def node(
    model: str = "h100",
    gpus: int = 1,
    strategy: str = "single",
    layout: str = "all-disabled",
    sharing: Sharing | None = None,
) -> Devices:
    chosen = models()[model]
    config = PluginConfig(strategy, sharing)
    return Devices("n", chosen, gpus, config, mig.layout(layout, chosen, gpus))


def labels(**how: Any) -> dict[str, str]:
    found = discovered(node(**how), "Machine-1", 1_790_000_000.5)
    return {key.removeprefix("nvidia.com/"): value for key, value in found.items()}


def test_a_whole_h100():
    found = labels(gpus=8)
    expected = {
        "gpu.product": "NVIDIA-H100-80GB-HBM3",
        "gpu.memory": "81559",
        "gpu.count": "8",
        "gpu.replicas": "1",
        "gpu.sharing-strategy": "none",
        "gpu.family": "hopper",
        "gpu.compute.major": "9",
        "gpu.compute.minor": "0",
        "gpu.mode": "compute",
        "mig.capable": "true",
        "mig.strategy": "single",
        "mps.capable": "false",
        "cuda.driver-version.full": "580.95.05",
        "cuda.driver-version.revision": "05",
        "cuda.runtime-version.full": "13.0",
        "gfd.timestamp": "1790000000",
    }
    assert expected.items() <= found.items()


def test_families():
    families = {key: model.family for key, model in models().items()}
    assert families == {
        "h100": "hopper",
        "h100-pcie": "hopper",
        "h100-nvl": "hopper",
        "h200": "hopper",
        "a100-40": "ampere",
        "a100-80": "ampere",
        "a30": "ampere",
        "l4": "ada-lovelace",
        "t4": "turing",
    }


def test_mixed_mig():
    found = labels(strategy="mixed", layout="all-balanced")
    # The table of the GPU Operator's MIG page for an H100.
    expected = {
        "mig-3g.40gb.product": "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb",
        "mig-3g.40gb.count": "1",
        "mig-3g.40gb.memory": "40320",
        "mig-3g.40gb.multiprocessors": "60",
        "mig-3g.40gb.engines.copy": "3",
        "mig-3g.40gb.engines.jpeg": "3",
        "mig-3g.40gb.engines.encoder": "0",
        "mig-3g.40gb.slices.gi": "3",
        "mig-1g.10gb.count": "2",
        "mig-1g.10gb.memory": "9984",
        "mig-1g.10gb.multiprocessors": "16",
        "gpu.product": "NVIDIA-H100-80GB-HBM3",
        "gpu.replicas": "0",
        "gpu.count": "1",
        "mig.strategy": "mixed",
    }
    assert expected.items() <= found.items()


def test_single_mig():
    found = labels(layout="all-1g.10gb")
    expected = {
        "gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb",
        "gpu.count": "7",
        "gpu.memory": "9984",
        "gpu.multiprocessors": "16",
        "gpu.family": "hopper",
        "mig.strategy": "single",
    }
    assert expected.items() <= found.items()


def test_invalid_single_mig():
    found = labels(layout="all-balanced")
    assert found["gpu.product"] == "NVIDIA-H100-80GB-HBM3-MIG-INVALID"
    assert (found["gpu.count"], found["gpu.replicas"], found["gpu.memory"]) == ("0", "0", "0")


def test_sharing():
    plain = labels(model="a30", sharing=Sharing(TIME_SLICING, ((GPU, 4),)))
    assert plain["gpu.product"] == "NVIDIA-A30-SHARED"
    assert (plain["gpu.replicas"], plain["gpu.count"]) == ("4", "1")
    assert plain["gpu.sharing-strategy"] == "time-slicing"
    renamed = labels(model="a30", sharing=Sharing(TIME_SLICING, ((GPU, 4),), rename=True))
    assert renamed["gpu.product"] == "NVIDIA-A30"
    mps = labels(sharing=Sharing(MPS, ((GPU, 4),)))
    assert (mps["mps.capable"], mps["gpu.sharing-strategy"]) == ("true", "mps")


def test_slice_of_whole_gpus():
    [found] = resource_slices(node(gpus=2), "n", generation=3)
    spec = found["spec"]
    assert spec["pool"] == {"name": "n", "generation": 3, "resourceSliceCount": 1}
    assert (spec["driver"], spec["nodeName"]) == ("gpu.nvidia.com", "n")
    assert [each["name"] for each in spec["devices"]] == ["gpu-0", "gpu-1"]
    device = spec["devices"][0]
    assert device["attributes"]["type"] == {"string": "gpu"}
    assert device["attributes"]["architecture"] == {"string": "Hopper"}
    assert device["attributes"]["cudaComputeCapability"] == {"version": "9.0.0"}
    # A semantic version has no leading zero.
    assert device["attributes"]["driverVersion"] == {"version": "580.95.5"}
    assert device["capacity"] == {"memory": {"value": "81559Mi"}}


def test_slice_of_mig_devices():
    [found] = resource_slices(node(layout="all-balanced"), "n")
    devices = {each["name"]: each for each in found["spec"]["devices"]}
    # gpu-<minor>-mig-<profile>-<profile id>-<start>; ids of nvidia-smi mig -lgip.
    assert sorted(devices) == [
        "gpu-0-mig-1g10gb-19-0",
        "gpu-0-mig-1g10gb-19-1",
        "gpu-0-mig-2g20gb-14-2",
        "gpu-0-mig-3g40gb-9-4",
    ]
    large = devices["gpu-0-mig-3g40gb-9-4"]
    assert large["attributes"]["profile"] == {"string": "3g.40gb"}
    assert large["attributes"]["parentUUID"]["string"].startswith("GPU-")
    assert [key for key in large["capacity"] if key.startswith("memorySlice")] == [
        f"memorySlice{slot}" for slot in (4, 5, 6, 7)
    ]


def test_dynamic_slices_share_counters():
    counters, devices = resource_slices(node(), "n", dynamic=True)
    [counter_set] = counters["spec"]["sharedCounters"]
    assert counter_set["name"] == "gpu-0-counter-set"
    assert counters["spec"]["pool"]["resourceSliceCount"] == 2
    total = counter_set["counters"]
    assert total["multiprocessors"] == {"value": "132"}
    assert sum(key.startswith("memory-slice-") for key in total) == 8
    rows = {each["name"]: each for each in devices["spec"]["devices"]}
    # The whole GPU, and each profile at each of its starts: 7 + 7 + 4 + 3 + 2 + 1 + 1.
    assert len(rows) == 26
    assert rows["gpu-0"]["consumesCounters"][0]["counters"] == total
    used = rows["gpu-0-mig-3g40gb-9-4"]["consumesCounters"][0]["counters"]
    assert used.keys() <= total.keys()
    assert used["memory-slice-4"] == {"value": "1"}
    assert "memory-slice-3" not in used


def test_sick_devices_are_not_published():
    devices = node(gpus=2)
    devices.fail(devices.gpus[0].uuid)
    [found] = resource_slices(devices, "n")
    assert [each["name"] for each in found["spec"]["devices"]] == ["gpu-1"]
    assert set(named(devices.gpus)) == {"gpu-0", "gpu-1"}
