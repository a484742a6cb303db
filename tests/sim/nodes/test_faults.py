"""Each fault shows its symptom through the API, and is gone when it is switched off."""

import pytest

from mlk8s.sim.faults import FAULTS
from mlk8s.sim.status import StatusError

from .cluster import OPERATOR, Cluster, log, play

PLUGIN = "nvidia-device-plugin-daemonset"
GPU = "nvidia.com/gpu"


def waiting(cluster: Cluster, name: str) -> tuple[str, str]:
    """Why a pod's first container waits."""
    [container] = cluster.status(name)["containerStatuses"]
    state = container["state"].get("waiting") or {}
    return state.get("reason", ""), state.get("message", "")


def reasons(cluster: Cluster, name: str) -> dict[str, str]:
    return dict(cluster.events(name))


def test_every_case_is_described():
    assert len(FAULTS) == 19
    for fault in FAULTS.values():
        assert fault.title and fault.symptom and fault.cause and fault.fix and fault.sources


def test_what_cannot_be_switched_on(tmp_path):
    async def story(cluster: Cluster) -> None:
        for name, node, message in (
            ("gremlins", None, "there is no fault 'gremlins'; there are: plugin-not-running,"),
            ("device-unhealthy", "x", "there is no node 'x'; there are: cpu-0"),
            ("device-unhealthy", "cpu-0", "needs a node with a GPU; node cpu-0 is not one"),
            ("dra-no-slices", None, "such as preset h100-dra; this cluster has none"),
        ):
            with pytest.raises(StatusError) as error:
                cluster.faults.on(name, node)
            assert error.value.code == 400
            assert message in str(error.value)
        assert cluster.faults.active() == []
        cluster.faults.off("device-unhealthy")

    play("cpu", story, tmp_path)


def test_plugin_not_running(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.faults.on("plugin-not-running")
        await cluster.wait(60)
        assert cluster.gpus("h100-0", "capacity") == {GPU: "1"}
        assert cluster.gpus("h100-0") == {GPU: "0"}
        assert cluster.operands(PLUGIN, "h100-0") == []
        cluster.pod("a")
        await cluster.wait(5)
        [condition] = cluster.status("a")["conditions"]
        assert condition["message"].startswith("0/1 nodes are available: 1 Insufficient nvidia.com")
        cluster.faults.off("plugin-not-running")
        await cluster.wait(120)
        assert cluster.gpus("h100-0") == {GPU: "1"}
        assert cluster.status("a")["phase"] == "Running"

    play("h100", story, tmp_path)


def test_operator_init(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.faults.on("operator-init")
        await cluster.wait(90)
        [pod] = cluster.operands(PLUGIN, "h100-0")
        assert pod["status"]["phase"] == "Pending"
        [first, *_] = pod["status"]["initContainerStatuses"]
        assert "running" in first["state"]
        text = await log(cluster, pod["metadata"]["name"], OPERATOR, "toolkit-validation")
        assert text.splitlines()[0].startswith("# scripted")
        assert "waiting for nvidia container stack to be setup" in text
        assert cluster.gpus("h100-0") == {GPU: "0"}
        cluster.faults.off("operator-init")
        await cluster.wait(120)
        assert cluster.gpus("h100-0") == {GPU: "1"}

    play("h100", story, tmp_path)


def test_no_nvidia_runtime(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.faults.on("no-nvidia-runtime")
        cluster.pod("a", runtimeClassName="nvidia")
        await cluster.wait(20)
        assert waiting(cluster, "a")[0] == "ContainerCreating"
        message = reasons(cluster, "a")["FailedCreatePodSandBox"]
        assert 'no runtime for "nvidia" is configured' in message
        cluster.faults.off("no-nvidia-runtime")
        await cluster.wait(60)
        assert cluster.status("a")["phase"] == "Running"

    play("h100", story, tmp_path)


@pytest.mark.parametrize(
    ("name", "nodes", "text"),
    [
        ("cuda-driver-insufficient", "h100", "CUDA driver version is insufficient"),
        ("fabric-manager-missing", "h100x8", "system not yet initialized"),
    ],
)
def test_crash_loops(tmp_path, name, nodes, text):
    async def story(cluster: Cluster) -> None:
        cluster.faults.on(name)
        cluster.pod("a")
        await cluster.wait(90)
        assert waiting(cluster, "a")[0] == "CrashLoopBackOff"
        lines = (await log(cluster, "a")).splitlines()
        assert lines[0].startswith("# scripted by mlk8s")
        assert any(text in line for line in lines[1:])
        assert FAULTS[name].scripted
        cluster.faults.off(name)
        await cluster.wait(400)
        assert cluster.status("a")["phase"] == "Running"
        assert cluster.status("a")["containerStatuses"][0]["ready"]

    play(nodes, story, tmp_path)


def test_containerd_down(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.faults.on("containerd-down")
        await cluster.wait(5)
        ready = cluster.node("h100-0")["status"]["conditions"][-1]
        assert (ready["status"], ready["message"]) == ("False", "container runtime is down")
        taints = {each["key"] for each in cluster.node("h100-0")["spec"]["taints"]}
        assert taints == {"node.kubernetes.io/not-ready"}
        cluster.faults.off("containerd-down")
        await cluster.wait(5)
        node = cluster.node("h100-0")
        assert node["status"]["conditions"][-1]["status"] == "True"
        assert not node["spec"].get("taints")

    play("h100", story, tmp_path)


def test_nvml_unknown_error(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.pod("old")
        await cluster.wait(10)
        cluster.faults.on("nvml-unknown-error")
        cluster.pod("new")
        await cluster.wait(10)
        old, new = (cluster.api.get("pods", "default", name) for name in ("old", "new"))
        assert "Failed to initialize NVML: Unknown Error" in cluster.smi("t4x4-0", pod=old)
        # The repair is to recreate the pod; the host never had the trouble.
        assert "Tesla T4" in cluster.smi("t4x4-0", pod=new)
        assert "Tesla T4" in cluster.smi("t4x4-0")
        cluster.faults.off("nvml-unknown-error")
        assert "Tesla T4" in cluster.smi("t4x4-0", pod=old)

    play("t4x4", story, tmp_path)


def test_driver_library_mismatch(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.pod("early")
        await cluster.wait(20)
        cluster.faults.on("driver-library-mismatch")
        await cluster.wait(120)
        [pod] = cluster.operands(PLUGIN, "h100-0")
        [container] = pod["status"]["containerStatuses"]
        assert container["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        assert cluster.gpus("h100-0") == {GPU: "0"}
        assert "Driver/library version mismatch" in cluster.smi("h100-0")
        cluster.faults.off("driver-library-mismatch")
        await cluster.wait(120)
        assert cluster.gpus("h100-0") == {GPU: "1"}
        assert cluster.status("early")["phase"] == "Running"

    play("h100", story, tmp_path)


def test_device_unhealthy(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.faults.on("device-unhealthy", "t4x4-1")
        assert cluster.gpus("t4x4-1") == {GPU: "3"}
        assert cluster.gpus("t4x4-0") == {GPU: "4"}
        assert [row["healthy"] for row in cluster.fleet.devices("t4x4-1")].count(False) == 1
        cluster.faults.off("device-unhealthy")
        assert cluster.gpus("t4x4-1") == {GPU: "4"}

    play("t4x4*2", story, tmp_path)


def test_unexpected_admission(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.faults.on("unexpected-admission")
        cluster.pod("a")
        cluster.pod("b", count=0)
        await cluster.wait(20)
        status = cluster.status("a")
        assert (status["phase"], status["reason"]) == ("Failed", "UnexpectedAdmissionError")
        assert status["message"] == (
            "Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate "
            "unhealthy devices nvidia.com/gpu, which is unexpected"
        )
        assert cluster.status("b")["phase"] == "Running"

    play("h100", story, tmp_path)


def test_all_gpus_visible(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.pod("a", count=0)
        await cluster.wait(10)
        pod = cluster.api.get("pods", "default", "a")
        assert "No devices were found" in cluster.smi("t4x4-0", pod=pod)
        cluster.faults.on("all-gpus-visible")
        assert cluster.smi("t4x4-0", "-L", pod=pod).count("UUID: GPU-") == 4

    play("t4x4", story, tmp_path)


def test_time_slicing_of_a_node_that_is_sliced_already(tmp_path):
    async def story(cluster: Cluster) -> None:
        assert cluster.gpus("a30-timesliced-0") == {GPU: "4"}
        cluster.faults.on("time-slicing-not-applied")
        await cluster.wait(60)
        assert cluster.gpus("a30-timesliced-0") == {GPU: "4"}
        cluster.fleet.restart("a30-timesliced-0", PLUGIN)
        await cluster.wait(90)
        assert cluster.gpus("a30-timesliced-0") == {GPU: "8"}

    play("a30-timesliced", story, tmp_path)


def test_time_slicing_not_applied(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.faults.on("time-slicing-not-applied")
        await cluster.wait(120)
        config = cluster.api.get("configmaps", OPERATOR, "device-plugin-config")
        assert "replicas: 4" in config["data"]["default"]
        assert cluster.gpus("l4-0") == {GPU: "1"}
        cluster.fleet.restart("l4-0", PLUGIN)
        await cluster.wait(90)
        # Applied now; not renamed, for the key stands in the wrong place.
        assert cluster.gpus("l4-0") == {GPU: "4"}

    play("l4", story, tmp_path)


def test_mps_daemon_not_ready(tmp_path):
    async def story(cluster: Cluster) -> None:
        name = "nvidia-device-plugin-mps-control-daemon"
        [_] = cluster.operands(name, "h100-mps-0")
        cluster.faults.on("mps-daemon-not-ready")
        await cluster.wait(120)
        assert cluster.operands(name, "h100-mps-0") == []
        daemon_set = cluster.api.get("daemonsets.apps", OPERATOR, name)
        assert daemon_set["status"]["desiredNumberScheduled"] == 0
        assert cluster.gpus("h100-mps-0") == {GPU: "0"}
        [pod] = cluster.operands(PLUGIN, "h100-mps-0")
        text = await log(cluster, pod["metadata"]["name"], OPERATOR)
        assert "MPS daemon is not ready" in text
        cluster.faults.off("mps-daemon-not-ready")
        await cluster.wait(120)
        assert cluster.gpus("h100-mps-0") == {GPU: "4"}

    play("h100-mps", story, tmp_path)


def test_mig_in_use(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.faults.on("mig-in-use")
        await cluster.wait(90)
        labels = cluster.labels("h100-mig-0")
        assert labels["nvidia.com/mig.config.state"] == "failed"
        assert cluster.gpus("h100-mig-0")["nvidia.com/mig-3g.40gb"] == "1"
        cluster.faults.off("mig-in-use")
        await cluster.wait(90)
        labels = cluster.labels("h100-mig-0")
        assert labels["nvidia.com/mig.config.state"] == "success"
        assert labels["nvidia.com/mig.config"] == "all-balanced"

    play("h100-mig", story, tmp_path)


def test_driver_module_rejected(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.faults.on("driver-module-rejected")
        await cluster.wait(120)
        [driver] = cluster.operands("nvidia-driver-daemonset", "h100-0")
        name = driver["metadata"]["name"]
        assert "Key was rejected by service" in await log(cluster, name, OPERATOR)
        # Nobody gets past the driver's validation, which is the first of all.
        for app in (PLUGIN, "nvidia-operator-validator", "nvidia-container-toolkit-daemonset"):
            [pod] = cluster.operands(app, "h100-0")
            assert pod["status"]["phase"] == "Pending"
            first = pod["status"]["initContainerStatuses"][0]
            assert "running" in first["state"]
        cluster.faults.off("driver-module-rejected")
        await cluster.wait(120)
        assert cluster.operands("nvidia-driver-daemonset", "h100-0") == []
        assert cluster.gpus("h100-0") == {GPU: "1"}

    play("h100", story, tmp_path)


def test_dcgm_no_pod_labels(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.faults.on("dcgm-no-pod-labels")
        await cluster.wait(90)
        [pod] = cluster.operands("nvidia-dcgm-exporter", "l4-0")
        text = await log(cluster, pod["metadata"]["name"], OPERATOR)
        assert 'DCGM_FI_DEV_GPU_UTIL{gpu="0"' in text
        assert 'pod=""' in text

    play("l4", story, tmp_path)


def test_dra_no_slices(tmp_path):
    async def story(cluster: Cluster) -> None:
        key = "resourceslices.resource.k8s.io"
        cluster.faults.on("dra-no-slices")
        assert cluster.api.store.count(key) == 0
        cluster.pod("a")
        await cluster.wait(10)
        assert cluster.status("a")["phase"] == "Pending"
        cluster.faults.off("dra-no-slices")
        assert cluster.api.store.count(key) == 1
        await cluster.wait(60)
        assert cluster.status("a")["phase"] == "Running"

    play("h100-dra", story, tmp_path)


def test_kueue_not_admitted(tmp_path):
    async def story(cluster: Cluster) -> None:
        key = "workloads.kueue.x-k8s.io"
        cluster.faults.on("kueue-not-admitted")
        await cluster.wait(5)
        [workload] = cluster.api.store.items(key)
        [condition] = workload["status"]["conditions"]
        assert (condition["type"], condition["status"]) == ("QuotaReserved", "False")
        assert condition["message"].startswith(
            "couldn't assign flavors to pod set main: insufficient quota for nvidia.com/gpu in "
            "flavor gpu"
        )
        assert cluster.api.get("jobs.batch", "default", "kueue-demo")["spec"]["suspend"]
        cluster.faults.off("kueue-not-admitted")
        await cluster.wait(30)
        assert cluster.api.store.count(key) == 0
        assert cluster.api.find("jobs.batch", "default", "kueue-demo") is None

    play("h100", story, tmp_path)


def test_daemonsets_desired_zero(tmp_path):
    async def story(cluster: Cluster) -> None:
        cluster.faults.on("daemonsets-desired-zero")
        await cluster.wait(60)
        for daemon_set in cluster.api.store.items("daemonsets.apps"):
            assert daemon_set["status"]["desiredNumberScheduled"] == 0
        assert cluster.gpus("h100-0") == {GPU: "0"}
        cluster.faults.off("daemonsets-desired-zero")
        await cluster.wait(120)
        assert cluster.gpus("h100-0") == {GPU: "1"}
        assert cluster.labels("h100-0")["feature.node.kubernetes.io/pci-10de.present"] == "true"

    play("h100", story, tmp_path)
