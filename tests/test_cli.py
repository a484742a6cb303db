"""The ``mlk8s`` command as a shell runs it: output, exit status, and what it says to bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mlk8s import __version__, recordings
from mlk8s.cli import app
from mlk8s.gpu.report import SECTIONS
from mlk8s.provenance import Device, Kind, Provenance

Run = Callable[..., CompletedProcess[str]]
Sentence = Callable[[CompletedProcess[str]], tuple[str, str]]

#: What the installed script does.
MAIN = ("-c", "import sys; sys.argv[0] = 'mlk8s'; from mlk8s.cli import main; main()")


@pytest.fixture
def mlk8s(without_gpu: Run) -> Run:
    """The command on a machine without a GPU."""
    return lambda *arguments, **variables: without_gpu(*MAIN, *arguments, **variables)


@pytest.fixture
def mlk8s_on_gpu(on_gpu: Run) -> Run:
    """The command on a machine with the fake one."""
    return lambda *arguments, **variables: on_gpu(*MAIN, *arguments, **variables)


@pytest.fixture
def used_port() -> Iterator[int]:
    """A loopback port that another program listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def good(done: CompletedProcess[str]) -> str:
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


# --- help ---------------------------------------------------------------------------------------


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*path, "--help"], prog_name="mlk8s")
    assert done.exit_code == 0
    text = done.output
    assert f"Usage: mlk8s {' '.join(path)}".rstrip() in text
    explanation = text.split("Usage:")[1].split("╭─")[0].strip().split("\n", 1)[1]
    assert len(explanation.split()) >= 4, "what it does, in a sentence"
    assert explanation.strip().endswith(".")


def test_all_commands_are_there() -> None:
    listed = {" ".join(path) for path in COMMANDS}
    assert listed >= {
        "doctor",
        "gpu",
        "bench matmul",
        "bench memory",
        "bench transfer",
        "bench collective",
        "bench roofline",
        "bench all",
        "record",
        "recordings list",
        "recordings diff",
        "run",
        "serve",
        "lab",
        "notebooks check",
        "notebooks fix",
    }


def test_help_has_a_short_name(mlk8s: Run) -> None:
    text = good(mlk8s("-h"))
    assert text == good(mlk8s("--help"))
    assert all(path[0] in text for path in COMMANDS if path)


def test_version(mlk8s: Run) -> None:
    assert good(mlk8s("--version")) == f"mlk8s {__version__}\n"


def test_an_unknown_command_or_option_is_a_usage_error(mlk8s: Run) -> None:
    for arguments in (["nothing"], ["gpu", "--no-such-option"], ["bench", "matmul", "-n", "x"]):
        done = mlk8s(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Usage: mlk8s" in done.stderr


# --- gpu ----------------------------------------------------------------------------------------


def test_gpu_as_json_live(mlk8s_on_gpu: Run) -> None:
    (device,) = json.loads(good(mlk8s_on_gpu("gpu", "--json")))
    assert set(device) == {*SECTIONS, "provenance"}
    assert device["power"]["draw"] == 312.5
    assert device["provenance"]["kind"] == "live"


def test_gpu_as_json_recorded(mlk8s: Run) -> None:
    (device, *_) = json.loads(good(mlk8s("gpu", "memory", "--json", MLK8S_GPU="h100-sxm")))
    assert set(device) == {"memory", "provenance"}
    assert 79 < device["memory"]["total"] < 80
    assert device["provenance"]["kind"] == "recorded"
    assert device["provenance"]["device"]["part"] == "h100-sxm"


def test_gpu_as_tables(mlk8s_on_gpu: Run) -> None:
    whole = good(mlk8s_on_gpu("gpu"))
    for section in SECTIONS:
        assert section in whole
    power = good(mlk8s_on_gpu("gpu", "power"))
    assert "draw [W]" in power and "312.5" in power
    assert "thermal" not in power
    assert "[live · NVIDIA H100 80GB HBM3" in power


def test_an_unknown_section(mlk8s: Run, sentence: Sentence) -> None:
    problem, step = sentence(mlk8s("gpu", "fans"))
    assert problem == "There is no section 'fans'."
    assert step == f"use one of: {', '.join(SECTIONS)}."


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"MLK8S_GPU": "live"}, "kernel module `nvidia` is not loaded"),
        ({"MLK8S_GPU": "live", "FAKE_INIT": "0", "FAKE_DEVICES": "0"}, "reports no device"),
        ({"FAKE_INIT": "18"}, "Driver/library version mismatch"),
        ({"FAKE_INIT": "4"}, "refused permission"),
        ({"FAKE_INIT": "15"}, "fallen off the bus"),
        ({"FAKE_INIT": "0", "FAKE_LOST_AFTER": "5"}, "fallen off the bus"),
        (
            {"FAKE_INIT": "0", "FAKE_RETURN": "nvmlDeviceGetHandleByIndex_v2=15"},
            "fallen off the bus",
        ),
        ({"MLK8S_GPU": "h1000"}, "There is no recording named 'h1000'"),
    ],
)
def test_no_gpu_to_read(
    mlk8s: Run, sentence: Sentence, variables: dict[str, str], says: str
) -> None:
    problem, step = sentence(mlk8s("gpu", **variables))
    assert says in problem
    assert "MLK8S_GPU=recorded" in step or "h100-sxm" in step


# --- record and recordings ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "`nvidia` is not loaded"),
        ({"FAKE_INIT": "18"}, "version mismatch"),
        # A recording cannot be made from a recording.
        ({"MLK8S_GPU": "h100-sxm"}, "`nvidia` is not loaded"),
    ],
)
def test_record_without_a_gpu_writes_nothing(
    mlk8s: Run, sentence: Sentence, tmp_path: Path, variables: dict[str, str], says: str
) -> None:
    problem, _ = sentence(mlk8s("record", "--out", "here", **variables))
    assert says in problem
    assert list(tmp_path.iterdir()) == []


def test_recordings_list(mlk8s: Run) -> None:
    text = good(mlk8s("recordings", "list"))
    for name in recordings.names():
        device = recordings.load(name).device
        for word in (name, device.name, device.driver):
            assert word is not None and word in text


DEVICE = Device("NVIDIA H100 80GB HBM3", "h100-sxm", "580.95.05", "13.0", 1980, 700.0, "disabled")
ORIGIN = Provenance(Kind.LIVE, "timed", "2026-05-01", DEVICE, {"torch": "2.13.0"})


def write(folder: Path, value: Any) -> None:
    kept = recordings.Entry("test/lines", {"n": 1}, "timed", "0" * 16, value, ORIGIN)
    recordings.write(folder, [kept])


def test_recordings_diff(mlk8s: Run, tmp_path: Path) -> None:
    write(tmp_path / "old" / "h100", {"rate": 200.0, "line": "[/dev/nvidia0] [red]one"})
    write(tmp_path / "new" / "h100", {"rate": 190.0, "line": "[exit status 1]"})
    text = good(mlk8s("recordings", "diff", "old/h100", "new/h100"))
    for word in ("value/rate", "200.0", "190.0", "-5.0 %"):
        assert word in text
    # What a command printed is shown as it is, and not read as the screen's markup.
    assert "[/dev/nvidia0] [red]one" in text and "[exit status 1]" in text
    rows = json.loads(good(mlk8s("recordings", "diff", "old/h100", "new/h100", "--json")))
    assert {row["field"] for row in rows} == {"value/rate", "value/line"}


def test_recordings_diff_of_the_same(mlk8s: Run) -> None:
    assert good(mlk8s("recordings", "diff", "h100-sxm", "h100-sxm")) == "no difference\n"


@pytest.mark.parametrize(
    ("name", "step"), [("h1000", "h100-sxm"), ("nowhere/h100", "no recording"), ("old/h1", "h100")]
)
def test_recordings_diff_of_what_is_not_there(
    mlk8s: Run, sentence: Sentence, tmp_path: Path, name: str, step: str
) -> None:
    write(tmp_path / "old" / "h100", 1)
    problem, found = sentence(mlk8s("recordings", "diff", name, "old/h100"))
    assert "There is no recording" in problem and name in problem
    assert step in found


# --- notebooks ----------------------------------------------------------------------------------


def test_notebooks_check(mlk8s: Run, tmp_path: Path) -> None:
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": "1", "execution_count": 7}
    error = {"output_type": "error", "ename": "E", "evalue": "bad", "traceback": []}
    notebook = {
        "cells": [{**cell, "outputs": [error]}],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (tmp_path / "bad.ipynb").write_text(json.dumps(notebook))
    before = (tmp_path / "bad.ipynb").read_bytes()
    done = mlk8s("notebooks", "check", "bad.ipynb")
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines and all("bad.ipynb" in line for line in lines)
    assert (tmp_path / "bad.ipynb").read_bytes() == before


def test_notebooks_check_of_what_is_none(mlk8s: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.ipynb").write_text("{")
    done = mlk8s("notebooks", "check", "broken.ipynb")
    assert done.returncode == 1
    assert "broken.ipynb" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


# --- servers ------------------------------------------------------------------------------------


def test_serve_without_a_site(mlk8s: Run, sentence: Sentence, tmp_path: Path) -> None:
    problem, step = sentence(mlk8s("serve", "--port", "0"))
    assert "no built site in" in problem
    assert "make book" in step
    assert list(tmp_path.iterdir()) == []


def test_serve_on_a_used_port(
    mlk8s: Run, sentence: Sentence, tmp_path: Path, used_port: int
) -> None:
    (tmp_path / "index.html").write_text("<p>first</p>")
    problem, step = sentence(mlk8s("serve", "--port", str(used_port), "--site", "."))
    assert f"Port {used_port} " in problem
    assert "another port" in step


def test_lab_on_a_used_port(mlk8s: Run, sentence: Sentence, tmp_path: Path, used_port: int) -> None:
    (tmp_path / "notebooks").mkdir()
    problem, step = sentence(mlk8s("lab", "--port", str(used_port)))
    assert f"Port {used_port} on 127.0.0.1 cannot be used: Address already in use." == problem
    assert f"PORT={used_port + 1}" in step
    assert list((tmp_path / "notebooks").iterdir()) == []


@pytest.mark.parametrize("port", ["-1", "0", "65536"])
def test_lab_on_a_port_that_does_not_exist(
    mlk8s: Run, sentence: Sentence, tmp_path: Path, port: str
) -> None:
    (tmp_path / "notebooks").mkdir()
    problem, _ = sentence(mlk8s("lab", f"--port={port}"))
    assert problem == f"Port {port} does not exist."


def test_lab_away_from_the_notebooks(mlk8s: Run, sentence: Sentence) -> None:
    problem, step = sentence(mlk8s("lab"))
    assert problem == "There is no folder notebooks."
    assert "top of the repository" in step


# --- interruption -------------------------------------------------------------------------------


def test_interruption_ends_with_130(
    fake_nvml: Path, clean_environment: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    fake = {"LD_LIBRARY_PATH": str(fake_nvml), "FAKE_LOG": str(log), "FAKE_HANG": "30"}
    process = subprocess.Popen(
        [sys.executable, *MAIN, "gpu"],
        env={**clean_environment, **fake},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 20
    while not log.exists() and time.monotonic() < end:
        time.sleep(0.02)  # until it waits for a driver that does not answer
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err


def test_no_color_codes_where_nobody_looks(mlk8s: Run, clean_environment: dict[str, str]) -> None:
    assert "NO_COLOR" in clean_environment and os.environ.get("FORCE_COLOR") is None
    done = mlk8s("gpu", "fans")
    assert not re.search(r"\x1b\[", done.stderr)
