"""The playbook's files, as far as they can be judged without a machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from .playbook import PLAYBOOK, environment, program

DASHBOARD = PLAYBOOK / "roles/monitoring/files/gpu-nodes.json"
RULES = PLAYBOOK / "roles/monitoring/templates/gpu-monitoring.yaml.j2"
METRICS = PLAYBOOK / "roles/gpu/files/dcgm-metrics.csv"
#: Words of PromQL, labels and Grafana's variables; what remains of an expression is a metric.
PROMQL = {
    *("absent", "and", "bool", "by", "count", "max", "max_over_time", "on", "or", "rate", "sum"),
    *("sum_over_time", "vector"),
    *("clock_event", "exported_namespace", "exported_pod", "gpu", "modelName", "node", "UUID"),
    *("__range",),
}


@pytest.mark.parametrize(
    "command",
    [
        ["ansible-lint", "--offline"],
        ["yamllint", "--strict", "."],
        ["ansible-playbook", "--syntax-check", "-i", "inventory.example.yml", "site.yml"],
        ["ansible-playbook", "--syntax-check", "-i", "inventory.example.yml", "uninstall.yml"],
        ["ansible-playbook", "--syntax-check", "-i", "inventory.example.yml", "classroom.yml"],
    ],
    ids=lambda command: " ".join(command[:2]) + f" {command[-1]}",
)
def test_the_linters_find_nothing(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [program(command[0]), *command[1:]],
        cwd=PLAYBOOK,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_one_file_of_versions() -> None:
    versions = yaml.safe_load((PLAYBOOK / "versions.yml").read_text())
    assert (PLAYBOOK / "group_vars/all/versions.yml").readlink() == Path("../../versions.yml")
    named = re.compile("|".join(re.escape(str(v)) for v in versions.values() if "." in str(v)))
    for file in sorted([*PLAYBOOK.rglob("roles/**/*.yml"), *PLAYBOOK.rglob("roles/**/*.j2")]):
        assert not named.search(file.read_text()), file


# -- hosts.py ------------------------------------------------------------------------------------


def hosts(given: str | None) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k != "NODE_HOSTS"}
    return subprocess.run(
        [sys.executable, str(PLAYBOOK / "hosts.py"), "--list"],
        env=kept if given is None else {**kept, "NODE_HOSTS": given},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            "ubuntu@203.0.113.7",
            {"203.0.113.7": {"ansible_host": "203.0.113.7", "ansible_user": "ubuntu"}},
        ),
        (
            "gpu-1.example.org, me@gpu-1.example.org:2222",
            {
                "gpu-1.example.org": {"ansible_host": "gpu-1.example.org"},
                "gpu-1.example.org-2222": {
                    "ansible_host": "gpu-1.example.org",
                    "ansible_user": "me",
                    "ansible_port": 2222,
                },
            },
        ),
        (
            "root@[2001:db8::7]:22",
            {
                "2001:db8::7-22": {
                    "ansible_host": "2001:db8::7",
                    "ansible_user": "root",
                    "ansible_port": 22,
                }
            },
        ),
    ],
)
def test_hosts_become_an_inventory(given: str, expected: dict[str, Any]) -> None:
    done = hosts(given)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["_meta"]["hostvars"] == expected
    # The first one is the machine that the others join.
    assert found["gpu_nodes"]["hosts"] == list(expected)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (None, "NODE_HOSTS is empty."),
        (" , ", "NODE_HOSTS is empty."),
        ("ubuntu@", "HOST: 'ubuntu@' is not a machine."),
        ("a@b@c", "HOST: 'a@b@c' is not a machine."),
        ("gpu:0", "HOST: 'gpu:0' is not a machine."),
        ("gpu:65536", "HOST: 'gpu:65536' is not a machine."),
        ("2001:db8::7", "HOST: '2001:db8::7' is not a machine."),
        ("gpu;reboot", "HOST: 'gpu;reboot' is not a machine."),
        ("me@gpu you@gpu", "HOST: 'you@gpu' is named twice."),
    ],
)
def test_hosts_that_are_none(given: str | None, problem: str) -> None:
    done = hosts(given)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{problem} Next: ")


@pytest.mark.parametrize("book", ["site.yml", "uninstall.yml"])
@pytest.mark.parametrize(
    ("inventory", "problem"),
    [
        ("hosts.py", "HOST: 'gpu;reboot' is not a machine. Next: write it as USER@ADDRESS"),
        ("{}/empty.yml", "has no machine in the group gpu_nodes. Next: inventory.example.yml"),
    ],
)
def test_a_run_without_machines_is_an_error(
    inventory: str, problem: str, book: str, tmp_path: Path
) -> None:
    (tmp_path / "empty.yml").write_text("servers: {hosts: {web: {}}}\n")
    done = subprocess.run(
        [program("ansible-playbook"), "-i", inventory.format(tmp_path), book],
        cwd=PLAYBOOK,
        env={**environment(tmp_path), "NODE_HOSTS": "gpu;reboot"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert problem in " ".join((done.stdout + done.stderr).split())


# -- monitoring ----------------------------------------------------------------------------------


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def rules() -> list[dict[str, Any]]:
    """The rules, as they are before Ansible fills in namespaces."""
    text = re.sub(r"{%.*?%}|^{{.*}}$", "", RULES.read_text(), flags=re.MULTILINE)
    text = re.sub(r"{{.*?}}", "x", text)
    (found,) = [d for d in yaml.safe_load_all(text) if d["kind"] == "PrometheusRule"]
    return [rule for group in found["spec"]["groups"] for rule in group["rules"]]


def metrics(expression: str) -> set[str]:
    """The names in an expression that no string holds and that PromQL does not know."""
    words = re.findall(r"\b[A-Za-z_][\w:]*", re.sub(r'"[^"]*"|\[[^]]*\]', "", expression))
    return set(words) - PROMQL


def test_every_metric_is_one_that_the_exporter_gives_or_a_rule_makes() -> None:
    rows = [line.split(", ") for line in METRICS.read_text().splitlines() if line[0] != "#"]
    assert all(len(row) == 3 and row[1] in ("gauge", "counter", "label") for row in rows)
    known = {row[0] for row in rows} | {rule["record"] for rule in rules() if "record" in rule}
    asked = [rule["expr"] for rule in rules()]
    asked += [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    assert len(asked) > 30
    for expression in asked:
        assert metrics(expression) and metrics(expression) <= known, expression


def test_every_panel_can_be_read_alone() -> None:
    shown = [panel for panel in panels() if panel["type"] != "row"]
    titles = [panel["title"] for panel in shown]
    assert len(set(titles)) == len(titles) > 15
    for panel in shown:
        assert panel.get("description"), panel["title"]
        settings = panel["fieldConfig"]
        if panel["type"] == "table":
            kinds = [p["id"] for o in settings["overrides"] for p in o["properties"]]
            assert "unit" in kinds, panel["title"]
        else:
            assert settings["defaults"]["unit"], panel["title"]


def test_every_alert_says_what_it_is_and_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) == 5
    for rule in alerts:
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"] and rule["annotations"]["description"]
