"""mig-manager: changes a node's MIG layout when its label ``nvidia.com/mig.config`` changes.

The steps, their order and the log are those of mig-parted 0.15 (``pkg/mig/reconfigure``): check,
pause the GPU clients among the operands, wait until their pods are gone, apply, bring the clients
back, set the state. Pods of users are not waited for: the driver refuses, and the state is
``failed``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from mlk8s.sim.api import Api, DeleteOptions
from mlk8s.sim.clock import stamp
from mlk8s.sim.nodes import mig
from mlk8s.sim.nodes.labels import CLIENTS, DEPLOY, PAUSED
from mlk8s.sim.nodes.operator import NAMESPACE, PLUGIN_APP
from mlk8s.sim.nodes.state import NodeState
from mlk8s.sim.status import Object, StatusError

CONFIG = "nvidia.com/mig.config"
STATE = "nvidia.com/mig.config.state"

# Seconds. Chosen: from the label to the first action.
NOTICE_S = 1.0
# mig-parted polls for the end of pods each second, at most five minutes (reconfigure.go).
POLL_S = 1.0
PATIENCE_S = 300.0
# Chosen: switching MIG mode and creating the instances of one GPU; a few seconds on hardware.
APPLY_S = 5.0

_CLIENT_APPS = (PLUGIN_APP, "gpu-feature-discovery", "nvidia-dcgm-exporter", "nvidia-dcgm")
_VALIDATORS = ("nvidia-cuda-validator", "nvidia-device-plugin-validator")


class MigManager:
    """mig-manager on all nodes of a fleet.

    Args:
        api: the cluster.
        again: asks for :meth:`step` of a node in so many seconds.
        applied: called when a node's layout has changed.
    """

    def __init__(
        self,
        api: Api,
        again: Callable[[NodeState, float], None],
        applied: Callable[[NodeState], None],
    ) -> None:
        self.api = api
        self._again = again
        self._applied = applied
        self._running: dict[str, _Run] = {}
        self._done: dict[str, str] = {}

    def started(self, state: NodeState, name: str) -> None:
        """A node starts with a layout that is applied already."""
        self._done[state.name] = name

    def notice(self, state: NodeState, labels: dict[str, str]) -> None:
        """The node's labels changed; starts a change if another layout is wanted."""
        wanted = labels.get(CONFIG, "")
        deployed = labels.get(f"{DEPLOY}mig-manager") == "true"
        busy = state.name in self._running
        if not wanted or not deployed or busy or self._done.get(state.name) == wanted:
            return
        self._running[state.name] = _Run(wanted, self.api.clock.now())
        state.change = "check"
        self._again(state, NOTICE_S)

    def step(self, state: NodeState) -> None:
        """Do the next step of the node's change."""
        run = self._running.get(state.name)
        node = self.api.find("nodes", "", state.name)
        if run is None or node is None or state.devices is None:
            return
        labels = node["metadata"].get("labels") or {}
        match state.change:
            case "check":
                self._check(state, run, labels)
            case "stopping":
                self._await_clients(state, run)
            case "applying":
                self._apply(state, run, labels)

    # -- the steps ---------------------------------------------------------------------------

    def _check(self, state: NodeState, run: _Run, labels: dict[str, str]) -> None:
        assert state.devices is not None
        for client in CLIENTS:
            key = f"{DEPLOY}{client}"
            self._log(state, f"Current value of '{key}={labels.get(key, '')}'")
        self._log(state, f"Current value of '{STATE}={labels.get(STATE, '')}'")
        self._log(
            state,
            "Asserting that the requested configuration is present in the configuration file",
        )
        try:
            devices = state.devices
            run.layout = mig.layout(
                run.name, devices.model, len(devices.gpus), self._custom(state.name)
            )
        except mig.LayoutError as error:
            self._log(state, str(error), "fatal")
            self._finish(state, run, labels, "failed", "failed to validate MIG configuration")
            return
        self._log(state, "Selected MIG configuration is valid")
        self._log(state, "Checking if the selected MIG config is currently applied or not")
        if not devices.differing(run.layout):
            self._log(state, "Selected MIG config is already applied")
            self._finish(state, run, labels, "success")
            return
        self._log(
            state,
            "Shutting down all GPU clients in Kubernetes by disabling their component-specific "
            "nodeSelector labels",
        )
        self._label(state, {STATE: "pending", **_clients(labels, PAUSED)})
        self._log(state, "Waiting for the device-plugin to shutdown")
        state.change = "stopping"
        run.since = self.api.clock.now()
        self._again(state, POLL_S)

    def _await_clients(self, state: NodeState, run: _Run) -> None:
        assert state.devices is not None
        if list(self._pods(state.name, _CLIENT_APPS)):
            if self.api.clock.now() - run.since < PATIENCE_S:
                self._again(state, POLL_S)
                return
            # As the real one: it gives up without touching the state, which stays "pending".
            self._log(
                state,
                "failed to wait for pods to be deleted: device-plugin pod did not shutdown: "
                "context deadline exceeded",
                "error",
            )
            self._end(state, run)
            return
        self._log(state, "Removing the cuda-validator pod")
        self._log(state, "Removing the plugin-validator pod")
        self._delete(state.name, _VALIDATORS)
        self._log(
            state,
            "Applying the MIG mode change from the selected config to the node (and double "
            "checking it took effect)",
        )
        state.change = "applying"
        self._again(state, APPLY_S * max(len(state.devices.differing(run.layout)), 1))

    def _apply(self, state: NodeState, run: _Run, labels: dict[str, str]) -> None:
        devices = state.devices
        assert devices is not None
        self._log(state, "Applying the selected MIG config to the node")
        differing = devices.differing(run.layout)
        for gpu in differing:
            wanted = " ".join(f"{k}:{v}" for k, v in Counter(run.layout[gpu.index] or ()).items())
            self._log(state, f"Updating MIG config: map[{wanted}]", "debug")
            if state.host_client or devices.users([gpu]):
                # The words of the GPU Operator's troubleshooting page for a node in use.
                why = (
                    "error destroying Compute instance for profile '(0, 0)': In use by another "
                    "client"
                )
                self._log(state, f"Error clearing MigConfig: {why}", "error")
                self._log(
                    state,
                    f"Error clearing MIG config on GPU {gpu.index}, erroneous devices may persist",
                    "error",
                )
                self._refuse(state, run, labels)
                return
        try:
            devices.apply(run.layout)
        except mig.LayoutError as error:
            self._log(
                state, f"error attempting multiple config orderings: all failed: {error}", "error"
            )
            self._refuse(state, run, labels)
            return
        self._log(state, "MIG configuration applied successfully")
        self._log(state, "Restarting validator pod to re-run all validations")
        self._delete(state.name, ("nvidia-operator-validator",))
        self._applied(state)
        self._finish(state, run, labels, "success")

    def _refuse(self, state: NodeState, run: _Run, labels: dict[str, str]) -> None:
        self._finish(state, run, labels, "failed", "failed to apply MIG configuration")

    def _finish(
        self, state: NodeState, run: _Run, labels: dict[str, str], outcome: str, why: str = ""
    ) -> None:
        self._log(
            state,
            "Restarting any GPU clients previously shutdown in Kubernetes by reenabling their "
            "component-specific nodeSelector labels",
        )
        self._log(state, f"Changing the '{STATE}' node label to '{outcome}'")
        if why:
            self._log(state, f"Error: {why}: exit status 1", "error")
        self._label(state, {**_clients(labels, "true"), STATE: outcome})
        self._end(state, run)

    def _end(self, state: NodeState, run: _Run) -> None:
        state.change = ""
        self._running.pop(state.name, None)
        self._done[state.name] = run.name
        # The label may have been changed meanwhile: only its last value counts.
        node = self.api.find("nodes", "", state.name)
        if node is not None:
            self.notice(state, node["metadata"].get("labels") or {})

    # -- helpers -----------------------------------------------------------------------------

    def _custom(self, node: str) -> str:
        """The administrator's mig-parted file, where the ClusterPolicy names a ConfigMap."""
        policy = self.api.find("clusterpolicies.nvidia.com", "", "cluster-policy")
        manager = (policy or {}).get("spec", {}).get("migManager") or {}
        name = (manager.get("config") or {}).get("name") or f"{node}-mig-config"
        found = self.api.find("configmaps", NAMESPACE, name)
        text: str = ((found or {}).get("data") or {}).get("config.yaml", "")
        return text

    def _label(self, state: NodeState, labels: dict[str, str]) -> None:
        def write(node: Object) -> None:
            node["metadata"].setdefault("labels", {}).update(labels)

        self.api.change("nodes", "", state.name, write)

    def _pods(self, node: str, apps: tuple[str, ...]) -> list[Object]:
        return [
            pod
            for pod in self.api.store.pods_on(node)
            if pod["metadata"].get("namespace") == NAMESPACE
            and (pod["metadata"].get("labels") or {}).get("app") in apps
        ]

    def _delete(self, node: str, apps: tuple[str, ...]) -> None:
        for pod in self._pods(node, apps):
            name = pod["metadata"]["name"]
            try:
                self.api.delete("pods", NAMESPACE, name, DeleteOptions(uid=pod["metadata"]["uid"]))
            except StatusError as error:
                if error.code not in (404, 409):
                    raise

    def _log(self, state: NodeState, message: str, level: str = "info") -> None:
        moment = stamp(self.api.clock.now())
        state.journal.append(f'time="{moment}" level={level} msg="{message}"')


class _Run:
    """One change of one node's layout."""

    def __init__(self, name: str, since: float) -> None:
        self.name = name
        self.since = since
        self.layout: list[mig.Wanted] = []


def _clients(labels: dict[str, Any], value: str) -> dict[str, str]:
    """The clients' labels; one that somebody set to ``false`` stays so."""
    keys = [f"{DEPLOY}{client}" for client in CLIENTS]
    return {key: value for key in keys if labels.get(key, "false") != "false"}
