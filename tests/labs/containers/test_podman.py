"""podman.sh: a real runtime injects devices by CDI, as root and rootless, and leaves nothing."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlk8s.errors import UsageError
from mlk8s.gpu import cdi
from tests.labs.containers.conftest import LABS, NOBODY, Run
from tests.labs.containers.test_by_hand import running, until

Spec = dict[str, Any]
RUN = ["podman", "--log-level=fatal", "run", "--rm", "--rootfs"]
BUSYBOX = ["/run/image", "/bin/busybox"]


@pytest.fixture
def spec() -> Spec:
    """Two stand-ins for GPUs, and a file of every machine as the driver's library."""
    return cdi.specification(
        cdi.Machine(
            gpus={"0": Path("/dev/nvidia0"), "1": Path("/dev/nvidia1")},
            common=(Path("/dev/nvidiactl"), Path("/dev/nvidia-uvm")),
            libraries={Path("/etc/hostname"): ("libcuda.so.1",)},
        )
    )


def container(
    script: Run, folder: Path, spec: Spec, device: str, words: str, name: str = "nvidia.json"
) -> subprocess.CompletedProcess[str]:
    (folder / name).write_text(json.dumps(spec))
    inside = ["sh", "-c", words]
    options = ["--stand-in", "--cdi", folder / name]
    return script("podman.sh", *options, "--", *RUN, "--device", device, *BUSYBOX, *inside)


def test_a_container_gets_the_device_that_it_asks_for(
    script: Run, open_folder: Path, spec: Spec
) -> None:
    words = (
        "ls -d /dev/nvidia*; echo $NVIDIA_VISIBLE_DEVICES; echo x > /dev/nvidia1 && echo opened; "
        f"cat {cdi.INSIDE}/libcuda.so.1; echo x > {cdi.INSIDE}/libcuda.so.1"
    )
    done = container(script, open_folder, spec, "nvidia.com/gpu=1", words)
    found = done.stdout.split()
    assert found == [
        "/dev/nvidia-uvm",
        "/dev/nvidia1",
        "/dev/nvidiactl",
        "void",
        "opened",
        *Path("/etc/hostname").read_text().split(),
    ], done.stderr
    assert "Read-only file system" in done.stderr


def test_all_gives_all(script: Run, open_folder: Path, spec: Spec) -> None:
    done = container(script, open_folder, spec, "nvidia.com/gpu=all", "ls /dev")
    assert {"nvidia0", "nvidia1", "nvidiactl"} < set(done.stdout.split()), done.stderr


def test_without_a_device_there_is_none(script: Run) -> None:
    done = script("podman.sh", "--stand-in", "--", *RUN, *BUSYBOX, "ls", "/dev")
    assert done.returncode == 0, done.stderr
    assert "nvidia" not in done.stdout


def test_a_user_who_has_ranges_of_ids(open_folder: Path) -> None:
    """As most desktops give them: podman must not try to map them from inside."""
    if os.getuid() != 0:
        pytest.skip("only root can give a user ranges")
    ranges = open_folder / "ranges"
    ranges.write_text(f"{NOBODY}:100000:65536\nnobody:100000:65536\n")
    copied = shutil.copy(LABS / "podman.sh", open_folder)
    give = f'for each in /etc/subuid /etc/subgid; do mount --bind {ranges} $each; done; exec "$@"'
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    command = [*drop, copied, "--", *RUN, *BUSYBOX, "id", "-u"]
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-ec", give, "bash", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


# --- the rules of mlk8s.gpu.cdi are those of the runtime ----------------------------------------


def common(**edits: Any) -> Callable[[Spec], None]:
    return lambda spec: spec["containerEdits"].update(edits)


CHANGES: dict[str, Callable[[Spec], None]] = {
    "as it is": lambda s: None,
    "an unknown version": lambda s: s.update(cdiVersion="9.0.0"),
    "no version": lambda s: s.pop("cdiVersion"),
    "kind without vendor": lambda s: s.update(kind="gpu"),
    "no devices": lambda s: s.update(devices=[]),
    "a name twice": lambda s: s["devices"].append(s["devices"][0]),
    "a name with a space": lambda s: s["devices"][1].update(name="a b"),
    "no edits": lambda s: s["devices"][1].update(containerEdits={}),
    "a variable without value": common(env=["DEBUG"]),
    "a variable with an empty value": common(env=["DEBUG="]),
    "an unknown field": common(nodes=[]),
    "unknown permissions": lambda s: s["devices"][0]["containerEdits"]["deviceNodes"][0].update(
        permissions="rx"
    ),
    "an unknown hook": common(hooks=[{"hookName": "before", "path": "/bin/true"}]),
    "a mount without a place": common(mounts=[{"hostPath": "/etc/hostname"}]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_the_check_refuses_podman_refuses(tmp_path: Path, spec: Spec, name: str) -> None:
    changed = copy.deepcopy(spec)
    CHANGES[name](changed)
    try:
        cdi.check(changed)
        valid = True
    except UsageError:
        valid = False
    done = judged(tmp_path, changed)
    if valid:
        assert done.returncode == 0, done.stderr
    else:
        assert "unresolvable CDI devices nvidia.com/gpu=0" in done.stderr


def judged(folder: Path, spec: Spec) -> subprocess.CompletedProcess[str]:
    """What podman says to a specification."""
    file = folder / "nvidia.json"
    file.write_text(json.dumps(spec))
    run = [*RUN, "--device", "nvidia.com/gpu=0", *BUSYBOX, "true"]
    return sandbox("--stand-in", "--cdi", str(file), "--", *run)


def sandbox(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """podman.sh by the user of the tests."""
    return subprocess.run(
        [str(LABS / "podman.sh"), *arguments],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def test_podman_4_3_ends_at_version_0_5_0(tmp_path: Path, spec: Spec) -> None:
    """What chapter 4 and exercise 4.2 say of the podman of Debian 12."""
    version = sandbox("--", "podman", "--version").stdout
    if " 4.3." not in version:
        pytest.skip(f"this is {version.strip()}")
    with pytest.raises(UsageError, match="the runtime knows up to"):
        cdi.check({**spec, "cdiVersion": "0.6.0"}, newest="0.5.0")
    assert "unresolvable" in judged(tmp_path, {**spec, "cdiVersion": "0.6.0"}).stderr
    assert judged(tmp_path, {**spec, "cdiVersion": "0.5.0"}).returncode == 0


def test_a_file_of_another_name_is_passed_over(script: Run, open_folder: Path, spec: Spec) -> None:
    done = container(script, open_folder, spec, "nvidia.com/gpu=0", "true", name="nvidia.yml")
    assert "unresolvable CDI devices nvidia.com/gpu=0" in done.stderr


# --- the machine that has a driver --------------------------------------------------------------


def test_the_specification_of_a_machine_with_a_driver(tmp_path: Path) -> None:
    """Nodes from the stand-in, and a library that the loader really finds."""
    driver = tmp_path / "driver"
    driver.mkdir()
    for name in ("libcuda", "libnvidia-ml", "libGLX_nvidia"):
        built = ["cc", "-x", "c", "-", "-shared", "-o", f"{driver}/{name}.so.580.1"]
        subprocess.run(built, input="", text=True, check=True)
    (driver / "libcuda.so.1").symlink_to("libcuda.so.580.1")
    (driver / "libcuda.so").symlink_to("libcuda.so.1")
    (driver / "libnvidia-ml.so.1").symlink_to("libnvidia-ml.so.580.1")
    write = (
        "import json; from mlk8s.gpu import cdi; print(json.dumps(cdi.specification(cdi.find())))"
    )
    python = ["--", sys.executable, "-c", write]
    done = sandbox("--stand-in", *python, LD_LIBRARY_PATH=str(driver))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [each["name"] for each in found["devices"]] == ["0", "1", "all"]
    paths = [each["path"] for each in found["containerEdits"]["deviceNodes"]]
    assert paths == ["/dev/nvidiactl", "/dev/nvidia-uvm"]
    mounts = {m["containerPath"]: m["hostPath"] for m in found["containerEdits"]["mounts"]}
    libraries = {inside: host for inside, host in mounts.items() if inside.startswith(cdi.INSIDE)}
    assert libraries == {
        f"{cdi.INSIDE}/{name}": str(driver / file)
        for file in ("libcuda.so.580.1", "libnvidia-ml.so.580.1")
        for name in (file, file.replace("580.1", "1"))
    }


def test_nodes_without_a_driver_library() -> None:
    if subprocess.run(["sh", "-c", "ldconfig -p | grep -q libcuda.so.1"]).returncode == 0:
        pytest.skip("this machine has a driver")
    find = "from mlk8s.gpu import cdi; cdi.find()"
    done = sandbox("--stand-in", "--", sys.executable, "-c", find)
    assert "The driver's library cannot be loaded: libcuda.so.1: cannot open" in done.stderr


# --- the script ---------------------------------------------------------------------------------


def test_nothing_of_it_is_left(script: Run, open_folder: Path, spec: Spec) -> None:
    def state() -> object:
        folders = [sorted(os.listdir(each)) for each in ("/mnt", "/dev/shm", "/dev")]
        written = [Path(each).exists() for each in ("/run/cdi", "/run/storage.conf", "/etc/cdi")]
        return Path("/proc/self/mountinfo").read_text(), folders, written

    before = state()
    container(script, open_folder, spec, "nvidia.com/gpu=0", "true")
    assert state() == before
    # Rootless podman leaves a process that holds its namespaces, if one lets it.
    assert [each for each in Path("/proc").glob("[0-9]*") if works_in(each) == open_folder] == []


def works_in(process: Path) -> Path | None:
    try:
        return (process / "cwd").readlink()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None  # it ended in between, or is somebody else's


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interruption_ends_all_of_it(
    user: list[str], open_folder: Path, number: signal.Signals
) -> None:
    copied = shutil.copy(LABS / "podman.sh", open_folder)
    mark = f"{8000 + number}.{os.getpid()}"
    words = [*RUN, *BUSYBOX, "sleep", mark]
    process = subprocess.Popen(
        [*user, copied, "--", *words], stdin=subprocess.DEVNULL, cwd=open_folder
    )
    until(lambda: any(each.startswith("/bin/busybox sleep") for each in running(mark)))
    process.send_signal(number)
    process.wait(10)
    until(lambda: not running(mark))


def test_it_says_what_to_install(user: list[str], open_folder: Path) -> None:
    """On a machine whose PATH has a shell and little else."""
    bare = open_folder / "bin"
    bare.mkdir()
    for name in ("bash", "env", "id"):
        (bare / name).symlink_to(f"/usr/bin/{name}")
    copied = open_folder / "podman.sh"
    copied.write_text((LABS / "podman.sh").read_text())
    done = subprocess.run(
        [*user, "/usr/bin/env", f"PATH={bare}", "bash", str(copied), "--", "podman", "info"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "podman.sh: Not installed: podman runc busybox-static. "
        "Next: install it: sudo apt-get install podman runc busybox-static.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "No command was given. Next: write it behind --, for example: -- podman info."),
        (["--stand-in"], "No command was given. Next: "),
        (["--cdi", "/none.json", "--", "true"], "--cdi names /none.json, which is not there. Next"),
        (["--cdi"], "--cdi names nothing, which is not there. Next: give the path of a file."),
        (["--device", "x", "--", "true"], "The option --device is unknown. Next: see the top of"),
    ],
)
def test_bad_arguments_are_one_sentence(script: Run, arguments: list[str], says: str) -> None:
    done = script("podman.sh", *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"podman.sh: {says}")
