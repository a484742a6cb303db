"""Chapters as Jobs of the embedded cluster: what comes back, what is said, what is left behind."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from rich.console import Console
from typer.testing import CliRunner

from mlk8s.cli import app
from mlk8s.cluster import Connection, attach
from mlk8s.course import canonical, in_pod, on_cluster
from mlk8s.course.run_report import ChapterResult, exit_code
from mlk8s.course.submission import Options
from mlk8s.errors import ClusterError, UsageError
from mlk8s.sim import Cluster

v4: Any = nbformat.v4  # not typed

# A kernel on a machine that does other things takes its time to start.
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    """A cluster with one node of eight GPUs."""
    with Cluster("h100x8", seed=0) as cluster, attach(cluster) as found:
        yield found
        log = (cluster.directory / "server.log").read_text()
        assert "Traceback" not in log, log


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "connection" not in request.fixturenames:
        return
    connection: Connection = request.getfixturevalue("connection")
    namespaces = [str(row["NAME"]) for row in connection.get("namespaces")]
    assert not [name for name in namespaces if name.startswith("mlk8s-run-")]
    for resource in ("pods", "jobs"):
        left = connection.get(resource, namespace="")
        assert not [row for row in left if row["NAMESPACE"] in ("default", "team")]


class Course:
    """A folder with notebooks and labs, and what a run of them printed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notebooks = root / "notebooks"
        self.out = root / "_build"
        self.printed = ""
        self.notebooks.mkdir()
        (root / "labs").mkdir()
        (root / "labs" / "name.txt").write_text("a lab")

    def add(self, name: str, source: str, stored: str = "") -> Path:
        """A chapter with a cell after its parameters, and what that cell has as its output."""
        outputs = [v4.new_output("stream", name="stdout", text=stored)] if stored else []
        cells = [
            v4.new_markdown_cell(f"# {name}"),
            v4.new_code_cell("import mlk8s, os"),
            v4.new_code_cell("n: int = 2  # how many", metadata={"tags": ["parameters"]}),
            v4.new_code_cell(source, outputs=outputs),
        ]
        path = self.notebooks / f"{name}.ipynb"
        canonical.write(v4.new_notebook(cells=cells), path)
        return path

    def run(self, connection: Connection, *chapters: str, **options: Any) -> list[ChapterResult]:
        stream = io.StringIO()
        try:
            return on_cluster.run(
                chapters,
                connection,
                Options(**options),
                out=self.out,
                notebooks=self.notebooks,
                console=Console(file=stream, width=200),
            )
        finally:
            self.printed = stream.getvalue()


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path)


def test_chapters_come_back_executed_with_a_report(connection: Connection, course: Course) -> None:
    said = "print(n * 1.5, os.environ['MLK8S_GPU'], os.environ['MLK8S_CLUSTER'])\n"
    good = course.add(
        "01-good",
        f"{said}print(open('../labs/name.txt').read())",
        "2.0 recorded simulated\na lab\n",
    )
    course.add("02-bad", "print('before')\n1 / 0", "before\n")
    before = good.read_bytes()

    first, second = course.run(connection, jobs=2, parameters={"n": 2})

    assert (first.status, first.error, first.node) == ("passed", "", "h100x8-0")
    assert first.gpu["name"] == "NVIDIA H100 80GB HBM3" and first.gpu["driver"]
    assert first.waited_s is not None and first.waited_s < first.seconds
    assert first.kernel_s is not None and first.kernel_s < first.seconds
    # The library of the pod ran this checkout's notebook, and the source is as it was.
    assert first.executed == course.out / "01-good.ipynb" and good.read_bytes() == before
    outputs = [o for cell in canonical.read(first.executed).cells for o in cell.get("outputs", [])]
    assert "".join(o.get("text", "") for o in outputs) == "3.0 recorded simulated\na lab\n"
    assert first.changes is not None
    assert [(n.old, n.new) for n in first.changes.numbers] == [(2.0, 3.0)]

    assert (second.status, second.failed_cell) == ("failed", 4)
    assert "Cell 4 of 02-bad raised ZeroDivisionError: division by zero." in second.error
    assert str(course.out / "02-bad.ipynb") in second.error
    assert exit_code([first, second]) == 1 and exit_code([first]) == 0

    report = json.loads((course.out / "report.json").read_text())
    assert report["kind"] == "simulated"
    shown = [(c["chapter"], c["status"], c["gpu"]["name"]) for c in report["chapters"]]
    gpu = "NVIDIA H100 80GB HBM3"
    assert shown == [("01-good", "passed", gpu), ("02-bad", "failed", gpu)]
    page = (course.out / "report.html").read_text()
    assert '<a href="01-good.ipynb">' in page and "ZeroDivisionError" in page
    assert "<td class=num>2</td><td class=num>3</td><td class=num>+1</td>" in page
    assert "01-good: running on h100x8-0" in course.printed
    assert "01-good: passed" in course.printed and "02-bad: failed" in course.printed


def test_a_device_that_no_node_has_is_refused_at_once(
    connection: Connection, course: Course
) -> None:
    course.add("01-one", "1")
    with pytest.raises(ClusterError, match=r"No node .* nvidia\.com/none to give; they have: nvid"):
        course.run(connection, resource="nvidia.com/none")


def test_a_pod_that_fits_nowhere_ends_the_wait(connection: Connection, course: Course) -> None:
    course.add("01-one", "1")
    connection.patch("nodes", "h100x8-0", {"spec": {"unschedulable": True}})
    try:
        (result,) = course.run(connection)
    finally:
        connection.patch("nodes", "h100x8-0", {"spec": {"unschedulable": None}})
    assert "never fits here" in result.error and "cordoned" in result.error
    assert result.waited_s is None and result.executed is None


def test_an_image_that_is_missing_is_named(connection: Connection, course: Course) -> None:
    course.add("01-one", "1")
    (result,) = course.run(connection, image="registry.example.org/course:none")
    assert "'registry.example.org/course:none' cannot be pulled" in result.error
    assert "labs/containers/jupyter/Dockerfile" in result.error


def test_a_quota_that_is_used_up_is_named(connection: Connection, course: Course) -> None:
    course.add("01-one", "1")
    connection.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "gpus", "namespace": "team"},
        "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
    }
    connection.apply(quota)
    try:
        (result,) = course.run(connection, namespace="team")
        assert "gets no pod" in result.error and "quota" in result.error
        # What the run did not make it leaves, and what it made there is gone.
        assert [row["NAME"] for row in connection.get("namespaces", "team")] == ["team"]
        assert not connection.get("jobs", namespace="team")
        names = [str(row["NAME"]) for row in connection.get("configmaps", namespace="team")]
        assert not [name for name in names if name.startswith("01-one")]
    finally:
        connection.delete("namespaces", "team")


def test_a_deadline_ends_the_job_and_says_where_it_was(
    connection: Connection, course: Course
) -> None:
    course.add("01-one", "import time; time.sleep(600)")
    (result,) = course.run(connection, deadline_s=2)
    assert re.search(r"01-one was ended after 2 s, (in cell|before its first)", result.error)
    assert "--deadline" in result.error


def test_a_bad_argument_is_refused_before_anything_is_submitted(
    connection: Connection, course: Course
) -> None:
    course.add("01-one", "1")
    with pytest.raises(UsageError, match="no parameter m"):
        course.run(connection, parameters={"m": 1})
    with pytest.raises(UsageError, match="above zero"):
        course.run(connection, jobs=0)
    with pytest.raises(ClusterError, match="no namespace 'nowhere'"):
        course.run(connection, namespace="nowhere")
    course.add("02-large", f"x = '{os.urandom(800_000).hex()}'")
    with pytest.raises(UsageError, match="a ConfigMap holds 1 MiB"):
        course.run(connection, "2")


def test_options_of_the_other_place_are_refused() -> None:
    for arguments, message in (
        (["--image", "x"], "--image has no meaning with --on here."),
        (["--on", "kubernetes", "--update"], "--update has no meaning with --on kubernetes."),
    ):
        done = CliRunner().invoke(app, ["run", *arguments])
        assert isinstance(done.exception, UsageError) and message in str(done.exception)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_deletes_all_that_was_made(
    connection: Connection, course: Course, number: int, status: int
) -> None:
    assert connection.embedded is not None
    course.add("01-one", "import time; time.sleep(600)")
    code = (
        "import sys; from pathlib import Path; from mlk8s.cluster import embedded\n"
        f"embedded.folder = lambda: Path({str(connection.embedded.directory)!r})\n"
        "sys.argv = ['mlk8s', 'run', '--on', 'kubernetes']; from mlk8s.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=course.root,
        env={**os.environ, "MLK8S_CLUSTER": "simulated", "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if "running on" in line:
            assert connection.get("pods", namespace="")
            process.send_signal(number)
    assert process.wait(PATIENCE_S) == status
    assert lines[-1] == "stopping: the Jobs are deleted"
    rows = connection.get("pods", namespace="")
    assert not [row for row in rows if str(row["NAME"]).startswith("01-one")]


# -- the lines of a log ----------------------------------------------------------------------------


def test_a_result_survives_its_way_through_a_log() -> None:
    value = {"notebook": os.urandom(40_000).hex()}
    lines = ["Warning of some library", *in_pod.framed(value)]
    assert max(map(len, lines)) < 16 * 1024
    said = in_pod.read("\n".join(lines))
    assert said.result == value and said.other == ["Warning of some library"]


def test_a_log_with_a_gap_gives_no_result() -> None:
    lines = list(in_pod.framed({"notebook": os.urandom(40_000).hex()}))
    for broken in (lines[1:], lines[:-1], [lines[0][:-3], *lines[1:]]):
        assert in_pod.read("\n".join(broken)).result is None


def test_a_result_that_is_too_large_for_a_log_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_pod, "LIMIT_BYTES", 2**20)
    lines = list(in_pod.framed({"notebook": os.urandom(2**20).hex()}))
    assert len(lines) == 1
    assert re.search(r"has 1\.\d MiB packed, and a log holds 1 MiB", in_pod.read(lines[0]).problem)
