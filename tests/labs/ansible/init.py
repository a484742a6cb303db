"""Process 1 of a test machine: mounts its file system, runs its sshd, and is its power switch.

Run by :mod:`.machine` in namespaces of its own (mount, PID, host name). All that it mounts and all
that runs on the machine ends with it, and it ends when its standard input does: with the test, with
Ctrl-C, and also when the test's process is killed.

``python init.py DESCRIPTION.json``; it says ``ready`` when sshd listens.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_SSHD_WITHIN_S = 10.0


def main() -> None:
    """Bring the machine up, and down when nobody holds it any more."""
    machine = json.loads(Path(sys.argv[1]).read_text())
    root = mount(machine)
    shared = Path(machine["shared"])
    subprocess.run(["hostname", machine["name"]], check=True)
    sshd = boot(root, machine)
    print("ready", flush=True)
    while not select.select([0], [], [], 0.05)[0]:
        reap(sshd)
        if (shared / "reboot").exists():
            (shared / "reboot").unlink()
            stop_all()
            sshd = boot(root, machine)
            subprocess.run(["chroot", str(root), "/opt/standins/stand-in", "boot"], check=True)
        elif sshd.poll() is not None:
            sys.exit("sshd of the test machine has ended; see sshd.log")
    # The end of process 1 kills every process of the namespace, and unmounts everything.


def mount(machine: dict[str, Any]) -> Path:
    """The machine's file system: its changes, in memory, over the root that all share."""
    base = Path(machine["mountpoint"])
    _mount("-t", "tmpfs", "-o", "size=64g", "machine", base)
    upper, work, root = base / "upper", base / "work", base / "root"
    for folder in (upper, work, root):
        folder.mkdir()
    upper.chmod(0o755)
    options = f"lowerdir={machine['root']},upperdir={upper},workdir={work}"
    _mount("-t", "overlay", "-o", options, "machine", root)
    _mount("-t", "proc", "proc", root / "proc")
    # This computer's own hardware is none of the test machine's.
    if (root / "proc/driver").is_dir():
        _mount("-t", "tmpfs", "none", root / "proc/driver")
    for empty, mode in (("sys", "755"), ("run", "755"), ("tmp", "1777"), ("dev", "755")):
        _mount("-t", "tmpfs", "-o", f"mode={mode}", "none", root / empty)
    for name in _DEVICES:
        _bind(f"/dev/{name}", root / "dev" / name)
    (root / "dev/pts").mkdir()
    _mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "devpts", root / "dev/pts")
    (root / "dev/ptmx").symlink_to("pts/ptmx")
    (root / "dev/shm").mkdir(mode=0o1777)
    for name, number in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        (root / "dev" / name).symlink_to(f"/proc/self/fd{number}")
    # In kmod's package, which here has its programs alone.
    (root / "etc/modprobe.d").mkdir(exist_ok=True)
    # Where ansible looks whether systemd is the service manager.
    (root / "run/systemd/system").mkdir(parents=True)
    (root / "run/sshd").mkdir()
    for source, target in machine["binds"].items():
        _bind(source, root / target.lstrip("/"))
    for path, content in machine["files"].items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_text(content["text"])
        target.chmod(content["mode"])
    for path, source in machine["links"].items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(source)
    return root


def boot(root: Path, machine: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start sshd, with a new boot id as after every start of a machine."""
    identity = Path(machine["shared"]) / f"boot-{time.monotonic_ns()}"
    identity.write_text(f"{uuid.uuid4()}\n")
    _mount("--bind", identity, root / "proc/sys/kernel/random/boot_id")
    address = machine["address"]
    listen = ["/usr/sbin/sshd", "-D", "-e", "-o", f"ListenAddress={address}"]
    with (Path(machine["shared"]) / "sshd.log").open("ab") as log:
        sshd = subprocess.Popen(
            ["setarch", machine["architecture"], "chroot", str(root), *listen],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + _SSHD_WITHIN_S
    while True:
        try:
            socket.create_connection((address, 22), timeout=1).close()
            return sshd
        except OSError:
            if sshd.poll() is not None or time.monotonic() > deadline:
                sys.exit("sshd of the test machine does not listen; see sshd.log")
            time.sleep(0.01)


def stop_all() -> None:
    """End every process of the machine but this one."""
    os.kill(-1, signal.SIGKILL)
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def reap(sshd: subprocess.Popen[bytes]) -> None:
    """Collect orphans that have ended, as process 1 has to; sshd's end is looked at elsewhere."""
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    try:
        while (ended := os.waitid(os.P_ALL, 0, options)) and ended.si_pid != sshd.pid:
            os.waitpid(ended.si_pid, 0)
    except ChildProcessError:
        return


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def _bind(source: str, target: Path) -> None:
    if Path(source).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _mount("--rbind", source, target)


if __name__ == "__main__":
    if shutil.which("mount") is None:
        sys.exit("mount is not on the PATH")
    main()
