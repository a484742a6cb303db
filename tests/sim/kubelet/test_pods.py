"""The way of pods through the kubelet, with the words of Kubernetes 1.36."""

from __future__ import annotations

import asyncio
from typing import Any

from mlk8s.sim.api import DeleteOptions

SAMPLE = "nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda12.5.0"
GPU = {"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}}


def conditions(pod: Any) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c.get("reason", "")) for c in pod["status"]["conditions"]}


def test_a_gpu_sample_runs_to_its_end(cluster: Any) -> None:
    async def body() -> None:
        async with cluster() as c:
            c.pod("p", image=SAMPLE, resources=GPU)
            await c.advance(0)
            pod = c.get("p")
            assert pod["status"]["phase"] == "Pending"
            assert c.main("p")["state"] == {"waiting": {"reason": "ContainerCreating"}}
            assert conditions(pod)["ContainersReady"] == ("False", "ContainersNotReady")
            assert c.fleet.free["a"] == ["GPU-a1"]
            await c.advance(1.0)
            pod = c.get("p")
            assert pod["status"]["phase"] == "Running"
            assert pod["status"]["hostIP"] == "10.0.0.1"
            assert pod["status"]["podIP"] == pod["status"]["podIPs"][0]["ip"] != ""
            assert conditions(pod)["Ready"] == ("True", "")
            main = c.main("p")
            assert main["imageID"].startswith("nvcr.io/nvidia/k8s/cuda-sample@sha256:")
            assert main["containerID"].startswith("containerd://")
            assert main["ready"] is main["started"] is True
            await c.advance(5)
            pod = c.get("p")
            assert pod["status"]["phase"] == "Succeeded"
            assert conditions(pod)["Ready"] == ("False", "PodCompleted")
            assert conditions(pod)["Initialized"] == ("True", "PodCompleted")
            assert conditions(pod)["PodReadyToStartContainers"] == ("False", "")
            ended = c.main("p")["state"]["terminated"]
            assert (ended["exitCode"], ended["reason"]) == (0, "Completed")
            assert c.fleet.free["a"] == ["GPU-a1", "GPU-a0"]
            assert (await c.log("p")).splitlines()[0] == "[Vector addition of 50000 elements]"
            assert (await c.log("p")).splitlines()[-2:] == ["Test PASSED", "Done"]
            assert await c.log("p", tail=1) == "Done\n"
            size = 103180000
            assert c.events("p") == [
                ("Normal", "Pulling", f'Pulling image "{SAMPLE}"'),
                (
                    "Normal",
                    "Pulled",
                    f'Successfully pulled image "{SAMPLE}" in 800ms (800ms including waiting). '
                    f"Image size: {size} bytes.",
                ),
                ("Normal", "Created", "Container created"),
                ("Normal", "Started", "Container started"),
            ]
            c.pod("q", image=SAMPLE)
            await c.advance(0)
            assert c.events("q")[0][2] == (
                f'Container image "{SAMPLE}" already present on machine and can be accessed by '
                "the pod"
            )
            await c.advance(5)
            # Without a GPU it says what the real one says, and fails.
            assert c.get("q")["status"]["phase"] == "Failed"
            assert c.main("q")["state"]["terminated"]["reason"] == "Error"
            assert "CUDA driver version is insufficient" in await c.log("q")

    asyncio.run(body())


def test_too_many_gpus_are_refused_at_admission(cluster: Any) -> None:
    async def body() -> None:
        async with cluster() as c:
            c.pod("p", image=SAMPLE, resources={"limits": {"nvidia.com/gpu": "3"}})
            await c.advance(1)
            status = c.get("p")["status"]
            message = (
                "Allocate failed due to requested number of devices unavailable for "
                "nvidia.com/gpu. Requested: 3, Available: 2, which is unexpected"
            )
            assert status["phase"] == "Failed"
            assert status["reason"] == "UnexpectedAdmissionError"
            assert status["message"] == f"Pod was rejected: {message}"
            assert c.events("p") == [("Warning", "UnexpectedAdmissionError", message)]

    asyncio.run(body())


def test_a_pod_that_does_not_fit_or_match_is_refused(cluster: Any) -> None:
    async def body() -> None:
        async with cluster() as c:
            c.pod("first", image="nginx", resources={"requests": {"cpu": "150"}})
            c.pod("second", image="nginx", resources={"requests": {"cpu": "51"}})
            c.pod("third", image="nginx", nodeSelector={"disk": "ssd"})
            await c.advance(2)
            status = c.get("second")["status"]
            assert status["reason"] == "OutOfcpu"
            assert status["message"] == (
                "Pod was rejected: Node didn't have enough resource: cpu, requested: 51000, "
                "used: 150000, capacity: 200000"
            )
            assert c.get("third")["status"]["reason"] == "NodeAffinity"
            assert c.get("third")["status"]["message"] == (
                "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's "
                "node affinity/selector"
            )
            c.api.delete("pods", "default", "first")
            await c.advance(2)
            assert c.get("first") is None
            c.pod("again", image="nginx", resources={"requests": {"cpu": "200"}})
            await c.advance(2)
            assert c.get("again")["status"]["phase"] == "Running"

    asyncio.run(body())


def test_an_unknown_image_backs_off(cluster: Any) -> None:
    async def body() -> None:
        async with cluster() as c:
            c.pod("p", image="foo")
            await c.advance(1)
            error = (
                'failed to pull and unpack image "docker.io/library/foo:latest": failed to '
                'resolve reference "docker.io/library/foo:latest": failed to do request: Head '
                '"https://registry-1.docker.io/v2/library/foo/manifests/latest": dial tcp: '
                "lookup registry-1.docker.io: no such host"
            )
            assert c.main("p")["state"]["waiting"] == {"reason": "ErrImagePull", "message": error}
            assert c.main("p")["imageID"] == ""
            await c.advance(3)
            assert c.main("p")["state"]["waiting"] == {
                "reason": "ImagePullBackOff",
                "message": f'Back-off pulling image "foo": ErrImagePull: {error}',
            }
            assert c.get("p")["status"]["phase"] == "Pending"
            assert c.events("p") == [
                ("Normal", "Pulling", 'Pulling image "foo"'),
                ("Warning", "Failed", f'Failed to pull image "foo": {error}'),
                ("Warning", "Failed", "Error: ErrImagePull"),
                ("Normal", "BackOff", 'Back-off pulling image "foo"'),
                ("Warning", "Failed", "Error: ImagePullBackOff"),
            ]
            # After 10, 20, 40, 80 and 160 s: six attempts in 320 s.
            await c.advance(320)
            pulls = [
                each["count"] for each in c.api.store.items("events") if each["reason"] == "Pulling"
            ]
            assert pulls == [6]

    asyncio.run(body())


def test_an_unknown_tag_and_a_bad_name(cluster: Any) -> None:
    async def body() -> None:
        async with cluster() as c:
            c.pod("tag", image="nginx:does-not-exist")
            c.pod("name", image="Foo")
            c.pod("never", image="nginx", imagePullPolicy="Never")
            await c.advance(1)
            assert c.main("tag")["state"]["waiting"]["message"].endswith(
                "docker.io/library/nginx:does-not-exist: not found"
            )
            assert c.main("name")["state"]["waiting"] == {
                "reason": "InvalidImageName",
                "message": 'Failed to apply default image tag "Foo": couldn\'t parse image '
                'reference "Foo": invalid reference format: repository name (library/Foo) must '
                "be lowercase",
            }
            assert c.main("never")["state"]["waiting"] == {
                "reason": "ErrImageNeverPull",
                "message": 'Container image "nginx" is not present with pull policy of Never',
            }

    asyncio.run(body())


def test_a_restart_that_pulls_again_waits_once(cluster):
    async def body() -> None:
        async with cluster() as c:
            c.pod("p", image=SAMPLE, restartPolicy="Always", imagePullPolicy="Always")
            await c.advance(5)
            # Immediately the first time, as with an image that is present.
            assert c.main("p")["restartCount"] == 1
            assert "back-off 10s" in c.main("p")["state"]["waiting"]["message"]
            await c.advance(12)
            assert c.main("p")["restartCount"] == 2
            reasons = [reason for _, reason, _ in c.events("p")]
            assert reasons.count("Pulling") <= reasons.count("Pulled")

    asyncio.run(body())


def test_the_images_of_examples(cluster):
    async def body() -> None:
        async with cluster() as c:
            c.pod("plain", image="cuda")
            c.pod("tagged", image="cuda:13")
            c.pod("missing", image="cuda:no-such")
            await c.advance(5)
            assert c.get("plain")["status"]["phase"] == "Running"
            assert c.get("tagged")["status"]["phase"] == "Running"
            assert c.main("missing")["state"]["waiting"]["reason"] == "ImagePullBackOff"

    asyncio.run(body())


def test_a_sample_sees_gpus_that_leak(cluster):
    async def body() -> None:
        async with cluster() as c:
            c.pod("tight", image=SAMPLE)
            await c.advance(5)
            assert c.get("tight")["status"]["phase"] == "Failed"
            c.fleet.leaky = True
            c.pod("leaking", image=SAMPLE)
            await c.advance(5)
            assert c.get("leaking")["status"]["phase"] == "Succeeded"

    asyncio.run(body())


def test_crash_loop(cluster: Any) -> None:
    async def body() -> None:
        async with cluster() as c:
            pod = c.pod("p", image=SAMPLE, restartPolicy="Always")
            await c.advance(2)
            assert c.main("p")["state"]["terminated"]["exitCode"] == 1
            await c.advance(1)
            # The first restart is immediate; the second waits.
            assert c.main("p")["restartCount"] == 1
            await c.advance(1.5)
            uid = pod["metadata"]["uid"]
            main = c.main("p")
            assert main["state"]["waiting"] == {
                "reason": "CrashLoopBackOff",
                "message": f"back-off 10s restarting failed container=main pod=p_default({uid})",
            }
            assert main["lastState"]["terminated"]["exitCode"] == 1
            assert c.get("p")["status"]["phase"] == "Running"
            assert (
                "Warning",
                "BackOff",
                f"Back-off restarting failed container main in pod p_default({uid})",
            ) in c.events("p")
            assert "CUDA driver version" in await c.log("p")
            assert "CUDA driver version" in await c.log("p", previous=True)
            await c.advance(12)
            assert c.main("p")["restartCount"] == 2
            await c.advance(8)
            assert "back-off 20s" in c.main("p")["state"]["waiting"]["message"]
            await c.advance(2000)
            assert "back-off 5m0s" in c.main("p")["state"]["waiting"]["message"]

    asyncio.run(body())


def test_init_containers_run_in_order_and_a_sidecar_stays(cluster: Any) -> None:
    async def body() -> None:
        async with cluster() as c:
            init = [
                {"name": "first", "image": "hello-world"},
                {"name": "side", "image": "nginx", "restartPolicy": "Always"},
                {"name": "last", "image": "hello-world"},
            ]
            c.pod("p", image=SAMPLE, resources=GPU, initContainers=init)
            await c.advance(0)
            pod = c.get("p")
            assert pod["status"]["phase"] == "Pending"
            assert c.main("p")["state"] == {"waiting": {"reason": "PodInitializing"}}
            found = next(x for x in pod["status"]["conditions"] if x["type"] == "Initialized")
            assert found["message"] == ("containers with incomplete status: [first side last]")
            for _ in range(40):
                await c.advance(0.1)
                states = [
                    next(iter(each["state"]))
                    for each in [*c.get("p")["status"]["initContainerStatuses"], c.main("p")]
                ]
                if states[3] == "running":
                    break
            assert states == ["terminated", "running", "terminated", "running"]
            await c.advance(5)
            pod = c.get("p")
            assert pod["status"]["phase"] == "Succeeded"
            side = pod["status"]["initContainerStatuses"][1]
            assert side["state"]["terminated"]["exitCode"] == 0
            assert ("Normal", "Killing", "Stopping container side") in c.events("p")

    asyncio.run(body())


def test_a_failed_init_container_fails_the_pod(cluster: Any) -> None:
    async def body() -> None:
        async with cluster() as c:
            c.pod("p", image="nginx", initContainers=[{"name": "i", "image": SAMPLE}])
            await c.advance(5)
            assert c.get("p")["status"]["phase"] == "Failed"
            assert c.main("p")["state"] == {"waiting": {"reason": "PodInitializing"}}

    asyncio.run(body())


def test_deadline(cluster: Any) -> None:
    async def body() -> None:
        async with cluster() as c:
            c.pod("p", image="nginx", activeDeadlineSeconds=60)
            await c.advance(59)
            assert c.get("p")["status"]["phase"] == "Running"
            await c.advance(3)
            status = c.get("p")["status"]
            message = "Pod was active on the node longer than the specified deadline"
            assert (status["phase"], status["reason"], status["message"]) == (
                "Failed",
                "DeadlineExceeded",
                message,
            )
            assert ("Normal", "DeadlineExceeded", message) in c.events("p")

    asyncio.run(body())


def test_a_deleted_pod_is_stopped_and_goes(cluster: Any) -> None:
    async def body() -> None:
        async with cluster() as c:
            c.pod("p", image="nginx", resources=GPU)
            await c.advance(2)
            assert c.get("p")["status"]["phase"] == "Running"
            c.api.delete("pods", "default", "p")
            await c.advance(1)
            assert c.get("p") is None
            assert ("Normal", "Killing", "Stopping container main") in c.events("p")
            assert len(c.fleet.free["a"]) == 2
            c.pod("waits", image="foo")
            await c.advance(2)
            c.api.delete("pods", "default", "waits")
            await c.advance(1)
            assert c.get("waits") is None
            c.pod("forced", image="nginx", resources=GPU)
            await c.advance(2)
            c.api.delete("pods", "default", "forced", DeleteOptions(grace_period=0))
            await c.advance(1)
            assert len(c.fleet.free["a"]) == 2

    asyncio.run(body())


def test_a_node_without_kubelet_leaves_its_pods_alone(cluster: Any) -> None:
    async def body() -> None:
        async with cluster() as c:
            c.pod("p", node="elsewhere", image="nginx")
            await c.advance(60)
            status = c.get("p").get("status", {})
            assert status.get("phase", "Pending") == "Pending"
            assert "containerStatuses" not in status
            assert await c.log("p") == ""

    asyncio.run(body())


def test_what_a_container_refers_to_must_exist(cluster: Any) -> None:
    async def body() -> None:
        async with cluster() as c:
            reference = {"configMapKeyRef": {"name": "x", "key": "k"}}
            c.pod("p", image="nginx", env=[{"name": "A", "valueFrom": reference}])
            volume = {"name": "v", "configMap": {"name": "x"}}
            c.pod("q", image="nginx", volumes=[volume])
            await c.advance(3)
            assert c.main("p")["state"]["waiting"] == {
                "reason": "CreateContainerConfigError",
                "message": 'configmap "x" not found',
            }
            assert ("Warning", "Failed", 'Error: configmap "x" not found') in c.events("p")
            assert c.main("q")["state"]["waiting"]["reason"] == "ContainerCreating"
            assert c.events("q") == [
                (
                    "Warning",
                    "FailedMount",
                    'MountVolume.SetUp failed for volume "v" : configmap "x" not found',
                )
            ]
            c.api.create(
                "configmaps",
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": "x", "namespace": "default"},
                    "data": {"k": "1"},
                },
                "default",
            )
            await c.advance(30)
            assert c.get("p")["status"]["phase"] == "Running"
            assert c.get("q")["status"]["phase"] == "Running"

    asyncio.run(body())


def test_a_thousand_pods(cluster: Any) -> None:
    async def body() -> None:
        import time

        async with cluster() as c:
            began = time.perf_counter()
            for index in range(1000):
                c.pod(f"p{index}", node="ab"[index % 2], image="hello-world")
            await c.advance(10)
            took = time.perf_counter() - began
            phases = {each["status"]["phase"] for each in c.api.store.items("pods")}
            assert phases == {"Succeeded"}
            # Some 2 s on the two-core machine where it was written, other components aside.
            assert took < 15

    asyncio.run(body())
