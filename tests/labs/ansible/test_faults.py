"""Each step fails once: the run stops there, says why and what next, and goes on when it is mended.

One machine is built part by part. Before a part is done, its steps fail one after the other, so the
run that follows the last fault is also the one that goes on after all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from .machine import Machine
from .network import Site
from .playbook import Run, play

PARTS = ("driver", "microk8s", "gpu", "monitoring", "course", "verify")


class Built:
    """A machine on which parts are done, and the next ones are not."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._done: list[str] = []

    def up_to(self, part: str) -> Machine:
        """Do the parts before this one."""
        if missing := [p for p in PARTS[: PARTS.index(part)] if p not in self._done]:
            play(self.machine, only=",".join(missing)).check()
            self._done += missing
        return self.machine


@pytest.fixture(scope="module")
def built(site: Site) -> Iterator[Built]:
    with Machine(site, "gpu-0") as machine:
        yield Built(machine)


@dataclass(frozen=True)
class Fault:
    """A call that fails.

    Attributes:
        call: pattern of the call.
        step: name of the task that the run has to stop at.
        words: what the message has to say besides the machine.
        said: how the call fails, as :meth:`Machine.fail` takes it.
        waits: settings for this run.
    """

    part: str
    call: str
    step: str
    words: tuple[str, ...]
    said: dict[str, Any] = field(default_factory=dict)
    waits: dict[str, Any] = field(default_factory=dict)


NO_STORE = 'error: cannot install "microk8s": Post https://api.snapcraft.io: no route to host'
FAULTS = {
    "Ubuntu lists no driver": Fault(
        "driver",
        "^ubuntu-drivers list",
        "Stop if the branch is not among them",
        ("no driver 580-server for this GPU", "It has: none", "driver_branch="),
        {"code": 0, "stderr": ""},
    ),
    "the driver does not install": Fault(
        "driver",
        "^ubuntu-drivers install",
        "Install the driver (some minutes): 580-server",
        ("Unable to fetch some archives",),
        {"stderr": "E: Unable to fetch some archives", "code": 100},
    ),
    "the store is away": Fault(
        "microk8s",
        "^snap install",
        "Stop if it could not be installed",
        ("no route to host", "Snap Store", "snap debug connectivity"),
        {"stderr": NO_STORE},
    ),
    "the store is slow": Fault(
        "microk8s",
        "^snap install",
        "Stop if it could not be installed",
        ("could not be installed within 1 seconds", "snap changes"),
        {"code": None, "hang": 30},
        {"snap_timeout": 1},
    ),
    "snapd refuses to hold": Fault(
        "microk8s",
        "^snap refresh --hold",
        "Hold its refreshes",
        ("--hold=forever", "cannot hold"),
        {"stderr": "error: cannot hold: change in progress"},
    ),
    "Kubernetes does not start": Fault(
        "microk8s",
        "^microk8s status --wait-ready",
        "Stop if it does not",
        ("did not get ready within 10 seconds", "is not running", "sudo microk8s inspect"),
        {"stdout": "microk8s is not running. Use microk8s inspect.", "stderr": ""},
    ),
    "an addon does not start": Fault(
        "microk8s",
        "^microk8s enable dns",
        "Enable the add-ons that are not",
        ("item=dns", "Failed to apply coredns"),
        {"stderr": "Failed to apply coredns"},
    ),
    "DNS never runs": Fault(
        "microk8s",
        "^microk8s kubectl get deployments",
        "Stop if they do not",
        ("of coredns and hostpath-provisioner, after 1 seconds available are: none", "refused"),
        {"stderr": "The connection to the server 127.0.0.1:16443 was refused", "times": -1},
        {"microk8s_timeout": 1},
    ),
    "helm does not install the operator": Fault(
        "gpu",
        "^helm3 install gpu-operator|^microk8s helm3 upgrade --install gpu-operator",
        "Stop if helm did not succeed",
        ("could not install gpu-operator v25.10.0", "was absent before", "helm.ngc.nvidia.com"),
        {"stderr": "Error: looks like helm.ngc.nvidia.com cannot be reached", "times": 2},
    ),
    "the operator never gets ready": Fault(
        "gpu",
        "^microk8s kubectl get clusterpolicies",
        "Stop if it does not",
        ("after 1 seconds the GPU Operator is not ready", "notReady", "kubectl describe pod"),
        {"code": 0, "stdout": '{"status": {"state": "notReady"}}', "stderr": "", "times": -1},
        {"gpu_timeout": 1},
    ),
    "the node offers no GPU": Fault(
        "gpu",
        "^microk8s kubectl get node gpu-0",
        "Stop if none can be",
        ("after 1 seconds the node gpu-0 still offers no nvidia.com/gpu", "nvidia-device-plugin"),
        {"code": 0, "stdout": '{"status": {"allocatable": {}}}', "stderr": "", "times": -1},
        {"gpu_timeout": 1},
    ),
    "Kubernetes takes no secret": Fault(
        "monitoring",
        "^microk8s kubectl create",
        "Stop if it could not be kept",
        ("monitoring/grafana-admin", "quota", "microk8s inspect"),
        {"stderr": 'secrets "grafana-admin" is forbidden: exceeded quota'},
    ),
    "helm does not install Prometheus": Fault(
        "monitoring",
        "^microk8s helm3 upgrade --install monitoring",
        "Stop if helm did not succeed",
        ("could not install kube-prometheus-stack 77.6.2", "prometheus-community.github.io"),
    ),
    "Prometheus has no GPU": Fault(
        "monitoring",
        "^microk8s kubectl get --raw",
        "Stop if it has none",
        ("after 1 seconds Prometheus has no DCGM_FI_DEV_GPU_TEMP", "nvidia-dcgm-exporter"),
        {"code": 0, "stdout": '{"data": {"result": []}}', "stderr": "", "times": -1},
        {"metrics_timeout": 1},
    ),
    "the package index is away": Fault(
        "course",
        "^make setup",
        "Stop if it could not be installed",
        ("make setup in /home/mlk8s/mlk8s did not succeed", "No matching distribution"),
        {"stderr": "ERROR: No matching distribution found for torch", "code": 2},
    ),
    "the environment takes too long": Fault(
        "course",
        "^make setup",
        "Stop if it could not be installed",
        ("did not succeed within 1 seconds",),
        {"code": None, "hang": 30},
        {"setup_timeout": 1},
    ),
    "no kubeconfig": Fault(
        "course",
        "^microk8s config",
        "Stop without it",
        ("microk8s config gave no kubeconfig", "permission denied"),
        {"stderr": "permission denied"},
    ),
    "systemd does not start JupyterLab": Fault(
        "course",
        "^systemctl start mlk8s-lab",
        "Start it, now and with the machine",
        ("mlk8s-lab", "control process exited"),
        {"stderr": "Job for mlk8s-lab.service failed because the control process exited"},
    ),
    "the sample fails": Fault(
        "verify",
        "^microk8s kubectl logs",
        "Judge it",
        ("CUDA sample did not pass on gpu-0", "driver version is insufficient", "Events:"),
        {"code": 0, "stdout": "CUDA driver version is insufficient", "stderr": ""},
    ),
}


def stopped(run: Run, part: str, step: str, *words: str) -> None:
    """It stopped at that step, with one message that says these words and what to do next."""
    assert run.code != 0, run.output
    role, _, failed = run.failed.partition(" : ")
    assert failed == step and role in (part, "helm_release"), run.output
    for word in words:
        assert word in run.message
    assert run.message.count("Next:") == 1, run.message


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_call_that_fails_stops_the_run(built: Built, fault: Fault) -> None:
    machine = built.up_to(fault.part)
    machine.fail(fault.call, **fault.said)
    run = play(machine, only=fault.part, **fault.waits)
    machine.mend()
    stopped(run, fault.part, fault.step, *fault.words)


def test_a_package_that_cannot_be_had(built: Built) -> None:
    machine = built.up_to("course")
    machine.run("apt-get remove -y make && mv /etc/apt/sources.list /var/tmp")
    run = play(machine, only="course")
    machine.run("mv /var/tmp/sources.list /etc/apt")
    stopped(run, "course", "Install what the environment is made with", "No package matching")


def test_a_course_that_is_no_clone(built: Built, tmp_path: object) -> None:
    run = play(built.up_to("course"), only="course", controller_root=str(tmp_path))
    stopped(run, "course", "Stop without a whole repository here", "is not a Git clone", "with git")


def test_a_port_that_cannot_be_had(built: Built) -> None:
    machine = built.up_to("course")
    run = play(machine, only="course", course_port=22, lab_timeout=2)
    stopped(
        run, "course", "Stop if it does not", "does not answer on 127.0.0.1:22", "course_port=8889",
        "Permission denied",
    )  # fmt: skip


def test_notebooks_that_somebody_changed_are_not_overwritten(built: Built) -> None:
    machine = built.up_to("verify")
    machine.run("echo '# mine' >> /home/mlk8s/mlk8s/Makefile", user="mlk8s")
    machine.site.git("commit", "-q", "--allow-empty", "-m", "Another")
    run = play(machine, only="course")
    stopped(run, "course", "Stop rather than overwrite them", " M Makefile", "switch -c mine")
    assert machine.run("tail -1 /home/mlk8s/mlk8s/Makefile") == "# mine\n"
    play(machine, only="course", allow_course_overwrite=True).check()
    assert "# mine" not in machine.run("cat /home/mlk8s/mlk8s/Makefile")


def test_a_template_without_the_runtime(built: Built) -> None:
    machine = built.up_to("verify")
    template = "/var/snap/microk8s/current/args/containerd-template.toml"
    machine.run(f"cp {template} /var/tmp && sed -i /nvidia/d {template}")
    run = play(machine, only="gpu")
    machine.run(f"cp /var/tmp/containerd-template.toml {template}")
    stopped(run, "gpu", "Stop if the template has it not", "rollout restart", "container-toolkit")
    machine.run("sed -i /nvidia/d /var/snap/microk8s/current/args/containerd.toml")
    run = play(machine, only="gpu").check()
    restart = "gpu : Restart containerd, whose configuration is older than its template"
    assert run.changes == (restart,)


def test_a_gpu_that_is_held_is_left_to_its_pod(built: Built) -> None:
    machine = built.up_to("verify")
    resources = {"limits": {"nvidia.com/gpu": 1}}
    machine.kubernetes.kubectl("apply", "-f", "-", given=pod("training", resources))
    machine.kubernetes.kubectl("wait", "pod/training", "--for=jsonpath={.spec.nodeName}=gpu-0")
    run = play(machine, only="verify").check()
    assert "CUDA sample not run: default/training hold every GPU" in run.output
    assert [call for call in machine.calls() if "vectoradd" in call.line][-1].argv[2] != "apply"


def pod(name: str, resources: dict[str, Any]) -> dict[str, Any]:
    container = {"name": "main", "image": "registry.k8s.io/pause:3.10", "resources": resources}
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata} | {
        "spec": {"containers": [container], "runtimeClassName": "nvidia"}
    }
