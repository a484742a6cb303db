"""labs/ray/autoscale.py: nodes come for tasks and go, and nothing stays after any end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from mlk8s.errors import UsageError
from tests.labs.ray.conftest import LABS, lab


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder for temporary files whose path is short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="as-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def of(base: Path) -> list[psutil.Process]:
    """The processes that have a folder in there."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            told = [*process.cmdline(), *process.environ().values()]
            if any(word.startswith(f"{base}/mlk8s-ray-") for word in told):
                found.append(process)
    return found


def wait_until_gone(base: Path) -> None:
    deadline = time.monotonic() + 60
    while (left := of(base)) or any(base.iterdir()):
        assert time.monotonic() < deadline, (left, sorted(base.iterdir()))
        time.sleep(0.2)


def test_nodes_come_for_tasks_and_go(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(base))
    # Another Ray on the usual port, and addresses that lead nowhere.
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:1")
    monkeypatch.setenv("RAY_TMPDIR", str(base / "other"))
    (base / "other" / "ray").mkdir(parents=True)
    current = base / "other" / "ray" / "ray_current_cluster"
    current.write_text("192.0.2.1:1")
    with socket.socket() as other:
        with suppress(OSError):  # taken already
            other.bind(("127.0.0.1", 6379))
            other.listen()
        said: list[str] = []
        autoscale = lab("autoscale")
        found = autoscale["measure"](tasks=3, task_s=1.0, nodes=2, said=said.append)
    assert current.read_text() == "192.0.2.1:1"
    assert os.environ["RAY_ADDRESS"] == "192.0.2.1:1"
    shutil.rmtree(base / "other")
    wait_until_gone(base)

    first, last = found[0], found[-1]
    assert (first["waiting [tasks]"], first["nodes"], first["GPUs"]) == (3, 0, 0)
    assert (last["done [tasks]"], last["nodes"], last["GPUs"]) == (3, 0, 0)
    # On a busy machine a node that is slow to get its first task is replaced by a third.
    assert max(found.column("GPUs")) in (2, 3)
    assert found.column("time [s]") == sorted(found.column("time [s]"))
    assert found.column("done [tasks]") == sorted(found.column("done [tasks]"))
    for row in found:
        assert row["waiting [tasks]"] + row["running [tasks]"] + row["done [tasks]"] == 3
        assert row["GPUs"] == row["nodes"]
        # No GPU, no task.
        assert row["nodes"] > 0 or row["running [tasks]"] == 0
    told = autoscale["events"](found).column("event")
    assert [line.split(" s  ")[1] for line in said] == told
    assert told[0] == "3 tasks submitted"
    order = [next(i for i, what in enumerate(told) if word in what) for word in ("asked", "up")]
    order += [i for i, what in enumerate(told) if "last task done" in what]
    assert order == sorted(order) and "gone" in told[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_after_a_signal(base: Path, number: signal.Signals) -> None:
    command = [sys.executable, str(LABS / "autoscale.py")]
    environment = {**os.environ, "TMPDIR": str(base)}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    ) as script:
        try:
            assert script.stderr is not None
            for line in script.stderr:
                if "asked for" in line:
                    break
            # The head, the autoscaler and the driver are up, and nodes on their way.
            mine = {process.pid for process in of(base)}
            ports = {
                each.laddr.ip
                for each in psutil.net_connections("inet")
                if each.laddr and each.status == psutil.CONN_LISTEN and each.pid in mine
            }
            assert ports and ports <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
            script.send_signal(number)
            rest = script.stderr.read()
        finally:
            script.kill()
    if number == signal.SIGINT:
        assert script.returncode == 130 and rest.endswith("interrupted; Ray has been stopped\n")
    wait_until_gone(base)


def test_arguments_that_cannot_be_are_refused() -> None:
    measure = lab("autoscale")["measure"]
    with pytest.raises(UsageError, match="nodes = 0 cannot be"):
        measure(nodes=0)
    with pytest.raises(UsageError, match=r"idle_s = 0\.5 cannot be"):
        measure(idle_s=0.5)
