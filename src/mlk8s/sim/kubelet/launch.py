"""Starting a container: as a process of this machine, a given log, or something that waits."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from pathlib import Path

from mlk8s.sim.api import Api
from mlk8s.sim.clock import Clock, Timer
from mlk8s.sim.kubelet import ray_command
from mlk8s.sim.kubelet.container import Container
from mlk8s.sim.kubelet.environment import SEARCH_PATH, Mounts, expand, variables
from mlk8s.sim.kubelet.images import Image
from mlk8s.sim.kubelet.logs import LogBuffer, LogPool
from mlk8s.sim.kubelet.process import Exit, Process
from mlk8s.sim.kubelet.processes import Processes
from mlk8s.sim.kubelet.volumes import mounts_of
from mlk8s.sim.nodes import smi
from mlk8s.sim.quantity import value
from mlk8s.sim.status import Object

_START_FAILED = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
    "runc create failed: unable to start container process: error during container init: "
)
# pkg/kubelet: a termination message is cut at 4096 bytes; from the log, at 2048 and 80 lines.
_MESSAGE_BYTES = 4096
_FALLBACK_BYTES = 2048
_FALLBACK_LINES = 80
# What nvidia-smi can see in a container.
_SEEN = ".nvidia-smi.json"


class StartError(Exception):
    """A container that cannot be started; the message is containerd's."""


class NoCommand(Exception):
    """There is no such program; the message is runc's."""


class Scripted:
    """A run without a process: prints what it is given, then ends, or goes on until stopped.

    Args:
        clock: of the cluster.
        log: where it prints.
        text: what it prints at once.
        seconds: how long it runs; ``None`` until it is stopped.
        code: its exit code.
        changed: called when it ends.
    """

    def __init__(
        self,
        clock: Clock,
        log: LogBuffer,
        text: str,
        seconds: float | None,
        code: int,
        changed: Callable[[], None],
    ) -> None:
        self.log = log
        self.exit: Exit | None = None
        self._clock = clock
        self._changed = changed
        self._timer: Timer | None = None
        if text:
            log.write(text.encode(), clock.now())
        if seconds is not None:
            self._timer = clock.call_later(seconds, lambda: self.end(code))

    def terminate(self) -> None:
        """End as a well-behaved server does at SIGTERM."""
        self.end(0)

    def kill(self) -> None:
        """End at once."""
        self.end(137)

    def conclude(self) -> None:
        """End successfully."""
        self.end(0)

    def end(self, code: int) -> None:
        """End with an exit code; nothing happens where it has ended."""
        if self.exit is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self.exit = Exit(code)
        self.log.close(self._clock.now())
        self._changed()


class Local:
    """A run as a process of this machine.

    Args:
        clock: of the cluster.
        log: where its output goes.
        changed: called when it ends.
    """

    def __init__(self, clock: Clock, log: LogBuffer, changed: Callable[[], None]) -> None:
        self.log = log
        self.exit: Exit | None = None
        self.process: Process | None = None
        self._clock = clock
        self._changed = changed
        self._concluded = False

    def output(self, _stream: int, data: bytes) -> None:
        """Take what it prints."""
        self.log.write(data, self._clock.now())

    def done(self, found: Exit) -> None:
        """Take its end."""
        if found.message:
            self.log.write(f"# simulated: {found.message}\n".encode(), self._clock.now())
        self.exit = Exit(0) if self._concluded else found
        self.log.close(self._clock.now())
        self._changed()

    def conclude(self) -> None:
        """SIGTERM, and an end that counts as success, as a shell around it would have it."""
        self._concluded = True
        self.terminate()

    def terminate(self) -> None:
        """SIGTERM."""
        if self.process is not None and self.exit is None:
            self.process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None and self.exit is None:
            self.process.kill()


class Launcher:
    """Starts containers of one cluster.

    Args:
        api: the cluster.
        processes: who watches what is started.
        pool: what logs count for.
        directory: the kubelet's own.
    """

    def __init__(self, api: Api, processes: Processes, pool: LogPool, directory: Path) -> None:
        self.api = api
        self.processes = processes
        self.pool = pool
        self.directory = directory
        self._tools: Path | None = None

    def configure(
        self, pod: Object, node: Object | None, container: Container, places: Mapping[str, Path]
    ) -> None:
        """Find a container's environment and mounts.

        Raises:
            ConfigError: something that it refers to does not exist.
        """
        # Under the fault all-gpus-visible a container has the driver without a request.
        leaked = container.driver and not has_gpu(container)
        devices = ["all"] if leaked else container.devices
        container.environment = variables(
            self.api, pod, container.spec, node, devices, container.ports
        )
        mounts = mounts_of(container.spec, dict(places))
        path = container.spec.get("terminationMessagePath") or "/dev/termination-log"
        mounts.setdefault(path, self.home(pod, container).parent / "termination-log")
        container.mounts = Mounts(mounts)

    def start(
        self,
        pod: Object,
        container: Container,
        image: Image,
        seen: smi.Seen | None,
        changed: Callable[[], None],
    ) -> Scripted | Local:
        """Start a container that has been configured.

        Args:
            pod: its pod.
            container: the container.
            image: how it runs.
            seen: what ``nvidia-smi`` can see in it; ``None`` where there is no such command.
            changed: called when it ends.

        Raises:
            StartError: its command does not exist.
        """
        log = LogBuffer(self.pool)
        clock = self.api.clock
        command = self._command(container, image)
        if image.kind == "process" and command[:1] == ["nvidia-smi"] and seen is not None:
            container.simulated = "replay"
            if smi.interval(command[1:]) is None:
                said = smi.answer(seen, command[1:])
                return Scripted(clock, log, said.err + said.out, 0.2, said.code, changed)
        if is_process(container, image):
            container.simulated = "process"
            return self._process(pod, container, command, seen, log, changed)
        container.simulated = image.kind
        if image.gpu and seen is None:
            return Scripted(clock, log, image.log_without_gpu, 0.1, 1, changed)
        seconds = image.seconds if image.kind == "replay" else None
        return Scripted(clock, log, image.log, seconds, 0, changed)

    def scripted(
        self, lines: Sequence[str], seconds: float | None, code: int, changed: Callable[[], None]
    ) -> Scripted:
        """A run that a fault puts in the place of the real one."""
        text = "".join(f"{line}\n" for line in lines)
        return Scripted(self.api.clock, LogBuffer(self.pool), text, seconds, code, changed)

    def _process(
        self,
        pod: Object,
        container: Container,
        command: list[str],
        seen: smi.Seen | None,
        log: LogBuffer,
        changed: Callable[[], None],
    ) -> Local:
        home = self.furnish(pod, container, seen)
        environment = self.environment(pod, container)
        try:
            arguments = self.resolve(command, environment, container)
        except NoCommand as error:
            raise StartError(f"{_START_FAILED}{error}") from None
        run = Local(self.api.clock, log, changed)
        limit = ((container.spec.get("resources") or {}).get("limits") or {}).get("memory")
        try:
            run.process = self.processes.start(
                arguments,
                environment,
                self.working_directory(container, home),
                run.output,
                run.done,
                stdin=bool(container.spec.get("stdin")),
                tty=bool(container.spec.get("tty")),
                memory=None if limit is None else ceil(value(str(limit))),
            )
        except OSError as error:
            raise StartError(f"{_START_FAILED}{error}") from error
        return run

    # -- what a process finds --------------------------------------------------------------------

    def home(self, pod: Object, container: Container) -> Path:
        """The directory that is a container's home and stands for its file system."""
        uid: str = pod["metadata"]["uid"]
        return self.directory / "pods" / uid / "containers" / container.name / "root"

    def furnish(self, pod: Object, container: Container, seen: smi.Seen | None) -> Path:
        """Make a container's directory and the commands that are not this machine's."""
        home = self.home(pod, container)
        tools = home.parent / "bin"
        if not tools.exists():
            home.mkdir(parents=True, exist_ok=True)
            tools.mkdir(exist_ok=True)
            (home.parent / "termination-log").touch()
            _script(tools / "nvidia-smi", _smi_script(tools))
        # Always anew: a fault may have come since.
        view = tools / _SEEN
        if seen is not None:
            view.write_text(json.dumps(seen))
        else:
            view.unlink(missing_ok=True)
        return home

    def environment(self, pod: Object, container: Container) -> dict[str, str]:
        """All variables of a container's processes: its own, rewritten, and the few they need."""
        home = self.home(pod, container)
        own = container.environment
        found = {
            "LANG": "C.UTF-8",
            "HOME": str(home),
            # What is printed appears in the log at once; and pip leaves the reader's packages be.
            "PYTHONUNBUFFERED": "1",
            "PIP_TARGET": str(home / ".pip"),
        }
        found |= {name: container.mounts.rewrite(text) for name, text in own.items()}
        if own.get("PATH", SEARCH_PATH) == SEARCH_PATH:
            found["PATH"] = f"{home.parent / 'bin'}:{self.tools()}:{SEARCH_PATH}"
        return found

    def tools(self) -> Path:
        """A directory with this interpreter as ``python``, and its ``torchrun`` and ``ray``."""
        if self._tools is None:
            self._tools = self.directory / "bin"
            self._tools.mkdir(parents=True, exist_ok=True)
            interpreter = shlex.quote(sys.executable)
            for name in ("python", "python3"):
                _script(self._tools / name, f'exec {interpreter} "$@"\n')
            torchrun = f'exec {interpreter} -m torch.distributed.run "$@"\n'
            _script(self._tools / "torchrun", torchrun)
            ray = f'exec {interpreter} -P {shlex.quote(ray_command.__file__)} "$@"\n'
            _script(self._tools / "ray", ray)
        return self._tools

    def resolve(
        self, command: Sequence[str], environment: Mapping[str, str], container: Container
    ) -> list[str]:
        """A command with its program found and its paths rewritten.

        Raises:
            NoCommand: there is no such program.
        """
        first, *rest = (container.mounts.rewrite(part) for part in command)
        found = shutil.which(first, path=environment["PATH"])
        if found is None and first.startswith("/"):
            # An interpreter where the image has it: /usr/local/bin/python.
            known = self.tools() / os.path.basename(first)
            found = str(known) if known.exists() else None
        shown = json.dumps(command[0], ensure_ascii=False)
        missing_smi = first == "nvidia-smi" and not container.driver
        if found is None or missing_smi:
            if "/" in first:
                why = f"exec: {shown}: stat {command[0]}: no such file or directory"
            else:
                why = f"exec: {shown}: executable file not found in $PATH"
            raise NoCommand(why)
        return [found, *rest]

    def working_directory(self, container: Container, home: Path) -> Path:
        """Where a container's processes start."""
        wanted = container.spec.get("workingDir")
        if not wanted:
            return home
        rewritten = container.mounts.rewrite(wanted)
        inside = os.path.normpath("/" + wanted).lstrip("/")
        place = Path(rewritten) if rewritten != wanted else home / inside
        place.mkdir(parents=True, exist_ok=True)
        return place

    def _command(self, container: Container, image: Image) -> list[str]:
        given, arguments = container.spec.get("command"), container.spec.get("args")
        command = [*(given or image.entrypoint)]
        if arguments is not None:
            command += arguments
        elif not given:
            command += image.arguments
        return [expand(part, container.environment) for part in command]

    def termination_message(self, pod: Object, container: Container, code: int) -> str:
        """What a container left as its message."""
        path = container.spec.get("terminationMessagePath") or "/dev/termination-log"
        place = container.mounts.paths.get(path)
        text = ""
        if place is not None and place.is_file():
            with place.open("rb") as file:
                text = file.read(_MESSAGE_BYTES).decode(errors="replace")
            place.write_bytes(b"")
        policy = container.spec.get("terminationMessagePolicy")
        if not text and code and policy == "FallbackToLogsOnError" and container.execution:
            tail = container.execution.log.last(_FALLBACK_LINES, _FALLBACK_BYTES)
            text = tail.decode(errors="replace")
        return text


def is_process(container: Container, image: Image) -> bool:
    """Whether a container's command runs on this machine; ``nvidia-smi`` is answered for."""
    own: list[str] = container.spec.get("command") or []
    foreign = image.kind == "serve" and bool(own) and not image.brings(own[0])
    return image.kind == "process" or foreign


def has_gpu(container: Container) -> bool:
    """Whether a container got a GPU, from the device plugin or by a claim."""
    claims = (container.spec.get("resources") or {}).get("claims")
    return bool(container.devices or claims)


def _script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}")
    path.chmod(0o755)


def _smi_script(directory: Path) -> str:
    seen = shlex.quote(str(directory / _SEEN))
    program = f"{shlex.quote(sys.executable)} -I {shlex.quote(str(smi.__file__))}"
    return (
        f'[ -f {seen} ] && exec {program} {seen} "$@"\n'
        'echo "sh: 1: nvidia-smi: not found" >&2\nexit 127\n'
    )
