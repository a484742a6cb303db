"""The Kubernetes of a test machine: mlk8s' embedded cluster, staged as MicroK8s without addons.

What is staged, and so proves nothing: the nodes of the embedded cluster carry an H100 and NVIDIA's
operands from its start. The fixture takes out of it what the operator would put there (namespace,
definitions, RuntimeClass, labels, the resource), and a node that is to join; it keeps them as
files, and the stand-ins put them back when the addon is enabled or the node joins. What they put
back runs: DaemonSets make pods, the device plugin's pod registers, the node then has a GPU.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .root import MachineError

_READY_WITHIN_S = 30.0
_GPU = "nvidia.com/gpu"
_NAMESPACE = "gpu-operator-resources"
# What the addon gives helm (canonical/microk8s-core-addons, addons/nvidia/enable, 1.35).
_ARGS = "/var/snap/microk8s/current/args"
_ADDON = {
    "operator": {"defaultRuntime": "containerd"},
    "driver": {"enabled": "false"},
    "toolkit": {
        "enabled": "true",
        "env": [
            {"name": "CONTAINERD_CONFIG", "value": f"{_ARGS}/containerd-template.toml"},
            {
                "name": "CONTAINERD_SOCKET",
                "value": "/var/snap/microk8s/common/run/containerd.sock",
            },
            {"name": "RUNTIME_CONFIG_SOURCE", "value": f"file={_ARGS}/containerd.toml"},
        ],
    },
}
_OURS = ("nvidia.com/", "feature.node.kubernetes.io/")
_KUBELESS = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")


class Kubernetes:
    """An embedded cluster in the network namespace of the test machines.

    Args:
        inside: the command that enters the network namespace.
        folder: for its files.
        nodes: host names of the machines that are, or may become, its nodes; the first is one.
    """

    def __init__(self, inside: Sequence[str], folder: Path, nodes: Sequence[str]) -> None:
        self._inside = list(inside)
        self._nodes = list(nodes)
        self._directory = folder / f"cluster-{nodes[0]}"
        self._directory.mkdir()
        self.stage = folder / f"stage-{nodes[0]}"
        self.stage.mkdir()
        rows = [{"name": name.rpartition("-")[0], "gpu": "h100"} for name in nodes]
        file = folder / f"nodes-{nodes[0]}.yaml"
        file.write_text(json.dumps({"nodes": rows}))
        command = [sys.executable, "-m", "mlk8s.sim.process", "--nodes", str(file)]
        command += ["--directory", str(self._directory), "--owner", str(os.getpid())]
        self._labels: list[str] = []
        self._process = subprocess.Popen(
            [*self._inside, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        answered = select.select([self._process.stdout], [], [], _READY_WITHIN_S)[0]
        if not answered or self._process.stdout.readline().strip() != "ready":
            self._process.kill()
            raise MachineError("The embedded cluster of the test machine did not start.")
        self.kubeconfig = self._directory / "kubeconfig"

    def stop(self) -> None:
        """End it; its folder goes with it."""
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def kubectl(self, *argv: str, given: Any = None) -> str:
        """Ask it as the tests' own: not a call that the playbook is judged by."""
        done = subprocess.run(
            [*self._inside, "kubectl", f"--kubeconfig={self.kubeconfig}", *argv],
            input=None if given is None else json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def get(self, *argv: str) -> list[Any]:
        """Objects, as plain data."""
        found: Any = json.loads(self.kubectl("get", *argv, "-o", "json"))
        return list(found["items"]) if "items" in found else [found]

    def bare(self) -> None:
        """Make it the cluster of a new MicroK8s: one node, without GPU, no addon."""
        self.kubectl("create", "--raw", "/mlk8s/reset", "-f", os.devnull)
        if not (self.stage / "operator.json").exists():
            self._keep()
        for name in self._nodes[1:]:
            self.kubectl("delete", "node", name)
        self.kubectl("delete", "namespace", _NAMESPACE)
        self.kubectl("delete", "crd/clusterpolicies.nvidia.com", "runtimeclass/nvidia")
        self.kubectl("delete", "storageclass", "--all")
        self.kubectl("label", "node", self._nodes[0], *[f"{name}-" for name in self._labels])
        paths = [f"/status/{part}/nvidia.com~1gpu" for part in ("capacity", "allocatable")]
        patch = json.dumps([{"op": "remove", "path": path} for path in paths])
        options = ["--subresource=status", "--type=json", "-p", patch]
        self.kubectl("patch", "node", self._nodes[0], *options)

    def _keep(self) -> None:
        """Write down what the stand-ins are to put back."""
        while not (policies := self._policies()):
            time.sleep(0.05)
        operands = self.get("daemonsets,configmaps", "-n", _NAMESPACE)
        mine = [o for o in operands if o["metadata"]["name"] != "kube-root-ca.crt"]
        definitions = self.get("crd/clusterpolicies.nvidia.com", "runtimeclass/nvidia")
        self._write("definitions", [_bare(o) for o in definitions])
        self._write("operator", [_bare(o) for o in [*mine, *policies]])
        self._write("addon", _ADDON)
        self._write("storage", _bare(self.get("storageclass")[0]))
        for node in self.get("nodes"):
            kept = _bare(node)
            name = kept["metadata"]["name"]
            # Given anew to a node that joins.
            kept["spec"] = {k: v for k, v in kept["spec"].items() if not k.startswith("podCIDR")}
            for part in ("capacity", "allocatable"):
                # The device plugin's to write, when its pod runs.
                kept["status"][part].pop(_GPU, None)
            self._write(name, kept)
            self._labels = [n for n in kept["metadata"]["labels"] if n.startswith(_OURS)]
            for label in self._labels:
                del kept["metadata"]["labels"][label]
            self._write(f"{name}-bare", kept)

    def _policies(self) -> list[Any]:
        return self.get("clusterpolicies.nvidia.com")

    def _write(self, name: str, content: Any) -> None:
        (self.stage / f"{name}.json").write_text(json.dumps(content))


def _bare(kept: dict[str, Any]) -> dict[str, Any]:
    """An object as somebody would apply it."""
    for name in _KUBELESS:
        kept["metadata"].pop(name, None)
    if kept["kind"] not in ("Node", "ClusterPolicy"):
        kept.pop("status", None)
    return kept
