"""What must be equal between Kubernetes and the embedded cluster, and what may differ.

Scheduling (:func:`scheduling`): everything that a scenario's steps noted, with these exceptions,
in which two runs of Kubernetes differ too:

- names that end in a generated part: of the pods and ReplicaSets of the scenario's Deployments and
  Jobs only the given part is compared;
- uids in messages;
- nodes that were equal to the scheduler: where it had no preference among some nodes for a pod
  (``best`` in ``cluster.explain``, the highest total score), these nodes may be exchanged for each
  other, but then throughout: in all pods and all messages of the scenario;
- the order of events, and of pods that only their generated names told apart.

kubectl (:func:`commands`): return code, standard output and standard error of each command, after
uids, hashes, ages, times, versions of objects and addresses were replaced. Blanks are counted only
in lines without an age, since a longer age moves the columns behind it.

The Python client (:func:`calls`): what each call returned, or its status, reason and message, after
uids, times, versions of objects and generated names were replaced.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Object = dict[str, Any]


def scheduling(
    real: list[Object], ours: list[Object], ties: Iterable[frozenset[str]] = ()
) -> list[str]:
    """How two plays of a scenario differ; nothing when they agree.

    Args:
        real: the steps as Kubernetes played them.
        ours: the steps as the embedded cluster did.
        ties: nodes that may stand for each other.
    """
    if len(real) != len(ours):
        return [f"{len(real)} steps, and here {len(ours)}"]
    real, ours = _without_generated(real), _without_generated(ours)
    attempts = []
    for exchange in _exchanges(ties):
        pairs = zip(real, _exchanged(ours, exchange), strict=True)
        attempts.append(
            [
                f"step {number}: {difference}"
                for number, (one, other) in enumerate(pairs, 1)
                for difference in _step(one, other)
            ]
        )
    return min(attempts, key=len)


def commands(real: list[Object], ours: list[Object]) -> dict[str, str]:
    """How the commands differ, each with its number and text."""
    found = {}
    for number, (one, other) in enumerate(zip(real, ours, strict=True), 1):
        assert one["command"] == other["command"]
        parts = [
            f"{part}: {_show(one.get(part))}, and here {_show(other.get(part))}"
            for part in ("rc", "stdout", "stderr")
            if _blanks(one.get(part)) != _blanks(other.get(part))
        ]
        if parts:
            found[f"{number} {one['command']}"] = "; ".join(parts)
    return found


def calls(real: Iterable[Mapping[str, Object]], ours: Mapping[str, Object]) -> dict[str, str]:
    """How the calls differ from all recordings.

    Args:
        real: recordings; where they differ from each other, each of them will do.
        ours: the calls' outcomes by name.
    """
    recordings = list(real)
    found = {}
    for name in dict.fromkeys(itertools.chain(ours, *recordings)):
        answers = [recording.get(name) for recording in recordings]
        if ours.get(name) not in answers:
            shown = " or ".join(dict.fromkeys(_show(answer) for answer in answers))
            found[name] = f"{shown}, and here {_show(ours.get(name))}"
    return found


# -- the steps of a scenario -----------------------------------------------------------------------


def _step(real: Object, ours: Object) -> Iterator[str]:
    if real["did"] != ours["did"]:
        yield f"did {_show(real['did'])}, and here {_show(ours['did'])}"
    for part in ("pods", "events", "quotas"):
        wanted = Counter(_show(one) for one in real.get(part, []))
        found = Counter(_show(one) for one in ours.get(part, []))
        for one in (wanted - found).elements():
            yield f"{part} without {one}"
        for one in (found - wanted).elements():
            yield f"{part} with {one}"


def _without_generated(steps: list[Object]) -> list[Object]:
    """The steps with a mark for each uid and each generated part of a name."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uid>", json.dumps(steps))
    for did in (one for step in steps for one in step["did"]):
        kind, _, name = did.get("created", "").partition("/")
        if kind == "Deployment":
            text = re.sub(rf"\b({name})-[a-z0-9]{{6,10}}-[a-z0-9]{{5}}\b", r"\1-<set>-<pod>", text)
            text = re.sub(rf"\b({name})-[a-z0-9]{{6,10}}\b", r"\1-<set>", text)
        elif kind == "Job":
            text = re.sub(rf"\b({name})-[a-z0-9]{{5}}\b", r"\1-<pod>", text)
    found: list[Object] = json.loads(text)
    return found


def _exchanges(ties: Iterable[frozenset[str]]) -> Iterator[dict[str, str]]:
    """All ways to exchange equal nodes; the first leaves each where it is."""
    sets = [sorted(tie) for tie in sorted(ties, key=sorted)]
    for orders in itertools.product(*(itertools.permutations(one) for one in sets)):
        exchange: dict[str, str] = {}
        for nodes, order in zip(sets, orders, strict=True):
            after = dict(zip(nodes, order, strict=True))
            before = {name: name for name in nodes} | exchange
            exchange = {name: after.get(to, to) for name, to in before.items()}
        yield exchange


def _exchanged(steps: list[Object], exchange: Mapping[str, str]) -> list[Object]:
    if not exchange:
        return steps
    names = "|".join(re.escape(name) for name in exchange)
    text = re.sub(rf"\b({names})\b", lambda hit: exchange[hit[0]], json.dumps(steps))
    found: list[Object] = json.loads(text)
    return found


# -- what a command printed ------------------------------------------------------------------------


def _blanks(said: Any) -> Any:
    if not isinstance(said, str):
        return said
    lines = said.split("\n")
    return [re.sub(" +", " ", one).rstrip() if "<age>" in one else one for one in lines]


def _show(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
