"""The pods of a RayCluster as KubeRay makes them: labels, command, variables, probes.

Source at v1.7.0: ``ray-operator/controllers/ray/common/pod.go``. Left out are the parts for what
this model refuses: fault tolerance, TLS, history server.
"""

from __future__ import annotations

import copy
from typing import Any

from mlk8s.sim.addons.kuberay import autoscaler, names, start
from mlk8s.sim.controllers.base import owner_reference
from mlk8s.sim.decoding import read
from mlk8s.sim.status import Object

TEMPLATE = "io.k8s.api.core.v1.PodTemplateSpec"
SHELL = ["/bin/bash", "-c", "--"]
#: Since this version one endpoint tells whether a node is well.
_ONE_ENDPOINT = (2, 53)
_WGET = "wget --tries 1 -T {seconds} -q -O- http://localhost:{port}/{path} | grep success"
_RAYLET, _GCS, _PROXY = "api/local_raylet_healthz", "api/gcs_healthz", "-/healthz"
_SHARED_MEMORY = "/dev/shm"
_FIXED = (names.NODE_TYPE, names.NODE_GROUP, names.CLUSTER_LABEL)
_OF_A_SERVICE = {
    "RAY_timeout_ms_task_wait_for_death_info": "0",
    "RAY_gcs_server_request_timeout_seconds": "5",
    "RAY_SERVE_KV_TIMEOUT_S": "5",
}
_WAIT = """
					SECONDS=0
					while true; do
						if (( SECONDS <= 120 )); then
							if ray health-check --address {0} > /dev/null 2>&1; then
								echo "GCS is ready."
								break
							fi
							echo "$SECONDS seconds elapsed: Waiting for GCS to be ready."
						else
							if ray health-check --address {0}; then
								echo "GCS is ready. Any error messages above can be safely ignored."
								break
							fi
							echo "$SECONDS seconds elapsed: Still waiting for GCS to be ready."
						fi
						sleep 5
					done
				"""


def origin(cluster: Object) -> str:
    """The kind of object that a RayCluster was made for, or its own."""
    return str((cluster["metadata"].get("labels") or {}).get(names.ORIGIN_KIND, names.CLUSTER_KIND))


def head_pod(cluster: Object, spec_hash: str) -> Object:
    """The pod of the head."""
    group = cluster["spec"]["headGroupSpec"]
    pod = _Pod(cluster, group, names.HEAD, names.HEAD_GROUP)
    metadata = pod.made["metadata"]
    metadata["generateName"] = names.pod_prefix(cluster["metadata"]["name"], names.HEAD)
    if autoscaler.is_wanted(cluster["spec"]):
        autoscaler.add(cluster, pod.made)
        if secret := names.secret_of(cluster["metadata"]["name"], cluster["spec"]):
            set_token(pod.made["spec"]["containers"][-1], secret)
        if autoscaler.version(cluster["spec"]) == "v2":
            pod.made["spec"]["restartPolicy"] = "Never"
    metadata["annotations"] |= {
        names.RECREATE_HASH: spec_hash,
        names.OPERATOR_VERSION: f"v{names.RELEASE}",
    }
    return pod.complete()


def worker_pod(cluster: Object, group: Object, index: int) -> Object:
    """A pod of a group of workers.

    Args:
        cluster: the RayCluster.
        group: one of its ``workerGroupSpecs``.
        index: of the replica within the group.
    """
    pod = _Pod(cluster, group, names.WORKER, group["groupName"])
    metadata = pod.made["metadata"]
    prefix = f"{cluster['metadata']['name']}-{group['groupName']}"
    metadata["generateName"] = names.pod_prefix(prefix, names.WORKER)
    metadata["labels"][names.REPLICA_INDEX] = str(index)
    pod.wait_for_head()
    spec = cluster["spec"]
    if autoscaler.is_wanted(spec) and autoscaler.version(spec) == "v2":
        pod.made["spec"]["restartPolicy"] = "Never"
    return pod.complete()


class _Pod:
    """A pod in the making, from the template of its group."""

    def __init__(self, cluster: Object, group: Object, node_type: str, group_name: str) -> None:
        self.cluster, self.group, self.node_type = cluster, group, node_type
        metadata = cluster["metadata"]
        self.template: Object = read(TEMPLATE, copy.deepcopy(group["template"]))
        told = self.template.get("metadata") or {}
        name = metadata["name"]
        labels = {
            names.IS_NODE: "yes",
            names.CLUSTER_LABEL: name,
            names.NODE_TYPE: node_type,
            names.NODE_GROUP: group_name,
            names.IDENTIFIER: names.identifier(name, node_type),
            names.APP_NAME: names.APPLICATION,
            names.CREATED_BY: names.COMPONENT,
        }
        wanted = {**(told.get("labels") or {}), **(group.get("labels") or {})}
        labels |= {key: text for key, text in wanted.items() if key not in _FIXED}
        self.made: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": metadata["namespace"],
                "labels": labels,
                "annotations": {**(told.get("annotations") or {})},
                "ownerReferences": [owner_reference(cluster)],
            },
            "spec": self.template["spec"],
        }
        if _overwrites(metadata):
            self.made["metadata"]["annotations"][names.OVERWRITE_COMMAND] = "true"
        self.container: Object = self.made["spec"]["containers"][0]
        self.port = start.head_port(cluster)
        self.host = names.address(name, metadata["namespace"])
        ports = self.container.setdefault("ports", [])
        if all(each.get("name") != "metrics" for each in ports):
            ports.append({"name": "metrics", "containerPort": names.METRICS_PORT})
        if secret := names.secret_of(name, cluster["spec"]):
            set_token(self.container, secret)

    def wait_for_head(self) -> None:
        """The container before a worker's that waits until the head answers."""
        amounts = {"cpu": "200m", "memory": "256Mi"}
        waits: Object = {
            "name": names.WAIT_CONTAINER,
            "command": list(SHELL),
            "args": [_WAIT.format(f"{self.host}:{self.port}")],
            "resources": {"limits": dict(amounts), "requests": dict(amounts)},
        }
        for part in ("image", "imagePullPolicy", "securityContext", "env", "volumeMounts"):
            if part in self.container:
                waits[part] = copy.deepcopy(self.container[part])
        self.made["spec"].setdefault("initContainers", []).append(waits)

    def complete(self) -> Object:
        """Give the pod its command, variables, shared memory and probes."""
        of_service = origin(self.cluster) == names.SERVICE_KIND
        if of_service:
            serves = "true" if self.node_type == names.WORKER else "false"
            self.made["metadata"]["labels"][names.SERVES] = serves
        self._share_memory()
        scaled = autoscaler.is_wanted(self.cluster["spec"])
        line = start.command(
            self.node_type,
            self.group,
            self.container,
            f"{self.host}:{self.port}",
            monitored=not scaled,
        )
        self._set_command(line)
        head = self.node_type == names.HEAD
        for each in self.made["spec"].get("initContainers") or ():
            host = self.host
            each.setdefault("env", []).extend(_pairs(FQ_RAY_IP=host, RAY_IP=host.split(".")[0]))
        self._set_variables(line, head, of_service)
        self._probe(head, of_service)
        return self.made

    def _share_memory(self) -> None:
        if "plasma-directory" in (self.group.get("rayStartParams") or {}):
            return
        mounts = self.container.setdefault("volumeMounts", [])
        if any(each["mountPath"] == _SHARED_MEMORY for each in mounts):
            return
        volumes = self.made["spec"].setdefault("volumes", [])
        if all(each["name"] != "shared-mem" for each in volumes):
            directory: Object = {"medium": "Memory"}
            resources = self.container.get("resources") or {}
            for part in ("limits", "requests"):
                if "memory" in (resources.get(part) or {}):
                    directory["sizeLimit"] = resources[part]["memory"]
                    break
            volumes.append({"name": "shared-mem", "emptyDir": directory})
        mounts.append({"name": "shared-mem", "mountPath": _SHARED_MEMORY})

    def _set_command(self, line: str) -> None:
        """Put ``ray start`` behind what the container has to do; one that starts it stays."""
        own = " ".join(
            [*(self.container.get("command") or ()), *(self.container.get("args") or ())]
        )
        if _overwrites(self.made["metadata"]) or "ray start" in own:
            return
        generated = f"ulimit -n ${{RAY_START_ULIMIT_OPEN_FILES:-65536}}; {line}"
        self.container["command"] = list(SHELL)
        self.container["args"] = [f"{own} && {generated}" if own else generated]

    def _set_variables(self, line: str, head: bool, of_service: bool) -> None:
        variables = self.container.setdefault("env", [])
        there = {each["name"] for each in variables}

        def default(**wanted: str) -> None:
            variables.extend(each for each in _pairs(**wanted) if each["name"] not in there)

        host = "127.0.0.1" if head else self.host
        if not head:
            variables.extend(_pairs(FQ_RAY_IP=host, RAY_IP=host.split(".")[0]))
        fields = {
            "RAY_CLUSTER_NAME": f"metadata.labels['{names.CLUSTER_LABEL}']",
            "RAY_CLUSTER_NAMESPACE": "metadata.namespace",
            "RAY_CLOUD_INSTANCE_ID": "metadata.name",
            "RAY_NODE_TYPE_NAME": f"metadata.labels['{names.NODE_GROUP}']",
        }
        for name, path in fields.items():
            field = {"apiVersion": "v1", "fieldPath": path}
            variables.append({"name": name, "valueFrom": {"fieldRef": field}})
        variables.extend(_pairs(KUBERAY_GEN_RAY_START_CMD=line))
        default(RAY_PORT=self.port)
        if of_service:
            default(**_OF_A_SERVICE)
        default(RAY_ADDRESS=f"{host}:{self.port}", RAY_USAGE_STATS_KUBERAY_IN_USE="1")
        if head:
            tags = f"kuberay_version=v{names.RELEASE};kuberay_crd={origin(self.cluster)}"
            variables.extend(_pairs(RAY_USAGE_STATS_EXTRA_TAGS=tags))
        default(RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE="1")

    def _probe(self, head: bool, of_service: bool) -> None:
        params = self.group.get("rayStartParams") or {}
        agent = _number(params.get("dashboard-agent-listen-port"), names.AGENT_PORT)
        dashboard = _number(params.get("dashboard-port"), names.DASHBOARD_PORT)
        commands = [_WGET.format(seconds=2, port=agent, path=_RAYLET)]
        if head:
            commands.append(_WGET.format(seconds=10, port=dashboard, path=_GCS))
        if _version(self.cluster["spec"].get("rayVersion")) >= _ONE_ENDPOINT:
            asks: Object = {"httpGet": {"path": "/api/healthz", "port": agent}}
        else:
            asks = _shell(commands)
        common = {"timeoutSeconds": 5 if head else 2, "periodSeconds": 5, "successThreshold": 1}
        if "livenessProbe" not in self.container:
            self.container["livenessProbe"] = {
                **copy.deepcopy(asks),
                **common,
                "initialDelaySeconds": 30,
                "failureThreshold": 120,
            }
        if "readinessProbe" in self.container:
            return
        threshold = 10
        if of_service and not head:
            # A worker without a proxy of Ray Serve gets no requests.
            serve = names.port_of(self.container, "serve")
            commands.append(_WGET.format(seconds=10, port=serve, path=_PROXY))
            asks, threshold = _shell(commands), 1
        self.container["readinessProbe"] = {
            **asks,
            **common,
            "initialDelaySeconds": 10,
            "failureThreshold": threshold,
        }


def set_token(container: Object, secret: str) -> None:
    """Let a container authenticate itself to Ray.

    Args:
        container: changed in place.
        secret: the name of the Secret with the token.
    """
    variables = container.setdefault("env", [])
    there = {each["name"] for each in variables}
    if "RAY_AUTH_MODE" not in there:
        variables.extend(_pairs(RAY_AUTH_MODE="token"))
    if "RAY_AUTH_TOKEN" not in there:
        key = {"name": secret, "key": names.TOKEN_KEY}
        variables.append({"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": key}})


def _pairs(**wanted: str) -> list[Object]:
    return [{"name": name, "value": text} for name, text in wanted.items()]


def _overwrites(metadata: Object) -> bool:
    annotations = metadata.get("annotations") or {}
    return str(annotations.get(names.OVERWRITE_COMMAND, "")).lower() == "true"


def _shell(commands: list[str]) -> Object:
    return {"exec": {"command": ["bash", "-c", " && ".join(commands)]}}


def _number(text: Any, usual: int) -> int:
    return int(text) if isinstance(text, str) and text.isdecimal() else usual


def _version(text: str | None) -> tuple[int, ...]:
    """A version's numbers; none where it is none."""
    parts = (text or "").removeprefix("v").split("-")[0].split(".")
    return tuple(int(part) for part in parts) if all(p.isdecimal() for p in parts) else ()
