"""SMs that nobody has, and places that depend on a place; the planner knows both."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong
from mlk8s.gpu import mig

H100 = mig.geometry("h100-80gb")
LOOK = {
    "seven_small": "The table has the SMs of one instance; a seventh of the GPU is another number.",
    "two_3g": "The table has the SMs of one instance; three sevenths are another number.",
    "small_beside_3g": "Which slices are free, and at which of them may 1g.10gb start?",
    "small_beside_3g_at_0": "Which slices are free, and at which of them may 1g.10gb start?",
}


def check(work: Work) -> str:
    """Compare the answers; the first wrong one is named."""
    right = {
        "seven_small": _left(["1g.10gb"] * 7),
        "two_3g": _left(["3g.40gb"] * 2),
        "small_beside_3g": _small(4),
        "small_beside_3g_at_0": _small(0),
    }
    for key, value in right.items():
        if (given := work.number(key, "a count")) != value:
            raise Wrong(f"{key}: {given:g} is not right. {LOOK[key]}")
    return "What a layout leaves over depends on the profiles and on their places."


def _left(names: list[str]) -> int:
    layout = mig.fit(H100, names)
    assert layout is not None
    return layout.unused_sm


def _small(start: int) -> int:
    """How many small ones fit beside a large one."""
    beside = mig.Layout.parse(H100, f"3g.40gb@{start}")
    return max(n for n in range(8) if mig.fit(H100, ["1g.10gb"] * n, beside))
