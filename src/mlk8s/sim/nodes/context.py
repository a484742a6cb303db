"""What a fault needs to act, and what it takes to undo it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mlk8s.sim.api import Api
from mlk8s.sim.events import Recorder
from mlk8s.sim.nodes.fleet import Fleet
from mlk8s.sim.nodes.interference import Interference, Match, Stage
from mlk8s.sim.nodes.operator import NAMESPACE, PLUGIN_APP, TOOLKIT_APP
from mlk8s.sim.nodes.plugin import running_operand
from mlk8s.sim.nodes.state import NodeState
from mlk8s.sim.status import Object, StatusError

OPERANDS = (
    PLUGIN_APP,
    "gpu-feature-discovery",
    "nvidia-dcgm-exporter",
    "nvidia-mig-manager",
    "nvidia-operator-validator",
)

# The container of the device plugin's pods.
PLUGIN = "nvidia-device-plugin"


def has_plugin(state: NodeState) -> bool:
    """Whether a device plugin serves the node's GPUs."""
    return state.devices is not None and not state.spec.dra


class Context:
    """One fault that is on: where it acts, what it changed.

    Args:
        api: the cluster.
        recorder: for events.
        fleet: the nodes.
        fault: its name.
        states: the nodes that it concerns.
    """

    def __init__(
        self, api: Api, recorder: Recorder, fleet: Fleet, fault: str, states: Sequence[NodeState]
    ) -> None:
        self.api = api
        self.recorder = recorder
        self.fleet = fleet
        self.fault = fault
        self.states = list(states)
        self.nodes = frozenset(state.name for state in states)
        self.interferences: list[Interference] = []
        self.on = True
        self._undo: list[Callable[[], None]] = []
        self._restart: list[str] = []

    # -- acting ------------------------------------------------------------------------------

    def interfere(
        self,
        stage: Stage,
        match: Match,
        reason: str = "",
        message: str = "",
        lines: Sequence[str] = (),
        exit_code: int | None = 1,
        container: str = "",
    ) -> None:
        """Let the kubelet do something else to pods; a log says first that it is scripted."""
        if lines:
            mark = f"# scripted by mlk8s, fault {self.fault}: no GPU software ran here"
            lines = (mark, *lines)
        self.interferences.append(
            Interference(
                self.fault, stage, match, reason, message, tuple(lines), exit_code, container
            )
        )

    def undo(self, action: Callable[[], None]) -> None:
        """Call this when the fault is switched off; the last one first."""
        self._undo.append(action)

    def label(self, state: NodeState, labels: Mapping[str, str | None]) -> None:
        """Set labels of a node, or remove them; their old values come back later."""
        before: dict[str, str | None] = {}

        def write(node: Object) -> None:
            present = node["metadata"].setdefault("labels", {})
            for key, value in labels.items():
                before[key] = present.get(key)
                _set(present, key, value)

        def restore(node: Object) -> None:
            present = node["metadata"].setdefault("labels", {})
            for key, value in before.items():
                # What somebody has changed meanwhile is theirs.
                if present.get(key) == labels[key]:
                    _set(present, key, value)

        self.api.change("nodes", "", state.name, write)
        self.undo(lambda: self._change("nodes", state.name, restore))

    def restart(self, *apps: str) -> None:
        """Once the fault is on, and again when it is off, delete operands' pods on its nodes."""
        self._restart += apps

    def break_plugin(self, state: NodeState, still: Callable[[], bool] = lambda: True) -> None:
        """The device plugin does not serve, whatever its pod looks like.

        Args:
            state: of the node.
            still: whether the cause is there; asked when a pod of the plugin has started.
        """
        state.broken[self.fault] = still
        self.fleet.plugins.stop(state)

        def mend() -> None:
            state.broken.pop(self.fault)
            self.fleet.enqueue(("plugin", state.name))

        self.undo(mend)

    def toolkit(self, node: str) -> dict[str, str]:
        """The variables of the container toolkit that runs on a node; empty where none runs."""
        pod = running_operand(self.api, node, TOOLKIT_APP)
        [container] = pod["spec"]["containers"] if pod else [{}]
        return {each["name"]: each.get("value", "") for each in container.get("env") or ()}

    def create(self, key: str, obj: Object) -> None:
        """Create an object that goes with the fault."""
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        if self.api.store.raw(key, namespace, name) is None:
            self.api.create(key, obj, namespace)
            self.undo(lambda: self.delete(key, namespace, name))

    def delete(self, key: str, namespace: str, name: str) -> None:
        """Delete an object that may be gone."""
        try:
            self.api.delete(key, namespace, name)
        except StatusError as error:
            if error.code != 404:
                raise

    def restart_operands(self) -> None:
        """Delete the pods that are to show the fault, or that it is over."""
        for state in self.states:
            for app in self._restart:
                self.fleet.restart(state.name, app)

    def revert(self) -> None:
        """Undo everything."""
        self.on = False
        for action in reversed(self._undo):
            action()
        self.restart_operands()

    def _change(self, key: str, name: str, mutate: Callable[[Object], None]) -> None:
        self.api.change(key, "", name, mutate)

    # -- matching ----------------------------------------------------------------------------

    def operand(self, *apps: str) -> Match:
        """Matches the pods of operands on the fault's nodes."""

        def match(pod: Object) -> bool:
            metadata = pod["metadata"]
            return (
                self._here(pod)
                and metadata.get("namespace") == NAMESPACE
                and (metadata.get("labels") or {}).get("app") in apps
            )

        return match

    def gpu_pod(self, pod: Object) -> bool:
        """Whether a pod on the fault's nodes asks for a GPU, and is not the operator's."""
        if not self._here(pod) or pod["metadata"].get("namespace") == NAMESPACE:
            return False
        spec = pod["spec"]
        if spec.get("resourceClaims"):
            return True
        containers = [*spec["containers"], *(spec.get("initContainers") or ())]
        return any(
            name.startswith("nvidia.com/")
            for each in containers
            for name in (each.get("resources") or {}).get("limits") or ()
        )

    def nvidia_runtime(self, pod: Object) -> bool:
        """Whether a pod on the fault's nodes asks for the runtime nvidia."""
        return self._here(pod) and pod["spec"].get("runtimeClassName") == "nvidia"

    def anything(self, pod: Object) -> bool:
        """Every pod on the fault's nodes."""
        return self._here(pod)

    def _here(self, pod: Object) -> bool:
        return pod["spec"].get("nodeName") in self.nodes


def _set(labels: dict[str, str], key: str, value: str | None) -> None:
    if value is None:
        labels.pop(key, None)
    else:
        labels[key] = value
