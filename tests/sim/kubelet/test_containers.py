"""Containers that are processes: what they see, print, use, and how they end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlk8s.sim.kubelet import usage
from mlk8s.sim.status import StatusError


def processes_of(directory: Path) -> list[int]:
    """The processes that carry the cluster's mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MLK8S_SIM_CLUSTER") == str(directory.resolve()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def config_map(c: Any, name: str, **data: str) -> None:
    metadata = {"name": name, "namespace": "default"}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    c.api.create("configmaps", body, "default")


def test_python_runs_with_its_environment_and_files(cluster: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SECRET_OF_THE_READER", "x")

    async def body() -> None:
        async with cluster(manual=False) as c:
            config_map(c, "cfg", greeting="hello")
            c.pod(
                "p",
                image="python:3",
                command=["python", "-c"],
                args=[
                    "import os; print(os.environ['G'], os.environ['WHO'], os.environ['N']);"
                    "print(open('/etc/cfg/greeting').read(), '$(G)');"
                    "print(os.environ['NVIDIA_VISIBLE_DEVICES'], os.environ['CPU']);"
                    "print('SECRET_OF_THE_READER' in os.environ);"
                    "open('/dev/termination-log', 'w').write('bye'); raise SystemExit(3)"
                ],
                env=[
                    {"name": "WHO", "value": "world"},
                    {
                        "name": "G",
                        "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "greeting"}},
                    },
                    {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {
                        "name": "CPU",
                        "valueFrom": {
                            "resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}
                        },
                    },
                ],
                resources={"limits": {"cpu": "500m", "nvidia.com/gpu": "1"}},
                volumes=[{"name": "v", "configMap": {"name": "cfg"}}],
                volumeMounts=[{"name": "v", "mountPath": "/etc/cfg"}],
            )
            assert await c.ends("p") == "Failed"
            assert (await c.log("p")).splitlines() == [
                "hello world p",
                "hello hello",
                "GPU-a0 500",
                "False",
            ]
            ended = c.main("p")["state"]["terminated"]
            assert (ended["exitCode"], ended["reason"], ended["message"]) == (3, "Error", "bye")
            annotations = c.get("p")["metadata"]["annotations"]
            assert annotations == {"mlk8s.dev/simulated": "main=process"}
            c.api.delete("pods", "default", "p")
            await c.until(lambda: not list((c.directory / "pods" / "pods").iterdir()))

    asyncio.run(body())


def test_an_empty_dir_is_shared_and_a_command_may_be_missing(cluster: Any) -> None:
    async def body() -> None:
        async with cluster(manual=False) as c:
            mount = [{"name": "v", "mountPath": "/data"}]
            init = {"name": "i", "image": "busybox", "volumeMounts": mount}
            init |= {"command": ["sh", "-c", "echo data > /data/file"]}
            c.pod(
                "p",
                image="busybox",
                command=["cat", "/data/file"],
                volumeMounts=mount,
                volumes=[{"name": "v", "emptyDir": {}}],
                initContainers=[init],
            )
            c.pod("q", image="ubuntu", command=["no-such-command"])
            c.pod("smi", image="nvidia/cuda:12.5.0-base-ubuntu22.04", command=["nvidia-smi"])
            c.pod(
                "gpu",
                image="nvidia/cuda:12.5.0-base-ubuntu22.04",
                command=["nvidia-smi"],
                resources={"limits": {"nvidia.com/gpu": "1"}},
            )
            assert await c.ends("p") == "Succeeded"
            assert await c.log("p") == "data\n"
            assert await c.ends("q") == "Failed"
            ended = c.main("q")["state"]["terminated"]
            assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
            assert ended["startedAt"] == "1970-01-01T00:00:00Z"
            text = (
                "failed to create containerd task: failed to create shim task: OCI runtime create "
                "failed: runc create failed: unable to start container process: error during "
                'container init: exec: "no-such-command": executable file not found in $PATH'
            )
            assert ended["message"] == text
            assert ("Warning", "Failed", f"Error: {text}") in c.events("q")
            assert await c.ends("smi") == "Failed"
            assert (
                '"nvidia-smi": executable file not found'
                in (c.main("smi")["state"]["terminated"]["message"])
            )
            assert await c.ends("gpu") == "Succeeded"
            assert "A GPU of a" in await c.log("gpu")

    asyncio.run(body())


def test_arguments_replace_the_command_of_an_image(cluster: Any) -> None:
    """As ``kubectl run -- PROGRAM``: these images have a CMD, and no ENTRYPOINT."""

    async def body() -> None:
        async with cluster(manual=False) as c:
            c.pod("box", image="busybox", args=["echo", "one"])
            c.pod("snake", image="python:3", args=["python", "-c", "print('two')"])
            c.pod("none", image="ubuntu")
            assert await c.ends("box") == "Succeeded"
            assert await c.log("box") == "one\n"
            assert await c.ends("snake") == "Succeeded"
            assert await c.log("snake") == "two\n"
            assert await c.ends("none") == "Succeeded"

    asyncio.run(body())


def test_memory_limit(cluster: Any) -> None:
    async def body() -> None:
        async with cluster(manual=False) as c:
            c.pod(
                "p",
                image="python:3",
                command=["python3", "-c", "x = b'x' * 300_000_000; import time; time.sleep(60)"],
                resources={"limits": {"memory": "100Mi"}},
            )
            assert await c.ends("p") == "Failed"
            ended = c.main("p")["state"]["terminated"]
            assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")

    asyncio.run(body())


def test_a_pod_that_prints_without_end_fills_nothing_and_blocks_nobody(cluster: Any) -> None:
    async def body() -> None:
        async with cluster(manual=False) as c:
            for name in ("p", "q"):
                c.pod(name, image="busybox", command=["yes"], restartPolicy="Always")
            await c.until(lambda: c.get("q")["status"]["phase"] == "Running")
            worst, began = 0.0, time.monotonic()
            while time.monotonic() - began < 4:
                before = time.monotonic()
                await asyncio.sleep(0.01)
                worst = max(worst, time.monotonic() - before - 0.01)
            assert worst < 0.5
            log = await c.log("p")
            assert 1_000_000 < len(log) <= 10 * 1024 * 1024
            assert await c.log("p", tail=3) == "y\ny\ny\n"
            assert await c.log("p", limit_bytes=5) == "y\ny\ny"
            assert sum(each.stat().st_size for each in c.directory.rglob("*") if each.is_file()) < (
                100_000
            )

    asyncio.run(body())


def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(cluster: Any) -> None:
    async def body() -> None:
        async with cluster(manual=False) as c:
            script = "trap '' TERM; echo up; while true; do sleep 0.05; done"
            c.pod(
                "p",
                image="busybox",
                command=["sh", "-c", script],
                terminationGracePeriodSeconds=1,
            )
            await c.until(lambda: c.get("p")["status"]["phase"] == "Running")
            await asyncio.sleep(0.3)
            assert processes_of(c.directory)
            began = time.monotonic()
            c.api.delete("pods", "default", "p")
            await c.until(lambda: c.get("p") is None)
            assert 0.5 < time.monotonic() - began < 4
            await c.until(lambda: not processes_of(c.directory))

    asyncio.run(body())


def test_liveness_and_readiness_commands(cluster: Any) -> None:
    async def body() -> None:
        async with cluster(manual=False) as c:
            test = {"exec": {"command": ["test", "-e", "/data/ok"]}, "periodSeconds": 1}
            c.pod(
                "p",
                image="busybox",
                command=["sh", "-c", "sleep 1; touch /data/ok; sleep 100"],
                readinessProbe=test,
                volumes=[{"name": "v", "emptyDir": {}}],
                volumeMounts=[{"name": "v", "mountPath": "/data"}],
            )
            c.pod(
                "q",
                image="busybox",
                command=["sleep", "100"],
                restartPolicy="Always",
                terminationGracePeriodSeconds=1,
                livenessProbe={
                    "exec": {"command": ["sh", "-c", "echo no; exit 1"]},
                    "periodSeconds": 1,
                    "failureThreshold": 2,
                },
            )
            await c.until(lambda: c.get("p")["status"]["phase"] == "Running")
            assert c.main("p")["ready"] is False
            await c.until(lambda: c.main("p")["ready"])
            assert ("Warning", "Unhealthy", "Readiness probe failed: ") in c.events("p")
            await c.until(lambda: c.main("q")["restartCount"] == 1)
            assert ("Warning", "Unhealthy", "Liveness probe failed: no\n") in c.events("q")
            assert (
                "Normal",
                "Killing",
                "Container main failed liveness probe, will be restarted",
            ) in c.events("q")
            assert c.main("q")["lastState"]["terminated"]["exitCode"] == 143

    asyncio.run(body())


def test_following_a_log(cluster: Any) -> None:
    async def body() -> None:
        async with cluster(manual=False) as c:
            c.pod("p", image="busybox", command=["sh", "-c", "echo a; sleep 0.5; echo b; sleep 1"])
            await c.until(lambda: c.get("p")["status"]["phase"] == "Running")
            assert await c.log("p", follow=True) == "a\nb\n"
            assert await c.ends("p") == "Succeeded"
            line = (await c.log("p", timestamps=True)).splitlines()[0]
            moment, text = line.split(" ")
            assert text == "a"
            assert len(moment) == len("2026-11-24T02:40:01.250000000Z")
            assert await c.log("p", since_seconds=0) == ""

    asyncio.run(body())


def test_refusals_of_logs(cluster: Any) -> None:
    def message(call: Any) -> tuple[int, str]:
        with pytest.raises(StatusError) as caught:
            call()
        return caught.value.code, caught.value.message

    async def body() -> None:
        async with cluster() as c:
            c.pod("p", image="foo")
            two = [{"name": "a", "image": "nginx"}, {"name": "b", "image": "nginx"}]
            c.pod("two", containers=two, initContainers=[{"name": "i", "image": "hello-world"}])
            c.pod("n", image="nginx")
            await c.advance(0)
            logs = c.kubelet.logs
            assert message(lambda: logs("default", "none")) == (404, 'pods "none" not found')
            assert message(lambda: logs("default", "n")) == (
                400,
                'container "main" in pod "n" is waiting to start: ContainerCreating',
            )
            assert message(lambda: logs("default", "two")) == (
                400,
                "a container name must be specified for pod two, choose one of: [a b] or one of "
                "the init containers: [i]",
            )
            assert message(lambda: logs("default", "p", "x")) == (
                400,
                "container x is not valid for pod p",
            )
            await c.advance(5)
            assert message(lambda: logs("default", "p")) == (
                400,
                'container "main" in pod "p" is waiting to start: trying and failing to pull image',
            )
            assert message(lambda: logs("default", "n", previous=True)) == (
                400,
                'previous terminated container "main" in pod "n" not found',
            )

    asyncio.run(body())


def test_usage_of_processes_is_measured(cluster: Any) -> None:
    async def body() -> None:
        async with cluster(manual=False) as c:
            script = "x = b'x' * 60_000_000\nwhile True: pass"
            c.pod("busy", image="python:3", command=["python3", "-c", script])
            c.pod("idle", node="b", image="nginx")
            await c.until(lambda: c.get("busy")["status"]["phase"] == "Running")
            await asyncio.sleep(1.5)
            busy, idle = usage.pod_metrics(c.kubelet)
            assert busy["metadata"]["name"] == "busy"
            assert "annotations" not in busy["metadata"]
            assert int(busy["containers"][0]["usage"]["cpu"][:-1]) > 100_000_000
            assert int(busy["containers"][0]["usage"]["memory"][:-2]) > 60_000
            assert idle["metadata"]["annotations"] == {"mlk8s.dev/simulated": "true"}
            assert idle["containers"][0]["usage"] == {"cpu": "1000000n", "memory": "8192Ki"}
            nodes = usage.node_metrics(c.kubelet)
            assert [each["metadata"]["name"] for each in nodes] == ["a", "b"]
            assert nodes[1]["usage"] == {"cpu": "51000000n", "memory": "929792Ki"}

    asyncio.run(body())


def test_nothing_is_left_when_the_cluster_stops(cluster: Any) -> None:
    async def body() -> Path:
        async with cluster(manual=False) as c:
            for index in range(3):
                c.pod(f"p{index}", image="busybox", command=["sh", "-c", "sleep 100 & sleep 100"])
            await c.until(
                lambda: all(c.get(f"p{i}")["status"]["phase"] == "Running" for i in range(3))
            )
            assert len(processes_of(c.directory)) >= 3
            directory: Path = c.directory
        return directory

    directory = asyncio.run(body())
    time.sleep(0.2)
    assert processes_of(directory) == []
    assert not (directory / "pods").exists()
