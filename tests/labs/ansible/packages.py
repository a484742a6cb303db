"""A small apt repository of empty packages, so that apt, dpkg and holds on the machine are real.

Names, dependencies and versions follow Ubuntu's archive as far as the playbook sees them; the
packages hold no software. Programs in them are the stand-ins of ``standins/``.
"""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

STAND_IN = "/opt/standins/stand-in"
BRANCHES = {"570": "570.195.03", "580": "580.95.05"}
_REVISION = "-0ubuntu0.24.04.1"


@dataclass(frozen=True)
class Package:
    """An empty package.

    Attributes:
        programs: path of each program in it; what is called is the stand-in of its name.
    """

    name: str
    version: str = "1.0"
    depends: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    links: dict[str, str] = field(default_factory=dict)

    def control(self) -> str:
        """Its control file."""
        lines = [
            f"Package: {self.name}",
            f"Version: {self.version}",
            "Architecture: all",
            "Maintainer: The mlk8s authors <nobody@example.org>",
            "Description: stand-in of a test machine, without contents",
        ]
        if self.depends:
            lines.append(f"Depends: {', '.join(self.depends)}")
        if self.conflicts:
            lines.append(f"Conflicts: {', '.join(self.conflicts)}")
        return "\n".join(lines) + "\n"


def _single(name: str, key: str, version: str, others: list[str]) -> Package:
    """A package that a machine has of one branch only: apt removes the other's."""
    return Package(f"{name}-{key}", version, conflicts=tuple(f"{name}-{o}" for o in others))


def _driver(branch: str, kind: str) -> list[Package]:
    """A driver branch as Ubuntu packages it: libraries, tools, and modules for each kernel."""
    version = f"{BRANCHES[branch]}{_REVISION}"
    key = f"{branch}-server"
    modules = f"linux-modules-nvidia-{key}{kind}"
    others = [f"{other}-server" for other in BRANCHES if other != branch]
    made = [
        Package(f"{modules}-6.8.0-60-generic", "6.8.0-60.63"),
        Package(f"{modules}-generic", "6.8.0-60.63", (f"{modules}-6.8.0-60-generic",)),
        Package(
            f"nvidia-headless-no-dkms-{key}{kind}",
            version,
            (f"libnvidia-compute-{key}", f"nvidia-kernel-common-{key}"),
        ),
        Package(
            f"nvidia-driver-{key}{kind}",
            version,
            (f"nvidia-headless-no-dkms-{key}{kind}", f"nvidia-utils-{key}"),
        ),
    ]
    if not kind:
        made += [
            _single("libnvidia-compute", key, version, others),
            _single("nvidia-kernel-common", key, version, others),
            Package(
                f"nvidia-utils-{key}",
                version,
                (f"libnvidia-compute-{key}",),
                ("/usr/bin/nvidia-smi",),
                tuple(f"nvidia-utils-{other}" for other in others),
            ),
        ]
    return made


def _python(version: str) -> list[Package]:
    name = f"python{version}"
    return [
        Package(name, f"{version}.3-1", links={f"/usr/bin/{name}": "/usr/bin/python3"}),
        Package(f"{name}-venv", f"{version}.3-1", (name,)),
        Package(f"{name}-dev", f"{version}.3-1", (name,)),
    ]


# On every Ubuntu server when it is new.
PREINSTALLED = [
    Package("snapd", "2.71", (), ("/usr/bin/snap",)),
    Package(
        "kmod",
        "31",
        (),
        tuple(f"/usr/sbin/{name}" for name in ("modprobe", "modinfo", "lsmod")),
    ),
    Package("pciutils", "1:3.10.0", (), ("/usr/bin/lspci",)),
    Package("mokutil", "0.6.0", (), ("/usr/bin/mokutil",)),
    Package("initramfs-tools", "0.142", (), ("/usr/sbin/update-initramfs",)),
    Package("linux-image-6.8.0-60-generic", "6.8.0-60.63"),
    Package("linux-image-generic", "6.8.0-60.60", ("linux-image-6.8.0-60-generic",)),
    Package("unattended-upgrades", "2.9"),
]
INSTALLABLE = [
    Package("ubuntu-drivers-common", "1:0.9.7", (), ("/usr/bin/ubuntu-drivers",)),
    *[
        package
        for branch in BRANCHES
        for kind in ("", "-open")
        for package in _driver(branch, kind)
    ],
    Package("make", "4.3-4", (), ("/usr/bin/make",)),
    Package("build-essential", "12.10", ("make",)),
    *_python("3.11"),
    *_python("3.12"),
    Package("python3-dev", "3.12.3-0"),
    Package("docker.io", "27.5", ("containerd",), ("/usr/bin/dockerd",)),
    Package("containerd", "1.7.27", (), ("/usr/bin/containerd",)),
]


def build(package: Package, folder: Path) -> Path:
    """Make a package's file in a folder."""
    tree = folder / f"{package.name}.tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(package.control())
    for path in package.programs:
        target = tree / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f'#!/bin/sh\nexec {STAND_IN} {target.name} "$@"\n')
        target.chmod(0o755)
    for path, source in package.links.items():
        target = tree / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
    file = folder / f"{package.name}.deb"
    command = ["dpkg-deb", "--build", "-Znone", "--root-owner-group", str(tree), str(file)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    subprocess.run(["rm", "-r", str(tree)], check=True)
    return file


def repository(folder: Path) -> Path:
    """Make the repository: packages and their index, for ``deb [trusted=yes] file:… ./``."""
    entries = []
    for package in [*PREINSTALLED, *INSTALLABLE]:
        file = build(package, folder)
        content = file.read_bytes()
        entries.append(
            f"{package.control()}Filename: ./{file.name}\nSize: {len(content)}\n"
            f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
        )
    (folder / "Packages").write_text("\n".join(entries))
    return folder
