"""Chapters executed in real kernels: what comes out, what is stored, what is left behind."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from rich.console import Console

import mlk8s
from mlk8s.course import canonical
from mlk8s.course.freshness import digest_of, last, package_files
from mlk8s.course.run import RunResult, Status, exit_code, find, run
from mlk8s.errors import NotebookError, UsageError

v4: Any = nbformat.v4  # not typed


class Course:
    """A folder with notebooks, and what a run of them printed."""

    def __init__(self, root: Path) -> None:
        self.notebooks = root / "notebooks"
        self.out = root / "_build" / "runs"
        self.ran = root / "ran.txt"  # a cell of every chapter adds a line each time it runs
        self.notebooks.mkdir()
        self.printed = ""

    def add(self, name: str, *sources: str) -> Path:
        path = self.notebooks / f"{name}.ipynb"
        count = (
            f"import mlk8s\nwith open({str(self.ran)!r}, 'a') as f:\n    f.write({name!r} + '\\n')"
        )
        cells = [
            v4.new_markdown_cell(f"# {name}"),
            v4.new_code_cell(count),
            v4.new_code_cell("n: int = 2  # how many", metadata={"tags": ["parameters"]}),
            *(v4.new_code_cell(source) for source in sources),
        ]
        canonical.write(v4.new_notebook(cells=cells), path)
        return path

    def run(self, *chapters: str, **options: Any) -> list[RunResult]:
        stream = io.StringIO()
        options.setdefault("inputs", [])  # the package itself is edited while it is tested
        try:
            console = Console(file=stream, width=120)
            return run(chapters, notebooks=self.notebooks, out=self.out, console=console, **options)
        finally:
            self.printed = stream.getvalue()

    def executions(self) -> list[str]:
        return sorted(self.ran.read_text().split()) if self.ran.exists() else []


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path)


def printed_by(path: Path) -> str:
    """All that the cells of a stored notebook printed."""
    outputs = [o for cell in canonical.read(path).cells for o in cell.get("outputs", [])]
    return "".join(o.get("text", "") for o in outputs)


def test_chapters_run_in_this_interpreter_and_are_measured(
    course: Course, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A kernelspec that names another interpreter, as a user may have one, is not used.
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        '{"argv": ["/bin/false"], "display_name": "x", "language": "python"}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    source = "import os, sys\nprint(sys.executable, os.getcwd(), os.environ['MLK8S_GPU'])"
    first = course.add("01-one", source, "x = bytearray(200 * 2**20)\nlen(x)", "del x")
    course.add("02-two", "import time", "time.sleep(0.5)")
    before = first.read_bytes()

    results = course.run(gpu="h100", jobs=2)

    assert [(r.chapter, r.status, r.cells) for r in results] == [
        ("01-one", Status.PASSED, 5),
        ("02-two", Status.PASSED, 4),
    ]
    assert exit_code(results) == 0
    assert printed_by(course.out / "01-one.ipynb").split() == [
        sys.executable,
        str(course.notebooks),
        "h100",
    ]
    assert first.read_bytes() == before
    assert results[0].peak_mib > results[1].peak_mib + 150
    assert (results[1].slowest[0].cell, results[1].slowest[0].first_line) == (5, "time.sleep(0.5)")
    summary = json.loads((course.out / "summary.json").read_text())
    assert [c["chapter"] for c in summary["chapters"]] == ["01-one", "02-two"]
    assert summary["chapters"][1]["slowest"][0]["seconds"] >= 0.5
    assert summary["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "without encryption" not in course.printed
    for heading in ("time [s]", "peak memory [MiB]", "code cells"):
        assert heading in course.printed


def test_a_terminal_shows_how_far_a_chapter_is(course: Course) -> None:
    course.add("01-one", "import time\ntime.sleep(1)")
    stream = io.StringIO()
    terminal = Console(file=stream, width=120, force_terminal=True, color_system=None)
    run(notebooks=course.notebooks, out=course.out, inputs=[], console=terminal)
    assert "01-one running  cell 3/4" in stream.getvalue()  # while it sleeps in the fourth
    assert "running  cell 4/4" not in stream.getvalue()


def test_a_failing_cell_is_shown_in_full(course: Course) -> None:
    bad = course.add("01-bad", "print('so far')\ndef f():\n    return n / 0\nf()", "print('never')")
    course.add("02-good")
    before = bad.read_bytes()

    results = course.run(update=True)

    assert [r.status for r in results] == [Status.FAILED, Status.PASSED]
    assert exit_code(results) == 1
    assert "Cell 4 of 01-bad raised ZeroDivisionError: division by zero." in str(results[0].error)
    for text in ("   1 │ print('so far')", "   4 │ f()", "\nso far\n", "----> 3     return n / 0"):
        assert text in course.printed
    assert "never" not in course.printed
    assert bad.read_bytes() == before
    assert not is_fresh(bad, course.out, [])
    assert "ZeroDivisionError" in (course.out / "01-bad.ipynb").read_text()


def test_a_hung_kernel_is_killed(course: Course) -> None:
    source = (
        "import os, signal, subprocess, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        "print(os.getpid(), child.pid, flush=True)\n"
        "time.sleep(300)"
    )
    course.add("01-hung", source)
    began = time.monotonic()

    [result] = course.run(timeout_s=1.5)

    assert time.monotonic() - began < 30
    assert result.status is Status.FAILED
    assert "Cell 4 of 01-hung ran longer than 1.5 s" in str(result.error)
    assert result.failure is not None
    assert_gone([int(pid) for pid in result.failure.printed.split()])


def test_a_kernel_that_dies_is_an_error(course: Course) -> None:
    course.add("01-dies", "import os\nos.write(2, b'last words')\nos.abort()")
    [result] = course.run()
    assert "kernel of 01-dies died in cell 4" in str(result.error)
    assert "last words" in course.printed
    assert "without encryption" not in course.printed


def test_update_stores_outputs_once(course: Course) -> None:
    path = course.add("01-one", "print('a')\nprint(n)")
    assert not course.run(update=False)[0].updated
    stale = path.stat().st_mtime_ns

    [result] = course.run(update=True)  # from the stored result, without executing again
    assert result.updated
    assert result.status is Status.UNCHANGED
    assert f"updated {path}" in course.printed
    assert printed_by(path) == "a\n2\n"
    assert path.read_text() == canonical.canonical(canonical.read(path))
    assert path.stat().st_mtime_ns != stale

    stored = path.read_bytes(), path.stat().st_mtime_ns
    [result] = course.run(update=True, force=True)
    assert result.status is Status.PASSED
    assert not result.updated
    assert (path.read_bytes(), path.stat().st_mtime_ns) == stored
    assert course.executions() == ["01-one"] * 2


def test_an_edit_during_the_run_is_not_overwritten(course: Course) -> None:
    path = course.notebooks / "01-one.ipynb"
    # The chapter edits its own source, as an author in JupyterLab would.
    edit = f"p = {str(path)!r}\ntext = open(p).read().replace('how many', 'how few')\n"
    course.add("01-one", edit + "_ = open(p, 'w').write(text)")
    [result] = course.run(update=True)
    assert result.status is Status.FAILED
    assert "was edited while it ran" in str(result.error)
    assert "how few" in path.read_text()


def test_parameters(course: Course) -> None:
    course.add("01-one", "print(n * 2)", "1 / 0 if n == 4 else None")
    [result] = course.run(parameters={"n": 21})
    assert result.status is Status.PASSED
    assert printed_by(course.out / "01-one.ipynb") == "42\n"
    assert "injected-parameters" in (course.out / "01-one.ipynb").read_text()
    [result] = course.run(parameters={"n": 4})  # other parameters, so not fresh
    assert "Cell 5 of 01-one raised" in str(result.error)  # numbered as in the source


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"parameters": {"m": 1}}, "01-one has no parameter m; it has: n."),
        ({"parameters": {"n": 1}, "update": True}, "an update takes none"),
        ({"jobs": 0}, "0 jobs"),
        ({"timeout_s": 0}, "0 s for a cell"),
    ],
)
def test_bad_arguments_execute_nothing(course: Course, options: Any, text: str) -> None:
    course.add("01-one")
    with pytest.raises(UsageError, match=text):
        course.run(**options)
    assert course.executions() == []
    assert not course.out.exists()


def test_chapters_by_any_name(course: Course) -> None:
    one, ten = course.add("01-gpu-basics"), course.add("10-ray")
    assert find([], course.notebooks) == [one, ten]
    names = ["1", "01", "gpu-basics", "01-gpu-basics", "01-gpu-basics.ipynb", str(one)]
    assert [find([name], course.notebooks) for name in names] == [[one]] * len(names)
    assert find(["ray", "1", "10"], course.notebooks) == [one, ten]


@pytest.mark.parametrize("name", ["2", "gpu", "none.ipynb", "../01-gpu-basics"])
def test_an_unknown_chapter_lists_the_known(course: Course, name: str) -> None:
    course.add("01-gpu-basics")
    with pytest.raises(NotebookError, match="there are: 01-gpu-basics"):
        course.run(name)


def test_no_chapter_at_all(course: Course) -> None:
    with pytest.raises(NotebookError, match="There is no notebook in"):
        course.run()


def test_a_damaged_notebook(course: Course) -> None:
    course.add("01-one").write_text("{")
    with pytest.raises(NotebookError, match="is not a notebook"):
        course.run()


def is_fresh(
    path: Path,
    out: Path,
    inputs: Iterable[Path],
    gpu: str | None = None,
    parameters: Mapping[str, object] | None = None,
    touches_gpu: bool = False,
) -> bool:
    """Whether the last good run still holds."""
    return last(path, out, digest_of(path, inputs, gpu, parameters or {}, touches_gpu)) is not None


def test_what_did_not_change_is_not_executed(
    course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLK8S_GPU", raising=False)
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==2\n")
    path = course.add("01-one", "print(n)")
    assert not is_fresh(path, course.out, [lock])
    [first] = course.run(inputs=[lock])

    [second] = course.run(inputs=[lock])
    assert second.status is Status.UNCHANGED
    assert (second.seconds, second.slowest) == (round(first.seconds, 2), first.slowest)
    assert course.executions() == ["01-one"]
    assert is_fresh(path, course.out, [lock])

    # Each of these makes it stale, by itself.
    assert not is_fresh(path, course.out, [lock], gpu="h200")
    assert not is_fresh(path, course.out, [lock], parameters={"n": 3})
    assert not is_fresh(path, course.out, [lock], touches_gpu=True)
    with monkeypatch.context() as patch:
        patch.setenv("MLK8S_CLUSTER", "live")
        assert not is_fresh(path, course.out, [lock])
    lock.write_text("numpy==3\n")
    assert not is_fresh(path, course.out, [lock])
    lock.write_text("numpy==2\n")
    result, stamp = course.out / "01-one.ipynb", course.out / "01-one.json"
    stored = result.read_text(), stamp.read_text()
    result.write_text(stored[0].replace("2\\n", "3\\n"))
    assert not is_fresh(path, course.out, [lock])
    result.write_text(stored[0])
    stamp.write_text("{}")
    assert not is_fresh(path, course.out, [lock])
    stamp.write_text(stored[1])
    assert is_fresh(path, course.out, [lock])

    course.add("01-one", "print(n + 1)")
    [third] = course.run(inputs=[lock])
    assert third.status is Status.PASSED
    assert printed_by(result) == "3\n"
    assert course.executions() == ["01-one"] * 2


def test_the_package_its_json_the_labs_and_the_lock_file_count(
    course: Course, tmp_path: Path
) -> None:
    package = Path(mlk8s.__file__).parent
    files = list(package_files(course.notebooks))
    assert {*package.rglob("*.py"), *package.rglob("*.json")} == {
        path for path in files if path.suffix in {".py", ".json"}
    }
    assert package / "gpu" / "catalogue.json" in files
    assert not any(path.suffix == ".pyc" for path in files)

    path = course.add("01-one")
    course.run(inputs=None)
    assert is_fresh(path, course.out, package_files(course.notebooks))
    train, lock = tmp_path / "labs" / "training" / "train.py", tmp_path / "requirements.lock"
    for added in (train, lock):
        added.parent.mkdir(parents=True, exist_ok=True)
        added.write_text("x = 1\n")
        assert not is_fresh(path, course.out, package_files(course.notebooks))
        course.run(inputs=None)
    assert course.executions() == ["01-one"] * 3
    for cache in ("__pycache__", ".ipynb_checkpoints"):
        (train.parent / cache).mkdir()
        (train.parent / cache / "train.json").write_text("{}")
    assert is_fresh(path, course.out, package_files(course.notebooks))


def test_an_input_that_cannot_be_read(course: Course, tmp_path: Path) -> None:
    course.add("01-one")
    with pytest.raises(UsageError, match=r"train\.py, on which the chapters depend, cannot be"):
        course.run(inputs=[tmp_path / "train.py"])
    assert course.executions() == []


def test_chapters_that_touch_a_gpu_run_one_at_a_time(course: Course) -> None:
    times = "import time\nprint(time.time())\ntime.sleep(0.3)\nprint(time.time())"
    for name in ("01-one", "02-two"):
        course.add(name, times)
    course.run(touches_gpu=True, jobs=2)
    spans = [
        [float(t) for t in printed_by(course.out / f"{name}.ipynb").split()]
        for name in ("01-one", "02-two")
    ]
    spans.sort()
    assert spans[0][1] < spans[1][0]


SCRIPT = """
import sys
from pathlib import Path
import typer
from mlk8s.course.run import exit_code, run

root = Path(sys.argv.pop())

def main() -> None:
    options = {"notebooks": root / "notebooks", "out": root / "_build", "inputs": []}
    raise typer.Exit(exit_code(run(update=True, jobs=2, **options)))

typer.run(main)
"""


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interruption_leaves_nothing_behind(
    course: Course, tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    pids = tmp_path / "pids.txt"
    sleeps = (
        "import os, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}\\n')\n"
        "time.sleep(300)"
    )
    sources = [course.add("01-quick", "print('done')"), course.add("02-sleeps", sleeps)]
    before = [path.read_bytes() for path in sources]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_for(lambda: pids.exists() and pids.read_text().endswith("\n"))
        wait_for((tmp_path / "_build" / "01-quick.json").exists)
        kernels = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signum)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code, output
    assert "Traceback" not in output
    assert_gone([*map(int, pids.read_text().split()), *(kernel.pid for kernel in kernels)])
    assert [path.read_bytes() for path in sources] == before
    assert not list((tmp_path / "_build").glob("02-sleeps*.ipynb"))
    assert is_fresh(sources[0], tmp_path / "_build", [])  # what had ended need not run again


def wait_for(condition: Any, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_gone(pids: list[int]) -> None:
    """No such process runs; one that its parent has not reaped yet is a zombie."""
    assert len(pids) >= 2

    def gone() -> bool:
        states = set()
        for pid in pids:
            try:
                states.add(psutil.Process(pid).status())
            except psutil.NoSuchProcess:
                continue
        return states <= {psutil.STATUS_ZOMBIE}

    wait_for(gone, 5)
