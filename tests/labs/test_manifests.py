"""Every manifest that a chapter shows or applies: valid in Kubernetes 1.34 to 1.37, accepted."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes import client, config

from mlk8s.cluster import Connection, attach, naming, wire
from mlk8s.errors import ClusterError
from mlk8s.sim import Cluster

ROOT = Path(__file__).parents[2]
FILES = [*sorted((ROOT / "labs/manifests").glob("*.yaml")), ROOT / "labs/training/runtime.yaml"]
VERSIONS = ("1.34", "1.35", "1.36", "1.37")
#: Groups that Kubernetes itself does not serve; their definitions judge them in the cluster.
ADDONS = {
    "kueue.x-k8s.io": "kueue",
    "trainer.kubeflow.org": "trainer",
    "kubeflow.org": "katib",
    "serving.kserve.io": "kserve",
    "ray.io": "kuberay",
}
#: What Katib wants of a namespace whose trials it measures.
MEASURED = {"katib.kubeflow.org/metrics-collector-injection": "enabled"}
#: Files of components, which are no objects of the API.
COMPONENTS = ("kubescheduler.config.k8s.io", "kubelet.config.k8s.io")


def documents(text: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(text) if each]


def in_prose() -> Iterator[tuple[str, str]]:
    """The YAML blocks of the chapters' text."""
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(notebook.read_text())["cells"]:
            if cell["cell_type"] == "markdown":
                for block in re.findall(r"```yaml\n(.*?)```", "".join(cell["source"]), re.S):
                    if "apiVersion:" in block:
                        yield f"{notebook.stem}: {block[:60]}", block


TEXTS = [(file.name, file.read_text()) for file in FILES] + list(in_prose())
GROUP = {name: {d["apiVersion"].rpartition("/")[0] for d in documents(t)} for name, t in TEXTS}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("name", "text"), TEXTS, ids=[name for name, _ in TEXTS])
def test_the_schemas_of_kubernetes_know_it(name: str, text: str, version: str) -> None:
    judged = 0
    for body in documents(text):
        group = body["apiVersion"].rpartition("/")[0]
        if group in ADDONS or group in COMPONENTS:
            continue
        kubernetes_validate.validate(body, version, strict=True)
        judged += 1
    assert judged or GROUP[name] <= {*ADDONS, *COMPONENTS}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("course", seed=0, addons=list(ADDONS.values())) as found:
        api = config.new_client_from_config(str(found.kubeconfig))
        client.CoreV1Api(api).patch_namespace("default", {"metadata": {"labels": MEASURED}})
        yield found


@pytest.fixture(scope="module")
def connection(cluster: Cluster) -> Iterator[Connection]:
    with attach(cluster) as found:
        yield found


def try_out(connection: Connection, body: dict[str, Any]) -> dict[str, Any]:
    """Create an object in the namespace ``default`` without storing it."""
    resource, namespace, _ = naming.place(connection, body, "default")
    where = wire.path(resource, namespace=namespace)
    return connection.request("POST", where, body, dryRun="All", fieldValidation="Strict")


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_the_server_takes_each_object(file: Path, connection: Connection) -> None:
    for body in documents(file.read_text()):
        assert try_out(connection, body)["metadata"]["name"] == body["metadata"]["name"]


@pytest.mark.parametrize(
    "file", [each for each in FILES if GROUP[each.name] & {*ADDONS}], ids=lambda each: each.name
)
def test_the_server_refuses_a_broken_copy(file: Path, connection: Connection) -> None:
    for body in documents(file.read_text()):
        if body["apiVersion"].rpartition("/")[0] in ADDONS:
            with pytest.raises(ClusterError, match="spec"):
                try_out(connection, {**body, "spec": "text"})


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_kubectl_applies_and_deletes_it(file: Path, cluster: Cluster, tmp_path: Path) -> None:
    def kubectl(*words: str) -> str:
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(cluster.kubeconfig), "--cache-dir", tmp_path, *words],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = kubectl("apply", "--validate=strict", "-f", str(file))
    assert said.count(" created") == len(documents(file.read_text())), said
    assert kubectl("delete", "--timeout=30s", "-f", str(file)).count("deleted") == said.count(
        " created"
    )
