"""What the fleet remembers of a node beside the objects in the API."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from mlk8s.sim.nodes.devices import Devices
from mlk8s.sim.nodes.spec import NodeSpec

# Lines of mig-manager's log that are kept.
_JOURNAL = 500


def never() -> bool:
    """A condition that does not hold."""
    return False


@dataclass
class NodeState:
    """A node that the fleet serves.

    Attributes:
        index: its number in the cluster.
        devices: ``None`` where it has no GPU.
        plugin: uid of the device-plugin pod that runs; ``""`` before the first one does.
        broken: the faults that keep its device plugin from serving, each as long as it says so.
        gfd: the labels that GPU Feature Discovery wrote last.
        change: what mig-manager is doing.
        journal: mig-manager's log.
        host_client: whether a process outside Kubernetes uses the GPUs.
        generation: of its DRA pool.
        slices: names of its ResourceSlices.
        hidden: whether the DRA driver publishes nothing.
        smi_error: what ``nvidia-smi`` says instead of its table.
        smi_code: its exit code then.
        smi_pods: uids of the only pods where it says so; ``None``: everywhere.
        leaks: says whether containers without a request see all GPUs.
        reports: uid of an operand's pod → what it has logged.
    """

    spec: NodeSpec
    index: int
    devices: Devices | None
    plugin: str = ""
    broken: dict[str, Callable[[], bool]] = field(default_factory=dict)
    gfd: dict[str, str] = field(default_factory=dict)
    change: str = ""
    journal: deque[str] = field(default_factory=lambda: deque(maxlen=_JOURNAL))
    host_client: bool = False
    generation: int = 0
    slices: list[str] = field(default_factory=list)
    hidden: bool = False
    smi_error: str = ""
    smi_code: int = 0
    smi_pods: frozenset[str] | None = None
    leaks: Callable[[], bool] = never
    reports: dict[str, list[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The node's name."""
        return self.spec.name
