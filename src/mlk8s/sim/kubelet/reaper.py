"""One small process that outlives the simulator by a moment, and leaves nothing behind.

It holds the end of a pipe. When the simulator is gone, by ``kill -9`` too, the pipe ends; then the
reaper kills every process group it was told of and every process that carries the cluster's mark
in its environment, removes the cluster's directory, and ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

# In the environment of every process of a pod; its value is the cluster's directory.
MARK = "MLK8S_SIM_CLUSTER"
_CHECK_PARENT_S = 1.0
_ROUNDS = 20
_ROUND_S = 0.05
_CLOSE_WITHIN_S = 5.0


class Reaper:
    """The simulator's end of the pipe.

    Args:
        process: the helper.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @classmethod
    def start(cls, directory: Path) -> Reaper:
        """Start the helper of one cluster.

        Args:
            directory: the cluster's own; it is removed at the end.
        """
        return cls(
            subprocess.Popen(
                [sys.executable, "-I", __file__, str(directory.resolve())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        )

    def add(self, group: int) -> None:
        """Kill this process group, should the simulator die."""
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        """The process group has ended."""
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """Let it clean up and end; waits until it has."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(_CLOSE_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        # Without its reaper a cluster runs on; the mark is still there for the next one to see.
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


def kill_marked(directory: str, groups: set[int]) -> bool:
    """Kill process groups, and all processes marked with the directory; says if any was left.

    A process that has left its group (a daemon) still has the mark.
    """
    import psutil

    found = False
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
            found = True
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == directory:
                process.kill()
                found = True
    return found


def _clean(directory: str, groups: set[int]) -> None:
    for _ in range(_ROUNDS):
        # A process that forks while it is being killed is found in the next round.
        left = kill_marked(directory, groups)
        shutil.rmtree(directory, ignore_errors=True)
        if not left and not os.path.exists(directory):
            return
        time.sleep(_ROUND_S)


def main() -> None:
    """Wait for the end of standard input, then clean up."""
    directory = sys.argv[1]
    parent = os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    pending = b""
    # A fork of the simulator may hold the pipe open; its death shows in the parent's id too.
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], _CHECK_PARENT_S)
        if not readable:
            continue
        data = os.read(0, 65536)
        if not data:
            break
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            group = int(line[1:])
            (groups.add if line[:1] == b"+" else groups.discard)(group)
    _clean(directory, groups)


if __name__ == "__main__":
    main()
