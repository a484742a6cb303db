"""Processes that share a device: what they count, what a neighbor does, and that none is left."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlk8s.bench import sharing, sharing_mps, sharing_neighbor
from mlk8s.bench.sharing_processes import workers
from mlk8s.bench.sharing_tasks import SIZES, perform
from mlk8s.errors import Mlk8sError, UsageError
from mlk8s.provenance import Kind, Table

BRIEF = 0.3  # seconds; the values are checked here, not their precision
STAND_IN = Path(__file__).parent / "mps-control.sh"
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def no_process_left() -> Iterator[None]:
    """Whatever the test does, this process has as many children afterwards as before."""
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.fixture
def mps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_process_left: None) -> Path:
    """A folder on the PATH with a stand-in for the control program."""
    shutil.copy(STAND_IN, tmp_path / sharing_mps.CONTROL)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- what processes count -----------------------------------------------------------------------


def test_processes_on_a_processor_are_counted(no_process_left: None) -> None:
    table = sharing.measure(processes=2, device="cpu", seconds=0.3)
    tasks = [(row["workload"], row["task"]) for row in table]
    assert tasks == [
        ("kernel", "kernel"),
        ("kernels", "kernels"),
        ("inference", "inference"),
        ("matmul", "matmul"),
        ("memory", "memory"),
        ("mix", "inference"),
        ("mix", "matmul"),
    ]
    for row in table[:]:
        assert row["rate [1/s]"] > 0
        assert 0 < row["p50 [µs]"] <= row["p99 [µs]"] <= row["longest [µs]"]
        assert 0.5 <= row["fairness"] <= 1
    # One process has each task of the mix, so there is nobody to be unfair to.
    assert [row["fairness"] for row in table.where(workload="mix")] == [1, 1]
    assert table.provenance[0].kind is Kind.LIVE
    assert "2 processes" in table.provenance[0].label


def test_rates_and_latencies_of_one_process_agree(no_process_left: None) -> None:
    # It waits for each call. Half of n calls take the median or longer, so n medians fill at most
    # twice the stretch; and n of the longest fill it at least.
    seconds = 0.5
    for row in sharing.measure(processes=1, device="cpu", seconds=seconds)[:]:
        calls = row["rate [1/s]"] * seconds / SIZES[row["task"]][2]
        assert calls * row["p50 [µs]"] * 1e-6 < 1.2 * 2 * seconds
        assert calls * row["longest [µs]"] * 1e-6 > 0.3 * seconds


def test_fairness_is_jains_index() -> None:
    # R. Jain, D. Chiu, W. Hawe, DEC-TR-301 (1984): k of n that share equally give k/n.
    assert sharing.fairness([7, 7, 7, 7]) == 1
    assert sharing.fairness([5, 0, 0, 0]) == 0.25
    assert sharing.fairness([3, 3, 0, 0]) == 0.5


# --- neighbors ----------------------------------------------------------------------------------


def test_a_killed_neighbor_on_a_processor_harms_nobody(no_process_left: None) -> None:
    (row,) = sharing_neighbor.measure("time-sliced", "kill", device="cpu", seconds=BRIEF)[:]
    assert row["error"] == "none"
    assert row["after [1/s]"] > 0
    assert row["the neighbor"] == "killed with kernels in flight"
    assert (row["one more GiB"], row["a newcomer"]) == ("yes", "works")


def test_a_neighbor_with_long_kernels_runs_in_the_second_half_only(no_process_left: None) -> None:
    (row,) = sharing_neighbor.measure("time-sliced", "long", device="cpu", seconds=BRIEF)[:]
    count = int(row["the neighbor"].split()[0])
    # A 512³ product takes this machine more than 0.1 ms; more would have begun too early.
    assert 0 < count < BRIEF / 1e-4
    assert row["last answer [ms]"] == pytest.approx(1e3 * BRIEF, rel=0.2)


# --- processes ----------------------------------------------------------------------------------


def test_a_process_that_dies_or_is_silent_is_an_answer(no_process_left: None) -> None:
    with workers(perform, "cpu", [{}] * 3) as (killed, broken, silent):
        killed.tell("flood", at=time.monotonic() + 60, end=0)
        os.kill(killed.pid, signal.SIGKILL)
        assert killed.answer(15).error == "was killed by SIGKILL"
        killed.tell("open")  # to nobody, without an error
        assert broken.ask("nonsense", 30).error == (
            "ended with exit status 1: AssertionError: nonsense"
        )
        assert silent.ask("flood", 0.2, at=time.monotonic() + 60, end=0).error == (
            "gave no answer within 0 s"
        )


def test_what_pytorch_refuses_is_an_answer_and_the_process_lives(no_process_left: None) -> None:
    with workers(perform, "cpu", [{}]) as (worker,):
        error = worker.ask("allocate", 30, mib=2**33).error
        assert "allocate" in error
        assert "\n" not in error
        assert worker.ask("open", 30).error == ""


def test_processes_end_with_their_parent(tmp_path: Path, no_process_left: None) -> None:
    code = (
        "from mlk8s.bench.sharing_processes import workers\n"
        "from mlk8s.bench.sharing_tasks import SIZES, perform\n"
        "import time\n"
        "with workers(perform, 'cpu', [{}]) as (worker,):\n"
        "    worker.tell('flood', at=time.monotonic() + 600, end=0)\n"
        "    print(worker.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    until(lambda: not psutil.pid_exists(pid))


# --- the service of MPS -------------------------------------------------------------------------


def test_mps_runs_for_the_block_in_a_directory_of_its_own(mps: Path) -> None:
    with sharing_mps.service() as service:
        folder = Path(service.environment[sharing_mps.PIPES])
        assert folder.is_relative_to(mps)
        assert service.clients() & {os.getpid()} == set()
        with subprocess.Popen(["sleep", "60"], env={**os.environ, **service.environment}) as client:
            until(lambda: client.pid in service.clients())
            client.kill()
        assert sharing_mps.running()
    assert not sharing_mps.running()
    assert not folder.exists()


def test_mps_is_stopped_when_the_block_fails(mps: Path) -> None:
    with pytest.raises(ZeroDivisionError), sharing_mps.service():
        _ = 1 / 0
    assert not sharing_mps.running()


def test_mps_that_does_not_quit_is_killed(mps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MPS", "hangs")
    with sharing_mps.service():
        assert sharing_mps.running()
    assert not sharing_mps.running()


def test_mps_is_stopped_when_the_measuring_program_is_killed(mps: Path) -> None:
    code = (
        "from mlk8s.bench import sharing_mps\n"
        "import time\n"
        "with sharing_mps.service():\n"
        "    print('runs', flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"runs\n"
        assert sharing_mps.running()
        parent.kill()
    until(lambda: not sharing_mps.running())
    until(lambda: not list(mps.glob("mlk8s-mps-*")))


def test_mps_that_does_not_start_says_why(mps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MPS", "refuses")
    with (
        pytest.raises(Mlk8sError, match=r"did not start: Cannot find MPS .* Next: check"),
        sharing_mps.service(),
    ):
        raise AssertionError("it started")


def test_mps_of_somebody_else_is_named_and_left_alone(mps: Path) -> None:
    sleep = shutil.which("sleep")
    assert sleep
    other = mps / "nvidia-cuda-mps-server"
    shutil.copy(sleep, other)
    with subprocess.Popen([other, "60"]) as process:
        until(lambda: bool(sharing_mps.running()))
        who = f"process {process.pid} of user {psutil.Process().username()}"
        with (
            pytest.raises(Mlk8sError, match=f"runs here already \\({who}\\)"),
            sharing_mps.service(),
        ):
            raise AssertionError("it started")
        assert process.poll() is None
        process.kill()


def test_mps_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Mlk8sError, match=r"nvidia-cuda-mps-control, which is neither on the PATH"):
        sharing_mps.find()


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sharing.measure("mig", 2), "no mode 'mig'"),
        (lambda: sharing.measure(processes=0), "0 processes"),
        (lambda: sharing.measure(processes=17), "use 1 to 16"),
        (lambda: sharing.measure("mps-quarter", 5), "use 1 to 4"),
        (lambda: sharing.measure("mps", 2, device="cpu"), "no MPS for a processor"),
        (lambda: sharing.measure(device="tpu"), "no device 'tpu'"),
        (lambda: sharing.sweep([], [1]), "nothing to measure"),
        (lambda: sharing_neighbor.measure("mps", "loud"), "no neighbor 'loud'"),
        (
            lambda: sharing_neighbor.measure("time-sliced", "fault", device="cpu"),
            "use one of: long, kill",
        ),
    ],
)
def test_bad_input_is_one_clear_error(call: Callable[[], object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        call()


# --- the benchmark ------------------------------------------------------------------------------


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``benchmarks/sharing.py`` on the recording of the H200."""
    monkeypatch.setenv("MLK8S_GPU", "h200-sxm")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("sharing", None)
    yield importlib.import_module("sharing")
    sys.modules.pop("sharing")


def test_all_conditions_are_met_on_the_recorded_h200(benchmark: Any) -> None:
    *measured, judged = benchmark.compare()
    assert [table.provenance[0].kind for table in measured] == [Kind.RECORDED] * 3
    assert len(judged) >= 9
    assert set(judged.column("met")) == {True}


def changed(table: Table, where: dict[str, Any], **values: Any) -> Table:
    """A copy with other values in the rows that match."""
    rows = [
        {**row, **values} if all(row[k] == v for k, v in where.items()) else dict(row)
        for row in table
    ]
    return Table(rows, *table.provenance)


@pytest.mark.parametrize(
    ("where", "values", "missed"),
    [
        (
            {"sharing": "mps", "workload": "inference"},
            {"rate [1/s]": 100.0},
            ["inference, 4 processes, MPS / by turns"],
        ),
        (
            {"sharing": "time-sliced", "workload": "memory"},
            {"rate [1/s]": 3000.0},
            ["copies by turns [1/s], from the change of context"],
        ),
        ({"workload": "matmul"}, {"fairness": 0.6}, ["least fairness among equals"]),
    ],
)
def test_a_figure_that_contradicts_the_chapter_is_a_condition_missed(
    benchmark: Any, where: dict[str, Any], values: dict[str, Any], missed: list[str]
) -> None:
    shared, _, _, _ = benchmark.compare()
    beside = {
        ("time-sliced", kind): sharing_neighbor.measure("time-sliced", kind)
        for kind in sharing_neighbor.NEIGHBORS
    }
    rows = benchmark.verdicts(changed(shared, where, **values), beside)
    assert [row["figure"] for row in rows if not row["met"]] == missed


def test_a_victim_of_turns_is_a_condition_missed(benchmark: Any) -> None:
    shared, _, _, _ = benchmark.compare()
    beside = {
        ("time-sliced", kind): sharing_neighbor.measure("time-sliced", kind)
        for kind in sharing_neighbor.NEIGHBORS
    }
    killed = beside["time-sliced", "kill"]
    beside["time-sliced", "kill"] = changed(killed, {}, error="CUDA error")
    rows = benchmark.verdicts(shared, beside)
    missed = [row["figure"] for row in rows if not row["met"]]
    assert missed == ["error beside a neighbor by turns, kill"]
