"""Podman for exercises, by ``labs/containers/podman.sh``: nothing of the machine is touched."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from mlk8s.course.exercises.catalogue import find_folder
from mlk8s.errors import UsageError

#: What podman.sh ends with when it cannot begin: a program or a right is missing.
_CANNOT = 2
_WITHIN_S = 120


def podman(
    command: str, *, specifications: Sequence[Path] = (), stand_in: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a shell line that calls podman, with storage of its own.

    Args:
        command: for ``sh -c``; ``/run/image`` is a root file system of one static busybox.
        specifications: CDI files that podman finds.
        stand_in: on a machine with the device nodes of two GPUs, each of them ``/dev/null``.

    Returns:
        The ended process, its output and errors in ``stdout``.

    Raises:
        UsageError: podman, runc or busybox is missing, or the kernel allows no namespaces.
    """
    script = find_folder(Path(__file__).parent).parent / "containers" / "podman.sh"
    options = ["--stand-in"] if stand_in else []
    for file in specifications:
        options += ["--cdi", str(file)]
    done = subprocess.run(
        [str(script), *options, "--", "sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=_WITHIN_S,
    )
    if done.returncode == _CANNOT and done.stdout.startswith("podman.sh: "):
        problem, _, step = done.stdout.strip().removeprefix("podman.sh: ").partition(" Next: ")
        raise UsageError(problem, step)
    return done


def in_container(device: str, command: str, specification: Path) -> tuple[bool, str]:
    """Run a shell line in a container that gets a device of a CDI file, on the stand-in machine.

    Args:
        device: such as ``nvidia.com/gpu=0``.
        command: for the shell of a static busybox.
        specification: the file.

    Returns:
        Whether the container ran and the command ended well, and what was said.

    Raises:
        UsageError: as :func:`podman`.
    """
    done = podman(
        "podman --log-level fatal run --rm --rootfs "
        f"--device {device} /run/image /bin/busybox sh -c '{command}'",
        specifications=[specification],
        stand_in=True,
    )
    return done.returncode == 0, done.stdout.strip()
