"""Faults that are repaired through the API, as on a real node, while they are on."""

from typing import Any

import pytest

from mlk8s.sim.status import StatusError

from .cluster import OPERATOR, Cluster, log, play

PLUGIN = "nvidia-device-plugin-daemonset"
GPU = "nvidia.com/gpu"


async def is_as_before(cluster: Cluster, node: str, fault: str, before: tuple[Any, Any]) -> None:
    """Switching a fault off that somebody has repaired leaves nothing behind."""
    cluster.faults.off(fault)
    await cluster.wait(120)
    assert state_of(cluster, node) == before


def state_of(cluster: Cluster, node: str) -> tuple[Any, Any]:
    labels = {k: v for k, v in cluster.labels(node).items() if "timestamp" not in k}
    return labels, {k: v for k, v in cluster.gpus(node).items() if v != "0"}


def test_the_label_of_the_plugin_is_put_right(tmp_path):
    async def story(cluster: Cluster) -> None:
        before = state_of(cluster, "h100-0")
        cluster.faults.on("plugin-not-running")
        await cluster.wait(60)
        assert cluster.gpus("h100-0") == {GPU: "0"}
        cluster.label("h100-0", **{"gpu.deploy.device-plugin": "true"})
        await cluster.wait(30)
        assert cluster.gpus("h100-0") == {GPU: "1"}
        await is_as_before(cluster, "h100-0", "plugin-not-running", before)

    play("h100", story, tmp_path)


@pytest.mark.parametrize(("nodes", "free"), [("h100", "1"), ("h100-mps", "4")])
def test_the_operator_follows_node_feature_discovery(tmp_path, nodes, free):
    node = f"{nodes}-0"

    async def story(cluster: Cluster) -> None:
        before = state_of(cluster, node)
        cluster.faults.on("daemonsets-desired-zero")
        await cluster.wait(60)
        assert cluster.gpus(node) == {GPU: "0"}
        assert cluster.labels(node)["nvidia.com/gpu.present"] == "false"
        # The label that the operator writes is its own; the one that it reads is what counts.
        cluster.label(node, **{"gpu.present": "true"})
        await cluster.wait(60)
        assert cluster.labels(node)["nvidia.com/gpu.present"] == "false"
        assert "nvidia.com/gpu.deploy.container-toolkit" not in cluster.labels(node)

        def found(body: Any) -> None:
            body["metadata"]["labels"]["feature.node.kubernetes.io/pci-10de.present"] = "true"

        cluster.api.change("nodes", "", node, found)
        await cluster.wait(60)
        assert cluster.gpus(node) == {GPU: free}
        await is_as_before(cluster, node, "daemonsets-desired-zero", before)

    play(nodes, story, tmp_path)


def test_the_toolkit_is_told_of_the_right_containerd(tmp_path):
    async def story(cluster: Cluster) -> None:
        before = state_of(cluster, "h100-0")
        right = toolkit(cluster)
        cluster.faults.on("no-nvidia-runtime")
        assert toolkit(cluster) == []
        cluster.pod("a", runtimeClassName="nvidia")
        await cluster.wait(20)
        tell_toolkit(cluster, [{**right[0], "value": "/etc/containerd/config.toml"}, *right[1:]])
        await cluster.wait(60)
        assert cluster.status("a")["phase"] == "Pending"
        tell_toolkit(cluster, right)
        await cluster.wait(60)
        assert cluster.status("a")["phase"] == "Running"
        await is_as_before(cluster, "h100-0", "no-nvidia-runtime", before)
        assert toolkit(cluster) == right

    play("h100", story, tmp_path)


def test_without_a_policy_there_is_nothing_to_change(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.api.delete("clusterpolicies.nvidia.com", "", "cluster-policy")
        with pytest.raises(StatusError, match="there is no ClusterPolicy cluster-policy"):
            cluster.faults.on("no-nvidia-runtime")
        assert cluster.faults.active() == []

    play("h100", story, tmp_path)


def toolkit(cluster: Cluster) -> list[Any]:
    """What the ClusterPolicy tells the toolkit, which is what its DaemonSet says."""
    policy = cluster.api.get("clusterpolicies.nvidia.com", "", "cluster-policy")
    found = cluster.api.get("daemonsets.apps", OPERATOR, "nvidia-container-toolkit-daemonset")
    [container] = found["spec"]["template"]["spec"]["containers"]
    assert container.get("env", []) == policy["spec"]["toolkit"]["env"]
    return list(policy["spec"]["toolkit"]["env"])


def tell_toolkit(cluster: Cluster, environment: list[Any]) -> None:
    def write(policy: Any) -> None:
        policy["spec"]["toolkit"]["env"] = environment

    cluster.api.change("clusterpolicies.nvidia.com", "", "cluster-policy", write)


def test_the_toolkit_refuses_the_variable(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.pod("a", count=0)
        await cluster.wait(10)
        pod = cluster.api.get("pods", "default", "a")
        cluster.faults.on("all-gpus-visible")
        name = "ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED"
        tell_toolkit(cluster, [*toolkit(cluster), {"name": name, "value": "false"}])
        assert cluster.smi("t4x4-0", "-L", pod=pod).count("UUID: GPU-") == 4
        await cluster.wait(30)
        assert "No devices were found" in cluster.smi("t4x4-0", pod=pod)

    play("t4x4", story, tmp_path)


def test_a_restart_of_the_plugin_forgets_an_xid(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.faults.on("device-unhealthy")
        await cluster.wait(60)
        assert cluster.gpus("t4x4-0") == {GPU: "3"}
        [pod] = cluster.operands(PLUGIN, "t4x4-0")
        text = await log(cluster, pod["metadata"]["name"], OPERATOR)
        assert text.startswith("# scripted by mlk8s, fault device-unhealthy")
        sick = next(row["id"] for row in cluster.fleet.devices("t4x4-0") if not row["healthy"])
        assert f"XidCriticalError: Xid=94 on Device={sick}; marking device as unhealthy." in text
        cluster.fleet.restart("t4x4-0", PLUGIN)
        await cluster.wait(60)
        assert cluster.gpus("t4x4-0") == {GPU: "4"}
        [pod] = cluster.operands(PLUGIN, "t4x4-0")
        assert "Xid" not in await log(cluster, pod["metadata"]["name"], OPERATOR)

    play("t4x4", story, tmp_path)


def test_the_plugin_comes_up_with_its_control_daemon(tmp_path):
    async def story(cluster: Cluster) -> None:
        before = state_of(cluster, "h100-mps-0")
        cluster.faults.on("mps-daemon-not-ready")
        await cluster.wait(60)
        cluster.fleet.restart("h100-mps-0", PLUGIN)
        await cluster.wait(60)
        assert cluster.gpus("h100-mps-0") == {GPU: "0"}
        cluster.label("h100-mps-0", **{"mps.capable": "true"})
        # The back-off of a container that has failed for a minute.
        await cluster.wait(120)
        assert cluster.gpus("h100-mps-0") == {GPU: "4"}
        await is_as_before(cluster, "h100-mps-0", "mps-daemon-not-ready", before)

    play("h100-mps", story, tmp_path)


def test_an_applied_time_slicing_goes_with_the_fault(tmp_path):
    async def story(cluster: Cluster) -> None:
        before = state_of(cluster, "l4-0")
        cluster.faults.on("time-slicing-not-applied")

        def move(config_map: Any) -> None:
            text = config_map["data"]["default"]
            moved = text.replace("flags:\n  renameByDefault: true\n", "").replace(
                "  timeSlicing:\n", "  timeSlicing:\n    renameByDefault: true\n"
            )
            assert moved != text
            config_map["data"]["default"] = moved

        cluster.api.change("configmaps", OPERATOR, "device-plugin-config", move)
        cluster.fleet.restart("l4-0", PLUGIN)
        await cluster.wait(60)
        assert cluster.gpus("l4-0") == {GPU: "0", "nvidia.com/gpu.shared": "4"}
        await is_as_before(cluster, "l4-0", "time-slicing-not-applied", before)

    play("l4", story, tmp_path)
