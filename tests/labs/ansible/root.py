"""The file system that every test machine starts from: a Debian or Ubuntu root by mmdebstrap.

It is built once, from the mirror and for the release that apt uses on this computer, and kept under
``_build/test-machine``. A marker holds the hash of its recipe (this file and the release), so a
changed recipe builds it anew. A machine mounts it below its own changes and never writes to it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import packages
from .packages import PREINSTALLED, build

CACHE = Path(__file__).parents[3] / "_build" / "test-machine"
USER = "ubuntu"
# What the playbook may expect of Ubuntu's server image, as far as it is no stand-in.
_PACKAGES = (
    *("ca-certificates", "curl", "git", "gpg", "iproute2", "lsb-release", "openssh-server"),
    *("procps", "python3", "python3-apt", "python3-venv", "python3-yaml", "sudo"),
)
_NEEDED = {
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "kubectl": "kubectl",
    "nsenter": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
}
_SUDOERS = f"""\
Defaults secure_path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"
{USER} ALL=(ALL) NOPASSWD:ALL
"""
_SSHD = """\
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
UsePAM no
UseDNS no
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
MaxSessions 100
"""


class MachineError(Exception):
    """The test machine cannot be made; the message says what is missing and what to do."""


def built() -> Path:
    """The root, built first when there is none of this recipe (about a minute)."""
    _check()
    uri, release = _mirror()
    recipe = hashlib.sha256(
        b"".join(Path(file).read_bytes() for file in (__file__, packages.__file__))
        + f"{release} {uri}".encode()
    ).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with _locked(CACHE / "lock"):
        root, marker = CACHE / "root", CACHE / "recipe"
        if not (marker.exists() and marker.read_text() == recipe):
            marker.unlink(missing_ok=True)
            shutil.rmtree(root, ignore_errors=True)
            _build(root, uri, release)
            marker.write_text(recipe)
        return root


def _check() -> None:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    if missing := {p for tool, p in _NEEDED.items() if shutil.which(tool, path=path) is None}:
        raise MachineError(
            f"The test machine of labs/ansible needs: {' '.join(sorted(missing))}. Next: install "
            "them (`make tools` does, all but kubectl, which has many ways onto a machine)."
        )
    if os.geteuid() != 0:
        raise MachineError(
            "The test machine of labs/ansible is made of mounts and namespaces, which needs root. "
            "Next: run these tests as root, or in a container that may mount."
        )


def _mirror() -> tuple[str, str]:
    """Where apt gets the main component of this computer's release from."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"],
        capture_output=True,
        text=True,
        check=True,
    )
    for line in told.stdout.splitlines():
        uri, _, rest = line.partition(" ")
        release, _, component = rest.partition(" ")
        if component == "main" and release.isalpha():
            return uri, release
    raise MachineError(
        "apt names no source with a component main, from which a test machine could be built. "
        "Next: run these tests on Debian or Ubuntu, with /etc/apt as its installer leaves it."
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(root: Path, uri: str, release: str) -> None:
    print(f"Building the test machine's root ({release}) in {root}", flush=True)
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}"]
    # In namespaces of its own: what it mounts and runs ends with it, also when it is interrupted.
    own = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    log = root.with_suffix(".log")
    try:
        with log.open("w") as output:
            subprocess.run(
                [*own, *command, release, str(root), uri],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
                check=True,
            )
        _configure(root)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(root, ignore_errors=True)
        last = "\n".join(log.read_text().splitlines()[-5:])
        raise MachineError(
            f"mmdebstrap of {release} from {uri} ended with status {error.returncode}:\n{last}\n"
            f"Next: read {log}; `apt-get update` has to work on this computer."
        ) from error
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise


def _configure(root: Path) -> None:
    inside = ["chroot", str(root)]
    subprocess.run([*inside, "useradd", "-m", "-p", "*", "-s", "/bin/bash", USER], check=True)
    (root / "etc/sudoers.d/machine").write_text(_SUDOERS)
    (root / "etc/sudoers.d/machine").chmod(0o440)
    (root / "etc/ssh/sshd_config").write_text(_SSHD)
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    debs = root / "root/packages"
    debs.mkdir()
    for package in PREINSTALLED:
        build(package, debs)
    command = [*inside, "sh", "-c", "dpkg --force-overwrite -i /root/packages/*.deb"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    shutil.rmtree(debs)
    for folder in ("var/lib/apt/lists", "var/cache/apt/archives"):
        shutil.rmtree(root / folder)
        (root / folder / "partial").mkdir(parents=True)
    # Lists as old as those of an image: a playbook that counts on them being fresh fails here.
    os.utime(root / "var/lib/apt/lists", (0, 0))
    for source in (root / "etc/apt").glob("sources.list*"):
        if source.is_file():
            source.unlink()
    (root / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/packages ./\n")
    # A test machine is thrown away; nothing on it has to survive a crash.
    (root / "etc/dpkg/dpkg.cfg.d/unsafe").write_text("force-unsafe-io\n")


if __name__ == "__main__":
    try:
        built()
    except MachineError as error:
        sys.exit(str(error))
