"""A chapter as a Job: what goes into the pod, and what the cluster must have for it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlk8s
from mlk8s.cluster import Connection, Manifest, gpu_job, inventory
from mlk8s.course import canonical, in_pod, kernels
from mlk8s.errors import ClusterError, UsageError

Object = dict[str, Any]

IMAGE = "ghcr.io/mlk8s/course:latest"
#: What a ConfigMap may hold is 1 MiB, its other fields included.
TASK_BYTES = 1_000_000
# In the pod. Unlike any path of a machine: the embedded cluster rewrites these in the variables.
_TASK, _WORK, _COURSE = "/mlk8s-run/task", "/mlk8s-run/work", "/course"
_RUNTIME_CLASS = "/apis/node.k8s.io/v1/runtimeclasses/nvidia"
# Long enough to look at a Job whose client died, short enough not to pile up.
_KEEP_S = 600


@dataclass(frozen=True)
class Options:
    """How chapters run in a cluster.

    Attributes:
        image: has the course's environment, and its labs in ``/course``.
        resource: the device that each pod asks one of; empty for none.
        gpu: ``MLK8S_GPU`` in the pod; where None ``live``, but ``recorded`` on the embedded
            cluster, whose GPUs are simulated, and without a device.
        cell_timeout_s: seconds that one cell may take.
        deadline_s: seconds that a Job may take, waiting for a GPU and for the image included.
        jobs: Jobs at a time.
        namespace: an existing namespace to work in; one of the run's own where None.
        wait_for_nodes: go on waiting where no node could take the pod: an autoscaler adds one.
        parameters: values for the parameters cell of every chapter.
    """

    image: str = IMAGE
    resource: str = "nvidia.com/gpu"
    gpu: str | None = None
    cell_timeout_s: float = 600
    deadline_s: int = 3600
    jobs: int = 1
    namespace: str | None = None
    wait_for_nodes: bool = False
    parameters: Mapping[str, object] = field(default_factory=dict)


@dataclass
class Task:
    """One chapter on its way; the thread that follows its Job writes here, the display reads."""

    notebook: Path
    packed: bytes
    cells: int
    state: str = "waiting"
    cell: int = 0
    waited_s: float | None = None
    looked: float = 0.0
    ended: str = ""  # why its pod failed, in plain words
    read: int = 0  # lines of the log that ``said`` has
    said: in_pod.Said = field(default_factory=in_pod.Said)

    @property
    def chapter(self) -> str:
        """File name without ``.ipynb``."""
        return self.notebook.stem


def prepared(notebook: Path, options: Options) -> Task:
    """A chapter packed for its pod.

    Raises:
        UsageError: a parameter is unknown, or the notebook is too large for a ConfigMap.
    """
    kernels.load(notebook, options.parameters)  # says here what the pod would say after its start
    nb = canonical.normalized(canonical.read(notebook))
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    packed = in_pod.pack(
        {
            "protocol": in_pod.PROTOCOL,
            "chapter": notebook.stem,
            "notebook": nb,
            "parameters": dict(options.parameters),
            "timeout_s": options.cell_timeout_s,
        }
    )
    if len(packed) * 4 / 3 > TASK_BYTES:
        raise UsageError(
            f"{notebook} has {len(packed) / 2**20:.1f} MiB packed without its outputs, and a "
            "ConfigMap holds 1 MiB, in base64.",
            "take pictures and data out of its Markdown cells.",
        )
    return Task(notebook, packed, len(nb.cells))


def check_devices(connection: Connection, options: Options) -> None:
    """Refuse early what no node can give.

    Raises:
        ClusterError: no node has the device to give.
    """
    if not options.resource or options.wait_for_nodes:
        return
    totals = inventory(connection).totals()
    amount = totals.get(options.resource)
    if amount is not None and amount.allocatable >= 1:
        return
    others = [name for name, each in totals.items() if each.allocatable >= 1]
    has = f"; they have: {', '.join(others)}" if others else ""
    ill = f" (all {int(amount.capacity)} are unhealthy)" if amount and amount.capacity else ""
    raise ClusterError(
        f"No node of context {connection.context} has {options.resource} to give{ill}{has}.",
        "see them: mlk8s cluster inventory; name another device with --resource, or wait for an "
        "autoscaler with --wait-for-nodes.",
    )


def name_of(chapter: str) -> str:
    """A chapter's name as the beginning of the name of an object."""
    return re.sub(r"[^a-z0-9]+", "-", chapter.lower()).strip("-")[:40].strip("-") or "notebook"


def config_map(name: str, task: Task) -> Object:
    """The ConfigMap in which a chapter travels."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "binaryData": {"task": base64.b64encode(task.packed).decode()},
    }


def job(name: str, here: Connection, task: Task, options: Options) -> Manifest:
    """The Job of one chapter."""
    simulated = here.embedded is not None
    gpu = options.gpu or ("live" if options.resource and not simulated else "recorded")
    env = {
        "MLK8S_GPU": gpu,
        # A chapter that works with a cluster starts the embedded one in its pod: it may delete
        # and break what it likes there.
        "MLK8S_CLUSTER": "simulated",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "PYTHONUNBUFFERED": "1",
    }
    course = _COURSE
    if simulated:
        # Its pods are processes of this machine, and its course is the checkout.
        env["PYTHONPATH"] = str(Path(mlk8s.__file__).parents[1])
        course = str(task.notebook.absolute().parents[1])
    command = ["python", "-m", "mlk8s.course.in_pod", f"{_TASK}/task", _WORK, course]
    runtime = here.find(_RUNTIME_CLASS) is not None
    made = gpu_job(
        name,
        options.image,
        command,
        gpus=1 if options.resource else 0,
        resource=options.resource or "nvidia.com/gpu",
        env=env,
        runtime_class="nvidia" if runtime else None,
        deadline_s=options.deadline_s,
        keep_s=_KEEP_S,
    )
    body = json.loads(json.dumps(dict(made)))
    pod = body["spec"]["template"]["spec"]
    pod["automountServiceAccountToken"] = False
    pod["volumes"] = [
        {"name": "task", "configMap": {"name": name}},
        {"name": "work", "emptyDir": {}},
        # Data loaders pass tensors through it; the runtime's default is 64 MiB.
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    container = pod["containers"][0]
    # An image that was imported into the node's containerd is in no registry.
    container["imagePullPolicy"] = "IfNotPresent"
    container["securityContext"] = {"allowPrivilegeEscalation": False}
    container["volumeMounts"] = [
        {"name": "task", "mountPath": _TASK, "readOnly": True},
        {"name": "work", "mountPath": _WORK},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    return Manifest(body)
