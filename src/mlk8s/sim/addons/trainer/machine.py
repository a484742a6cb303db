"""The pods of a JobSet are processes of one machine, without the network that pods have.

So that torchrun finds its peers, the three variables that depend on it are set in the pod when it
is made; TrainJob, JobSet and Job keep what they have in a real cluster. The pod says so itself, in
an annotation that names these variables.
"""

from __future__ import annotations

from collections.abc import Iterator

from mlk8s.sim.addons.base import Hook
from mlk8s.sim.addons.machine import note
from mlk8s.sim.addons.trainer import names, plan
from mlk8s.sim.api import Api
from mlk8s.sim.ports import TRAINING, free_port
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object

_LOCAL = "127.0.0.1"


class PodHook(Hook):
    """Gives each JobSet a port of this machine, and its pods the address.

    Args:
        api: knows which JobSets there are.
    """

    def __init__(self, api: Api) -> None:
        self.api = api
        self._ports: dict[tuple[str, str], tuple[str, int]] = {}

    def mutate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Set the variables of a new pod."""
        metadata = obj["metadata"]
        labels = metadata.get("labels") or {}
        uid, jobset = labels.get(names.JOBSET_UID), labels.get(names.JOBSET_NAME)
        if op != "CREATE" or resource.key != "pods" or not uid or not jobset:
            return
        changed = [
            variable["name"]
            for container in obj["spec"].get("containers") or ()
            for variable in self._adapt(container, (metadata["namespace"], jobset), uid)
        ]
        note(obj, changed)

    def _adapt(self, container: Object, where: tuple[str, str], uid: str) -> Iterator[Object]:
        for variable in container.get("env") or ():
            name, value = variable.get("name"), variable.get("value")
            if name == names.MASTER_ADDRESS:
                variable["value"] = _LOCAL
            elif name == names.MASTER_PORT:
                variable["value"] = str(self._port(where, uid))
            elif name == names.PROCESSES and value == "auto":
                # torchrun would count the GPUs of this machine, or its CPUs.
                variable["value"] = str(plan.gpus(container.get("resources") or {}))
            else:
                continue
            yield variable

    def _port(self, where: tuple[str, str], uid: str) -> int:
        """The port of a JobSet: the same for all its pods, and nobody else's."""
        known = self._ports.get(where)
        if known is not None and known[0] == uid:
            return known[1]
        there = set(self.api.store.keys(names.JOBSETS))
        self._ports = {key: each for key, each in self._ports.items() if key in there}
        taken = {port for _, port in self._ports.values()}
        port = free_port(TRAINING, uid, taken)
        self._ports[where] = (uid, port)
        return port
