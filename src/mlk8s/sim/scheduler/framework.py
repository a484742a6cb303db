"""What the scheduler's plugins are given and what they answer.

The names are those of ``pkg/scheduler/framework``. The extension points run in this order: for
each pod ``pre_enqueue``; in a scheduling cycle ``pre_filter``, ``filter``, ``post_filter`` when no
node is left, ``pre_score``, ``score``, ``normalize``, ``reserve``; then, in the binding cycle,
``pre_bind``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from mlk8s.sim.scheduler.podinfo import PodInfo, amounts
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change

MAX_SCORE = 100


class Code(Enum):
    """The outcome of one plugin."""

    SUCCESS = "Success"
    # Another pod leaving could help.
    UNSCHEDULABLE = "Unschedulable"
    # No preemption on this node would help.
    UNRESOLVABLE = "UnschedulableAndUnresolvable"
    # The plugin has nothing to say about this pod: its filter (or score) is not called.
    SKIP = "Skip"
    # From ``pre_bind`` alone: not there yet; it is asked again a little later.
    WAIT = "Wait"


@dataclass(frozen=True)
class Verdict:
    """A plugin's answer for one pod, for one node or (``pre_filter``) for all.

    Attributes:
        reasons: each becomes a counted part of the message, such as ``Insufficient cpu``.
        plugin: who said it; the scheduler fills it in where it is empty.
        nodes: with SUCCESS from ``pre_filter``: no other nodes can do.
    """

    code: Code
    reasons: tuple[str, ...] = ()
    plugin: str = ""
    nodes: frozenset[str] | None = None

    @property
    def rejected(self) -> bool:
        """Whether it keeps the pod from the node."""
        return self.code in (Code.UNSCHEDULABLE, Code.UNRESOLVABLE)

    @property
    def message(self) -> str:
        """The reasons in one line."""
        return ", ".join(self.reasons)


SKIPPED = Verdict(Code.SKIP)


# Of one scheduling cycle, shared by the plugins; a plugin keeps its own under its name. ``"pod"``
# is the pod's :class:`PodInfo`. For a dry run of preemption it is copied: values with a ``clone``
# method are cloned, all others shared.
State: TypeAlias = dict[str, Any]


def clone_state(state: State) -> State:
    """A copy for a node on which pods are added or removed."""
    return {
        key: value.clone() if hasattr(value, "clone") else value for key, value in state.items()
    }


@dataclass
class NodeInfo:
    """A node with the pods on it, and their requests added up.

    All amounts are ``int`` in the scheduler's units: CPU in thousandths of a core, memory and
    ephemeral storage in bytes, others in pieces (``podinfo.amounts``, rounded up as upstream).

    Attributes:
        allocatable: by resource name; ``pods`` among them.
        requested: by resource name, without ``pods``, which is ``len(pods)``.
        nonzero_cpu: as requested, with 100m for each container that asks for none.
        nonzero_memory: as requested, with 200 MiB for each container that asks for none.
        pods: uid → :class:`PodInfo` (not the object), also those assumed but not yet bound.
        host_ports: (ip, protocol, port) in use, with how often.
        images: image name → its size in bytes.
        hard_taints: those with the effect NoSchedule or NoExecute.
        soft_taints: those with the effect PreferNoSchedule.
    """

    node: Object
    allocatable: dict[str, int] = field(default_factory=dict)
    requested: dict[str, int] = field(default_factory=dict)
    nonzero_cpu: int = 0
    nonzero_memory: int = 0
    pods: dict[str, PodInfo] = field(default_factory=dict)
    host_ports: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    images: dict[str, int] = field(default_factory=dict)
    name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    hard_taints: list[Object] = field(default_factory=list)
    soft_taints: list[Object] = field(default_factory=list)
    unschedulable: bool = False

    def __post_init__(self) -> None:
        self.set_node(self.node)

    def set_node(self, node: Object) -> None:
        """Take over another state of the node; pods stay."""
        self.node = node
        self.name = node["metadata"]["name"]
        self.labels = node["metadata"].get("labels") or {}
        status = node.get("status") or {}
        self.allocatable = amounts(status.get("allocatable") or {})
        self.images = {
            name: int(image.get("sizeBytes", 0))
            for image in status.get("images") or ()
            for name in image.get("names") or ()
        }
        spec = node.get("spec") or {}
        taints = spec.get("taints") or ()
        hard = ("NoSchedule", "NoExecute")
        self.hard_taints = [taint for taint in taints if taint["effect"] in hard]
        self.soft_taints = [taint for taint in taints if taint["effect"] not in hard]
        self.unschedulable = bool(spec.get("unschedulable"))

    def add_pod(self, info: PodInfo) -> None:
        """Count a pod that is not yet here."""
        self.pods[info.uid] = info
        for name, amount in info.requests.items():
            self.requested[name] = self.requested.get(name, 0) + amount
        self.nonzero_cpu += info.nonzero_cpu
        self.nonzero_memory += info.nonzero_memory
        for port in info.host_ports:
            self.host_ports[port] += 1

    def remove_pod(self, uid: str) -> PodInfo | None:
        """No longer count a pod; ``None`` when it is not here."""
        info = self.pods.pop(uid, None)
        if info is None:
            return None
        for name, amount in info.requests.items():
            self.requested[name] -= amount
        self.nonzero_cpu -= info.nonzero_cpu
        self.nonzero_memory -= info.nonzero_memory
        for port in info.host_ports:
            self.host_ports[port] -= 1
            if not self.host_ports[port]:
                del self.host_ports[port]
        return info

    def clone(self) -> NodeInfo:
        """A copy on which pods can be added and removed."""
        copied = NodeInfo.__new__(NodeInfo)
        copied.__dict__.update(self.__dict__)
        copied.requested = dict(self.requested)
        copied.pods = dict(self.pods)
        copied.host_ports = self.host_ports.copy()
        return copied


class Plugin:
    """One concern of scheduling; override what applies.

    Attributes:
        name: as in upstream's default profile.
        weight: what its score counts; 0 for plugins that do not score.
    """

    name = ""
    weight = 0

    def pre_enqueue(self, pod: Object) -> Verdict | None:
        """Whether the pod may be tried at all; a rejected one waits, without an event.

        Asked when the pod comes, when it changes, and when :meth:`may_help` is true for a change.
        """
        return None

    def may_help(self, pod: Object, change: Change) -> bool:
        """Whether a change is a reason to try again a pod that this plugin turned down.

        The queueing hint; called for changes of all resources. Being true too often costs time,
        being false wrongly makes a pod wait up to five minutes. ``change.object`` and
        ``change.old`` are shared: not to be changed.
        """
        return True

    def pre_filter(self, state: State, pod: Object, nodes: list[NodeInfo]) -> Verdict | None:
        """Look at the pod once.

        Returns:
            A rejection ends the cycle for all nodes: its message becomes ``0/n nodes are
            available: <message>.``, and preemption is tried when its code is UNSCHEDULABLE. SKIP
            (:data:`SKIPPED`) means that the plugin's filter is not called for this pod, nor its
            score, unless it has a ``pre_score`` to decide that; ``post_filter``, ``reserve`` and
            ``pre_bind`` are. SUCCESS with ``nodes`` narrows the search.
        """
        return None

    def add_pod(self, state: State, pod: Object, added: PodInfo, node: NodeInfo) -> None:
        """What ``pre_filter`` found changes because a pod is assumed on a node (cloned state)."""

    def remove_pod(self, state: State, pod: Object, removed: PodInfo, node: NodeInfo) -> None:
        """What ``pre_filter`` found changes because a pod is assumed gone (cloned state)."""

    def filter(self, state: State, pod: Object, node: NodeInfo) -> Verdict | None:
        """Whether the pod can run on the node; ``None`` is yes."""
        return None

    def post_filter(self, state: State, pod: Object, verdicts: Mapping[str, Verdict]) -> str | None:
        """No node is left: do what may make room, and say what was done.

        Called for each plugin in order, before preemption; also after a rejecting ``pre_filter``
        (of any plugin), with the same verdict for each node.

        Args:
            state: of this cycle; what ``pre_filter`` put there, if it came that far.
            pod: the pod.
            verdicts: node name → the first rejection.

        Returns:
            Text for the message, before ``, preemption: …``, such as ``no new claims to
            deallocate``; ``None`` when the plugin takes no part.
        """
        return None

    def pre_score(self, state: State, pod: Object, nodes: list[NodeInfo]) -> Verdict | None:
        """Prepare scoring of these nodes, which passed; SKIP leaves the plugin's score out."""
        return None

    def score(self, state: State, pod: Object, node: NodeInfo) -> int:
        """How good the node is, before normalization."""
        return 0

    def normalize(self, state: State, pod: Object, scores: dict[str, int]) -> None:
        """Bring the scores, by node name, in place to 0 … :data:`MAX_SCORE`."""

    def reserve(self, state: State, pod: Object, node: NodeInfo) -> Verdict | None:
        """Claim what the pod needs on the chosen node, in memory."""
        return None

    def unreserve(self, state: State, pod: Object, node: NodeInfo) -> None:
        """Undo :meth:`reserve`; called in reverse order, also when a later plugin refused."""

    def will_pre_bind(self, state: State, pod: Object, node: NodeInfo) -> bool:
        """Whether :meth:`pre_bind` has something to write for this pod.

        Upstream's ``PreBindPreFlight``. When it has, the pod is bound in a binding cycle of its
        own, a little later, while other pods are tried; else at once.
        """
        return False

    def pre_bind(self, state: State, pod: Object, node: NodeInfo) -> Verdict | None:
        """Write to the API what has to be there before the pod is bound."""
        return None


def default_normalize(scores: dict[str, int], reverse: bool = False) -> None:
    """Scale to 0 … 100 by the highest, as ``helper.DefaultNormalizeScore``."""
    highest = max(scores.values(), default=0)
    for name, score in scores.items():
        if not highest:
            scores[name] = MAX_SCORE if reverse else 0
            continue
        scaled = MAX_SCORE * score // highest
        scores[name] = MAX_SCORE - scaled if reverse else scaled
