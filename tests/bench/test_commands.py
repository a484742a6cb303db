"""``mlk8s bench`` as a shell runs it: results, refusals, progress, and what Ctrl-C leaves."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from mlk8s.bench.memory import COUNTED
from mlk8s.cli import app

Run = Callable[..., CompletedProcess[str]]
Sentence = Callable[[CompletedProcess[str]], tuple[str, str]]

#: What the installed script does.
MAIN = ("-c", "import sys; sys.argv[0] = 'mlk8s'; from mlk8s.cli import main; main()")
COMMANDS = ("matmul", "memory", "transfer", "collective", "roofline", "all")


@pytest.fixture
def bench(without_gpu: Run) -> Run:
    """``mlk8s bench`` on a machine without a GPU."""
    return lambda *arguments, **variables: without_gpu(*MAIN, "bench", *arguments, **variables)


@pytest.fixture
def bench_on_gpu(on_gpu: Run) -> Run:
    """The same where the driver sees a GPU, and PyTorch, its CPU build, does not."""
    return lambda *arguments, **variables: on_gpu(*MAIN, "bench", *arguments, **variables)


def good(done: CompletedProcess[str]) -> Any:
    assert done.returncode == 0, (done.stdout, done.stderr)
    return json.loads(done.stdout)


# --- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_works(command: str) -> None:
    screen = CliRunner().invoke(app, ["bench", command, "--help"], env={"COLUMNS": "200"})
    example = screen.output.split("Example: mlk8s ")[1].splitlines()[0]
    arguments = shlex.split(example.partition(">")[0])
    assert arguments[:2] == ["bench", command]
    # The parser refuses what it does not know before it shows the help.
    assert CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0
    assert CliRunner().invoke(app, [*arguments, "--unknown", "--help"]).exit_code == 2


@pytest.mark.parametrize(
    ("command", "columns"),
    [
        ("matmul", ["TFLOP/s", "of dense peak", "clocks limited by", "relative error", "flags"]),
        ("memory", ["working set", "GB/s", "bytes counted", "level", "of peak", "flags"]),
        ("transfer", ["direction", "time", "GB/s", "of PCIe peak", "hidden"]),
        ("collective", ["size", "algbw", "busbw"]),
        ("roofline", ["ridge", "intensity", "bound", "predicted", "error"]),
    ],
)
def test_help_explains_the_columns(command: str, columns: list[str]) -> None:
    screen = CliRunner().invoke(app, ["bench", command, "--help"], env={"COLUMNS": "200"})
    explanation = " ".join(screen.output.split("╭─")[0].split())
    assert [name for name in columns if name not in explanation] == []


# --- on this machine's processor ----------------------------------------------------------------


def rows(table: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a result that was measured here, on the processor."""
    assert {origin["kind"] for origin in table["provenance"]} == {"live"}
    assert {origin["device"]["part"] for origin in table["provenance"]} == {"cpu"}
    found: list[dict[str, Any]] = table["rows"]
    return found


def test_matmul(bench: Run) -> None:
    found = good(
        bench("matmul", "--device", "cpu", "-n", "64", "-d", "fp64", "--time", "0.02", "--json")
    )
    assert (found["benchmark"], found["interrupted"], found["errors"]) == ("matmul", False, [])
    (row,) = rows(found["results"][0])
    assert (row["dtype"], row["shape"], row["data"]) == ("fp64", "64×64×64", "random")
    # 2·n³ operations in the median time.
    assert row["TFLOP/s"] == pytest.approx(2 * 64**3 / row["median_ms"] * 1e-9, abs=5e-4)
    assert row["relative error"] == 0, "64 elements of float64 are compared with float64"
    assert isinstance(row["flags"], str)


def test_figures_have_names(bench: Run) -> None:
    arguments = ("--device", "cpu", "-n", "64", "--search", "--sustained", "0.1")
    found = good(bench("matmul", *arguments, "--json"))
    best, sustained = rows(found["results"][0])
    assert best["figure"] == "peak-shape, rested"
    assert (sustained["figure"], sustained["shape"]) == ("sustained", "64×64×64")
    assert "trials in" in found["results"][0]["title"]


def test_memory(bench: Run) -> None:
    # No power of two, so that no recording has it.
    arguments = ("-o", "copy", "-o", "triad", "-n", "6MiB", "--device", "cpu", "--time", "0.01")
    done = bench("memory", *arguments, "--json")
    found = good(done)
    copy, triad = rows(found["results"][0])
    assert (copy["operation"], triad["operation"]) == ("copy", "triad")
    assert copy["working set [MiB]"] == 6
    assert triad["bytes counted"] == COUNTED["triad"] == "2n read + n written"
    for row in (copy, triad):
        traffic = row["working set [MiB]"] * 2**20 / row["time [µs]"] * 1e-3
        assert row["GB/s"] == pytest.approx(traffic, rel=0.02)
        assert isinstance(row["flags"], str)
    assert found["compared"] == []
    assert len(found["not_compared"]) == 2


def test_what_cannot_be_compared_is_named(bench: Run) -> None:
    arguments = ("-o", "read", "-n", "6MiB", "--device", "cpu", "--time", "0.01")
    done = bench("memory", *arguments)
    assert done.returncode == 0
    assert "bytes counted" in done.stdout and "[live · " in done.stdout
    (line,) = done.stderr.splitlines()
    assert "'h100-sxm' has nothing to compare with: read, 6 MiB" in line


def test_collective(bench: Run) -> None:
    arguments = ("--backend", "gloo", "-n", "8KiB", "-n", "1MiB", "--time", "0.02", "--json")
    found = good(bench("collective", "-o", "all_gather", *arguments))
    assert [row["size [B]"] for row in rows(found["results"][0])] == [8192, 1048576]
    for row in found["results"][0]["rows"]:
        # nccl-tests, doc/PERFORMANCE.md: busbw of an all-gather is algbw · (n − 1) / n.
        assert row["busbw [GB/s]"] == pytest.approx(row["algbw [GB/s]"] / 2, rel=1e-3)
    # Processes have nothing in common with the recorded links.
    assert (found["compared"], found["not_compared"]) == ([], [])


def test_roofline(bench: Run) -> None:
    arguments = ("--device", "cpu", "--scale", "0.0001", "--time", "0.001", "--json")
    ceilings, operations = good(bench("roofline", *arguments))["results"]
    compute, memory, *_ = (row["measured"] for row in rows(ceilings))
    assert len(operations["rows"]) >= 10
    for row in rows(operations):
        least = max(row["FLOPs"] / compute * 1e-6, row["bytes"] / memory * 1e-3)
        assert row["predicted [µs]"] >= least * 0.999
        assert isinstance(row["flags"], str)


def test_an_error_leaves_what_was_measured_before_it(bench: Run) -> None:
    arguments = ("-o", "read", "-o", "fetch", "-n", "1MiB", "--device", "cpu", "--time", "0.01")
    done = bench("memory", *arguments, "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert [row["operation"] for row in rows(found["results"][0])] == ["read"]
    (error,) = found["errors"]
    assert error["problem"] == "There is no operation 'fetch'."
    assert error["next_step"] == "use one of read, write, copy, triad."
    assert f"mlk8s: {error['problem']} Next: {error['next_step']}\n" == done.stderr


# --- recorded -----------------------------------------------------------------------------------


def test_matmul_recorded(bench: Run) -> None:
    variables = {"MLK8S_GPU": "h100-sxm"}
    found = good(bench("matmul", "--json", **variables))
    (table,) = found["results"]
    assert [row["dtype"] for row in table["rows"]] == ["fp32", "tf32", "fp16", "bf16"]
    assert all(50 < row["of dense peak [%]"] < 100 for row in table["rows"])
    assert {origin["kind"] for origin in table["provenance"]} == {"recorded"}
    assert (found["compared"], found["not_compared"]) == ([], [])
    text = bench("matmul", "-d", "bf16", **variables).stdout
    assert "bf16" in text and "fp32" not in text
    assert text.count("8192×8192×8192") == 1, "a recorded product is not compared with itself"
    assert "[recorded · " in text


def test_another_machine_is_compared_with_the_h100(bench: Run) -> None:
    here, there = (
        good(bench("matmul", "-d", "bf16", "--json", MLK8S_GPU=name))
        for name in ("h200-sxm", "h100-sxm")
    )
    (row,) = here["compared"][0]["rows"]
    ours, theirs = (found["results"][0]["rows"][0]["TFLOP/s"] for found in (here, there))
    assert (row["TFLOP/s"], row["TFLOP/s, recorded"]) == (ours, theirs)
    assert row["of recorded [%]"] == pytest.approx(100 * ours / theirs, abs=0.06)
    parts = [origin["device"]["part"] for origin in here["compared"][0]["provenance"]]
    assert parts == ["h200-sxm", "h100-sxm"]


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "problem", "step"),
    [
        (["matmul", "-n", "77"], "does not hold bench/matmul with m=77", "n=8192"),
        (["matmul", "-n", "0"], "n = 0 is not a matrix size", "use 1 to 65536"),
        (["matmul", "-d", "int4"], "There is no data type 'int4'", "bf16"),
        (["matmul", "--data", "ones"], "There is no data 'ones'", "random"),
        (["matmul", "--device", "tpu"], "There is no device 'tpu'", "'cpu'"),
        (["matmul", "--search", "-d", "int4"], "There is no data type 'int4'", "bf16"),
        (["memory", "-o", "fetch"], "There is no operation 'fetch'", "read, write, copy, triad"),
        (["memory", "-n", "3 apples"], "'3 apples' is not a size", "64MiB"),
        (["memory", "-n", "1KiB"], "1024 is not the size of a working set", "at least 131,072"),
        (["memory", "-n", "1MiB", "--sweep"], "--size names one size", "one of the two"),
        (["transfer", "-n", "0"], "0 is not the size of a copy", "whole number of bytes"),
        (["collective", "--backend", "mpi"], "There is no backend 'mpi'", "nccl, gloo"),
        (["collective", "--processes", "1"], "nothing crosses a link", "2 ranks"),
        (["collective", "-n", "6"], "The size 6 is not a positive multiple", "4 B"),
        (["roofline", "-d", "fp64"], "There is no data type 'fp64'", "bf16"),
        (["roofline", "--scale", "0"], "0.0 is not a positive number", "use 1"),
        (["roofline", "--device", "tpu"], "There is no device 'tpu'", "'cpu'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_measured(
    bench: Run, sentence: Sentence, arguments: list[str], problem: str, step: str
) -> None:
    found = sentence(bench(*arguments, MLK8S_GPU="h100-sxm"))
    assert problem in found[0]
    assert step in found[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_live_without_a_gpu(bench: Run, sentence: Sentence, command: str) -> None:
    problem, step = sentence(bench(command, MLK8S_GPU="live"))
    assert "`nvidia` is not loaded" in problem
    assert "MLK8S_GPU=recorded" in step


def test_a_report_of_a_gpu_that_pytorch_cannot_use(bench_on_gpu: Run, sentence: Sentence) -> None:
    problem, step = sentence(bench_on_gpu("all", "--quick", "--json"))
    assert "is the CPU build and sees no CUDA device" in problem
    assert "make setup" in step


# --- progress and interruption ------------------------------------------------------------------


@pytest.fixture
def interrupt(
    clean_environment: dict[str, str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Press Ctrl-C when a text appears on the terminal; return status, output and terminal."""

    def run(*arguments: str, at: str) -> tuple[int, str, str]:
        terminal, end = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, *MAIN, "bench", *arguments],
            env={**clean_environment, "TERM": "xterm", "MLK8S_GPU": "h100-sxm"},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=end,
            text=True,
        )
        os.close(end)
        seen, children, pressed = b"", [], False
        try:
            while chunk := os.read(terminal, 65536):
                seen += chunk
                if not pressed and at.encode() in seen:
                    children = psutil.Process(process.pid).children(recursive=True)
                    process.send_signal(signal.SIGINT)
                    pressed = True
        except OSError:  # Linux ends a terminal that nobody holds open with EIO
            pass
        os.close(terminal)
        out, _ = process.communicate(timeout=20)
        assert pressed, seen
        _, alive = psutil.wait_procs(children, timeout=5)
        assert alive == [], "a process was left behind"
        return process.returncode, out, seen.decode()

    return run


def test_progress_moves_on_a_terminal(interrupt: Callable[..., tuple[int, str, str]]) -> None:
    arguments = ("-n", "1MiB", "--device", "cpu", "--time", "0.1")
    status, out, terminal = interrupt("memory", *arguments, at="3 of 4")
    assert status == 130
    for step in ("read, 1 MiB", "1 of 4", "write, 1 MiB", "2 of 4", "copy, 1 MiB"):
        assert step in terminal
    assert "Traceback" not in terminal
    # Two rows stand in a table that says what it is; the third was not finished.
    assert out.startswith("interrupted: 2 rows measured")
    assert "read" in out and "write" in out and "copy" not in out.split("bytes counted")[0]
    assert "[live · " in out


def test_an_interrupted_collective_keeps_its_sizes_and_leaves_no_process(
    interrupt: Callable[..., tuple[int, str, str]],
) -> None:
    arguments = ("--backend", "gloo", "--time", "0.05", "--json")
    status, out, _ = interrupt("collective", *arguments, at="3 of 17")
    assert status == 130
    found = json.loads(out)
    assert found["interrupted"] is True
    sizes = [row["size [B]"] for row in rows(found["results"][0])]
    assert len(sizes) >= 2 and sizes == [1024 * 2**i for i in range(len(sizes))]


def test_an_interrupted_search_keeps_its_trials(
    interrupt: Callable[..., tuple[int, str, str]],
) -> None:
    status, out, _ = interrupt("matmul", "--device", "cpu", "--search", "--json", at="4 of ")
    assert status == 130
    (table,) = json.loads(out)["results"]
    assert table["title"] == f"interrupted: {len(table['rows'])} rows measured"
    assert len(rows(table)) >= 3
    stages = [row["stage"] for row in table["rows"]]
    assert stages[:3] == ["candidate"] * 3 and "winner" not in stages


def test_an_interrupted_report_keeps_the_finished_parts(
    interrupt: Callable[..., tuple[int, str, str]],
) -> None:
    arguments = ("--device", "cpu", "--quick", "--json")
    status, out, _ = interrupt("all", *arguments, at="write, 1024 MiB")
    assert status == 130
    found = json.loads(out)
    assert found["interrupted"] is True
    products, memory = found["results"]
    assert [row["dtype"] for row in rows(products)] == ["fp32"]
    assert [row["operation"] for row in rows(memory)] == ["read"]
    assert memory["title"] == "interrupted: 1 row measured"
