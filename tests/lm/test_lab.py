"""labs/training: the command, also under torchrun; the runtime; what bash makes of a source."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from mlk8s.cluster import Connection, connect
from mlk8s.lm import model

LAB = Path(__file__).parents[2] / "labs" / "training"
SHORT = ["--texts", "60", "--batch", "4", "--print-every", "2"]


def run(
    folder: Path, *arguments: str, launcher: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *launcher, str(LAB / "train.py"), *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def losses(output: str) -> dict[int, float]:
    found = re.findall(r"^step=(\d+) loss=(\d+\.\d+) lr=\S+ tokens_per_s=\d+$", output, re.M)
    return {int(step): float(loss) for step, loss in found}


def test_two_processes_train_as_one_does_and_the_command_goes_on(tmp_path: Path) -> None:
    alone = run(tmp_path, "pretrain", "--out", "one", "--steps", "6", *SHORT)
    assert alone.returncode == 0, alone.stderr
    pair = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    both = run(tmp_path, "pretrain", "--out", "two", "--steps", "6", *SHORT, launcher=pair)
    assert both.returncode == 0, both.stderr
    assert set(losses(alone.stdout)) == {2, 4, 6}
    # Rounding differs between the two, and six steps amplify it a little.
    assert losses(both.stdout) == pytest.approx(losses(alone.stdout), abs=2e-3)
    assert "on 2 processes" in both.stdout
    assert model.load(tmp_path / "two").parameters.total < 1_000_000
    tuned = run(
        tmp_path, "finetune", "--base", "two", "--out", "tuned", "--steps", "4", "--judge", "2",
        "--checkpoints", "ck", *SHORT,
    )  # fmt: skip
    assert tuned.returncode == 0, tuned.stderr
    assert re.search(r"^valid=\S+ right_kind=\S+ right_fields=\S+ exact=\S+$", tuned.stdout, re.M)
    # Merged, so a server needs no adapters.
    assert model.load(tmp_path / "tuned").parameters.total < 1_000_000


def test_mistakes_of_the_command_line(tmp_path: Path) -> None:
    done = run(tmp_path, "finetune", "--out", "x")
    assert done.returncode == 2 and "finetune needs --base" in done.stderr
    done = run(tmp_path, "finetune", "--base", str(tmp_path), "--out", "x")
    assert done.returncode == 1 and " Next: " in done.stderr and "Traceback" not in done.stderr
    told = run(tmp_path, "--help").stdout
    assert "torchrun --nproc-per-node 2 train.py" in told


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    with connect("simulated") as found:
        yield found


def test_the_runtime_is_one_that_trainer_takes(connection: Connection) -> None:
    connection.enable("trainer")
    done = connection.apply(LAB / "runtime.yaml")
    assert "trainingruntime/mlk8s-course created" in str(done)
    assert connection.read("pvc", "models")["metadata"]["namespace"] == connection.namespace


@pytest.fixture(scope="module")
def heredoc() -> ModuleType:
    spec = spec_from_file_location("heredoc", LAB / "heredoc.py")
    assert spec and spec.loader
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_a_source_does_not_arrive_as_it_was_written(heredoc: ModuleType) -> None:
    arrived = heredoc.arrives(heredoc.careless)
    assert 'print("this costs ")' in arrived
    assert 'print("today is whatever bash was told")' in arrived
    assert 'print("a backslash: \\")' in arrived  # one, where two were written: not even Python
    assert heredoc.difference(heredoc.careless).count("\n-    print") == 3
    assert heredoc.difference(heredoc.careful) == ""
