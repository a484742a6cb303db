"""kubectl against the add-on: what a reader of the course types, and sees.

Names, columns and short names are those of Kueue's definitions (``v1beta2``, 0.19.2).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .lab import GPU, Lab

pytestmark = pytest.mark.skipif(
    not shutil.which("kubectl"), reason="kubectl is not installed: its output is not looked at"
)

QUEUE = f"""
apiVersion: kueue.x-k8s.io/v1beta2
kind: ResourceFlavor
metadata: {{name: any}}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: ClusterQueue
metadata: {{name: gpus}}
spec:
  namespaceSelector: {{}}
  cohortName: lab
  resourceGroups:
    - coveredResources: [{GPU}]
      flavors:
        - name: any
          resources: [{{name: {GPU}, nominalQuota: 4}}]
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: LocalQueue
metadata: {{name: team}}
spec: {{clusterQueue: gpus}}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: WorkloadPriorityClass
metadata: {{name: urgent}}
value: 100
"""

Kubectl = Callable[..., str]


@pytest.fixture
def kubectl(lab: Lab, tmp_path: Path) -> Kubectl:
    """kubectl; an exit code that is not 0 fails the test unless it is ``expected``."""

    def run(*words: str, stdin: str = "", expected: int = 0) -> str:
        where = ["--kubeconfig", str(lab.cluster.kubeconfig), "--cache-dir", str(tmp_path)]
        done = subprocess.run(
            ["kubectl", *where, *words], input=stdin, capture_output=True, text=True
        )
        assert done.returncode == expected, done.stderr
        return done.stderr if expected else done.stdout

    return run


def rows(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.rstrip()) for line in text.splitlines()]


def test_a_queue_and_two_jobs(lab: Lab, kubectl: Kubectl) -> None:
    said = kubectl("apply", "--validate=strict", "-f", "-", stdin=QUEUE)
    assert said.splitlines() == [
        "resourceflavor.kueue.x-k8s.io/any created",
        "clusterqueue.kueue.x-k8s.io/gpus created",
        "localqueue.kueue.x-k8s.io/team created",
        "workloadpriorityclass.kueue.x-k8s.io/urgent created",
    ]
    assert "unchanged" in kubectl("apply", "-f", "-", stdin=QUEUE)
    lab.job("a", pods=3)
    lab.job("b", pods=3)
    lab.wait()
    assert rows(kubectl("get", "cq")) == [
        ["NAME", "COHORT", "PENDING WORKLOADS"],
        ["gpus", "lab", "1"],
    ]
    assert rows(kubectl("get", "cq", "-o", "wide")) == [
        ["NAME", "COHORT", "STRATEGY", "PENDING WORKLOADS", "ADMITTED WORKLOADS"],
        ["gpus", "lab", "BestEffortFIFO", "1", "1"],
    ]
    assert rows(kubectl("get", "queue")) == [
        ["NAME", "CLUSTERQUEUE", "PENDING WORKLOADS", "ADMITTED WORKLOADS"],
        ["team", "gpus", "1", "1"],
    ]
    assert rows(kubectl("get", "wpc")) == [["NAME", "VALUE"], ["urgent", "100"]]
    assert rows(kubectl("get", "rf"))[0] == ["NAME", "AGE"]
    header, *workloads = kubectl("get", "workloads").splitlines()
    assert header.split() == ["NAME", "QUEUE", "RESERVED", "IN", "ADMITTED", "FINISHED", "AGE"]
    [admitted, waiting] = [re.sub(r"-[0-9a-f]{5}\b", "", line).split() for line in workloads]
    assert admitted[:4] == ["job-a", "team", "gpus", "True"]
    assert waiting[:2] == ["job-b", "team"] and len(waiting) == 3
    assert [row[:2] for row in rows(kubectl("get", "jobs"))[1:]] == [
        ["a", "Running"],
        ["b", "Suspended"],
    ]


def test_describe_says_why_a_workload_waits(lab: Lab, kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=QUEUE)
    lab.job("a", gpus=5)
    lab.wait()
    name = lab.workload("a")["metadata"]["name"]
    text = kubectl("describe", "workload", name)
    why = (
        "couldn't assign flavors to pod set main: insufficient quota for nvidia.com/gpu in flavor "
        "any, previously considered podsets requests (0) + current podset request (5) > maximum "
        "capacity (4)"
    )
    assert re.search(rf"Message: +{re.escape(why)}\n", text)
    event = rf"Warning +Pending +\S+ +kueue-admission +{re.escape(why)}\n"
    assert re.search(event, text)
    assert re.search(r"Queue Name: +team\n", text)
    events = kubectl("events", "--for", f"workload/{name}")
    assert why in events


def test_the_fields_of_a_queue_are_explained(kubectl: Kubectl) -> None:
    text = kubectl("explain", "clusterqueue.spec.preemption.withinClusterQueue")
    enum = ["ENUM:", "Never", "LowerPriority", "LowerOrNewerEqualPriority"]
    assert re.search(r"\s+".join(enum), text)


def test_a_field_that_does_not_exist_is_refused(kubectl: Kubectl) -> None:
    wrong = QUEUE.replace("cohortName: lab", "cohort: lab")
    said = kubectl("apply", "--validate=strict", "-f", "-", stdin=wrong, expected=1)
    assert 'unknown field "spec.cohort"' in said


def test_a_workload_is_waited_for(lab: Lab, kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=QUEUE)
    lab.job("a")
    lab.wait()
    name = lab.workload("a")["metadata"]["name"]
    assert kubectl("wait", "--for=condition=Admitted", f"workload/{name}", "--timeout=5s") == (
        f"workload.kueue.x-k8s.io/{name} condition met\n"
    )
