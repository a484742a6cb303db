"""Nodes in a running cluster: objects, MIG changes, sharing configuration, health, allocation."""

import pytest

from .cluster import OPERATOR, Cluster, Object, play

STATE = "nvidia.com/mig.config.state"
PLUGIN = "nvidia-device-plugin-daemonset"


def test_nodes_are_complete(tmp_path):
    async def story(cluster: Cluster) -> None:
        node = cluster.node("h100-0")
        status = node["status"]
        assert node["metadata"]["annotations"]["mlk8s.dev/simulated"] == "true"
        assert node["metadata"]["labels"]["mlk8s.dev/simulated"] == "true"
        assert [each["type"] for each in status["conditions"]] == [
            "MemoryPressure",
            "DiskPressure",
            "PIDPressure",
            "Ready",
        ]
        assert status["nodeInfo"]["kubeletVersion"] == "v1.36.2"
        assert status["nodeInfo"]["containerRuntimeVersion"] == "containerd://2.2.3"
        assert status["capacity"]["cpu"] == "20"
        assert status["allocatable"]["cpu"] == "19800m"
        assert int(status["allocatable"]["memory"][:-2]) < int(status["capacity"]["memory"][:-2])
        assert cluster.gpus("h100-0", "capacity") == {"nvidia.com/gpu": "1"}
        assert cluster.labels("h100-0")["nvidia.com/gpu.deploy.driver"] == "pre-installed"
        assert "nvidia.com/gpu.present" not in cluster.labels("cpu-0")
        assert cluster.gpus("cpu-0") == {}
        lease = cluster.api.get("leases.coordination.k8s.io", "kube-node-lease", "h100-0")
        assert lease["spec"]["holderIdentity"] == "h100-0"
        policy = cluster.api.get("clusterpolicies.nvidia.com", "", "cluster-policy")
        assert policy["status"]["state"] == "ready"
        assert cluster.api.get("runtimeclasses.node.k8s.io", "", "nvidia")["handler"] == "nvidia"
        for app in (PLUGIN, "gpu-feature-discovery", "nvidia-mig-manager"):
            [pod] = cluster.operands(app, "h100-0")
            assert pod["status"]["phase"] == "Running"
        assert cluster.operands("nvidia-mig-manager", "l4-shared-0") == []

    play("course", story, tmp_path)


def test_leases_are_renewed(tmp_path):
    async def story(cluster: Cluster) -> None:
        def renewed() -> str:
            key = "leases.coordination.k8s.io"
            lease = cluster.api.get(key, "kube-node-lease", "cpu-0")
            return str(lease["spec"]["renewTime"])

        first = renewed()
        await cluster.wait(400)
        assert renewed() > first

    play("cpu", story, tmp_path)


def test_no_nodes_leave_nothing(tmp_path):
    async def story(cluster: Cluster) -> None:
        assert cluster.api.store.count("nodes") == 0
        assert cluster.api.store.count("daemonsets.apps") == 0
        assert cluster.api.store.count("storageclasses.storage.k8s.io") == 0
        assert not cluster.fleet.serves("n")

    play("none", story, tmp_path)


def test_a_pod_holds_a_device(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.pod("a")
        await cluster.wait(20)
        [row] = cluster.fleet.devices("h100-0")
        assert row["holder"] == "default/a"
        assert row["memoryMiB"] == 81559
        pod = cluster.api.get("pods", "default", "a")
        text = cluster.smi("h100-0", "-L", pod=pod)
        assert text.splitlines()[0].startswith("# simulated")
        assert f"GPU 0: NVIDIA H100 80GB HBM3 (UUID: {row['id']})" in text
        cluster.api.delete("pods", "default", "a")
        await cluster.wait(60)
        assert cluster.fleet.devices("h100-0")[0]["holder"] is None

    play("h100", story, tmp_path)


def test_a_mig_change_takes_its_steps(tmp_path):
    async def story(cluster: Cluster) -> None:
        before = cluster.gpus("h100-mig-0")
        assert before["nvidia.com/mig-1g.10gb"] == "2"
        [plugin] = cluster.operands(PLUGIN, "h100-mig-0")
        cluster.label("h100-mig-0", mig_config="all-3g.40gb")
        await cluster.wait(2.5)
        labels = cluster.labels("h100-mig-0")
        assert labels[STATE] == "pending"
        assert labels["nvidia.com/gpu.deploy.device-plugin"] == "paused-for-mig-change"
        assert labels["nvidia.com/gpu.deploy.mig-manager"] == "true"
        seen = set()
        for _ in range(120):
            await cluster.wait(1)
            seen.add(cluster.gpus("h100-mig-0")["nvidia.com/mig-1g.10gb"])
            if cluster.gpus("h100-mig-0").get("nvidia.com/mig-3g.40gb") == "2":
                break
        # A window without devices, then the new ones; the old resources stay as 0.
        assert "0" in seen
        assert cluster.gpus("h100-mig-0") == {
            "nvidia.com/gpu": "0",
            "nvidia.com/mig-1g.10gb": "0",
            "nvidia.com/mig-2g.20gb": "0",
            "nvidia.com/mig-3g.40gb": "2",
        }
        labels = cluster.labels("h100-mig-0")
        assert labels[STATE] == "success"
        assert labels["nvidia.com/gpu.deploy.device-plugin"] == "true"
        assert labels["nvidia.com/mig-3g.40gb.count"] == "2"
        assert "nvidia.com/mig-1g.10gb.count" not in labels
        [after] = cluster.operands(PLUGIN, "h100-mig-0")
        assert after["metadata"]["uid"] != plugin["metadata"]["uid"]

    play("h100-mig", story, tmp_path)


def test_a_mig_change_is_refused_while_a_pod_runs(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.pod("busy", "nvidia.com/mig-2g.20gb")
        await cluster.wait(20)
        cluster.label("h100-mig-0", mig_config="all-1g.10gb")
        await cluster.wait(120)
        assert cluster.labels("h100-mig-0")[STATE] == "failed"
        # Nothing has changed, and the operands are back.
        assert cluster.gpus("h100-mig-0")["nvidia.com/mig-3g.40gb"] == "1"
        assert cluster.labels("h100-mig-0")["nvidia.com/gpu.deploy.device-plugin"] == "true"
        [manager] = cluster.operands("nvidia-mig-manager", "h100-mig-0")
        log = cluster.fleet.log(manager, "nvidia-mig-manager")
        assert log is not None
        assert any("In use by another client" in line for line in log)
        cluster.api.delete("pods", "default", "busy")
        await cluster.wait(60)
        cluster.label("h100-mig-0", mig_config="all-disabled")
        await cluster.wait(120)
        assert cluster.labels("h100-mig-0")[STATE] == "success"
        assert cluster.gpus("h100-mig-0")["nvidia.com/gpu"] == "1"

    play("h100-mig", story, tmp_path)


def test_a_layout_that_the_model_lacks(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.label("h100-0", mig_config="all-1g.5gb")
        await cluster.wait(10)
        assert cluster.labels("h100-0")[STATE] == "failed"
        assert cluster.gpus("h100-0") == {"nvidia.com/gpu": "1"}

    play("h100", story, tmp_path)


def test_a_label_chooses_the_sharing_and_an_edit_waits_for_a_restart(tmp_path):
    async def story(cluster: Cluster) -> None:
        def edit(config_map: Object) -> None:
            config_map["data"]["six"] = (
                "version: v1\nsharing:\n  timeSlicing:\n    resources:\n"
                "    - {name: nvidia.com/gpu, replicas: 6}\n"
            )

        cluster.api.change("configmaps", OPERATOR, "device-plugin-config", edit)
        await cluster.wait(60)
        assert cluster.gpus("l4-0") == {"nvidia.com/gpu": "1"}
        cluster.label("l4-0", **{"device-plugin_config": "six"})
        await cluster.wait(10)
        assert cluster.gpus("l4-0") == {"nvidia.com/gpu": "6"}
        assert cluster.labels("l4-0")["nvidia.com/gpu.product"] == "NVIDIA-L4-SHARED"

        def more(config_map: Object) -> None:
            config_map["data"]["six"] = config_map["data"]["six"].replace("6", "8")

        cluster.api.change("configmaps", OPERATOR, "device-plugin-config", more)
        await cluster.wait(300)
        assert cluster.gpus("l4-0") == {"nvidia.com/gpu": "6"}
        cluster.fleet.restart("l4-0", PLUGIN)
        await cluster.wait(90)
        assert cluster.gpus("l4-0") == {"nvidia.com/gpu": "8"}

    play("l4", story, tmp_path)


def test_the_cluster_policy_rolls_the_plugin(tmp_path):
    async def story(cluster: Cluster) -> None:
        def strategy(policy: Object) -> None:
            policy["spec"]["mig"]["strategy"] = "single"

        cluster.api.change("clusterpolicies.nvidia.com", "", "cluster-policy", strategy)
        await cluster.wait(120)
        # One profile of another size each: single cannot advertise them.
        assert cluster.gpus("h100-mig-0")["nvidia.com/mig-1g.10gb"] == "0"
        product = cluster.labels("h100-mig-0")["nvidia.com/gpu.product"]
        assert product == "NVIDIA-H100-80GB-HBM3-MIG-INVALID"

    play("h100-mig", story, tmp_path)


def test_a_sick_device(tmp_path):
    async def story(cluster: Cluster) -> None:
        victim = cluster.fleet.devices("t4x4-0")[1]["id"]
        cluster.fleet.fail("t4x4-0", victim)
        assert cluster.gpus("t4x4-0", "capacity") == {"nvidia.com/gpu": "4"}
        assert cluster.gpus("t4x4-0") == {"nvidia.com/gpu": "3"}
        await cluster.wait(600)
        assert cluster.gpus("t4x4-0") == {"nvidia.com/gpu": "3"}
        cluster.fleet.restart("t4x4-0", PLUGIN)
        await cluster.wait(90)
        assert cluster.gpus("t4x4-0") == {"nvidia.com/gpu": "4"}

    play("t4x4", story, tmp_path)


@pytest.mark.parametrize("nodes", ["h100-dra", "h100-dra-mig"])
def test_dra(tmp_path, nodes):
    async def story(cluster: Cluster) -> None:
        name = f"{nodes}-0"
        assert cluster.gpus(name) == {}
        [found] = cluster.api.store.items("resourceslices.resource.k8s.io")
        assert found["spec"]["nodeName"] == name
        assert len(found["spec"]["devices"]) == (1 if nodes == "h100-dra" else 4)
        device_class = cluster.api.get("deviceclasses.resource.k8s.io", "", "gpu.nvidia.com")
        assert device_class["spec"]["extendedResourceName"] == "nvidia.com/gpu"
        if nodes == "h100-dra":
            cluster.pod("a")
            await cluster.wait(20)
            assert cluster.status("a")["phase"] == "Running"
            assert cluster.fleet.devices(name)[0]["holder"] == "default/a"
            pod = cluster.api.get("pods", "default", "a")
            assert "GPU 0: NVIDIA H100" in cluster.smi(name, "-L", pod=pod)

    play(nodes, story, tmp_path)


def test_mig_devices_are_made_while_pods_use_them(tmp_path):
    file = tmp_path / "nodes.yaml"
    file.write_text("nodes: [{name: gpu, gpu: h100, dra: dynamic}]")

    def claim(name: str, profile: str) -> Object:
        expression = f"device.attributes['gpu.nvidia.com'].profile == '{profile}'"
        exactly = {
            "deviceClassName": "mig.nvidia.com",
            "selectors": [{"cel": {"expression": expression}}],
        }
        return {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": name},
            "spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}},
        }

    async def story(cluster: Cluster) -> None:
        [row] = cluster.fleet.devices("gpu-0")
        assert (row["profile"], row["holder"]) == ("", None)
        # All eight memory slices of an H100 are in two instances of 3g.40gb.
        for name, profile in (("a", "3g.40gb"), ("b", "3g.40gb"), ("c", "1g.10gb")):
            cluster.api.create("resourceclaims.resource.k8s.io", claim(name, profile), "default")
            claims = [{"name": "gpu", "resourceClaimName": name}]
            cluster.pod(name, count=0, resourceClaims=claims)
            await cluster.wait(20)
        assert cluster.status("c")["phase"] == "Pending"
        rows = cluster.fleet.devices("gpu-0")
        assert [(each["profile"], each["memoryMiB"]) for each in rows] == [("3g.40gb", 40320)] * 2
        assert {each["holder"] for each in rows} == {"default/a", "default/b"}
        pod = cluster.api.get("pods", "default", "a")
        [mine] = [each["id"] for each in rows if each["holder"] == "default/a"]
        listing = cluster.smi("gpu-0", "-L", pod=pod)
        assert listing.count("MIG 3g.40gb") == 1 and mine in listing
        cluster.api.delete("pods", "default", "a")
        cluster.api.delete("resourceclaims.resource.k8s.io", "default", "a")
        await cluster.wait(60)
        assert cluster.status("c")["phase"] == "Running"
        found = [(each["profile"], each["holder"]) for each in cluster.fleet.devices("gpu-0")]
        assert sorted(found) == [("1g.10gb", "default/c"), ("3g.40gb", "default/b")]

    play(str(file), story, tmp_path / "run")


def test_reset_gives_back_the_first_state(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.label("h100-mig-0", mig_config="all-disabled")
        await cluster.wait(120)
        assert cluster.gpus("h100-mig-0")["nvidia.com/gpu"] == "1"
        cluster.fleet.reset()
        await cluster.wait(60)
        assert cluster.gpus("h100-mig-0")["nvidia.com/mig-3g.40gb"] == "1"
        assert cluster.labels("h100-mig-0")["nvidia.com/mig.config"] == "all-balanced"

    play("h100-mig", story, tmp_path)
