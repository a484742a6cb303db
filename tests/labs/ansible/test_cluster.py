"""Two machines, 22.04 and 24.04, become one cluster: told in the order of these tests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from .machine import Machine
from .network import Site
from .playbook import play

TOKEN = re.compile("[0-9a-f]{32}")
Pair = tuple[Machine, Machine]


@pytest.fixture(scope="module")
def pair(site: Site) -> Iterator[Pair]:
    with Machine(site, "gpu-0", "22.04") as leader, Machine(site, "worker-0") as worker:
        yield leader, worker


def nodes(machine: Machine) -> dict[str, str | None]:
    """GPUs that can be requested, by node."""
    found = machine.kubernetes.get("nodes")
    return {n["metadata"]["name"]: n["status"]["allocatable"].get("nvidia.com/gpu") for n in found}


def test_a_join_that_is_refused(pair: Pair) -> None:
    leader, worker = pair
    refusal = "Joining cluster failed: HTTPSConnectionPool({call}): Max retries exceeded"
    worker.fail("^microk8s join", stderr=refusal)
    run = play(*pair, monitoring_enabled=False, only="driver,microk8s")
    worker.mend()
    assert run.failed == "microk8s : Stop if it was refused", run.output
    assert "ubuntu@192.0.2.12 could not join gpu-0:" in run.message
    assert "192.0.2.11:25000/TOKEN --worker): Max retries exceeded" in run.message
    assert "Next: it has to reach 192.0.2.11 on the ports 25000 and 16443" in run.message
    assert not TOKEN.search(run.output)
    assert nodes(leader) == {"gpu-0": None}


def test_the_second_machine_joins(pair: Pair) -> None:
    leader, worker = pair
    run = play(*pair, monitoring_enabled=False).check()
    assert nodes(leader) == {"gpu-0": "1", "worker-0": "1"}
    for name in nodes(leader):
        assert f"{name} is ready: 1 x nvidia.com/gpu" in run.output
        report = json.loads((leader.site.output / f"report-{name}.json").read_text())
        assert report["smoke_test"]["result"] == "passed"
    assert report["role"] == "worker"
    (joined,) = [c for c in worker.calls() if c.code == 0 and c.argv[:2] == ("microk8s", "join")]
    assert joined.argv[-1] == "--worker"
    assert not TOKEN.search(run.output)
    for machine in pair:
        assert "192.0.2.11 gpu-0\n192.0.2.12 worker-0\n" in machine.run("cat /etc/hosts")
    # What the cluster has once is on the first machine alone.
    assert not [call for call in worker.calls() if call.argv[0] in ("make", "systemctl")]
    assert not [call for call in worker.calls() if call.argv[1:2] == ("enable",)]


def test_ubuntu_22_04_gets_a_python_that_is_new_enough(pair: Pair) -> None:
    leader, _ = pair
    setup = [call.line for call in leader.calls() if call.line.startswith("make setup")]
    assert setup == ["make setup PYTHON=python3.11"]
    assert leader.run("dpkg-query -W -f '${db:Status-Status}' python3.11-venv") == "installed"


def test_a_second_run_changes_neither(pair: Pair) -> None:
    run = play(*pair, monitoring_enabled=False).check()
    assert run.changes == () and set(run.changed.values()) == {0}


def test_uninstall_lets_the_second_machine_leave_first(pair: Pair) -> None:
    leader, worker = pair
    for machine in pair:
        machine.forget()
    run = play(*pair, book="uninstall.yml", confirm="uninstall").check()
    lines = [call.line for call in worker.calls()]
    assert lines.index("microk8s leave") < lines.index("snap remove microk8s --purge")
    assert "microk8s leave" not in [call.line for call in leader.calls()]
    said = " ".join(run.output.split())
    assert "ubuntu@192.0.2.12: microk8s leave succeeded. Next: if" in said
    assert "sudo microk8s remove-node NAME there" in said
    for machine in pair:
        assert machine.state["snaps"] == {}
        assert "mlk8s" not in machine.run("cat /etc/hosts")
