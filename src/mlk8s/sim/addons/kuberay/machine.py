"""The pods of Ray are processes of one machine: what is set in them so that they find each other.

RayCluster, RayJob, RayService and Job keep what they have in a real cluster. In the pods alone the
head's address becomes this machine's loopback, ports become free ones, and what Ray would take
from the machine as a whole gets bounds. The pod says so itself, in an annotation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from mlk8s.sim.addons.base import Hook
from mlk8s.sim.addons.kuberay import autoscaler, names
from mlk8s.sim.addons.machine import note
from mlk8s.sim.api import Api
from mlk8s.sim.controllers.pods import controller_of
from mlk8s.sim.dial import LOOPBACK
from mlk8s.sim.kubelet.environment import PORT_PREFIX
from mlk8s.sim.kubelet.images import InvalidName, PullError
from mlk8s.sim.kubelet.kubelet import Kubelet
from mlk8s.sim.kubelet.process import OPEN_FILES
from mlk8s.sim.kubelet.ray_command import CLUSTER_STATE, ONE_MACHINE
from mlk8s.sim.ports import TRAINING, free_port
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object

# Bytes of shared memory for objects, where the pod's maker has not said how many: of the machine's
# own memory Ray would take a third for every node. It wants 75 MB at least.
_STORE_BYTES = 100_000_000
# Flags that name a port on which a node listens, and the port where nothing else is said.
_LISTENS = {
    "metrics-export-port": names.METRICS_PORT,
    "dashboard-agent-listen-port": names.AGENT_PORT,
}
_HEAD_LISTENS = {
    "dashboard-port": names.DASHBOARD_PORT,
    "ray-client-server-port": names.CLIENT_PORT,
}
_VARIABLES = {
    # See mlk8s.sim.kubelet.ray_command.
    ONE_MACHINE: "0",
    # The kubelet signals all processes of a container, the control service among them; a node
    # that has no one left to ask would wait for nothing.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "RAY_START_ULIMIT_OPEN_FILES": str(OPEN_FILES),
    "RAY_USAGE_STATS_ENABLED": "0",
    # It looks at the memory of the whole machine; the kubelet holds pods to their limits.
    "RAY_memory_monitor_refresh_ms": "0",
}
_WAIT = (
    "until (exec 3<>/dev/tcp/{host}/{port}) 2> /dev/null; do "
    'echo "$SECONDS seconds elapsed: Waiting for GCS to be ready."; sleep 1; done; '
    'echo "GCS is ready."'
)
_WGET = re.compile(r"wget --tries 1 -T (\d+) -q -O- http://localhost:(\d+)/(\S+)")
_ASK = (
    'python3 -c "import os, urllib.request as r; print(r.urlopen('
    r"'http://{host}:' + os.environ['{prefix}\2'] + '/\3', timeout=\1).read().decode())"
    '"'
)


class PodHook(Hook):
    """Gives each Ray cluster a port of this machine, and its pods and submitters the address.

    Args:
        api: knows which clusters there are.
        kubelet: knows where heads listen.
    """

    def __init__(self, api: Api, kubelet: Kubelet) -> None:
        self.api, self.kubelet = api, kubelet
        self._ports: dict[tuple[str, str], tuple[str, int]] = {}

    def mutate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Adapt a new pod of a RayCluster, or the submitter of a RayJob."""
        if op != "CREATE" or resource.key != "pods":
            return
        labels = obj["metadata"].get("labels") or {}
        namespace = obj["metadata"]["namespace"]
        containers = obj["spec"].get("containers") or []
        if not containers or not self._is_process(containers[0]):
            return
        if labels.get(names.IS_NODE) == "yes" and names.CLUSTER_LABEL in labels:
            owner = controller_of(obj)
            if owner is not None and owner["kind"] == names.CLUSTER_KIND:
                note(obj, self._adapt_node(obj, owner))
        elif labels.get(names.ORIGIN_KIND) == names.JOB_KIND:
            job = self.api.find(names.JOBS, namespace, labels.get(names.ORIGIN_NAME, ""))
            said = (job or {}).get("status") or {}
            note(obj, self._adapt_submitter(obj, str(said.get("rayClusterName", ""))))

    def _is_process(self, container: Object) -> bool:
        try:
            return self.kubelet.catalogue.resolve(container["image"]).kind == "process"
        except (InvalidName, PullError):
            # It will not run, and its events say why.
            return False

    # -- nodes of Ray ----------------------------------------------------------------------------

    def _adapt_node(self, pod: Object, owner: Object) -> list[str]:
        metadata, spec = pod["metadata"], pod["spec"]
        head = metadata["labels"][names.NODE_TYPE] == names.HEAD
        gcs = self._port((metadata["namespace"], owner["name"]), owner["uid"])
        container = spec["containers"][0]
        changed = [*self._adapt_start(container, head, gcs)]
        host = names.address(owner["name"], metadata["namespace"])
        for each in [*spec["containers"], *(spec.get("initContainers") or ())]:
            if each["name"] == names.WAIT_CONTAINER:
                each["args"] = [_WAIT.format(host=LOOPBACK, port=gcs)]
                changed.append(names.WAIT_CONTAINER)
            changed += _readdress(each, re.compile(rf"{re.escape(host)}:\d+"), f"{LOOPBACK}:{gcs}")
            changed += _readdress(each, re.compile(rf"{re.escape(host)}\b"), LOOPBACK)
        for name, text in self._variables(head, gcs, container):
            _set_variable(container, name, text)
            changed.append(name)
        changed += _adapt_probes(container)
        for each in spec["containers"]:
            if each["name"] == autoscaler.CONTAINER:
                changed += self._adapt_autoscaler(each, gcs)
        return changed

    def _adapt_start(self, container: Object, head: bool, gcs: int) -> Iterator[str]:
        """Change the arguments of ``ray start`` wherever it stands; yields their names."""
        listens = _LISTENS | (_HEAD_LISTENS if head else {})
        texts = [*(container.get("command") or ()), *(container.get("args") or ())]
        texts += [str(each.get("value", "")) for each in container.get("env") or ()]
        line = next((each for each in texts if "ray start" in each), "")
        flags = {"node-ip-address": LOOPBACK, "min-worker-port": "0", "max-worker-port": "0"}
        if head:
            flags |= {"port": str(gcs), "dashboard-host": LOOPBACK}
        else:
            flags["address"] = f"{LOOPBACK}:{gcs}"
        if "--object-store-memory" not in line:
            flags["object-store-memory"] = str(_STORE_BYTES)
        ports = container.setdefault("ports", [])
        declared = {each["containerPort"] for each in ports}
        wanted = {*names.PORTS.values(), names.AGENT_PORT} if head else {names.SERVE_PORT}
        for name, usual in listens.items():
            found = re.search(rf"--{name}[= ](\d+)", line)
            port = int(found[1]) if found else usual
            wanted.add(port)
            flags[name] = f"$({PORT_PREFIX}{port})"
        for port in sorted(wanted - declared):
            ports.append({"containerPort": port, "protocol": "TCP"})
        if wanted - declared:
            yield "ports"
        for part in ("command", "args"):
            if part in container:
                container[part] = [_start_with(each, flags) for each in container[part]]
        for variable in container.get("env") or ():
            if "value" in variable:
                variable["value"] = _start_with(variable["value"], flags)
        if line:
            yield from (f"--{name}" for name in flags)

    def _variables(self, head: bool, gcs: int, container: Object) -> Iterator[tuple[str, str]]:
        yield from _VARIABLES.items()
        yield "RAY_ADDRESS", f"{LOOPBACK}:{gcs}"
        yield "RAY_PORT", str(gcs)
        if not head:
            yield "FQ_RAY_IP", LOOPBACK
            yield "RAY_IP", LOOPBACK
            port = names.port_of(container, "serve")
            yield "RAY_SERVE_WORKER_PROXY_HTTP_PORT", f"$({PORT_PREFIX}{port})"

    def _adapt_autoscaler(self, container: Object, gcs: int) -> Iterator[str]:
        """Let the autoscaler find the control service and the API server, and be let in there."""
        words = container.get("args") or []
        for at, word in enumerate(words):
            if autoscaler.COMMAND in word:
                told = f"{autoscaler.COMMAND} --gcs-address={LOOPBACK}:{gcs}"
                words[at] = word.replace(autoscaler.COMMAND, told)
                yield "args"
        directory = self.kubelet.directory.parent
        state = directory / "state.json"
        server = urlsplit(json.loads(state.read_text())["url"])
        variables = {
            ONE_MACHINE: _VARIABLES[ONE_MACHINE],
            "KUBERNETES_SERVICE_HOST": server.hostname or LOOPBACK,
            "KUBERNETES_SERVICE_PORT_HTTPS": str(server.port),
            "RAY_KUBERAY_CA_CERT_PATH": str(directory / "ca.crt"),
            CLUSTER_STATE: str(state),
        }
        for name, text in variables.items():
            _set_variable(container, name, text)
            yield name

    def _port(self, where: tuple[str, str], uid: str) -> int:
        """The port of a cluster's control service: the same for all its pods, nobody else's."""
        known = self._ports.get(where)
        if known is not None and known[0] == uid:
            return known[1]
        there = set(self.api.store.keys(names.CLUSTERS))
        self._ports = {key: each for key, each in self._ports.items() if key in there}
        port = free_port(TRAINING, uid, {each for _, each in self._ports.values()})
        self._ports[where] = (uid, port)
        return port

    # -- submitters ------------------------------------------------------------------------------

    def _adapt_submitter(self, pod: Object, cluster: str) -> list[str]:
        namespace = pod["metadata"]["namespace"]
        host = re.escape(names.address(cluster, namespace))
        found = self.api.find(names.CLUSTERS, namespace, cluster)
        head = (((found or {}).get("status") or {}).get("head") or {}).get("podName", "")
        changed: list[str] = []
        for each in pod["spec"]["containers"]:
            # The command that is submitted runs where the head does.
            for part in ("command", "args"):
                if part in each:
                    each[part] = [head_paths(self.kubelet, namespace, head, t) for t in each[part]]
            for declared in _addressed(each, host):
                if port := self.kubelet.port(namespace, head, declared):
                    pattern = re.compile(rf"{host}:{declared}\b")
                    changed += _readdress(each, pattern, f"{LOOPBACK}:{port}")
            _set_variable(each, ONE_MACHINE, _VARIABLES[ONE_MACHINE])
            changed.append(ONE_MACHINE)
        return changed


def head_paths(kubelet: Kubelet, namespace: str, pod: str, text: str) -> str:
    """A text with the paths that a head mounts as this machine knows them.

    Args:
        kubelet: runs the head.
        namespace: of its pod.
        pod: the name of its pod.
        text: what the head is to run or read.
    """
    worker = kubelet.workers.get((namespace, pod))
    for each in worker.containers if worker is not None else ():
        if each.running and each.name != names.WAIT_CONTAINER:
            return each.mounts.rewrite(text)
    return text


def _addressed(container: Object, host: str) -> set[int]:
    """The ports of a host that a container's command and variables name."""
    texts = [*(container.get("command") or ()), *(container.get("args") or ())]
    texts += [str(each.get("value", "")) for each in container.get("env") or ()]
    return {int(port) for text in texts for port in re.findall(rf"{host}:(\d+)", text)}


def _readdress(container: Object, pattern: re.Pattern[str], address: str) -> Iterator[str]:
    """Put an address for what a pattern finds; yields the names of what has changed."""
    for part in ("command", "args"):
        words = container.get(part) or []
        for at, word in enumerate(words):
            words[at], times = pattern.subn(address, word)
            if times:
                yield part
    for variable in container.get("env") or ():
        if "value" in variable:
            variable["value"], times = pattern.subn(address, variable["value"])
            if times:
                yield variable["name"]


def _start_with(text: str, flags: dict[str, str]) -> str:
    """A command line with these flags of ``ray start`` set, in place of its own or in addition."""
    before, start, rest = text.partition("ray start")
    if not start:
        return text
    for name, value in flags.items():
        wanted = f"--{name}={value}"
        rest, times = re.subn(rf"--{name}[= ]\S+", wanted.replace("\\", r"\\"), rest)
        if not times:
            # Right behind the command: what follows it may be another one.
            rest = f" {wanted}{rest}"
    return f"{before}{start}{rest}"


def _set_variable(container: Object, name: str, value: str) -> None:
    variables = container.setdefault("env", [])
    for each in variables:
        if each["name"] == name:
            each.pop("valueFrom", None)
            each["value"] = value
            return
    variables.append({"name": name, "value": value})


def _adapt_probes(container: Object) -> Iterator[str]:
    """Let KubeRay's commands ask this machine's ports; what asks by HTTP finds them by itself."""
    ask = _ASK.replace("{host}", LOOPBACK).replace("{prefix}", PORT_PREFIX)
    for name in ("livenessProbe", "readinessProbe"):
        words = ((container.get(name) or {}).get("exec") or {}).get("command") or []
        for at, word in enumerate(words):
            words[at], times = _WGET.subn(ask, word)
            if times:
                yield name
