"""NVIDIA's Multi-Process Service (MPS), started for one measurement and stopped however that ends.

The control daemon has a directory of its own, so no other daemon's clients meet it. A guard process
starts it and waits on a pipe that closes when the measuring program ends, killed or not; then the
guard stops the daemon and its servers, and removes the directory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mlk8s.errors import Mlk8sError

if TYPE_CHECKING:
    import psutil

CONTROL = "nvidia-cuda-mps-control"
#: Where the driver's tools are when they are not on the PATH: mounted into a container, or WSL.
PLACES = ("/usr/local/nvidia/bin", "/usr/bin", "/usr/lib/wsl/lib")
PIPES = "CUDA_MPS_PIPE_DIRECTORY"
LOGS = "CUDA_MPS_LOG_DIRECTORY"
#: What the guard executes. Not ``-m``: importing the package has imported this module by then.
GUARD = "from mlk8s.bench import sharing_mps; sharing_mps.guard()"
#: What the guard says when the daemon did not start, before the daemon's own last line.
FAILED = "failed: "
ASK_S = 10.0
STOP_S = 5.0


@dataclass(frozen=True)
class Service:
    """A running control daemon.

    Attributes:
        control: path of the program that talks to it.
        environment: what makes a process its client.
    """

    control: str
    environment: Mapping[str, str]

    def clients(self) -> set[int]:
        """Process ids of its clients, as its servers list them.

        Raises:
            Mlk8sError: the daemon does not answer.
        """
        found = (
            self._numbers(f"get_client_list {pid}") for pid in self._numbers("get_server_list")
        )
        return set().union(*found)

    def _numbers(self, command: str) -> set[int]:
        """The lines of an answer that are numbers."""
        try:
            said = subprocess.run(
                [self.control],
                input=f"{command}\n",
                capture_output=True,
                text=True,
                timeout=ASK_S,
                env={**os.environ, **self.environment},
            ).stdout
        except subprocess.TimeoutExpired as error:
            raise Mlk8sError(
                f"The MPS control daemon gave no answer to `{command}` within {ASK_S:.0f} s.",
                "look for faults of the GPU with `dmesg | grep Xid`, then run again.",
            ) from error
        return {int(line) for line in said.split("\n") if line.strip().isdecimal()}


@contextmanager
def service() -> Iterator[Service]:
    """Run a control daemon for the block.

    Raises:
        Mlk8sError: MPS is not installed, runs here already, or does not start.
    """
    control = find()
    refuse_others()
    guard = subprocess.Popen(
        # -P: a torch.py in the working directory is not PyTorch.
        [sys.executable, "-P", "-c", GUARD, control],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # The daemon looks for nvidia-cuda-mps-server on its PATH.
        env={**os.environ, "PATH": f"{Path(control).parent}{os.pathsep}{os.environ['PATH']}"},
        # Ctrl-C goes to a terminal's whole process group; the guard has to outlive it.
        start_new_session=True,
    )
    with guard:  # leaving it closes the pipe that the guard waits on, and waits for the guard
        assert guard.stdout is not None
        said = guard.stdout.readline().rstrip("\n")
        if not said or said.startswith(FAILED):
            raise Mlk8sError(
                f"The MPS control daemon did not start: {said.removeprefix(FAILED) or 'no word'}.",
                "check with `nvidia-smi` that the GPU answers and is not in compute mode "
                "Prohibited, then run again.",
            )
        yield Service(control, MappingProxyType(directories(Path(said))))


def find() -> str:
    """Path of the control program.

    Raises:
        Mlk8sError: it is not installed.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), *PLACES])
    found = shutil.which(CONTROL, path=path)
    if found is None:
        raise Mlk8sError(
            f"MPS needs {CONTROL}, which is neither on the PATH nor in {', '.join(PLACES)}.",
            "install the driver's compute utilities (Ubuntu: "
            "nvidia-compute-utils-<branch>-server), or leave MPS out.",
        )
    return found


def refuse_others() -> None:
    """Refuse a machine on which MPS runs already.

    Raises:
        Mlk8sError: it does, with process and user.
    """
    import psutil

    for process in running():
        try:
            who = f"process {process.pid} of user {process.username()}"
        except psutil.NoSuchProcess:
            continue
        raise Mlk8sError(
            f"MPS runs here already ({who}). Two services on one GPU take turns, so the figures "
            "would be those of neither.",
            f"have that user run `echo quit | {CONTROL}`, with the {PIPES} it was started with, "
            "or end the process, then run again.",
        )


def running() -> list[psutil.Process]:
    """The control daemons and servers of all users that run now."""
    import psutil

    return [
        process
        for process in psutil.process_iter(["name", "status"])
        # Linux cuts the name after 15 characters. A zombie has ended.
        if process.info["name"].startswith(CONTROL[:15])
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def directories(folder: Path) -> dict[str, str]:
    """The variables that name the directories of a daemon below a folder."""
    return {PIPES: str(folder / "pipe"), LOGS: str(folder / "log")}


# --- in the guard's process ---------------------------------------------------------------------


def guard() -> None:
    """Start the daemon of ``sys.argv[1]``, say where it is, wait for the pipe, and stop it."""
    control = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="mlk8s-mps-") as folder:
        os.environ |= directories(Path(folder))
        for name in (PIPES, LOGS):
            Path(os.environ[name]).mkdir()
        log = Path(folder, "start")
        try:
            with log.open("wb") as output:
                # A file, since the daemon keeps it open, and a pipe would then never end.
                done = subprocess.run(
                    [control, "-d"],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=ASK_S,
                )
            if done.returncode:
                last = log.read_text(errors="replace").strip().splitlines()[-1:]
                print(
                    f"{FAILED}{last[0] if last else f'exit status {done.returncode}'}", flush=True
                )
                return
            print(folder, flush=True)
            sys.stdin.read()
        finally:
            _stop(control)


def _stop(control: str) -> None:
    """Ask the daemon to quit, and kill what is left of it after some seconds."""
    if not _ours():
        return
    with suppress(subprocess.TimeoutExpired):  # where it hangs it is killed below
        subprocess.run(
            [control], input="quit -t 2\n", text=True, capture_output=True, timeout=ASK_S
        )
    deadline = time.monotonic() + STOP_S
    while (left := _ours()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left:
        process.kill()


def _ours() -> list[psutil.Process]:
    """What runs with this guard's directories."""
    import psutil

    found = []
    for process in running():
        try:
            environment = process.environ()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # another user's, which cannot be ours
        if environment.get(PIPES) == os.environ[PIPES]:
            found.append(process)
    return found
