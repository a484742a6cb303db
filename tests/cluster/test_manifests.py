"""Manifests: what is written, that a server takes it, and what is refused before."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlk8s.cluster import Manifest, gpu_claim_template, gpu_job, gpu_pod
from mlk8s.errors import UsageError

from .conftest import Bench

NODES = "course"
MANIFESTS: dict[str, Manifest] = {
    "pod": gpu_pod(
        "full",
        "python:3.12",
        ["python", "-c", "print(1)"],
        gpus=2,
        product="NVIDIA-L4",
        node_selector={"zone": "a"},
        cpu="500m",
        memory="1Gi",
        env={"A": "1"},
        deadline_s=60,
        priority_class="system-node-critical",
    ),
    "plain": gpu_pod("plain", "busybox", gpus=0),
    "claim": gpu_pod("claim", "busybox", claim_template="one"),
    "job": gpu_job("job", "busybox", completions=4, parallelism=2, retries=1, keep_s=5),
    "template": gpu_claim_template("one", selectors=["device.driver == 'gpu.nvidia.com'"], count=2),
}


def test_a_pod_as_yaml() -> None:
    text = gpu_pod("train", "python:3.12", ["python", "train.py"], product="NVIDIA-L4").yaml()
    assert text == (
        "apiVersion: v1\n"
        "kind: Pod\n"
        "metadata:\n"
        "  name: train\n"
        "  labels:\n"
        "    app.kubernetes.io/managed-by: mlk8s\n"
        "spec:\n"
        "  restartPolicy: Never\n"
        "  runtimeClassName: nvidia\n"
        "  nodeSelector:\n"
        "    nvidia.com/gpu.product: NVIDIA-L4\n"
        "  tolerations:\n"
        "  - key: nvidia.com/gpu\n"
        "    operator: Exists\n"
        "    effect: NoSchedule\n"
        "  containers:\n"
        "  - name: main\n"
        "    image: python:3.12\n"
        "    command:\n"
        "    - python\n"
        "    - train.py\n"
        "    resources:\n"
        "      limits:\n"
        "        nvidia.com/gpu: '1'\n"
    )


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
@pytest.mark.parametrize("name", MANIFESTS)
def test_kubectl_and_the_server_take_it(name: str, bench: Bench, tmp_path: Path) -> None:
    file = MANIFESTS[name].write(tmp_path / f"{name}.yaml")
    assert bench.cluster is not None
    done = subprocess.run(
        ["kubectl", "apply", "--validate=strict", "--dry-run=server", "-f", file],
        env={
            "KUBECONFIG": str(bench.cluster.kubeconfig),
            "HOME": str(tmp_path),
            "PATH": "/usr/bin:/usr/local/bin:/snap/bin",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "created (server dry run)" in done.stdout


def test_a_job_holds_the_pod() -> None:
    job = gpu_job("train", "busybox", completions=3, gpus=2)
    assert job["spec"]["parallelism"] == 3 and job["spec"]["backoffLimit"] == 0
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": "2"}}


def test_a_template_is_named_by_its_pod() -> None:
    pod = gpu_pod("p", "busybox", claim_template=gpu_claim_template("one"))
    assert pod["spec"]["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": "one"}]
    assert pod["spec"]["containers"][0]["resources"] == {"claims": [{"name": "gpu"}]}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gpu_pod("p", "i", gpus=-1), "gpus is -1.*0 or more"),
        (
            lambda: gpu_pod("p", "i", gpus=0.5),  # type: ignore[arg-type]
            "gpus is 0.5.*a share or a MIG device",
        ),
        (lambda: gpu_pod("p", "i", gpus=True), "gpus is True"),
        (lambda: gpu_pod("P_1", "i"), "'P_1' cannot be the name"),
        (lambda: gpu_pod("p", "i", "python x.py"), "command is one string"),
        (lambda: gpu_pod("p", "i", resource="gpu"), "such as nvidia.com/gpu"),
        (lambda: gpu_job("p", "i", completions=0), "completions is 0"),
        (lambda: gpu_job("p", "i", retries=-1), "retries is -1"),
        (lambda: gpu_claim_template("t", count=0), "count is 0"),
        (lambda: gpu_claim_template("t", selectors="true"), "selectors are one string"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_here(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


def test_a_manifest_reads_as_a_mapping_and_shows_its_yaml(tmp_path: Path) -> None:
    pod = gpu_pod("p", "a<b")
    assert pod.kind == "Pod" and pod.name == "p" and dict(pod)["kind"] == "Pod"
    assert yaml.safe_load(repr(pod)) == dict(pod)
    assert "a&lt;b" in pod._repr_html_()
    assert Manifest.load(pod.write(tmp_path / "p.yaml")).yaml() == pod.yaml()


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [", "is not YAML"), ("", "holds 0 objects"), ("a: 1\n---\nb: 2\n", "holds 2 objects")],
)
def test_a_file_that_is_no_manifest(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UsageError, match=words):
        Manifest.load(tmp_path / "x.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        Manifest.load(tmp_path / "none.yaml")
