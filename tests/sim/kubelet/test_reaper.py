"""Nothing is left of a cluster whose process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mlk8s.sim.kubelet.images import Catalogue, InvalidName, PullError, image_id, parse

_CLUSTER = """
import asyncio, sys
from pathlib import Path
from mlk8s.sim.kubelet.processes import Processes
from mlk8s.sim.kubelet.reaper import Reaper

async def main():
    directory = Path(sys.argv[1])
    processes = Processes(str(directory.resolve()))
    processes.reaper = Reaper.start(directory)
    script = "trap '' TERM; setsid sleep 300 & while true; do date > f; sleep 0.05; done"
    environment = {"PATH": "/usr/bin:/bin"}
    processes.start(["/bin/sh", "-c", script], environment, directory, print, print)
    await asyncio.sleep(0.5)
    print("up", flush=True)
    await asyncio.sleep(300)

asyncio.run(main())
"""


def left(directory: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if str(directory) in (process.environ().get("MLK8S_SIM_CLUSTER", "")):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_simulator_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    directory = tmp_path / "cluster"
    directory.mkdir()
    command = [sys.executable, "-c", _CLUSTER, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as simulator:
        assert simulator.stdout is not None
        assert simulator.stdout.readline() == b"up\n"
        # The shell, and the one that left its group; what the shell runs is too brief to be seen.
        end = time.monotonic() + 10
        while len(left(directory)) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        assert len(left(directory)) >= 2
        os.kill(simulator.pid, number)
    end = time.monotonic() + 10
    while (directory.exists() or left(directory)) and time.monotonic() < end:
        time.sleep(0.05)
    assert left(directory) == []
    assert not directory.exists()
    helpers = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if str(directory) in (process.info["cmdline"] or [])
        and process.status() != psutil.STATUS_ZOMBIE
    ]
    end = time.monotonic() + 5
    while any(psutil.pid_exists(pid) for pid in helpers) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(psutil.pid_exists(pid) for pid in helpers)


def test_image_names_are_completed() -> None:
    assert str(parse("python")) == "docker.io/library/python:latest"
    assert str(parse("nvidia/cuda:12.5.0")) == "docker.io/nvidia/cuda:12.5.0"
    assert str(parse("localhost:5000/a/b:v1")) == "localhost:5000/a/b:v1"
    assert parse("nginx@sha256:ab").digest == "sha256:ab"
    assert image_id("python:3").startswith("docker.io/library/python@sha256:")
    with pytest.raises(InvalidName):
        parse("a//b")


def test_the_catalogue_knows_what_the_course_uses() -> None:
    catalogue = Catalogue.standard()
    assert catalogue.resolve("python:3.11-slim").kind == "process"
    assert catalogue.resolve("registry.k8s.io/pause:3.10").kind == "serve"
    assert catalogue.resolve("nvcr.io/nvidia/k8s-device-plugin:v0.18.0").kind == "serve"
    assert catalogue.resolve("docker.io/library/busybox").kind == "process"
    for missing in ("pyhton:3", "registry.example/python:3", "nginx:nope"):
        with pytest.raises(PullError):
            catalogue.resolve(missing)
