"""Collective operations between real processes: their figures, their proof, and their end."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import psutil
import pytest

from mlk8s.bench import collective, ranks, timing
from mlk8s.bench.collective import OPERATIONS
from mlk8s.errors import Mlk8sError, RecordingError, UsageError
from mlk8s.provenance import Kind

Run = Callable[..., CompletedProcess[str]]

BRIEF = 0.01  # seconds; the values are checked here, not their precision
COLUMNS = ["operation", "ranks", "size [B]", "time [µs]", "algbw [GB/s]", "busbw [GB/s]"]
# nccl-tests, doc/PERFORMANCE.md, "Summary"; src/sendrecv.cu for send_recv.
FACTORS = {
    "all_reduce": {2: 1.0, 3: 4 / 3, 8: 1.75},
    "all_gather": {2: 0.5, 3: 2 / 3, 8: 0.875},
    "reduce_scatter": {2: 0.5, 3: 2 / 3, 8: 0.875},
    "broadcast": {2: 1.0, 3: 1.0, 8: 1.0},
    "send_recv": {2: 1.0, 3: 1.0, 8: 1.0},
}


@pytest.fixture
def no_process_left() -> Iterator[None]:
    """Whatever the test does, this process has as many children afterwards as before."""
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before


# --- arithmetic ---------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_factors_are_those_of_nccl_tests(operation: str) -> None:
    for count, factor in FACTORS[operation].items():
        assert collective.busbw_factor(operation, count) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("operation", "count", "size", "time_us", "algbw", "busbw"),
    [
        # Printed by nccl-tests on a GB200 NVL72 rack: coreweave/nccl-tests, pull request 43.
        ("all_reduce", 72, 536870912, 1806.7, 297.16, 586.06),
        ("all_reduce", 72, 8589934592, 20299, 423.16, 834.57),
        # Printed by RCCL's all_gather_perf, 32 ranks: ROCm/rccl, issue 1490.
        ("all_gather", 32, 65536, 107.5, 0.61, 0.59),
        ("all_gather", 32, 1048576, 1456.6, 0.72, 0.70),
    ],
)
def test_published_output_is_reproduced(
    operation: str, count: int, size: int, time_us: float, algbw: float, busbw: float
) -> None:
    time_s = time_us * 1e-6
    # Half a unit in the last place of what was printed.
    assert collective.algorithm_bandwidth(size, time_s) == pytest.approx(algbw, 1e-4, 0.005)
    assert collective.bus_bandwidth(operation, count, size, time_s) == pytest.approx(
        busbw, 1e-4, 0.005
    )


@pytest.mark.parametrize("operation", OPERATIONS)
def test_one_rank_has_no_bus_bandwidth(operation: str) -> None:
    with pytest.raises(UsageError, match="for 1 rank: nothing crosses a link") as caught:
        collective.busbw_factor(operation, 1)
    assert "backend='gloo'" in caught.value.next_step


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"operation": "allreduce"}, "There is no operation 'allreduce'"),
        ({"operation": "allreduce", "backend": "nccl"}, "There is no operation 'allreduce'"),
        ({"backend": "mpi"}, "There is no backend 'mpi'"),
        ({"processes": 1}, "no bus bandwidth for 1 rank: nothing crosses a link"),
        ({"processes": 1, "backend": "nccl"}, "no bus bandwidth for 1 rank"),
        ({"processes": 0}, "no bus bandwidth for 0 ranks"),
        ({"processes": 64}, "64 ranks are too many to verify"),
        ({"sizes": []}, "There is no size"),
        ({"sizes": [1024, 0]}, "The size 0 is not a positive multiple of 8 B"),
        ({"sizes": [-8]}, "The size -8 is not a positive multiple of 8 B"),
        ({"sizes": [1024], "processes": 3}, "The size 1024 is not a positive multiple of 12 B"),
        ({"sizes": [6], "backend": "nccl"}, "The size 6 is not a positive multiple of 4 B"),
        ({"min_time_s": 0}, "min_time_s = 0 is no time"),
        ({"min_time_s": float("nan")}, "min_time_s = nan is no time"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        collective.measure(**{"backend": "gloo", **arguments})
    assert caught.value.next_step.startswith(("use ", "name "))


def test_the_size_that_is_proposed_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLK8S_GPU", "h100-sxm")
    with pytest.raises(UsageError) as caught:
        collective.measure(processes=3, sizes=[1024])
    assert caught.value.next_step == "use 1020 B."
    with pytest.raises(RecordingError):  # and so past the check
        collective.measure(processes=3, sizes=[1020])


# --- between processes --------------------------------------------------------------------------


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize(
    ("operation", "count"),
    [
        ("all_reduce", 2),
        ("all_gather", 3),
        ("reduce_scatter", 3),
        ("broadcast", 2),
        ("send_recv", 3),  # one of them has nothing to do
    ],
)
def test_processes(operation: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The environment says something else, and there may be no network at all.
    monkeypatch.setenv("MLK8S_GPU", "h100-sxm")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch0")
    steps: list[tuple[str, int, int]] = []
    sizes = [24, 48_000, 4_800_000]  # the last has several slices
    with timing.progress(lambda *step: steps.append(step)):
        table = collective.measure(
            operation, backend="gloo", processes=count, sizes=sizes, min_time_s=BRIEF
        )
    assert table.columns == COLUMNS
    assert table.column("size [B]") == sizes
    assert [step[1:] for step in steps] == [(0, 3), (1, 3), (2, 3)]
    assert steps[1][0] == f"{operation}, {count} ranks, 48,000 B"
    for row in table:
        assert (row["operation"], row["ranks"]) == (operation, count)
        size, time_us = row["size [B]"], row["time [µs]"]
        assert isinstance(size, int) and isinstance(time_us, float)
        algbw = size / (time_us * 1e-6) / 1e9
        # Each is rounded to five digits.
        assert row["algbw [GB/s]"] == pytest.approx(algbw, rel=2e-4)
        assert row["busbw [GB/s]"] == pytest.approx(FACTORS[operation][count] * algbw, rel=2e-4)
    (origin,) = table.provenance
    assert origin.kind is Kind.LIVE
    assert "slowest rank, median of blocks" in origin.method
    device = origin.device
    assert device is not None and device.part == "cpu"
    assert device.name.endswith(f"CPU, {count} processes")
    assert "torch" in dict(origin.software)


# What the ranks import before anything else. Rank 1 spoils the last element of its own sums.
SPOIL = """
import os
if os.environ.get("RANK") == "1":
    import torch.distributed as dist
    right = dist.all_reduce
    def all_reduce(tensor, *args, **options):
        right(tensor, *args, **options)
        if tensor.numel() > 1:
            tensor[-1] += 1
    dist.all_reduce = all_reduce
"""


@pytest.mark.usefixtures("no_process_left")
def test_a_wrong_sum_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(SPOIL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(Mlk8sError) as caught:
        collective.measure(backend="gloo", processes=2, sizes=[1024], min_time_s=BRIEF)
    # 1 · 256 from rank 0, 2 · 256 from rank 1.
    assert caught.value.problem == (
        "Rank 1 of 2 ended with exit status 1, and the others were ended; its last line: "
        "ArithmeticError: all_reduce of 1024 B gave 769 at element 255, where 768 is right"
    )
    assert caught.value.next_step.endswith(".")


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_ends_the_others(rank: int) -> None:
    def kill(what: str, done: int, total: int) -> None:
        if done == 1:
            for child in psutil.Process().children():
                if child.environ().get("RANK") == str(rank):
                    child.kill()

    sizes = [1024] * 1000
    with (
        timing.progress(kill),
        pytest.raises(Mlk8sError, match=f"^Rank {rank} of 2 was killed by SIGKILL") as caught,
    ):
        collective.measure(backend="gloo", processes=2, sizes=sizes, min_time_s=BRIEF)
    assert "dmesg" in caught.value.next_step


STUCK = """
import time
import torch.distributed as dist

def stuck(device):
    yield device
    if dist.get_rank() == 1:
        time.sleep(600)
    dist.barrier()
"""


@pytest.mark.usefixtures("no_process_left")
def test_ranks_that_say_nothing_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hang.py").write_text(STUCK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import hang  # type: ignore[import-not-found]

    with pytest.raises(Mlk8sError, match="None of the 2 ranks reported for 2 s") as caught:
        list(ranks.run(hang.stuck, {}, processes=2, backend="gloo", timeout_s=2))
    assert caught.value.next_step


PARENT = """
from mlk8s.bench import collective, timing

def say(what, done, total):
    print(done, flush=True)

try:
    with timing.progress(say):
        collective.measure(backend="gloo", processes=2, sizes=[1024] * 1000, min_time_s=0.01)
except timing.Interrupted as stop:
    print("kept", [row["size [B]"] for row in stop.rows], flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_ranks_end_with_their_parent(
    number: int, clean_environment: dict[str, str], tmp_path: Path
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean_environment, "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    with parent:
        assert parent.stdout is not None
        assert [parent.stdout.readline() for _ in range(3)] == ["0\n", "1\n", "2\n"]
        started = psutil.Process(parent.pid).children(recursive=True)
        assert len(started) == 2
        os.killpg(parent.pid, number)  # as a terminal does it, to all in the foreground
        out, err = parent.communicate(timeout=30)
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == []
    assert err == ""
    if number == signal.SIGINT:
        assert parent.returncode == 0
        *steps, kept = out.splitlines()
        rows = int(steps[-1]) if steps else 2
        # The rows that had been reported; the last one perhaps before its step was said.
        assert kept in (f"kept {[1024] * rows}", f"kept {[1024] * (rows + 1)}")


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("delay_s", [0.002, 0.004, 0.008, 0.016])
def test_an_interrupt_while_ranks_start(delay_s: float) -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    # Hypothesis looks on when garbage is collected, and Python drops what is raised there.
    gc.disable()
    try:
        signal.setitimer(signal.ITIMER_REAL, delay_s)
        with pytest.raises(timing.Interrupted) as caught:
            collective.measure(backend="gloo", processes=8, sizes=[1024], min_time_s=BRIEF)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    assert caught.value.rows == []


# --- on GPUs ------------------------------------------------------------------------------------


def test_a_measurement_that_was_not_recorded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLK8S_GPU", "h100-sxm")
    with pytest.raises(RecordingError, match="does not hold bench/collective"):
        collective.measure("all_gather", processes=63, sizes=[63 * 4])


REFUSED = """
import torch
from mlk8s.bench import collective
from mlk8s.errors import Mlk8sError

def say(**arguments):
    try:
        collective.measure(**arguments)
    except Mlk8sError as error:
        print(type(error).__name__, error.problem, error.next_step, sep="|")

# Whatever this machine really has.
torch.cuda.is_available = lambda: False
say()
torch.cuda.is_available = lambda: True
torch.distributed.is_nccl_available = lambda: False
say()
torch.distributed.is_nccl_available = lambda: True
torch.cuda.device_count = lambda: 1
say()
say(processes=2)
torch.cuda.device_count = lambda: 3
say(processes=5)
say(sizes=[1024])
"""


def test_what_a_machine_lacks_is_named(on_gpu: Run) -> None:
    done = on_gpu("-c", REFUSED, MLK8S_GPU="live")
    assert done.returncode == 0, done.stderr
    no_cuda, no_nccl, one, two, five, third = (x.split("|") for x in done.stdout.splitlines())
    assert no_cuda[0] == no_nccl[0] == "GpuUnavailable"
    assert "sees no CUDA device" in no_cuda[1]
    assert no_nccl[1].endswith("was built without NCCL.")
    assert {one[0], two[0], five[0], third[0]} == {"UsageError"}
    assert "There is no bus bandwidth for 1 rank: nothing crosses a link" in one[1]
    assert two[1] == "2 ranks need a GPU each, and this machine shows 1."
    assert two[2] == "measure processes on the CPU with backend='gloo'."
    assert five[1] == "5 ranks need a GPU each, and this machine shows 3."
    assert five[2].startswith("use processes=3 or fewer, or ")
    assert third[1].startswith("The size 1024 is not a positive multiple of 12 B")
