"""A local process in bounds: its own session, a minimal environment, limits on what it takes.

Times here are the machine's, not the cluster's: a process runs in real time.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlk8s.sim.kubelet.reaper import MARK

# A container's process may run so long; then it is killed.
WALL_LIMIT_S = 600.0
# How much of its output is taken per second; more makes it wait, as a full pipe does.
OUTPUT_BYTES_PER_S = 4 * 1024 * 1024
# The largest file it may write, and its open files.
FILE_BYTES = 1024**3
OPEN_FILES = 1024
# Address space beyond the memory limit: mapped libraries count there, but not as memory in use.
ADDRESS_SLACK_BYTES = 8 * 1024**3

_READ_BYTES = 65536
_NICENESS = 10
_LAUNCH = (
    f"ulimit -c 0; ulimit -n {OPEN_FILES} 2>/dev/null; ulimit -f {FILE_BYTES // 512} 2>/dev/null; "
    '[ -z "$MLK8S_AS_KIB" ] || ulimit -v "$MLK8S_AS_KIB" 2>/dev/null; unset MLK8S_AS_KIB; '
    'exec "$@"'
)


@dataclass(frozen=True)
class Exit:
    """How a process ended.

    Attributes:
        code: of the process; 128 + the signal that killed it.
        oom: whether it was killed for its memory.
        message: why it was killed, where the simulator did it for one of its own limits.
    """

    code: int
    oom: bool = False
    message: str = ""


class Process:
    """One process with the group it leads.

    Args:
        mark: of the cluster, put into its environment.
        arguments: the command; its first part is a path.
        environment: all of it; nothing is inherited.
        directory: where it runs.
        output: called with a stream's number (1, 2) and what was written to it.
        done: called once when it has ended and its output has been read.
        merge: standard error goes where standard output goes.
        stdin: whether it can be written to.
        tty: give it a terminal; implies ``merge`` and ``stdin``.
        memory: limit in bytes on what the group uses.
        wall_s: how long it may run.
    """

    def __init__(
        self,
        mark: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        output: Callable[[int, bytes], None],
        done: Callable[[Exit], None],
        *,
        merge: bool = True,
        stdin: bool = False,
        tty: bool = False,
        memory: int | None = None,
        wall_s: float = WALL_LIMIT_S,
    ) -> None:
        self._output = output
        self._done = done
        self.memory = memory
        self.wall_s = wall_s
        self.deadline = time.monotonic() + wall_s
        self.rss = 0
        self._oom = False
        self._message = ""
        self._budget = float(OUTPUT_BYTES_PER_S)
        self._refilled = time.monotonic()
        self._held = False
        self._streams: dict[int, int] = {}
        self._terminal = -1
        self._input = -1
        environment = {**environment, MARK: mark}
        if memory is not None:
            environment["MLK8S_AS_KIB"] = str((memory + ADDRESS_SLACK_BYTES) // 1024)
        command = ["/bin/sh", "-c", _LAUNCH, "sh", *arguments]
        if tty:
            self._start_on_terminal(command, environment, directory)
        else:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if merge else subprocess.PIPE,
                bufsize=0,
                cwd=directory,
                env=environment,
                start_new_session=True,
            )
            assert self._process.stdout is not None
            self._streams[self._process.stdout.fileno()] = 1
            if self._process.stderr is not None:
                self._streams[self._process.stderr.fileno()] = 2
            if self._process.stdin is not None:
                self._input = self._process.stdin.fileno()
        self.pid = self._process.pid
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PGRP, self.pid, _NICENESS)
        loop = asyncio.get_running_loop()
        for descriptor in self._streams:
            os.set_blocking(descriptor, False)
            loop.add_reader(descriptor, self._readable, descriptor)
        if self._input >= 0:
            os.set_blocking(self._input, False)

    def _start_on_terminal(
        self, command: list[str], environment: dict[str, str], directory: Path
    ) -> None:
        ours, theirs = pty.openpty()
        # A new session takes the first terminal that it opens as its own.
        command[2] = f'exec <>"{os.ttyname(theirs)}" >&0 2>&1; {command[2]}'
        try:
            self._process = subprocess.Popen(
                command,
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                cwd=directory,
                env=environment,
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        self._terminal = self._input = ours
        self._streams[ours] = 1

    # -- from outside ----------------------------------------------------------------------------

    def terminate(self) -> None:
        """SIGTERM to the whole group."""
        self._signal(signal.SIGTERM)

    def kill(self, message: str = "", oom: bool = False) -> None:
        """SIGKILL to the whole group."""
        self._message, self._oom = message or self._message, oom or self._oom
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def write(self, data: bytes) -> None:
        """Write to its standard input; waits while it does not read."""
        loop = asyncio.get_running_loop()
        while data and self._input >= 0:
            try:
                data = data[os.write(self._input, data) :]
            except BlockingIOError:
                ready = loop.create_future()
                loop.add_writer(self._input, _finish, ready)
                try:
                    await ready
                finally:
                    if self._input >= 0:
                        loop.remove_writer(self._input)
            except OSError:
                self.close_input()

    def close_input(self) -> None:
        """End its standard input."""
        if self._input >= 0 and self._terminal < 0:
            asyncio.get_running_loop().remove_writer(self._input)
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._input = -1
        elif self._terminal >= 0:
            with contextlib.suppress(OSError):
                os.write(self._terminal, b"\x04")

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of its terminal."""
        if self._terminal >= 0:
            size = struct.pack("HHHH", rows, columns, 0, 0)
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def hold(self) -> None:
        """Read no more output until :meth:`go_on`: who gets it is behind."""
        self._held = True
        loop = asyncio.get_running_loop()
        for descriptor in self._streams:
            loop.remove_reader(descriptor)

    def go_on(self) -> None:
        """Read output again."""
        self._held = False
        loop = asyncio.get_running_loop()
        for descriptor in self._streams:
            loop.add_reader(descriptor, self._readable, descriptor)

    # -- output ----------------------------------------------------------------------------------

    def _readable(self, descriptor: int) -> None:
        now = time.monotonic()
        self._budget = min(
            OUTPUT_BYTES_PER_S, self._budget + (now - self._refilled) * OUTPUT_BYTES_PER_S
        )
        self._refilled = now
        if self._budget < 0:
            # A full pipe makes the process wait, so it can fill neither memory nor disk.
            loop = asyncio.get_running_loop()
            loop.remove_reader(descriptor)
            loop.call_later(-self._budget / OUTPUT_BYTES_PER_S + 0.01, self._again, descriptor)
            return
        self._budget -= self._read(descriptor)

    def _again(self, descriptor: int) -> None:
        if descriptor in self._streams and not self._held:
            asyncio.get_running_loop().add_reader(descriptor, self._readable, descriptor)

    def _read(self, descriptor: int) -> int:
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError:  # the other end of a terminal is gone
            data = b""
        if data:
            self._output(self._streams[descriptor], data)
        else:
            self._close(descriptor)
        return len(data)

    def _close(self, descriptor: int) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)
        self._streams.pop(descriptor, None)
        if descriptor == self._terminal:
            asyncio.get_running_loop().remove_writer(descriptor)
            os.close(descriptor)
            self._terminal = self._input = -1
            return
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None and not stream.closed and stream.fileno() == descriptor:
                stream.close()

    # -- the end ---------------------------------------------------------------------------------

    def ended(self) -> bool:
        """Whether the leader has ended; it is not reaped, so its id stays its own."""
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return found is not None

    def finish(self) -> None:
        """Kill what is left of the group, read the rest of the output, and tell."""
        # As when the first process of a container ends.
        self._signal(signal.SIGKILL)
        code = self._process.wait()
        for descriptor in list(self._streams):
            for _ in range(64):
                if descriptor not in self._streams or not self._read(descriptor):
                    break
            if descriptor in self._streams:
                self._close(descriptor)
        if self._input >= 0:
            self.close_input()
        self._done(Exit(128 - code if code < 0 else code, self._oom, self._message))


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
