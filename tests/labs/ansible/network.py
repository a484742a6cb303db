"""What test machines stand on: a network without a way out, and the files they are made of."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import packages, root
from .cluster import Kubernetes

HERE = Path(__file__).parent
ADDRESSES = {"gpu-0": "192.0.2.11", "worker-0": "192.0.2.12"}
# Stand-ins that are part of no package.
PROGRAMS = {"journalctl": "bin", "shutdown": "sbin", "systemctl": "bin"}


class Site:
    """A network of its own: machines, their clusters, and whoever builds them over SSH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = root.built()
        self.shared = folder / "site"
        self.shared.mkdir(mode=0o777)
        self.packages = packages.repository(_made(folder / "packages"))
        self.checkout = _checkout(_made(folder / "checkout"))
        self.output = folder / "output"
        self.standins = _standins(_made(folder / "standins"))
        self._clusters: dict[str, Kubernetes] = {}
        for name in ("key", "host"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]
            subprocess.run([*command, str(folder / name)], check=True)
        host = (folder / "host.pub").read_text()
        known = "".join(f"{address} {host}" for address in ADDRESSES.values())
        (folder / "known_hosts").write_text(known)
        # It holds the network open until this process ends or closes its standard input.
        up = "; ".join(
            [
                "set -e",
                "ip link set lo up",
                *(f"ip address add {address}/32 dev lo" for address in ADDRESSES.values()),
                f"ip route add default dev lo src {ADDRESSES['gpu-0']}",
                "echo ready",
                "exec cat",
            ]
        )
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", up],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            raise root.MachineError("A network namespace for the test machines cannot be made.")
        self.inside: Sequence[str] = ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net"]

    def git(self, *command: str) -> str:
        """Run Git in the checkout that the course is brought from."""
        return _git(self.checkout, *command)

    def kubernetes(self, name: str) -> Kubernetes:
        """The cluster of a machine; the first one's is the one that others join."""
        if name not in self._clusters:
            nodes = [name, *(other for other in ADDRESSES if other > name)]
            self._clusters[name] = Kubernetes(self.inside, self.folder, nodes)
        return self._clusters[name]

    def close(self) -> None:
        """End the clusters and the network."""
        for cluster in self._clusters.values():
            cluster.stop()
        assert self._holder.stdin is not None and self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _checkout(folder: Path) -> Path:
    """A small stand-in for this repository: what `make setup` on the machine looks at."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(HERE.parents[2] / name, folder)
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "Course"]):
        _git(folder, *command)
    return folder


def _git(folder: Path, *command: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *command],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def _standins(folder: Path) -> Path:
    """The stand-ins, as they lie on a machine: a program that is called with a name."""
    shutil.copytree(
        HERE / "standins", folder / "standins", ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / "__main__.py").write_text("from standins.dispatch import main\n\nmain()\n")
    start = '#!/bin/sh\nexec /usr/bin/python3 -SEs /opt/standins "$@"\n'
    (folder / "stand-in").write_text(start)
    (folder / "stand-in").chmod(0o755)
    (folder / "compiled").mkdir()
    (folder / "compiled").chmod(0o1777)
    for name in PROGRAMS:
        program = folder / "programs" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {packages.STAND_IN} {name} "$@"\n')
        program.chmod(0o755)
    return folder
