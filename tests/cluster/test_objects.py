"""get, apply, delete, wait, events, logs: what a notebook does in kubectl's place."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from mlk8s.cluster import Connection, gpu_pod
from mlk8s.cluster.wire import path
from mlk8s.errors import ClusterError, UsageError

from .conftest import PAUSE, Bench

NODES = "course"
SERVING = Path(__file__).parents[2] / "labs/manifests/05-serving.yaml"

CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue}
"""


@pytest.fixture
def k(bench: Bench) -> Connection:
    return bench.connection


def kubectl(bench: Bench, *words: str) -> str:
    assert bench.cluster is not None
    command = ["kubectl", "--kubeconfig", str(bench.cluster.kubeconfig), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
@pytest.mark.parametrize(
    "words",
    [
        ["nodes", "-L", "nvidia.com/gpu.product"],
        ["nodes"],
        ["pods", "-n", "mlk8s-labs", "-o", "wide"],
        ["daemonsets", "-n", "gpu-operator-resources"],
        ["runtimeclasses"],
        ["pods", "-A"],
        ["priorityclasses"],
    ],
)
def test_the_table_is_the_one_that_kubectl_prints(
    words: list[str], bench: Bench, k: Connection
) -> None:
    bench.pod("shown")
    bench.running("shown")
    try:
        # Nothing may change between the two questions.
        bench.until(
            lambda: all(
                row["DESIRED"] == row["READY"]
                for row in k.get("ds", namespace="gpu-operator-resources")
            ),
            30,
        )
        table = k.get(
            words[0],
            namespace="" if "-A" in words else words[2] if "-n" in words else None,
            labels=[words[-1]] if "-L" in words else (),
            wide="wide" in words,
            age=True,
        )
        printed = kubectl(bench, "get", *words).splitlines()
    finally:
        bench.delete("shown")
    split = [re.split(r"\s{2,}", line.strip()) for line in printed]
    assert table.columns == split[0]
    clock = table.columns.index("AGE")
    want = [[cell for i, cell in enumerate(row) if i != clock] for row in split[1:]]
    have = [
        [str(cell) for i, cell in enumerate(row.values()) if i != clock and cell != ""]
        for row in table
    ]
    assert have == want and table.title.startswith(f"kubectl get {words[0]}")


@pytest.mark.parametrize("word", ["po", "pod", "Pod", "pods", "PODS"])
def test_a_resource_has_many_names(word: str, k: Connection) -> None:
    assert k.get(word, namespace="gpu-operator-resources").columns[0] == "NAME"


def test_a_word_that_is_no_resource_is_named(k: Connection) -> None:
    with pytest.raises(UsageError, match="no resource 'gpus'.*kubectl api-resources"):
        k.get("gpus")


def test_the_clock_is_left_out_unless_asked_for(k: Connection) -> None:
    assert "AGE" not in k.get("nodes").columns
    assert "AGE" in k.get("nodes", age=True).columns


def test_apply_creates_changes_and_leaves(k: Connection) -> None:
    assert k.apply(CONFIG_MAP).text == "configmap/settings created"
    assert k.apply(CONFIG_MAP).text == "configmap/settings unchanged"
    assert k.apply(CONFIG_MAP.replace("blue", "red")).text == "configmap/settings configured"
    found = k.request("GET", path("configmaps", "settings", k.namespace))
    assert found["data"] == {"color": "red"}
    assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "mlk8s"
    assert k.delete("configmap", "settings").text == "configmap/settings deleted"
    assert k.delete("configmap", "settings").text == "configmap/settings not there"


def test_apply_takes_back_what_it_no_longer_says(k: Connection) -> None:
    two = yaml.safe_load(CONFIG_MAP)
    two["data"]["size"] = "large"
    k.apply(two)
    k.apply(CONFIG_MAP)
    assert k.request("GET", path("configmaps", "settings", k.namespace))["data"] == {
        "color": "blue"
    }
    k.delete(two)


def test_apply_takes_folders_lists_and_several_documents(k: Connection, tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text(CONFIG_MAP)
    other = yaml.safe_load(CONFIG_MAP)
    other["metadata"]["name"] = "other"
    both = {"apiVersion": "v1", "kind": "List", "items": [other]}
    (tmp_path / "2.yml").write_text(yaml.safe_dump(both))
    done = k.apply(tmp_path).text.splitlines()
    assert done == ["configmap/settings created", "configmap/other created"]
    # The last one first, as what was made last depends on what was made before.
    assert k.delete(tmp_path).text.splitlines() == [
        "configmap/other deleted",
        "configmap/settings deleted",
    ]


def test_a_refusal_names_the_object_and_what_was_done_before(k: Connection) -> None:
    bad = dict(gpu_pod("half", PAUSE))
    bad["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "0.5"}}
    both = CONFIG_MAP + "---\n" + yaml.safe_dump(bad)
    with pytest.raises(
        ClusterError,
        match=r"pod/half: .*must be an integer.*Applied before it: configmap/settings created",
    ):
        k.apply(both)
    k.delete("configmap", "settings")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere.yaml", r"nowhere\.yaml cannot be read \(No such file"),
        ("a: [\n", "not YAML"),
        ("a: 1\nb: 2\n", "no Kubernetes object.*apiVersion, kind"),
        ("---\n---\n", "no object in it"),
        ("apiVersion: v1\nkind: ConfigMap\n", "no metadata.name"),
        (
            "apiVersion: nvidia.com/v9\nkind: Gpu\nmetadata: {name: a}\n",
            "no kind Gpu in nvidia.com/v9.*kubectl get crd",
        ),
    ],
)
def test_a_bad_manifest_has_one_clear_error(source: str, words: str, k: Connection) -> None:
    with pytest.raises(UsageError, match=words):
        k.apply(source)


def test_wait_knows_phases_conditions_and_the_end(bench: Bench, k: Connection) -> None:
    k.apply(gpu_pod("many", PAUSE, gpus=9))
    found = k.wait("pod", "many", "PodScheduled=False")
    assert found["status"]["conditions"][0]["reason"] == "Unschedulable"
    with pytest.raises(
        ClusterError, match=r"pod/many is not Running after 0.2 s; it is Pending, PodScheduled=Fal"
    ):
        k.wait("pod", "many", "Running", timeout_s=0.2)
    k.apply(gpu_pod("one", PAUSE))
    assert k.wait("pod", "one", "Ready")["status"]["phase"] == "Running"
    with pytest.raises(ClusterError, match=r'why\("mlk8s-labs/one", connection\)'):
        k.wait("pods", "one", "Succeeded", timeout_s=0.1)
    with pytest.raises(ClusterError, match=r"kubectl describe namespace mlk8s-labs\.$"):
        k.wait("namespace", "mlk8s-labs", "Ready", timeout_s=0.1)
    k.delete("pod", "many")
    k.delete("pod", "one")
    assert k.wait("pod", "one", "Gone") == {}


def test_delete_says_what_holds_an_object(k: Connection) -> None:
    held = yaml.safe_load(CONFIG_MAP)
    held["metadata"]["finalizers"] = ["example.com/keep"]
    k.apply(held)
    with pytest.raises(
        ClusterError, match=r"configmap/settings is still there after 0.2 s \(example.com/keep\)"
    ):
        k.delete("configmap", "settings", timeout_s=0.2)
    assert (
        k.patch("configmap", "settings", {"metadata": {"finalizers": None}}).text
        == "configmap/settings patched"
    )
    k.wait("configmap", "settings", "Gone")


def test_patch_changes_parts_and_read_gives_the_whole(k: Connection) -> None:
    k.apply(CONFIG_MAP)
    before = k.read("cm", "settings")
    k.patch("cm", "settings", {"data": {"added": "yes"}})
    assert k.read("cm", "settings")["data"] == {**before["data"], "added": "yes"}
    name = k.get("nodes")[0]["NAME"]
    amounts = {"example.com/dongle": "2"}
    k.patch("node", name, {"status": {"capacity": amounts}}, subresource="status")
    assert k.read("node", name)["status"]["capacity"]["example.com/dongle"] == "2"
    k.patch("node", name, {"status": {"capacity": dict.fromkeys(amounts)}}, subresource="status")
    assert "example.com/dongle" not in k.read("node", name)["status"]["capacity"]
    k.delete("cm", "settings")
    with pytest.raises(ClusterError, match='configmaps "settings" not found'):
        k.read("cm", "settings")
    with pytest.raises(ClusterError, match='configmaps "settings" not found'):
        k.patch("cm", "settings", {"data": {"a": "b"}})


def test_a_refusal_that_is_expected_is_shown_with_its_origin(
    k: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    with k.refuses():
        k.read("pod", "nobody")
    out = capsys.readouterr().out
    assert out.startswith('ClusterError: The API server refused: pods "nobody" not found.')
    assert out.endswith("[simulated]\n")
    message = "expected ClusterError, and nothing was raised"
    with pytest.raises(AssertionError, match=message), k.refuses():
        k.get("nodes")


def test_a_part_of_an_object_is_shown_as_yaml(k: Connection) -> None:
    shown = k.yaml({"limits": {"nvidia.com/gpu": "1"}, "words": ["a", "b"]})
    assert yaml.safe_load(shown.text) == {"limits": {"nvidia.com/gpu": "1"}, "words": ["a", "b"]}
    assert shown.text.startswith("limits:") and "[simulated]" in repr(shown)


def test_a_refused_eviction_says_what_to_do(k: Connection) -> None:
    k.apply(SERVING)
    k.wait("deployment", "chat", "Available")
    with pytest.raises(ClusterError, match=r'why\("mlk8s-labs/deployment/chat", connection\)'):
        k.wait("deploy", "chat", "Gone", timeout_s=0.1)
    name = k.get("pods", selector="app=chat")[0]["NAME"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    with pytest.raises(ClusterError, match="disruption budget.*another replica ready on another"):
        k.request("POST", path("pods", name, k.namespace, "eviction"), eviction)
    k.delete(SERVING)


def test_events_are_those_of_this_object_oldest_first(bench: Bench, k: Connection) -> None:
    k.apply(gpu_pod("told", PAUSE))
    k.wait("pod", "told", "Running")
    first = k.events("pod", "told")
    reasons = first.column("REASON")
    assert reasons[0] == "Scheduled" and reasons[-1] == "Started"
    assert first[0]["FROM"] == "default-scheduler" and first[-1]["FROM"] == "kubelet"
    # Another pod of the same name has a history of its own.
    k.delete("pod", "told")
    k.apply(gpu_pod("told", PAUSE, gpus=9))
    k.wait("pod", "told", "PodScheduled=False")
    bench.until(lambda: len(k.events("pod", "told")))
    assert k.events("pod", "told").column("REASON") == ["FailedScheduling"]
    k.delete("pod", "told")


def test_logs_are_what_the_container_wrote(k: Connection) -> None:
    k.apply(gpu_pod("talks", "busybox:1.37", ["sh", "-c", "echo one; echo two"], gpus=0))
    k.wait("pod", "talks", "Succeeded")
    logs = k.logs("talks")
    assert logs.text == "one\ntwo" and "simulated" in repr(logs)
    assert "<pre>one\ntwo</pre>" in logs._repr_html_()
    k.delete("pod", "talks")
    with pytest.raises(ClusterError, match='pods "talks" not found'):
        k.logs("talks")
