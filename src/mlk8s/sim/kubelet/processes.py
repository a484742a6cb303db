"""The processes of a cluster, held to their limits.

All of them are watched by one timer on the event loop, so that a thousand of them cost no thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from mlk8s.sim.kubelet.process import WALL_LIMIT_S, Exit, Process
from mlk8s.sim.kubelet.reaper import Reaper

# How many processes and threads a container may have.
GROUP_PROCESSES = 256

_POLL_S = 0.02
_SAMPLE_S = 0.2


class Processes:
    """All processes of a cluster.

    Args:
        mark: the cluster's directory, in every environment.
    """

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.reaper: Reaper | None = None
        self._running: dict[int, Process] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sampled = 0.0

    def start(
        self,
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
    ) -> Process:
        """Start a process; the arguments are those of :class:`Process`.

        Raises:
            OSError: it cannot be started.
        """
        process = Process(
            self.mark,
            arguments,
            environment,
            directory,
            output,
            done,
            merge=merge,
            stdin=stdin,
            tty=tty,
            memory=memory,
            wall_s=wall_s,
        )
        self._running[process.pid] = process
        if self.reaper is not None:
            self.reaper.add(process.pid)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_POLL_S, self._poll)
        return process

    def _poll(self) -> None:
        self._timer = None
        now = time.monotonic()
        for process in list(self._running.values()):
            if process.ended():
                del self._running[process.pid]
                process.finish()
                if self.reaper is not None:
                    self.reaper.remove(process.pid)
            elif now > process.deadline:
                process.kill(f"killed by the simulator after {process.wall_s:g} s of run time")
                process.deadline = now + WALL_LIMIT_S
        if self._running and now - self._sampled > _SAMPLE_S:
            self._sampled = now
            self._sample()
        if self._running:
            self._timer = asyncio.get_running_loop().call_later(_POLL_S, self._poll)

    def _sample(self) -> None:
        """Hold the groups to their limits on memory and number of processes."""
        for pid, members in self.groups().items():
            process = self._running[pid]
            process.rss = 0
            for member in members:
                with contextlib.suppress(psutil.Error):
                    process.rss += psutil.Process(member).memory_info().rss
            if process.memory is not None and process.rss > process.memory:
                process.kill(oom=True)
            elif len(members) > GROUP_PROCESSES:
                process.kill(f"killed by the simulator for more than {GROUP_PROCESSES} processes")

    def groups(self) -> dict[int, list[int]]:
        """The members of each running group, by its leader; one pass over the machine."""
        found: dict[int, list[int]] = {pid: [pid] for pid in self._running}
        for pid in psutil.pids():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                group = os.getpgid(pid)
                if group != pid and group in found:
                    found[group].append(pid)
        return found

    def cpu_seconds(self) -> dict[int, float]:
        """CPU time used so far by each running group, by its leader."""
        used: dict[int, float] = {}
        for pid, members in self.groups().items():
            used[pid] = 0.0
            for member in members:
                with contextlib.suppress(psutil.Error):
                    times = psutil.Process(member).cpu_times()
                    used[pid] += times.user + times.system
        return used

    def memory(self) -> dict[int, int]:
        """Resident bytes of each running group, by its leader."""
        self._sample()
        return {pid: process.rss for pid, process in self._running.items()}

    def stop(self) -> None:
        """Kill everything at once; returns when all have been reaped."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for process in self._running.values():
            process.kill()
        while self._running:
            _, process = self._running.popitem()
            process.finish()
            if self.reaper is not None:
                self.reaper.remove(process.pid)
