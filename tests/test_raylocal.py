"""mlk8s.raylocal: apart from every other Ray, quiet, and gone at the end, however it ends."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlk8s import raylocal
from mlk8s.errors import Mlk8sError, UsageError

PROGRAM = """
import os, sys, time
from mlk8s import raylocal

with raylocal.running(cpus=1, nodes=[raylocal.Machine(cpus=1)]) as local:
    import ray

    @ray.remote(num_cpus=0.1)
    def nodes():
        return len(ray.nodes())

    print(local.folder, ray.get(nodes.remote()), flush=True)
    time.sleep(600)
"""


def of(folder: Path) -> list[psutil.Process]:
    """Processes that name the folder, have a file of it open, or are such a process's children."""
    found = []
    for process in psutil.process_iter():
        try:
            files = [file.path for file in process.open_files()]
            if any(str(folder) in text for text in [*process.cmdline(), *files]):
                found.append(process)
        except psutil.Error:
            continue
    return found


def until(condition: Callable[[], bool], seconds: float = 90) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    """The environment before Ray, without what importing it sets."""
    import ray  # noqa: F401

    return dict(os.environ)


@pytest.fixture(scope="module")
def local(home: Path, before: dict[str, str]) -> Iterator[raylocal.Local]:
    """A Ray that runs in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # of another Ray, which is not there
        with raylocal.running(cpus=1) as found:
            yield found


def test_it_is_a_ray_that_needs_a_token_nobody_else_has(
    local: raylocal.Local, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import ray

    @ray.remote
    def prints() -> str:
        print("from a worker")
        return os.environ["RAY_AUTH_TOKEN"]

    token = ray.get(prints.remote())
    assert os.environ["RAY_AUTH_MODE"] == "token" and len(token) == 64
    assert not list(home.iterdir())
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("ray.data").level == logging.ERROR
    assert "1 CPU" in repr(local)


def test_what_ray_says_is_kept_and_not_printed(
    local: raylocal.Local, capfd: pytest.CaptureFixture[str]
) -> None:
    import ray

    @ray.remote(max_retries=0)
    def dies() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(dies.remote())
    until(lambda: any("worker died" in line for line in local.said))
    assert capfd.readouterr() == ("", "")


def test_a_second_one_in_the_process_is_refused(local: raylocal.Local) -> None:
    with pytest.raises(UsageError, match="connected to a Ray already"):
        raylocal.start()


def test_the_head_is_not_killed_from_its_own_process(local: raylocal.Local) -> None:
    with pytest.raises(UsageError, match="head cannot be killed"):
        local.kill(local.head)


def test_objects_are_seen_in_the_store(local: raylocal.Local) -> None:
    import ray

    with local.watched(every_s=0.05) as peak:
        kept = ray.put(bytes(20 * raylocal.MIB))
        until(lambda: peak.used_mib >= 20)
        del kept
    assert peak.spilled_mib == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_nothing_is_left_when_the_process_is_ended(
    local: raylocal.Local, tmp_path: Path, number: signal.Signals
) -> None:
    """And it neither joins nor stops the other Ray, to which two hints lead."""
    import ray

    address = local.head._handle.gcs_address
    leftover = tmp_path / "ray" / "ray_current_cluster"
    leftover.parent.mkdir()
    leftover.write_text(address)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "RAY_ADDRESS": address, "RAY_TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        name, nodes = line.split()
        folder = Path(name)
        assert nodes == "2" and len(of(folder)) > 6
        process.send_signal(number)
        process.wait(60)
        until(lambda: not folder.exists() and not of(folder))
        said = process.stdout.read() + process.stderr.read()
        assert said == "" if number == signal.SIGKILL else said.endswith("KeyboardInterrupt\n")
    finally:
        process.kill()
        process.wait()
    assert [each.name for each in leftover.parent.iterdir()] == [leftover.name]
    assert ray.get(ray.remote(lambda: 7).remote()) == 7
    nodes_of: Any = ray.nodes  # without types
    assert sum(node["Alive"] for node in nodes_of()) == 1


def test_it_leaves_the_process_as_it_was(
    local: raylocal.Local, before: dict[str, str], home: Path
) -> None:
    import ray

    folder = local.folder
    assert of(folder)
    local.stop()
    assert not folder.exists() and not of(folder) and not ray.is_initialized()
    others = ("HOME", "RAY_ADDRESS", "PYTEST_CURRENT_TEST")
    now = {name: value for name, value in os.environ.items() if name not in others}
    assert now == {name: value for name, value in before.items() if name not in others}
    assert os.environ["RAY_ADDRESS"] == "127.0.0.1:1"
    assert not list(home.iterdir())
    assert signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, signal.default_int_handler)
    local.stop()  # again is no error


def test_a_store_that_ray_refuses_is_refused_before_the_start() -> None:
    with pytest.raises(UsageError, match="74 MiB is smaller than Ray allows"):
        raylocal.start(nodes=[raylocal.Machine(store_mib=74)])


def test_another_thread_than_the_main_one_is_refused() -> None:
    found: list[Mlk8sError] = []

    def start() -> None:
        try:
            raylocal.start()
        except UsageError as error:
            found.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(60)
    assert "main thread" in str(found[0])
