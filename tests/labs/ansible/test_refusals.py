"""What the playbook refuses to begin with: one message, and nothing on the machine has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import New
from .machine import Machine
from .playbook import play

SNAP = "snap install microk8s --classic --channel="
#: What the checks may call; none of it changes anything.
ASKING = (
    "lspci ",
    "mokutil --sb-state",
    "modinfo -F signer nvidia",
    "nvidia-smi --query-gpu=",
    "snap list microk8s",
    "microk8s kubectl get ",
    "microk8s helm3 list ",
)


WRITTEN = "find / -xdev -type f -newer /before -not -path '*/.*/*' -not -name '*.pyc'"


def release(name: str, namespace: str, chart: str) -> dict[str, Any]:
    row = {"name": name, "namespace": namespace, "chart": chart, "status": "deployed"}
    return {name: {**row, "revision": "1", "app_version": "", "updated": "", "values": {}}}


def refused(*machines: Machine, **variables: Any) -> str:
    """Run the playbook; check that it stopped in its checks; the message."""
    for machine in machines:
        machine.run("touch /before; sleep 0.02")
        machine.forget()
    before = [machine.state for machine in machines]
    run = play(*machines, **variables)
    assert run.code != 0 and run.failed.startswith("preflight : "), run.output
    assert run.changes == () and run.message.count("Next:") == 1, run.output
    for machine, then in zip(machines, before, strict=True):
        assert machine.state == then
        assert [call for call in machine.calls() if not call.line.startswith(ASKING)] == []
        assert machine.run(WRITTEN) == ""
    return run.message


#: State of the stand-ins, commands that make the machine so, variables, and words of the message.
Case = tuple[dict[str, Any], str, dict[str, Any], tuple[str, ...]]
CASES: dict[str, Case] = {
    "no root": (
        {},
        "rm /etc/sudoers.d/machine",
        {},
        ("cannot run commands as root", "password", "ARGS='--ask-become-pass'"),
    ),
    "lspci is missing": ({}, "rm /usr/bin/lspci", {}, ("lspci", "apt-get install pciutils")),
    "no GPU": ({"gpus": []}, "", {}, ("no NVIDIA GPU", "pass the GPU through")),
    "little memory": (
        {},
        "",
        {"required_memory_mib": 10**8},
        ("MiB of memory", "100000000 MiB", "larger machine"),
    ),
    "little disk": (
        {},
        "",
        {"required_disk_gib": 10**6},
        ("GiB free", "1000000 GiB are needed", "larger disk"),
    ),
    "Docker": (
        {},
        "apt-get update && apt-get install -y docker.io",
        {},
        ("/usr/bin/containerd, /usr/bin/dockerd", "allow_other_containerd=true"),
    ),
    "another Kubernetes": ({}, "touch /usr/local/bin/k3s", {}, ("/usr/local/bin/k3s",)),
    "NVIDIA's installer": (
        {},
        "touch /usr/bin/nvidia-uninstall",
        {},
        (".run installer", "does not answer", "sudo nvidia-uninstall"),
    ),
    "another channel": (
        {},
        f"{SNAP}1.34/stable",
        {},
        ("MicroK8s v1.34.1", "1.34/stable", "is for 1.35/stable", "microk8s_channel=1.34/stable"),
    ),
    "strict confinement": (
        {
            "snaps": {
                "microk8s": {"version": "v1.35.0", "rev": "8612", "channel": "1.35/stable"}
                | {"confinement": "", "held": True}
            }
        },
        "",
        {},
        ("strictly confined", "snap remove microk8s --purge"),
    ),
    "a worker": (
        {},
        f"{SNAP}1.35/stable && mkdir -p /var/snap/microk8s/current/var/lock "
        "&& touch /var/snap/microk8s/current/var/lock/clustered.lock",
        {},
        ("worker of another machine's cluster", "microk8s leave"),
    ),
    "an operator elsewhere": (
        {"helm": release("gpu-operator", "gpu-operator", "gpu-operator-v25.3.0")},
        f"{SNAP}1.35/stable",
        {},
        ("GPU Operator", "namespace gpu-operator", "uninstall gpu-operator"),
    ),
    "a Prometheus elsewhere": (
        {"helm": release("kube-prom-stack", "observability", "kube-prometheus-stack-77.6.2")},
        f"{SNAP}1.35/stable",
        {},
        ("Prometheus stack", "namespace observability", "monitoring_enabled=false"),
    ),
}


@pytest.mark.parametrize(("state", "command", "variables", "words"), CASES.values(), ids=CASES)
def test_refused(
    new: New,
    state: dict[str, Any],
    command: str,
    variables: dict[str, Any],
    words: tuple[str, ...],
) -> None:
    machine = new(**state)
    if command:
        machine.run(command)
    message = refused(machine, **variables)
    for word in (machine.address, *words):
        assert word in message


def test_an_old_driver(new: New) -> None:
    machine = new()
    machine.install_driver(570)
    machine.run("modprobe nvidia")
    message = refused(machine)
    for word in ("has driver 570.195.03", "580 or newer", "allow_driver_replace=true"):
        assert word in message


def test_a_module_that_nobody_signed(new: New) -> None:
    machine = new(secure_boot=True, signed=False)
    machine.install_driver(580)
    message = refused(machine)
    for word in ("Secure Boot on", "nvidia-dkms-*", "mokutil --import"):
        assert word in message


def test_another_ubuntu(new: New) -> None:
    assert "runs Ubuntu 20.04, and this playbook is for Ubuntu 22.04 and 24.04" in refused(
        new(release="20.04")
    )


def test_another_processor(new: New) -> None:
    machine = new(architecture="i686")
    assert "is i386, and MicroK8s" in refused(machine)


def test_docker_is_allowed_by_a_word(new: New) -> None:
    machine = new()
    machine.run("touch /usr/bin/dockerd")
    play(machine, only="always", allow_other_containerd=True).check()


@pytest.fixture
def pair(new: New) -> Callable[[str], tuple[Machine, Machine]]:
    """Two machines that have MicroK8s, the second one after a command."""

    def start(command: str) -> tuple[Machine, Machine]:
        leader, other = new("gpu-0"), new("worker-0")
        for machine in (leader, other):
            machine.run(f"{SNAP}1.35/stable")
        other.run(command)
        return leader, other

    return start


TWO = {
    "the same host name": (
        "hostname gpu-0; echo 127.0.1.1 gpu-0 >> /etc/hosts",
        ("host name gpu-0", "hostnamectl set-hostname"),
    ),
    "a member elsewhere": (
        "mkdir -p /var/snap/microk8s/current/var/lock "
        "&& touch /var/snap/microk8s/current/var/lock/clustered.lock",
        ("is not gpu-0's (as a worker)", "microk8s leave"),
    ),
    "pods of its own": (
        "export PATH=$PATH:/snap/bin; microk8s kubectl create namespace shop "
        "&& microk8s kubectl run web -n shop --image=registry.k8s.io/pause:3.10",
        ("runs pods in shop", "allow_join=true"),
    ),
}


@pytest.mark.parametrize(("command", "words"), TWO.values(), ids=TWO)
def test_a_second_machine_is_refused(
    pair: Callable[[str], tuple[Machine, Machine]], command: str, words: tuple[str, ...]
) -> None:
    message = refused(*pair(command))
    for word in words:
        assert word in message
