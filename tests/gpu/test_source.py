"""The door between code and numbers: live or recorded, and never from code that has changed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

import mlk8s
from mlk8s import recordings
from mlk8s.errors import NotRecorded, RecordingError
from mlk8s.gpu import is_live, origin, source
from mlk8s.provenance import Kind

Run = Callable[..., CompletedProcess[str]]

# --- which GPU answers --------------------------------------------------------------------------

WHO = """
import json
from mlk8s import gpu
from mlk8s.errors import Mlk8sError
try:
    print(json.dumps([gpu.is_live(), gpu.origin()[0]["GPU"], repr(gpu.origin())]))
except Mlk8sError as error:
    print(json.dumps([type(error).__name__, error.problem, error.next_step]))
"""


def answer(done: CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_auto_with_a_gpu_is_live(on_gpu: Run) -> None:
    live, name, text = answer(on_gpu("-c", WHO))
    assert (live, name) == (True, "NVIDIA H100 80GB HBM3")
    assert "580.95.05" in text and "[live · " in text


def test_auto_without_a_gpu_is_the_default_recording(without_gpu: Run) -> None:
    live, name, text = answer(without_gpu("-c", WHO))
    assert (live, name) == (False, recordings.load().device.name)
    assert "[recorded · " in text


def test_auto_with_no_device_is_the_default_recording(on_gpu: Run) -> None:
    assert answer(on_gpu("-c", WHO, FAKE_DEVICES="0"))[0] is False


@pytest.mark.parametrize(
    ("code", "problem"), [("18", "version mismatch"), ("4", "permission"), ("15", "off the bus")]
)
def test_auto_with_a_broken_driver_does_not_hide_it(on_gpu: Run, code: str, problem: str) -> None:
    error, found, step = answer(on_gpu("-c", WHO, FAKE_INIT=code))
    assert error == "GpuUnavailable"
    assert problem in found and found.count(".") == 1 and found.endswith((".", ")."))
    assert step.endswith("MLK8S_GPU=recorded.")


def test_the_way_out_of_a_broken_driver_is_one(on_gpu: Run) -> None:
    assert answer(on_gpu("-c", WHO, FAKE_INIT="18", MLK8S_GPU="h100-sxm"))[0] is False


OWN = """
import json
from mlk8s import gpu
from mlk8s.errors import Mlk8sError
try:
    said = gpu.origin(recorded_on="{machine}")[0]
    print(json.dumps([said["GPU"], said["numbers are"], gpu.gpus()[0].identity.name]))
except Mlk8sError as error:
    print(json.dumps([type(error).__name__, error.problem, error.next_step]))
"""


@pytest.mark.parametrize("fake", [{"FAKE_INIT": "9"}, {"MLK8S_GPU": "recorded"}])
def test_a_chapter_names_the_machine_that_it_was_recorded_on(
    on_gpu: Run, fake: dict[str, str]
) -> None:
    found = answer(on_gpu("-c", OWN.format(machine="h200-sxm"), **fake))
    assert found == ["NVIDIA H200", "recorded", "NVIDIA H200"]


def test_a_named_recording_counts_more_than_the_chapters(on_gpu: Run) -> None:
    found = answer(on_gpu("-c", OWN.format(machine="h200-sxm"), MLK8S_GPU="h100-sxm"))
    assert found == ["NVIDIA H100 80GB HBM3", "recorded", "NVIDIA H100 80GB HBM3"]


def test_a_live_gpu_counts_more_than_the_chapters_recording(on_gpu: Run) -> None:
    assert answer(on_gpu("-c", OWN.format(machine="h200-sxm")))[1] == "live"


def test_a_chapter_of_an_unknown_machine_is_refused(on_gpu: Run) -> None:
    error, problem, step = answer(on_gpu("-c", OWN.format(machine="h900")))
    assert (error, "'h900'" in problem) == ("RecordingError", True)
    assert "h200-sxm" in step


def test_live_with_a_gpu(on_gpu: Run) -> None:
    assert answer(on_gpu("-c", WHO, MLK8S_GPU="live"))[0] is True


@pytest.mark.parametrize("fake", [{"FAKE_INIT": "9"}, {"FAKE_DEVICES": "0"}])
def test_live_without_a_gpu_is_an_error(on_gpu: Run, fake: dict[str, str]) -> None:
    error, _, step = answer(on_gpu("-c", WHO, MLK8S_GPU="live", **fake))
    assert error == "NoGpu"
    assert "MLK8S_GPU=recorded" in step


def test_a_recording_is_read_beside_a_gpu(on_gpu: Run) -> None:
    live, _, text = answer(on_gpu("-c", WHO, MLK8S_GPU="h100-sxm"))
    assert live is False
    assert "[recorded · " in text


@pytest.mark.parametrize("name", ["h1000", "H100-SXM", "", "../h100-sxm", "."])
def test_an_unknown_name_is_an_error_that_lists_the_names(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLK8S_GPU", name)
    with pytest.raises(RecordingError) as caught:
        is_live()
    assert repr(name) in caught.value.problem
    assert "auto, recorded, live" in caught.value.next_step
    for known in recordings.names():
        assert known in caught.value.next_step


def test_origin_of_recorded_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLK8S_GPU", "h100-sxm")
    table = origin()
    assert table[0]["numbers are"] == "recorded"
    assert table[0]["MLK8S_GPU"] == "h100-sxm"
    (provenance,) = table.provenance
    assert provenance.kind is Kind.RECORDED
    assert provenance.device == recordings.load().device


def test_the_device_as_provenance_has_it(on_gpu: Run) -> None:
    code = """
import json
from dataclasses import asdict
from mlk8s.gpu import source
print(json.dumps(asdict(source.device())))
"""
    assert answer(on_gpu("-c", code)) == {
        "name": "NVIDIA H100 80GB HBM3",
        "part": "h100-sxm",
        "driver": "580.95.05",
        "cuda": "13.0",
        "max_sm_clock_mhz": 1980,
        "power_limit_w": 650.0,
        "mig_mode": "disabled",
    }
    lacking = answer(on_gpu("-c", code, FAKE_RETURN="*=3"))
    assert (lacking["max_sm_clock_mhz"], lacking["power_limit_w"]) == (None, None)
    assert lacking["mig_mode"] == "not supported"
    assert answer(on_gpu("-c", code, FAKE_MIG="1"))["mig_mode"] == "enabled"


def test_software_names_what_is_installed() -> None:
    found = source.software("numpy", "no-such-package")
    assert list(found) == ["numpy"]
    assert found["numpy"][0].isdigit()


# --- measured -----------------------------------------------------------------------------------

CELL = '''
"""A stand-in for a notebook."""
from mlk8s import measured

FACTOR = 3
KERNEL = """__global__ void f() {}"""


def half(x):
    return x / 2


@measured("test/rates", "counted")
def rates(sizes, scale=1.5):
    """Rates of several sizes."""
    count = len(KERNEL)
    return [{"size": s, "rate": half(s) * FACTOR * scale, "length": count} for s in sizes]
'''

# What a reader or an author may do to it: name → (text, its replacement).
HARMLESS = {
    "nothing": ("", ""),
    "a comment": ("    count = len", "    # bytes\n    count = len"),
    "the docstring": ("Rates of several sizes.", "How fast it is, by size."),
    "no docstring": ('    """Rates of several sizes."""\n', ""),
    "a helper's docstring": ("    return x / 2", '    """Half of it."""\n    return x / 2'),
    "blank lines": ("    count = len(KERNEL)\n", "\n    count = len(KERNEL)\n\n"),
    "line breaks": ("half(s) * FACTOR * scale", "(\n        half(s)\n        * FACTOR * scale)"),
    "quotes": ('"size"', "'size'"),
    "a constant it does not use": ("FACTOR = 3", "FACTOR = 3\nOTHER = 4"),
    "the module's docstring": ("A stand-in", "A replacement"),
}
CHANGES = {
    "the body": ("* scale", "+ scale"),
    "a number in the body": ("len(KERNEL)", "len(KERNEL) + 0"),
    "a column's name": ('"rate"', '"speed"'),
    "a constant": ("FACTOR = 3", "FACTOR = 4"),
    "a constant's type": ("FACTOR = 3", "FACTOR = 3.0"),
    "the kernel": ("void f() {}", "void f() { }"),
    "a helper": ("x / 2", "x / 3"),
    "a helper's default": ("def half(x)", "def half(x, by=2)"),
}

VARIANTS = """
import importlib.util, json, sys
from pathlib import Path
from mlk8s.errors import Mlk8sError
found = {}
for path in sorted(Path(sys.argv[1]).glob("*.py")):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    calls = {"call": lambda: module.rates([2, 4])}
    if path.stem == "00":
        calls["default given"] = lambda: module.rates(sizes=(2, 4), scale=1.5)
        calls["other arguments"] = lambda: module.rates([8])
    for name, call in calls.items():
        try:
            table = call()
            value = {"rows": [list(row.items()) for row in table],
                     "kind": table.provenance[0].kind, "text": repr(table),
                     "method": table.provenance[0].method}
        except Mlk8sError as error:
            value = {"error": type(error).__name__, "problem": error.problem,
                     "next": error.next_step}
        found[path.stem if name == "call" else name] = value
print(json.dumps(found))
"""


def variants(folder: Path) -> dict[str, str]:
    """The cell and its variants as files of their own; the file name of each."""
    folder.mkdir()
    names = {}
    for i, (name, (old, new)) in enumerate({**HARMLESS, **CHANGES}.items()):
        assert old in CELL, name
        (folder / f"{i:02}.py").write_text(CELL.replace(old, new, 1))
        names[name] = f"{i:02}"
    return names


ROWS = [
    [["size", 2], ["rate", 4.5], ["length", 22]],
    [["size", 4], ["rate", 9.0], ["length", 22]],
]


@pytest.fixture(scope="module")
def evidence(
    tmp_path_factory: pytest.TempPathFactory, fake_nvml: Path, clean_environment: dict[str, str]
) -> dict[str, Any]:
    """The cell measured live and written down, then all variants read from that recording."""
    folder = tmp_path_factory.mktemp("measured")
    package = Path(mlk8s.__file__).parent
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, folder / "copy" / "mlk8s", ignore=ignore)
    names = variants(folder / "variants")
    (folder / "original").mkdir()
    shutil.copy(folder / "variants" / "00.py", folder / "original" / "00.py")
    machine = folder / "copy" / "mlk8s" / "recordings" / "fake"

    def run(cells: str, **variables: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", VARIANTS, str(folder / cells)],
            env={
                **clean_environment,
                "PYTHONPATH": str(folder / "copy"),
                "LD_LIBRARY_PATH": str(fake_nvml),
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return answer(done)

    live = run("original", MLK8S_RECORD_TO=str(machine))
    stored = json.loads((machine / "test.json").read_text())
    for name in ("call", "other arguments"):
        # Only the recording of the first call is to answer below.
        assert name != "call" or len(stored["entries"]) == 2
    kept = [e for e in recordings.load("fake", machine.parent).entries if e.params["sizes"] != [8]]
    (machine / "test.json").unlink()
    recordings.write(machine, kept)
    recorded = run("variants", MLK8S_GPU="fake")
    return {"live": live, "recorded": recorded, "stored": stored, "names": names}


def test_live_it_runs(evidence: dict[str, Any]) -> None:
    live = evidence["live"]["00"]
    assert (live["rows"], live["kind"], live["method"]) == (ROWS, "live", "counted")


def test_live_with_a_folder_to_record_to_it_is_written_down(evidence: dict[str, Any]) -> None:
    stored = evidence["stored"]
    assert [e["params"] for e in stored["entries"]] == [
        {"sizes": [2, 4], "scale": 1.5},
        {"sizes": [8], "scale": 1.5},
    ]
    entry = stored["entries"][0]
    assert (entry["name"], entry["method"]) == ("test/rates", "counted")
    assert entry["value"][0] == {"size": 2, "rate": 4.5, "length": 22}
    assert stored["origins"][0]["device"]["name"] == "NVIDIA H100 80GB HBM3"


def test_recorded_it_gives_the_recorded_value(evidence: dict[str, Any]) -> None:
    for name in ("00", "default given"):
        found = evidence["recorded"][name]
        assert (found["rows"], found["kind"]) == (ROWS, "recorded")


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_not_change_the_code_does_not_count(evidence: dict[str, Any], name: str) -> None:
    found = evidence["recorded"][evidence["names"][name]]
    assert found.get("rows") == ROWS, found


@pytest.mark.parametrize("name", CHANGES)
def test_changed_code_is_refused(evidence: dict[str, Any], name: str) -> None:
    found = evidence["recorded"][evidence["names"][name]]
    assert found.get("error") == "NotRecorded", found
    assert "The code of test/rates has changed" in found["problem"]
    then = evidence["stored"]["entries"][0]["source"]
    assert f"({then} then, " in found["problem"]
    (now,) = [w for w in found["problem"].split("then, ")[1].split() if len(w) == 16]
    assert now != then
    assert "`mlk8s record --only test/rates`" in found["next"]


def test_arguments_that_were_not_recorded_are_refused_with_those_that_were(
    evidence: dict[str, Any],
) -> None:
    found = evidence["recorded"]["other arguments"]
    assert found["error"] == "NotRecorded"
    assert "does not hold test/rates with sizes=[8], scale=1.5" in found["problem"]
    assert "sizes=[2, 4], scale=1.5" in found["next"]


def test_an_unknown_measurement_is_refused_with_those_that_are_held() -> None:
    recording = recordings.load()
    with pytest.raises(NotRecorded, match="does not hold ch9/nothing") as caught:
        recording.get("ch9/nothing", {})
    for name in {e.name for e in recording.entries}:
        assert name in caught.value.next_step


def test_a_missing_package_of_a_live_measurement_is_named(on_gpu: Run, tmp_path: Path) -> None:
    (tmp_path / "cell.py").write_text("""
from mlk8s import measured
from mlk8s.errors import GpuUnavailable

@measured("test/missing")
def missing():
    import no_such_package

try:
    missing()
except GpuUnavailable as error:
    print(error.problem)
""")
    done = on_gpu("cell.py")
    assert "test/missing runs on the GPU with the package 'no_such_package'" in done.stdout, done


# --- beside a recorded machine ------------------------------------------------------------------

BESIDE = """
import json, os, sys
from mlk8s import gpu, recordings
from mlk8s.errors import Mlk8sError, UsageError
import cell

def asked(machine, call):
    before = os.environ.get("MLK8S_GPU")
    try:
        table = gpu.recorded_by(machine, call)
        found = table and [table.provenance[0].kind, *table.column("rate")]
    except (Mlk8sError, ZeroDivisionError) as error:
        found = [type(error).__name__, str(error)]
    after = os.environ.get("MLK8S_GPU")
    return {"found": found, "restored": after == before}

def twice():
    return gpu.recorded_by("other", lambda: cell.rates([1])) or cell.rates([2])

def refuse():
    raise UsageError("The shape is empty.", "use one.")

folder = recordings.FOLDER
os.environ["MLK8S_RECORD_TO"] = str(folder / "fake")
live = cell.rates([2])
os.environ["MLK8S_RECORD_TO"] = str(folder / "other")
cell.rates([4])
os.environ["MLK8S_RECORD_TO"] = str(folder / "damaged")
cell.rates([8])
del os.environ["MLK8S_RECORD_TO"]
path = folder / "damaged" / "test.json"
path.write_text(path.read_text().replace('"rate": 18.0', '"rate": 19.0'))

found = {
    "held": asked("fake", lambda: cell.rates([2])),
    "not held": asked("fake", lambda: cell.rates([4])),
    "held by another": asked("other", lambda: cell.rates([4])),
    "one in the other": asked("fake", twice),
    "unknown": asked("h1000", lambda: cell.rates([2])),
    "unknown, and nothing asked": asked("h1000", lambda: None),
    "unknown to the call": asked("fake", lambda: gpu.recorded_by("h1000", twice)),
    "damaged": asked("damaged", lambda: cell.rates([8])),
    "damaged, and nothing asked": asked("damaged", lambda: None),
    "refused": asked("fake", refuse),
    "an error": asked("fake", lambda: 1 / 0),
    "this run": {"found": [cell.rates([2]).provenance[0].kind], "restored": True},
}
cell.FACTOR = 4
found["stale"] = asked("fake", lambda: cell.rates([2]))
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=["unset", "live"])
def beside(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    fake_nvml: Path,
    clean_environment: dict[str, str],
) -> dict[str, Any]:
    """A live run that asks what recorded machines gave, with and without the variable."""
    folder = tmp_path_factory.mktemp("beside")
    package = Path(mlk8s.__file__).parent
    shutil.copytree(package, folder / "mlk8s", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "cell.py").write_text(CELL)
    variables = {} if request.param == "unset" else {"MLK8S_GPU": request.param}
    done = subprocess.run(
        [sys.executable, "-c", BESIDE],
        env={
            **clean_environment,
            "PYTHONPATH": str(folder),
            "LD_LIBRARY_PATH": str(fake_nvml),
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, Any] = answer(done)
    return found


def test_what_a_recorded_machine_gave(beside: dict[str, Any]) -> None:
    # size / 2 · FACTOR · 1.5
    assert beside["held"]["found"] == ["recorded", 4.5]
    assert beside["held by another"]["found"] == ["recorded", 9.0]


@pytest.mark.parametrize("name", ["not held", "stale"])
def test_what_a_machine_has_no_figure_for_is_none(beside: dict[str, Any], name: str) -> None:
    assert beside[name]["found"] is None


def test_one_recorded_machine_asks_another(beside: dict[str, Any]) -> None:
    # The other one does not hold it, so the value is the first one's.
    assert beside["one in the other"]["found"] == ["recorded", 4.5]


@pytest.mark.parametrize("name", ["unknown", "unknown, and nothing asked", "unknown to the call"])
def test_an_unknown_machine_is_an_error(beside: dict[str, Any], name: str) -> None:
    error, message = beside[name]["found"]
    assert error == "RecordingError"
    assert "There is no recording named 'h1000'." in message


@pytest.mark.parametrize("name", ["damaged", "damaged, and nothing asked"])
def test_a_damaged_recording_is_not_one_that_lacks_a_figure(
    beside: dict[str, Any], name: str
) -> None:
    error, message = beside[name]["found"]
    assert error == "RecordingError"
    assert "test.json was changed after it was recorded" in message


@pytest.mark.parametrize(("name", "error"), [("refused", "Usage"), ("an error", "ZeroDivision")])
def test_another_error_goes_through(beside: dict[str, Any], name: str, error: str) -> None:
    assert beside[name]["found"][0] == f"{error}Error"


def test_this_run_answers_again_afterwards(beside: dict[str, Any]) -> None:
    assert beside["this run"]["found"] == ["live"]
    assert [name for name, found in beside.items() if not found["restored"]] == []


# --- code of other modules of the library -------------------------------------------------------

FETCH = """
import json, sys
from dataclasses import asdict
from mlk8s import recordings
from mlk8s.bench import memory, timing
from mlk8s.errors import NotRecorded
from mlk8s.gpu.source import fingerprint
if sys.argv[1:] == ["record"]:
    origin = recordings.load().entries[0].provenance
    value = {"operation": "copy", "working_set": 2**30, "bytes": 2**30, "cache_bytes": None}
    value |= asdict(timing.Timing(0.5, 0.5, 0.5, 9, 3, 1.0, True))
    params = {"operation": "copy", "size_bytes": 2**30, "min_time_s": 0.5}
    source = fingerprint(memory._on_gpu.__wrapped__)
    entry = recordings.Entry("bench/memory", params, origin.method, source, value, origin)
    recordings.write(recordings.FOLDER / "fake", [entry])
try:
    print(memory.measure("copy", 2**30)[0]["GB/s"])
except NotRecorded as error:
    print(error.problem)
"""

#: What bench/memory runs is spread over modules; name → (file, text, its replacement, whether the
#: recorded figure still stands).
ELSEWHERE = {
    "a kernel": ("bench/traffic.py", "v[u].x + 3 * w[u].x", "v[u].x + 2 * w[u].x", False),
    "how it is launched": ("bench/traffic.py", "pieces * passes\n", "pieces\n", False),
    "a constant of that": ("bench/traffic.py", "LAUNCH_BYTES = 2**30", "LAUNCH_BYTES = 1", False),
    "a constant of both": ("bench/traffic.py", "\nTHREADS, VECTORS", "\nVECTORS, THREADS", False),
    "a helper's helper": ("bench/device.py", "torch.cuda.mem_get_info()[0]", "1", False),
    "a comment": ("bench/traffic.py", "    import cupy\n", "    # Here.\n    import cupy\n", True),
    "a docstring": ("bench/device.py", "Memory that is free", "Memory that nobody uses", True),
    "an unused function": ("bench/device.py", "{platform.machine()} CPU", "a CPU", True),
    "an unused constant": ("bench/waves.py", "TILE = (128, 256)", "TILE = (256, 128)", True),
}


@pytest.fixture(scope="module")
def fetch(
    tmp_path_factory: pytest.TempPathFactory, clean_environment: dict[str, str]
) -> tuple[Path, Callable[..., str]]:
    """A copy of the library that holds a recording of one of its benchmarks, and what reads it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    package = Path(mlk8s.__file__).parent
    shutil.copytree(package, folder / "mlk8s", ignore=shutil.ignore_patterns("__pycache__"))

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", FETCH, *arguments],
            # Not compiled: a file may change twice within a second and keep its size.
            env={
                **clean_environment,
                "PYTHONPATH": str(folder),
                "PYTHONDONTWRITEBYTECODE": "1",
                "MLK8S_GPU": "fake" if not arguments else "h100-sxm",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    run("record")
    return folder / "mlk8s", run


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_recording_knows_the_code_of_the_librarys_other_modules(
    fetch: tuple[Path, Callable[..., str]], name: str
) -> None:
    package, run = fetch
    file, old, new, stands = ELSEWHERE[name]
    path = package / file
    before = path.read_text()
    assert before.count(old) == 1
    try:
        path.write_text(before.replace(old, new))
        found = run()
    finally:
        path.write_text(before)
    if stands:
        assert found == "2147.48"  # 2^30 bytes in 0.5 ms
    else:
        assert found.startswith("The code of bench/memory has changed since fake was recorded (")


# --- the fingerprint ----------------------------------------------------------------------------

SYNTAX = '''
SIZES = (1, 2.5, "three", None, True)
TABLE = {"a": [1, 2], "b": (3.5,)}
KERNEL = r"""
extern "C" __global__ void f(float* x) { x[0] = 1.0f; }
"""


def helper(x, *rest, key=None, **more):
    """Say nothing."""
    return f"{x!r:>{len(rest)}} {key:.3f} {more=}"


def cell(count: int = 3, *, name: str = "n") -> dict[str, float]:
    """Use what differs between releases: comprehensions, f-strings, match, nested functions."""
    import math

    total = 0.0
    for i, _ in enumerate(SIZES):
        total += [math.sin(j) for j in range(i)][-1] if i else 0.0

    def inner(y=count):
        return {k: v for k, v in TABLE.items() if y} | {"k": KERNEL}

    match count:
        case 1 | 2:
            return {"a": helper(total, key=1.0)}
        case int(n) if (m := n * 2) > 3:
            return {"b": m, **inner()}
    try:
        with open(name) as file, open("b") as other:
            return {"c": file.read() + other.read() + f"{total:.{count}f}{{}}"}
    except (OSError, ValueError) as error:
        raise RuntimeError("a" "b") from error
    lambda z: z**2 if z else -z
'''

#: What Python 3.11, 3.12 and 3.13 all gave when this was written: a recording that was made under
#: one is read under another. A change here makes every recording stale.
SYNTAX_FINGERPRINT = "872bf934735e89ee"


def interpreters() -> set[str]:
    """This interpreter, and those of other supported releases that the machine has."""
    names = [shutil.which(f"python3.{minor}") for minor in range(11, 15)]
    versions = Path.home().glob(".pyenv/versions/3.1[1-4]*/bin/python")
    found = {sys.executable}
    for candidate in [*filter(None, names), *map(str, versions)]:
        # A name on the path may be a launcher without that release behind it.
        code = "import sys; print(sys.executable)"
        done = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            found.add(os.path.realpath(done.stdout.strip()))
    return found


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def syntax(tmp_path: Path) -> Path:
    path = tmp_path / "syntax.py"
    path.write_text(SYNTAX)
    return path


def test_fingerprint_is_what_it_was(syntax: Path) -> None:
    assert source.fingerprint(load(syntax).cell) == SYNTAX_FINGERPRINT


def test_fingerprint_is_the_same_under_every_python(
    syntax: Path, clean_environment: dict[str, str]
) -> None:
    code = """
import importlib.util, sys
sys.path.insert(0, sys.argv[1])
from mlk8s.gpu import source
spec = importlib.util.spec_from_file_location("syntax", sys.argv[2])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(source.fingerprint(module.cell))
"""
    package = str(Path(mlk8s.__file__).parent.parent)
    for python in interpreters():
        done = subprocess.run(
            [python, "-c", code, package, syntax],
            env=clean_environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.strip() == SYNTAX_FINGERPRINT, (python, done.stderr)
