"""The nodes of the embedded cluster: their objects, their devices, and NVIDIA's operands on them.

The kubelet asks it for devices; the scheduler and the controllers see only the objects it writes.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence

from mlk8s.sim.api import Api, DeleteOptions
from mlk8s.sim.clock import micro_stamp
from mlk8s.sim.events import Recorder
from mlk8s.sim.nodes import following, mig, objects, operator, setup, slices, smi, view
from mlk8s.sim.nodes import labels as names
from mlk8s.sim.nodes.claims import Claims
from mlk8s.sim.nodes.devices import AdmissionError, Devices
from mlk8s.sim.nodes.migmanager import CONFIG, STATE, MigManager
from mlk8s.sim.nodes.plugin import Plugins, operands
from mlk8s.sim.nodes.spec import NodeSpec
from mlk8s.sim.nodes.state import NodeState
from mlk8s.sim.runtime import Component
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

# Seconds, both chosen: config-manager notices a label and signals the plugin; the operator
# notices its ClusterPolicy and writes its DaemonSets.
RELOAD_S = 2.0
OPERATOR_S = 1.0
# A kubelet renews its lease every 10 s; here seldom, as nothing in the cluster looks at it.
RENEW_S = objects.LEASE_SECONDS / 2
_RENEWED_AT_ONCE = 200

_SLICES = "resourceslices.resource.k8s.io"


class Fleet(Component):
    """Makes the nodes, holds their devices, and does what NVIDIA's operands do.

    Args:
        api: the cluster.
        recorder: for events about nodes.
        specs: the nodes.
    """

    def __init__(self, api: Api, recorder: Recorder, specs: Sequence[NodeSpec]) -> None:
        super().__init__(api)
        self.recorder = recorder
        self.specs = list(specs)
        self._prepare()

    def _prepare(self) -> None:
        self.states = {
            spec.name: NodeState(spec, index, _devices(spec))
            for index, spec in enumerate(self.specs)
        }
        gpu = [spec for spec in self.specs if spec.gpu]
        cut = [spec for spec in gpu if spec.mig != "all-disabled"]
        # The operator has one strategy for all nodes; a node that starts with another keeps it
        # until the ClusterPolicy is changed.
        self._first_strategy = (cut or gpu)[0].strategy if gpu else "single"
        self.plugins = Plugins(self.api, self.recorder, self._first_strategy)
        self._claims = Claims()
        self._pods: dict[str, str] = {}
        self.mig = MigManager(
            self.api, lambda state, after: self.enqueue(("mig", state.name), after), self._cut
        )

    # -- starting ----------------------------------------------------------------------------

    def start(self) -> None:
        """Make the nodes and all that stands on them."""
        if not self.specs:
            return
        for state in self.states.values():
            self._add(state)
        setup.ensure(self.api, operator.storage_class(), "storageclasses.storage.k8s.io")
        if any(spec.gpu for spec in self.specs):
            setup.install(self.api, self.specs, self._first_strategy)
            self.enqueue(("policy object",))
        self.enqueue(("leases", 0), RENEW_S)

    def reset(self) -> None:
        """Give every node back its first state: layout, sharing, health, labels; no holders."""
        for state in self.states.values():
            for name in self._slice_names(state):
                self.api.store.remove(_SLICES, "", name)
        setup.remove(self.api, self.specs)
        self._prepare()
        self.start()

    def _add(self, state: NodeState) -> None:
        devices, spec, now = state.devices, state.spec, self.api.clock.now()
        resources = devices.resources() if devices and not spec.dra else ()
        uid = self.api.uid("nodes")
        node = objects.node_object(spec, state.index, now, uid, resources)
        labels = node["metadata"]["labels"]
        if devices is not None:
            state.gfd = names.discovered(devices, spec.machine, now)
            labels |= state.gfd
            if devices.model.profiles and not spec.dra:
                labels |= {CONFIG: spec.mig, STATE: "success"}
            if spec.sharing is not None:
                labels[operator.PLUGIN_LABEL] = operator.key_of(spec.config)
            self.mig.started(state, spec.mig)
        # Straight into the store: complete, and twice as fast for thousands of them.
        self.api.store.write("nodes", node)
        lease = objects.lease_object(state.name, uid, now, self.api.uid("leases"))
        self.api.store.write("leases.coordination.k8s.io", lease)
        self.recorder.event(
            # A kubelet names itself by the node's name, and so finds kubectl these events.
            {**node, "metadata": {**node["metadata"], "uid": state.name}},
            "Normal",
            "Starting",
            "Starting kubelet.",
            "kubelet",
            host=state.name,
        )
        if spec.dra:
            self.publish(state)

    # -- reacting ----------------------------------------------------------------------------

    def keys(self, change: Change) -> Iterable[Hashable]:
        """Labels of nodes, operand pods, the ClusterPolicy, resource claims."""
        match change.key:
            case "nodes":
                return self._of_node(change)
            case "pods" if change.namespace == operator.NAMESPACE:
                pod = change.object
                if (pod["metadata"].get("labels") or {}).get("app") == operator.PLUGIN_APP:
                    return (("plugin", pod["spec"].get("nodeName", "")),)
            case operator.POLICIES if change.name == operator.POLICY and change.old is not None:
                if change.old["spec"] != change.object["spec"]:
                    self.enqueue(("policy",), OPERATOR_S)
            case setup.DEFINITIONS:
                if change.name == operator.POLICIES and change.type != "DELETED":
                    return (("policy object",),)
            case "resourceclaims.resource.k8s.io":
                self._claims.hear(change)
        return ()

    def _of_node(self, change: Change) -> Iterable[Hashable]:
        state = self.states.get(change.name)
        if state is None or state.devices is None or change.type != "MODIFIED":
            return ()
        before = (change.old or change.object)["metadata"].get("labels") or {}
        after = change.object["metadata"].get("labels") or {}
        if before.get(CONFIG) != after.get(CONFIG):
            self.mig.notice(state, after)
        if before.get(operator.PLUGIN_LABEL) != after.get(operator.PLUGIN_LABEL):
            self.enqueue(("reload", change.name), RELOAD_S)
        if _seen(before) != _seen(after):
            self.enqueue(("features", change.name), OPERATOR_S)
        return ()

    def reconcile(self, key: Hashable) -> None:
        """Do what a change asks for."""
        match key:
            case ("plugin", str(node)) if (state := self.states.get(node)) is not None:
                self.plugins.look_at(state)
            case ("reload", str(node)) if (state := self.states.get(node)) is not None:
                if state.devices is not None and state.devices.running:
                    self.plugins.register(state)
            case ("mig", str(node)) if (state := self.states.get(node)) is not None:
                self.mig.step(state)
            case ("features", str(node)) if (state := self.states.get(node)) is not None:
                following.features(self.api, state)
            case ("policy",):
                following.policy(self.api, self._first_strategy)
            case ("policy object",):
                setup.install_policy(self.api, self._first_strategy)
            case ("leases", int(first)):
                self._renew(first)

    def _cut(self, state: NodeState) -> None:
        """mig-manager has made a new layout; the plugin is down and will find it."""
        if state.plugin == "" and state.devices is not None:
            state.devices.unregister()

    def _renew(self, first: int) -> None:
        chosen = list(self.states)[first : first + _RENEWED_AT_ONCE]
        now = micro_stamp(self.api.clock.now())

        def write(lease: Object) -> None:
            lease["spec"]["renewTime"] = now

        for name in chosen:
            self.api.change("leases.coordination.k8s.io", "kube-node-lease", name, write)
        if first + len(chosen) < len(self.states):
            self.enqueue(("leases", first + len(chosen)))
        else:
            self.enqueue(("leases", 0), RENEW_S)

    # -- DRA ---------------------------------------------------------------------------------

    def publish(self, state: NodeState) -> None:
        """Replace the node's ResourceSlices by those of its present devices."""
        for name in self._slice_names(state):
            self.api.delete(_SLICES, "", name)
        state.slices = []
        if state.hidden or state.devices is None:
            return
        state.generation += 1
        node = self.api.find("nodes", "", state.name)
        made = slices.resource_slices(
            state.devices, state.name, state.generation, state.spec.dra == "dynamic"
        )
        for each in made:
            if node is not None:
                each["metadata"]["ownerReferences"] = [
                    {
                        "apiVersion": "v1",
                        "kind": "Node",
                        "name": state.name,
                        "uid": node["metadata"]["uid"],
                        "controller": True,
                    }
                ]
            state.slices.append(self.api.create(_SLICES, each)["metadata"]["name"])

    def _slice_names(self, state: NodeState) -> list[str]:
        raw = self.api.store.raw
        return [name for name in state.slices if raw(_SLICES, "", name) is not None]

    # -- what the kubelet asks -----------------------------------------------------------------

    def serves(self, node: str) -> bool:
        """Whether a kubelet runs on the node: only on those that the fleet has made."""
        return node in self.states

    def allocate(self, pod: Object) -> dict[str, dict[str, list[str]]]:
        """Give a pod that is being admitted its devices.

        Init containers leave theirs to the containers after them; sidecars keep theirs.

        Returns:
            Container → resource → device ids; without those of DRA claims.

        Raises:
            AdmissionError: the pod is refused; it holds nothing then.
        """
        metadata, spec = pod["metadata"], pod["spec"]
        state = self.states.get(spec.get("nodeName", ""))
        if state is None or state.devices is None:
            return {}
        uid: str = metadata["uid"]
        given: dict[str, dict[str, list[str]]] = {}
        reusable: list[str] = []
        rows = [(each, True) for each in spec.get("initContainers") or ()]
        rows += [(each, False) for each in spec["containers"]]
        try:
            for container, first in rows:
                wanted = self._wanted(state.devices, container)
                for resource, count in wanted.items():
                    ids = state.devices.allocate(uid, container["name"], resource, count, reusable)
                    given.setdefault(container["name"], {})[resource] = ids
                    if first and container.get("restartPolicy") != "Always":
                        reusable += [each for each in ids if each not in reusable]
                    else:
                        reusable = [each for each in reusable if each not in ids]
        except AdmissionError:
            state.devices.release(uid)
            raise
        if given:
            self._pods[uid] = f"{metadata['namespace']}/{metadata['name']}"
        return given

    def _wanted(self, devices: Devices, container: Object) -> dict[str, int]:
        limits = (container.get("resources") or {}).get("limits") or {}
        return {
            name: int(count)
            for name, count in limits.items()
            if devices.knows(name) and int(count) > 0
        }

    def release(self, namespace: str, name: str, uid: str, node: str) -> None:
        """Take back the devices of a pod that has ended; harmless when it had none."""
        state = self.states.get(node)
        if state is not None and state.devices is not None:
            state.devices.release(uid)
        self._pods.pop(uid, None)

    def log(self, pod: Object, container: str) -> list[str] | None:
        """What an operand of the fleet has written so far; ``None`` for all other containers."""
        state = self.states.get(pod["spec"].get("nodeName", ""))
        if state is None or pod["metadata"].get("namespace") != operator.NAMESPACE:
            return None
        if container == "nvidia-mig-manager":
            return list(state.journal)
        if container == "nvidia-device-plugin":
            return state.reports.get(pod["metadata"]["uid"])
        return None

    # -- health ------------------------------------------------------------------------------

    def fail(self, node: str, device: str) -> None:
        """A device reports an Xid error: allocatable drops, until the plugin restarts.

        Raises:
            KeyError: the node has no such device.
        """
        state = self.states[node]
        if state.devices is None:
            raise KeyError(device)
        state.devices.fail(device)
        if state.spec.dra:
            self.publish(state)
        else:
            self.plugins.write(state)

    # -- looking -----------------------------------------------------------------------------

    def devices(self, node: str) -> list[Object]:
        """What a node's containers can be given, each with who holds it.

        Returns:
            Per device or share: ``id``, ``gpu`` (index), ``product``, ``profile`` (``""`` for a
            whole GPU), ``memoryMiB``, ``resource`` (``""`` under DRA), ``healthy``, ``holder``
            (``namespace/name`` of the pod, or ``None``).
        """
        state = self.states.get(node)
        return [] if state is None else view.rows(state, self._claims, self._pods)

    def visible(
        self, node: str, pod: Object | None = None, devices: Collection[str] | None = None
    ) -> smi.Seen:
        """What ``nvidia-smi`` (:func:`mlk8s.sim.nodes.smi.answer`) can see.

        Args:
            node: which node.
            pod: where it is called; on the node itself where there is none.
            devices: those of one container; all of the pod where ``None``.
        """
        return view.visible(self.states[node], self._claims, pod, devices)

    def leaks(self, node: str) -> bool:
        """Whether containers on a node see all GPUs, also without a request."""
        return self.states[node].leaks()

    def restart(self, node: str, app: str) -> None:
        """Delete an operand's pods on a node; their DaemonSet makes new ones."""
        for pod in operands(self.api, node, app):
            try:
                self.api.delete(
                    "pods", operator.NAMESPACE, pod["metadata"]["name"], DeleteOptions()
                )
            except StatusError as error:
                if error.code != 404:
                    raise


def _seen(labels: dict[str, str]) -> tuple[bool, str | None]:
    """What the operator goes by, and what it has made of it."""
    return names.found(labels), labels.get(names.PRESENT)


def _devices(spec: NodeSpec) -> Devices | None:
    if spec.model is None:
        return None
    layout = mig.layout(spec.mig, spec.model, spec.gpus)
    return Devices(spec.name, spec.model, spec.gpus, spec.config, layout)


__all__ = ["AdmissionError", "Fleet"]
