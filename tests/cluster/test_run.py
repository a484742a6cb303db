"""``run``: what is shown, what comes back, and that nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from mlk8s.cluster import attach, gpu_job, gpu_pod, run
from mlk8s.cluster.connection import NAMESPACE
from mlk8s.cluster.wire import path
from mlk8s.errors import ClusterError, ClusterUnavailable, UsageError
from mlk8s.sim import Cluster

from .conftest import PAUSE, Bench

NODES = "course"


@pytest.fixture(autouse=True)
def nothing_is_left(bench: Bench) -> Iterator[None]:
    yield
    for resource in ("pods", "batch/v1/jobs"):
        left = list(bench.connection.items(path(resource, namespace=NAMESPACE)))
        assert [each["metadata"]["name"] for each in left] == []


def shell(text: str) -> list[str]:
    return ["sh", "-c", text]


def test_a_pod_from_beginning_to_end(bench: Bench) -> None:
    lines: list[str] = []
    pod = gpu_pod("hello", "busybox", shell("echo one; echo two"))
    result = run(pod, bench.connection, show=lines.append)
    assert lines == [
        "pod mlk8s-labs/hello created",
        "hello: Pending",
        "hello: Pending on h100-0",
        "hello: Running on h100-0",
        "  | one",
        "  | two",
        "hello: Succeeded on h100-0",
        "pod hello deleted",
    ]
    assert result.succeeded and result.exit_code == 0 and result.nodes == ("h100-0",)
    assert result.log == "one\ntwo"
    assert result.text == "hello: Succeeded on h100-0, exit code 0."
    assert "one\ntwo" in result._repr_html_()


def test_the_lines_are_the_same_in_every_run(bench: Bench) -> None:
    seen = set()
    for _ in range(4):
        lines: list[str] = []
        pod = gpu_pod("same", "busybox", shell("for i in 1 2 3 4; do echo $i; done"), gpus=0)
        run(pod, bench.connection, show=lines.append)
        seen.add(tuple(re.sub(r"on \S+", "on NODE", line) for line in lines))
    assert len(seen) == 1


def test_log_lines_come_while_it_runs(bench: Bench) -> None:
    lines: list[tuple[float, str]] = []
    pod = gpu_pod("slow", "busybox", shell("echo first; sleep 1; echo last"), gpus=0)
    run(pod, bench.connection, show=lambda line: lines.append((time.monotonic(), line)))
    at = {line: when for when, line in lines}
    assert at["  | last"] - at["  | first"] > 0.7


def test_a_failure_has_its_exit_code(bench: Bench) -> None:
    pod = gpu_pod("bad", "busybox", shell("echo no >&2; exit 3"), gpus=0)
    result = run(pod, bench.connection, show=None)
    assert (result.outcome, result.exit_code, result.log) == ("Failed", 3, "no")
    assert not result.succeeded
    assert result.as_json()["exitCode"] == 3


def test_a_job_of_several_pods(bench: Bench) -> None:
    lines: list[str] = []
    job = gpu_job("many", "busybox", shell("echo a; sleep 0.5; echo b"), completions=3, gpus=0)
    result = run(job, bench.connection, show=lines.append)
    assert result.succeeded and result.log.splitlines() == ["a", "b"] * 3
    logs = [line for line in lines if "|" in line]
    # Pod after pod, whichever is faster.
    assert [line.rpartition("| ")[2] for line in logs] == ["a", "b"] * 3
    assert len({line.split(" | ")[0] for line in logs}) == 3


def test_a_job_that_fails(bench: Bench) -> None:
    job = gpu_job("again", "busybox", shell("exit 4"), gpus=0)
    result = run(job, bench.connection, show=None, timeout_s=60)
    assert (result.outcome, result.exit_code) == ("Failed", 4)
    assert "backoff limit" in result.reason


def test_a_timeout_says_why_and_cleans_up(bench: Bench) -> None:
    lines: list[str] = []
    pod = gpu_pod("endless", PAUSE, product="NVIDIA-B200")
    with pytest.raises(ClusterError, match=r"did not end within 1 s.*never fits here.*timeout_s"):
        run(pod, bench.connection, timeout_s=1, show=lines.append)
    assert any("endless waits (never fits here" in line for line in lines)
    assert lines[-1] == "pod endless deleted"


def test_a_pod_that_waits_says_for_whom_and_goes_on(bench: Bench) -> None:
    bench.pod("holder")
    bench.running("holder")
    lines: list[str] = []
    threading.Timer(0.7, bench.delete, ["holder"]).start()
    result = run(
        gpu_pod("next", "busybox", shell("true")), bench.connection, show=lines.append, timeout_s=20
    )
    assert result.succeeded
    assert [line for line in lines if "busy" in line and "held by mlk8s-labs/holder" in line]


def test_a_pod_that_is_preempted(bench: Bench) -> None:
    bench.make(
        {"metadata": {"name": "top"}, "value": 9}, "scheduling.k8s.io/v1/priorityclasses", ""
    )
    timer = threading.Timer(0.7, lambda: bench.pod("urgent", priority_class="top"))
    timer.start()
    result = run(gpu_pod("modest", PAUSE), bench.connection, show=None, timeout_s=20)
    assert result.outcome == "Failed"
    assert "preemption" in result.reason
    timer.join()
    bench.delete("urgent")


def test_a_pod_that_somebody_deletes(bench: Bench) -> None:
    threading.Timer(0.7, bench.delete, ["gone"]).start()
    result = run(gpu_pod("gone", PAUSE, gpus=0), bench.connection, show=None, timeout_s=20)
    assert result.outcome == "Failed" and "deleted" in result.reason


def test_keep_leaves_it(bench: Bench) -> None:
    lines: list[str] = []
    pod = gpu_pod("kept", "busybox", shell("true"), gpus=0)
    run(pod, bench.connection, show=lines.append, keep=True)
    assert bench.status("kept")["phase"] == "Succeeded"
    assert "kubectl delete pod kept -n mlk8s-labs" in lines[-1]
    with pytest.raises(ClusterError, match="already exists"):
        run(pod, bench.connection, show=None)
    # A refused creation deletes nothing that it did not make.
    assert bench.status("kept")["phase"] == "Succeeded"
    bench.delete("kept")


def test_another_kind_is_refused(bench: Bench) -> None:
    with pytest.raises(UsageError, match="a Pod or a Job, not 'Service'"):
        run({"kind": "Service"}, bench.connection)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_deletes_it(bench: Bench, number: int) -> None:
    assert bench.cluster is not None
    job = gpu_job("long", "busybox", shell("echo begun; sleep 100"), gpus=0)
    code = (
        "import sys; from pathlib import Path; from mlk8s.cluster import embedded\n"
        f"embedded.folder = lambda: Path({str(bench.cluster.directory)!r})\n"
        "sys.argv = ['mlk8s', 'cluster', 'run', '-']; from mlk8s.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MLK8S_CLUSTER": "simulated"},
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(job.yaml())
    process.stdin.close()
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if lines[-1] == "| begun":
            process.send_signal(number)
    assert process.wait(20) == 130
    assert lines[-1] == "job long deleted"


def test_a_server_that_goes_away() -> None:
    with Cluster("cpu") as cluster, attach(cluster) as connection:
        threading.Timer(1.5, cluster.stop).start()
        lines: list[str] = []
        with pytest.raises(ClusterUnavailable, match="does not answer"):
            run(gpu_pod("lost", PAUSE, gpus=0), connection, show=lines.append, timeout_s=30)
        assert "may still be there" in lines[-1]
