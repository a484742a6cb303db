"""Six rows, six situations."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong

RIGHT = {
    "a": "well",
    "b": "few_sms",
    "c": "held",
    "d": "cooling",
    "e": "waits_for_host",
    "f": "supply",
}
LOOK = {
    "a": "Is that reason a fault, and where does the clock of a board at its limit go?",
    "b": "What does the power say that GPU-Util does not?",
    "c": "What has the process, and what does it do?",
    "d": "Which of the reasons is it?",
    "e": "How is it while it works, and what is in between?",
    "f": "Which of the reasons is it?",
}
CHEAPEST = "c"


def check(work: Work) -> str:
    """The first wrong one is named."""
    work.judge(RIGHT, RIGHT.values(), LOOK)
    if work.answer("cheapest") != CHEAPEST:
        raise Wrong(
            f"cheapest: not {work.answer('cheapest')}. Which process does nothing that would be "
            "missed, on a GPU that is well?"
        )
    return "Four of six show 97 % or more; one of them is as it should be."
