"""``mlk8s exercise`` as a shell runs it, and the same in a kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from .exercises_files import POD, RUNS, write

Run = Callable[..., subprocess.CompletedProcess[str]]
MAIN = "import sys; sys.argv[0] = 'mlk8s'; from mlk8s.cli import main; main()"
SLOW = """
def prepare(work):
    work.until("the sun to rise", lambda: (work.folder / "answer.yaml").is_file())

def check(work):
    work.apply("pod.yaml", "Pod")
    work.until("the sun to rise", lambda: (work.folder / "sun").is_file(), within_s=60)
    return "It rose."
"""


@pytest.fixture
def environment(tmp_path: Path, clean_environment: dict[str, str]) -> dict[str, str]:
    (tmp_path / "run").mkdir(mode=0o700)
    return {**clean_environment, "XDG_RUNTIME_DIR": str(tmp_path / "run")}


@pytest.fixture
def mlk8s(tmp_path: Path, environment: dict[str, str]) -> Iterator[Run]:
    """The command in a course of its own; a cluster that it leaves up is ended."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", MAIN, *arguments],
            env={**environment, **variables},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    yield run
    run("cluster", "down")


def answer(tmp_path: Path, text: str) -> None:
    (tmp_path / "work" / "exercises" / "5.1-count" / "answer.yaml").write_text(text)


def test_an_exercise_in_a_terminal(tmp_path: Path, mlk8s: Run) -> None:
    write(tmp_path, "05-01-count")
    assert "0 of 1 solved" in mlk8s("exercise", "list").stdout
    started = mlk8s("exercise", "start", "5.1")
    assert started.returncode == 0, started.stderr
    assert "How many GPUs" in started.stdout
    assert "work/exercises/5.1-count/answer.yaml" in started.stdout
    answer(tmp_path, "gpus: 7\n")
    wrong = mlk8s("exercise", "check", "5.1")
    assert wrong.returncode == 1 and wrong.stderr == ""
    assert "look at the server again" in wrong.stdout
    assert "Count them" in mlk8s("exercise", "hint", "5.1").stdout
    answer(tmp_path, "gpus: 8\n")
    solved = mlk8s("exercise", "check", "5.1", "--json")
    assert solved.returncode == 0
    assert json.loads(solved.stdout)["solved"] is True
    assert "gpus: 8" in mlk8s("exercise", "solution", "5.1").stdout
    assert "1 of 1 solved" in mlk8s("exercise", "list", "--chapter", "5").stdout
    assert "the starter's again" in mlk8s("exercise", "reset", "5.1").stdout
    (row,) = json.loads(mlk8s("exercise", "list", "--json").stdout)
    assert (row["exercise"], row["tries"], bool(row["solved"])) == ("5.1", 2, True)


def test_refusals_are_a_sentence(tmp_path: Path, mlk8s: Run, sentence: Any) -> None:
    write(tmp_path, "05-01-count", needs="embedded", nodes="'h100*2,cpu'")
    problem, step = sentence(mlk8s("exercise", "start", "5.1"))
    assert problem == "No embedded cluster is up."
    assert "mlk8s cluster up --nodes 'h100*2,cpu'" in step and "--new-cluster" in step
    problem, _ = sentence(mlk8s("exercise", "start", "5.1", MLK8S_CLUSTER="live"))
    assert "embedded one alone" in problem and "Nothing was touched" in problem
    problem, step = sentence(mlk8s("exercise", "list", "--chapter", "6"))
    assert (problem, step) == ("Chapter 6 has no exercises.", "choose one of: 5.")


def test_the_cluster_with_the_right_nodes(tmp_path: Path, mlk8s: Run, sentence: Any) -> None:
    write(tmp_path, "05-01-count", needs="embedded", nodes="cpu")
    write(tmp_path, "05-02-mine", needs="embedded", nodes="nodes.yaml")
    own = tmp_path / "labs/exercises/05-02-mine/nodes.yaml"
    own.write_text("nodes: [{name: mine, preset: cpu}]\n")
    assert mlk8s("cluster", "up", "--nodes", "none").returncode == 0
    problem, step = sentence(mlk8s("exercise", "start", "5.1"))
    assert "nodes cpu" in problem and "has none" in problem
    assert "mlk8s exercise start 5.1 --new-cluster" in step
    for number, node in (("5.1", "cpu-0"), ("5.2", "mine-0")):
        started = mlk8s("exercise", "start", number, "--new-cluster")
        assert started.returncode == 0, started.stderr
        status = json.loads(mlk8s("cluster", "status", "--json").stdout)
        assert status["nodes"] == [node]
    again = mlk8s("exercise", "start", "5.2", "--new-cluster", "--json")
    assert json.loads(again.stdout)["namespace"] == "mlk8s-labs-5-2"


def test_a_live_cluster_is_named_before_it_is_touched(tmp_path: Path, mlk8s: Run) -> None:
    write(tmp_path, "05-01-pod", needs="cluster", check=RUNS, starter={"pod.yaml": POD})
    assert mlk8s("cluster", "up", "--nodes", "cpu").returncode == 0
    kubeconfig = mlk8s("cluster", "kubeconfig").stdout.strip()
    live = {"MLK8S_CLUSTER": "live", "KUBECONFIG": kubeconfig}
    started = mlk8s("exercise", "start", "5.1", **live)
    assert "context mlk8s-simulated (https://127.0.0.1:" in started.stderr
    solved = mlk8s("exercise", "check", "5.1", "--clean", **live)
    assert solved.returncode == 0, solved.stdout + solved.stderr
    assert "Removed from the cluster: the namespace mlk8s-labs-5-1" in solved.stdout


def test_an_interrupted_check_is_no_try_and_can_be_repeated(
    tmp_path: Path, mlk8s: Run, environment: dict[str, str]
) -> None:
    starter = {"pod.yaml": POD, "answer.yaml": "gpus:\n"}
    write(tmp_path, "05-01-count", needs="cluster", nodes="cpu", check=SLOW, starter=starter)
    assert mlk8s("exercise", "start", "5.1", "--new-cluster").returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "exercise", "check", "5.1"],
        env=environment,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "Waiting for the sun to rise, at most 60 s" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    process.stderr.close()
    (row,) = json.loads(mlk8s("exercise", "list", "--json").stdout)
    assert row["tries"] == 0
    (tmp_path / "work/exercises/5.1-count/sun").touch()
    assert mlk8s("exercise", "check", "5.1").returncode == 0


def test_authors_prove_their_exercises(tmp_path: Path, mlk8s: Run) -> None:
    write(tmp_path, "05-01-count")
    proven = mlk8s("exercise", "test", "5.1")
    assert proven.returncode == 0 and "ok  wrong/seven" in proven.stdout
    write(tmp_path, "05-02-given", starter={"answer.yaml": "gpus: 8\n"})
    failed = mlk8s("exercise", "test", "--json")
    assert failed.returncode == 1
    assert [each["holds"] for each in json.loads(failed.stdout)] == [True, False]
    assert not (tmp_path / "work").exists()


def test_in_a_kernel(tmp_path: Path, environment: dict[str, str]) -> None:
    write(tmp_path, "05-01-count")
    write(
        tmp_path, "05-02-pod", needs="embedded", nodes="cpu", check=RUNS, starter={"pod.yaml": POD}
    )
    (tmp_path / "notebooks").mkdir()
    cells = [
        "from mlk8s.course import exercises\nexercises.start('5.1')",
        "exercises.check('5.1')",
        "exercises.hint('5.1')",
        "from pathlib import Path\n"
        "Path('../work/exercises/5.1-count/answer.yaml').write_text('gpus: 8')\n"
        "exercises.check('5.1')",
        "exercises.start('5.2')\nk = exercises.connection('5.2')\nexercises.check('5.2')",
        "k.get('pods')",
        "exercises.reset('5.2')",
        "exercises.progress()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        NotebookClient(
            notebook, timeout=60, resources={"metadata": {"path": str(tmp_path / "notebooks")}}
        ).execute()
    finally:
        os.environ.clear()
        os.environ.update(before)
    shown = [cell["outputs"][-1]["data"] for cell in notebook.cells]
    assert all({"text/html", "text/plain"} <= data.keys() for data in shown)
    texts = [data["text/plain"] for data in shown]
    assert 'exercises.check("5.1")' in texts[0]
    assert "../work/exercises/5.1-count/answer.yaml" in texts[0]
    assert "gpus has no value yet" in texts[1]
    assert "Count them" in texts[2]
    assert "There are 8 GPUs." in texts[3] and "mlk8s-solved" in shown[3]["text/html"]
    assert "one runs" in texts[4]
    assert "one" in texts[5] and "mlk8s-labs-5-2" in texts[5]
    assert "Removed the namespace mlk8s-labs-5-2" in texts[6]
    assert "2 of 2 solved" in texts[7]
    # The cluster ended with the kernel.
    deadline = time.monotonic() + 15
    while list((tmp_path / "run" / "mlk8s").glob("cluster-*")):
        assert time.monotonic() < deadline, "the kernel's cluster is still there"
        time.sleep(0.1)
