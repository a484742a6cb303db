"""What the doctor looks at: one check, and the machine that is examined."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Status(StrEnum):
    """The outcome of a check. What is absent and not needed here is no failure."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    ABSENT = "absent"


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        status: the outcome.
        found: what is there, in the machine's own words.
        means: what follows from it for the course.
        fix: a command or a sentence; empty when there is nothing to do.
        chapters: the chapters concerned.
    """

    name: str
    status: Status
    found: str
    means: str
    fix: str = ""
    chapters: tuple[int, ...] = ()


ALL = (1, 2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True)
class Machine:
    """Where the checks look.

    Attributes:
        root: the folder that holds ``proc``, ``sys``, ``dev``; ``/`` unless a test says otherwise.
        env: environment variables.
        repo: the course's folder, the one with ``requirements.lock``; ``None`` if unknown.
    """

    root: Path
    env: Mapping[str, str]
    repo: Path | None

    def path(self, absolute: str) -> Path:
        """A path of the examined machine."""
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> str | None:
        """A file's text, or ``None`` if it cannot be read."""
        try:
            return self.path(absolute).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def which(self, tool: str) -> str | None:
        """The path of a program, on ``PATH`` or among the snaps (not on every ``PATH``)."""
        snaps = str(self.path("/snap/bin"))
        return shutil.which(tool, path=os.pathsep.join([self.env.get("PATH", ""), snaps]))

    @property
    def gpu_setting(self) -> str:
        """``MLK8S_GPU`` as it is set; ``auto`` by default."""
        return self.env.get("MLK8S_GPU", "auto")

    @property
    def unusable_gpu(self) -> Status:
        """How bad a GPU without a driver is: fatal only to a reader who insists on live."""
        return Status.FAIL if self.gpu_setting == "live" else Status.WARN
