"""Processes that share a device, each told what to do, line by line, and none of them left behind.

A process holds two pipes to its parent: commands come in on one, which is its lifeline too (it
closes when the parent ends, however it ends), and one answer for each command goes out on the
other. What CUDA refuses is an answer; a process that dies or falls silent is one as well, since
that is what a neighbor may do to it.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from mlk8s.errors import Mlk8sError

#: What a process executes. Not ``-m``: importing the package has imported this module by then.
CODE = "from mlk8s.bench import sharing_processes; sharing_processes.main()"


@dataclass(frozen=True)
class Answer:
    """What became of a command.

    Attributes:
        value: what the function returned.
        error: why it did not, one sentence; empty if it did.
    """

    value: Any = None
    error: str = ""


class Worker:
    """A process that carries out commands.

    Args:
        function: ``function(state, device, command, **arguments)`` at the top of a module that
            the process can import; ``state`` is a dict that it keeps, the result is a JSON value.
        device: ``cuda`` or ``cpu``.
        environment: added to this process's own.
    """

    def __init__(
        self, function: Callable[..., Any], device: str, environment: Mapping[str, str]
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._pending = b""
        self._process = subprocess.Popen(
            # -P: a torch.py in the working directory is not PyTorch.
            [sys.executable, "-P", "-c", CODE, function.__module__, function.__name__, device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,  # nothing is left to flush into the pipe of a process that has died
            env={**os.environ, **environment},
            # Ctrl-C goes to a terminal's whole process group; the parent alone answers.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def tell(self, command: str, **arguments: Any) -> None:
        """Send a command; a process that has died takes it without a word."""
        assert self._process.stdin is not None
        line = json.dumps([command, arguments]) + "\n"
        with suppress(BrokenPipeError):  # the next answer says how it died
            self._process.stdin.write(line.encode())

    def answer(self, timeout_s: float) -> Answer:
        """Wait for the answer to the oldest command that has none.

        Args:
            timeout_s: the longest wait, s.
        """
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            if not select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return Answer(error=f"gave no answer within {timeout_s:.0f} s")
            chunk = os.read(output, 1 << 20)
            if not chunk:
                return Answer(error=self._death())
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return Answer(**json.loads(line))

    def ask(self, command: str, timeout_s: float, **arguments: Any) -> Answer:
        """Send a command and wait for its answer."""
        self.tell(command, **arguments)
        return self.answer(timeout_s)

    def kill(self) -> None:
        """End it now, as the kernel ends a container that is over its memory limit."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it and close its pipes."""
        self._process.kill()
        with self._process:  # waits, and closes its pipes
            self._log.close()

    def _death(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        self._log.seek(0)
        written = self._log.read().decode(errors="replace").strip().splitlines()
        last = written[-1].strip() if written else "it wrote nothing"
        return f"ended with exit status {code}: {last}"


@contextmanager
def workers(
    function: Callable[..., Any], device: str, environments: Sequence[Mapping[str, str]]
) -> Iterator[list[Worker]]:
    """Start a process for each environment; all have ended when the block has.

    Args:
        function: see :class:`Worker`.
        device: see :class:`Worker`.
        environments: one for each process.
    """
    with ExitStack() as stack:
        started = []
        for environment in environments:
            worker = Worker(function, device, environment)
            stack.callback(worker.close)
            started.append(worker)
        yield started


def ask_all(
    group: Sequence[Worker],
    command: str,
    timeout_s: float,
    arguments: Sequence[Mapping[str, Any]] = (),
) -> list[Answer]:
    """Send a command to every process, then collect the answers.

    Args:
        group: the processes.
        command: what they are told.
        timeout_s: the longest wait for each answer, s.
        arguments: of the command, one mapping for each process.

    Raises:
        Mlk8sError: one of them failed.
    """
    for worker, given in zip(group, arguments or [{}] * len(group), strict=True):
        worker.tell(command, **given)
    answers = [worker.answer(timeout_s) for worker in group]
    for answer in answers:
        if answer.error:
            raise failed(answer.error)
    return answers


def failed(error: str) -> Mlk8sError:
    """The library's error for a process that should not have failed, from what it said."""
    return Mlk8sError(
        f"A process that shares the device failed: {error}",
        "look with `nvidia-smi` for what else uses the GPU, then run again with fewer processes.",
    )


def first_words(error: BaseException) -> str:
    """The first two sentences of an error's first line: PyTorch adds advice, and process ids."""
    line = str(error).strip().split("\n")[0]
    return " ".join(re.split(r"(?<=\.) ", line)[:2])


# --- in the process -----------------------------------------------------------------------------


def main() -> None:
    """Carry out what comes in, with the function and the device of ``sys.argv``."""
    module, name, device = sys.argv[1:]
    # Answers keep the pipe for themselves: CUDA's device assertions print on standard output.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    commands: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(commands,), daemon=True).start()
    function = getattr(importlib.import_module(module), name)
    state: dict[str, Any] = {}
    while True:
        command, arguments = commands.get()
        try:
            answer = {"value": function(state, device, command, **arguments)}
        except RuntimeError as error:  # every error of CUDA that PyTorch reports
            answer = {"error": first_words(error)}
        print(json.dumps(answer), file=answers, flush=True)


def _read(commands: queue.SimpleQueue[Any]) -> None:
    """Queue the commands, and end the process with their pipe, even from within a CUDA call."""
    pending = b""
    # Not through sys.stdin, whose lock would outlive the exit.
    while chunk := os.read(0, 65536):
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            commands.put(json.loads(line))
    os._exit(1)
