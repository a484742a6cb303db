"""Runs the playbook as a user does, against test machines, and reads what it said."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .machine import Machine
from .network import Site
from .root import USER

REPOSITORY = Path(__file__).parents[3]
PLAYBOOK = REPOSITORY / "labs/ansible"
_WITHIN_S = 300
# Waits of the playbook that are minutes on a real machine. Nothing here is slow to start, so that
# what has not come after this will not come.
WAITS = {
    "wait_delay": 1,
    "snap_timeout": 20,
    "microk8s_timeout": 10,
    "join_timeout": 10,
    "gpu_timeout": 20,
    "monitoring_timeout": 20,
    "metrics_timeout": 5,
    "lab_timeout": 10,
    "smoke_timeout": 20,
    "setup_timeout": 30,
    "reboot_timeout": 30,
}
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.M)
_NEXT = re.compile(r"^\S+: Next: ")
_STEP = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(.*)\] \*+$")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        changed: number of changed tasks per host.
        changes: names of the tasks that changed something, in their order.
        failed: name of the task that the run stopped at; empty if it did not.
        message: what that task said, on one line, and what was said at the end.
    """

    code: int
    output: str
    changed: dict[str, int]
    changes: tuple[str, ...]
    failed: str
    message: str

    def check(self) -> Run:
        """Itself, if it ended well."""
        assert self.code == 0, self.output
        return self


def program(name: str) -> str:
    """A program of the environment that runs these tests."""
    return str(Path(sys.executable).parent / name)


def environment(folder: Path) -> dict[str, str]:
    """Ansible's own files stay in the test's folder; nothing of the user's is read."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MLK8S_", "MAKE"))}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
        "HOME": str(folder),
        "ANSIBLE_CONFIG": str(PLAYBOOK / "ansible.cfg"),
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }


def inventory(*machines: Machine, **variables: Any) -> dict[str, Any]:
    """Machines as the playbook's inventory file would have them."""
    site = machines[0].site
    options = f"-F none -o UserKnownHostsFile={site.folder}/known_hosts"
    common = {
        "ansible_user": USER,
        "ansible_ssh_private_key_file": str(site.folder / "key"),
        "ansible_ssh_common_args": options,
        # Looking for it takes longer than most steps; the test of a new machine does.
        "ansible_python_interpreter": "/usr/bin/python3",
        # The machines' disks are this computer's memory.
        "required_memory_mib": 512,
        "controller_root": str(site.checkout),
        "controller_output": str(site.output),
        **WAITS,
    }
    # Of the host's own, since the playbook's group_vars would win over those of the group.
    hosts = {
        machine.name: {
            "ansible_host": machine.address,
            "node_address": machine.address,
            **common,
            **variables,
        }
        for machine in machines
    }
    return {"gpu_nodes": {"hosts": hosts}}


def play(*machines: Machine, only: str = "", book: str = "site.yml", **variables: Any) -> Run:
    """Run a playbook on machines.

    Args:
        only: tags of the parts that run after the checks; all of them without it.
        variables: as with ``-e``, but with a lower precedence, as in an inventory.
    """
    site = machines[0].site
    file = site.folder / "inventory.json"
    file.write_text(json.dumps(inventory(*machines, **variables)))
    command = [program("ansible-playbook"), "--inventory", str(file)]
    return _run(site, [*command, *(["--tags", only] if only else []), str(PLAYBOOK / book)])


def make_node(machine: Machine, only: str) -> Run:
    """``make node HOST=ubuntu@ADDRESS`` in this repository.

    Beside the host it is told this test's key and waits. Ansible is that of the environment that
    runs these tests.
    """
    site = machine.site
    (hosts,) = (group["hosts"] for group in inventory(machine).values())
    address = hosts[machine.name].pop("ansible_host")
    said = site.folder / "said.json"
    said.write_text(json.dumps(hosts[machine.name]))
    venv = site.folder / "node-venv"
    venv.mkdir()
    (venv / "bin").symlink_to(Path(sys.executable).parent)
    (venv / ".installed").touch()
    words = [
        f"HOST={USER}@{address}",
        f"NODE_VENV={os.path.relpath(venv, REPOSITORY)}",
        f"ARGS=--extra-vars @{said} --tags {only}",
    ]
    return _run(site, ["make", "--directory", str(REPOSITORY), "node", *words])


def _run(site: Site, command: list[str]) -> Run:
    process = subprocess.Popen(
        [*site.inside, *command],
        cwd=PLAYBOOK,
        env=environment(site.folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=_WITHIN_S)
    finally:
        # Its workers too, when it was interrupted.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    # The connections that SSH keeps open would outlive a machine that is restarted or gone.
    shutil.rmtree(site.folder / "ansible/cp", ignore_errors=True)
    return read(process.returncode, output)


def read(code: int, output: str) -> Run:
    """What a run says about itself."""
    step, failed, message, error = "", "", "", ""
    changes: list[str] = []
    lines = output.splitlines()
    for index, line in enumerate(lines):
        if match := _STEP.match(line):
            step = match[1]
        elif line.startswith("changed: ") and step not in changes[-1:]:
            changes.append(step)
        elif line.startswith("[ERROR]: "):
            error = _until("Origin: ", lines[index:])
        elif line.startswith(("fatal: ", "failed: ")):
            failed = step
            # Ansible says twice what a task of the playbook says, and a program's output only here.
            message = error if "Next: " in error else f"{error} {_until('', lines[index:])}"
        elif _NEXT.match(line):
            message += f" {line}"
    recap = {m[1]: m for m in _RECAP.finditer(output)}
    changed = {host: int(match[3]) for host, match in recap.items()}
    return Run(code, output, changed, tuple(changes), failed if code else "", message)


def _until(start: str, lines: list[str]) -> str:
    """Lines up to one that starts so, or to an empty one without it, as a single line."""
    end = (i for i, text in enumerate(lines) if (text.startswith(start) if start else not text))
    return " ".join(" ".join(lines[: next(end, len(lines))]).split())
