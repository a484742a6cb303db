"""Faults that can be switched on by name, each with its symptom as an operator would see it.

A fault changes what it can through the API (labels, allocatable, conditions, slices); what
happens inside a pod it leaves to the kubelet, which asks :meth:`Faults.of` at each stage of a
pod's way. The texts are in ``nodes/faults.yaml``, what each fault does in ``nodes/effects``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from mlk8s.sim.api import Api
from mlk8s.sim.events import Recorder
from mlk8s.sim.nodes.context import Context
from mlk8s.sim.nodes.effects import EFFECTS
from mlk8s.sim.nodes.fleet import Fleet
from mlk8s.sim.nodes.interference import Interference, Stage
from mlk8s.sim.nodes.operator import INIT_CONTAINERS, NAMESPACE
from mlk8s.sim.status import Object, bad_request
from mlk8s.sim.trouble import Trouble, rows


@dataclass(frozen=True, kw_only=True)
class Fault(Trouble):
    """A trouble that can be switched on.

    Attributes:
        title: what has gone wrong, which a reader is to find out.
        scripted: whether a log is all there is, because the real effect needs a GPU.
        nodes: the preset to practise on; empty where the usual one has what it needs.
    """

    title: str
    scripted: bool = False
    nodes: str = ""


def _read() -> dict[str, Fault]:
    text = resources.files("mlk8s.sim.nodes").joinpath("faults.yaml").read_text("utf-8")
    return {row["name"]: Fault(**row) for row in rows(text)}


FAULTS: dict[str, Fault] = _read()


class Faults:
    """The faults of one cluster.

    Args:
        api: the cluster.
        recorder: for events.
        fleet: the nodes.

    Attributes:
        interferences: what the kubelet does otherwise, the first match counts; the last ones are
            always there: the init containers of the operands find what they wait for.
    """

    def __init__(self, api: Api, recorder: Recorder, fleet: Fleet) -> None:
        self.api = api
        self.recorder = recorder
        self.fleet = fleet
        self._active: dict[str, Context] = {}
        self._usual = [
            Interference("", "run", _is_operand, reason="Completed", exit_code=0, container=name)
            for name in INIT_CONTAINERS
        ]
        self.interferences: list[Interference] = list(self._usual)

    def on(self, name: str, node: str | None = None) -> None:
        """Switch a fault on; nothing happens where it is on already.

        Args:
            name: a key of :data:`FAULTS`.
            node: the only node that it concerns; else all that it can concern.

        Raises:
            StatusError: 400: no such fault or node, or no node that it can happen to.
        """
        if name not in FAULTS:
            raise bad_request(f"there is no fault {name!r}; there are: {', '.join(FAULTS)}")
        if name in self._active:
            return
        if node is not None and node not in self.fleet.states:
            known = ", ".join(self.fleet.states) or "none"
            raise bad_request(f"fault {name}: there is no node {node!r}; there are: {known}")
        effect = EFFECTS[name]
        chosen = [
            state
            for state in self.fleet.states.values()
            if node in (None, state.name) and effect.suits(state)
        ]
        if not chosen:
            where = f"node {node} is not one" if node else "this cluster has none"
            raise bad_request(f"fault {name} needs {effect.needs}; {where}")
        context = Context(self.api, self.recorder, self.fleet, name, chosen)
        effect.apply(context)
        self._active[name] = context
        self._collect()
        context.restart_operands()

    def off(self, name: str) -> None:
        """Switch a fault off and put right what it had put wrong; harmless when it is not on."""
        context = self._active.pop(name, None)
        if context is not None:
            self._collect()
            context.revert()

    def active(self) -> list[str]:
        """The names of the faults that are on, in the order in which they were switched on."""
        return list(self._active)

    def of(self, pod: Object, stage: Stage, container: str = "") -> Interference | None:
        """The first interference that concerns a pod (and container) at a stage."""
        for each in self.interferences:
            if each.stage == stage and each.container in ("", container) and each.match(pod):
                return each
        return None

    def _collect(self) -> None:
        found = [each for context in self._active.values() for each in context.interferences]
        self.interferences = found + self._usual


def _is_operand(pod: Object) -> bool:
    return bool(pod["metadata"].get("namespace") == NAMESPACE)


__all__ = ["FAULTS", "Fault", "Faults", "Interference", "Stage"]
