"""Plays scheduling scenarios on a cluster, and notes what became of pods, events and quotas.

usage: python play.py KUBECONFIG > scheduling.json

A stand-in for the kubelet marks bound pods Running and completes deletions, so that what is noted
was decided by the API server, the scheduler and the controllers alone: the cluster must have no
nodes of its own. The same notes come from the embedded cluster and from any other.

A scenario, ``scenarios/NAME.yaml``, has ``nodes`` and ``steps``. A node has 16 CPUs and 128 GiB
unless ``allocatable`` says otherwise (null takes a resource away); ``gpus`` gives it that many
``nvidia.com/gpu`` and the labels of an H100, or of ``product``; ``labels``, ``taints`` are added.
A step is a list of what is done before the cluster comes to rest again: ``pod: NAME`` with
``requests``, ``limits``, ``labels`` and fields of ``spec``; a whole object;
``patchNode: {name, patch}``; ``finish: {POD: PHASE}``, the phase that a running pod ends in.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config, dynamic
from kubernetes.dynamic.exceptions import DynamicApiError

Object = dict[str, Any]

SCENARIOS = Path(__file__).with_name("scenarios")
#: The recorded messages name it.
NAMESPACE = "golden"
#: Longer than the first back-off of a pod that the scheduler turned down.
QUIET_S, POLL_S, LIMIT_S = 2.0, 0.25, 30.0


def scenarios() -> dict[str, Object]:
    """All scenarios by name."""
    return {
        path.stem: yaml.safe_load(path.read_text()) for path in sorted(SCENARIOS.glob("*.yaml"))
    }


@dataclass
class Played:
    """What a cluster made of a scenario.

    Attributes:
        steps: after each step what was ``did``, and ``pods``, ``events`` and ``quotas`` at rest.
        ties: nodes among which the scheduler had no preference for some pod.
    """

    steps: list[Object] = field(default_factory=list)
    ties: set[frozenset[str]] = field(default_factory=set)


class Player:
    """Plays scenarios, one after the other, and leaves the cluster as it was.

    Args:
        kubeconfig: of the cluster.
        pause: lets so many seconds pass; ``advance`` of a cluster with a manual clock.
        explain: the embedded cluster's reasons for a pod's place, for ties between nodes.
    """

    def __init__(
        self,
        kubeconfig: Path,
        pause: Callable[[float], None] = time.sleep,
        explain: Callable[[str, str], Object] | None = None,
    ) -> None:
        self.api = config.new_client_from_config(str(kubeconfig))
        self.core = client.CoreV1Api(self.api)
        # Of any kind that the server has: typed methods end with the client's own version.
        cache = str(kubeconfig.with_name("discovery.json"))
        self.any = dynamic.DynamicClient(self.api, cache_file=cache)
        self.pause = pause
        self.explain = explain
        self._finish: dict[str, str] = {}
        self._without_namespace: list[Object] = []
        self._played = Played()

    def play(self, scenario: Object) -> Played:
        """Set up the nodes, do the steps, note what is seen, and clean up."""
        self._finish, self._without_namespace, self._played = {}, [], Played()
        self.core.create_namespace({"metadata": {"name": NAMESPACE}})
        nodes = [node(one) for one in scenario["nodes"]]
        try:
            for one in nodes:
                self._add(one)
            self._settle()
            for step in scenario["steps"]:
                did = [self._do(action) for action in step]
                self._played.steps.append({"did": did, **self._settle()})
        finally:
            self._clear([one["metadata"]["name"] for one in nodes])
        return self._played

    # -- what is done ----------------------------------------------------------------------------

    def _add(self, wanted: Object) -> None:
        name = wanted["metadata"]["name"]
        self.core.create_node(wanted)
        self.core.patch_node_status(name, {"status": wanted["status"]})
        # Admission taints a new node; on a real one the node-lifecycle controller takes that off.
        self.core.patch_node(name, {"spec": {"taints": wanted["spec"]["taints"]}})

    def _do(self, action: Object) -> Object:
        match action:
            case {"finish": phases}:
                self._finish.update(phases)
                return {"finished": phases}
            case {"patchNode": {"name": name, "patch": patch}}:
                self.core.patch_node(name, patch)
                return {"patched": name}
            case {"pod": _}:
                return self._create(pod(action))
        return self._create(action)

    def _create(self, obj: Object) -> Object:
        name = f"{obj['kind']}/{obj['metadata']['name']}"
        try:
            resource = self.any.resources.get(api_version=obj["apiVersion"], kind=obj["kind"])
            created = resource.create(body=obj, namespace=NAMESPACE)
        except DynamicApiError as error:
            said = json.loads(error.body)
            return {"rejected": name, **{key: said[key] for key in ("code", "reason", "message")}}
        if created.metadata.namespace is None:
            self._without_namespace.append(obj)
        if obj["kind"] == "Pod":
            self._note_ties(obj["metadata"]["name"])
        return {"created": name}

    def _note_ties(self, name: str) -> None:
        if self.explain is None:
            return
        nodes = self.explain(name, NAMESPACE)["nodes"]
        best = frozenset(one["name"] for one in nodes if one["best"])
        if len(best) > 1:
            self._played.ties.add(best)

    # -- until nothing changes -------------------------------------------------------------------

    def _settle(self) -> Object:
        """Wait for the cluster to come to rest, doing the kubelet's part; then look at it."""
        seen: set[tuple[str, str]] = set()
        quiet = waited = 0.0
        while True:
            lists = {kind: self._list(kind) for kind in ("pod", "event", "resource_quota")}
            versions = {
                (one["metadata"]["uid"], one["metadata"]["resourceVersion"])
                for items in lists.values()
                for one in items
            }
            quiet = quiet + POLL_S if versions == seen else 0.0
            if quiet >= QUIET_S:
                return _noted(**lists)
            if waited >= LIMIT_S:
                raise TimeoutError(f"the cluster did not come to rest within {LIMIT_S:g} s")
            seen = versions
            for one in lists["pod"]:
                self._serve(one)
            self.pause(POLL_S)
            waited += POLL_S

    def _list(self, kind: str) -> list[Object]:
        method = getattr(self.core, f"list_namespaced_{kind}")
        items: list[Object] = json.loads(method(NAMESPACE, _preload_content=False).data)["items"]
        return items

    def _serve(self, seen: Object) -> None:
        """What a kubelet would do about a pod."""
        name, phase = seen["metadata"]["name"], seen["status"]["phase"]
        status: Object = {}
        if "deletionTimestamp" in seen["metadata"]:
            self.core.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)
        elif phase == "Pending" and "nodeName" in seen["spec"]:
            self._note_ties(name)
            ready = [{"type": "Ready", "status": "True"}]
            status = {"phase": "Running", "startTime": _now(), "conditions": ready}
        elif phase == "Running" and name in self._finish:
            status = {"phase": self._finish[name]}
        if status:
            self.core.patch_namespaced_pod_status(name, NAMESPACE, {"status": status})

    # -- nothing is left -------------------------------------------------------------------------

    def _clear(self, nodes: list[str]) -> None:
        self.core.delete_namespace(NAMESPACE)
        custom = client.CustomObjectsApi(self.api)
        for one in self._without_namespace:
            group, version = one["apiVersion"].split("/")
            kind = one["kind"].lower()
            plural = f"{kind}es" if kind.endswith("s") else f"{kind}s"
            custom.delete_cluster_custom_object(group, version, plural, one["metadata"]["name"])
        for name in nodes:
            self.core.delete_node(name)
        while self._is_there():
            for one in self._list("pod"):
                name = one["metadata"]["name"]
                self.core.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)
            self.pause(POLL_S)

    def _is_there(self) -> bool:
        try:
            self.core.read_namespace(NAMESPACE)
        except client.ApiException as error:
            if error.status == 404:
                return False
            raise
        return True


def node(short: Object) -> Object:
    """The Node that a scenario describes."""
    amounts: Object = {"cpu": 16, "memory": "128Gi", "pods": 110, "ephemeral-storage": "500Gi"}
    labels = {
        "kubernetes.io/hostname": short["name"],
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
    }
    if "gpus" in short:
        amounts["nvidia.com/gpu"] = short["gpus"]
        labels |= {
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.product": short.get("product", "NVIDIA-H100-80GB-HBM3"),
            "nvidia.com/gpu.count": str(short["gpus"]),
        }
    amounts |= short.get("allocatable", {})
    allocatable = {key: str(value) for key, value in amounts.items() if value is not None}
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
        "lastHeartbeatTime": _now(),
        "lastTransitionTime": _now(),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": short["name"], "labels": labels | short.get("labels", {})},
        "spec": {"taints": short.get("taints", [])},
        "status": {
            "capacity": allocatable,
            "allocatable": allocatable,
            "conditions": [ready],
            "nodeInfo": {"kubeletVersion": "v1.36.2"},
        },
    }


def pod(short: Object) -> Object:
    """The Pod that a scenario describes."""
    metadata = {"name": short["pod"]}
    if "labels" in short:
        metadata["labels"] = short["labels"]
    resources = {key: short[key] for key in ("requests", "limits") if key in short}
    container = {"name": "main", "image": "cuda:13", "resources": resources}
    spec = {"restartPolicy": "Never", "containers": [container], **short.get("spec", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _noted(pod: list[Object], event: list[Object], resource_quota: list[Object]) -> Object:
    """What is compared of a cluster at rest, without what is empty."""
    events = {
        (
            one["involvedObject"]["kind"],
            one["involvedObject"]["name"],
            one["type"],
            one["reason"],
            one["message"],
        )
        for one in event
    }
    quotas = [
        {
            "name": one["metadata"]["name"],
            "hard": one["status"]["hard"],
            "used": one["status"]["used"],
        }
        for one in resource_quota
    ]
    found: Object = {
        "pods": [_pod_noted(one) for one in pod],
        "events": [list(one) for one in sorted(events)],
        "quotas": quotas,
    }
    return {key: value for key, value in found.items() if value}


def _pod_noted(pod: Object) -> Object:
    spec, status = pod["spec"], pod["status"]
    conditions = status.get("conditions", [])
    scheduled: Object = next((one for one in conditions if one["type"] == "PodScheduled"), {})
    found = {
        "name": pod["metadata"]["name"],
        "phase": status["phase"],
        "node": spec.get("nodeName"),
        "nominated": status.get("nominatedNodeName"),
        "gates": [gate["name"] for gate in spec.get("schedulingGates", [])],
        "scheduled": {
            key: scheduled[key] for key in ("status", "reason", "message") if scheduled.get(key)
        },
    }
    return {key: value for key, value in found.items() if value}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def main() -> None:
    """Play all scenarios on the cluster of a kubeconfig, and print what it made of them."""
    player = Player(Path(sys.argv[1]))
    version = client.VersionApi(player.api).get_code().git_version
    played = {name: player.play(scenario).steps for name, scenario in scenarios().items()}
    print(json.dumps({"kubernetes": version, "scenarios": played}, indent=1))


if __name__ == "__main__":
    main()
