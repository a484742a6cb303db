"""The targets run everywhere they must, can be compiled, and none is idle."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong
from mlk8s.errors import UsageError
from mlk8s.gpu import compatibility

TOOLKIT = (12, 6)
NOW = {"A100": "8.0", "L40S": "8.9", "H200": "9.0"}
LATER = {"RTX PRO 6000": "12.0"}


def check(work: Work) -> str:
    """Judge the list by the matrix."""
    targets = work.answer("targets")
    if not isinstance(targets, list) or not all(isinstance(t, str) for t in targets):
        raise Wrong("answer.yaml: targets is no list of names such as sm_90.")
    known = {row.capability: row for row in compatibility.architectures()}
    for target in targets:
        try:
            fits = [c for c in known if compatibility.runs(target, c)]
        except UsageError as error:
            raise Wrong(f"answer.yaml: {error.problem} {error.next_step}") from error
        first = min((tuple(map(int, known[c].first.split("."))) for c in fits), default=(99, 0))
        if first > TOOLKIT:
            raise Wrong(f"Toolkit 12.6 cannot compile {target}. See the column of first toolkits.")
    machine = [t for t in targets if t.startswith("sm_")]
    for name, capability in NOW.items():
        if not any(compatibility.runs(t, capability) for t in machine):
            raise Wrong(f"No machine code in the list runs on the {name} ({capability}).")
    for name, capability in LATER.items():
        if not any(compatibility.runs(t, capability) for t in targets):
            raise Wrong(f"Nothing in the list runs on the {name} ({capability}).")
    if len(targets) > 3:
        raise Wrong(f"{len(targets)} targets do it, and fewer would. Which of them runs alone?")
    return f"{', '.join(targets)} run on all four, and toolkit 12.6 compiles them."
