"""by-hand.sh: a container that sees what it was given, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.labs.containers.conftest import LABS, Run

# Linked against a library that neither the program nor the shell needs, as libcuda.so.1 is.
LIBRARY = 'const char *answer(void) { return "from the driver"; }'
NEEDS = ("-Wl,--no-as-needed", "-lm")
PROGRAM = """
#include <dlfcn.h>
#include <stdio.h>
int main(void) {
  void *library = dlopen("libstandin.so.1", RTLD_NOW);
  if (!library) { puts("no library"); return 3; }
  puts(((const char *(*)(void))dlsym(library, "answer"))());
  return 0;
}
"""


def test_it_is_another_machine_from_inside(script: Run) -> None:
    words = "cat /proc/sys/kernel/hostname /proc/1/comm; id; ls /; echo ${SECRET:-none}"
    os.environ["SECRET"] = "of the host"
    try:
        done = script("by-hand.sh", "--", "sh", "-c", words)
    finally:
        del os.environ["SECRET"]
    assert done.returncode == 0, done.stderr
    name, first, who, *rest = done.stdout.split("\n")
    assert (name, first) == ("by-hand", "sh")
    assert who.startswith("uid=0")
    assert "home" not in rest and "root" not in rest
    assert "none" in rest


def test_it_has_the_nodes_that_were_given(script: Run) -> None:
    without = script("by-hand.sh", "--", "ls", "/dev").stdout.split()
    assert without == ["null", "random", "shm", "urandom", "zero"]
    given = ["--node", "/dev/null:/dev/nvidia0", "--node", "/dev/zero:/dev/nvidia-caps/cap1"]
    look = "ls /dev /dev/nvidia-caps; echo x > /dev/nvidia0 && echo opened"
    done = script("by-hand.sh", *given, "--", "sh", "-c", look)
    assert done.stdout.split()[-1] == "opened", done.stderr
    assert {"nvidia0", "nvidia-caps", "cap1"} < set(done.stdout.split())


def test_a_node_that_it_makes_itself_opens_nothing(script: Run) -> None:
    mknod = shutil.which("mknod")
    make = f"{mknod} /tmp/null c 1 3 && cat /tmp/null"
    done = script("by-hand.sh", "--program", mknod, "--", "sh", "-c", make)
    assert done.returncode != 0
    assert "Permission denied" in done.stderr or "not permitted" in done.stderr


def test_a_library_is_found_by_the_name_that_programs_use(script: Run, open_folder: Path) -> None:
    folder = open_folder / "driver"
    folder.mkdir()
    library, program = folder / "libstandin.so.580.1", open_folder / "program"
    build(LIBRARY, library, "-shared", "-fPIC", "-Wl,-soname,libstandin.so.1", *NEEDS)
    build(PROGRAM, program)
    words = ["--program", program, "--", program]
    done = script("by-hand.sh", *words)
    assert (done.returncode, done.stdout) == (3, "no library\n")
    done = script("by-hand.sh", "--library", library, *words)
    assert (done.returncode, done.stdout) == (0, "from the driver\n"), done.stderr
    before = library.read_bytes()
    spoil = ["--library", library, "--", "sh", "-c", f"echo x > {library}"]
    done = script("by-hand.sh", *spoil)
    assert "Read-only file system" in done.stderr
    assert library.read_bytes() == before


def build(source: str, target: Path, *options: str) -> None:
    subprocess.run(
        ["cc", "-x", "c", "-", "-o", target, *options], input=source, text=True, check=True
    )
    target.chmod(0o755)


def test_status_and_input_go_through(script: Run) -> None:
    assert script("by-hand.sh", "--", "sh", "-c", "exit 7").returncode == 7
    assert script("by-hand.sh", "--", "cat", stdin="hello").stdout == "hello"


def test_nothing_of_it_is_left(script: Run) -> None:
    before = Path("/proc/self/mountinfo").read_text(), sorted(os.listdir("/mnt"))
    script("by-hand.sh", "--node", "/dev/null:/dev/nvidia0", "--", "ls", "/")
    assert (Path("/proc/self/mountinfo").read_text(), sorted(os.listdir("/mnt"))) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_interruption_ends_all_of_it(
    user: list[str], open_folder: Path, number: signal.Signals
) -> None:
    copied = shutil.copy(LABS / "by-hand.sh", open_folder)
    said = open_folder / "said"
    # The time makes the process one that only this test has.
    mark = f"{9000 + number}.{os.getpid()}"
    words = ["--program", shutil.which("sleep") or "", "--", "sh", "-c"]
    with said.open("w") as output:
        process = subprocess.Popen(
            [*user, copied, *words, f"echo started; sleep {mark}; true"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            cwd=open_folder,
        )
        until(lambda: said.read_text() == "started\n" and bool(running(mark)))
        process.send_signal(number)
        process.wait(10)
    until(lambda: not running(mark))


def running(mark: str) -> list[str]:
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended in between
        if any(mark in word for word in words):
            found.append(" ".join(words))
    return found


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "No command was given. Next: write it behind --, for example: -- ls /dev."),
        (["--"], "No command was given. Next: "),
        (["--node", "/dev/null"], "No command was given. Next: "),
        (["--nodes", "x", "--", "ls"], "The option --nodes is unknown. Next: see the top"),
        (["--node", "/dev/none:/dev/x", "--", "ls"], "--node names /dev/none:/dev/x, which is not"),
        (["--library"], "--library names nothing, which is not there. Next: give the path"),
    ],
)
def test_bad_arguments_are_one_sentence(script: Run, arguments: list[str], says: str) -> None:
    done = script("by-hand.sh", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"by-hand.sh: {says}")
