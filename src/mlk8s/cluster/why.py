"""Why a pod waits, in plain words: never fits here, or busy until something ends.

The scheduler says it in two half sentences that count nodes. :func:`why` reads the pod, the nodes
and who occupies them, says the same about each node, and keeps the message as evidence. Where the
message names a reason that this does not compute, the message leads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mlk8s.cluster import owners, placed, waiting
from mlk8s.cluster.connect import connect
from mlk8s.cluster.connection import Connection
from mlk8s.cluster.fitting import Fit
from mlk8s.cluster.requests import name
from mlk8s.errors import ClusterError
from mlk8s.provenance import Finding, Provenance, Table, labels

Object = dict[str, Any]


class Verdict(StrEnum):
    """What to make of a pod."""

    RUNS = "runs"
    DONE = "done"
    STARTING = "starting"
    BUSY = "busy"
    HELD = "held back"
    NEVER = "never fits here"
    FAILS = "fails"
    ENDING = "ending"


@dataclass(frozen=True)
class Answer:
    """One answer, with what it rests on.

    Attributes:
        subject: ``namespace/pod``, or ``namespace/kind/name`` of a workload without pods.
        verdict: the class of the answer.
        because: the reason, one sentence.
        next_step: what to do about it, one sentence.
        nodes: what each node says, when the pod is not placed.
        evidence: (what, text) as the cluster wrote it: conditions, events.
    """

    subject: str
    verdict: Verdict
    because: str
    next_step: str
    nodes: tuple[Fit, ...] = ()
    evidence: tuple[tuple[str, str], ...] = ()
    provenance: tuple[Provenance, ...] = field(default=(), compare=False)

    @property
    def text(self) -> str:
        """The answer in one line."""
        return f"{self.subject}: {self.verdict}, because {self.because} Next: {self.next_step}"

    def table(self) -> Table:
        """What each node says."""
        rows = [
            {"node": node.name, "verdict": str(node.outcome), "because": "; ".join(node.because)}
            for node in self.nodes
        ]
        return Table(rows, *self.provenance, title="Node by node")

    def as_json(self) -> Object:
        """The same as JSON values."""
        return {
            "subject": self.subject,
            "verdict": str(self.verdict),
            "because": self.because,
            "next": self.next_step,
            "nodes": [
                {"node": n.name, "verdict": str(n.outcome), "because": list(n.because)}
                for n in self.nodes
            ],
            "evidence": [{"what": what, "text": text} for what, text in self.evidence],
            "provenance": [each.as_json() for each in self.provenance],
        }

    def __repr__(self) -> str:
        lines = [self.text]
        if self.nodes:
            table = repr(self.table()).splitlines()
            lines += [f"  {line}" for line in table[: -len(labels(self.provenance))]]
        lines += [f"  {what}: {text}" for what, text in self.evidence]
        return "\n".join([*lines, *labels(self.provenance)])

    def _repr_html_(self) -> str:
        parts = [Finding(self.text, *self.provenance)._repr_html_()]
        if self.nodes:
            parts.append(self.table()._repr_html_())
        if self.evidence:
            rows = [{"evidence": what, "as the cluster wrote it": t} for what, t in self.evidence]
            parts.append(Table(rows, *self.provenance)._repr_html_())
        return "".join(parts)

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = [
            Text.assemble(f"{self.subject}: ", (str(self.verdict), "bold")),
            Text(f"because {self.because}"),
            Text.assemble(("Next: ", "bold"), self.next_step),
        ]
        if self.nodes:
            parts.append(self.table())
        parts += [Text(f"{what}: {text}", style="dim") for what, text in self.evidence]
        return Group(*parts)


def why(pod: str, connection: Connection | None = None) -> Answer:
    """Explain the present state of a pod, or of a workload by the pod that is worst off.

    Args:
        pod: ``name`` (in the labs' namespace), ``namespace/name``, or a workload that makes pods:
            ``job/name``, ``deployment/name``, ``namespace/job/name``.
        connection: the cluster; :func:`connect` when not given.

    Raises:
        ClusterError: there is no such object.
    """
    connection = connection or connect()
    wanted = owners.reference(pod, connection.namespace)
    found = owners.read(wanted, connection)
    if wanted.kind == "pod":
        return of_pod(found, connection)
    if (said := owners.state(wanted, found, connection)) is not None:
        return _answer(str(wanted), said, connection)
    worst = owners.worst_pod(wanted, found, connection)
    waits = worst is not None and worst["status"].get("phase") == "Pending"
    if not waits and (said := owners.refused(wanted, found, connection)) is not None:
        return _answer(str(wanted), said, connection)
    if worst is not None:
        return of_pod(worst, connection)
    raise ClusterError(
        f"The {wanted.kind} {wanted.name!r} in namespace {wanted.namespace!r} has no pods, and no "
        "event says why.",
        f"look at it: kubectl describe {wanted.kind} {wanted.name} -n {wanted.namespace}.",
    )


def of_pod(pod: Object, connection: Connection) -> Answer:
    """The same for a pod that has been read already."""
    ended = pod["status"].get("phase") in ("Succeeded", "Failed")
    leaving = "deletionTimestamp" in pod["metadata"]
    if pod["spec"].get("nodeName") or ended or leaving:
        return _answer(name(pod), placed.explain(pod, connection), connection)
    said, fits = waiting.explain(pod, connection)
    return _answer(name(pod), said, connection, fits)


def _answer(
    subject: str, said: placed.Found, connection: Connection, fits: tuple[Fit, ...] = ()
) -> Answer:
    return Answer(
        subject,
        Verdict(said.verdict),
        said.because,
        said.next_step,
        fits,
        said.evidence,
        (connection.provenance,),
    )
