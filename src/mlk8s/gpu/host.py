"""What a host command printed: run here on a live GPU machine, or read from the recording."""

from __future__ import annotations

import html
import os
import re
import signal
import socket
import subprocess
from dataclasses import dataclass
from typing import Any

from mlk8s.errors import UsageError
from mlk8s.gpu.source import measured
from mlk8s.provenance import Provenance

#: ``nvidia-smi`` prints these; they identify a machine or a board and say nothing about GPUs.
_IDENTIFIERS = re.compile(
    r"(?P<uuid>\b(?:GPU|MIG)-[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b)"
    r"|(?P<key>(?:Serial Number|UUID|GUID|PDI|Guid|Uuid)\s*:\s*)(?!N/A|\(removed)(?P<value>[^\s)]+)"
)
REMOVED = "(removed)"


@dataclass(frozen=True)
class Transcript:
    """A command and its output.

    Attributes:
        command: as typed.
        lines: standard output and standard error, in order, identifiers removed.
        provenance: the machine it ran on, and when.
    """

    command: str
    lines: tuple[str, ...]
    provenance: Provenance

    def grep(self, pattern: str) -> Transcript:
        """The lines that match a regular expression."""
        kept = tuple(line for line in self.lines if re.search(pattern, line))
        return Transcript(f"{self.command} | grep -E '{pattern}'", kept, self.provenance)

    def __repr__(self) -> str:
        return "\n".join([f"$ {self.command}", *self.lines, str(self.provenance)])

    def _repr_html_(self) -> str:
        text = "\n".join(self.lines)
        return (
            f'<div class="mlk8s-transcript" tabindex="0"><pre><span class="mlk8s-command">'
            f"$ {html.escape(self.command)}</span>\n{html.escape(text)}</pre></div>"
            f"{self.provenance._repr_html_()}"
        )


def run(command: str, timeout_s: float = 60) -> Transcript:
    """Run a shell command on the GPU machine, or show what it printed on the recorded one.

    Args:
        command: one line of bash.
        timeout_s: how long it may take on a live machine, s.

    Raises:
        UsageError: it did not end in time (live).
        RecordingError: the recording does not hold the command; the message lists those it does.
    """
    table = _run(command=command, timeout_s=timeout_s)
    (provenance,) = table.provenance
    return Transcript(command, tuple(table.column("line")), provenance)


@measured("host/command", "run by bash on the host, standard error included, identifiers removed")
def _run(command: str, timeout_s: float) -> list[dict[str, Any]]:
    with subprocess.Popen(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            # The whole group: what bash started would otherwise run on, and hold the pipe open.
            os.killpg(process.pid, signal.SIGKILL)
            raise UsageError(
                f"The command `{command}` did not end within {timeout_s:g} s and was stopped.",
                "run it by hand to see what it waits for.",
            ) from error
    lines = scrub(output).rstrip("\n").split("\n")
    if process.returncode:
        lines.append(f"[exit status {process.returncode}]")
    return [{"line": line.rstrip()} for line in lines]


def scrub(text: str) -> str:
    """Remove UUIDs, serial numbers, this machine's host name and terminal styling."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = _IDENTIFIERS.sub(lambda m: (m["key"] or "") + REMOVED, text)
    name = socket.gethostname()
    # A host called "gpu" or "node" would tear words apart, and identifies nobody.
    return re.sub(rf"\b{re.escape(name)}\b", REMOVED, text) if len(name) > 5 else text
