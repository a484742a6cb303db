"""Runs kubectl command after command, and notes what each returned and printed.

usage: python kubectl.py KUBECONFIG > kubectl.json

The commands are those of ``kubectl.json``, in their order, for a cluster without nodes of its own;
``manifests/`` holds the files that they name. ``KUBELET`` needs a node with a kubelet and a GPU.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RECORDED: dict[str, Any] = json.loads((HERE / "kubectl.json").read_text())

#: Controllers act on these; the next command looks at what they did.
_SETTLE_AFTER = ("create deploy", "create job", "create quota", "delete deploy", "scale", "set")

#: Commands that need a kubelet and ``workload.yaml``, each with what its output must contain.
KUBELET = (
    ("wait --for=condition=Ready pod/kp --timeout=30s", "pod/kp condition met"),
    ("logs kp", "one GPU"),
    ("exec kp -- nvidia-smi", "NVIDIA H100 80GB HBM3"),
    ("rollout status deploy/web --timeout=30s", 'deployment "web" successfully rolled out'),
    ("top nodes", "MEMORY(%)"),
    ("drain h100-0 --ignore-daemonsets --force", "node/h100-0 drained"),
)

#: What differs from run to run, and what is noted in its place. The last one is about the headers
#: of ``diff``; it meets lines under a table's head too, in the recording as here.
_VOLATILE = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uid>"),
    (r"\b(web|j1)-[a-z0-9]{5,10}(-[a-z0-9]{5})?\b", r"\1-<hash>"),
    (r"\b\d+(\.\d+)?(ms|s|m|h|d)(\d+s)?\b", "<age>"),
    (
        r"\d{4}-\d\d-\d\dT[\d:.]+Z?|[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [\d:]+ [+\-]\d+",
        "<time>",
    ),
    (r'resourceVersion: "\d+"', "resourceVersion: <rv>"),
    (r"\b10\.\d+\.\d+\.\d+\b", "<ip>"),
    (r"/tmp/\S+|[+-]{3} .*", "<file>"),
)


def play(
    kubeconfig: Path, commands: Iterable[str], settle: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    """Run commands.

    Args:
        kubeconfig: of the cluster.
        commands: without ``kubectl``; arguments are separated by single blanks.
        settle: waits until the controllers have nothing left to do.

    Yields:
        ``command``, ``rc`` and, where they are not empty, ``stdout`` and ``stderr``.
    """
    with tempfile.TemporaryDirectory() as home:
        # Its caches go where nothing finds them.
        environment = {"PATH": os.environ["PATH"], "HOME": home}
        for command in commands:
            done = subprocess.run(
                ["kubectl", "--kubeconfig", kubeconfig, *command.split(" ")],
                cwd=HERE / "manifests",
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            said = {"stdout": _tidy(done.stdout), "stderr": _tidy(done.stderr)}
            yield {"command": command, "rc": done.returncode} | {k: v for k, v in said.items() if v}
            if command.startswith(_SETTLE_AFTER):
                settle()


def recorded_commands() -> list[str]:
    """The commands that Kubernetes was given."""
    return [one["command"] for one in RECORDED["commands"]]


def version() -> str:
    """The version of kubectl."""
    command = ["kubectl", "version", "--client", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: str = json.loads(done.stdout)["clientVersion"]["gitVersion"]
    return found


def _tidy(text: str) -> str:
    for pattern, shown in _VOLATILE:
        text = re.sub(pattern, shown, text)
    return text


def main() -> None:
    """Run the commands on the cluster of a kubeconfig."""
    played = list(play(Path(sys.argv[1]), recorded_commands(), lambda: time.sleep(1.5)))
    print(json.dumps({"kubectl": version(), "commands": played}, indent=1))


if __name__ == "__main__":
    main()
