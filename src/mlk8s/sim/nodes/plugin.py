"""The device plugin and GPU Feature Discovery on all nodes: from their pods to a node's status.

A plugin serves while its pod runs. It reads its configuration when it starts, and when
config-manager signals it because the node's label chose another key; at no other time.
"""

from __future__ import annotations

from mlk8s.sim.api import Api
from mlk8s.sim.events import Recorder
from mlk8s.sim.nodes import labels as names
from mlk8s.sim.nodes import operator
from mlk8s.sim.nodes.config import ConfigError, PluginConfig, parse
from mlk8s.sim.nodes.state import NodeState
from mlk8s.sim.status import Object


def operands(api: Api, node: str, app: str = operator.PLUGIN_APP) -> list[Object]:
    """The pods of one operand on a node."""
    return [
        pod
        for pod in api.store.pods_on(node)
        if pod["metadata"].get("namespace") == operator.NAMESPACE
        and (pod["metadata"].get("labels") or {}).get("app") == app
    ]


def running_operand(api: Api, node: str, app: str = operator.PLUGIN_APP) -> Object | None:
    """The pod of one operand that runs on a node."""
    return next((pod for pod in operands(api, node, app) if _serves(pod)), None)


class Plugins:
    """The device plugins of a fleet.

    Args:
        api: the cluster.
        recorder: for events.
        first_strategy: the MIG strategy that the ClusterPolicy starts with; while it has that, a
            node keeps the one that it started with.
    """

    def __init__(self, api: Api, recorder: Recorder, first_strategy: str) -> None:
        self.api = api
        self.recorder = recorder
        self.first_strategy = first_strategy

    def look_at(self, state: NodeState) -> None:
        """The device plugin's pod came or went."""
        if state.devices is None or state.spec.dra:
            return
        broken = any(still() for still in state.broken.values())
        running = None if broken else running_operand(self.api, state.name)
        if running is not None:
            if running["metadata"]["uid"] != state.plugin:
                state.plugin = running["metadata"]["uid"]
                self.register(state)
        elif state.plugin:
            self.stop(state)

    def stop(self, state: NodeState) -> None:
        """The device plugin no longer serves: allocatable is 0 until one starts."""
        if state.devices is not None:
            state.plugin = ""
            state.devices.unregister()
            self.write(state)

    def register(self, state: NodeState) -> None:
        """The device plugin starts: it reads its configuration, and the kubelet its devices."""
        if state.devices is None or state.spec.dra:
            return
        state.devices.register(self._config(state))
        self.write(state)
        self._relabel(state)

    def _config(self, state: NodeState) -> PluginConfig:
        assert state.devices is not None
        spec = (self.api.find(operator.POLICIES, "", operator.POLICY) or {}).get("spec") or {}
        strategy = (spec.get("mig") or {}).get("strategy") or self.first_strategy
        if strategy == self.first_strategy:
            strategy = state.spec.strategy
        config = (spec.get("devicePlugin") or {}).get("config") or {}
        node = self.api.find("nodes", "", state.name) or {"metadata": {}}
        labels = node["metadata"].get("labels") or {}
        key = labels.get(operator.PLUGIN_LABEL) or config.get("default") or ""
        if not config.get("name") or not key:
            return PluginConfig(strategy)
        found = self.api.find("configmaps", operator.NAMESPACE, config["name"]) or {}
        text = (found.get("data") or {}).get(key)
        if text is None:
            self._complain(state, f"specified config {key} does not exist")
            return state.devices.config
        try:
            return parse(text, strategy)
        except ConfigError as error:
            self._complain(state, str(error))
            return state.devices.config

    def _complain(self, state: NodeState, message: str) -> None:
        for pod in operands(self.api, state.name):
            self.recorder.event(pod, "Warning", "ConfigError", message, "config-manager")

    def write(self, state: NodeState) -> None:
        """Bring the node's capacity and allocatable up to date."""
        assert state.devices is not None
        capacity, allocatable = state.devices.resources()

        def write(node: Object) -> None:
            node["status"]["capacity"] |= capacity
            node["status"]["allocatable"] |= allocatable

        self.api.change("nodes", "", state.name, write, subresource="status")

    def _relabel(self, state: NodeState) -> None:
        assert state.devices is not None
        found = names.discovered(state.devices, state.spec.machine, self.api.clock.now())
        unstamped = {k: v for k, v in found.items() if k != names.STAMP}
        if unstamped == {k: v for k, v in state.gfd.items() if k != names.STAMP}:
            return
        gone = state.gfd.keys() - found.keys()
        state.gfd = found

        def write(node: Object) -> None:
            labels = node["metadata"].setdefault("labels", {})
            for key in gone:
                labels.pop(key, None)
            labels |= found

        self.api.change("nodes", "", state.name, write)


def _serves(pod: Object) -> bool:
    """Whether an operand's pod runs its program."""
    status = pod.get("status") or {}
    states = status.get("containerStatuses") or ()
    return (
        status.get("phase") == "Running"
        and "deletionTimestamp" not in pod["metadata"]
        and all("running" in (each.get("state") or {}) for each in states)
    )
