"""``why`` about the scenarios recorded on Kubernetes 1.36.2.

The answers are written by hand from what a scenario sets up, and the scheduler's message there.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlk8s.cluster import Answer, attach, why
from mlk8s.cluster.wire import path
from mlk8s.errors import ClusterError
from mlk8s.sim import Cluster

# The scenarios and their player are those of the comparison with the recording.
sys.path.insert(0, str(Path(__file__).parents[1] / "sim"))
play: Any = importlib.import_module("truth.play")

Expected = tuple[str, list[str], list[str]]

RUNS: Expected = ("runs", [], [])
H100 = "NVIDIA-H100-80GB-HBM3"
#: Scenario → pod or workload → verdict, words of the reason, words of the next step.
ANSWERS: dict[str, dict[str, Expected]] = {
    "anti-affinity": {
        "c": (
            "busy",
            ["on both nodes", "keeps apart from", "golden/a and golden/b"],
            ["add a node", "preferred"],
        )
    },
    "cordon": {"a": ("never fits here", ["node gpu-0 is cordoned"], ["kubectl uncordon gpu-0"])},
    "cpu-starved": {
        "a": RUNS,
        "b": ("busy", ["3 cpu", "1 of 4 cpu free", "golden/a"], ["wait until that pod ends"]),
    },
    "deployment": {
        "deployment/serve": (
            "busy",
            ["1 nvidia.com/gpu", "0 of 2 nvidia.com/gpu free", "golden/serve-", " and golden/"],
            ["do not end by themselves"],
        )
    },
    "dra-selector": {
        "a": (
            "never fits here",
            ["none of the 2 devices", "'gpu.nvidia.com'", "'big'", "quantity('100Gi')"],
            ["loosen the selector"],
        ),
        "b": RUNS,
    },
    "dra-shared": {"a": RUNS, "b": RUNS},
    "dra": {
        "a": RUNS,
        "b": ("busy", ["'c2'", "gpu-0 on n0", "held by golden/a"], ["wait until it ends"]),
    },
    "fits": {"a": RUNS},
    "gates": {"a": ("held back", ["gate example.com/quota"], ["takes it off"])},
    "init-container": {
        "a": RUNS,
        "b": ("busy", ["0 of 2 nvidia.com/gpu free", "golden/a"], ["wait"]),
    },
    "insufficient": {
        "a": ("never fits here", ["has 1 nvidia.com/gpu in all", "asks for 2"], ["at most 1"])
    },
    "invalid-fraction": {},
    "invalid-request": {"c": RUNS},
    "job-parallel": {
        "job/train": ("busy", ["0 of 2 nvidia.com/gpu free", "golden/train-"], ["wait until"])
    },
    "mig-mixed": {
        "c": ("busy", ["0 of 1 nvidia.com/mig-3g.40gb free", "golden/b"], ["wait"]),
        "d": (
            "never fits here",
            ["offers no nvidia.com/gpu", "2 nvidia.com/mig-1g.10gb, 1 nvidia.com/mig-3g.40gb"],
            ["ask for nvidia.com/mig-1g.10gb or nvidia.com/mig-3g.40gb"],
        ),
    },
    "mixed-reasons": {
        "a": (
            "never fits here",
            ["node gpu-2 has 1 nvidia.com/gpu in all", "asks for 2", "2 more nodes"],
            ["at most 1"],
        )
    },
    "preemption-never": {"b": ("busy", ["golden/a"], ["preemptionPolicy Never"])},
    "preemption": {"b": RUNS},
    "queue": {"a": ("done", ["ended well"], ["kubectl logs a -n golden"]), "b": RUNS},
    "quota-release": {"a": ("done", [], []), "b": RUNS},
    "quota": {"a": RUNS, "b": RUNS},
    "selector": {
        "a": (
            "never fits here",
            [
                f"gpu-0 has nvidia.com/gpu.product=NVIDIA-A30, and the pod selects {H100}",
                "NVIDIA-L4",
            ],
            ["kubectl get nodes -L nvidia.com/gpu.product"],
        )
    },
    "taint": {
        "a": (
            "never fits here",
            ["the taint nvidia.com/gpu=present:NoSchedule"],
            ["toleration {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}"],
        )
    },
    "time-slicing": {
        "a": RUNS,
        "c": ("never fits here", ["4 nvidia.com/gpu.shared"], ["ask for nvidia.com/gpu.shared."]),
    },
    "toleration": {"a": RUNS},
    "two-containers": {
        "a": ("never fits here", ["has 2 nvidia.com/gpu in all", "asks for 3"], ["at most 2"])
    },
}
#: What the server turns away at once: words of the next step.
REFUSED = {
    "invalid-fraction": {"a": "a share or a MIG device", "b": "a share or a MIG device"},
    "invalid-request": {
        "a": "write the limit alone (nvidia.com/gpu: 2)",
        "b": "write the number under limits",
    },
    "quota": {"c": "have the quota raised: kubectl describe quota gpu"},
}


class Asking(play.Player):  # type: ignore[misc]
    """Asks for reasons each time that the cluster has come to rest."""

    ask: Callable[[], None]

    def _settle(self) -> Any:
        found = super()._settle()
        self.ask()
        return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("none", manual_clock=True, seed=0) as cluster:
        yield cluster


@pytest.mark.parametrize("name", play.scenarios())
def test_the_answer_says_what_the_scenario_sets_up(
    name: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play, "QUIET_S", play.POLL_S)
    player = Asking(cluster.kubeconfig, cluster.advance)
    scenario, answers = play.scenarios()[name], {}

    def ask() -> None:
        with attach(cluster) as connection:
            for what in ANSWERS[name]:
                try:
                    answers[what] = why(f"golden/{what}", connection)
                except ClusterError as error:
                    assert "There is no" in str(error)

    player.ask = ask
    steps = player.play(scenario).steps
    for what, expected in ANSWERS[name].items():
        check(answers[what], expected)
    rejected = [did for step in steps for did in step["did"] if "rejected" in did]
    assert len(rejected) == len(REFUSED.get(name, {}))


def check(answer: Answer, expected: Expected) -> None:
    verdict, because, next_step = expected
    assert str(answer.verdict) == verdict, answer
    for words in because:
        assert words in answer.because, answer.text
    for words in next_step:
        assert words in answer.next_step, answer.text
    for sentence in (answer.because, answer.next_step):
        assert sentence.endswith(".") and not sentence.endswith(".."), sentence
        assert len(sentence) < 330, sentence


@pytest.mark.parametrize(
    ("scenario", "name", "words"),
    [(scenario, name, words) for scenario, all_ in REFUSED.items() for name, words in all_.items()],
)
def test_a_refused_pod_says_what_to_change(
    scenario: str, name: str, words: str, cluster: Cluster
) -> None:
    described = play.scenarios()[scenario]
    objects = [action for step in described["steps"] for action in step]
    with attach(cluster) as connection:
        namespace = f"refused-{scenario}-{name}"
        connection.request("POST", path("namespaces"), {"metadata": {"name": namespace}})
        for action in objects:
            body = play.pod(action) if "pod" in action else action
            kind = {"Pod": "pods", "ResourceQuota": "resourcequotas"}[body["kind"]]
            where = path(kind, namespace=namespace)
            if body["metadata"]["name"] == name:
                with pytest.raises(ClusterError) as refusal:
                    connection.request("POST", where, body)
                assert words in refusal.value.next_step
                break
            if body["metadata"]["name"] in REFUSED[scenario]:
                continue
            connection.request("POST", where, body)
            cluster.advance(1)
        connection.find(path("namespaces", namespace), "DELETE")
