"""Test machines: what looks like a new Ubuntu server with a GPU, made in a second and thrown away.

A :class:`Machine` has its own file system (changes in memory over the cached root), processes, host
name and address, a real sshd, sudo, apt and dpkg, and the stand-ins of ``standins/`` for what needs
snapd, systemd, a kernel or a GPU. It does not outlive the process that made it.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import packages, root
from .network import ADDRESSES, HERE, PROGRAMS, Site

_NAMES = {"20.04": "focal", "22.04": "jammy", "24.04": "noble"}
_UP_WITHIN_S = 30.0
_FIRST = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
GPU = ("3D controller [0302]", "GH100 [H100 SXM5 80GB] [10de:2330]")


@dataclass(frozen=True)
class Call:
    """A call of a stand-in.

    Attributes:
        inner: made by another stand-in, as an addon calls helm.
        code: how it ended; ``None`` when it never did.
    """

    argv: tuple[str, ...]
    user: str
    inner: bool
    code: int | None

    @property
    def line(self) -> str:
        """The command."""
        return " ".join(self.argv)


class Machine:
    """A running test machine; end it with :meth:`stop`."""

    def __init__(
        self,
        site: Site,
        name: str,
        release: str = "24.04",
        architecture: str = "x86_64",
        **state: Any,
    ) -> None:
        self.name, self.address, self.site = name, ADDRESSES[name], site
        self.kubernetes = site.kubernetes(name)
        self.kubernetes.bare()
        self._folder = site.folder / name
        shutil.rmtree(self._folder, ignore_errors=True)
        self.shared = self._folder / "shared"
        self.shared.mkdir(parents=True)
        (self._folder / "mount").mkdir()
        self._write("state.json", _new_state(name, self.address) | state)
        self._write("faults.json", [])
        (self.shared / "kubeconfig").write_text(self.kubernetes.kubeconfig.read_text())
        for empty in ("calls.jsonl", "lock"):
            (self.shared / empty).touch()
        for file in self.shared.iterdir():
            file.chmod(0o666)
        self.shared.chmod(0o777)
        (site.shared / f"{self.address}.kubeconfig").write_text(
            self.kubernetes.kubeconfig.read_text()
        )
        (self._folder / "machine.json").write_text(
            json.dumps(self._description(release, architecture))
        )
        command = [sys.executable, "-S", str(HERE / "init.py"), str(self._folder / "machine.json")]
        self._init = subprocess.Popen(
            [*site.inside, *_FIRST, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self._folder / "init.log").open("w"),
            text=True,
        )
        assert self._init.stdout is not None
        if self._init.stdout.readline() != "ready\n":
            logs = (self._folder / "init.log", self.shared / "sshd.log")
            said = "".join(log.read_text() for log in logs if log.exists())
            self.stop()
            raise root.MachineError(f"The test machine {name} did not start: {said}")

    def _description(self, release: str, architecture: str) -> dict[str, Any]:
        binds = {
            str(self.site.standins): "/opt/standins",
            str(self.site.packages): "/srv/packages",
            str(self.shared): "/var/lib/standins",
            str(self.site.shared): "/var/lib/standins/site",
            str(self.kubernetes.stage): "/var/lib/standins/stage",
            str(Path(shutil.which("kubectl") or "kubectl").resolve()): "/opt/kubectl",
        }
        key = (self.site.folder / "key.pub").read_text()
        host_key = (self.site.folder / "host").read_text()
        files: dict[str, tuple[str, int]] = {
            "/etc/hostname": (f"{self.name}\n", 0o644),
            "/etc/hosts": (f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n", 0o644),
            "/etc/os-release": (_os_release(release), 0o644),
            "/etc/lsb-release": (_lsb_release(release), 0o644),
            "/etc/ssh/authorized_keys": (key, 0o644),
            "/etc/ssh/ssh_host_ed25519_key": (host_key, 0o600),
        }
        for file in (self.site.root / "etc").glob("python3.*/sitecustomize.py"):
            path = f"/{file.relative_to(self.site.root)}"
            files[path] = ((HERE / "zipcache.py").read_text(), 0o644)
        links = {
            f"/usr/{folder}/{name}": f"/opt/standins/programs/{name}"
            for name, folder in PROGRAMS.items()
        }
        return {
            "name": self.name,
            "address": self.address,
            "architecture": architecture,
            "root": str(self.site.root),
            "mountpoint": str(self._folder / "mount"),
            "shared": str(self.shared),
            "binds": binds,
            "files": {k: {"text": text, "mode": mode} for k, (text, mode) in files.items()},
            "links": links,
        }

    def stop(self) -> None:
        """Switch it off: every process and mount of it is gone."""
        assert self._init.stdin is not None
        self._init.stdin.close()
        try:
            self._init.wait(5)
        except subprocess.TimeoutExpired:
            self._init.send_signal(signal.SIGKILL)
            self._init.wait()
        assert self._init.stdout is not None
        self._init.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # -- what the stand-ins keep -------------------------------------------------------------

    def _write(self, name: str, content: Any) -> None:
        (self.shared / name).write_text(json.dumps(content))

    @property
    def state(self) -> dict[str, Any]:
        """What the stand-ins know."""
        found: dict[str, Any] = json.loads((self.shared / "state.json").read_text())
        return found

    def set(self, **state: Any) -> None:
        """Change what the stand-ins know."""
        self._write("state.json", self.state | state)

    def fail(
        self,
        match: str,
        *,
        code: int | None = 1,
        stderr: str = "something broke",
        stdout: str = "",
        times: int = 1,
        skip: int = 0,
        hang: float = 0,
    ) -> None:
        """Let calls whose command matches a pattern fail, or hang and then go on.

        Args:
            times: how often; -1 is always.
            skip: how many matching calls are let through first.
            code: the status they end with; ``None`` runs the program after ``hang`` seconds.
            stderr: ``{call}`` in it becomes the command.
        """
        fault = {"match": match, "code": code, "stderr": stderr, "stdout": stdout}
        faults = json.loads((self.shared / "faults.json").read_text())
        self._write("faults.json", [*faults, fault | _counts(times, skip, hang)])

    def mend(self) -> None:
        """Let nothing fail any more."""
        self._write("faults.json", [])

    def calls(self, *, inner: bool = False) -> list[Call]:
        """The calls since the start or :meth:`forget`, in their order."""
        started: dict[str, dict[str, Any]] = {}
        for line in (self.shared / "calls.jsonl").read_text().splitlines():
            entry = json.loads(line)
            started.setdefault(entry["id"], {}).update(entry)
        made = [
            Call(tuple(e["argv"]), e["user"], e["inner"], e.get("code")) for e in started.values()
        ]
        return [call for call in made if inner or not call.inner]

    def forget(self) -> None:
        """Begin the list of calls anew."""
        (self.shared / "calls.jsonl").write_text("")

    # -- the machine as somebody sees it who is on it ----------------------------------------------

    def run(self, command: str, *, user: str = "root", check: bool = True) -> str:
        """Run a shell command on it, not over SSH."""
        pid = self._pid()
        inside = ["nsenter", f"--target={pid}", "--mount", "--pid", "--uts", "--net"]
        # The root of process 1 is this computer's; the machine's is one below.
        home = str(self._folder / "mount/root")
        done = subprocess.run(
            [*inside, "chroot", home, "su", "-", user, "-c", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def install_driver(self, branch: int) -> None:
        """Install a driver as Ubuntu's packages bring it; its module is not loaded yet."""
        names = ("nvidia-headless-no-dkms-{}", "linux-modules-nvidia-{}-generic", "nvidia-utils-{}")
        wanted = " ".join(name.format(f"{branch}-server") for name in names)
        self.run(f"apt-get update && apt-get install -y {wanted}")

    def restart(self) -> None:
        """Restart it, as somebody does who is on it, and wait until it is up again."""
        boots = self.state["boots"]
        self.run("shutdown -r now", check=False)  # ends with the machine
        deadline = time.monotonic() + _UP_WITHIN_S
        while self.state["boots"] == boots or (self.shared / "reboot").exists():
            if time.monotonic() > deadline:
                raise root.MachineError(f"The test machine {self.name} did not start again.")
            time.sleep(0.02)

    def _pid(self) -> str:
        """The machine's process 1, as this computer counts."""
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children")
        return children.read_text().split()[0]


def _counts(times: int, skip: int, hang: float) -> dict[str, Any]:
    return {"times": times, "skip": skip, "hang": hang, "hit": 0}


def _new_state(name: str, address: str) -> dict[str, Any]:
    """A new server with one GPU, and nothing on it."""
    return {
        "name": name,
        "address": address,
        "gpus": [GPU],
        "bridges": [],
        "product": "NVIDIA H100 80GB HBM3",
        "branches": list(packages.BRANCHES),
        "secure_boot": False,
        "signed": True,
        "nvidia": "",
        "nouveau": False,
        "nouveau_at_boot": False,
        "reboot_needed": False,
        "boots": 1,
        "snaps": {},
        "microk8s": {"running": False, "ready": True, "addons": ["ha-cluster"]},
        "helm": {},
        "repositories": {},
        "units": {},
        "loaded": {},
    }


def _os_release(release: str) -> str:
    code = _NAMES[release]
    return (
        f'PRETTY_NAME="Ubuntu {release} LTS"\nNAME="Ubuntu"\nVERSION_ID="{release}"\nID=ubuntu\n'
        f'VERSION="{release} LTS ({code})"\nVERSION_CODENAME={code}\nID_LIKE=debian\n'
        f"UBUNTU_CODENAME={code}\n"
    )


def _lsb_release(release: str) -> str:
    return (
        f"DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE={release}\nDISTRIB_CODENAME={_NAMES[release]}\n"
        f'DISTRIB_DESCRIPTION="Ubuntu {release} LTS"\n'
    )
