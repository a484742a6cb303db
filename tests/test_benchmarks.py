"""The scripts beside the peers: what they teach, refuse, read from the peers, and conclude."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from mlk8s import recordings
from mlk8s.errors import Mlk8sError
from mlk8s.gpu.source import fingerprint
from mlk8s.provenance import Kind, Provenance

Run = Callable[..., CompletedProcess[str]]
Sentence = Callable[[CompletedProcess[str]], tuple[str, str]]

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

#: What mamf-finder wrote (stas00/ml-engineering 744d01e, `--m 1024 2048 --n 1024 --k 512 2048
#: --dtype float32`), run on a CPU in place of the accelerator that it asks for; the lines that
#: name the machine are left out.
MAMF = """
Benchmark started on 2026-11-24 00:03:21

** Dtype: torch.float32

** Critical software versions:
- torch=2.13.0+cpu

** Additional notes:
- benchmark version: 2


--------------------------------------------------------------------------------


Warming up the accelerator for 30 secs ... accelerator warmup finished
     1 |    0.2(mean)    0.2(median)    0.2(max) @ 1024x1024x512        | best:    0.2(mean)    \
0.2(median)    0.2(max) TFLOPS
     2 |    0.2(mean)    0.2(median)    0.2(max) @ 1024x1024x2048       | best:    0.2(mean)    \
0.2(median)    0.2(max) TFLOPS
     3 |    0.2(mean)    0.2(median)    0.2(max) @ 2048x1024x512        | best:    0.2(mean)    \
0.2(median)    0.2(max) TFLOPS
     4 |    0.2(mean)    0.2(median)    0.2(max) @ 2048x1024x2048       | best:    0.2(mean)    \
0.2(median)    0.2(max) TFLOPS


Tried 4 shapes => the best outcomes were:
mean:   0.2 TFLOPS @ 2048x1024x2048 (MxNxK)
median: 0.2 TFLOPS @ 2048x1024x2048 (MxNxK)
max:    0.2 TFLOPS @ 2048x1024x2048 (MxNxK)

Across 4 shapes in range: m=[1024, 2048] | n=[1024] | k=[512, 2048] in this run:
arithmetic mean: 0.2 TFLOPS
geometric mean:  0.2 TFLOPS

Legend: TFLOPS = 10**12 FLOPS
Elapsed time: 0:00:31
"""

#: What nvbandwidth v0.8 (66746a3) prints: its own JsonOutput (json_output.cpp), given these rates.
NVBANDWIDTH = """{
	"nvbandwidth" : 
	{
		"CUDA Runtime Version" : 13000,
		"Driver Version" : "580.159.04",
		"git_version" : "v0.8",
		"testcases" : 
		[
			{
				"bandwidth_description" : "memcpy local GPU(column) bandwidth (GB/s)",
				"bandwidth_matrix" : 
				[
					[
						"1498.77"
					]
				],
				"name" : "device_local_copy",
				"status" : "Passed",
				"sum" : 1498.7654321
			},
			{
				"bandwidth_description" : "memcpy CE CPU(row) -> GPU(column) bandwidth (GB/s)",
				"bandwidth_matrix" : 
				[
					[
						"55.4312"
					]
				],
				"name" : "host_to_device_memcpy_ce",
				"status" : "Passed",
				"sum" : 55.431234500000002
			}
		],
		"version" : "v0.8"
	}
}
"""  # noqa: W291

#: What the program itself printed where CUDA has no device.
NO_DEVICE = """{
	"nvbandwidth" : 
	{
		"error" : "[CUDA_ERROR_NO_DEVICE] no CUDA-capable device is detected in expression \
cuInit(0) in int main(int, char**)() : nvbandwidth/nvbandwidth.cpp:270\\n",
		"git_version" : "v0.8",
		"version" : "v0.8"
	}
}
"""  # noqa: W291


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Import a script as it imports itself: from its own folder."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture
def recorded(library_copy: Path, process: Run) -> Callable[..., CompletedProcess[str]]:
    """Run a script on a copy of the H100's recording that holds these calls besides."""

    def run(
        name: str, *calls: tuple[Any, str, dict[str, Any], list[dict[str, Any]]]
    ) -> CompletedProcess[str]:
        device = recordings.load("h100-sxm").device
        origin = Provenance(
            Kind.RECORDED, "invented for a test", "2026-01-01", device, {"torch": "2"}
        )
        entries = [
            recordings.Entry(call, params, origin.method, fingerprint(function), value, origin)
            for function, call, params, value in calls
        ]
        recordings.write(library_copy / "mlk8s" / "recordings" / "h100-sxm", entries)
        return process(str(BENCHMARKS / name), PYTHONPATH=str(library_copy), MLK8S_GPU="h100-sxm")

    return run


def conclusion(done: CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    """Figure → (whether the condition is met, the whole line) in the last table."""
    # The last table: after its title comes the header.
    lines = done.stdout.split("\n\n")[-1].splitlines()[2:]
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines if not line.startswith("[")]
    return {f"{row[0]} {row[-2]}": (row[-1], " ".join(row)) for row in rows}


# --- help and refusals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("matmul.py", ["--mamf PATH", "stas00/ml-engineering", "--runs"]),
        ("memory.py", ["--nvbandwidth PATH", "NVIDIA/nvbandwidth", "--runs"]),
        ("telemetry.py", ["pip install nvitop", "nvidia-smi"]),
    ],
)
def test_help_says_what_is_compared_and_where_the_peer_comes_from(
    process: Run, name: str, words: list[str]
) -> None:
    done = process(str(BENCHMARKS / name), "--help")
    assert done.returncode == 0, done.stderr
    for word in [*words, "MLK8S_GPU=h100-sxm", "Exit status"]:
        assert word in done.stdout


@pytest.mark.parametrize("name", ["matmul.py", "memory.py", "telemetry.py"])
def test_live_without_a_gpu_is_one_sentence(
    without_gpu: Run, sentence: Sentence, name: str
) -> None:
    problem, step = sentence(without_gpu(str(BENCHMARKS / name), MLK8S_GPU="live"))
    assert "kernel module" in problem
    assert "MLK8S_GPU=recorded" in step


@pytest.mark.parametrize(
    ("name", "option", "get"),
    [
        ("matmul.py", "--mamf", "https://github.com/stas00/ml-engineering"),
        ("memory.py", "--nvbandwidth", "https://github.com/NVIDIA/nvbandwidth"),
    ],
)
def test_a_missing_peer_is_one_sentence_that_says_where_to_get_it(
    on_gpu: Run, sentence: Sentence, name: str, option: str, get: str
) -> None:
    problem, step = sentence(on_gpu(str(BENCHMARKS / name), MLK8S_GPU="live"))
    assert f"{option} was not given" in problem
    assert get in step and option in step
    done = on_gpu(str(BENCHMARKS / name), option, "not/there", MLK8S_GPU="live")
    assert "there is no file not/there" in sentence(done)[0]


def test_telemetry_without_nvitop_says_how_to_install_it(on_gpu: Run, sentence: Sentence) -> None:
    hidden = (
        "import runpy, sys; sys.modules['nvitop'] = None; sys.argv = ['telemetry.py'];"
        f"sys.path.insert(0, {str(BENCHMARKS)!r});"
        f"runpy.run_path({str(BENCHMARKS / 'telemetry.py')!r}, run_name='__main__')"
    )
    problem, step = sentence(on_gpu("-c", hidden, MLK8S_GPU="live"))
    assert "nvitop is missing" in problem
    assert "pip install nvitop" in step


@pytest.mark.parametrize("runs", ["0", "-1", "many"])
def test_a_number_of_runs_that_measures_nothing_is_refused(process: Run, runs: str) -> None:
    done = process(str(BENCHMARKS / "matmul.py"), f"--runs={runs}")
    assert done.returncode == 2
    assert "use 1 or more" in done.stderr


# --- what the peers print -----------------------------------------------------------------------


def test_every_result_of_mamf_finder_is_read(script: Callable[[str], Any]) -> None:
    rows = script("matmul").parse(MAMF, 4)
    assert [row["shape"] for row in rows] == [
        "1024×1024×512",
        "1024×1024×2048",
        "2048×1024×512",
        "2048×1024×2048",
    ]
    # A rate each, and not those of the "best so far" further right.
    for row in rows:
        assert row["mean [TFLOP/s]"] == row["median [TFLOP/s]"] == row["max [TFLOP/s]"] == 0.2


def test_the_columns_of_mamf_finder_are_told_apart(script: Callable[[str], Any]) -> None:
    # The format string of its source, filled with an H100's rates.
    line = (
        f"{1:>6} | {794.5:6.1f}(mean) {796.1:6.1f}(median) {1002.0:6.1f}(max) @ "
        f"{'2048x2048x13312':<20} | best: {801.0:6.1f}(mean) {802.0:6.1f}(median) "
        f"{1003.0:6.1f}(max) TFLOPS\n"
    )
    (row,) = script("matmul").parse("- benchmark version: 2\n" + line, 1)
    assert row == {
        "shape": "2048×2048×13312",
        "mean [TFLOP/s]": 794.5,
        "median [TFLOP/s]": 796.1,
        "max [TFLOP/s]": 1002.0,
    }


def test_the_grids_hold_the_best_shapes_that_are_known(script: Callable[[str], Any]) -> None:
    # compute/accelerator/README.md of ml-engineering, the table of its results on H100, GH200 and
    # H200; and the best of a 64-shape run on an H100.
    known = {
        "bf16": {(2048, 2048, 13312), (1024, 15360, 4096), (2048, 4096, 13312)},
        "fp8": {(1024, 9216, 14336), (1024, 14336, 14336), (1280, 4096, 12032)},
    }
    for dtype, best in known.items():
        sizes = script("matmul").GRIDS[dtype]
        shapes = set(product(sizes["m"], sizes["n"], sizes["k"]))
        assert len(shapes) >= 48
        assert best <= shapes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MAMF.replace("     4 |", "     4 x"), "3 of 4 shapes"),
        (MAMF.replace("version: 2\n", "version: 3\n"), "benchmark version 3"),
        ("", "benchmark version none"),
    ],
)
def test_a_report_of_mamf_finder_that_cannot_be_compared_is_refused(
    script: Callable[[str], Any], text: str, said: str
) -> None:
    with pytest.raises(Mlk8sError, match=said):
        script("matmul").parse(text, 4)


def test_the_rates_of_nvbandwidth_are_read_by_test(script: Callable[[str], Any]) -> None:
    assert script("memory").parse(NVBANDWIDTH) == {
        "device_local_copy": 1498.77,
        "host_to_device_memcpy_ce": 55.4312,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (NO_DEVICE, "CUDA_ERROR_NO_DEVICE"),
        (NVBANDWIDTH.replace("Passed", "Waived", 1), "device_local_copy ended as 'Waived'"),
        ("nvbandwidth Version: v0.4\nRunning device_local_copy.\n", "nvbandwidth Version: v0.4"),
        ("{}", "something else than its JSON report"),
    ],
)
def test_a_report_of_nvbandwidth_without_the_rates_is_refused(
    script: Callable[[str], Any], text: str, said: str
) -> None:
    with pytest.raises(Mlk8sError, match=re.escape(said)):
        script("memory").parse(text)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/nowhere/peer"], "cannot be started"),
        (["sh", "-c", "echo >&2 first; echo >&2 the cause; exit 4"], "status 4: the cause"),
        (["sh", "-c", "exit 4"], "status 4: it wrote nothing"),
        (["sleep", "60"], "stopped after"),
    ],
)
def test_a_peer_that_fails_is_named_with_its_reason(
    script: Callable[[str], Any], command: list[str], said: str
) -> None:
    with pytest.raises(Mlk8sError, match=f"the peer.*{said}"):
        script("_common").output("the peer", command, 0.5)


# --- the recorded comparison --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["matmul.py", "memory.py", "telemetry.py"])
def test_all_conditions_are_met_on_the_recorded_h100(process: Run, name: str) -> None:
    done = process(str(BENCHMARKS / name), MLK8S_GPU="h100-sxm")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = conclusion(done)
    assert len(rows) >= 3
    assert {met for met, _ in rows.values()} == {"yes"}
    assert "recorded · NVIDIA H100 80GB HBM3" in done.stdout


# --- the conclusion, from a recording -----------------------------------------------------------


def products(dtype: str, rates: list[float]) -> list[dict[str, Any]]:
    return [
        {
            "run": run,
            "shape": "2048×4096×13312",
            "TFLOP/s": rate,
            "search [s]": 20.0,
            "dense peak at the observed clock [TFLOP/s]": 70.0 if dtype == "fp32" else 2000.0,
            "SM clock [MHz]": 1830.0,
            "power [W]": 600.0,
            "clocks limited by": "none",
            "flags": "",
        }
        for run, rate in enumerate(rates, 1)
    ]


def grid(best: float) -> list[dict[str, Any]]:
    return [
        {
            "shape": shape,
            "mean [TFLOP/s]": mean,
            "median [TFLOP/s]": mean,
            "max [TFLOP/s]": mean,
            "whole run [s]": 44.0,
        }
        for shape, mean in [("1024×2048×4096", best / 2), ("2048×4096×13312", best)]
    ]


def test_matmul_compares_with_the_best_mean_and_judges_the_rest_by_figures(
    script: Callable[[str], Any], recorded: Callable[..., CompletedProcess[str]]
) -> None:
    module = script("matmul")
    finder = (module.finder(None), "peers/mamf-finder")
    searches = (module.searches, "peers/matmul")
    five = [780.0, 800.0, 792.0, 808.0, 820.0]  # mean 800, sample standard deviation √232 = 15.23
    done = recorded(
        "matmul.py",
        (*finder, {"dtype": "bf16"}, grid(800.0)),
        (*finder, {"dtype": "fp8"}, grid(1400.0)),
        (*searches, {"dtype": "bf16", "runs": 5}, products("bf16", five)),
        (*searches, {"dtype": "fp8", "runs": 5}, products("fp8", [1300.0] * 5)),
        (*searches, {"dtype": "tf32", "runs": 1}, products("tf32", [400.0])),
        (*searches, {"dtype": "fp32", "runs": 1}, products("fp32", [100.0])),
    )
    assert done.returncode == 3, done.stderr
    rows = conclusion(done)
    met, line = rows["bf16 peak-shape [TFLOP/s] ≥ 0.97 of the peer"]
    assert met == "yes" and "best mean of 2 shapes, 2048×4096×13312" in line
    met, line = rows["bf16 coefficient of variation over 5 runs [%] ≤ 1"]
    assert met == "no" and " 1.904 " in line
    # 1300 of 1400 is 92.9 %.
    assert rows["fp8 peak-shape [TFLOP/s] ≥ 0.95 of the peer"][0] == "no"
    assert rows["fp8 coefficient of variation over 5 runs [%] ≤ 1"][0] == "yes"
    assert rows["fp8 longest search [s] ≤ 60"][0] == "yes"
    # These two are the recording's own.
    assert rows["tf32 8192³ back to back [TFLOP/s] 350 to 420"][0] == "yes"
    assert rows["fp32 8192³ back to back [TFLOP/s] 48 to 60"][0] == "yes"
    # TF32 under the name of FP32 is above what FP32 can do at that clock.
    assert rows["fp32 of the dense peak at the observed clock [%] ≤ 100"][0] == "no"


def bandwidths(copy: float, cached: str) -> list[dict[str, Any]]:
    rates = {"copy": copy, "read": 3050.0, "h2d": 55.0, "d2h": 54.5}
    rows = [
        {"run": run, "operation": name, "GB/s": rate, "level": "HBM", "flags": ""}
        for run in range(1, 6)
        for name, rate in rates.items()
    ]
    last = {"run": 1, "operation": "copy, 8 MiB", "GB/s": 5000.0, "level": cached, "flags": ""}
    return [*rows, last]


@pytest.mark.parametrize(
    ("copy", "cached", "status", "missed"),
    [
        (3000.0, "L2", 0, []),
        # Against 2 × 1500 GB/s of nvbandwidth: 2900 is 96.7 %.
        (2900.0, "L2", 3, ["copy [GB/s] ≥ 0.97 of the peer", "copy [GB/s] ≥ 2950"]),
        (3000.0, "HBM", 3, ["copy, 8 MiB, reported as the rate of L2"]),
    ],
)
def test_memory_doubles_what_nvbandwidth_counts_once(
    script: Callable[[str], Any],
    recorded: Callable[..., CompletedProcess[str]],
    copy: float,
    cached: str,
    status: int,
    missed: list[str],
) -> None:
    module = script("memory")
    theirs = {
        "device_local_copy": 1500.0,
        "host_to_device_memcpy_ce": 55.4,
        "device_to_host_memcpy_ce": 55.1,
    }
    done = recorded(
        "memory.py",
        (
            module.peer(None),
            "peers/nvbandwidth",
            {"runs": 5, "affinity": True},
            [
                {"run": run, "test": test, "GB/s": rate}
                for run in range(1, 6)
                for test, rate in theirs.items()
            ],
        ),
        (module.bandwidths, "peers/memory", {"runs": 5}, bandwidths(copy, cached)),
    )
    assert done.returncode == status, done.stderr
    rows = conclusion(done)
    assert [figure for figure, (met, _) in rows.items() if met == "no"] == missed
    assert "device_local_copy × 2 3,000" in rows["copy [GB/s] ≥ 0.97 of the peer"][1]
    assert "host_to_device_memcpy_ce 55.4" in rows["h2d [GB/s] ≥ 0.97 of the peer"][1]


@pytest.mark.parametrize(("nvitop", "status"), [(0.2, 0), (0.01, 3)])
def test_telemetry_sets_a_sample_beside_nvitops(
    script: Callable[[str], Any],
    recorded: Callable[..., CompletedProcess[str]],
    nvitop: float,
    status: int,
) -> None:
    module = script("telemetry")
    costs = {module.OURS: 0.1, module.SAME: nvitop, "nvitop, everything": 30.0}
    done = recorded(
        "telemetry.py",
        (
            module.samples,
            "peers/nvitop",
            {"seconds": 1.0, "blocks": 3},
            [
                {"way": way, "samples": 300, "median [ms]": cost, "p99 [ms]": cost}
                for way, cost in costs.items()
            ],
        ),
    )
    assert done.returncode == status, done.stderr
    rows = conclusion(done)
    assert rows["a sample [ms] ≤ the peer"][0] == ("yes" if status == 0 else "no")
    # What the H100's own recording holds.
    assert rows["a sample [ms] ≤ 1/50 of the peer"][0] == "yes"
    assert rows["rate lost at 10 Hz [%] ≤ 0.5"][0] == "yes"
