"""The driver and the hardware: ``ubuntu-drivers``, ``nvidia-smi``, modules, PCI devices."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from .calls import Failed, Program, changed, state

_NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that "
    "the latest NVIDIA driver is installed and running.\n"
)
_MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: {}"


def installed() -> dict[str, str]:
    """Packages of the driver, as dpkg has them."""
    told = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n", "*nvidia*"],
        capture_output=True,
        text=True,
        check=False,
    )
    rows = (line.split() for line in told.stdout.splitlines())
    return {row[1]: row[2] for row in rows if row[0] == "installed" and len(row) == 3}


def _versions() -> tuple[str, str]:
    """What libraries and kernel modules are installed; empty where none are."""
    packages = installed()
    library = next((v for k, v in packages.items() if k.startswith("libnvidia-compute-")), "")
    modules = any(k.startswith("linux-modules-nvidia-") for k in packages)
    version = library.partition("-")[0]
    return version, version if modules else ""


def boot() -> None:
    """What a start of the machine does: the installed module is loaded."""
    _, module = _versions()
    with changed() as now:
        blocked = now["nouveau_at_boot"] or (now["secure_boot"] and not now["signed"])
        now["nvidia"] = "" if blocked else module
        now["nouveau"] = now["nouveau_at_boot"]
        now["boots"] += 1


def nvidia_smi(argv: list[str]) -> int:
    """``-L``, ``--query-gpu=… --format=csv…``, or a short summary."""
    now = state()
    library, _ = _versions()
    if not now["nvidia"]:
        raise Failed(_NO_DRIVER, 9)
    if library != now["nvidia"]:
        raise Failed(_MISMATCH.format(library.rpartition(".")[0]), 18)
    query = next((a.partition("=")[2] for a in argv if a.startswith("--query-gpu=")), "")
    header = not any("noheader" in a for a in argv)
    fields = query.split(",") if query else []
    if query and header:
        print(", ".join(fields))
    for index in range(len(now["gpus"])):
        values = {
            "index": str(index),
            "name": now["product"],
            "driver_version": now["nvidia"],
            "memory.total": "81559 MiB",
            "uuid": f"GPU-00000000-0000-0000-0000-{index:012d}",
            "count": str(len(now["gpus"])),
            "compute_cap": "9.0",
        }
        if unknown := [name for name in fields if name not in values]:
            raise Failed(f'Field "{unknown[0]}" is not a valid field to query.', 2)
        if query:
            print(", ".join(values[name] for name in fields))
        elif "-L" in argv:
            print(f"GPU {index}: {values['name']} (UUID: {values['uuid']})")
        else:
            print(f"| {index}  {values['name']}  {values['driver_version']} |")
    return 0


def ubuntu_drivers(argv: list[str]) -> int:
    """``list --gpgpu``, ``devices`` and ``install --gpgpu nvidia:BRANCH-server``."""
    now = state()
    if argv[:1] == ["list"] and now["gpus"]:
        kinds = ("-server", "-server-open") if "--gpgpu" in argv else ("",)
        for branch in now["branches"]:
            for kind in kinds:
                print(
                    f"nvidia-driver-{branch}{kind}, (kernel modules provided by "
                    f"linux-modules-nvidia-{branch}{kind}-generic)"
                )
        return 0
    if argv[:1] == ["install"]:
        if os.geteuid() != 0:
            raise Failed("E: Could not open lock file /var/lib/dpkg/lock-frontend (are you root?)")
        chosen = next((a for a in argv[1:] if a.startswith("nvidia")), "")
        match = re.fullmatch(r"nvidia:(\d+-server(?:-open)?)", chosen)
        if match is None or match[1].partition("-")[0] not in now["branches"]:
            raise Failed(f"ERROR: No driver found for {chosen or 'this machine'}")
        branch = match[1]
        # Open modules share the libraries of their branch.
        wanted = [f"nvidia-headless-no-dkms-{branch}", f"linux-modules-nvidia-{branch}-generic"]
        done = subprocess.run(
            ["apt-get", "install", "-y", "-q", *wanted],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            check=False,
        )
        return done.returncode
    return 0


def modprobe(argv: list[str]) -> int:
    """Load a module: nvidia, unless it is not there, not signed, or needs a start."""
    name = next((a for a in argv if not a.startswith("-")), "")
    now = state()
    if name == "nvidia" and not now["nvidia"]:
        _, module = _versions()
        if not module:
            raise Failed(
                "modprobe: FATAL: Module nvidia not found in directory "
                "/lib/modules/6.8.0-60-generic"
            )
        if now["secure_boot"] and not now["signed"]:
            raise Failed("modprobe: ERROR: could not insert 'nvidia': Key was rejected by service")
        if now["nouveau"] or now["reboot_needed"]:
            raise Failed("modprobe: ERROR: could not insert 'nvidia': No such device")
        with changed() as then:
            then["nvidia"] = module
    return 0


def lsmod(argv: list[str]) -> int:
    """The loaded modules."""
    now = state()
    print("Module                  Size  Used by")
    print("overlay               212992  0")
    if now["nvidia"]:
        print("nvidia_uvm           4964352  0")
        print("nvidia              14381056  1 nvidia_uvm")
    if now["nouveau"]:
        print("nouveau              3096576  0")
    return 0


def modinfo(argv: list[str]) -> int:
    """A field of the module that is installed."""
    name = argv[-1]
    _, module = _versions()
    if name != "nvidia" or not module:
        raise Failed(f"modinfo: ERROR: Module {name} not found.")
    if "-F" in argv:
        field = argv[argv.index("-F") + 1]
        signer = "Canonical Ltd. Kernel Module Signing" if state()["signed"] else ""
        value = {"version": module, "signer": signer}.get(field, "")
        if value:
            print(value)
        return 0
    print("filename:       /lib/modules/6.8.0-60-generic/kernel/nvidia.ko")
    print(f"version:        {module}")
    return 0


def lspci(argv: list[str]) -> int:
    """The NVIDIA devices, as ``lspci -Dnn`` shows them."""
    for index, (kind, name) in enumerate(state()["gpus"] + state()["bridges"]):
        print(f"0000:{index + 1:02x}:00.0 {kind}: NVIDIA Corporation {name} (rev a1)")
    return 0


def mokutil(argv: list[str]) -> int:
    """Whether Secure Boot is on."""
    print(f"SecureBoot {'enabled' if state()['secure_boot'] else 'disabled'}")
    return 0


def update_initramfs(argv: list[str]) -> int:
    """Say what the real one says; what /etc/modprobe.d names stays out at the next start."""
    print("update-initramfs: Generating /boot/initrd.img-6.8.0-60-generic")
    if any("nouveau" in file.read_text() for file in Path("/etc/modprobe.d").glob("*.conf")):
        with changed() as now:
            now["nouveau_at_boot"] = False
    return 0


PROGRAMS: dict[str, Program] = {
    "lsmod": lsmod,
    "lspci": lspci,
    "modinfo": modinfo,
    "modprobe": modprobe,
    "mokutil": mokutil,
    "nvidia-smi": nvidia_smi,
    "ubuntu-drivers": ubuntu_drivers,
    "update-initramfs": update_initramfs,
}
