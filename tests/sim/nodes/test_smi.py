"""What ``nvidia-smi`` answers: for programs, for people, and when it refuses."""

import json
import subprocess
import sys

import pytest

from mlk8s.sim.nodes import smi

GPU = {
    "name": "NVIDIA H100 80GB HBM3",
    "bus": "00000000:18:00.0",
    "memory": 81559,
    "watts": 700,
    "compute": "9.0",
    "architecture": "Hopper",
    "mig": "Disabled",
    "instances": [],
}
SEEN = {
    "driver": "580.95.05",
    "cuda": "13.0",
    "error": "",
    "error_code": 0,
    "gpus": [{**GPU, "uuid": "GPU-a"}, {**GPU, "uuid": "GPU-b", "bus": "00000000:28:00.0"}],
}


def ask(*arguments: str, **changed: object) -> smi.Answer:
    return smi.answer({**SEEN, **changed}, arguments)


def test_query_as_csv():
    found = ask("--query-gpu=index,name,memory.total,utilization.gpu", "--format=csv")
    # What programs read has no notice in it.
    assert found == smi.Answer(
        0,
        "index, name, memory.total [MiB], utilization.gpu [%]\n"
        "0, NVIDIA H100 80GB HBM3, 81559 MiB, 0 %\n"
        "1, NVIDIA H100 80GB HBM3, 81559 MiB, 0 %\n",
        f"{smi.NOTICE}\n",
    )
    found = ask(
        "--query-gpu", "gpu_uuid,power.limit", "--format", "csv,noheader,nounits", "-i", "1"
    )
    assert found.out == "GPU-b, 700.00\n"
    found = ask("--query-gpu=temperature.gpu,power.draw", "--format=csv,noheader", "-i", "GPU-a")
    assert found.out == "[N/A], [N/A]\n"
    found = ask("--query-compute-apps=pid,used_memory", "--format=csv")
    assert found.out == "pid, used_memory [MiB]\n"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--query-gpu=wrong", "--format=csv"], 2, 'Field "wrong" is not a valid field to query.'),
        (["--query-gpu=name"], 2, '"--format=" switch is missing.'),
        (["--nonsense"], 2, "Invalid combination of input arguments."),
        (["-i", "7"], 6, "No devices were found"),
        (["topo", "-m"], 2, "# simulated: nvidia-smi topo is not modeled"),
    ],
)
def test_refusals(arguments, code, text):
    found = ask(*arguments)
    assert found.code == code
    assert text in found.out


def test_nothing_to_see():
    assert ask(gpus=[]) == smi.Answer(6, f"{smi.NOTICE}\nNo devices were found\n")
    broken = ask("-q", error="Failed to initialize NVML: Unknown Error", error_code=255)
    assert broken == smi.Answer(255, f"{smi.NOTICE}\nFailed to initialize NVML: Unknown Error\n")


def test_long_form():
    text = ask("-q").out
    assert "Attached GPUs                                     : 2\nGPU 00000000:18:00.0\n" in text
    assert "    Product Name                                  : NVIDIA H100 80GB HBM3\n" in text
    assert "        Total                                     : 81559 MiB\n" in text
    memory = ask("-q", "-d", "MEMORY", "-i", "0").out
    assert "FB Memory Usage" in memory
    assert "Product Name" not in memory
    assert "28:00.0" not in memory


def test_as_a_program(tmp_path):
    seen = tmp_path / "seen.json"
    seen.write_text(json.dumps(SEEN))
    command = [sys.executable, "-I", smi.__file__, str(seen), "-i", "1", "-L"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == f"{smi.NOTICE}\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-b)\n"
