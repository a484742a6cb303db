"""One machine's life, told in the order of these tests: new, finished, damaged, given back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .machine import Call, Machine
from .network import Site
from .playbook import Run, make_node, play

#: What has to have happened before what, on a new machine.
ORDER = (
    "ubuntu-drivers install --gpgpu nvidia:580-server",
    "modprobe nvidia",
    "snap install microk8s --classic --channel=1.35/stable",
    "snap refresh --hold=forever microk8s",
    "microk8s status --wait-ready",
    "microk8s enable helm3",
    "microk8s enable dns",
    "microk8s enable hostpath-storage",
    "microk8s kubectl apply -f /etc/mlk8s-node/dcgm-metrics.yaml",
    "microk8s enable nvidia --gpu-operator-driver=host --gpu-operator-version=v25.10.0",
    "microk8s kubectl get clusterpolicies.nvidia.com",
    "microk8s kubectl create -f -",
    "microk8s helm3 upgrade --install monitoring kube-prometheus-stack",
    "microk8s kubectl apply -f /etc/mlk8s-node/gpu-monitoring.yaml",
    "make setup PYTHON=python3.12",
    "systemctl start mlk8s-lab",
    "microk8s kubectl apply -f /etc/mlk8s-node/vectoradd-gpu-0.yaml",
)
#: Calls that change nothing. The pod of the smoke test comes and goes in every run, and an apply of
#: what is there already says "unchanged", or the task would count as a change.
ASKING = re.compile(
    r"(nvidia-smi|lspci|mokutil|modinfo|lsmod|snap (list|watch)|microk8s (status|config)"
    r"|microk8s kubectl (get|logs|apply|delete pod mlk8s-vectoradd-)|microk8s helm3 (list|get)"
    r"|make -q|systemctl (show|is-enabled|is-active|daemon-reload))\b"
)
HELD = ("libnvidia-compute-580-server", "nvidia-utils-580-server", "linux-image-generic")


@dataclass(frozen=True)
class Built:
    """The machine, and the run that built it."""

    machine: Machine
    run: Run
    calls: list[Call]

    def secret(self, name: str) -> str:
        """A value of the Grafana secret."""
        (found,) = self.machine.kubernetes.get("secret", "grafana-admin", "-n", "monitoring")
        return self.machine.run(f"echo {found['data'][name]} | base64 -d")

    def token(self) -> str:
        return self.machine.run("cat /etc/mlk8s-node/lab.env").strip().partition("=")[2]


@pytest.fixture(scope="module")
def built(site: Site) -> Iterator[Built]:
    with Machine(site, "gpu-0") as machine:
        run = play(machine, ansible_python_interpreter="auto_silent").check()
        yield Built(machine, run, machine.calls())


def test_a_new_machine_becomes_a_node(built: Built) -> None:
    (node,) = built.machine.kubernetes.get("nodes")
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "1"
    assert "gpu-0 is ready: 1 x nvidia.com/gpu" in built.run.output
    assert "driver 580.95.05, CUDA sample passed." in built.run.output
    assert built.machine.kubernetes.get("pods", "-n", "default") == []


def test_the_steps_come_in_their_order(built: Built) -> None:
    lines = [call.line for call in built.calls]
    first = [next(i for i, line in enumerate(lines) if line.startswith(s)) for s in ORDER]
    assert first == sorted(first)
    assert {call.user for call in built.calls if call.argv[0] == "make"} == {"mlk8s"}


def test_nothing_upgrades_the_driver_or_microk8s_by_itself(built: Built) -> None:
    assert set(HELD) <= set(built.machine.run("apt-mark showhold").split())
    assert built.machine.run("snap list microk8s").splitlines()[-1].endswith("classic,held")


def test_the_operator_has_the_hosts_driver_and_our_metrics(built: Built) -> None:
    values = built.machine.state["helm"]["gpu-operator"]["values"]
    assert values["driver"]["enabled"] is False and values["toolkit"]["enabled"] is True
    assert values["dcgmExporter"]["config"] == {"name": "mlk8s-dcgm-metrics"}
    kept = built.machine.kubernetes.get(
        "configmap", "mlk8s-dcgm-metrics", "-n", "gpu-operator-resources"
    )
    assert "DCGM_FI_PROF_SM_ACTIVE, gauge," in kept[0]["data"]["dcgm-metrics.csv"]


def test_prometheus_scrapes_the_exporter_and_grafana_has_the_dashboard(built: Built) -> None:
    kubernetes = built.machine.kubernetes
    kinds = "servicemonitors,prometheusrules,configmaps"
    found = {each["metadata"]["name"] for each in kubernetes.get(kinds, "-n", "monitoring")}
    assert {"dcgm-exporter", "gpu", "dashboard-gpu-nodes"} <= found
    (board,) = kubernetes.get("configmap", "dashboard-gpu-nodes", "-n", "monitoring")
    assert json.loads(board["data"]["gpu-nodes.json"])["title"] == "GPU nodes"


def test_jupyterlab_is_behind_a_token_on_loopback(built: Built) -> None:
    machine = built.machine
    assert len(built.token()) == 40
    assert machine.run("stat -c '%a %U' /etc/mlk8s-node/lab.env").split() == ["600", "root"]
    listening = machine.run("ss -H -l -t -n -p 'sport = :8888'").splitlines()
    assert [line.split()[3] for line in listening] == ["127.0.0.1:8888"]
    (lab,) = re.findall("^.*jupyter-lab .*$", machine.run("ps -e -o user=,args="), re.MULTILINE)
    assert lab.startswith("mlk8s ") and "--ServerApp.ip=127.0.0.1" in lab
    assert built.token() not in lab, "other users see a command line"
    kubeconfig = machine.run("stat -c '%a %U' /home/mlk8s/.kube/config").split()
    assert kubeconfig == ["600", "mlk8s"]
    there = machine.run("git -C /home/mlk8s/mlk8s rev-parse HEAD", user="mlk8s")
    assert there == machine.site.git("rev-parse", "HEAD")


def test_the_report_says_what_was_built(built: Built) -> None:
    report = json.loads((built.machine.site.output / "report-gpu-0.json").read_text())
    assert report == json.loads(built.machine.run("cat /var/lib/mlk8s-node/report.json"))
    assert report["host"] == "ubuntu@192.0.2.11" and report["node"] == "gpu-0"
    assert report["system"]["ubuntu"] == "24.04" and report["system"]["driver"] == "580.95.05"
    assert report["system"]["microk8s"] == "v1.35.0 8612 1.35/stable"
    assert report["charts"] == {
        "gpu-operator": "gpu-operator-v25.10.0",
        "monitoring": "kube-prometheus-stack-77.6.2",
    }
    assert report["gpus"] == ["0, NVIDIA H100 80GB HBM3, 580.95.05, 81559 MiB"]
    assert report["allocatable"] == {"nvidia.com/gpu": "1"}
    assert report["labels"]["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
    assert report["smoke_test"]["result"] == "passed"


def test_the_tunnel_is_shown_and_its_secrets_are_not(built: Built) -> None:
    (grafana,) = built.machine.kubernetes.get("service", "grafana", "-n", "monitoring")
    address = grafana["spec"]["clusterIP"]
    tunnel = f"ssh -N -L 8888:127.0.0.1:8888 -L 3000:{address}:80 ubuntu@192.0.2.11"
    assert tunnel in built.run.output
    assert "ssh ubuntu@192.0.2.11 sudo cat /etc/mlk8s-node/access" in built.run.output
    password, token = built.secret("password"), built.token()
    assert len(password) == 24
    assert password not in built.run.output and token not in built.run.output
    assert not [call for call in built.calls if token in call.line or password in call.line]
    assert built.machine.run("stat -c '%a %U' /etc/mlk8s-node/access").split() == ["600", "root"]
    assert built.machine.run("cat /etc/mlk8s-node/access").splitlines() == [
        f"JupyterLab  http://127.0.0.1:8888/lab?token={token}",
        f"Grafana     http://127.0.0.1:3000/  user admin, password {password}",
    ]


def test_a_second_run_changes_nothing(built: Built) -> None:
    machine = built.machine
    machine.forget()
    machine.run("touch /before; sleep 0.02")
    run = play(machine).check()
    assert run.changes == () and set(run.changed.values()) == {0}
    assert [call.line for call in machine.calls() if not ASKING.match(call.line)] == []
    written = (
        "find /etc /home /usr/local /snap /var/lib/mlk8s-node /var/snap -type f -newer /before"
    )
    assert machine.run(f"{written} -not -path '*/.*/*'") == ""


def test_make_node_with_only_a_host_finds_the_same_machine(built: Built) -> None:
    run = make_node(built.machine, only="verify").check()
    assert "ready: 1 x nvidia.com/gpu" in run.output
    # The report is kept under the host's name, which is its address now.
    assert run.changes == ("verify : Fetch it",)
    assert (built.machine.site.output / "report-192.0.2.11.json").is_file()


#: What happens to machines between two runs, and the steps that mend it, in the playbook's order.
DAMAGE = (
    ("apt-mark unhold nvidia-utils-580-server", "driver : Hold what is not"),
    ("snap refresh --unhold microk8s", "microk8s : Hold its refreshes"),
    ("gpasswd --delete ubuntu microk8s", "microk8s : Let the SSH user run microk8s without sudo"),
    ("microk8s stop", "microk8s : Start it"),
    ("microk8s disable dns", "microk8s : Enable the add-ons that are not"),
    ("microk8s kubectl delete configmap mlk8s-dcgm-metrics -n gpu-operator-resources",
     "gpu : Apply the list of metrics"),
    ("", "helm_release : Remove the unfinished release gpu-operator"),
    ("", "helm_release : Install or upgrade the chart (some minutes): gpu-operator"),
    ("", "helm_release : Install or upgrade the chart (some minutes): kube-prometheus-stack"),
    ("microk8s kubectl delete prometheusrule gpu -n monitoring", "monitoring : Apply them"),
    ("touch -d 2000-01-01 /home/mlk8s/mlk8s/.venv/.installed",
     "course : Install the environment of requirements.lock, some 8 GB; limit in seconds: 30"),
    ("chmod 644 /home/mlk8s/.kube/config", "course : Give it to the user"),
    ("sed -i s/127.0.0.1/0.0.0.0/ /etc/systemd/system/mlk8s-lab.service",
     "course : Describe the service"),
    ("systemctl disable mlk8s-lab", "course : Start it, now and with the machine"),
    ("", "course : Restart JupyterLab"),
)  # fmt: skip


def test_a_machine_that_is_half_set_up_is_brought_right(built: Built) -> None:
    machine = built.machine
    for command, _ in sorted(DAMAGE, key=lambda row: row[0] == "microk8s stop"):
        machine.run(f"export PATH=$PATH:/snap/bin; {command}")
    helm = machine.state["helm"]
    # An interrupted upgrade of one, and somebody's values in the other.
    helm["gpu-operator"]["status"] = "pending-upgrade"
    helm["monitoring"]["values"]["prometheus"]["prometheusSpec"]["retention"] = "1d"
    machine.set(helm=helm)
    run = play(machine).check()
    assert run.changes == tuple(step for _, step in DAMAGE)
    assert machine.state["helm"]["gpu-operator"]["status"] == "deployed"
    listening = machine.run("ss -H -l -t -n 'sport = :8888'").split()
    assert "127.0.0.1:8888" in listening


def test_uninstall_asks_first(built: Built) -> None:
    run = play(built.machine, book="uninstall.yml")
    assert run.failed == "Stop unless it was meant" and run.changes == ()
    assert "removes MicroK8s from ubuntu@192.0.2.11" in run.message
    assert "Next, if that is meant: ARGS='-e confirm=uninstall'" in run.message


def test_uninstall_gives_the_machine_back(built: Built) -> None:
    machine = built.machine
    play(machine, book="uninstall.yml", confirm="uninstall").check()
    assert machine.state["snaps"] == {}
    assert machine.run("apt-mark showhold") == ""
    paths = "/etc/mlk8s-node /var/lib/mlk8s-node /etc/systemd/system/mlk8s-lab.service"
    assert machine.run(f"ls -d {paths} /usr/local/bin/kubectl", check=False) == ""
    assert machine.run("id mlk8s", check=False) == ""
    assert machine.run("ss -H -l -t -n 'sport = :8888'") == ""
    assert machine.run("ls /home/mlk8s/mlk8s/Makefile")
    assert machine.run("nvidia-smi -L").startswith("GPU 0: NVIDIA H100")
    again = play(machine, book="uninstall.yml", confirm="uninstall").check()
    assert again.changes == ()
