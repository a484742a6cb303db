"""What keeps a Ray apart from everything else: its folder, token, silence, and its end.

Each function sets one thing, and puts on a stack what undoes it. As a program it is the guard that
cleans up after a process that was killed: ``python -m mlk8s.raylocal.isolation FOLDER``.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

#: Of the environment of every process that belongs to a Ray of this package: its folder.
_MARK = "MLK8S_RAY_FOLDER"
#: The longest path to a socket that Ray makes inside its folder, and what Linux allows.
_SOCKET = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.99")
_SOCKET_LIMIT = 107
_LOGGERS = ("ray", "ray.data", "ray.serve", "ray.train", "ray.tune")
_QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # or a warning about CUDA_VISIBLE_DEVICES
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def base() -> str:
    """Where a folder can be made whose sockets' paths are not too long for the system."""
    base = tempfile.gettempdir()
    longest = len(base) + len("/mlk8s-ray-12345678") + _SOCKET
    return base if longest <= _SOCKET_LIMIT else "/tmp"


def guarded(folder: Path, stack: ExitStack) -> None:
    """Have another process clean up when this one is gone, however it went.

    Ray's daemons die with the thread that started them (PR_SET_PDEATHSIG), but their agents live on
    for a minute or more, and the files stay.
    """
    watch = subprocess.Popen(
        [sys.executable, "-m", __name__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in a terminal is not for it
        cwd="/",
    )
    assert watch.stdin is not None
    stack.callback(watch.wait)
    stack.callback(watch.stdin.close)


def environment(stack: ExitStack) -> None:
    """Set what Ray reads from the environment, and put it back at the end."""
    wanted: dict[str, str | None] = {
        **_QUIET,
        # Ray listens on all interfaces, so whoever connects needs this.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_AUTH_TOKEN_PATH": None,
        "RAY_ADDRESS": None,
        "RAY_REDIS_ADDRESS": None,
        "RAY_JOB_CONFIG_JSON_ENV_VAR": None,
    }
    # ray.init has breakpoint() lead to a debugger of its own.
    before = {name: os.environ.get(name) for name in (*wanted, "PYTHONBREAKPOINT")}
    stack.callback(_read_again)
    stack.callback(put, before)
    put(wanted)
    _read_again()


def put(values: Mapping[str, str | None]) -> None:
    """Set variables of the environment; ``None`` removes one."""
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _read_again() -> None:
    """Ray keeps the mode and the token that it has once read; have it read them anew."""
    from ray import _raylet

    native: Any = _raylet  # its stub lacks these two
    native.Config.initialize("")
    native.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def marked(folder: Path) -> Iterator[None]:
    """Give the processes that are started in the block the mark of this Ray."""
    os.environ[_MARK] = str(folder)
    try:
        yield
    finally:
        del os.environ[_MARK]


class _Notes:
    """In the place of the pattern of lines that Ray is not to print: matches and keeps all."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def search(self, line: str) -> bool:
        self._lines.append(line)
        return True


def hushed(said: list[str], stack: ExitStack) -> None:
    """Collect what Ray's daemons say instead of printing it."""
    from ray._private import ray_logging

    printers: list[Any] = [ray_logging.stdout_deduplicator, ray_logging.stderr_deduplicator]
    for printer in printers:
        stack.callback(setattr, printer, "skip_re", printer.skip_re)
        printer.skip_re = _Notes(said)


@contextmanager
def without_a_word() -> Iterator[None]:
    """For the block in which this process becomes a driver.

    Ray's native code takes its log level from the environment there, writes errors to this
    process's standard error ever after (which a notebook shows), and says that it read the level.
    The daemons have been started before, and log as they always do.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(descriptor, os.dup(descriptor)) for descriptor in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    level = {"RAY_BACKEND_LOG_LEVEL": os.environ.get("RAY_BACKEND_LOG_LEVEL")}
    put({"RAY_BACKEND_LOG_LEVEL": "fatal"})
    try:
        for descriptor, _ in kept:
            os.dup2(nowhere, descriptor)
        yield
    finally:
        put(level)
        os.close(nowhere)
        for descriptor, copy in kept:
            os.dup2(copy, descriptor)
            os.close(copy)


def quiet_loggers(stack: ExitStack) -> None:
    """Errors only, from Ray's libraries as well."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="IProgress not found")
            from ray.data import DataContext
    except ImportError:  # Ray without its extra "data"
        return
    context = DataContext.get_current()
    for option in ("enable_progress_bars", "print_on_execution_start"):
        stack.callback(setattr, context, option, getattr(context, option))
        setattr(context, option, False)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Give back at the end the signals that Ray takes for itself in this process.

    ``ray.init`` takes SIGTERM; ``fit`` of Ray Tune and of Ray Train take SIGINT, and keep it: the
    next Ctrl-C would be swallowed, and the third after a training would end the process (ray 2.60,
    ``tune/tune.py``, ``train/v2/api/data_parallel_trainer.py``).
    """
    taken = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in taken}
    try:
        yield
    finally:
        # Elsewhere none was taken, and none can be given.
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:
                    signal.signal(number, handler)


@contextmanager
def gone_is_fine() -> Iterator[None]:
    """For what is done to a process that may have ended by itself."""
    import psutil

    try:
        yield
    except psutil.NoSuchProcess:
        return


def belonging(folder: Path) -> list[Any]:
    """The processes of the Ray of this folder.

    By the mark in their environment. Ray's workers and agents give themselves a title, which may
    overwrite what can be seen of their environment: they are known by a log that they have open.
    """
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            titled = process.cmdline()[:1] and process.cmdline()[0].startswith("ray::")
            if process.environ().get(_MARK) == str(folder) or (
                titled and any(file.path.startswith(f"{folder}/") for file in process.open_files())
            ):
                found.append(process)
        except (psutil.Error, OSError):  # gone, a zombie, or another user's
            continue
    return found


def remove(folder: Path) -> None:
    """End what still belongs to the folder, and remove it."""
    import psutil

    deadline = time.monotonic() + 20
    # A process may have started another one meanwhile.
    while (left := belonging(folder)) and time.monotonic() < deadline:
        for process in left:
            with gone_is_fine():
                process.kill()
        psutil.wait_procs(left, timeout=5)
    shutil.rmtree(folder, ignore_errors=True)


def _watch(folder: Path) -> None:
    """Remove the folder and its processes when the process that started this one is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    remove(folder)


if __name__ == "__main__":
    _watch(Path(sys.argv[1]))
