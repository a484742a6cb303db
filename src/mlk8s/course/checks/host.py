"""What the course needs of the machine besides a GPU: settings, packages, room, containers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mlk8s import recordings
from mlk8s.course.checks import ALL, Check, Machine, Status

GIB = 2**30

#: Free space the course's folder needs, GiB: the environment takes 2 with CPU PyTorch (measured);
#: the CUDA wheels, built site, models and checkpoints of chapters 7 and 8 are allowed 8 (estimate).
COURSE_GIB = 10
#: Free space MicroK8s needs under /var/snap for the images of chapters 4 to 8, GiB (estimate).
SNAP_GIB = 60
#: Memory and cores with which chapters 7 and 8 were planned; chapters 1 to 6 need less.
MEMORY_GIB = 8
CORES = 2

#: Packages whose version shows in stored outputs or decides whether a chapter runs.
MAIN = (
    "ipykernel",
    "jupyter-book",
    "jupyterlab",
    "nbclient",
    "numba",
    "numpy",
    "nvidia-ml-py",
    "pandas",
    "papermill",
    "plotly",
    "rich",
    "torch",
    "typer",
)


def checks(machine: Machine) -> Iterator[Check]:
    """All checks that do not concern the GPU."""
    yield _gpu_setting(machine)
    yield _cluster(machine)
    yield _runtime(machine)
    yield _python()
    yield _packages(machine)
    yield from _disks(machine)
    yield _memory(machine)
    yield _cores(machine)


def _gpu_setting(machine: Machine) -> Check:
    value = machine.gpu_setting
    known = ["auto", "live", "recorded", *recordings.names()]
    if value in known:
        means = {
            "auto": "Live where a GPU answers, else the chapter's recording.",
            "live": "Only this machine's GPU will do.",
            "recorded": "GPU numbers come from the chapter's recording.",
        }.get(value, "GPU numbers come from this recording.")
        return Check("MLK8S_GPU", Status.OK, value, means, chapters=ALL)
    means = "Every cell that asks for a GPU number stops."
    fix = f"set it to one of {', '.join(known)}, or unset it."
    return Check("MLK8S_GPU", Status.FAIL, repr(value), means, fix, ALL)


def _cluster(machine: Machine) -> Check:
    """The cluster setting. A cluster is contacted only when the reader said ``live``."""
    chapters = (4, 5, 6, 7, 8)
    name = "cluster"
    value = machine.env.get("MLK8S_CLUSTER") or "simulated"
    if value not in ("simulated", "live"):
        fix = "set MLK8S_CLUSTER to simulated or live, or unset it."
        means = "Every cell that asks for a cluster stops."
        return Check(name, Status.FAIL, f"MLK8S_CLUSTER={value}", means, fix, chapters)
    kubectl = machine.which("kubectl")
    tools = [t for t in ("kubectl", "microk8s") if machine.which(t)]
    config = _kubeconfig(machine)
    if value == "simulated":
        found = ", ".join([*tools, *(["a kubeconfig, not contacted"] if config else [])])
        means = "Chapters use the cluster inside the process and touch no other."
        return Check(name, Status.OK, f"simulated ({found or 'no tools'})", means, "", chapters)
    if kubectl is None or config is None:
        missing = "kubectl" if kubectl is None else "a kubeconfig"
        means = "MLK8S_CLUSTER=live asks for a real cluster, which nothing here leads to."
        fix = "on the node: sudo snap install kubectl --classic && mkdir -p ~/.kube && "
        fix += "microk8s config > ~/.kube/config; or unset MLK8S_CLUSTER."
        return Check(name, Status.FAIL, f"live, without {missing}", means, fix, chapters)
    context = _kubectl(kubectl, machine, "config", "current-context")
    ready = _kubectl(kubectl, machine, "get", "--raw", "/readyz", "--request-timeout=5s")
    if ready == "ok":
        means = "Labs work in the namespace mlk8s-labs of this context."
        return Check(name, Status.OK, f"live, context {context}", means, "", chapters)
    means = "The API server of this context does not answer that it is ready."
    fix = "microk8s status --wait-ready, or choose another context with kubectl config."
    found = f"live, context {context}: {ready or 'no answer'}"
    return Check(name, Status.FAIL, found, means, fix, chapters)


def _kubeconfig(machine: Machine) -> Path | None:
    """The first kubeconfig that exists, by kubectl's own rule."""
    named = machine.env.get("KUBECONFIG", "")
    home = machine.env.get("HOME", "")
    paths = named.split(os.pathsep) if named else [f"{home}/.kube/config"] if home else []
    return next((Path(p) for p in paths if Path(p).is_file()), None)


def _kubectl(program: str, machine: Machine, *args: str) -> str:
    """First line of kubectl's answer, or of its complaint."""
    try:
        out = subprocess.run(
            [program, *args],
            check=False,
            capture_output=True,
            text=True,
            timeout=15,
            env=dict(machine.env),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return next(iter((out.stdout or out.stderr).strip().splitlines()), "")


def _runtime(machine: Machine) -> Check:
    name = "container runtime"
    tools = [t for t in ("docker", "containerd", "microk8s") if machine.which(t)]
    toolkit = machine.which("nvidia-ctk")
    driven = machine.path("/proc/driver/nvidia/version").exists()
    if not tools:
        means = "Chapter 4 shows recorded transcripts; the simulated cluster needs no runtime."
        return Check(name, Status.ABSENT, "none", means, chapters=(4, 5))
    if driven and not toolkit and "microk8s" not in tools:
        return Check(
            name,
            Status.WARN,
            f"{', '.join(tools)}, without nvidia-ctk",
            "Containers on this machine do not see its GPU.",
            "sudo apt-get install -y nvidia-container-toolkit && sudo nvidia-ctk runtime configure "
            f"--runtime={tools[0]} && sudo systemctl restart {tools[0]}",
            (4,),
        )
    # On a MicroK8s node the GPU operator brings the toolkit; a second one from apt gets in its way.
    means = "Chapter 4 runs containers with it." if toolkit else "Chapter 4 can run containers."
    found = ", ".join([*tools, *(["nvidia-ctk"] if toolkit else [])])
    return Check(name, Status.OK, found, means, chapters=(4, 5))


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    means = "The course needs 3.11 or later, and does not start on less."
    return Check("Python", Status.OK, found, means, chapters=ALL)


def _packages(machine: Machine) -> Check:
    name = "packages"
    lock = machine.repo / "requirements.lock" if machine.repo else None
    if lock is None or not lock.is_file():
        means = "Versions were not compared: the course's folder was not found."
        return Check(name, Status.ABSENT, "no requirements.lock", means, chapters=ALL)
    pinned = dict(re.findall(r"(?m)^([\w.-]+)==([^\s;\\]+)", lock.read_text(encoding="utf-8")))
    differ = []
    for package in MAIN:
        if package not in pinned:
            continue
        try:
            installed = version(package)
        except PackageNotFoundError:
            differ.append(f"{package} is missing (lock {pinned[package]})")
            continue
        # +cpu and +cu130 are builds of one version.
        if installed.partition("+")[0] != pinned[package].partition("+")[0]:
            differ.append(f"{package} {installed} (lock {pinned[package]})")
    if differ:
        means = "Stored outputs were made with the locked versions; yours may differ or fail."
        fix = "run `make book`: it installs what requirements.lock says."
        return Check(name, Status.WARN, "; ".join(differ), means, fix, ALL)
    same = sum(package in pinned for package in MAIN)
    means = "Your outputs can be compared with the stored ones."
    return Check(name, Status.OK, f"{same} main packages as locked", means, chapters=ALL)


def _disks(machine: Machine) -> Iterator[Check]:
    yield _disk("disk", machine.repo or Path.cwd(), COURSE_GIB, (7, 8), "the course")
    snap = machine.path("/var/snap")
    if snap.is_dir():
        yield _disk("disk /var/snap", snap, SNAP_GIB, (4, 5, 6, 7, 8), "MicroK8s and its images")


def _disk(name: str, path: Path, need: int, chapters: tuple[int, ...], what: str) -> Check:
    free = shutil.disk_usage(path).free / GIB
    means = f"About {need} GiB is enough for {what}."
    if free >= need:
        return Check(name, Status.OK, f"{free:.0f} GiB free", means, chapters=chapters)
    fix = "free space (`docker system prune`, old checkpoints), or move to a larger disk."
    return Check(name, Status.WARN, f"{free:.1f} GiB free", means, fix, chapters)


def _memory(machine: Machine) -> Check:
    found = re.search(r"MemTotal:\s+(\d+) kB", machine.read("/proc/meminfo") or "")
    means = f"Chapters 7 and 8 are planned for {MEMORY_GIB} GiB; the others need less."
    if not found:
        return Check("memory", Status.ABSENT, "not readable", means, chapters=(7, 8))
    total = int(found[1]) * 1024 / GIB
    limit = machine.read("/sys/fs/cgroup/memory.max") or ""
    if limit.isdigit():
        total = min(total, int(limit) / GIB)
    text = f"{total:.1f} GiB"
    # A machine sold with 8 GiB shows a little less.
    if total >= 0.9 * MEMORY_GIB:
        return Check("memory", Status.OK, text, means, chapters=(7, 8))
    fix = "close other programs, and run one chapter at a time: mlk8s run --jobs 1."
    return Check("memory", Status.WARN, text, means, fix, (7, 8))


def _cores(machine: Machine) -> Check:
    cores: float = len(os.sched_getaffinity(0))
    quota, _, period = (machine.read("/sys/fs/cgroup/cpu.max") or "").partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, int(quota) / int(period))
    means = f"Run times in the book are for {CORES} cores."
    if cores >= CORES:
        return Check("CPU cores", Status.OK, f"{cores:g}", means, chapters=ALL)
    fix = f"expect longer run times, or give the machine {CORES} cores."
    return Check("CPU cores", Status.WARN, f"{cores:g}", means, fix, ALL)
