"""The doctor on machines that are built for it: folders for /proc, /sys and /dev, a fake NVML.

The fake is a real shared library, so the whole way is tested: loader, ``pynvml``, the library's
own errors, the finding. A process loads NVML once, so all its cases run in one other process.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from rich.console import Console

from mlk8s.course import doctor
from mlk8s.course.checks.gpu import agreement
from mlk8s.course.doctor import Check, Status

# The cases of the other process: what NVML answers, in which folder, with which MLK8S_GPU.
CASES: dict[str, tuple[dict[str, str], str, str]] = {
    # Failing to initialize comes first: a success is kept for the life of the process.
    "no driver": ({"FAKE_INIT": "9"}, "bare", "auto"),
    "no driver, live": ({"FAKE_INIT": "9"}, "bare", "live"),
    "card without driver": ({"FAKE_INIT": "9"}, "card", "auto"),
    "nouveau": ({"FAKE_INIT": "9"}, "nouveau", "auto"),
    "nouveau, live": ({"FAKE_INIT": "9"}, "nouveau", "live"),
    "mismatch": ({"FAKE_INIT": "18"}, "driven", "auto"),
    "mismatch, recorded": ({"FAKE_INIT": "18"}, "driven", "h100-sxm"),
    "no permission": ({"FAKE_INIT": "4"}, "driven", "auto"),
    "no nodes": ({}, "nodeless", "auto"),
    "healthy": ({}, "driven", "auto"),
    "bad memory": ({"FAKE_ECC": "3", "FAKE_PENDING": "1"}, "driven", "auto"),
    "worn out": ({"FAKE_FAILED": "1"}, "driven", "auto"),
    "hot": ({"FAKE_REASONS": str(0x40 | 0x4), "FAKE_PERSISTENCE": "0"}, "driven", "auto"),
    "power cap only": ({"FAKE_REASONS": str(0x4)}, "driven", "auto"),
    "MIG on": ({"FAKE_MIG": "1"}, "driven", "auto"),
    "MIG pending": ({"FAKE_MIG_PENDING": "1"}, "driven", "auto"),
    "no ECC": (
        {"FAKE_RETURN": "nvmlDeviceGetTotalEccErrors=3", "FAKE_ECC": "99"},
        "driven",
        "auto",
    ),
}

OTHER_PROCESS = """
import json, os, sys
from pathlib import Path
from mlk8s.course import doctor
folder, cases = Path(sys.argv[1]), json.loads(sys.argv[2])
out = {}
for name, (fake, machine, setting) in cases.items():
    for key in [k for k in os.environ if k.startswith("FAKE_")]:
        del os.environ[key]
    os.environ.update(fake)
    env = {"PATH": "", "MLK8S_GPU": setting}
    out[name] = json.loads(doctor.to_json(doctor.examine(folder / machine, env, folder)))
print(json.dumps(out))
"""


def machine(root: Path, *, card: bool, module: str = "", nodes: tuple[str, ...] = ()) -> Path:
    """A folder that looks like a machine's /proc, /sys and /dev."""
    bus = root / "sys/bus/pci/devices"
    functions = {"0000:00:1f.0": ("0x8086", "0x060100", "0x1234")}
    if card:
        functions["0000:65:00.0"] = ("0x10de", "0x030200", "0x2330")
        functions["0000:65:00.1"] = ("0x10de", "0x040300", "0x22ba")  # its audio function
    for slot, values in functions.items():
        (bus / slot).mkdir(parents=True)
        for name, value in zip(("vendor", "class", "device"), values, strict=True):
            (bus / slot / name).write_text(value + "\n")
    if module:
        (root / "sys/module" / module).mkdir(parents=True)
    if module == "nvidia":
        version = root / "proc/driver/nvidia/version"
        version.parent.mkdir(parents=True)
        version.write_text(
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"
        )
    (root / "dev").mkdir()
    for node in nodes:
        (root / "dev" / node).touch()
    return root


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, fake_nvml: Path) -> dict[str, dict[str, Any]]:
    """What the doctor said in every case."""
    folder = tmp_path_factory.mktemp("doctor")
    nodes = ("nvidia0", "nvidiactl", "nvidia-uvm")
    machine(folder / "bare", card=False)
    machine(folder / "card", card=True)
    machine(folder / "nouveau", card=True, module="nouveau")
    machine(folder / "driven", card=True, module="nvidia", nodes=nodes)
    machine(folder / "nodeless", card=True, module="nvidia", nodes=nodes[:2])
    (folder / "requirements.lock").write_text("rich==0.0.1\n")
    out = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, folder, json.dumps(CASES)],
        env={**os.environ, "LD_LIBRARY_PATH": str(fake_nvml)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    return dict(json.loads(out.stdout))


def finding(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    (check,) = [c for c in report["checks"] if c["name"] == name]
    return dict(check)


def test_no_gpu_is_absent_and_no_failure(reports: dict[str, dict[str, Any]]) -> None:
    report = reports["no driver"]
    for name in ("NVIDIA device", "kernel module", "device nodes", "driver"):
        assert finding(report, name)["status"] == "absent", name
    assert "recording" in finding(report, "driver")["means"]
    assert report["exit_status"] == 0


def test_no_gpu_is_a_failure_for_a_reader_who_insists(reports: dict[str, dict[str, Any]]) -> None:
    report = reports["no driver, live"]
    assert finding(report, "NVIDIA device")["status"] == "fail"
    assert "MLK8S_GPU=live insists" in finding(report, "driver")["means"]
    assert report["exit_status"] == 1


def test_card_without_driver(reports: dict[str, dict[str, Any]]) -> None:
    report = reports["card without driver"]
    assert finding(report, "NVIDIA device")["found"] == "1 × 10de:2330 on the PCI bus"
    assert finding(report, "kernel module")["status"] == "warn"
    assert "ubuntu-drivers install" in finding(report, "kernel module")["fix"]
    assert "modprobe nvidia" in finding(report, "driver")["fix"]
    assert report["exit_status"] == 0  # recorded mode works


def test_nouveau_holds_the_card(reports: dict[str, dict[str, Any]]) -> None:
    check = finding(reports["nouveau"], "kernel module")
    assert (check["status"], check["found"]) == ("warn", "nouveau holds the GPU")
    assert "blacklist nouveau" in check["fix"]
    assert finding(reports["nouveau, live"], "kernel module")["status"] == "fail"


def test_driver_and_library_mismatch(reports: dict[str, dict[str, Any]]) -> None:
    check = finding(reports["mismatch"], "driver")
    assert check["status"] == "fail"
    assert "Driver/library version mismatch" in check["found"]
    assert "reboot" in check["fix"]
    assert reports["mismatch"]["exit_status"] == 1
    # A reader who chose a recording is not stopped by it.
    assert finding(reports["mismatch, recorded"], "driver")["status"] == "warn"


def test_no_permission(reports: dict[str, dict[str, Any]]) -> None:
    check = finding(reports["no permission"], "driver")
    assert check["status"] == "fail"
    assert "permission" in check["found"]
    assert "/dev/nvidia*" in check["fix"]


def test_missing_device_node(reports: dict[str, dict[str, Any]]) -> None:
    check = finding(reports["no nodes"], "device nodes")
    assert (check["status"], check["found"]) == ("warn", "missing: /dev/nvidia-uvm")
    assert "nvidia-modprobe" in check["fix"]


def test_healthy_gpu(reports: dict[str, dict[str, Any]]) -> None:
    report = reports["healthy"]
    assert finding(report, "kernel module")["found"] == "nvidia 580.95.05, open"
    assert finding(report, "driver")["found"] == "driver 580.95.05, CUDA up to 13.0"
    assert finding(report, "GPU 0")["status"] == "ok"
    assert finding(report, "GPU 0")["found"] == "NVIDIA H100 80GB HBM3"


def test_gpu_in_trouble(reports: dict[str, dict[str, Any]]) -> None:
    memory = [c for c in reports["bad memory"]["checks"] if c["name"] == "GPU 0 memory"]
    assert [c["status"] for c in memory] == ["fail", "warn"]
    assert memory[0]["found"] == "3 uncorrectable memory errors since the driver loaded"
    assert finding(reports["worn out"], "GPU 0 memory")["found"] == "row remapping failed"
    # The power cap is normal under load; the thermal slowdown is not.
    assert finding(reports["hot"], "GPU 0 clocks")["found"] == "hardware thermal slowdown"
    assert finding(reports["hot"], "GPU 0 persistence")["fix"] == "sudo nvidia-smi -pm 1 -i 0"
    assert finding(reports["power cap only"], "GPU 0")["status"] == "ok"


def test_mig(reports: dict[str, dict[str, Any]]) -> None:
    assert finding(reports["MIG on"], "GPU 0 MIG")["found"] == "MIG on"
    assert finding(reports["MIG pending"], "GPU 0 MIG")["found"] == "MIG off, on after a reset"


def test_a_reading_the_device_lacks_is_no_trouble(reports: dict[str, dict[str, Any]]) -> None:
    assert finding(reports["no ECC"], "GPU 0")["status"] == "ok"


def test_stale_packages(reports: dict[str, dict[str, Any]]) -> None:
    check = finding(reports["healthy"], "packages")
    assert check["status"] == "warn"
    assert check["found"].startswith("rich ")
    assert "(lock 0.0.1)" in check["found"]
    assert "make book" in check["fix"]


SCHEMA = {
    "type": "object",
    "required": ["schema", "checks", "summary", "exit_status"],
    "additionalProperties": False,
    "properties": {
        "schema": {"const": 1},
        "exit_status": {"enum": [0, 1]},
        "summary": {
            "type": "object",
            "required": ["ok", "warn", "fail", "absent"],
            "additionalProperties": {"type": "integer", "minimum": 0},
        },
        "checks": {
            "type": "array",
            "minItems": 14,
            "items": {
                "type": "object",
                "required": ["name", "status", "found", "means", "fix", "chapters"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string", "minLength": 1},
                    "status": {"enum": ["ok", "warn", "fail", "absent"]},
                    "found": {"type": "string", "minLength": 1},
                    "means": {"type": "string", "minLength": 1},
                    "fix": {"type": "string"},
                    "chapters": {
                        "type": "array",
                        "uniqueItems": True,
                        "items": {"type": "integer", "minimum": 1, "maximum": 8},
                    },
                },
            },
        },
    },
}


def test_json_has_its_shape_and_every_trouble_a_fix(reports: dict[str, dict[str, Any]]) -> None:
    validate = fastjsonschema.compile(SCHEMA)
    for name, report in reports.items():
        validate(report)
        assert sum(report["summary"].values()) == len(report["checks"])
        assert report["exit_status"] == int(report["summary"]["fail"] > 0), name
        for check in report["checks"]:
            if check["status"] in ("warn", "fail"):
                assert check["fix"], (name, check["name"])
                assert check["chapters"], (name, check["name"])
            if check["status"] == "ok":
                assert not check["fix"], (name, check["name"])


def here(env: Mapping[str, str], tmp_path: Path) -> dict[str, Check]:
    """The findings on this machine's packages, with a bare folder for the rest."""
    root = tmp_path / "root"
    if not root.exists():
        machine(root, card=False)
    return {c.name: c for c in doctor.examine(root, env, tmp_path)}


def test_settings_that_nobody_understands(tmp_path: Path) -> None:
    found = here({"MLK8S_GPU": "h1000", "MLK8S_CLUSTER": "prod"}, tmp_path)
    assert found["MLK8S_GPU"].status is Status.FAIL
    assert "auto, live" in found["MLK8S_GPU"].fix
    assert found["cluster"].status is Status.FAIL
    assert doctor.exit_status(list(found.values())) == 1


def test_a_cluster_is_contacted_only_when_asked_for(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    kubectl = tools / "kubectl"
    log = tmp_path / "calls"
    kubectl.write_text(
        f'#!/bin/sh\necho "$*" >> {log}\ncase "$1" in config) echo lab;; *) echo ok;; esac\n'
    )
    kubectl.chmod(0o755)
    config = tmp_path / "kubeconfig"
    config.touch()
    env = {"PATH": f"{tools}{os.pathsep}/usr/bin{os.pathsep}/bin", "KUBECONFIG": str(config)}
    quiet = here(env, tmp_path)["cluster"]
    assert quiet.status is Status.OK
    assert "a kubeconfig, not contacted" in quiet.found
    assert here({**env, "MLK8S_CLUSTER": ""}, tmp_path)["cluster"] == quiet
    assert not log.exists()
    live = here({**env, "MLK8S_CLUSTER": "live"}, tmp_path)["cluster"]
    assert (live.status, live.found) == (Status.OK, "live, context lab")
    assert "/readyz" in log.read_text()
    kubectl.write_text("#!/bin/sh\necho 'connection refused' >&2\nexit 1\n")
    dead = here({**env, "MLK8S_CLUSTER": "live"}, tmp_path)["cluster"]
    assert dead.status is Status.FAIL
    assert "connection refused" in dead.found


def test_live_cluster_without_the_tools(tmp_path: Path) -> None:
    check = here({"MLK8S_CLUSTER": "live", "PATH": ""}, tmp_path)["cluster"]
    assert (check.status, check.found) == (Status.FAIL, "live, without kubectl")


def test_small_machine(tmp_path: Path) -> None:
    root = machine(tmp_path / "root", card=False)
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text("MemTotal:       16384000 kB\nMemFree:  1 kB\n")
    (root / "sys/fs/cgroup").mkdir(parents=True)
    assert here({}, tmp_path)["memory"].status is Status.OK
    (root / "sys/fs/cgroup/memory.max").write_text("2147483648\n")
    (root / "sys/fs/cgroup/cpu.max").write_text("50000 100000\n")
    found = here({}, tmp_path)
    assert (found["memory"].status, found["memory"].found) == (Status.WARN, "2.0 GiB")
    assert (found["CPU cores"].status, found["CPU cores"].found) == (Status.WARN, "0.5")


def test_docker_that_does_not_see_the_gpu(tmp_path: Path) -> None:
    machine(tmp_path / "root", card=True, module="nvidia")
    docker = tmp_path / "bin/docker"
    docker.parent.mkdir()
    docker.write_text("#!/bin/sh\n")
    docker.chmod(0o755)
    check = here({"PATH": str(docker.parent)}, tmp_path)["container runtime"]
    assert (check.status, check.found) == (Status.WARN, "docker, without nvidia-ctk")
    assert "--runtime=docker" in check.fix


@pytest.mark.parametrize(
    ("build", "available", "driver", "status", "says"),
    [
        (None, False, "", Status.OK, "computes on the CPU"),
        ("13.0", False, "", Status.OK, "computes on the CPU"),
        (None, False, "13.0", Status.WARN, "this build cannot use it"),
        ("13.0", False, "12.4", Status.FAIL, "needs CUDA 13.0 and the driver stops at 12.4"),
        ("12.8", True, "12.4", Status.OK, "runs on the GPU"),  # minor versions are compatible
        ("13.0", False, "13.0", Status.FAIL, "CUDA still does not start"),
        ("13.0", True, "13.1", Status.OK, "runs on the GPU"),
    ],
)
def test_pytorch_against_the_driver(
    build: str | None, available: bool, driver: str, status: Status, says: str
) -> None:
    found, means, fix = agreement(build, available, driver)
    assert found is status
    assert says in means
    assert bool(fix) == (status is not Status.OK)


def test_screen_groups_by_outcome_and_ends_with_what_to_repair() -> None:
    checks = [
        Check("broken", Status.FAIL, "b", "it stops", "mend [it]", (1, 2, 3)),
        Check("fine", Status.OK, "f", "good"),
        Check("limited", Status.WARN, "l", "slow", "speed up", (7,)),
    ]
    screen = io.StringIO()
    Console(file=screen, width=100).print(doctor.render(checks))
    text = screen.getvalue()
    headings = ("In order (1)", "Works, with limits (1)", "To repair (1)")
    assert [text.index(h) for h in headings] == sorted(text.index(h) for h in headings)
    assert "→ mend [it]" in text
    assert "(chapters 1 to 3)" in text
    assert "(chapter 7)" in text
    assert text.rstrip().endswith("1 ok, 1 warn, 1 fail")
    assert doctor.exit_status(checks) == 1
    assert doctor.exit_status(checks[1:]) == 0
