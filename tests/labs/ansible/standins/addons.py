"""What addons and charts put into the cluster, as far as the playbook looks at it.

The GPU operator's objects are the embedded cluster's own: the fixture has taken them out of it
before the test (``stage/``), and they come back when the release is installed. Of the monitoring
chart there are the workloads, the services and two resource definitions, without schemas.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any
from urllib.parse import parse_qs, urlparse

from .calls import HOME, Failed, State, state

KNOWN = {
    **dict.fromkeys(("dns", "helm", "helm3", "hostpath-storage", "storage", "ingress"), "core"),
    **dict.fromkeys(("metrics-server", "nvidia", "gpu", "observability", "rbac"), "core"),
    "ha-cluster": "core",
}
NEEDS = {"nvidia": ("dns", "helm3"), "observability": ("dns", "helm3", "hostpath-storage")}
_STAGE = HOME / "stage"
_CONFIG = "/var/snap/microk8s/current/credentials/client.config"
_RUNTIME = """\
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia.options]
      BinaryName = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
"""
_IMAGE = "registry.k8s.io/pause:3.10"


def kubectl(*argv: str, given: Any = None) -> str:
    """Ask the embedded cluster on an addon's behalf; not a call of the playbook's."""
    done = subprocess.run(
        ["/opt/kubectl", f"--kubeconfig={_CONFIG}", *argv],
        input=None if given is None else json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(done.stderr)
    return done.stdout


def _apply(*objects: Any) -> None:
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=_list(objects))


def _list(objects: Any) -> Any:
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}


def put(addon: str) -> None:
    """An addon's objects; most have none that anybody looks at."""
    if addon == "dns":
        _apply(_workload("Deployment", "coredns", "kube-system"))
    elif addon == "hostpath-storage":
        storage = json.loads((_STAGE / "storage.json").read_text())
        _apply(_workload("Deployment", "hostpath-provisioner", "kube-system"), storage)


def release(made: State) -> None:
    """What a release of a chart puts there."""
    if made["name"] == "gpu-operator":
        _gpu_operator(made["namespace"])
    elif made["chart"].startswith("kube-prometheus-stack"):
        _monitoring(made)


def remove(gone: State) -> None:
    """What goes with a release."""
    if gone["name"] == "gpu-operator":
        kubectl("delete", "namespace", gone["namespace"], "--ignore-not-found")
        kubectl("delete", "runtimeclass", "nvidia", "--ignore-not-found")


def _namespace(name: str) -> None:
    """As helm's --create-namespace: one that is there stays as it is."""
    if not kubectl("get", "namespace", name, "--ignore-not-found"):
        kubectl("create", "namespace", name)


def _gpu_operator(namespace: str) -> None:
    _namespace(namespace)
    for part in ("definitions.json", "operator.json"):
        _apply(*json.loads((_STAGE / part).read_text()))
    for name in kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").split():
        _toolkit(name)
        if state()["nvidia"]:
            _apply(json.loads((_STAGE / f"{name}.json").read_text()))


def _toolkit(node: str) -> None:
    """What the container toolkit's pod does on a node."""
    args = HOME / "site" / f"args-{node}"
    template = args / "containerd-template.toml"
    if "runtimes.nvidia" not in template.read_text():
        template.write_text(template.read_text() + _RUNTIME)
    (args / "containerd.toml").write_text(template.read_text())


def join(name: str) -> None:
    """A node of its own becomes one of another cluster, where an operator finds its GPU."""
    there = kubectl("get", "namespace", "gpu-operator-resources", "--ignore-not-found")
    kind = "" if there else "-bare"
    if there:
        _toolkit(name)
    _apply(json.loads((_STAGE / f"{name}{kind}.json").read_text()))


def _workload(kind: str, name: str, namespace: str) -> Any:
    labels = {"app": name}
    spec: dict[str, Any] = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": name, "image": _IMAGE}]},
        },
    }
    if kind == "StatefulSet":
        spec["serviceName"] = name
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _service(name: str, namespace: str, port: int) -> Any:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
    }


def _definition(plural: str, kind: str) -> Any:
    group = "monitoring.coreos.com"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    names = {"plural": plural, "kind": kind, "singular": kind.lower(), "listKind": f"{kind}List"}
    version = {"name": "v1", "served": True, "storage": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": names,
            "scope": "Namespaced",
            "versions": [{**version, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def _monitoring(made: State) -> None:
    namespace, values = made["namespace"], made["values"]
    full = values.get("fullnameOverride") or f"{made['name']}-kube-prometheus"
    grafana = (values.get("grafana") or {}).get("fullnameOverride") or f"{made['name']}-grafana"
    secret = ((values.get("grafana") or {}).get("admin") or {}).get("existingSecret")
    if secret and not kubectl("get", "secret", secret, "-n", namespace, "--ignore-not-found"):
        raise Failed("Error: INSTALLATION FAILED: context deadline exceeded")
    _namespace(namespace)
    _apply(
        _definition("servicemonitors", "ServiceMonitor"),
        _definition("prometheusrules", "PrometheusRule"),
        _workload("Deployment", grafana, namespace),
        _workload("Deployment", f"{full}-operator", namespace),
        _workload("StatefulSet", f"prometheus-{full}-prometheus", namespace),
        _service(grafana, namespace, 80),
        _service(f"{full}-prometheus", namespace, 9090),
    )


def proxied(path: str) -> str:
    """What Prometheus answers: a series for each GPU, when something tells it to scrape them."""
    query = parse_qs(urlparse(path).query).get("query", [""])[0]
    monitors = json.loads(kubectl("get", "servicemonitors", "-A", "-o", "json"))["items"]
    scraped = any("dcgm" in monitor["metadata"]["name"] for monitor in monitors)
    series = [
        {"metric": {"Hostname": state()["name"], "gpu": str(index)}, "value": [0, "1"]}
        for index in range(len(state()["gpus"]) if scraped else 0)
    ]
    if not query:
        raise Failed('Error from server (BadRequest): invalid parameter "query"')
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": series}})
