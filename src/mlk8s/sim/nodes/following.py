"""What the GPU Operator follows while a cluster runs: labels of nodes, and its ClusterPolicy."""

from __future__ import annotations

from mlk8s.sim.api import Api
from mlk8s.sim.nodes import labels as names
from mlk8s.sim.nodes import operator
from mlk8s.sim.nodes.state import NodeState
from mlk8s.sim.status import Object


def features(api: Api, state: NodeState) -> None:
    """Label a node in which Node Feature Discovery has found a GPU, and no other.

    The rule is that of ``labelGPUNodes`` (``controllers/state_manager.go``).
    """
    assert state.spec.model is not None
    ours = names.deployed(state.spec.model, bool(state.spec.dra))

    def write(node: Object) -> None:
        labels = node["metadata"].setdefault("labels", {})
        if names.found(labels):
            # What somebody has set to another value stays so.
            labels |= {key: value for key, value in ours.items() if key not in labels}
            labels[names.PRESENT] = "true"
        elif labels.get(names.PRESENT) == "true":
            for key in ours:
                labels.pop(key, None)
            labels[names.PRESENT] = "false"

    api.change("nodes", "", state.name, write)


def policy(api: Api, first_strategy: str) -> None:
    """Write what the ClusterPolicy says into the DaemonSets, which roll.

    Args:
        api: the cluster.
        first_strategy: the MIG strategy where the policy names none.
    """
    spec = (api.find(operator.POLICIES, "", operator.POLICY) or {}).get("spec") or {}
    strategy = (spec.get("mig") or {}).get("strategy") or first_strategy
    config = (spec.get("devicePlugin") or {}).get("config") or {}
    plugin = operator.configuration(strategy, config.get("name") or "", config.get("default") or "")
    environments = dict.fromkeys(operator.CONFIGURED, plugin)
    environments[operator.TOOLKIT_APP] = (spec.get("toolkit") or {}).get("env") or []
    for name, environment in environments.items():
        _set(api, name, environment)


def _set(api: Api, name: str, environment: list[Object]) -> None:
    def write(daemon_set: Object) -> None:
        daemon_set["spec"]["template"]["spec"]["containers"][0]["env"] = environment

    api.change("daemonsets.apps", operator.NAMESPACE, name, write)
