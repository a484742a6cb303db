"""Which mistake makes which figure."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong

CAUSES = ("counts_once", "cache", "sparse", "not_waited", "other_peak", "fine")
RIGHT = {
    "a": "counts_once",
    "b": "cache",
    "c": "not_waited",
    "d": "sparse",
    "e": "other_peak",
    "f": "fine",
    "g": "fine",
}
LOOK = {
    "a": "What is its factor to g?",
    "b": "How large is it, and what lies between the SMs and the memory?",
    "c": "Forty times the peak. When does the call return?",
    "d": "Which factor is it to the dense peak?",
    "e": "Whose dense BF16 peak is 312?",
    "f": "Is it over a ceiling, or far under what a job gets at its power limit?",
    "g": "Is it over a ceiling, or far under it?",
}
MFU = 1.04 * 312 / 989


def check(work: Work) -> str:
    """The first wrong one is named."""
    work.judge(RIGHT, CAUSES, LOOK)
    mfu = work.number("mfu", "a fraction")
    if abs(mfu - MFU) > 0.01:
        raise Wrong(f"mfu: {mfu:g} is not right. What was reached, by the peak of this GPU?")
    return f"Five figures have an explanation, and the training's MFU is {MFU:.0%}."
